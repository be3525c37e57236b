"""One loader a public dataset, and nothing that knows where the files came from.

`LOADERS` gives the samples of a benchmark, `TRAINING_SOURCES` the examples of a training source; both take the
dataset's own folder. Where a dataset is found, and what is known of its layout, stands in docs/data.md.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mis.benchmarks import Benchmark
from mis.samples import Sample
from mis.sources import (
    advbench,
    conversations,
    figstep,
    jailbreakv,
    mis,
    mm_safetybench,
    mmmu,
    mmstar,
    mmt_bench,
    mossbench,
    mssbench,
    muirbench,
    q_bench,
    saferlhf,
    siuo,
    vlguard,
    vlsbench,
)
from mis.sources.common import Loader, SourceError, TrainingLoader, noting

__all__ = ["LOADERS", "TRAINING_SOURCES", "SourceError", "load_benchmark", "load_folder", "noting"]

# Keyed by `Benchmark.source`; called with the dataset's folder and the split.
LOADERS: dict[str, Loader] = {
    "mis": mis.load,
    "mis_held_out": mis.load_held_out,
    "benign_control": mis.load_benign,
    "figstep": figstep.load,
    "mm_safetybench": mm_safetybench.load,
    "jailbreakv": jailbreakv.load,
    "vlsbench": vlsbench.load,
    "siuo": siuo.load,
    "mssbench": mssbench.load,
    "mossbench": mossbench.load,
    "advbench": advbench.load,
    "q_bench": q_bench.load,
    "mmstar": mmstar.load,
    "mmmu": mmmu.load,
    "muirbench": muirbench.load,
    "mmt_bench": mmt_bench.load,
}

# Keyed by `Part.source` of mixtures.py; called with the dataset's folder and the answer variant.
TRAINING_SOURCES: dict[str, TrainingLoader] = {
    "saferlhf": saferlhf.load,
    "vlguard": vlguard.load,
    "m4_instruct": conversations.load_m4_instruct,
    "general": conversations.load_general,
    "captions": conversations.load_captions,
    "mis_train": conversations.load_mis_train,
    "benign_pairs": conversations.load_benign_pairs,
}


def load_benchmark(data_root: Path, benchmark: Benchmark) -> list[Sample]:
    """The samples of a benchmark, from `<data_root>/<source>`, in the order of its file; at least one."""
    return load_folder(Path(data_root) / benchmark.source, benchmark)


def load_folder(root: Path, benchmark: Benchmark) -> list[Sample]:
    """The same from the dataset's own folder, whatever its name."""
    samples = LOADERS[benchmark.source](root, benchmark.split)
    if not samples:
        raise SourceError(f"{root}: no samples for {benchmark.id}; the file is empty: download it again")
    return [dataclasses.replace(sample, benchmark=benchmark.name, split=benchmark.split) for sample in samples]
