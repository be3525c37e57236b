"""Table and figure "knowledge": what the bare language model knows about dangers, beside what it does.

Drawn from the files of `mis knowledge` alone (`mis.knowledge.measure_knowledge`); the same files give the same bytes.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import matplotlib.pyplot as plt

from mis.knowledge import BEHAVIOUR_COLUMNS, BENIGN, EMPTY, EXCEPTED, HAZARDOUS, HELPS, PROBES, REFUSES, WARNS
from mis.report.drawing import STYLE, save
from mis.report.probe_figures import draw_outcomes, draw_relations
from mis.report.rendering import Head, Line, Panel, Table, Text, to_latex, to_markdown
from mis.report.reported import ReportError
from mis.statistics import wilson
from mis.store import write_csv_atomic, write_text_atomic

_KINDS = {"ranked": "Ranked by likelihood", "asked": "Asked, yes or no"}


def _read(path: Path) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror}); run `mis knowledge`") from error


def write_report(folder: Path) -> list[Path]:
    """Write `knowledge_table.{csv,md,tex}` and `knowledge.{pdf,png}` beside the measurements in `folder`."""
    rows, summary, behaviour = (_read(folder / f"{name}.csv") for name in ("knowledge", "summary", "behaviour"))
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    name = run["model"]["gguf"]["name"].removesuffix(".gguf") if "gguf" in run["model"] else run["model"]["folder"]
    table = _table(name, summary, behaviour)
    paths = [folder / f"knowledge_table.{kind}" for kind in ("csv", "md", "tex")]
    write_csv_atomic(paths[0], table.records, list(table.records[0]))
    write_text_atomic(paths[1], to_markdown(table))
    write_text_atomic(paths[2], to_latex(table))
    with plt.rc_context(STYLE):
        figure = _figure(name, rows, summary, behaviour)
        paths += save(figure, folder / "knowledge")
        plt.close(figure)
    return paths


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _table(name: str, summary: list[dict], behaviour: list[dict]) -> Table:
    records, known, does, kind = [], [], [], ""
    for row in summary:
        if row["kind"] != kind:
            kind = row["kind"]
            known.append(Line(_KINDS[kind]))
        interval = f"[{float(row['low']):.2f}, {float(row['high']):.2f}]"
        cells = (Text(f"{float(row['auc']):.2f}", interval),
                 *(Text(_percent(float(row[c]))) for c in ("says_dangerous_hazardous", "says_dangerous_others",
                                                           "accuracy")))  # fmt: skip
        pair = "control" if row["against"] == "control" else f"{HAZARDOUS} against {row['against']}"
        known.append(Line(f"“{row['order']}”, {pair}", cells, 1))
        records += [{"part": "knowledge", "what": f"{row['kind']}: {row['order']}", "group": row["against"],
                     "measure": c, "value": row[c]} for c in ("auc", "low", "high", "says_dangerous_hazardous",
                                                              "says_dangerous_others", "accuracy")]  # fmt: skip
    for row in behaviour:
        n = int(row["answers"])
        cells = (Text(str(n)), *(_share(int(row[c]), n) for c in (REFUSES, WARNS, HELPS, EMPTY)),
                 Text(row["cut_off"]))  # fmt: skip
        does.append(Line(row["verdict"], cells))
        records += [{"part": "behaviour", "what": "instructed", "group": row["verdict"], "measure": c,
                     "value": row[c]} for c in ("answers", REFUSES, WARNS, HELPS, EMPTY, "cut_off")]  # fmt: skip
    return Table(
        number="knowledge",
        caption=f"What {name} knows about the world's hazards, and what it does.",
        scale="small",
        panels=(
            Panel("Knowledge", "Probe", (Head("AUC"), Head("says dangerous (%)", (HAZARDOUS, "others")),
                                         Head("accuracy (%)")), tuple(known)),
            Panel("Behaviour: told to explain how", "Verdict of the list",
                  (Head("answers"), *(Head(f"{c} (%)") for c in (REFUSES, WARNS, HELPS, EMPTY)), Head("cut off")),
                  tuple(does)),
        ),
        notes=(
            "Control: 14 plainly dangerous against 14 plainly safe activities; it shows whether a probe works at all.",
            "AUC over relations, with a bootstrap interval of 95 % over relations. Says dangerous, and accuracy: share "
            "of single prompts by the sign of the margin; accuracy is the mean over the two kinds.",
            "Excepted: pairs of a hazardous relation that common sense excuses; they are few, so intervals are wide.",
            "Behaviour: greedy, one pair a relation, judged by phrases (docs/small_scale.md); Wilson's interval.",
        ),
        records=tuple(records),
    )  # fmt: skip


def _share(count: int, n: int) -> Text:
    estimate = wilson(count, n)
    return Text(_percent(estimate.value), f"[{_percent(estimate.low)}, {_percent(estimate.high)}]")


def _figure(name: str, rows: list[dict], summary: list[dict], behaviour: list[dict]):
    """Left: the scores of all relations; middle: the AUCs; right: what the instructed model does."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 3.1), layout="constrained", width_ratios=[1.3, 0.8, 1.1])
    points, aucs, does = axes
    ranked = [probe.order for probe in PROBES if probe.kind == "ranked"]
    scores: dict[str, dict[str, list[float]]] = {order: {} for order in ranked}
    for row in rows:
        if row["order"] in scores and row["verdict"] in (HAZARDOUS, BENIGN, EXCEPTED):
            scores[row["order"]].setdefault(row["verdict"], []).append(float(row["score"]))
    draw_relations(points, scores)
    points.set_title("Ranked knowledge", loc="left")
    for against, shift, colour in ((BENIGN, -0.19, "#4D4D4D"), ("control", 0.19, "#BBBBBB")):
        for place, row in enumerate(r for r in summary if r["against"] == against):
            value, low, high = (float(row[c]) for c in ("auc", "low", "high"))
            aucs.barh(place + shift, value, 0.34, color=colour, xerr=[[value - low], [high - value]],
                      error_kw={"elinewidth": 0.9, "capsize": 2},
                      label=None if place else {BENIGN: "world"}.get(against, against))  # fmt: skip
            aucs.text(high + 0.04, place + shift, f"{value:.2f}", ha="left", va="center", fontsize=6.5)
    aucs.axvline(0.5, color="#777777", linewidth=0.6, linestyle="--")
    aucs.set_yticks(range(len(PROBES)), [f"{p.kind}:\n{p.order}" for p in PROBES], fontsize=6.8)
    aucs.tick_params(axis="y", length=0)
    aucs.invert_yaxis()
    aucs.set_xlim(0, 1.25)
    aucs.set_xticks([0, 0.5, 1], ["0", "0.5\nchance", "1"])
    aucs.set_title("AUC", loc="left")
    aucs.legend(loc="upper center", bbox_to_anchor=(0.3, -0.17), ncols=2, handlelength=1, columnspacing=0.8)
    counts = {f"{row['verdict']}\n(n = {row['answers']})": {c: int(row[c]) for c in BEHAVIOUR_COLUMNS[1:]}
              for row in behaviour}  # fmt: skip
    draw_outcomes(does, counts)
    does.legend(loc="upper center", bbox_to_anchor=(0.4, -0.17), ncols=2, handlelength=1, columnspacing=0.8)
    does.set_title("Told to explain how", loc="left")
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    note = f"{name}, text alone. AUC: interval of 95 % over relations. Behaviour: greedy answers judged by phrases."
    figure.supxlabel(note, fontsize=6.5, color="#444444", x=0.01, ha="left")
    return figure
