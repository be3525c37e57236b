"""MMT-Bench, validation, multi-image part (`OpenGVLab/MMT-Bench`, 3,127 rows): `MMT-Bench_VAL_MI.tsv`.

Options stand in the columns A, B, ...; `image` holds base64: one picture, a Python list of them as text, or (64
characters or fewer) the index of the row whose pictures are meant.
"""

from __future__ import annotations

import ast
import base64
import binascii
import string
from pathlib import Path

from mis.samples import Sample
from mis.sources.common import Row, csv_rows, extract, known_split, right_option, unique

TABLE = "MMT-Bench_VAL_MI.tsv"
REFERENCE_LENGTH = 64


def _images(row: Row, rows: dict[str, Row], root: Path) -> tuple[Path, ...]:
    text = row.text("image")
    if len(text) <= REFERENCE_LENGTH:
        text = rows[text].text("image") if text in rows else ""
    try:
        parts = ast.literal_eval(text) if text.startswith("[") else [text]
        contents = [base64.b64decode(part, validate=True) for part in parts]
    except (ValueError, SyntaxError, TypeError, binascii.Error):
        contents = []
    if not contents:
        raise row.error("field 'image' holds neither base64 pictures nor the index of a row that does")
    return tuple(extract(root, content, row.where) for content in contents)


def load(root: Path, split: str) -> list[Sample]:
    known_split(split, ("",), "mmt_bench")
    rows = csv_rows(root / TABLE, ("index", "question", "A", "B", "answer", "image", "category"), delimiter="\t")
    by_index = {row.id("index"): row for row in rows}
    samples = []
    for row in rows:
        options = tuple(row.values[letter] for letter in string.ascii_uppercase if row.values.get(letter, "").strip())
        samples.append(
            Sample(
                "mmt_bench",
                split,
                row.id("index"),
                row.text("question"),
                _images(row, by_index, root),
                category=row.text("category"),
                sub_category=row.label("l2-category"),
                options=options,
                answer=right_option(options, row.text("answer"), row),
            )
        )
    return unique(samples, root / TABLE)
