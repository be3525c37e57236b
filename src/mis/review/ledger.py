"""What one person decided: an append-only journal, replayed. Nothing in it is ever changed or removed.

A row is an act: a judgement of a pair, or the undoing of the last one. An act holds for the `request` that it answered
(a digest of what was shown); once something else is shown under the same id, it stands no longer and stays in the file.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mis.review.records import Judgement, ReviewError, ReviewItem, to_row
from mis.store import Attempt, Journal, read_attempts


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def request_of(item: ReviewItem) -> str:
    """Stands for what an annotator is shown: question, note and pictures, these by name and size.

    Their content is not read: a review of full size has tens of gigabytes of pictures.
    """
    pictures = [(image.name, image.stat().st_size) for image in item.images]
    return digest(item.id, item.question, item.note, pictures)


@dataclass(frozen=True)
class Act:
    """A judgement that stands. `looked` says which pictures were shown unblurred before it; `time` is the journal's."""

    item: str
    request: str
    judgement: Judgement
    looked: tuple[bool, bool]
    time: str


class History:
    """The acts of one person, in order, without those that were undone."""

    def __init__(self, attempts: Iterable[Attempt], path: Path):
        self._path = path
        self._acts: dict[tuple[str, str], list[Act]] = defaultdict(list)
        self._order: list[tuple[str, str]] = []
        self._names: list[str] = []  # who was at work, last name last
        self.revision = 0
        for attempt in attempts:
            self._replay(attempt)

    @classmethod
    def read(cls, path: Path) -> History:
        """From a journal that a server may be writing at the moment; empty where there is none."""
        return cls(read_attempts(path) if path.exists() else (), path)

    def _replay(self, attempt: Attempt) -> None:
        self.revision += 1
        place = (attempt.key, attempt.request)
        try:
            if attempt.row["act"] == "undo":
                self._acts[place].pop()
                del self._order[_last_index(self._order, place)]
            else:
                judgement = Judgement(**attempt.row["judgement"])
                looked = tuple(map(bool, attempt.row["looked"]))
                self._acts[place].append(Act(*place, judgement, looked, attempt.time))
                self._order.append(place)
            self._names.append(attempt.row["annotator"])
        except (KeyError, TypeError, IndexError, ValueError, ValidationError):
            raise ReviewError(
                f"{self._path}, line {self.revision}: not a row of a review's journal; mend or remove that line"
            ) from None

    @property
    def name(self) -> str:
        """Who decided last; "" where nobody did yet."""
        return self._names[-1] if self._names else ""

    def standing(self, item: str, request: str) -> Act | None:
        """The last judgement of a pair as it is shown now."""
        acts = self._acts.get((item, request))
        return acts[-1] if acts else None

    def last(self, current: Callable[[str], str | None]) -> Act | None:
        """The latest act that still stands; `current` gives the request of a pair as it is shown now."""
        for item, request in reversed(self._order):
            if current(item) == request:
                return self._acts[item, request][-1]
        return None


def _last_index(order: Sequence[tuple[str, str]], place: tuple[str, str]) -> int:
    return next(i for i in range(len(order) - 1, -1, -1) if order[i] == place)


class Ledger(History):
    """A history that goes on: it holds its journal's lock, and what it was told is on the disk when a call returns."""

    def __init__(self, path: Path, name: str):
        self._journal = Journal(path)  # one fsync a decision
        self._annotator = name
        try:
            super().__init__(self._journal.attempts, path)
        except BaseException:
            self._journal.close()
            raise

    def decide(self, item: str, request: str, judgement: Judgement, looked: tuple[bool, bool]) -> None:
        """Writes a judgement; the one that stands, sent again, is not written twice."""
        standing = self.standing(item, request)
        if standing is None or standing.judgement != judgement:
            self._append(item, request, act="decide", judgement=to_row(judgement), looked=list(looked))

    def undo(self, current: Callable[[str], str | None]) -> Act | None:
        """Takes the last standing act back and returns it; None if there is none."""
        act = self.last(current)
        if act is not None:
            self._append(act.item, act.request, act="undo")
        return act

    def _append(self, item: str, request: str, **row: object) -> None:
        (stamped,) = self._journal.append([Attempt(request, True, {"key": item, "annotator": self._annotator, **row})])
        self._replay(stamped)

    def close(self) -> None:
        self._journal.close()
