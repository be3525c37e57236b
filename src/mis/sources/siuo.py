"""SIUO (github sinwang20/SIUO): safe text and safe picture, unsafe together; 167 rows.

`data/siuo_gen.json`; the pictures come apart and go to `data/images/`, as the project's README says.
"""

from __future__ import annotations

from pathlib import Path

from mis.samples import Sample
from mis.sources.common import json_rows, known_split, picture, unique


def load(root: Path, split: str) -> list[Sample]:
    known_split(split, ("",), "siuo")
    path = root / "data" / "siuo_gen.json"
    samples = [
        Sample(
            "siuo",
            split,
            row.id("question_id"),
            row.text("question"),
            (picture(root / "data" / "images", row.text("image"), row.where),),
            category=row.text("category"),
        )
        for row in json_rows(path)
    ]
    return unique(samples, path)
