"""Differences between arms that answered the same samples. Intervals of single rates are in `mis.statistics`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from mis.statistics import Estimate


def _outcomes(outcomes: ArrayLike) -> np.ndarray:
    array = np.atleast_2d(np.asarray(outcomes, dtype=float))
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"expected outcomes of shape (seeds, samples), found {np.shape(outcomes)}")
    return array


def _replicates(array: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Means of `replicates` resampled (seeds, samples) arrays.

    A replicate draws seeds with replacement, then samples with replacement. All its seeds see the same drawn samples,
    because they answered the same questions: were each seed given its own draw, the error that comes from the choice
    of questions would shrink with the number of seeds, which it does not. Draws are multinomial counts, so the mean
    is one product; shapes (replicates, seeds) and (replicates, samples).
    """
    rng = np.random.default_rng(seed)
    seeds, samples = array.shape
    seed_counts = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=replicates)
    sample_counts = rng.multinomial(samples, np.full(samples, 1 / samples), size=replicates)
    return ((seed_counts @ array) * sample_counts).sum(axis=1) / (seeds * samples)


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(
    first: ArrayLike, second: ArrayLike, confidence: float = 0.95, replicates: int = 2000, seed: int = 0
) -> Estimate:
    """Mean of `first - second` with a percentile interval; both arms answered the same samples under the same seeds.

    Shapes (samples,) or (seeds, samples), equal for both. Resampling the differences keeps each pair together, which
    removes the difficulty of the samples from the error. Raises ValueError where the shapes differ. Equal arms have a
    difference of exactly [0, 0]: they gave the same outcome on every sample.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(f"arms with different samples cannot be paired: {np.shape(first)} and {np.shape(second)}")
    difference = _outcomes(first) - _outcomes(second)
    return Estimate(float(difference.mean()), *_percentiles(_replicates(difference, replicates, seed), confidence))


def align(*arms: Mapping[str, float]) -> tuple[np.ndarray, ...]:
    """Outcomes by sample key as arrays over the same sorted keys. Raises ValueError where an arm lacks a key."""
    keys = sorted(set().union(*arms))
    for arm in arms:
        missing = [key for key in keys if key not in arm]
        if missing:
            raise ValueError(f"{len(missing)} of {len(keys)} samples are missing in one arm, for example {missing[0]}")
    return tuple(np.array([arm[key] for key in keys], dtype=float) for arm in arms)
