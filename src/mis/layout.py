"""Where each file of a run lies, so that no two commands disagree. `B`, `R` as in docs/architecture.md."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mis.mixtures import ARMS
from mis.settings import Settings


def is_taken(settings: Settings, model: str) -> bool:
    """Does the base come from a hub or a folder, instead of being made here?"""
    known = settings.models.get(model)
    return known is not None and known.source is not None and known.pretraining is None


def checkpoint(settings: Settings, model: str, seed: int, arm: str) -> Path:
    """`B/models/<model>/seed<S>/<arm>`: safetensors, processor, tokenizer; the arm "base" is the pre-trained model.

    An arm that trains nothing (a way of asking) has no checkpoint of its own: it is the base's. The base of a model
    that was not made here is one for all seeds: `B/models/<model>/base`.
    """
    weights = arm if arm not in ARMS or ARMS[arm].trained else "base"
    if weights == "base" and is_taken(settings, model):
        return settings.paths.build / "models" / model / "base"
    return settings.paths.build / "models" / model / f"seed{seed}" / weights


def checkpoint_file(settings: Settings, model: str, seed: int, arm: str) -> Path:
    """The file of a checkpoint that stands for all of it in the workflow; a base from elsewhere may be in shards."""
    folder = checkpoint(settings, model, seed, arm)
    return folder / ("config.json" if folder.name == "base" and is_taken(settings, model) else "model.safetensors")


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


def general(settings: Settings, model: str, seed: int, arm: str) -> Path:
    """`R/general/<model>/seed<S>/<arm>`: what lmms-eval wrote, `results.json` and its samples."""
    return settings.paths.results / "general" / model / f"seed{seed}" / arm


def skills(settings: Settings, model: str, seed: int) -> Path:
    """Whether the base has the skills that each way of asking needs, measured on the development split."""
    return settings.paths.results / "skills" / f"{model}_seed{seed}.csv"


def latency(settings: Settings, model: str, seed: int) -> Path:
    """Seconds and tokens of single answers, one row an arm and sample."""
    return settings.paths.results / "latency" / f"{model}_seed{seed}.csv"


def probes(settings: Settings, model: str, seed: int | None, arm: str) -> Path:
    """`R/probes/<model>/seed<S>/<arm>`: what is measured by likelihood; `R/probes/<model>/bare` without a seed."""
    folder = settings.paths.results / "probes" / model
    return folder / arm if seed is None else folder / f"seed{seed}" / arm


def development(settings: Settings) -> Path:
    """`R/development`: curves on the development split, what was tried before anything was measured on a test set."""
    return settings.paths.results / "development"


def rejudged(settings: Settings, judge: str, model: str, seed: int, arm: str, suite: str) -> Path:
    """`R/rejudged/<judge>/...`: what another judge than the run's own made of the same responses."""
    return settings.paths.results / "rejudged" / judge / model / f"seed{seed}" / arm / f"{suite}.jsonl"


def request_cache(settings: Settings) -> Path:
    """The folder in which answers of endpoints are kept by the content of their requests."""
    return settings.paths.cache / "requests"


def drift(settings: Settings, judge: str) -> Path:
    """Where another judge's verdicts are compared with the run's: `R` for the miniature's second judge."""
    results = settings.paths.results
    return results if judge == "second" else results / "drift" / judge


def truth(settings: Settings) -> Path:
    """The folder of the miniature's ground truth, a file a dataset, one row a sample; absent at the paper's scale."""
    return settings.paths.data / "truth"


def constructed(settings: Settings) -> Path:
    """The folder with `mis/` and `mis_train/` as this run constructed them.

    The miniature's is the data root; at the paper's scale the official MIS is there, and ours beside it.
    """
    return settings.paths.data if settings.world is not None else settings.paths.build / "constructed"


def fetched(settings: Settings, dataset: str) -> Path:
    """What a run read of a public dataset: its commits, and whether the lock pinned them."""
    return settings.paths.build / "fetched" / f"{dataset}.json"


def datasheet_page(settings: Settings, arm: str) -> Path:
    """The same for one arm, for a reader: counts, shares, licences, where its labels come from."""
    return settings.paths.build / "mixtures" / f"{arm}.md"


def leaks(settings: Settings, arm: str, suite: str) -> Path:
    """The arm's training examples that are too much like the suite's samples, a row a pair, by id."""
    return settings.paths.results / "leaks" / arm / f"{suite}.csv"


def looks(settings: Settings) -> Path:
    """What is known of pictures' pixels, so that no picture is decoded twice."""
    return settings.paths.build / "looks.sqlite"


def inputs(settings: Settings) -> Path:
    """Which public datasets a run read, at which commit; `inputs.md` beside it says the same to a reader."""
    return settings.paths.results / "inputs.csv"


def release(settings: Settings) -> Path:
    """The constructed MIS as a dataset that `datasets.load_dataset` reads."""
    return settings.paths.build / "release" / "mis"


def datasheet(settings: Settings) -> Path:
    """How many samples of which kind each arm is trained on."""
    return settings.paths.build / "mixtures" / "datasheet.csv"


def scores(settings: Settings, artifact: str = "") -> Path:
    """`R/scores.csv`; of one table or figure `R/scores/<artifact>.csv`, where the configuration keeps those apart."""
    if artifact and settings.report.scores == "artifact":
        return settings.paths.results / "scores" / f"{artifact}.csv"
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
