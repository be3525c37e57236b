"""Responses without a verdict: the bounds that they leave a rate, and the limit beyond which a table is not made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mis.benchmarks import BENCHMARKS
from mis.report.reported import ReportError, read_csv
from mis.report.scores import Cell
from mis.scoring import MISSING_COLUMNS
from mis.settings import Settings

LISTED = 20  # keys in an error; all of them are in the file that it names
NOTE = (
    "missing: responses without a verdict (refused by the judge, filtered, cut off, unparsable, failed). They are in n "
    "and in no class. Behind the colon: the rate if all of them were counted against it, and if all counted for it."
)


def bounded(settings: Settings) -> bool:
    """Are bounds shown? The miniature's oracle misses nothing but answers that were cut off, and says how many."""
    return settings.judge.kind == "models"


def check_missing(name: str, settings: Settings, path: Path, cells: Iterable[tuple[Cell, str, str, str]]) -> None:
    """Raises `ReportError` with the keys where a cell misses more than `report.max_missing_percent`.

    `cells` are a table's with the run's method, the benchmark and the split; `path` is the scores' `.missing.csv`.
    """
    limit = settings.report.max_missing_percent
    if limit is None:
        return
    over = {
        (cell.model, method, benchmark, split): cell.missing_percent
        for cell, method, benchmark, split in cells
        if cell.missing_percent > limit
    }
    if not over:
        return
    keys: dict[str, None] = {}
    for row in read_csv(path, MISSING_COLUMNS):
        for model, method, benchmark, split in over:
            # A cut through a benchmark's splits, such as one category, is answered with all that miss there.
            cut = not any(b.name == benchmark and b.split == split for b in BENCHMARKS)
            if (row["model"], row["method"], row["benchmark"]) == (model, method, benchmark):
                if cut or row["split"] == split:
                    keys[f"{row['key']} (seed {row['seed']}): {row['outcome']}"] = None
    shares = "; ".join(f"{' '.join(filter(None, cell))} {share:.1f} %" for cell, share in over.items())
    listed = "".join(f"\n  {key}" for key in list(keys)[:LISTED])
    more = f"\n  and {len(keys) - LISTED} more in {path}" if len(keys) > LISTED else ""
    raise ReportError(
        f"table {name}: more than {limit:g} % of the responses have no verdict ({shares}). Run `mis respond` and "
        f"`mis judge` again for them, or raise report.max_missing_percent:{listed}{more}"
    )
