"""Where each file of a run lies, so that no two commands disagree. `B`, `R` as in docs/architecture.md."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mis.mixtures import ARMS
from mis.settings import Settings


def checkpoint(settings: Settings, model: str, seed: int, arm: str) -> Path:
    """`B/models/<model>/seed<S>/<arm>`: safetensors, processor, tokenizer; the arm "base" is the pre-trained model.

    An arm that trains nothing (a way of asking) has no checkpoint of its own: it is the base's.
    """
    weights = arm if arm not in ARMS or ARMS[arm].trained else "base"
    return settings.paths.build / "models" / model / f"seed{seed}" / weights


def scratch(settings: Settings, model: str, seed: int, arm: str) -> Path:
    """`B/scratch/...`: what training keeps while it runs, so that a killed run goes on; removed when it is done."""
    return settings.paths.build / "scratch" / model / f"seed{seed}" / arm


def features(settings: Settings, model: str, seed: int) -> Path:
    """`B/features/<model>/seed<S>`: the frozen vision tower's outputs, shared by all arms."""
    return settings.paths.build / "features" / model / f"seed{seed}"


def mixture(settings: Settings, arm: str) -> Path:
    """`B/mixtures/<arm>.jsonl`: the arm's training examples."""
    return settings.paths.build / "mixtures" / f"{arm}.jsonl"


def responses(settings: Settings, model: str, seed: int, arm: str, suite: str) -> Path:
    return settings.paths.results / "responses" / model / f"seed{seed}" / arm / f"{suite}.jsonl"


def verdicts(settings: Settings, model: str, seed: int, arm: str, suite: str) -> Path:
    return settings.paths.results / "verdicts" / model / f"seed{seed}" / arm / f"{suite}.jsonl"


def skills(settings: Settings, model: str, seed: int) -> Path:
    """Whether the base has the skills that each way of asking needs, measured on the development split."""
    return settings.paths.results / "skills" / f"{model}_seed{seed}.csv"


def latency(settings: Settings, model: str, seed: int) -> Path:
    """Seconds and tokens of single answers, one row an arm and sample."""
    return settings.paths.results / "latency" / f"{model}_seed{seed}.csv"


def rejudged(settings: Settings, judge: str, model: str, seed: int, arm: str, suite: str) -> Path:
    """`R/rejudged/<judge>/...`: what another judge than the run's own made of the same responses."""
    return settings.paths.results / "rejudged" / judge / model / f"seed{seed}" / arm / f"{suite}.jsonl"


def truth(settings: Settings) -> Path:
    """The folder of the miniature's ground truth, a file a dataset, one row a sample; absent at the paper's scale."""
    return settings.paths.data / "truth"


def datasheet(settings: Settings) -> Path:
    """How many samples of which kind each arm is trained on."""
    return settings.paths.build / "mixtures" / "datasheet.csv"


def scores(settings: Settings) -> Path:
    return settings.paths.results / "scores.csv"


def publish_folder(source: Path, target: Path) -> None:
    """Copy a finished folder to its place, replacing an old one.

    A killed call leaves the old one, the new one, or in the instant between them none; never a part of one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*"):  # by a killed call
        shutil.rmtree(left, ignore_errors=True)
    temporary = target.parent / f".{target.name}.{os.getpid()}"
    try:
        shutil.copytree(source, temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
