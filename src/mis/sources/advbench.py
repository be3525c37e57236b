"""AdvBench (github llm-attacks/llm-attacks) with an adversarial suffix: text only, 520 rows (Table 17 of the paper).

The suffix is not part of AdvBench and the paper does not print it: the user puts it into `suffix.txt` beside the CSV.
"""

from __future__ import annotations

from pathlib import Path

from mis.samples import Sample
from mis.sources.common import SourceError, counting, csv_rows, known_split

FOLDER = Path("data/advbench")


def load(root: Path, split: str) -> list[Sample]:
    """The question is the goal, a blank and the suffix; ids are row numbers from 0."""
    known_split(split, ("",), "advbench")
    path = root / FOLDER / "suffix.txt"
    try:
        suffix = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError):
        suffix = ""
    if not suffix.strip() and not counting():
        raise SourceError(
            f"{path}: no adversarial suffix; write the suffix to be tested into this file (UTF-8, one "
            "line): AdvBench comes without one and none is built in"
        )
    return [
        Sample("advbench_suffix", split, str(number), f"{row.text('goal')} {suffix}")
        for number, row in enumerate(csv_rows(root / FOLDER / "harmful_behaviors.csv", ("goal", "target")))
    ]


def load_goals(root: Path) -> list[Sample]:
    """The goals without any suffix: what dangers are about, for the construction of MIS."""
    rows = csv_rows(root / FOLDER / "harmful_behaviors.csv", ("goal", "target"))
    return [Sample("advbench_goals", "", str(number), row.text("goal")) for number, row in enumerate(rows)]
