"""A checkpoint on this machine, through transformers: greedy decoding in batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from mis import layout
from mis.models import Answer
from mis.models.chat import prompt_texts
from mis.models.checkpoint import load_checkpoint
from mis.models.families import family_of
from mis.models.features import FeatureStore, look, views_of
from mis.prompts import user_text
from mis.samples import Sample
from mis.settings import Settings


class LocalModel:
    """Answers with the checkpoint in `folder`, on the GPU if there is one. Decoding is greedy, as in the paper.

    Where `training.features` says so the vision tower's outputs come from the store; with `stored=False` the tower
    looks at every picture when it is asked about, as for a user (`mis.latency`).
    """

    def __init__(self, folder: Path, settings: Settings, seed: int, model_name: str, *, stored: bool = True):
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        torch.set_num_threads(settings.evaluation.threads)
        dtype = torch.bfloat16 if settings.evaluation.precision == "bf16" else torch.float32
        self.model, self.processor = load_checkpoint(folder, dtype=dtype)
        self.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.max_new_tokens = settings.max_new_tokens_of(model_name)
        self.family = family_of(self.model)
        kept = settings.training.features == "stored"
        folder = layout.features(settings, model_name, seed) if kept else None
        self.pictures, _ = look(self.model, self.processor, folder)
        if isinstance(self.pictures, FeatureStore) and not stored:
            self.pictures.rows = {}

    def inputs(self, samples: Sequence[Sample]) -> tuple[list[str], dict[str, torch.Tensor]]:
        """The prompts as texts, and what the network wants of them: padded on the left, on its device."""
        cuts = [views_of(self.processor, sample.images) for sample in samples]
        texts = prompt_texts(self.processor, [user_text(s) for s in samples], [len(s.images) for s in samples], cuts)
        tokenizer = self.processor.tokenizer
        inputs = tokenizer(texts, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt")
        inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        paths = [path for sample in samples for path in sample.images]
        views = [view for each in cuts for view in each]
        if paths:
            inputs["pixel_values"] = self.pictures(paths, views).to(self.model.dtype)
        inputs |= self.family.batch_inputs(self.processor, inputs["input_ids"], len(paths), views)
        return texts, {name: value.to(self.model.device) for name, value in inputs.items()}

    @torch.no_grad()
    def answer(self, samples: Sequence[Sample]) -> list[Answer]:
        tokenizer = self.processor.tokenizer
        _, inputs = self.inputs(samples)
        length = inputs["input_ids"].shape[1]
        # A growing cache is copied whole for every new token, which took three quarters of the time of a small model.
        output = self.model.generate(
            **inputs,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            cache_implementation="static",
            disable_compile=True,
        )
        answers = []
        for row in output[:, length:].tolist():
            stopped = tokenizer.eos_token_id in row
            tokens = row[: row.index(tokenizer.eos_token_id)] if stopped else row
            text = tokenizer.decode(tokens, skip_special_tokens=True)
            answers.append(Answer(text, "stop" if stopped else "length", tokens=len(tokens) + stopped))
        return answers
