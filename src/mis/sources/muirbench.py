"""MuirBench (`MUIRBENCH/MUIRBENCH`, 2,600 rows): several pictures a question; `data/test-*.parquet`."""

from __future__ import annotations

from pathlib import Path

from mis.samples import Sample
from mis.sources.common import embedded_list, known_split, parquet_rows, right_option, unique

PATTERN = "data/test-*.parquet"


def load(root: Path, split: str) -> list[Sample]:
    """The category is the task. `<image>` stays in question and options, where the dataset counts its pictures."""
    known_split(split, ("",), "muirbench")
    samples = []
    for row in parquet_rows(root, PATTERN, ("idx", "task", "question", "options", "answer", "image_list")):
        options = tuple(map(str, row.get("options", list)))
        samples.append(
            Sample(
                "muirbench",
                split,
                row.id("idx"),
                row.text("question"),
                embedded_list(row, "image_list", root),
                category=row.text("task"),
                options=options,
                answer=right_option(options, row.text("answer"), row),
            )
        )
    return unique(samples, root / PATTERN)
