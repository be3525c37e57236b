"""From filtered samples to splits of an exact size, and photographs for a part of the test samples (MIS-real)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mis.construction.participants import PhotoSource
from mis.construction.records import (
    Candidate,
    ConstructionError,
    Photographs,
    Placement,
    Record,
    derive_seed,
)
from mis.construction.standing import Standing


@dataclass(frozen=True)
class Split:
    """`size` samples out of those whose destination is in `takes`.

    They are spread evenly over sub-categories, and over pairs of objects within each ("sub_category"), or over pairs
    alone ("pair"), as far as the samples go. Any beginning of a split is spread in the same way.
    """

    name: str
    size: int
    takes: tuple[str, ...]
    evenly_over: Literal["sub_category", "pair"] = "sub_category"


def place(candidates: Sequence[Candidate], destinations: Mapping[str, str], splits: Sequence[Split]) -> list[Record]:
    """A :class:`Placement`, or "surplus", one row a candidate, in their order.

    Raises :class:`ConstructionError` where a split cannot be filled.
    """
    standing = Standing(candidates)
    places: dict[str, tuple[str, int]] = {}
    for split in splits:
        fit = [c for c in candidates if destinations[c.id] in split.takes and c.id not in places]
        if len(fit) < split.size:
            raise ConstructionError(
                f"split {split.name!r}: {len(fit)} of {split.size} samples are left after filtering (funnel.csv says "
                "what was dropped); let the element writer propose more, or lower the size in the configuration"
            )
        ordered = _interleave(fit, _pair)
        if split.evenly_over == "sub_category":
            ordered = _interleave(ordered, lambda candidate: candidate.element.sub_category)
        places |= {candidate.id: (split.name, i) for i, candidate in enumerate(ordered[: split.size])}
    for candidate in standing:
        if candidate.id not in places:
            standing.drop(candidate.id, "surplus: the split is full")
    return standing.rows(
        lambda candidate: Placement(id=candidate.id, split=places[candidate.id][0], position=places[candidate.id][1])
    )


def photograph(candidates: Sequence[Candidate], size: int, source: PhotoSource, seed: int) -> list[Record]:
    """:class:`Photographs` for the first `size` candidates that have some, or why one has none; in their order.

    Later candidates are asked for only in the place of those without. Raises :class:`ConstructionError` if too few
    have some.
    """
    rows: list[Record] = []
    while (missing := size - sum(isinstance(row, Photographs) for row in rows)) > 0:
        batch = candidates[len(rows) : len(rows) + missing]
        if not batch:
            raise ConstructionError(
                f"photographs were found for {size - missing} of {size} samples; widen the photographs' index, or "
                "lower the size in the configuration"
            )
        standing = Standing(batch)
        seeds = {c.id: derive_seed(seed, "photographs", c.id) for c in batch}
        found = standing.ask(source.find, seeds)
        rows += standing.rows(lambda candidate, found=found: Photographs(id=candidate.id, pictures=found[candidate.id]))
    return rows


def _pair(candidate: Candidate) -> Hashable:
    """The two objects, whichever comes first."""
    return frozenset(candidate.element.objects)


def _interleave(candidates: Sequence[Candidate], key: Callable[[Candidate], Hashable]) -> list[Candidate]:
    """One of each group in turn, then the next of each; groups and members keep their order."""
    groups: dict[Hashable, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[key(candidate)].append(candidate)
    turns = ((turn, number, c) for number, group in enumerate(groups.values()) for turn, c in enumerate(group))
    return [candidate for _, _, candidate in sorted(turns, key=lambda item: item[:2])]
