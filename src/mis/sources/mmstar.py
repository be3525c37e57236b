"""MMStar (`Lin-Chen/MMStar`, 1,500 rows): `mmstar.parquet`; the options stand inside the question's text.

The text ends in "Options: A: ..., B: ..., C: ..., D: ..." or in "Choices:" and lines of "(A) ...". They are taken
out of the question, because this project adds the options itself.
"""

from __future__ import annotations

import re
from pathlib import Path

from mis.samples import Sample
from mis.sources.common import Row, embedded, known_split, parquet_rows, right_option, unique

TABLE = "mmstar.parquet"
HEADER = re.compile(r"\s*\b(?:Options|Choices):\s*")
STYLES = ("{}: ", "({}) ")


def split_options(row: Row) -> tuple[str, tuple[str, ...]]:
    """Question and options of a row. The letters must come in order from A, at the start or after a comma or break."""
    text = row.text("question")
    headers = list(HEADER.finditer(text))
    for header in reversed(headers):
        question, listing = text[: header.start()].strip(), text[header.end() :]
        for style in STYLES:
            options = _in_order(listing, style)
            if len(options) >= 2 and all(options) and question:
                return question, options
    raise row.error("its options are not written in a known way (Options: A: ..., B: ... or Choices: (A) ...)")


def _in_order(listing: str, style: str) -> tuple[str, ...]:
    options, rest = [], listing
    if not rest.startswith(style.format("A")):
        return ()
    rest = rest[len(style.format("A")) :]
    for letter in "BCDEFGH":
        mark = re.search(r"(?:,\s*|\s*\n)" + re.escape(style.format(letter)), rest)
        if not mark:
            break
        options.append(rest[: mark.start()].strip())
        rest = rest[mark.end() :]
    return (*options, rest.strip())


def load(root: Path, split: str) -> list[Sample]:
    known_split(split, ("",), "mmstar")
    samples = []
    for row in parquet_rows(root, TABLE, ("index", "question", "image", "answer", "category", "l2_category")):
        question, options = split_options(row)
        samples.append(
            Sample(
                "mmstar",
                split,
                row.id("index"),
                question,
                (embedded(row, "image", root),),
                category=row.text("category"),
                sub_category=row.label("l2_category"),
                options=options,
                answer=right_option(options, row.text("answer"), row),
            )
        )
    return unique(samples, root / TABLE)
