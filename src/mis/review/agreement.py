"""Fleiss' kappa: how far several annotators agree beyond chance, question by question."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mis.review.records import ACCEPT, EASY, HARD, REJECT, Judgement
from mis.taxonomy import CATEGORIES

# What is asked of a judgement, and its possible answers. The last two are asked of accepted pairs alone.
QUESTIONS = {"decision": (ACCEPT, REJECT), "category": tuple(CATEGORIES), "difficulty": (EASY, HARD)}


@dataclass(frozen=True)
class Agreement:
    """On one question: of `pairs` that all `raters` answered, `agreed` got one and the same answer.

    `left_out` pairs are not in it: they lack an annotator, or, for category and difficulty, not everyone accepted them.
    `kappa` and its 95 % interval are NaN where it is not defined: no pair, one annotator, or one answer throughout.
    """

    question: str
    raters: int
    pairs: int
    left_out: int
    agreed: int
    kappa: float
    low: float
    high: float

    def to_row(self) -> dict[str, Any]:
        """As a JSON object, rounded; what is not defined is null."""
        values = dataclasses.asdict(self).items()
        return {key: (None if math.isnan(v) else round(v, 4)) if isinstance(v, float) else v for key, v in values}


def fleiss_kappa(counts: np.ndarray) -> float:
    """Fleiss' kappa (Fleiss 1971, "Measuring nominal scale agreement among many raters").

    `counts` of shape (pairs, answers): how many annotators gave each answer; every row has the same sum, at least 2
    (ValueError). NaN without rows, and where all answers are equal: chance agreement is then 1.
    """
    counts = np.asarray(counts)
    if not len(counts):
        return math.nan
    raters = counts.sum(axis=1)
    if (raters != raters[0]).any() or raters[0] < 2:
        raise ValueError("each pair needs the same number of annotators, at least two")
    return float(_kappa(counts, np.ones((1, len(counts))))[0])


def _kappa(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Kappa of each row of `weights`, shape (draws, pairs): how often a pair was drawn."""
    raters = counts[0].sum()
    alike = (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))
    total = weights.sum(axis=1)
    observed = weights @ alike / total
    shares = weights @ counts / (total * raters)[:, None]
    expected = (shares**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isclose(expected, 1), np.nan, (observed - expected) / (1 - expected))


def interval(counts: np.ndarray, replicates: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of kappa, drawing pairs with replacement; seeded. NaN where all pairs agree.

    Draws in which everyone gave one and the same answer have no kappa and are left out.
    """
    patterns, times = np.unique(counts, axis=0, return_counts=True)  # few, however many pairs
    if (patterns.max(axis=1) == patterns.sum(axis=1)).all():
        return math.nan, math.nan
    n = int(times.sum())
    kappas = _kappa(patterns, np.random.default_rng([seed, n]).multinomial(n, times / n, size=replicates))
    low, high = np.nanquantile(kappas, [0.025, 0.975])
    return float(low), float(high)


def measure(votes: Iterable[Mapping[str, Judgement]], annotators: Sequence[str]) -> list[Agreement]:
    """The agreement of `annotators` on each question. `votes` holds a pair's judgements by annotator."""
    votes = list(votes)
    raters = len(annotators)
    complete = [[of[name] for name in annotators] for of in votes if all(name in of for name in annotators)]
    accepted = [of for of in complete if all(judgement.decision == ACCEPT for judgement in of)]
    found = []
    for question, answers in QUESTIONS.items():
        asked = complete if question == "decision" else accepted
        given = [[getattr(judgement, question) for judgement in of] for of in asked]
        counts = np.array([[row.count(answer) for answer in answers] for row in given]).reshape(-1, len(answers))
        kappa, bounds = math.nan, (math.nan, math.nan)
        if raters > 1 and len(given):
            kappa, bounds = fleiss_kappa(counts), interval(counts)
        agreed = sum(len(set(row)) == 1 for row in given)
        found.append(Agreement(question, raters, len(given), len(votes) - len(given), agreed, kappa, *bounds))
    return found
