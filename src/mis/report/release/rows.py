"""The finished samples of a construction with all that is known of how they came to be."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from mis import layout
from mis.construction.people import decisions, item_id
from mis.construction.pipeline import STEPS
from mis.construction.records import (
    Drawing,
    Element,
    Filtered,
    Instruction,
    Label,
    Photographs,
    Picture,
    Placement,
    Record,
)
from mis.report.reported import ReportError
from mis.review.records import Decision
from mis.settings import Settings
from mis.sources import mis
from mis.sources.common import json_rows
from mis.sources.conversations import MIS_FILE
from mis.store import read_jsonl
from mis.taxonomy import CATEGORIES, CATEGORY_OF

KINDS: dict[str, type[Record]] = dict(
    zip(STEPS, (Element, Instruction, Drawing, Filtered, Label, Placement, Photographs), strict=True)
)
TESTS = ("easy", "hard", "real")


class Construction:
    """What `mis construct` left: read when it is asked for.

    `splits` are those that have samples, "train" first. Raises :class:`ReportError` where nothing is constructed, or
    the dataset and the records are of different runs.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.folder = settings.paths.build / "construction"
        self.data = layout.constructed(settings)
        self._kept: dict[str, dict[str, Any]] = {}
        if not (self.folder / "published.json").exists():
            raise ReportError(f"{self.folder}: no finished construction; run `mis construct` first")
        self.manifest: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        members: dict[str, dict[int, str]] = {}
        for id, row in self.kept("splits").items():
            members.setdefault(row.split, {})[row.position] = id
        ids = {split: [positions[i] for i in range(len(positions))] for split, positions in members.items()}
        if photographs := self.kept("photographs"):
            ids["real"] = list(photographs)
        order = ("train", *TESTS)
        self.ids: dict[str, list[str]] = {split: ids[split] for split in order if split in ids}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.ids)

    def kept(self, step: str) -> dict[str, Any]:
        """The records that a step kept, by id in order; {} for a step that was not run."""
        if step not in self._kept:
            self._kept[step] = self._read(step)
        return self._kept[step]

    def _read(self, step: str) -> dict[str, Any]:
        path = self.folder / f"{STEPS.index(step) + 1}_{step}.jsonl"
        if step not in self.manifest:
            return {}
        rows = (row for row in read_jsonl(path) if "dropped" not in row)
        return {row["id"]: KINDS[step].model_validate(row) for row in rows}

    @cached_property
    def participants(self) -> list[dict[str, str]]:
        """Who answered in which step: rows `step`, `role`, `version`."""
        return [
            {"step": step, "role": role, "version": str(version)}
            for step, entry in self.manifest.items()
            for role, versions in entry["made_from"].items()
            for version in (versions if isinstance(versions, list) else [versions])
            if role not in ("splits", "sizes")
        ]

    @cached_property
    def funnel(self) -> list[dict[str, Any]]:
        """`step`, `kept`, `dropped`, `reason`, as in funnel.csv."""
        with open(self.folder / "funnel.csv", encoding="utf-8", newline="") as file:
            return [{**row, "kept": int(row["kept"]), "dropped": int(row["dropped"])} for row in csv.DictReader(file)]

    @cached_property
    def _decisions(self) -> dict[str, list[Decision]]:
        return decisions(self.folder / "review") | decisions(self.folder / "confirm")

    @cached_property
    def _annotators(self) -> dict[str, str]:
        """Names of ours for people: a release tells them apart and does not name them."""
        names = sorted({decision.annotator for given in self._decisions.values() for decision in given})
        return {name: f"annotator {number}" for number, name in enumerate(names, start=1)}

    def counts(self) -> dict[tuple[str, str], Counter[str]]:
        """Samples by (category, sub-category) and split, in the order of Table 3."""
        counted: dict[tuple[str, str], Counter[str]] = {
            (category, sub): Counter() for category, subs in CATEGORIES.items() for sub in subs
        }
        for split in self.splits:
            for row in self.rows(split, pictures=False):
                counted[(row["category"], row["sub_category"])][split] += 1
        return counted

    def rows(self, split: str, *, pictures: bool = True) -> Iterator[dict[str, Any]]:
        """The rows of a split in order; `image_1`, `image_2` are files (left out without `pictures`)."""
        published = self._published(split)
        if len(published) != len(self.ids[split]):
            raise ReportError(
                f"{self.data}: split {split!r} has {len(published)} samples, and the construction's records "
                f"{len(self.ids[split])}; run `mis construct` again"
            )
        for sample, id in zip(published, self.ids[split], strict=True):
            row = self._row(split, sample, id)
            if pictures:
                row["image_1"], row["image_2"] = sample["images"]
            yield row

    def _published(self, split: str) -> list[dict[str, Any]]:
        """The dataset's own files, by the loaders' rules."""
        if split == "train":
            root = self.data / "mis_train"
            return [
                {
                    "id": row.id("id"),
                    "question": row.get("conversations", list)[0]["value"].removeprefix("<image>\n<image>\n"),
                    "images": [root / image for image in row.get("image", list)],
                }
                for row in json_rows(root / MIS_FILE)
            ]
        return [
            {"id": sample.id, "question": sample.question, "images": sample.images}
            for sample in mis.load(self.data / "mis", split)
        ]

    def _row(self, split: str, sample: dict[str, Any], id: str) -> dict[str, Any]:
        element, instruction, drawing = (self.kept(step)[id] for step in ("elements", "instructions", "images"))
        filtered, label = self.kept("filtering")[id], self.kept("labels")[id]
        if sample["question"] != instruction.text:
            raise ReportError(
                f"{self.data}: sample {sample['id']} of split {split!r} is not the construction's record {id}; run "
                "`mis construct` again"
            )
        photographs = self.kept("photographs")[id].pictures if split == "real" else ()
        sub_category = filtered.sub_category or element.sub_category
        return {
            "id": f"{split}/{sample['id']}",
            "question": instruction.text,
            "category": CATEGORY_OF[sub_category],
            "sub_category": sub_category,
            "objects": list(element.objects),
            "perception": label.perception,
            "reasoning": label.reasoning,
            "answer": label.answer,
            "provenance": {
                "record": id,
                "source": element.source,
                "first_question": element.question,
                "named": instruction.named,
                "referring": instruction.referring,
                "detoxified_because": instruction.detoxified_because,
                "dangerous_terms": list(instruction.dangerous_terms),
                "dangerous_text": filtered.dangerous_text,
                "explicit": list(filtered.explicit),
                "rounds": [
                    {
                        "prompts": [picture.prompt for picture in round.pictures],
                        "seeds": [picture.seed for picture in round.pictures],
                        "sha256": [_digest(picture) for picture in round.pictures],
                        "accepted": round.review.accepted,
                        "reason": round.review.reason,
                    }
                    for round in drawing.rounds
                ],
                "votes": [
                    {"keep": bool(vote and vote.keep), "reason": vote.reason if vote else "no usable vote"}
                    for vote in filtered.votes
                ],
                "decisions": [
                    {
                        "annotator": self._annotators[decision.annotator],
                        "decision": decision.decision,
                        "category": decision.category,
                        "difficulty": decision.difficulty,
                        "reason": decision.reason,
                        "time": decision.time,
                    }
                    for decision in self._of(id, instruction.text, drawing.pictures, photographs)
                ],
                "photographs": [
                    {
                        "url": str(picture.content.get("url", "")),
                        "license": str(picture.content.get("license", "")),
                        "similarity": float(picture.content.get("similarity", 0.0)),
                        "seed": picture.seed,
                    }
                    for picture in photographs
                ],
                "made_by": self.participants,
            },
        }

    def _of(self, id: str, text: str, *shown: tuple[Picture, ...]) -> list[Decision]:
        """What people said of a sample's drawings and of its photographs."""
        if not self._decisions:
            return []
        names = [item_id(id, text, pair) for pair in shown if pair]
        return [decision for name in names for decision in self._decisions.get(name, ())]


def _digest(picture: Picture) -> str:
    """Of a picture's file; "" where the record holds a vector layout."""
    return str(picture.content.get("sha256", ""))
