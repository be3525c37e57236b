"""VLSBench (`Foreshhh/vlsbench`): neutral text, unsafe picture; `data.json`, 2,241 rows, pictures from `imgs.tar`."""

from __future__ import annotations

from pathlib import Path

from mis.samples import Sample
from mis.sources.common import json_rows, known_split, picture, unique


def load(root: Path, split: str) -> list[Sample]:
    """One released row (1685) has an empty instruction; it stays, as the picture alone."""
    known_split(split, ("",), "vlsbench")
    path = root / "data.json"
    samples = [
        Sample(
            "vlsbench",
            split,
            row.id("instruction_id"),
            row.text("instruction", empty=True),
            (picture(root, row.text("image_path"), row.where),),
            category=row.text("category"),
            sub_category=row.text("sub_category"),
        )
        for row in json_rows(path)
    ]
    return unique(samples, path)
