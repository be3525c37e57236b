"""What `mis probe` measured of a run's arms, read from its files: knowledge, behaviour, separation, ability in text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mis import layout
from mis.mixtures import ARMS
from mis.probes import BARE
from mis.probes.knowing import CONTROL, FULL, NEUTRAL
from mis.probes.knowledge import BEHAVIOUR_COLUMNS
from mis.report import names
from mis.report.reported import ReportError, read_csv
from mis.settings import Settings

ARMS_TEMPLATE, OWN_TEMPLATE = "internvl", "own"
Contrast = tuple[tuple[str, ...], tuple[str, ...]]


class Measured(NamedTuple):
    """A number with its interval, where it has one, and what it was counted over."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Probed:
    """One arm of a model, or its language model as it came (`arm` is "bare"), asked in one chat template.

    `folders` are those of its seeds. A number is the mean over them; its interval reaches from the lowest bound to the
    highest.
    """

    model: str
    arm: str
    folders: tuple[Path, ...]
    template: str = ARMS_TEMPLATE

    @property
    def label(self) -> str:
        if self.arm != BARE:
            return names.method(self.arm)
        return "Bare language model" + (", its own template" if self.template == OWN_TEMPLATE else "")

    def knowledge(
        self, order: str, kind: str = "ranked", wording: str = NEUTRAL, table: str = FULL, value: str = "auc"
    ) -> Measured | None:
        """A value of a probe as a fraction: how well it tells hazardous relations from benign ones, say."""
        against = CONTROL if wording == CONTROL else "benign"
        where = {"template": self.template, "kind": kind, "order": order, "wording": wording, "table": table,
                 "against": against}  # fmt: skip
        return self._mean("knowledge_summary.csv", where, value)

    def behaviour(self, verdict: str, table: str = FULL) -> dict[str, int]:
        """Answers to an instruction, counted by outcome over all seeds; empty where none was asked."""
        rows = self._where("behaviour.csv", template=self.template, verdict=verdict, table=table)
        return {column: sum(int(row[column]) for row in rows) for column in BEHAVIOUR_COLUMNS[1:]} if rows else {}

    def separation(self, contrast: str, score: str = "score_sum", value: str = "auc") -> Measured | None:
        return self._mean("separation_summary.csv", {"contrast": contrast, "score": score}, value)

    def separated(self, contrast: Contrast, score: str = "score_sum") -> list[tuple[np.ndarray, np.ndarray]]:
        """(scores, which are of hazardous samples) of each seed, of the benchmarks on both sides of a contrast."""
        wanted, found = {name for side in contrast for name in side}, []
        for rows in self._files("separation.csv"):
            of = [row for row in rows if row["benchmark"] in wanted]
            if len({row["hazardous"] for row in of}) == 2:
                found.append((np.array([number(row, score) for row in of]),
                              np.array([row["hazardous"] == "1" for row in of])))  # fmt: skip
        return found

    def ability(self, measure: str) -> Measured | None:
        return self._mean("ability.csv", {"measure": measure}, "value")

    def relations(self, order: str, verdict: str) -> list[float]:
        """The ranked score of each relation, in neutral wording, averaged over seeds."""
        where = {"template": self.template, "kind": "ranked", "wording": NEUTRAL, "order": order, "verdict": verdict}
        scores: dict[str, list[float]] = {}
        for row in self._where("knowledge.csv", **where):
            scores.setdefault(row["relation"], []).append(number(row, "score"))
        return [float(np.mean(values)) for values in scores.values()]

    def _files(self, name: str) -> list[list[dict[str, str]]]:
        paths = [folder / name for folder in self.folders if (folder / name).is_file()]
        return [[{**row, "path": str(path)} for row in read_csv(path, COLUMNS[name])] for path in paths]

    def _where(self, name: str, **where: str) -> list[dict[str, str]]:
        rows = [row for file in self._files(name) for row in file]
        return [row for row in rows if all(row[column] == value for column, value in where.items())]

    def _mean(self, name: str, where: dict[str, str], value: str) -> Measured | None:
        rows = self._where(name, **where)
        if not rows:
            return None
        mean = float(np.mean([number(row, value) for row in rows]))
        n = int(rows[0]["n"]) if rows[0].get("n") else None
        if value not in ("auc", "value"):  # the bounds in the row are those of its estimate
            return Measured(mean, n=n)
        bounds = [(number(row, "low"), number(row, "high")) for row in rows]
        return Measured(mean, min(low for low, _ in bounds), max(high for _, high in bounds), n)


COLUMNS = {
    "knowledge.csv": ("template", "wording", "relation", "verdict", "kind", "order", "score"),
    "knowledge_summary.csv": ("template", "wording", "table", "kind", "order", "against", "auc", "low", "high",
                              "says_dangerous_hazardous", "says_dangerous_others", "accuracy"),
    "behaviour.csv": ("template", "table", *BEHAVIOUR_COLUMNS),
    "separation.csv": ("benchmark", "hazardous", "score_sum", "blind_sum"),
    "separation_summary.csv": ("contrast", "score", "auc", "low", "high", "warns_hazardous", "warns_harmless"),
    "ability.csv": ("measure", "n", "value", "low", "high"),
    # Points on the development split (`mis.probes.curves`): `value` of `what` was varied; rates in percent.
    "development": ("what", "value", "arm", "auc", "low", "high", "opening", "opening_low", "opening_high", "asr",
                    "over_flagging"),
}  # fmt: skip
# An AUC of the curves -> the columns of its interval.
BOUNDS = {"auc": ("low", "high"), "opening": ("opening_low", "opening_high")}


def number(row: dict[str, str], column: str) -> float:
    """A cell as a number; the error names the file and the line."""
    try:
        return float(row[column])
    except ValueError:
        place = f"{row['path']}, line {row['line']}"
        raise ReportError(f"{place}: {column} is {row[column]!r}, not a number; run `mis probe` again") from None


def curve_value(point: dict[str, str], column: str) -> Measured:
    """A value of the curves; with its interval, if it is an AUC."""
    return Measured(number(point, column), *(number(point, bound) for bound in BOUNDS.get(column, ())))


class Probes:
    """All that was measured of a run: the bare model first, then the arms in the configuration's order."""

    def __init__(self, settings: Settings):
        self.settings = settings

    @cached_property
    def all(self) -> list[Probed]:
        """The bare model in both templates, then the arms, model by model; those of which a file is there."""
        return [each for model in self.settings.models for each in self._of(model) if each.folders]

    def _of(self, model: str) -> Iterable[Probed]:
        bare = layout.probes(self.settings, model, None, BARE)
        there = (bare,) if bare.is_dir() else ()
        for template in (OWN_TEMPLATE, ARMS_TEMPLATE):
            yield Probed(model, BARE, there, template)
        for arm in (arm for arm in self.settings.arms_of(model) if not ARMS[arm].asks):
            folders = [layout.probes(self.settings, model, seed, arm) for seed in self.settings.seeds_of(model)]
            yield Probed(model, arm, tuple(folder for folder in folders if folder.is_dir()))

    @cached_property
    def development(self) -> list[dict[str, str]]:
        """The curves on the development split, a row a point; empty where none was drawn."""
        paths = sorted(layout.development(self.settings).glob("*.csv"))
        return [{**row, "path": str(path)} for path in paths for row in read_csv(path, COLUMNS["development"])]

    @cached_property
    def curves(self) -> dict[str, list[dict[str, str]]]:
        """The points of each curve, numbers in their order, then words."""
        curves: dict[str, list[dict[str, str]]] = {}
        for row in self.development:
            curves.setdefault(row["what"], []).append(row)
        return {what: sorted(points, key=on_axis) for what, points in curves.items()}


def on_axis(point: dict[str, str]) -> tuple[float, str]:
    """Where a point of a curve stands on its axis: numbers in their order, then words."""
    try:
        return float(point["value"]), ""
    except ValueError:
        return float("inf"), point["value"]


def roc(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(share of negatives, share of positives) at or above each threshold, from (0, 0) to (1, 1); ties are one step."""
    order = np.argsort(-scores, kind="stable")
    last = np.r_[np.diff(scores[order]) != 0, True]
    hits, misses = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    return np.r_[0, misses / misses[-1]], np.r_[0, hits / hits[-1]]
