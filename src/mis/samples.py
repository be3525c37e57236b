"""The records that flow from a dataset's files to a table.

A :class:`Sample` is one question of a benchmark; an :class:`Example` is one conversation to train on; a
:class:`Response` is what a model said to a sample; a :class:`Verdict` is what a judge made of it. The same four records
serve every scale. They are written as JSON Lines; `key` identifies a row.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True)
class Sample:
    """One question. `images` are existing files, in the order in which the question counts them.

    `options` holds the texts of a multiple-choice question and `answer` the text of the right one; both are empty for
    an open question. `tags` are extra groupings for scores, for example ("taught",). `guidance` is what the dataset
    tells the judge alone (SIUO's safety warning); no model that is tested sees it.
    """

    benchmark: str
    split: str
    id: str
    question: str
    images: tuple[Path, ...] = ()
    category: str = ""
    sub_category: str = ""
    options: tuple[str, ...] = ()
    answer: str = ""
    guidance: str = ""

    @property
    def key(self) -> str:
        """`benchmark/split/id`: unique over all benchmarks; the split may be empty."""
        return f"{self.benchmark}/{self.split}/{self.id}"


@dataclass(frozen=True)
class Example:
    """One training conversation of a single turn: `images` + `prompt` -> `response`.

    `source` names the dataset, `kind` is "safety" (a harmful input), "benign" (a harmless input of a safety dataset)
    or "general" (instruction data). `images` are paths relative to the data root. `category` may be empty.
    """

    id: str
    source: str
    kind: str
    images: tuple[str, ...]
    prompt: str
    response: str
    category: str = ""
    sub_category: str = ""


class Wording(NamedTuple):
    """An answer whose likelihood is asked, and its `opening`: as much of it as tells what kind of answer it is."""

    text: str
    opening: str


@dataclass(frozen=True)
class Turn:
    """One request of a method that makes several (`models.prompting`): its text, how many pictures, what came back."""

    asked: str
    images: int
    answered: str


@dataclass(frozen=True)
class Response:
    """What a model said. `finish_reason` is stop, length, filtered or failed; `error` says why it failed.

    `text` is what a user would see, and all that a judge reads. `trace` holds the turns that led to it where the arm
    is a way of asking; it is left out of the row elsewhere.
    """

    benchmark: str
    split: str
    sample_id: str
    model: str
    arm: str
    seed: int
    text: str
    finish_reason: str = "stop"
    error: str = ""
    trace: tuple[Turn, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.benchmark}/{self.split}/{self.sample_id}/{self.model}/{self.arm}"


@dataclass(frozen=True)
class Verdict:
    """What a judge made of one response. `outcome` is a word of `taxonomy`; `reason` is for a reader of the file."""

    benchmark: str
    split: str
    sample_id: str
    model: str
    arm: str
    seed: int
    judge: str
    outcome: str
    reason: str = ""

    @property
    def key(self) -> str:
        return f"{self.benchmark}/{self.split}/{self.sample_id}/{self.model}/{self.arm}"


def to_row(record: Response | Verdict | Example) -> dict:
    """A record as a JSON object; responses and verdicts carry their `key` first."""
    row = dataclasses.asdict(record)
    if not row.get("trace", True):
        del row["trace"]
    return {"key": record.key, **row} if isinstance(record, (Response, Verdict)) else row
