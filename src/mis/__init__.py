"""Reproduces "Rethinking Bottlenecks in Safety Fine-Tuning of Vision Language Models" (Ding et al., ICLR 2026)."""
