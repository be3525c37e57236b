"""MMMU validation (`MMMU/MMMU`, 900 rows): one folder a subject, `<Subject>/validation-*.parquet`."""

from __future__ import annotations

import ast
from pathlib import Path

from mis.samples import Sample
from mis.sources.common import Row, embedded, known_split, parquet_rows, right_option, unique

PATTERN = "*/validation-*.parquet"
IMAGES = tuple(f"image_{k}" for k in range(1, 8))


def _options(row: Row) -> tuple[str, ...]:
    """The `options` column holds a Python list as text."""
    try:
        options = ast.literal_eval(row.text("options"))
    except (ValueError, SyntaxError):
        options = None
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise row.error("field 'options' is not a list of texts")
    return tuple(options)


def load(root: Path, split: str) -> list[Sample]:
    """The category is the subject, the sub-category the subfield. An open question has no options."""
    known_split(split, ("",), "mmmu")
    samples = []
    for row in parquet_rows(root, PATTERN, ("id", "question", "options", "answer", "question_type", *IMAGES)):
        options = _options(row)
        images = tuple(embedded(row, name, root) for name in IMAGES if row.values[name] is not None)
        answer = row.text("answer")
        if row.text("question_type") == "multiple-choice":
            answer = right_option(options, answer, row)
        subject = Path(row.where.rpartition(", row")[0]).parent.name
        samples.append(
            Sample(
                "mmmu",
                split,
                row.id("id"),
                row.text("question"),
                images,
                category=subject,
                sub_category=row.label("subfield"),
                options=options,
                answer=answer,
            )
        )
    return unique(samples, root / PATTERN)
