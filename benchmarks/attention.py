"""What a step of an arm costs with each implementation of attention, side by side in one run.

    python benchmarks/attention.py [--config config/small.yaml] [--model smollm_mini] [--arm mirage_balanced]

Needs the base's checkpoint and the arm's mixture. The same batches in the configuration's precision, adapters and
threads; rounds take turns. Prints the seconds of a step a round, and the medians with their ratio to the first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from mis import layout
from mis.mixing import read_mixture
from mis.mixtures import ARMS
from mis.models.checkpoint import load_checkpoint
from mis.models.features import look
from mis.settings import Settings, load
from mis.training.encoding import Collator, encode
from mis.training.fit import LengthGroups, sample_loss
from mis.training.lora import add_adapters
from mis.training.parts import freeze, prefixes
from mis.training.train import locate


class Steps:
    """An arm's first steps with one implementation of attention."""

    def __init__(self, settings: Settings, model: str, arm: str, attention: str, steps: int):
        training, seed = settings.training, settings.seeds[0]
        bf16 = training.precision == "bf16"
        self.network, processor = load_checkpoint(
            layout.checkpoint(settings, model, seed, "base"),
            dtype=torch.bfloat16 if bf16 and training.lora else torch.float32,
            attention=attention,
        )
        freeze(self.network, ARMS[arm].trains)
        store, _ = look(self.network, processor, layout.features(settings, model, seed))
        if training.lora:
            add_adapters(self.network, training.lora, prefixes(self.network, ARMS[arm].trains))
        items = encode(processor, read_mixture(layout.mixture(settings, arm)), training.max_length)
        self.size = training.global_batch_size
        order = list(LengthGroups([len(item.input_ids) for item in items], self.size, seed))[: steps * self.size]
        collate = Collator(processor, lambda names, views=(): store([locate(settings, name) for name in names], views))
        self.batches = [
            collate([items[i] for i in order[start : start + self.size]]) for start in range(0, len(order), self.size)
        ]
        self.trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=1e-4)
        self.cast = (lambda: torch.autocast("cpu", torch.bfloat16)) if bf16 else nullcontext
        self.network.train()

    def seconds(self) -> float:
        """Seconds of a step, over all batches."""
        start = time.perf_counter()
        for batch in self.batches:
            with self.cast():
                loss = sample_loss(self.network, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad()
        return (time.perf_counter() - start) / len(self.batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("config/small.yaml"))
    parser.add_argument("--model", default="smollm_mini")
    parser.add_argument("--arm", default="mirage_balanced")
    parser.add_argument("--attention", nargs="+", default=["sdpa", "eager"])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    settings = load(options.config)
    torch.set_num_threads(settings.training.threads)
    by_name = {name: Steps(settings, options.model, options.arm, name, options.steps) for name in options.attention}
    for steps in by_name.values():
        steps.seconds()  # the first round pays for what is set up once
    rounds = []
    print(*by_name)
    for _ in range(options.rounds):
        rounds.append([steps.seconds() for steps in by_name.values()])
        print(*(f"{each:.2f}" for each in rounds[-1]), flush=True)
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    print("median", *(f"{each:.2f} ({each / medians[0]:.2f})" for each in medians))


if __name__ == "__main__":
    main()
