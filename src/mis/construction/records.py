"""What each construction step adds to a sample. One row a record in `<n>_<step>.jsonl`; `id` joins the files.

A step answers every id that it was given: with its record, or with :class:`Dropped` and the reason.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mis.errors import MisError

# Where filtering sends a sample (Section 3, step 4 of the paper).
TRAINING, EASY, HARD = "training", "easy", "hard"


class ConstructionError(MisError):
    """A construction that cannot go on. The text names what is missing and the remedy."""


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str


class Dropped(Record):
    """A sample that a step took out. `dropped` is the reason, one of few, so that the funnel can count them.

    `known` is what the step knew by then: both rounds of a pair that was never accepted, the votes of the experts.
    """

    dropped: str
    known: dict[str, Any] = {}


class Element(Record):
    """Step 1. `objects` in image order; `question` names both. `source` is what the writer made it from.

    `reserved` is "training" or "test" where the writer knows that the two objects may appear on that side alone.
    """

    source: str
    category: str
    sub_category: str
    question: str
    objects: tuple[str, str]
    reserved: Literal["", "training", "test"] = ""


class Instruction(Record):
    """Step 2: the question over the named objects, the same pointing to images, and detoxified; why; what is left.

    `dangerous_terms` are the objects' names and explicit terms that still stand in `text`.
    """

    named: str
    referring: str
    text: str
    detoxified_because: str = ""
    dangerous_terms: tuple[str, ...] = ()


class Picture(BaseModel):
    """What was drawn or found. `content` is the painter's own: a file and its digest, or a vector layout."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prompt: str
    seed: int
    content: dict[str, Any]


class Review(BaseModel):
    """The reviewer's word on a pair: accepted, or better prompts for both pictures and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    accepted: bool
    prompts: tuple[str, str]
    reason: str = ""


class Round(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    pictures: tuple[Picture, Picture]
    review: Review


class Drawing(Record):
    """Step 3: one round, or two where the reviewer asked for better pictures. The last holds the accepted pair."""

    rounds: tuple[Round, ...]

    @property
    def pictures(self) -> tuple[Picture, Picture]:
        return self.rounds[-1].pictures


def _optional(**options: Any) -> Any:
    """A field that stands in a row only where it says something."""
    return Field(default="", exclude_if=lambda value: value == "", **options)


class Vote(BaseModel):
    """An expert's word on a sample. One who keeps it may correct its category and say how hard it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    keep: bool
    reason: str = ""
    category: str = _optional()
    difficulty: Literal["", "easy", "hard"] = _optional()


class Filtered(Record):
    """Step 4. `votes` in the experts' order, None where one gave no usable answer; `explicit` by image.

    `category` and `sub_category` stand where the experts corrected the writer's.
    """

    votes: tuple[Vote | None, ...]
    dangerous_text: bool
    explicit: tuple[bool, bool]
    destination: Literal["training", "easy", "hard"]
    category: str = _optional()
    sub_category: str = _optional()


class Label(Record):
    """A safety chain-of-thought label in its three parts (Figure 8 of the paper); empty outside the training split."""

    perception: str = ""
    reasoning: str = ""
    answer: str = ""

    @property
    def text(self) -> str:
        return f"{self.perception} {self.reasoning} {self.answer}"


class Placement(Record):
    """The split that a sample goes to, and its place there, counted from 0."""

    split: str
    position: int


class Photographs(Record):
    """Real photographs of the two objects, in the place of the drawings, for a test sample (MIS-real)."""

    pictures: tuple[Picture, Picture]


@dataclass(frozen=True)
class Candidate:
    """A sample under construction: what reviewers and experts look at. `pictures` are empty until they are drawn.

    `proposed` is where it would go without the experts: training, easy or hard; "" before that is known.
    """

    element: Element
    instruction: Instruction
    pictures: tuple[Picture, ...] = ()
    proposed: str = ""

    @property
    def id(self) -> str:
        return self.element.id


def derive_seed(seed: int, *names: str) -> int:
    """A seed of its own for each stage and sample: 63 bits that follow from the names alone, whatever came before."""
    digest = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
    return int(np.random.SeedSequence(np.frombuffer(digest, "<u4")).generate_state(1, np.uint64)[0] >> 1)
