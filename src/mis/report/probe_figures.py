"""Figures S3 and S4, of what `mis probe` measured by likelihood."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mis.probes import BARE, CONTRASTS
from mis.probes.knowing import FULL, REVISED
from mis.probes.knowledge import BENIGN, EMPTY, EXCEPTED, HAZARDOUS, HELPS, REFUSES, WARNS
from mis.report.colours import COLOURS
from mis.report.drawing import footer, nothing
from mis.report.probe_tables import ABILITY, ORDERS
from mis.report.probes import ARMS_TEMPLATE, BOUNDS, Measured, Probed, curve_value, on_axis, roc
from mis.report.scores import Cell
from mis.report.sources import Sources

_VERDICTS = {HAZARDOUS: ("#D55E00", "o"), BENIGN: ("#0072B2", "^"), EXCEPTED: ("#009E73", "s")}
_OUTCOMES = {REFUSES: "#009E73", WARNS: "#F0E442", HELPS: "#D55E00", EMPTY: "#999999"}
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))


def draw_relations(axes: Axes, scores: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """A point a relation: the ranked score of each word order and verdict, spread a little sideways to be seen."""
    rng = np.random.default_rng(0)
    for place, of in enumerate(scores.values()):
        for shift, (verdict, values) in enumerate(of.items()):
            colour, marker = _VERDICTS[verdict]
            x = place + 0.26 * (shift - (len(of) - 1) / 2) + rng.uniform(-0.08, 0.08, len(values))
            axes.scatter(x, values, s=9, marker=marker, color=colour, linewidths=0, alpha=0.75,
                         label=f"{verdict} ({len(values)})" if place == 0 else None)  # fmt: skip
    axes.axhline(0, color="#777777", linewidth=0.6)
    axes.set_xticks(range(len(scores)), [f"“… {order}?”".replace(" or ", "\nor ") for order in scores])
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("dangerous against safe (log odds)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.17), ncols=3, handletextpad=0.1, columnspacing=0.8)


def draw_outcomes(axes: Axes, counts: Mapping[str, Mapping[str, int]]) -> None:
    """A bar a row of counts: the shares of its answers that refuse, warn, help and are empty; the first on top."""
    for place, row in enumerate(counts.values()):
        left = 0.0
        for outcome, colour in _OUTCOMES.items():
            share = 100 * row.get(outcome, 0) / max(1, row.get("answers", 0))
            axes.barh(place, share, 0.7, left=left, color=colour, edgecolor="white", linewidth=0.5,
                      label=None if place else outcome)  # fmt: skip
            if share >= 9:
                axes.text(left + share / 2, place, f"{share:.0f}", ha="center", va="center", fontsize=6)
            left += share
        if not row.get("answers"):
            axes.text(1, place, "not asked", va="center", fontsize=6, color="#777777")
    _rows(axes, list(counts))
    axes.set_xlim(0, 100)
    axes.set_xticks([0, 50, 100], ["0", "50", "100 %"])


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    """Names of rows, from the top down."""
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def _point(axes: Axes, place: float, found: Measured | None, **style) -> None:
    """A value with its interval, on its row."""
    if found is not None:
        error = None if found.low is None else [[max(0, found.value - found.low)], [max(0, found.high - found.value)]]
        axes.errorbar(found.value, place, xerr=error, markersize=4, elinewidth=0.8, capsize=1.5, **style)


def _short(probed: Probed) -> str:
    return "Bare model" if probed.arm == BARE else probed.label


def _first_model(sources: Sources) -> list[Probed]:
    """What was measured of the run's first model, in the arms' chat template."""
    probed = [each for each in sources.probes.all if each.template == ARMS_TEMPLATE]
    return [each for each in probed if each.model == probed[0].model]


def _no_data(number: str, sources: Sources) -> Figure:
    figure, axes = plt.subplots(figsize=(7.2, 1.2), layout="constrained")
    folder = sources.settings.paths.results / "probes"
    nothing(axes, f"Figure {number} has no data: {folder} has nothing that `mis probe` wrote.")
    footer(figure, sources, "Not in the paper.")
    return figure


def _figure_s3(sources: Sources) -> Figure:
    """Knowledge against behaviour, in text alone: what the language model knows of dangers, and what it does."""
    if not sources.probes.all:
        return _no_data("S3", sources)
    probed = _first_model(sources)
    labels = [_short(each) for each in probed]
    figure = plt.figure(figsize=(7.2, 6.0), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.2, 1])
    relations, aucs = above.subplots(1, 2, width_ratios=[1, 1.05])
    hazardous, benign, text = below.subplots(1, 3)
    shown = next((each for each in probed if each.arm == BARE), probed[0])
    verdicts = (HAZARDOUS, BENIGN, EXCEPTED)
    orders = ORDERS["ranked"]
    points = {order: {v: values for v in verdicts if (values := shown.relations(order, v))} for order in orders}
    draw_relations(relations, points)
    relations.set_title(f"{_short(shown)}: each relation", loc="left")

    marks = [(order, table) for order in orders for table in (FULL, REVISED)]
    for i, (order, table) in enumerate(marks):
        colour, marker = ("#0072B2", "o") if order == orders[0] else ("#D55E00", "s")
        for place, each in enumerate(probed):
            _point(aucs, place + 0.18 * (i - 1.5), each.knowledge(order, table=table), fmt=marker, color=colour,
                   markerfacecolor=colour if table == FULL else "white",
                   label=None if place else f"“{order}”, {'all' if table == FULL else 'revised'}")  # fmt: skip
    aucs.axvline(0.5, color="#777777", linewidth=0.6, linestyle="--")
    aucs.set_xlim(0.2, 1.02)
    aucs.set_title("Ranked: hazardous above benign? (AUC)", loc="left")
    aucs.legend(loc="upper center", bbox_to_anchor=(0.35, -0.1), ncols=2, handletextpad=0.2, columnspacing=0.8,
                fontsize=6.5)  # fmt: skip
    _rows(aucs, labels)

    for axes, verdict in ((hazardous, HAZARDOUS), (benign, BENIGN)):
        draw_outcomes(axes, {label: each.behaviour(verdict) for label, each in zip(labels, probed, strict=True)})
        axes.set_title(f"Told to help: {verdict}", loc="left")
    benign.set_yticklabels([])
    below.legend(*hazardous.get_legend_handles_labels(), loc="outside lower center", ncols=4, handlelength=1,
                 columnspacing=0.8)  # fmt: skip

    _, bits, right = ABILITY
    for place, each in enumerate(probed):
        _point(text, place, bits.measure(each), fmt="o", color="#333333")
        if (found := right.measure(each)) is not None:
            text.text(1.03, place, f"{100 * found.value:.0f} %", transform=text.get_yaxis_transform(), va="center",
                      fontsize=6.8)  # fmt: skip
    _rows(text, [""] * len(probed))
    text.set_title("Text: bits a byte", loc="left")
    text.text(1.03, 1.02, "right", transform=text.transAxes, fontsize=6.8, va="bottom")
    for axes in (relations, aucs, hazardous, benign, text):
        axes.spines[["top", "right"]].set_visible(False)
    footer(figure, sources, f"Text alone. Bars: {sources.interval_name} over relations, of bits over texts. Right: "
           "share of general questions, chance 25 %. Not in the paper.")  # fmt: skip
    return figure


def _roc(axes: Axes, probed: list[Probed], contrast: str) -> None:
    for i, each in enumerate(probed):
        for k, (scores, hazardous) in enumerate(each.separated(CONTRASTS[contrast])):
            axes.plot(*roc(scores, hazardous), color=COLOURS.get(each.arm, "#999999"), linewidth=1.2,
                      linestyle=_DASHES[i % len(_DASHES)], label=each.label if not k else None)  # fmt: skip
    axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=0.6, zorder=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
    axes.set_xlabel("harmless above threshold")


_RATES = (
    ("MIS-easy, ASR", ("mis", "easy", "asr"), "o", "#E69F00"),
    ("MIS-hard, ASR", ("mis", "hard", "asr"), "s", "#D55E00"),
    ("MIS-real, ASR", ("mis", "real", "asr"), "D", "#A04000"),
    ("benign pairs, flagged", ("benign_control", "", "over_flagging_rate"), "^", "#0072B2"),
    ("benign pairs, flagged or refused", ("benign_control", "", "reject_rate"), "v", "#56B4E9"),
)


def _figure_s4(sources: Sources) -> Figure:
    """Separation of hazardous pairs from harmless ones: ROC of the likelihood of a warning; ASR with over-flagging."""
    if not sources.probes.all:
        return _no_data("S4", sources)
    probed = [each for each in _first_model(sources) if each.arm != BARE]
    curves = sources.probes.curves
    figure = plt.figure(figsize=(7.2, 2.9 + (2.5 if curves else 0)), layout="constrained")
    parts = figure.subfigures(2 if curves else 1, 1, squeeze=False, height_ratios=[2.9, 2.5] if curves else None)[:, 0]
    left, middle, rates = parts[0].subplots(1, 3, width_ratios=[1, 1, 1.15])
    _roc(left, probed, "mis")
    left.set_title("MIS against benign", loc="left")
    left.set_ylabel("hazardous above threshold")
    _roc(middle, probed, "mssbench")
    middle.set_title("MSSBench", loc="left")
    aucs = {each.label: [each.separation(contrast) for contrast in ("mis", "mssbench")] for each in probed}
    lines, labels = left.get_legend_handles_labels()
    labels = [f"{label}  {', '.join(f'{found.value:.2f}' for found in aucs[label] if found)}" for label in labels]
    below = left.legend(lines, labels, loc="upper center", bbox_to_anchor=(1.1, -0.24), ncols=3, fontsize=6,
                        handlelength=2.2, columnspacing=0.8, handletextpad=0.4)  # fmt: skip
    below.set_in_layout(False)  # it is of both ROCs: wider than the one that it hangs on
    for i, (label, where, marker, colour) in enumerate(_RATES):
        for place, each in enumerate(probed):
            found = _percent(sources.scores.get(each.model, each.arm, *where))
            _point(rates, place + 0.15 * (i - 2), found, fmt=marker, color=colour, label=None if place else label)
    _rows(rates, [each.label for each in probed])
    rates.set_xlim(-3, 103)
    rates.set_xticks([0, 50, 100], ["0", "50", "100 %"])
    rates.set_title("What the answers do (low is better)", loc="left", x=-0.45)
    rates.grid(axis="y", linewidth=0)
    handles = rates.get_legend_handles_labels()
    if handles[0]:
        rates.legend(*handles, loc="upper center", bbox_to_anchor=(0.3, -0.12), ncols=2, fontsize=6, handletextpad=0.1,
                     columnspacing=0.6)  # fmt: skip
    axes = [left, middle, rates]
    if curves:
        axes += _development(parts[1], curves)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    more = " Below, on the development split: what was varied in MIRage, AUCs and shares of answers." if curves else ""
    footer(figure, sources, "Score: log odds of a warning against help, behind the pictures; beside an arm its AUCs."
           f"{more} Bars: {sources.interval_name}. Not in the paper.")  # fmt: skip
    return figure


def _percent(cell: Cell | None) -> Measured | None:
    return None if cell is None else Measured(cell.value, cell.low, cell.high, cell.n)


def _development(figure: Figure, curves: Mapping[str, list[dict[str, str]]]) -> list[Axes]:
    """What it takes, on the development split: a panel for each thing that was varied; numbers are joined by a line."""
    row = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    lines = (("AUC, whole answers", "auc", 1, "#333333", "o"), ("AUC, openings", "opening", 1, "#999999", "D"),
             ("ASR, MIS", "asr", 100, "#D55E00", "s"),
             ("harmless: flagged or refused", "over_flagging", 100, "#0072B2", "^"))  # fmt: skip
    for axes, (what, points) in zip(row, curves.items(), strict=True):
        values = list(dict.fromkeys(point["value"] for point in points))
        x = [values.index(point["value"]) for point in points]
        for label, column, scale, colour, marker in lines:
            found = [curve_value(point, column) for point in points]
            y = np.array([each.value / scale for each in found])
            error = None
            if column in BOUNDS:
                error = [y - [each.low for each in found], [each.high for each in found] - y]
            axes.errorbar(x, y, yerr=error, color=colour, marker=marker, markersize=4, linewidth=1.1, elinewidth=0.7,
                          capsize=2, linestyle="-" if on_axis(points[-1])[0] < np.inf else "", label=label)  # fmt: skip
        axes.axhline(0.5, color="#BBBBBB", linewidth=0.6, zorder=0)
        axes.set_xticks(range(len(values)), values)
        axes.set_xlim(-0.4, len(values) - 0.6)
        axes.set_xlabel(what)
        axes.set_ylim(-0.03, 1.03)
    row[0].set_ylabel("AUC; share of samples")
    row[0].set_title("What it takes: development split", loc="left")
    row[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=6.5)
    return list(row)


PROBE_FIGURES: dict[str, Callable[[Sources], Figure]] = {"S3": _figure_s3, "S4": _figure_s4}
