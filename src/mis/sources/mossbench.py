"""MOSSBench (github xirui-li/MOSSBench): harmless inputs that look dangerous; `information.csv`, 300 rows."""

from __future__ import annotations

from pathlib import Path

from mis.samples import Sample
from mis.sources.common import csv_rows, known_split, picture, unique


def load(root: Path, split: str) -> list[Sample]:
    """The category is the kind of stimulus (column `meta_data_over`)."""
    known_split(split, ("",), "mossbench")
    path = root / "information.csv"
    samples = [
        Sample(
            "mossbench",
            split,
            row.id("pid"),
            row.text("question"),
            (picture(root, row.text("image_path"), row.where),),
            category=row.text("meta_data_over"),
        )
        for row in csv_rows(path, ("pid", "question", "image_path", "meta_data_over"))
    ]
    return unique(samples, path)
