"""Do the arms stand in the same order as in the paper? Rank correlations by table, with the claims' replicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mis.report.claims.run import Run
from mis.report.specs import SPECS, Column, Spec

FEWEST = 3
# Figure 4 holds the paper's only MIS rates of all arms on InternVL2.5-8B; as the project's site prints it.
_FIGURE4 = ("Figure 4", "website_figure4", tuple(
    Column("mis", split, metric) for metric in ("asr", "rsr") for split in ("easy", "hard", "real")
))  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """One table on one model of the run ("all" where the table is one list of models and arms).

    `arms` are those with both numbers in a column (the most that any column has), `columns` the columns with a
    correlation. `value` is the mean over them of Spearman's rank correlation, None where there are too few arms.
    """

    table: str
    model: str
    arms: int
    columns: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


def spearman(fixed: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank correlation of `fixed`, shape (arms,), with each row of `values`, shape (rows, arms); ties share a rank.

    NaN where all of either are equal.
    """
    first, second = (_ranks(np.atleast_2d(x)) for x in (fixed, values))
    first, second = (x - x.mean(axis=1, keepdims=True) for x in (first, second))
    scale = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (first * second).sum(axis=1) / scale


def _ranks(rows: np.ndarray) -> np.ndarray:
    """Average ranks within each row."""
    below = rows[:, None, :] < rows[:, :, None]
    equal = rows[:, None, :] == rows[:, :, None]
    return below.sum(axis=2) + (equal.sum(axis=2) + 1) / 2


def agreements(run: Run) -> list[Agreement]:
    """One a table of rates of the paper and model of the run that stands in it."""
    tables = [(f"Table {number}", spec.artifact, spec.columns, spec) for number, spec in SPECS.items() if spec.artifact]
    tables.insert(3, (*_FIGURE4, None))
    found = []
    for name, artifact, columns, spec in tables:
        pairs = [pair for pair in run.paper.reported.rows(artifact) if pair[0] in run.run_model]
        models = list(dict.fromkeys(model for model, _ in pairs))
        if isinstance(spec, Spec) and spec.ranking and pairs:
            found.append(_agreement(run, name, "all", artifact, columns, pairs))
        else:
            found += [
                _agreement(
                    run, name, run.run_model[model], artifact, columns, [pair for pair in pairs if pair[0] == model]
                )
                for model in models
            ]
    return found


def _agreement(
    run: Run, table: str, model: str, artifact: str, columns: tuple[Column, ...], pairs: list[tuple[str, str]]
) -> Agreement:
    most, correlations = 0, []
    for column in columns:
        where = (column.benchmark, column.split, column.metric)
        if not column.benchmark:
            continue  # the share of general data is set, not measured
        printed, measured = [], []
        for reported, method in pairs:
            value = run.paper.reported.get(artifact, reported, method, *where)
            name = run.sources.analogues.run_method(method)
            cell = None if name is None else run.cell(run.run_model[reported], name, *where)
            if value is not None and cell is not None:
                printed.append(float(value.value))
                measured.append(cell)
        most = max(most, len(printed))
        if len(printed) >= FEWEST:
            correlations.append(spearman(np.array(printed), np.array(measured).T))
    if not correlations:
        return Agreement(table, model, most, 0, note="too few arms" if most else "not run")
    by_column = np.array(correlations)  # (columns, 1 + replicates)
    defined = ~np.isnan(by_column)
    sums, counts = np.where(defined, by_column, 0).sum(axis=0), defined.sum(axis=0)
    if not counts[0]:
        return Agreement(table, model, most, 0, note="all arms equal")
    means = sums[counts > 0] / counts[counts > 0]
    tail = (1 - run.confidence) / 2
    low, high = np.quantile(means[1:], [tail, 1 - tail])
    return Agreement(table, model, most, int(counts[0]), float(means[0]), float(low), float(high))
