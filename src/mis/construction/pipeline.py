"""The four steps of constructing MIS in a row, then labels, splits and photographs.

Each step writes `<n>_<step>.jsonl` and a line in `manifest.json`. A step whose input is unchanged (the records before
it, the participants' versions, this package's code) and whose file is whole is read instead of being made again, so a
killed construction goes on at the step where it stopped. `funnel.csv` counts what each step kept and dropped, and why.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mis.construction import elements, filtering, images, instructions, labelling
from mis.construction import splits as splitting
from mis.construction.participants import Cast
from mis.construction.records import (
    TRAINING,
    Candidate,
    Drawing,
    Dropped,
    Element,
    Filtered,
    Instruction,
    Label,
    Photographs,
    Placement,
    Record,
)
from mis.construction.splits import Split
from mis.store import read_jsonl, write_csv_atomic, write_jsonl_atomic, write_text_atomic

STEPS = ("elements", "instructions", "images", "filtering", "labels", "splits", "photographs")


@dataclass(frozen=True)
class Constructed:
    """A finished sample. `pictures` are photographs in the split "real"; the label is empty outside of training."""

    element: Element
    instruction: Instruction
    pictures: tuple[Any, ...]
    label: Label


@dataclass(frozen=True)
class Release:
    """The finished samples by split, in order, and a digest of all that they were made from."""

    splits: dict[str, list[Constructed]]
    digest: str


def construct(
    cast: Cast, splits: Sequence[Split], folder: Path, *, seed: int, photographs: Mapping[str, int] | None = None
) -> Release:
    """Runs what is missing and returns the finished samples.

    `photographs` says how many samples of which splits make up the split "real": the first of each that have some.
    Raises :class:`ConstructionError` where a split cannot be filled, :class:`mis.store.StoreError` where a file cannot
    be written.
    """
    book = _Book(folder)

    element = book.step(
        "elements", Element, {"writer": cast.element_writer.version}, lambda: elements.extract(cast.element_writer)
    )

    instruction = book.step(
        "instructions", Instruction,
        {"writer": cast.instruction_writer.version, "terms": _sha256(repr(sorted(cast.explicit_terms)).encode())},
        lambda: instructions.write(list(element.values()), cast.instruction_writer, cast.explicit_terms),
    )  # fmt: skip

    def candidates(ids: Mapping[str, Any], pictures: Mapping[str, Any] | None = None) -> list[Candidate]:
        return [Candidate(element[id], instruction[id], pictures[id].pictures if pictures else ()) for id in ids]

    drawing = book.step(
        "images", Drawing, {"painter": cast.painter.version, "reviewer": cast.reviewer.version, "seed": seed},
        lambda: images.draw(candidates(instruction), cast.painter, cast.reviewer, seed),
    )  # fmt: skip

    filtered = book.step(
        "filtering", Filtered,
        {"experts": [expert.version for expert in cast.experts], "classifier": cast.classifier.version}
        | ({"screens": [screen.version for screen in cast.screens]} if cast.screens else {}),
        lambda: filtering.judge(candidates(drawing, drawing), cast.experts, cast.classifier, cast.screens),
    )  # fmt: skip
    for id, row in filtered.items():
        if row.category:
            corrected = {"category": row.category, "sub_category": row.sub_category}
            element[id] = element[id].model_copy(update=corrected)

    training = frozenset(id for id, row in filtered.items() if row.destination == TRAINING)
    label = book.step(
        "labels", Label, {"labeller": cast.labeller.version, "guard": cast.guard.version},
        lambda: labelling.label(candidates(filtered, drawing), training, cast.labeller, cast.guard),
    )  # fmt: skip

    destinations = {id: filtered[id].destination for id in label}
    placement = book.step(
        "splits", Placement, {"splits": [dataclasses.asdict(split) for split in splits]},
        lambda: splitting.place(candidates(label, drawing), destinations, splits),
    )  # fmt: skip

    members = {split.name: [""] * split.size for split in splits}
    for id, row in placement.items():
        members[row.split][row.position] = id
    release = {
        name: [Constructed(element[id], instruction[id], drawing[id].pictures, label[id]) for id in ids]
        for name, ids in members.items()
    }

    if photographs:

        def find() -> list[Record]:
            rows = []
            for name, size in photographs.items():
                members_of = candidates(dict.fromkeys(members[name]), drawing)
                rows += splitting.photograph(members_of, size, cast.photo_source, seed)
            return rows

        made_from = {"source": cast.photo_source.version, "sizes": dict(photographs), "seed": seed}
        found = book.step("photographs", Photographs, made_from, find)
        release["real"] = [Constructed(element[id], instruction[id], found[id].pictures, label[id]) for id in found]

    return Release(release, book.digest)


class _Book:
    """The files of a construction: what each step wrote, from which input, and how many it dropped."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._path = folder / "manifest.json"
        self._old = _read_manifest(self._path)
        self._steps: dict[str, dict[str, Any]] = {}
        self.digest = _code()

    def step(
        self, name: str, kind: type[Record], inputs: Mapping[str, Any], make: Callable[[], list[Record]]
    ) -> dict[str, Any]:
        """The records that a step kept, by id in order: read if they stand, else made and written.

        `inputs` are the participants' versions and whatever else decides the records; the manifest keeps them.
        """
        path = self._folder / f"{STEPS.index(name) + 1}_{name}.jsonl"
        made_from = _sha256(json.dumps([self.digest, name, inputs], sort_keys=True).encode())
        old = self._old.get(name)
        if old and old["input"] == made_from and path.exists() and _sha256(path.read_bytes()) == old["output"]:
            rows = [(Dropped if "dropped" in row else kind).model_validate(row) for row in read_jsonl(path)]
        else:
            rows = make()
            write_jsonl_atomic(path, (row.model_dump(mode="json") for row in rows))
        dropped = Counter(row.dropped for row in rows if isinstance(row, Dropped))
        kept = {row.id: row for row in rows if not isinstance(row, Dropped)}
        self._steps[name] = {
            "made_from": dict(inputs),
            "input": made_from,
            "output": _sha256(path.read_bytes()),
            "kept": len(kept),
            "dropped": dict(sorted(dropped.items())),
        }
        # Later steps of an older run stay in the manifest: their input digests say whether they still hold.
        write_text_atomic(self._path, json.dumps({**self._old, **self._steps}, indent=1) + "\n")
        self._write_funnel()
        self.digest = _sha256(f"{made_from} {self._steps[name]['output']}".encode())
        return kept

    def _write_funnel(self) -> None:
        """`funnel.csv`: one line a step with what it kept, then one a reason with what it dropped for it."""
        rows = []
        for name, step in self._steps.items():
            rows.append({"step": name, "kept": step["kept"], "dropped": 0, "reason": ""})
            rows += [{"step": name, "kept": 0, "dropped": n, "reason": why} for why, n in step["dropped"].items()]
        write_csv_atomic(self._folder / "funnel.csv", rows, ("step", "kept", "dropped", "reason"))


def _read_manifest(path: Path) -> dict[str, Any]:
    """An unreadable manifest only costs the work again."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


@cache
def _code() -> str:
    """A digest of this package, so that records made by older code are not used."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return _sha256(b"".join(file.read_bytes() for file in files))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
