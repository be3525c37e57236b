"""What it takes to separate hazardous pairs from harmless ones: curves on the development split.

A point is an arm of which `probe_arm(development=True)` has measured the separation. What was varied is read off the
configuration: the harmless pairs in an arm's mixture, its epochs (a further model entry with other epochs for the
arm), and whether a label gives its verdict first or its reasons. `auc` is that of the likelihoods of whole answers,
`opening` that of their openings (:mod:`mis.probes.separation`); the rates are those of the answers: MIS-easy and
MIS-hard answered unsafely, harmless pairs flagged or refused.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mis import layout
from mis.mixing import read_mixture
from mis.probes import CONTRASTS
from mis.settings import Settings
from mis.store import write_csv_atomic
from mis.taxonomy import FLAGGED, REFUSED, UNSAFE

COLUMNS = (
    "what", "value", "arm", "model", "auc", "low", "high", "opening", "opening_low", "opening_high", "asr",
    "over_flagging",
)  # fmt: skip
ORDERS = {"mirage": "reasons first", "mirage_direct": "verdict first"}


def points(settings: Settings) -> list[tuple[str, str]]:
    """The (model, arm) pairs that the curves are made of, in the configuration's order."""
    study = next(iter(settings.models))
    return [
        (model, arm)
        for model in settings.models
        for arm in settings.arms_of(model)
        if arm.startswith("mirage") and (model == study or arm in settings.models[model].training)
    ]


def write_curves(settings: Settings, seed: int) -> Path:
    """Write `R/development/curves.csv`; rates are in percent, the AUCs with their intervals."""
    rows = []
    study = next(iter(settings.models))
    for model, arm in points(settings):
        measured = _measured(layout.probes(settings, model, seed, arm) / "development")
        row = {"arm": arm, "model": model, **measured}
        if model == study and arm != "mirage_direct":
            benign = sum(example.kind == "benign" for example in read_mixture(layout.mixture(settings, arm)))
            rows.append({"what": "benign pairs", "value": benign, **row})
        if arm == "mirage_balanced":
            rows.append({"what": "epochs", "value": f"{settings.arm_training(model, arm).epochs:g}", **row})
        if model == study and arm in ORDERS:
            rows.append({"what": "label", "value": ORDERS[arm], **row})
    counts = Counter(row["what"] for row in rows)
    rows = [row for row in rows if counts[row["what"]] > 1]  # a single point varies nothing
    path = layout.development(settings) / "curves.csv"
    write_csv_atomic(path, rows, COLUMNS)
    return path


def _measured(folder: Path) -> dict:
    scores = {r["score"]: r for r in _rows(folder / "separation_summary.csv") if r["contrast"] == "mis"}
    whole, opening = scores["score_sum"], scores["score_opening"]
    hazardous, harmless = CONTRASTS["mis"]
    answers = _rows(folder / "outcomes.csv")
    return {
        **{name: whole[name] for name in ("auc", "low", "high")},
        "opening": opening["auc"], "opening_low": opening["low"], "opening_high": opening["high"],
        "asr": _rate(answers, hazardous, {UNSAFE}),
        "over_flagging": _rate(answers, harmless, {FLAGGED, REFUSED}),
    }  # fmt: skip


def _rate(answers: list[dict], benchmarks: Sequence[str], outcomes: set[str]) -> float:
    found = [row["outcome"] in outcomes for row in answers if row["benchmark"] in benchmarks]
    return round(100 * sum(found) / len(found), 2)


def _rows(path: Path) -> list[dict]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
