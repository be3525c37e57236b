"""The run's own numbers: `scores.csv`, and the counts of its MIS data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mis.report.reported import IDENTITY, Analogues, ReportError, read_csv
from mis.scoring import COLUMNS, POOLED


@dataclass(frozen=True)
class Cell:
    """One measured number in the unit of its row; `low`, `high` (95 % unless configured) and `n` may be unknown.

    `n` counts all responses; `failures` are those without a verdict, which are in `n` and never count as safe.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    failures: int = 0
    seed: str = ""
    model: str = ""
    direction: str = ""
    unit: str = "percent"
    note: str = ""

    @property
    def not_applicable(self) -> str:
        """Why a table shows no number although there is one: "skill 52 %", from a note "n/a (skill 52 %): ..."."""
        start, _, _ = self.note.partition("):")
        return start.removeprefix("n/a (") if start.startswith("n/a (") else ""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """A rate with all of `failures` counted against it, and with all of them counted for it; None without any.

        Of an ASR: all of them safe, and all of them unsafe. A missing verdict is in no class: the first is the value.
        """
        if not self.failures or not self.n or self.unit != "percent":
            return None
        return self.value, min(100.0, self.value + self.missing_percent)

    @property
    def missing_percent(self) -> float:
        return 100 * self.failures / self.n if self.failures and self.n else 0.0

    @property
    def width(self) -> float | None:
        return None if self.low is None or self.high is None else self.high - self.low


def _number(row: dict[str, str], column: str, path: Path) -> float | None:
    text = row[column].strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number != number or number in (float("inf"), float("-inf")):
        raise ReportError(f"{path}, line {row['line']}: {column} is {text!r}, not a number; run `mis score` again")
    return number


def read_rows(path: Path, scale: str | None = None) -> dict[tuple[str, ...], Cell]:
    """The cells of `scores.csv` by (model, method, benchmark, split, metric, seed); rows without a value are left out.

    Raises `ReportError` for a missing column, a cell that is no number, a row that stands twice, and, with `scale`,
    for rows of another scale.
    """
    cells: dict[tuple[str, ...], Cell] = {}
    for row in read_csv(path, COLUMNS):
        if scale is not None and row["artifact"] != scale:
            raise ReportError(f"{path}, line {row['line']}: scores of scale {row['artifact']!r} in a run of {scale!r}")
        key = (*(row[name] for name in IDENTITY), row["seed"])
        if key in cells:
            raise ReportError(f"{path}, line {row['line']}: {' '.join(key)} stands twice; run `mis score` again")
        value = _number(row, "value", path)
        if value is None:
            continue
        n, failures = _number(row, "n", path), _number(row, "failures", path)
        cells[key] = Cell(
            value=value,
            low=_number(row, "low", path),
            high=_number(row, "high", path),
            n=None if n is None else int(n),
            failures=int(failures or 0),
            seed=row["seed"],
            model=row["model"],
            direction=row["direction"],
            unit=row["unit"],
            note=row["note"],
        )
    return cells


class Scores:
    """The cells that tables show: the pooled row where several seeds ran, otherwise the one seed's row.

    `models` are the run's model ids in the order of the file, `methods` its arms. An absent file is a run without
    scores: nothing is reproduced, and no error (the scale `reported` has none).
    """

    def __init__(self, path: Path, analogues: Analogues, scale: str | None = None):
        self.path = path
        rows = read_rows(path, scale) if path.is_file() else {}
        by_cell: dict[tuple[str, ...], dict[str, Cell]] = {}
        for key, cell in rows.items():
            by_cell.setdefault(key[:-1], {})[key[-1]] = cell
        self._cells = {key: self._shown(key, seeds) for key, seeds in by_cell.items()}
        self.models = list(dict.fromkeys(key[0] for key in self._cells))
        self.methods = list(dict.fromkeys(key[1] for key in self._cells))
        self.seeds = sorted({cell.seed for cell in rows.values()} - {POOLED})
        self.seeds_of = {
            model: sorted({cell.seed for key, cell in rows.items() if key[0] == model} - {POOLED})
            for model in self.models
        }
        self._analogues = analogues
        self._run_model: dict[str, str] = {}
        for model in self.models:
            reported = analogues.reported_model(model)
            if reported in self._run_model:
                raise ReportError(
                    f"{path}: {self._run_model[reported]} and {model} both stand for {reported}; "
                    "change data/analogues.yaml or run them apart"
                )
            self._run_model[reported] = model

    def _shown(self, key: tuple[str, ...], seeds: dict[str, Cell]) -> Cell:
        if POOLED in seeds:
            return seeds[POOLED]
        if len(seeds) > 1:
            raise ReportError(
                f"{self.path}: {' '.join(key)} has seeds {', '.join(seeds)} but no pooled row (seed "
                f"{POOLED!r}); run `mis score` again"
            )
        return next(iter(seeds.values()))

    def keys(self) -> list[tuple[str, ...]]:
        """The cells that there are: model, method, benchmark, split, metric."""
        return list(self._cells)

    def run_model(self, reported_model: str) -> str | None:
        """The run's model that stands beside a row of the paper, or None."""
        return self._run_model.get(reported_model)

    def get(self, model: str, method: str, benchmark: str, split: str, metric: str) -> Cell | None:
        """A cell by the run's own ids, or None where it was not run."""
        return self._cells.get((model, method, benchmark, split, metric))

    def beside(self, reported_model: str, method: str, benchmark: str, split: str, metric: str) -> Cell | None:
        """The measured cell beside a reported one, or None where the row has no analogue or was not run."""
        model, run_method = self.run_model(reported_model), self._analogues.run_method(method)
        return None if model is None or run_method is None else self.get(model, run_method, benchmark, split, metric)


def count_categories(mis: Path) -> dict[tuple[str, str], int] | None:
    """Samples of MIS-easy and MIS-hard by (category, sub_category), read from `mis_easy.json` and `mis_hard.json`.

    MIS-real repeats samples of the two (Section 3), so it is not counted, as in Table 3. None where neither file is
    there; `ReportError` where one is missing or cannot be read.
    """
    paths = [mis / "mis_easy.json", mis / "mis_hard.json"]
    if not any(path.exists() for path in paths):
        return None
    counts: dict[tuple[str, str], int] = {}
    for path in paths:
        try:
            for row in json.loads(path.read_text(encoding="utf-8")):
                key = (row["category"], row["sub_category"])
                counts[key] = counts.get(key, 0) + 1
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{path}: not a list of MIS samples ({error!r}); run `mis construct` again") from None
    return counts
