"""The samples of benchmarks, read through the loaders of `sources` from the configuration's data root."""

from __future__ import annotations

from collections.abc import Iterable

from mis.benchmarks import BY_ID
from mis.samples import Sample
from mis.settings import Settings


def load_samples(settings: Settings, benchmarks: Iterable[str]) -> list[Sample]:
    """All samples of the named benchmarks (ids of `benchmarks.BY_ID`), in the order of the names and of the files."""
    from mis.sources import load_benchmark  # late: it imports PIL and every loader

    return [sample for name in benchmarks for sample in load_benchmark(settings.paths.data, BY_ID[name])]
