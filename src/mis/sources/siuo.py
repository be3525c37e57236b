"""SIUO (github sinwang20/SIUO): safe text and safe picture, unsafe together; 167 rows.

`data/siuo_gen.json`; the pictures come apart and go to `data/images/`, as the project's README says.
"""

from __future__ import annotations

from pathlib import Path

from mis.samples import Sample
from mis.sources.common import Row, json_rows, known_split, picture, unique


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
            guidance=_guidance(row),
        )
        for row in json_rows(path)
    ]
    return unique(samples, path)


def _guidance(row: Row) -> str:
    """What the project's judge is told beside the response: the safety warning and the reference answer."""
    parts = {"Safety warning": row.label("safety_warning"), "Reference answer": row.label("reference_answer")}
    return "\n".join(f"{name}: {text}" for name, text in parts.items() if text)
