"""Human experts: what they are to look at is written for the review page, what they decided is read back.

The construction stops while pairs wait for people (:class:`Waiting`) and goes on with the same command afterwards. A
pair's id holds a digest of what is shown, so that no decision is ever read as one about another text or picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mis.construction.participants import Photos
from mis.construction.records import Candidate, ConstructionError, Vote
from mis.review.records import (
    ACCEPT,
    Decision,
    Result,
    ReviewItem,
    read_decisions,
    read_items,
    read_results,
    write_items,
)

ITEMS, RESULTS, DECISIONS = "items.jsonl", "results.jsonl", "decisions.jsonl"


class Waiting(ConstructionError):
    """Pairs wait for people; nothing is wrong."""


class Review:
    """A folder with what people are asked and what they said; `pictures` is what pictures' files are named from."""

    def __init__(self, folder: Path, pictures: Path, annotators: int):
        self.folder, self._pictures, self._annotators = folder, pictures, annotators

    @property
    def digest(self) -> str:
        """Of all results: what was decided so far."""
        path = self.folder / RESULTS
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else "nothing decided"

    def results(self, items: Sequence[ReviewItem]) -> dict[str, Result]:
        """The result of each item. Raises :class:`Waiting`, with the items written, where one is missing."""
        path = self.folder / RESULTS
        results = {result.item: result for result in read_results(path)} if path.exists() else {}
        open_ = [item for item in items if item.id not in results]
        if open_:
            # What was decided before stays among them: an export of the review is one of all its items.
            before = read_items(self.folder / ITEMS, self._pictures) if (self.folder / ITEMS).exists() else []
            new = {item.id for item in items}
            kept = [item for item in before if item.id in results and item.id not in new]
            write_items(self.folder / ITEMS, [*kept, *items], self._pictures)
            raise Waiting(
                f"{self.folder / ITEMS}: {len(open_)} of {len(items)} pairs wait for people; open the review page "
                f"(`mis review serve`, {self._annotators} annotators, --pictures {self._pictures}), export its results "
                f"to {path}, and run the same command again"
            )
        return {item.id: results[item.id] for item in items}


def decisions(folder: Path) -> dict[str, list[Decision]]:
    """What each annotator said, by item; empty where nobody exported it into the review's folder."""
    path = folder / DECISIONS
    found: dict[str, list[Decision]] = {}
    for decision in read_decisions(path) if path.exists() else ():
        found.setdefault(decision.item, []).append(decision)
    return found


def item_id(id: str, text: str, pictures: Photos) -> str:
    """`<record>-<digest of text and pictures>`."""
    shown = "\0".join((text, *(picture.content["sha256"] for picture in pictures)))
    return f"{id}-{hashlib.sha256(shown.encode()).hexdigest()[:12]}"


class People:
    """Step 4: the experts' common result, after adjudication, as one vote."""

    def __init__(self, review: Review, pictures: Path):
        self._review, self._pictures = review, pictures
        self.version = f"people {review.digest}"

    def vote(self, candidates: Sequence[Candidate]) -> list[Vote]:
        items = [
            ReviewItem(
                id=item_id(c.id, c.instruction.text, c.pictures),
                images=tuple(self._pictures / picture.content["file"] for picture in c.pictures),
                question=c.instruction.text,
                proposed_category=c.element.category,
                proposed_split=c.proposed,
            )
            for c in candidates
        ]
        if not items:
            return []
        results = self._review.results(items)
        reasons = {
            item: [d.reason for d in given if d.reason] for item, given in decisions(self._review.folder).items()
        }
        return [self._vote(results[item.id], reasons.get(item.id, [])) for item in items]

    @staticmethod
    def _vote(result: Result, reasons: Sequence[str]) -> Vote:
        if result.decision == ACCEPT:
            return Vote(keep=True, category=result.category, difficulty=result.difficulty)
        return Vote(keep=False, reason=max(sorted(set(reasons)), key=reasons.count) if reasons else "rejected")
