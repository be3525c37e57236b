"""What a review reads and writes: pairs to judge, decisions of annotators, results. JSON Lines, read strictly.

An error names the file and the line and never quotes a question.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from PIL import Image
from pydantic import ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from mis.errors import MisError
from mis.store import read_jsonl, write_jsonl_atomic
from mis.taxonomy import CATEGORIES

ACCEPT, REJECT = "accept", "reject"
EASY, HARD = "easy", "hard"
# Why a pair is rejected; the first four are the words of a construction's own experts (Section 3, step 4 of the paper).
REASONS = ("riskless pair", "meaningless pair", "near-duplicate", "unclear pair", "not to be published")
# A picture's format as Pillow names it, and how it is sent. Nothing that can hold a script.
PICTURES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}

_STRICT = ConfigDict(extra="forbid")


class ReviewError(MisError):
    """A review that cannot go on. The text names the file and line and the remedy."""


@cache
def adapter(kind: type) -> TypeAdapter:
    """Building one takes milliseconds."""
    return TypeAdapter(kind)


def _one_of(value: str, known: Iterable[str], what: str) -> None:
    if value not in known:
        raise ValueError(f"{what} is not one of {', '.join(known)}")


@dataclass(frozen=True, config=_STRICT)
class ReviewItem:
    """A pair to judge. `images` in the order in which the question counts them.

    `proposed_category` and `proposed_split` are what a construction thinks, "" where it does not say; `note` is shown
    to everyone who judges the pair.
    """

    id: str
    images: tuple[Path, Path]
    question: str
    proposed_category: str = ""
    proposed_split: Literal["", "training", "easy", "hard"] = ""
    note: str = ""

    @model_validator(mode="after")
    def _known(self) -> ReviewItem:
        if not self.id or not self.question.strip():
            raise ValueError("the id or the question is empty")
        _one_of(self.proposed_category, ("", *CATEGORIES), "proposed_category")
        return self


@dataclass(frozen=True, config=_STRICT)
class Judgement:
    """What was decided about a pair. An accepted one has a category and a difficulty, a rejected one a reason."""

    decision: Literal["accept", "reject"]
    category: str = ""
    difficulty: Literal["", "easy", "hard"] = ""
    reason: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Judgement:
        if self.decision == ACCEPT:
            _one_of(self.category, CATEGORIES, "category")
            _one_of(self.difficulty, (EASY, HARD), "difficulty")
            if self.reason:
                raise ValueError("an accepted pair has no reason")
        else:
            _one_of(self.reason, REASONS, "reason")
            if self.category or self.difficulty:
                raise ValueError("a rejected pair has no category and no difficulty")
        return self


@dataclass(frozen=True, config=_STRICT)
class Decision:
    """One annotator's standing judgement of one pair, as exported. `time` in UTC, ISO 8601."""

    item: str
    annotator: str
    decision: Literal["accept", "reject"]
    category: str
    difficulty: Literal["", "easy", "hard"]
    reason: str
    time: str

    @model_validator(mode="after")
    def _complete(self) -> Decision:
        self.judgement  # noqa: B018  checks itself
        return self

    @property
    def judgement(self) -> Judgement:
        return Judgement(self.decision, self.category, self.difficulty, self.reason)


@dataclass(frozen=True, config=_STRICT)
class Result:
    """What the review made of one pair: what all `annotators` said, or what the adjudicator decided (`adjudicated`)."""

    item: str
    decision: Literal["accept", "reject"]
    category: str
    difficulty: Literal["", "easy", "hard"]
    annotators: tuple[str, ...]
    adjudicated: bool


R = TypeVar("R", ReviewItem, Decision, Result)


def read_items(path: Path, pictures: Path | None = None) -> list[ReviewItem]:
    """The pairs of an `items.jsonl`, each with existing pictures.

    Pictures are named from the folder `pictures` (absent: the file's own) and must lie in it.
    """
    root = (pictures or path.parent).resolve()
    items, lines = [], {}
    for line, item in enumerate(_read(path, ReviewItem), start=1):
        if item.id in lines:
            raise ReviewError(f"{path}, line {line}: the id of line {lines[item.id]} once more; give each pair its own")
        lines[item.id] = line
        images = tuple(_picture(root / image, root, f"{path}, line {line}") for image in item.images)
        items.append(ReviewItem(item.id, images, item.question, item.proposed_category, item.proposed_split, item.note))
    if not items:
        raise ReviewError(f"{path}: no pairs to review; run the step that writes it again")
    return items


def _picture(path: Path, root: Path, where: str) -> Path:
    path = path.resolve()
    if not path.is_relative_to(root):
        raise ReviewError(f"{where}: a picture outside of {root}; name the folder of the pictures by --pictures")
    try:
        picture_format(path)
    except OSError as error:
        raise ReviewError(f"{where}: {path}: {error.strerror or 'not a PNG, JPEG or WebP picture'}") from None
    return path


def picture_format(path: Path) -> str:
    """The format of a picture by its content, a key of `PICTURES`; OSError if it is none of them."""
    with Image.open(path, formats=list(PICTURES)) as image:
        return image.format


def write_items(path: Path, items: Iterable[ReviewItem], pictures: Path | None = None) -> None:
    """Writes an `items.jsonl` that :func:`read_items` reads: pictures are named from the folder `pictures`."""
    root = (pictures or path.parent).resolve()
    rows = []
    for item in items:
        images = [Path(os.path.relpath(Path(image).resolve(), root)).as_posix() for image in item.images]
        rows.append(to_row(item) | {"images": images})
    write_jsonl_atomic(path, rows)


def read_decisions(path: Path) -> list[Decision]:
    """The rows of an exported `decisions.jsonl`."""
    return _read(path, Decision)


def read_results(path: Path) -> list[Result]:
    """The rows of an exported `results.jsonl`."""
    return _read(path, Result)


def to_row(record: ReviewItem | Decision | Result | Judgement) -> dict[str, Any]:
    """A record as a JSON object, fields in their order."""
    return adapter(type(record)).dump_python(record, mode="json")


def _read(path: Path, kind: type[R]) -> list[R]:
    records = []
    for line, row in enumerate(read_jsonl(path), start=1):
        try:
            records.append(adapter(kind).validate_python(row))
        except ValidationError as error:
            raise ReviewError(f"{path}, line {line}: {explain(error)}; mend that line (docs/review.md)") from None
    return records


def explain(error: ValidationError) -> str:
    """The first thing that is wrong with a row, without its content."""
    problem = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
