"""MIS with real models and people: who takes part according to the configuration, and what is written.

B/construction/                 the steps' records, as everywhere (`pipeline`), and beside them
    requests/                   every answer of a served model, by its request: what was paid for is kept
    pictures/ photographs/      every picture of every round, named by its request or content
    review/ confirm/            what people are asked and what they said (`people`)
B/constructed/mis, mis_train    the finished dataset in MIS's public layout
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from mis import layout
from mis.benchmarks import BY_ID
from mis.construction import pipeline
from mis.construction.asking import PROMPTS, Asker
from mis.construction.painters import DiffusersPainter, EndpointPainter
from mis.construction.participants import Cast, Painter
from mis.construction.people import People, Review
from mis.construction.photographs import ClipIndex, ConfirmedPhotographs
from mis.construction.pipeline import Constructed
from mis.construction.records import EASY, HARD, TRAINING
from mis.construction.screening import NearDuplicates
from mis.construction.served import (
    Classifier,
    ElementWriter,
    Guard,
    InstructionWriter,
    Labeller,
    LlamaGuard,
    Reviewer,
    Screen,
)
from mis.construction.splits import Split
from mis.errors import MisError
from mis.models.remote import ChatClient
from mis.samples import Sample
from mis.settings import Construction, Diffusers, ElementSource, Settings
from mis.sources import load_benchmark
from mis.sources.advbench import load_goals
from mis.sources.conversations import MIS_FILE
from mis.store import write_jsonl_atomic, write_text_atomic

ADVBENCH_GOALS = "advbench_goals"


def construct(settings: Settings, *, allow_failures: bool = False) -> dict[str, int]:
    """Runs what is missing; returns how many samples each split has.

    Raises :class:`mis.construction.people.Waiting` while pairs wait for people, :class:`ConstructionError` where
    requests failed (unless `allow_failures`: then their samples are dropped and counted) or a split cannot be filled.
    """
    plan = settings.construction
    if plan is None:
        raise MisError(f"scale {settings.scale!r} has no section `construction`; MIS is made from it")
    folder = settings.paths.build / "construction"
    sizes = plan.splits
    splits = (
        Split(EASY, sizes.easy, (EASY,)),
        Split(HARD, sizes.hard, (HARD,)),
        Split("train", sizes.train, (TRAINING,)),
    )
    photographs = {EASY: sizes.real - sizes.real // 2, HARD: sizes.real // 2} if sizes.real else None
    with _cast(settings, plan, folder, allow_failures) as cast:
        release = pipeline.construct(cast, splits, folder, seed=plan.seed, photographs=photographs)
    counts = {name: len(samples) for name, samples in release.splits.items()}
    marker = folder / "published.json"
    written = json.dumps({"digest": release.digest, "samples": counts}, indent=1) + "\n"
    if not _is(marker, written) or not layout.constructed(settings).is_dir():
        marker.unlink(missing_ok=True)
        _write(release.splits, folder, layout.constructed(settings))
        write_text_atomic(marker, written)
    return counts


@contextlib.contextmanager
def _cast(settings: Settings, plan: Construction, folder: Path, allow_failures: bool) -> Iterator[Cast]:
    """All who take part, with one client for each model, however many roles it has."""
    with contextlib.ExitStack() as stack:
        clients = {
            name: stack.enter_context(ChatClient.of(served, settings.endpoints[served.endpoint], folder / "requests"))
            for name, served in plan.models.items()
        }

        def asker(name: str) -> Asker:
            served = plan.models[name]
            identity = f"{served.name}@{served.revision or 'unpinned'}"
            return Asker(clients[name], identity, plan.few_shot, allow_failures, served.system, served.image_text)

        review = Review(folder / "review", folder, plan.people.annotators) if plan.people else None
        confirm = Review(folder / "confirm", folder, plan.people.annotators) if plan.people else None
        against = [s for id in plan.duplicates.against for s in load_benchmark(settings.paths.data, BY_ID[id])]
        yield Cast(
            element_writer=ElementWriter(
                asker(plan.text_writer),
                asker(plan.image_writer),
                [sample for source in plan.sources for sample in _samples(settings, source)],
                plan.pairs_per_sample,
                plan.training_share,
                plan.seed,
            ),
            instruction_writer=InstructionWriter(asker(plan.instruction_writer)),
            painter=_painter(settings, plan, folder, allow_failures),
            reviewer=Reviewer(asker(plan.reviewer), folder),
            experts=[People(review, folder)] if review else [],
            classifier=Classifier(asker(plan.classifier), folder),
            labeller=Labeller(asker(plan.labeller), folder),
            guard=(LlamaGuard if plan.guard_kind == "llama_guard" else Guard)(asker(plan.guard)),
            photo_source=(
                ConfirmedPhotographs(plan.photographs, ClipIndex(plan.photographs), confirm, folder)
                if plan.photographs and plan.splits.real
                else None
            ),
            explicit_terms=explicit_terms(plan),
            screens=[
                NearDuplicates(folder, against, plan.duplicates.text_similarity, plan.duplicates.picture_distance),
                Screen(asker(plan.screen), folder),
            ],
        )


def _painter(settings: Settings, plan: Construction, folder: Path, allow_failures: bool) -> Painter:
    if isinstance(plan.painter, Diffusers):
        return DiffusersPainter(plan.painter, folder)
    served = plan.models[plan.painter.model]
    return EndpointPainter(plan.painter, served, settings.endpoints[served.endpoint], folder, allow_failures)


def _samples(settings: Settings, source: ElementSource) -> Sequence[Sample]:
    if source.benchmark == ADVBENCH_GOALS:
        samples = load_goals(settings.paths.data / "advbench")
    else:
        samples = load_benchmark(settings.paths.data, BY_ID[source.benchmark])
    return samples[: source.samples]


def explicit_terms(plan: Construction) -> frozenset[str]:
    """The configured terms, or those of `prompts/terms.txt`."""
    if plan.explicit_terms is not None:
        return frozenset(plan.explicit_terms)
    lines = (PROMPTS / "terms.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def _write(splits: dict[str, list[Constructed]], folder: Path, target: Path) -> None:
    """The dataset in MIS's public layout, whole or not at all; pictures are links to those of the construction."""
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    labels = []
    for split, samples in splits.items():
        rows = []
        for number, sample in enumerate(samples, start=1):
            root = new / ("mis_train" if split == "train" else "mis")
            images = [
                _link(folder / picture.content["file"], root, f"{split}_image/{number}/object{place}")
                for place, picture in enumerate(sample.pictures, start=1)
            ]
            element = sample.element
            rows.append(
                {
                    "id": str(number),
                    "image": images,
                    "conversations": [
                        {"from": "human", "value": "<image>\n<image>\n" + sample.instruction.text},
                        {"from": "gpt", "value": sample.label.text},
                    ],
                    "category": element.category,
                    "sub_category": element.sub_category,
                }
                if split == "train"
                else {
                    "question": sample.instruction.text,
                    "category": element.category,
                    "sub_category": element.sub_category,
                    "image_path1": images[0],
                    "image_path2": images[1],
                    "id": number,
                }
            )
            if split == "train":
                labels.append({**sample.label.model_dump(), "id": str(number), "record": element.id})
        name = MIS_FILE if split == "train" else f"mis_{split}.json"
        write_text_atomic(root / name, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    write_jsonl_atomic(folder / "labels.jsonl", labels)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(new, target)


def _link(source: Path, root: Path, name: str) -> str:
    """Links a picture to `<root>/<name><its suffix>`, or copies it where the disk knows no links; returns the name."""
    target = root / f"{name}{source.suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target.relative_to(root).as_posix()
