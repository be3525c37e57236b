"""Intervals for rates, vectorised and seeded: the same input gives the same bits.

Outcomes are 0 or 1; rates and bounds are fractions, the caller turns them into percent.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A rate with the bounds of its interval."""

    value: float
    low: float
    high: float


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(successes: float, n: float, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval (Wilson 1927) of `successes / n`: sound near 0 and 1, where most safety rates lie.

    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(f"{successes} successes of {n} samples is no rate")
    z2 = _quantile(confidence) ** 2
    rate = successes / n
    centre = (successes + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (rate * (1 - rate) * n + z2 / 4)) / (n + z2)
    # The exact bounds at the ends are 0 and 1; rounding would miss them by an ulp.
    return Estimate(rate, centre - half if successes else 0.0, centre + half if successes < n else 1.0)


def weighted_share(hits: Sequence[bool], weights: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The weighted share of hits, with Wilson's interval for as many samples as the weights are worth (Kish 1965).

    Unequal weights are worth fewer samples than there are: (sum of w) squared over the sum of w squared. Raises
    ValueError without samples.
    """
    if not len(hits):
        raise ValueError("no samples are no share")
    total = math.fsum(weights)
    n = total**2 / math.fsum(weight**2 for weight in weights)
    share = math.fsum(weight for hit, weight in zip(hits, weights, strict=True) if hit) / total
    return wilson(share * n, n, confidence)


def widened(estimate: Estimate, false_positive: float, false_negative: float) -> Estimate:
    """An estimate of how often a judge says "yes", its interval widened to how often that may be true.

    With the share y of "yes", of which a part a is wrong, and of the rest a part b, the truth is y - a y + b (1 - y).
    `false_positive` and `false_negative` are upper bounds of a and b: the lower end is moved as if all errors were
    false positives, the upper as if all were false negatives. The value stays what the judge said.
    """
    low, high = estimate.low * (1 - false_positive), estimate.high + (1 - estimate.high) * false_negative
    return Estimate(estimate.value, low, high)


def above_chance(successes: int, n: int, chance: float, confidence: float = 0.95) -> bool:
    """Does Wilson's interval lie above `chance` (a fraction)? False where nothing was measured."""
    return n > 0 and wilson(successes, n, confidence).low > chance


def mean_of_proportions(counts: Sequence[tuple[int, int]], confidence: float = 0.95) -> Estimate:
    """Unweighted mean of independent proportions, each (successes, n), with a normal approximation of its interval.

    The variance of the mean of k proportions is the sum of p (1 - p) / n over k squared; bounds are cut at 0 and 1.
    """
    rates = [successes / n for successes, n in counts]
    value = math.fsum(rates) / len(rates)
    variance = math.fsum(rate * (1 - rate) / n for rate, (_, n) in zip(rates, counts, strict=True))
    half = _quantile(confidence) * math.sqrt(variance) / len(rates)
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0))


def hierarchical_bootstrap(
    *matrices: np.ndarray, confidence: float = 0.95, replicates: int = 2000, seed: int = 0
) -> Estimate:
    """Rate pooled over seeds, with a percentile interval over seeds and samples.

    Each matrix is one benchmark's outcomes of shape (seeds, samples), column j being the same sample under every
    seed; of several matrices the unweighted mean is taken. A replicate draws seeds with replacement, the same for
    all matrices, then each matrix's samples with replacement, the same for all seeds: the seeds answered the same
    questions. With few seeds their spread is underestimated (three: by about sqrt(2/3)), as in any bootstrap of three.
    Where all outcomes are equal resampling cannot move; Wilson's interval over one seed's samples (for several
    matrices, all of them together) stands in.
    """
    value = math.fsum(matrix.mean() for matrix in matrices) / len(matrices)
    if all((matrix == matrices[0].flat[0]).all() for matrix in matrices):
        n = sum(matrix.shape[1] for matrix in matrices)
        return wilson(round(value) * n, n, confidence)
    means = np.zeros(replicates)
    for stream, matrix in enumerate(matrices, start=1):
        seeds, samples = matrix.shape
        drawn_seeds = _draws(seeds, replicates, seed, 0)
        drawn_samples = _draws(samples, replicates, seed, stream)
        means += ((drawn_samples @ matrix.T.astype(np.float32)) * drawn_seeds).sum(axis=1) / (seeds * samples)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means / len(matrices), [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


@functools.lru_cache(maxsize=32)  # Cells of one size share their draws: most of the time goes into drawing.
def _draws(size: int, replicates: int, seed: int, stream: int) -> np.ndarray:
    """How often each of `size` things was drawn: shape (replicates, size), rows sum to `size`."""
    rng = np.random.default_rng([seed, stream, size])
    return rng.multinomial(size, np.full(size, 1 / size), size=replicates).astype(np.float32)


def cluster_bootstrap(
    hits: np.ndarray, totals: np.ndarray, confidence: float = 0.95, replicates: int = 2000, seed: int = 0
) -> Estimate:
    """The rate `hits.sum() / totals.sum()`, with a percentile interval that draws whole clusters with replacement.

    `hits` and `totals` of shape (clusters,) count what belongs together: all answers to one question, say. Where the
    rate is 0 or 1 resampling cannot move; Wilson's interval over the number of clusters stands in.
    """
    value = float(hits.sum() / totals.sum())
    if value in (0.0, 1.0):
        return wilson(round(value) * len(hits), len(hits), confidence)
    rng = np.random.default_rng([seed, len(hits)])
    rates = np.empty(replicates)
    for replicate in range(replicates):
        drawn = rng.integers(len(hits), size=len(hits))
        rates[replicate] = hits[drawn].sum() / totals[drawn].sum()
    tail = (1 - confidence) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def clustered_auc(
    scores: Sequence[float],
    positive: Sequence[bool],
    clusters: Sequence[str],
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Estimate:
    """How often a positive scores above a negative (ties half), with a percentile interval over clusters.

    A replicate draws whole clusters with replacement, whatever kinds they hold; one without both kinds is left out.
    Raises ValueError without both kinds.
    """
    scores, positive = np.asarray(scores, float), np.asarray(positive, bool)
    if positive.all() or not positive.any():
        raise ValueError("an AUC needs both kinds")
    names, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    member = np.eye(len(names))[cluster]  # (samples, clusters)
    high, low = member[positive], member[~positive]
    above = np.sign(np.subtract.outer(scores[positive], scores[~positive])) / 2 + 0.5
    won = high.T @ above @ low  # (clusters of positives, clusters of negatives)
    rng = np.random.default_rng([seed, len(names)])
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates).astype(float)
    pairs = (drawn @ high.sum(axis=0)) * (drawn @ low.sum(axis=0))
    values = ((drawn @ won) * drawn).sum(axis=1)[pairs > 0] / pairs[pairs > 0]
    tail = (1 - confidence) / 2
    bounds = np.quantile(values, [tail, 1 - tail])
    return Estimate(float(above.mean()), float(bounds[0]), float(bounds[1]))
