"""Labels: the safety chain of thought of each training sample, in three marked parts.

Checked here: all three parts are there, and (by a guard) nothing harmful is explained.
"""

from __future__ import annotations

from collections.abc import Sequence

from mis.construction.participants import Guard, Labeller
from mis.construction.records import Candidate, Label, Record
from mis.construction.standing import Standing


def label(candidates: Sequence[Candidate], training: frozenset[str], labeller: Labeller, guard: Guard) -> list[Record]:
    """A :class:`Label` or why there is none, one row a candidate, in their order. Only ids in `training` need one."""
    standing = Standing(candidates)
    labels = standing.ask(labeller.label, among=training)
    for id, parts in list(labels.items()):
        if not (parts.perception.strip() and parts.reasoning.strip() and parts.answer.strip()):
            standing.drop(id, "a part of the label is missing")
            del labels[id]
    for id, harmful in standing.ask(guard.harmful, labels, among=labels.keys()).items():
        if harmful:
            standing.drop(id, "the label explains something harmful")

    def row(candidate: Candidate) -> Label:
        parts = labels.get(candidate.id)
        if parts is None:
            return Label(id=candidate.id)
        return Label(id=candidate.id, perception=parts.perception, reasoning=parts.reasoning, answer=parts.answer)

    return standing.rows(row)
