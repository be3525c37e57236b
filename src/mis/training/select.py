"""Chooses the learning rate of fine-tuning on the development split: one rule, and one rate for all arms.

The rule: fine-tune every arm of `training.selection` with every rate; take the rate with the lowest mean loss on
held-out examples of the arms' own kinds (development pairs, words and scenes; weighted like each arm's mixture).
Outcomes of benchmarks play no part. The paper gives epochs (Table 7) and mixtures; they are not searched.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from mis import layout
from mis.errors import MisError
from mis.mixing import mixture, read_mixture
from mis.mixtures import ARMS
from mis.models.families import family_of
from mis.models.features import load_pixels
from mis.settings import ArmTraining, Settings
from mis.store import write_csv_atomic
from mis.training.encoding import Collator, encode
from mis.training.fit import sample_loss
from mis.training.train import locate, tune

COLUMNS = ("model", "arm", "learning_rate", "epochs", "development_loss", "chosen")
BATCH = 64


def select(settings: Settings) -> Path:
    """Write `R/selection.csv`: every trial, and which rate the rule takes (seed: the first of the configuration)."""
    plan, seed = settings.training.selection, settings.seeds[0]
    if plan is None:
        raise MisError("training.selection is empty: name the learning rates and arms to try in the configuration")
    jobs = [(model, arm, rate) for model in settings.models for arm in plan.arms for rate in plan.learning_rates]
    rows = []
    with ProcessPoolExecutor(max_workers=2) as pool:
        futures = {pool.submit(trial, settings, *job, seed): job for job in jobs}
        for future in as_completed(futures):
            model, arm, rate = futures[future]
            epochs, loss = settings.training.arms[arm].epochs, round(future.result(), 5)
            rows.append({"model": model, "arm": arm, "learning_rate": rate, "epochs": epochs, "development_loss": loss})
            print(f"select: {arm}, learning rate {rate:g}: {loss:.4f} ({len(rows)} of {len(jobs)})", flush=True)
    losses = defaultdict(list)
    for row in rows:
        losses[row["learning_rate"]].append(row["development_loss"])
    best = min(losses, key=lambda rate: sum(losses[rate]))
    rows.sort(key=lambda row: (row["model"], plan.arms.index(row["arm"]), row["learning_rate"]))
    for row in rows:
        row["chosen"] = "yes" if row["learning_rate"] == best else "no"
    out = settings.paths.results / "selection.csv"
    write_csv_atomic(out, rows, COLUMNS)
    print(f"{out}: learning_rate {best:g}; put it into the configuration's training.arms")
    return out


def trial(settings: Settings, model_name: str, arm: str, learning_rate: float, seed: int) -> float:
    """The development loss of one arm at one learning rate."""
    scratch = layout.scratch(settings, model_name, seed, f"select-{arm}-{learning_rate:g}")
    shutil.rmtree(scratch, ignore_errors=True)
    training = read_mixture(layout.mixture(settings, arm))
    model, processor, _ = tune(
        settings,
        layout.checkpoint(settings, model_name, seed, "base"),
        training,
        ARMS[arm].trains,
        ArmTraining(learning_rate=learning_rate, epochs=settings.training.arms[arm].epochs),
        seed=seed,
        scratch=scratch,
        features=layout.features(settings, model_name, seed),
        label=f"{arm} {learning_rate:g}",
    )
    shutil.rmtree(scratch, ignore_errors=True)
    shares = Counter((e.source, e.kind) for e in training)
    return development_loss(settings.on_development(), model, processor, arm, shares)


@torch.no_grad()
def development_loss(settings: Settings, model, processor, arm: str, shares: Counter) -> float:
    """Loss over held-out examples, each part of the mixture weighted by its share in training."""
    model.eval()
    family = family_of(model)
    tower = family.take_tower(model)

    def see(names: list[str]) -> torch.Tensor:
        return family.see(tower, processor, load_pixels(processor, [locate(settings, name) for name in names]))

    collator = Collator(processor, see)
    parts = defaultdict(list)
    for example in mixture(ARMS[arm], settings.paths.data):
        parts[example.source, example.kind].append(example)
    total = sum(shares.values())
    result = 0.0
    for part, examples in parts.items():
        items = sorted(encode(processor, examples, settings.training.max_length), key=lambda item: len(item.input_ids))
        losses = [
            (sample_loss(model, collator(items[i : i + BATCH])).item(), len(items[i : i + BATCH]))
            for i in range(0, len(items), BATCH)
        ]
        result += shares[part] / total * sum(loss * n for loss, n in losses) / len(items)
    return result
