"""Samples a second of our training beside TRL's SFTTrainer: the same tiny model, data, machine and run.

    python -m pip install --no-deps --target build/trl trl==1.16.0      # needs nothing that is not in the lock
    PYTHONPATH=build/trl python benchmarks/training_speed.py [--samples 1024] [--epochs 2] [--rounds 3]

Needs a finished `mis pretrain` and `mis mix`. Variants take turns, `--rounds` times. Both trainers: the same samples,
epochs, batch, optimiser, schedule, frozen vision tower, one thread, no worker processes. What counts is everything
between examples on disk and a trained network: tokens, tower outputs (ours, made anew in every round), steps.

- ours: length groups, tower outputs made once, which is part of the time; ours, next arm: they are there already, as
  for every arm after the first; ours, tower in every step: without them.
- TRL as its documentation configures a vision language model (`SFTConfig` with `max_length=None`, prompt and
  completion; its defaults are bf16 and checkpointed activations), and with `train_sampling_strategy="group_by_length"`.
- TRL plain: the same two in float32 without checkpointing, as ours computes: on a CPU the defaults cost time.

Ours takes TRL's average here, over the tokens of a batch instead of each answer's first, at the same cost, so that all
variants learn the same. Shown for that: the greatest difference of 20 losses in one order of samples, and after each
variant the loss on held-out samples.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset, List
from datasets import Image as Picture
from transformers.utils import logging as transformers_logging

from mis import layout
from mis.mixing import read_mixture
from mis.models.checkpoint import load_checkpoint
from mis.models.families import family_of
from mis.models.features import Pixels, look
from mis.settings import Settings, load
from mis.training import fit as fitting
from mis.training.encoding import IGNORED, Collator, encode
from mis.training.train import freeze, locate

TRAINS = ("language_model", "projector")
SEED, CHECKED = 0, 20


class Clock:
    """Seconds since it was made: of the wall, and of this process on a core."""

    def __init__(self):
        self.start = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        return time.perf_counter() - self.start[0], time.process_time() - self.start[1]


class Trial:
    """One model and its data; each variant begins from the base checkpoint."""

    def __init__(self, settings: Settings, model: str, arm: str, options: argparse.Namespace):
        self.settings, self.options = settings, options
        self.base = layout.checkpoint(settings, model, settings.seeds[0], "base")
        examples = read_mixture(layout.mixture(settings, arm))
        self.examples, self.held_out = examples[: options.samples], examples[options.samples :][:256]
        self.find = partial(locate, settings)
        self.batch = settings.training.global_batch_size
        self.rate = settings.training.arms[arm].learning_rate

    def network(self):
        torch.manual_seed(SEED)
        model, processor = load_checkpoint(self.base)
        freeze(model, TRAINS)
        return model, processor

    def steps(self, epochs: float) -> int:
        return -(-len(self.examples) // self.batch) * round(epochs)

    def ours(self, *, stored: bool, filled: bool = False) -> tuple[tuple[float, float], float]:
        model, processor = self.network()
        with tempfile.TemporaryDirectory() as scratch, replaced(fitting, sample_loss=token_loss):
            clock = Clock()
            pictures, tower = look(model, processor, Path(scratch) / "features" if stored else None)
            if stored:
                pictures.fill(sorted({self.find(image) for example in self.examples for image in example.images}))
            if filled:
                clock = Clock()
            items = encode(processor, self.examples, self.settings.training.max_length, self.find)
            fitting.fit(
                model,
                items,
                Collator(processor, lambda names, views=(): pictures([self.find(name) for name in names], views)),
                folder=Path(scratch) / "checkpoints",
                label="ours",
                batch_size=self.batch,
                learning_rate=self.rate,
                warmup_ratio=self.settings.training.warmup_ratio,
                weight_decay=0.0,
                seed=SEED,
                epochs=self.options.epochs,
            )
            seconds = clock.seconds()
        if tower is not None:
            family_of(model).put_tower(model, tower)
        return seconds, self.measure(model, processor)

    def theirs(self, *, plain: bool, grouped: bool) -> tuple[tuple[float, float], float]:
        model, processor = self.network()
        with tempfile.TemporaryDirectory() as scratch:
            clock = Clock()
            lengths = None
            if grouped:  # its tokens are made in the collator: lengths have to be told
                lengths = [len(item.input_ids) for item in encode(processor, self.examples, 10**6, self.find)]
            trainer = self.trl(model, processor, self.dataset(lengths), scratch, self.steps(self.options.epochs), plain)
            trainer.train()
            seconds = clock.seconds()
        return seconds, self.measure(model, processor)

    def dataset(self, lengths: list[int] | None) -> Dataset:
        columns = {
            "images": [[str(self.find(image)) for image in example.images] for example in self.examples],
            "prompt": [[{"role": "user", "content": example.prompt}] for example in self.examples],
            "completion": [[{"role": "assistant", "content": example.response}] for example in self.examples],
        }
        if lengths:
            columns["length"] = lengths
        return Dataset.from_dict(columns).cast_column("images", List(Picture()))

    def trl(self, model, processor, dataset, scratch: str, steps: int, plain: bool, order: str | None = None, **more):
        from trl import SFTConfig, SFTTrainer

        float32 = {"bf16": False, "gradient_checkpointing": False} if plain else {}
        sampling = order or ("group_by_length" if "length" in dataset.column_names else "random")
        arguments = SFTConfig(
            output_dir=scratch,
            max_length=None,  # "truncating may remove image tokens": its documentation, of vision language models
            per_device_train_batch_size=self.batch,
            learning_rate=self.rate,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, round(self.settings.training.warmup_ratio * steps)),
            adam_beta2=0.98,
            max_grad_norm=1.0,
            max_steps=steps,
            seed=SEED,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            train_sampling_strategy=sampling,
            length_column_name="length",
            remove_unused_columns="length" not in dataset.column_names,  # it would take the lengths away first
            **{"logging_steps": 50, **float32, **more},
        )
        return SFTTrainer(model, args=arguments, train_dataset=dataset, processing_class=processor)

    @torch.no_grad()
    def measure(self, model, processor) -> float:
        """Our loss on samples that no variant was trained on."""
        model = model.float().eval()
        see = Pixels(processor)
        collate = Collator(processor, lambda names, views=(): see([self.find(name) for name in names], views))
        items = encode(processor, self.held_out, self.settings.training.max_length, self.find)
        losses = [fitting.sample_loss(model, collate(items[i : i + 64])).item() for i in range(0, len(items), 64)]
        return statistics.mean(losses)

    def parity(self) -> float:
        """The greatest difference of the losses of 20 steps: samples in one order, averages over tokens, float32."""
        curves = []
        short = Trial.__new__(Trial)
        short.__dict__ |= self.__dict__ | {"examples": self.examples[: CHECKED * self.batch]}
        with tempfile.TemporaryDirectory() as scratch:
            model, processor = short.network()
            dataset = short.dataset(None)
            trainer = short.trl(model, processor, dataset, scratch, CHECKED, True, "sequential", logging_steps=1)
            trainer.train()
            curves.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
        with tempfile.TemporaryDirectory() as scratch, replaced(fitting, sample_loss=token_loss, LengthGroups=InOrder):
            model, processor = short.network()
            see = Pixels(processor)
            _, curve = fitting.fit(
                model,
                encode(processor, short.examples, self.settings.training.max_length, self.find),
                Collator(processor, lambda names, views=(): see([self.find(name) for name in names], views)),
                folder=Path(scratch),
                label="parity",
                batch_size=self.batch,
                learning_rate=self.rate,
                warmup_ratio=self.settings.training.warmup_ratio,
                weight_decay=0.0,
                seed=SEED,
                max_steps=CHECKED,
                log_steps=1,
            )
            curves.append([row["loss"] for row in curve])
        return max(abs(one - other) for one, other in zip(*curves, strict=True))


def token_loss(model, inputs, samples=None) -> torch.Tensor:
    """`sample_loss` with TRL's average: over all tokens of the batch that have a label."""
    labels = inputs["labels"][:, 1:]
    arguments = {key: value for key, value in inputs.items() if key != "labels"}
    hidden = model.model(**arguments, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[wanted]).float(), labels[wanted])


class InOrder(fitting.LengthGroups):
    def __iter__(self):
        return iter(range(len(self)))


@contextlib.contextmanager
def replaced(module, **names):
    old = {name: getattr(module, name) for name in names}
    try:
        for name, value in names.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in old.items():
            setattr(module, name, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("config/mini.yaml"))
    parser.add_argument("--model", default="internvl_mini")
    parser.add_argument("--arm", default="mirage")
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    transformers_logging.set_verbosity_error()
    trial = Trial(load(options.config), options.model, options.arm, options)
    print(f"same losses: greatest difference over {CHECKED} steps {trial.parity():.1e}", flush=True)
    variants = {
        "ours": partial(trial.ours, stored=True),
        "ours, next arm": partial(trial.ours, stored=True, filled=True),
        "ours, tower in every step": partial(trial.ours, stored=False),
        "TRL as documented": partial(trial.theirs, plain=False, grouped=False),
        "TRL as documented, length groups": partial(trial.theirs, plain=False, grouped=True),
        "TRL plain": partial(trial.theirs, plain=True, grouped=False),
        "TRL plain, length groups": partial(trial.theirs, plain=True, grouped=True),
    }
    passed = len(trial.examples) * options.epochs
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    losses: dict[str, float] = {}
    for number, (name, variant) in itertools.product(range(options.rounds), variants.items()):
        seconds, losses[name] = variant()
        rates[name].append(tuple(passed / part for part in seconds))
        wall, core = rates[name][-1]
        print(f"round {number + 1}: {name}: {wall:.1f} samples/s, {core:.1f} a core's second", flush=True)
    print("\n| variant | samples/s (each round) | samples/core s (each round) | held-out loss |")
    print("| --- | --- | --- | --- |")
    median = {}
    for name, found in rates.items():
        columns = list(zip(*found, strict=True))
        median[name] = [statistics.median(column) for column in columns]
        cells = [
            f"{middle:.1f} ({', '.join(f'{rate:.1f}' for rate in column)})"
            for middle, column in zip(median[name], columns, strict=True)
        ]
        print(f"| {name} | {cells[0]} | {cells[1]} | {losses[name]:.4f} |")
    for place, what in enumerate(("wall", "core")):
        rate = {name: values[place] for name, values in median.items()}
        documented = max(value for name, value in rate.items() if name.startswith("TRL as documented"))
        best = max(value for name, value in rate.items() if name.startswith("TRL"))
        gains = [rate[name] / rate["ours, tower in every step"] for name in ("ours", "ours, next arm")]
        print(
            f"{what}: ours / better of TRL as documented {rate['ours'] / documented:.2f}, ours / best of TRL "
            f"{rate['ours'] / best:.2f}, gain of stored tower outputs {gains[0]:.2f}, in the next arm {gains[1]:.2f}"
        )


if __name__ == "__main__":
    main()
