"""A fresh run's scores against the committed reference run of the same scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mis.report import names
from mis.report.rendering import escape_markdown, grid, text
from mis.report.reported import IDENTITY, repository_root
from mis.report.scores import Cell, read_rows
from mis.scoring import POOLED
from mis.settings import Settings
from mis.store import write_csv_atomic, write_text_atomic

LISTED = 30


@dataclass(frozen=True)
class Difference:
    """One fresh cell beside a cell of the reference. `key` is model, method, benchmark, split, metric."""

    key: tuple[str, ...]
    fresh: Cell
    reference: Cell

    @property
    def points(self) -> float:
        """Fresh minus reference, in the unit of the cell."""
        return self.fresh.value - self.reference.value

    @property
    def identical(self) -> bool:
        return self.fresh.value == self.reference.value

    @property
    def overlap(self) -> bool | None:
        """Whether the two intervals share a point; None where one has no interval."""
        if self.fresh.width is None or self.reference.width is None:
            return None
        return self.fresh.low <= self.reference.high and self.reference.low <= self.fresh.high


@dataclass(frozen=True)
class Comparison:
    """`same_seed` compares cells of equal seed; `pooled` the cells over all seeds that each of the two runs has.

    `missing` are cells of the reference, under seeds of the fresh run, that the fresh run lacks; `new` the reverse.
    """

    scale: str
    reference: Path
    same_seed: tuple[Difference, ...]
    pooled: tuple[Difference, ...]
    missing: tuple[tuple[str, ...], ...]
    new: tuple[tuple[str, ...], ...]

    def summary(self) -> str:
        """A few lines for the terminal."""
        if not (self.same_seed or self.pooled):
            return f"Nothing to compare: {self.reference} holds no scores of scale {self.scale} that this run has too."
        lines = [f"Compared with {self.reference}:"]
        if self.same_seed:
            equal = sum(difference.identical for difference in self.same_seed)
            lines.append(f"  same seed: {equal} of {len(self.same_seed)} cells identical; {_counts(self.same_seed)}")
        if self.pooled:
            lines.append(f"  all seeds of this run against all seeds of the reference: {_counts(self.pooled)}")
        if self.missing or self.new:
            lines.append(f"  only in the reference: {len(self.missing)} cells; only in this run: {len(self.new)}")
        return "\n".join(lines)


def _counts(differences: Iterable[Difference]) -> str:
    differences = list(differences)
    judged = [d for d in differences if d.overlap is not None]
    widths = [d.fresh.width for d in judged] or [float("nan")]
    largest = max(differences, key=lambda d: abs(d.points))
    return (
        f"intervals overlap in {sum(d.overlap for d in judged)} of {len(judged)}; "
        f"width of this run's intervals: median {median(widths):.1f}, largest {max(widths):.1f} points; "
        f"largest difference {largest.points:+.1f} ({_name(largest.key)})"
    )


def _name(key: tuple[str, ...]) -> str:
    _, method, benchmark, split, metric = key
    return f"{names.method(method)}, {names.column(benchmark, split, metric)}"


def compare_scores(fresh: Path, reference: Path, scale: str) -> Comparison:
    """Compare two `scores.csv`. A reference that is not there gives an empty comparison; a fresh one is an error."""
    # Times are the machine's: they differ wherever a run is repeated.
    mine = _rates(read_rows(fresh, scale))
    theirs = _rates(read_rows(reference, scale)) if reference.is_file() else {}
    seeds = {key[-1] for key in mine}
    both = [(key, Difference(key[:-1], cell, theirs[key])) for key, cell in mine.items() if key in theirs]
    return Comparison(
        scale=scale,
        reference=reference,
        same_seed=tuple(difference for key, difference in both if key[-1] != POOLED),
        pooled=tuple(difference for key, difference in both if key[-1] == POOLED),
        missing=tuple(key for key in theirs if key[-1] in seeds and key not in mine),
        new=tuple(key for key in mine if key not in theirs) if theirs else (),
    )


def _rates(cells: dict[tuple[str, ...], Cell]) -> dict[tuple[str, ...], Cell]:
    return {key: cell for key, cell in cells.items() if cell.unit == "percent"}


def _records(comparison: Comparison) -> list[dict[str, str]]:
    yes = {True: "yes", False: "no", None: ""}
    records = []
    for against, differences in (("same seed", comparison.same_seed), ("all seeds", comparison.pooled)):
        for d in differences:
            records.append({
                "scale": comparison.scale, **dict(zip(IDENTITY, d.key, strict=True)), "seed": d.fresh.seed,
                "against": against, "value": text(d.fresh.value), "low": text(d.fresh.low),
                "high": text(d.fresh.high), "width": text(d.fresh.width), "reference_value": text(d.reference.value),
                "reference_low": text(d.reference.low), "reference_high": text(d.reference.high),
                "reference_width": text(d.reference.width), "difference": text(d.points),
                "overlap": yes[d.overlap], "identical": yes[d.identical],
            })  # fmt: skip
    return records or [{"scale": comparison.scale, "note": comparison.summary()}]


def _by_benchmark(differences: tuple[Difference, ...]) -> str:
    groups: dict[tuple[str, ...], list[Difference]] = {}
    for difference in differences:
        groups.setdefault(difference.key[2:], []).append(difference)
    rows = [["Measure", "cells", "overlapping", "largest difference", "median width", "median reference width"]]
    for (benchmark, split, metric), group in groups.items():
        judged = [d for d in group if d.overlap is not None]
        rows.append([
            escape_markdown(names.column(benchmark, split, metric)), str(len(group)),
            f"{sum(d.overlap for d in judged)} of {len(judged)}", f"{max((d.points for d in group), key=abs):+.1f}",
            f"{median(d.fresh.width for d in judged):.1f}" if judged else "",
            f"{median(d.reference.width for d in judged):.1f}" if judged else "",
        ])  # fmt: skip
    return grid(rows)


def _apart(differences: tuple[Difference, ...]) -> str:
    """The cells whose intervals do not overlap, the largest differences first."""
    apart = sorted((d for d in differences if d.overlap is False), key=lambda d: -abs(d.points))
    if not apart:
        return "No cell's intervals lie apart."

    def show(cell: Cell) -> str:
        return f"{cell.value:.1f} ({cell.low:.1f}–{cell.high:.1f})"

    rows = [["Cell", "seed", "this run", "reference", "difference"]]
    rows += [[escape_markdown(_name(d.key)), d.fresh.seed, show(d.fresh), show(d.reference), f"{d.points:+.1f}"]
             for d in apart[:LISTED]]  # fmt: skip
    more = f"\n\n{len(apart) - LISTED} more in comparison.csv." if len(apart) > LISTED else ""
    return grid(rows) + more


def to_markdown(comparison: Comparison) -> str:
    blocks = ["## This run and the reference run", f"Scale: **{escape_markdown(comparison.scale)}**",
              comparison.summary()]  # fmt: skip
    parts = (("Same seed", comparison.same_seed), ("All seeds of each run", comparison.pooled))
    for title, differences in parts:
        if differences:
            blocks += [f"### {title}", _by_benchmark(differences), _apart(differences)]
    blocks.append("Differences in points, this run minus reference. Of many cells some lie apart by chance: overlap of "
                  "intervals is a screen, not a test.")  # fmt: skip
    return "\n\n".join(blocks) + "\n"


def compare(settings: Settings, root: Path | str | None = None, reference: Path | None = None) -> Comparison:
    """Compare `<results>/scores.csv` with `results/reference/<scale>/scores.csv` (or `reference`).

    Writes `<results>/comparison.csv` (one row a cell) and `.md` (by benchmark, and the cells that lie apart).
    Where there is no reference run of this scale, both say so. Raises `ReportError` if the run itself has no scores.
    """
    if reference is None:
        reference = repository_root(root) / "results" / "reference" / settings.scale / "scores.csv"
        if reference.is_relative_to(Path.cwd()):
            reference = reference.relative_to(Path.cwd())
    results = settings.paths.results
    comparison = compare_scores(results / "scores.csv", reference, settings.scale)
    records = _records(comparison)
    write_csv_atomic(results / "comparison.csv", records, list(records[0]))
    write_text_atomic(results / "comparison.md", to_markdown(comparison))
    return comparison
