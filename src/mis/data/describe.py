"""`mis data describe`: how many samples, pictures and categories a dataset holds; never what they say or show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mis.benchmarks import BENCHMARKS
from mis.data.lock import DataError
from mis.samples import Example, Sample
from mis.sources import LOADERS, TRAINING_SOURCES, noting
from mis.sources.common import SourceError

# Splits that are made of another split's files (Table 2, input controls): they are no files of the dataset.
DERIVED = {("mssbench", split) for split in ("related_image", "white_image", "text_only")} | {
    ("mis", split) for split in ("black_image", "white_image", "no_image")
}
OWN_LABELS = {"mis_train": "safety_cot", "benign_pairs": "safety_cot"}  # of the others: "original"
UNNAMED = "test"  # what a benchmark's only split is called here


def describe(name: str, root: Path) -> dict:
    """`{"dataset", "splits": {split: {"samples", "images", "missing_images"}}, "categories": {category: samples}}`.

    `root` is the data root or the dataset's own folder. `images` counts the files that samples name, each once, missing
    ones included; a sample without a category counts under its kind. A split whose table is absent is left out.
    """
    source = _source(name)
    root = Path(root)
    folder = root / source if (root / source).is_dir() else root
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; fetch the dataset with `mis data fetch {name}`")
    splits: dict[str, dict[str, int]] = {}
    categories: Counter[str] = Counter()
    reasons: list[str] = []
    for split, load in _splits(source, folder):
        try:
            with noting(count_missing=True) as notes:
                records = load()
        except SourceError as error:
            if "no such file" not in str(error):
                raise
            reasons.append(str(error))
            continue
        pictures = {str(image) for record in records for image in record.images}
        splits[split] = {"samples": len(records), "images": len(pictures), "missing_images": len(notes.missing)}
        categories.update(record.category or _kind(record) for record in records)
        if notes.left_out:
            splits[split]["left_out"] = sum(notes.left_out.values())
    if not splits:
        raise DataError("; ".join(reasons))
    return {"dataset": name, "splits": splits, "categories": dict(sorted(categories.items()))}


def _source(name: str) -> str:
    if name in LOADERS or name in TRAINING_SOURCES:
        return name
    by_benchmark = {benchmark.name: benchmark.source for benchmark in BENCHMARKS}
    by_benchmark |= {benchmark.id: benchmark.source for benchmark in BENCHMARKS}
    if name in by_benchmark:
        return by_benchmark[name]
    raise DataError(f"no dataset {name!r}; known: {', '.join(sorted({*LOADERS, *TRAINING_SOURCES}))}")


def _splits(source: str, folder: Path) -> Iterator[tuple[str, object]]:
    if source in TRAINING_SOURCES:
        yield "train", lambda: TRAINING_SOURCES[source](folder, OWN_LABELS.get(source, "original"))
    for benchmark in BENCHMARKS if source in LOADERS else ():
        if benchmark.source == source and (source, benchmark.split) not in DERIVED:
            yield benchmark.split or UNNAMED, lambda split=benchmark.split: LOADERS[source](folder, split)


def _kind(record: Sample | Example) -> str:
    return record.kind if isinstance(record, Example) else "uncategorised"
