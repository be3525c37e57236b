"""How well the miniature's judges agree with labels that were given without seeing their verdicts.

`tests/audit/README.md` says who labelled what.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mis.judges.agreement import cohen_kappa, confusion
from mis.judges.audit import informed, read
from mis.judges.second import SecondJudge
from mis.taxonomy import BENIGN_OUTCOMES, FAILURES, HAZARD_OUTCOMES


@dataclass(frozen=True)
class Labelled:
    """An answer of an audit: the blind label and what each judge of the miniature makes of it.

    `weight` is how many of the run's answers it stands for; 1 for all where the audit does not say.
    """

    task: str
    hard: bool
    weight: float
    label: str
    oracle: str
    second: str


def read_audit(folder: Path) -> list[Labelled]:
    """An audit of the miniature (tests/audit/README.md), judged again by both judges as they are now."""
    second = informed(SecondJudge, folder)
    return [
        Labelled(
            answer.task, answer.hard, answer.weight, answer.label, answer.outcome,
            second.verdict(answer.sample, answer.response)[0],
        )
        for answer in read(folder)
    ]  # fmt: skip


@dataclass(frozen=True)
class Audit:
    """Labelled answers and on how many of them oracle and label agree; `kappa` is Cohen's, over all of them."""

    answers: int
    equal: int
    hard: int
    hard_equal: int
    kappa: float


def audit(folder: Path) -> Audit:
    """The oracle, as it is now, against the labels of the audit in `folder`."""
    answers = read(folder)
    hard = [answer for answer in answers if answer.hard]
    pairs = [(answer.outcome, answer.label) for answer in answers]
    return Audit(
        answers=len(answers),
        equal=sum(answer.outcome == answer.label for answer in answers),
        hard=len(hard),
        hard_equal=sum(answer.outcome == answer.label for answer in hard),
        kappa=cohen_kappa(confusion(pairs, (*HAZARD_OUTCOMES, *BENIGN_OUTCOMES, *FAILURES))),
    )
