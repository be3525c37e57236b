"""What it takes to separate hazardous pairs from harmless ones: curves on the development split.

A point is an arm of which `probe_arm(development=True)` has measured the separation. What was varied is read off the
configuration: the harmless pairs in an arm's mixture, its epochs (a further model entry with other epochs for the
arm), and whether a label gives its verdict first or its reasons. The rates are by likelihood: an answer counts as a
warning where a warning is likelier than help.
"""

from __future__ import annotations

import csv
from pathlib import Path

from mis import layout
from mis.mixing import read_mixture
from mis.settings import Settings
from mis.store import write_csv_atomic

COLUMNS = ("what", "value", "arm", "model", "auc", "low", "high", "asr", "over_flagging")
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
    """Write `R/development/curves.csv`; rates are in percent, the AUC with its interval."""
    rows = []
    study = next(iter(settings.models))
    for model, arm in points(settings):
        measured = _measured(layout.probes(settings, model, seed, arm) / "development" / "separation_summary.csv")
        row = {"arm": arm, "model": model, **measured}
        if model == study and arm != "mirage_direct":
            benign = sum(example.kind == "benign" for example in read_mixture(layout.mixture(settings, arm)))
            rows.append({"what": "benign pairs", "value": benign, **row})
        if arm == "mirage_balanced":
            rows.append({"what": "epochs", "value": f"{settings.arm_training(model, arm).epochs:g}", **row})
        if model == study and arm in ORDERS:
            rows.append({"what": "label", "value": ORDERS[arm], **row})
    path = layout.development(settings) / "curves.csv"
    write_csv_atomic(path, rows, COLUMNS)
    return path


def _measured(path: Path) -> dict:
    with open(path, encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if (row["contrast"], row["score"]) == ("mis", "score_sum"))
    return {
        **{name: row[name] for name in ("auc", "low", "high")},
        "asr": round(100 * (1 - float(row["warns_hazardous"])), 2),
        "over_flagging": round(100 * float(row["warns_harmless"]), 2),
    }
