"""Q-Bench A1, LLVisionQA test (`q-future/Q-Bench-HF`, 1,495 rows): low-level vision; `data/test-*.parquet`."""

from __future__ import annotations

from pathlib import Path

from mis.samples import Sample
from mis.sources.common import embedded, known_split, parquet_rows, right_option, unique

OPTIONS = ("option0", "option1", "option2", "option3")
ABSENT = "N/A"  # what fills the columns of a question with fewer than four options
PATTERN = "data/test-*.parquet"


def load(root: Path, split: str) -> list[Sample]:
    known_split(split, ("",), "q_bench")
    samples = []
    for row in parquet_rows(root, PATTERN, ("id", "image", "question", *OPTIONS, "correct_choice")):
        options = tuple(text for text in map(row.label, OPTIONS) if text not in (ABSENT, ""))
        samples.append(
            Sample(
                "q_bench",
                split,
                row.id("id"),
                row.text("question"),
                (embedded(row, "image", root),),
                category=row.label("question_type"),
                sub_category=row.label("question_concern"),
                options=options,
                answer=right_option(options, row.text("correct_choice"), row),
            )
        )
    return unique(samples, root / PATTERN)
