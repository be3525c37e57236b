"""JailBreakV-28K mini (`JailbreakV-28K/JailBreakV-28k`, gated): jailbreak text with a picture, 280 rows."""

from __future__ import annotations

from pathlib import Path

from mis.samples import Sample
from mis.sources.common import csv_rows, known_split, picture, unique

FOLDER = "JailBreakV_28K"  # as in the hub repository; image paths are relative to it
TABLE = "mini_JailBreakV_28K.csv"


def load(root: Path, split: str) -> list[Sample]:
    """The category is the violated policy, the sub-category the attack's format."""
    known_split(split, ("",), "jailbreakv")
    folder = root / FOLDER
    samples = [
        Sample(
            "jailbreakv",
            split,
            row.id("id"),
            row.text("jailbreak_query"),
            (picture(folder, row.text("image_path"), row.where),),
            category=row.text("policy"),
            sub_category=row.text("format"),
        )
        for row in csv_rows(folder / TABLE, ("id", "jailbreak_query", "format", "policy", "image_path"))
    ]
    return unique(samples, folder / TABLE)
