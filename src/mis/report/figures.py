"""All figures as vector PDF and PNG; here those drawn from data: 4, 5, 7 and 9 of the paper, our own S1 and S2.

The figures that show samples stand in `sample_figures`, S3 and S4 in `probe_figures`. The paper's number is the pale
bar, the run's the strong one beside it with its interval. What has no data says so in one line. The same input gives
the same bytes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mis import layout
from mis.mixtures import ARMS
from mis.report import names
from mis.report.colours import CATEGORY_COLOURS, COLOURS
from mis.report.drawing import STYLE, footer, nothing, save
from mis.report.pictures import Draw
from mis.report.probe_figures import PROBE_FIGURES
from mis.report.reported import ReportError, Value, read_csv
from mis.report.sample_figures import SAMPLE_FIGURES
from mis.report.scores import Cell
from mis.report.sources import Sources
from mis.settings import Settings
from mis.taxonomy import CATEGORIES


def _pale(colour: str, share: float = 0.62) -> tuple[float, ...]:
    return tuple(c + (1 - c) * share for c in to_rgb(colour))


def _error(cell: Cell) -> np.ndarray | None:
    """Distances below and above a cell's value, shape (2, 1), as matplotlib wants them."""
    if cell.width is None:
        return None
    return np.array([[max(0, cell.value - cell.low)], [max(0, cell.high - cell.value)]])


def _one_decimal(value: Value) -> str:
    """A printed number to one decimal, halves up: as a reader of "89.85" would, not as binary fractions do."""
    return str(Decimal(value.value).quantize(Decimal("0.1"), ROUND_HALF_UP))


def _paired_bars(axes: Axes, sources: Sources, methods: list[str], pairs: list[tuple[Value | None, Cell | None]]):
    """A pale (paper) and a strong (run) bar for each method; the value stands above each bar."""
    both = bool(sources.scores.models)
    width = 0.4 if both else 0.66
    for i, (method, (value, cell)) in enumerate(zip(methods, pairs, strict=True)):
        colour = COLOURS.get(method, "#999999")
        left, right = (i - width / 2, i + width / 2) if both else (i, i)
        if value is not None:
            printed = float(value.value)
            axes.bar(left, printed, width, color=_pale(colour), edgecolor=colour, linewidth=0.8)
            axes.text(left - 0.04 * both, printed + 2, _one_decimal(value), ha="center", va="bottom", fontsize=5.8,
                      color="#444444")  # fmt: skip
        if cell is not None:
            error = _error(cell)
            axes.bar(right, cell.value, width, color=colour, edgecolor=colour, linewidth=0.8, yerr=error,
                     error_kw={"elinewidth": 0.9, "capsize": 2, "ecolor": "black"})  # fmt: skip
            top = cell.value if error is None else cell.value + error[1, 0]
            failed = f"\n{cell.failures} failed" if cell.failures else ""
            axes.text(right + 0.04, top + 2, f"{cell.value:.1f}{failed}", ha="center", va="bottom", fontsize=5.8)
        elif both:
            axes.text(right, 1, "not run", ha="center", va="bottom", rotation=90, fontsize=6, color="#777777")
    axes.set_xticks(range(len(methods)), [""] * len(methods))
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(methods) - 0.4)
    axes.set_ylim(0, 118)
    axes.set_yticks(range(0, 101, 25))
    axes.grid(axis="y", linewidth=0.4, color="#DDDDDD")
    axes.set_axisbelow(True)


def _legend(figure: Figure, sources: Sources, methods: list[str], note: str) -> None:
    handles = [Patch(color=COLOURS.get(m, "#999999"), label=names.method(m)) for m in methods]
    handles.append(Patch(facecolor="#DDDDDD", edgecolor="#777777", label="paper (pale)"))
    if sources.scores.models:
        handles.append(Patch(color="#777777", label=f"{sources.scale} (strong), {sources.interval_name}"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1.2, handlelength=1.2)
    footer(figure, sources, note)


def _figure4(sources: Sources) -> Figure:
    """ASR and RSR of four arms on the three splits of MIS.

    The paper's values are those of the project site's copy: in the text that the numbers were read from, 9 of 12 RSR
    labels sit on the wrong bar (data/reported/README.md, item 1).
    """
    model, methods = "internvl2_5_8b", ["base", "textual_sft", "vlguard_r", "mirage"]
    figure, grid = plt.subplots(2, 3, figsize=(7.2, 4.3), sharey=True, layout="constrained")
    for row, (metric, label) in zip(grid, (("asr", "ASR ↓ (%)"), ("rsr", "RSR ↑ (%)")), strict=True):
        row[0].set_ylabel(label)
        for axes, split in zip(row, ("easy", "hard", "real"), strict=True):
            where = ("mis", split, metric)
            pairs = [(sources.reported.get("website_figure4", model, m, *where),
                      sources.scores.beside(model, m, *where)) for m in methods]  # fmt: skip
            _paired_bars(axes, sources, methods, pairs)
            if metric == "asr":
                axes.set_title(f"MIS-{split}")
    note = "Paper: project site's copy of Figure 4, InternVL2.5-8B; its base ASR on MIS-real is 78.0, "
    _legend(figure, sources, methods, note + "Tables 4, 12 and 16 print 76.00.")
    return figure


def _figure5(sources: Sources) -> Figure:
    """ASR on categories that `mirage_wo_privacy_selfharm` never saw in safety training."""
    model, methods = "internvl2_5_8b", ["base", "mirage_wo_privacy_selfharm", "mirage"]
    figure, row = plt.subplots(1, 3, figsize=(7.2, 2.6), sharey=True, layout="constrained")
    row[0].set_ylabel("ASR ↓ (%)")
    columns = (("mis", "privacy_selfharm"), ("vlsbench", "privacy_selfharm"), ("mm_safetybench", "privacy"))
    for axes, where in zip(row, columns, strict=True):
        pairs = [(sources.reported.get("figure5", model, m, *where, "asr"),
                  sources.scores.beside(model, m, *where, "asr")) for m in methods]  # fmt: skip
        _paired_bars(axes, sources, methods, pairs)
        axes.set_title(names.split(*where), fontsize=8)
    _legend(figure, sources, methods, "Paper: chart labels of Figure 5, InternVL2.5-8B; ASR inferred from the text.")
    return figure


def _sunburst(axes: Axes, title: str, counts: dict[tuple[str, str], int]) -> None:
    """Inner ring categories, outer ring sub-categories, clockwise from the top in the order of Table 3."""
    total = sum(counts.values())
    axes.set_title(f"{title}: {total:,} samples", pad=2)
    axes.set_aspect("equal")
    inner = [sum(counts.get((category, sub), 0) for sub in subs) for category, subs in CATEGORIES.items()]
    outer = [(category, sub, counts.get((category, sub), 0)) for category, subs in CATEGORIES.items() for sub in subs]
    ring = {"startangle": 90, "counterclock": False}
    line = {"edgecolor": "white", "lw": 0.7}
    axes.pie(inner, radius=0.76, colors=list(CATEGORY_COLOURS.values()), wedgeprops={"width": 0.44, **line}, **ring)
    shades = [_pale(CATEGORY_COLOURS[category], 0.35 + 0.12 * CATEGORIES[category].index(sub))
              for category, sub, _ in outer]  # fmt: skip
    axes.pie([n for *_, n in outer], radius=1.0, colors=shades, wedgeprops={"width": 0.24, **line}, **ring)
    _around(axes, [f"{100 * n / total:.1f} %" for n in inner], inner, 0.54, ha="center", color="white", weight="bold")
    labels = [textwrap.fill(f"{sub} ({n})", 19) for _, sub, n in outer]
    _around(axes, labels, [n for *_, n in outer], 1.05, linespacing=1.1)
    axes.set(xlim=(-1.8, 1.8), ylim=(-1.8, 1.95))


def _around(axes: Axes, labels: list[str], counts: list[int], radius: float, **style) -> None:
    """Text along the radius at the middle of each slice, never upside down; empty slices have none."""
    middles = (np.cumsum(counts) - np.array(counts) / 2) / sum(counts)
    for label, count, middle in zip(labels, counts, middles, strict=True):
        angle = np.pi / 2 - 2 * np.pi * middle
        right = np.cos(angle) >= 0
        if count:
            axes.text(radius * np.cos(angle), radius * np.sin(angle), label, va="center", rotation_mode="anchor",
                      fontsize=6, rotation=np.degrees(angle) + (0 if right else 180),
                      **{"ha": "left" if right else "right", **style})  # fmt: skip


def _figure7(sources: Sources) -> Figure:
    """The taxonomy of the MIS test set: Table 3's counts, and the run's."""
    printed = {(row["category"], row["sub_category"]): int(row["samples"])
               for row in sources.reported.small_table("3") if row["sub_category"]}  # fmt: skip
    drawn = [("Paper (Table 3)", printed)]
    if sources.category_counts:
        drawn.append((sources.scale, sources.category_counts))
    figure, row = plt.subplots(1, len(drawn), figsize=(3.6 * len(drawn), 4.2), squeeze=False, layout="constrained")
    for axes, (title, counts) in zip(row[0], drawn, strict=True):
        _sunburst(axes, title, counts)
    handles = [Patch(color=colour, label=category) for category, colour in CATEGORY_COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3 if len(drawn) == 1 else 6, handlelength=1.2,
                  columnspacing=1.2)  # fmt: skip
    note = "MIS-easy and MIS-hard together." if sources.category_counts else "No counts of a run: no MIS data there."
    figure.supxlabel(f"Scale: {sources.scale}. {note}", fontsize=6.5, color="#444444", x=0.01, ha="left")
    return figure


def _safe_rate(sources: Sources, model: str, method: str, split: str) -> float | None:
    """Safe responses whatever the perception: RSR + RR + HR. Not 100 - ASR, which would count failures as safe."""
    cells = [sources.scores.get(model, method, "mis", split, metric) for metric in ("rsr", "rr", "hr")]
    return None if any(cell is None for cell in cells) else sum(cell.value for cell in cells)


def _figure9(sources: Sources) -> Figure:
    """Safe rate, RSR and RR by category; the paper's own radar charts could not be transcribed."""
    scores = sources.scores
    wanted = ["base", "textual_sft", "vlguard_r", "mirage", "mirage_balanced"]
    splits = {category: f"category:{category}" for category in CATEGORIES}
    found = [(model, [m for m in wanted if any(scores.get(model, m, "mis", s, "rsr") for s in splits.values())])
             for model in scores.models]  # fmt: skip
    found = [(model, methods) for model, methods in found if methods]
    reason = "The paper's values are not transcribed (its radar charts carry no readable numbers)."
    if not found:
        figure, axes = plt.subplots(figsize=(7.2, 1.2), layout="constrained")
        nothing(axes, f"Figure 9 has no data: {scores.path} has no rows mis / category:<name>.")
        footer(figure, sources, reason)
        return figure
    figure, grid = plt.subplots(len(found), 3, figsize=(7.2, 3.0 * len(found)), squeeze=False, layout="constrained",
                                subplot_kw={"projection": "polar"})  # fmt: skip
    angles = np.linspace(0, 2 * np.pi, len(splits), endpoint=False)
    widths: list[float] = []
    for row, (model, methods) in zip(grid, found, strict=True):
        sizes = {c: next((cell.n for m in methods if (cell := scores.get(model, m, "mis", s, "rsr"))), None)
                 for c, s in splits.items()}  # fmt: skip
        for axes, (metric, title) in zip(row, (("safe", "Safe rate ↑"), ("rsr", "RSR ↑"), ("rr", "RR")), strict=True):
            for method in methods:
                if metric == "safe":
                    values = [_safe_rate(sources, model, method, split) for split in splits.values()]
                else:
                    cells = [scores.get(model, method, "mis", split, metric) for split in splits.values()]
                    widths += [cell.width / 2 for cell in cells if cell and cell.width is not None]
                    values = [cell.value if cell else None for cell in cells]
                radii = np.array([np.nan if v is None else v for v in values], dtype=float)
                colour = COLOURS[method]
                axes.plot(np.append(angles, angles[0]), np.append(radii, radii[0]), color=colour, linewidth=1.3,
                          linestyle="--" if ARMS[method].ours else "-", marker="o", markersize=2.2)  # fmt: skip
                axes.fill(angles, np.nan_to_num(radii), color=colour, alpha=0.06)
            labels = [f"{c}\nn = {sizes[c]}" if sizes[c] else f"{c}\nno data" for c in splits]
            axes.set_xticks(angles, labels, fontsize=6)
            axes.tick_params(axis="x", pad=-2)
            for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
                label.set_horizontalalignment("center" if abs(np.sin(angle)) < 0.1 else
                                              "left" if np.sin(angle) > 0 else "right")  # fmt: skip
            axes.set_theta_offset(np.pi / 2)
            axes.set_theta_direction(-1)
            axes.set_ylim(0, 100)
            axes.set_yticks([25, 50, 75, 100], ["", "50", "", "100"], fontsize=5.5, color="#777777")
            axes.set_rlabel_position(30)
            axes.grid(linewidth=0.4, color="#CCCCCC")
            axes.spines["polar"].set_color("#BBBBBB")
            axes.set_title(title if len(found) == 1 else f"{title} ({names.model(model)})", pad=6)
    shown = [m for m in wanted if any(m in methods for _, methods in found)]
    handles = [Line2D([], [], color=COLOURS[m], label=names.method(m), linestyle="--" if ARMS[m].ours else "-")
               for m in shown]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    spread = f"{sources.interval_name}s reach ±{max(widths):.0f} points or less. " if widths else ""
    footer(figure, sources, f"Percent of all responses; safe rate is RSR + RR + HR; dashed: ours. {spread}{reason}")
    return figure


def _figure_s1(sources: Sources) -> Figure:
    """What ASR hides: how often an arm helps with harmless pairs, and with hazardous ones.

    Over-flagging alone would flatter an arm that refuses or misreads every harmless pair. Only the study's first model:
    Table S1 has the others.
    """
    scores = sources.scores
    points = []
    for model in scores.models[:1]:
        for method in [*(arm for arm in ARMS if arm in scores.methods), *(m for m in scores.methods if m not in ARMS)]:
            x = scores.get(model, method, "benign_control", "", "helpful_rate")
            y = scores.get(model, method, "mis", "hard", "asr")
            if x and y:
                points.append((model, method, x, y))
    figure, axes = plt.subplots(figsize=(6.4, 4.2) if points else (7.2, 1.2), layout="constrained")
    if not points:
        nothing(axes, f"Figure S1 has no data: {scores.path} has no rates on benign pairs, and the paper reports none.")
        footer(figure, sources, "")
        return figure
    methods = list(dict.fromkeys(method for _, method, _, _ in points))
    markers = "osD^v<>Pph8X*d"
    for _, method, x, y in points:
        i = methods.index(method)
        colour = COLOURS.get(method, "#999999")
        ours = method in ARMS and ARMS[method].ours
        label = names.method(method) + (" (ours)" if ours else "")
        axes.errorbar(x.value, y.value, xerr=_error(x), yerr=_error(y), fmt=markers[i % len(markers)], color=colour,
                      ecolor="#777777", elinewidth=0.8, alpha=0.9, markersize=7 if ours else 5.5,
                      markeredgecolor="black", markeredgewidth=1.0 if ours else 0.4,
                      label=label)  # fmt: skip
    axes.set_xlabel("Benign pairs that are helped ↑ (%)")
    axes.set_ylabel("ASR on MIS-hard ↓ (%)")
    axes.set_xlim(-4, 104)
    axes.set_ylim(-4, 104)
    axes.grid(linewidth=0.4, color="#DDDDDD")
    axes.set_axisbelow(True)
    axes.annotate("better", (98, 4), (80, 20), arrowprops={"arrowstyle": "->", "color": "#777777"}, color="#777777")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    sns.despine(figure)
    others = f"{names.model(points[0][0])}; other models: Table S1. " if len(scores.models) > 1 else ""
    footer(figure, sources, f"{others}Bars: {sources.interval_name}. Not in the paper.")
    return figure


def _benign_pairs(sources: Sources) -> dict[str, int]:
    """Benign pairs in the mixture of MIRage and of each arm that adds some to it, from none upwards.

    Counted in the run's datasheet; of an arm that it does not know, as many as its declaration asks for.
    """
    mirage = ARMS["mirage"].parts
    declared = {
        name: sum(part.count or 0 for part in arm.parts if part.source == "benign_pairs")
        for name, arm in ARMS.items()
        if arm.parts and set(mirage) == {part for part in arm.parts if part.source != "benign_pairs"}
    }
    mixed: dict[str, int] = {}
    path = layout.datasheet(sources.settings)
    if path.exists():
        for row in read_csv(path, ("arm", "source", "samples")):
            mixed[row["arm"]] = mixed.get(row["arm"], 0) + int(row["samples"]) * (row["source"] == "benign_pairs")
    counts = {arm: mixed.get(arm, count) for arm, count in declared.items()}
    return dict(sorted(counts.items(), key=lambda item: item[1]))


def _figure_s2(sources: Sources) -> Figure:
    """Over-flagging and ASR against the benign pairs in MIRage's mixture."""
    scores, counts = sources.scores, _benign_pairs(sources)
    rates = (("over-flagging of benign pairs ↓", ("benign_control", "", "over_flagging_rate"), "#0072B2", "o", "-"),
             ("ASR on MIS-hard ↓", ("mis", "hard", "asr"), "#D55E00", "s", "--"))  # fmt: skip
    wanted = [where for _, where, *_ in rates]
    measured = {model: [arm for arm in counts if all(scores.get(model, arm, *where) for where in wanted)]
                for model in scores.models}  # fmt: skip
    found = [(model, arms) for model, arms in measured.items() if len(arms) > 1]  # one point is no curve
    figure, axes = plt.subplots(figsize=(6.5, 3.4) if found else (7.2, 1.2), layout="constrained")
    if not found:
        nothing(axes, f"Figure S2 has no data: {scores.path} has no rates of MIRage with benign pairs.")
        footer(figure, sources, "Not in the paper.")
        return figure
    shown = [arm for arm in counts if any(arm in arms for _, arms in found)]
    for i, (model, arms) in enumerate(found):
        for label, where, colour, marker, line in rates:
            x = np.array([shown.index(arm) for arm in arms]) + 0.06 * i
            cells = [scores.get(model, arm, *where) for arm in arms]
            errors = [_error(cell) if cell.width is not None else np.zeros((2, 1)) for cell in cells]
            axes.errorbar(x, [cell.value for cell in cells], yerr=np.hstack(errors), color=colour, marker=marker,
                          linestyle=line, markersize=5, linewidth=1.4, elinewidth=0.9, capsize=2.5,
                          markerfacecolor=colour if i == 0 else "white",
                          label=label if len(found) == 1 else f"{label}, {names.model(model)}")  # fmt: skip
            for at, arm, cell in zip(x, arms, cells, strict=True):
                # The higher of the two has its number above, the lower below: they do not meet where the lines do.
                lower = any(scores.get(model, arm, *other).value > cell.value for other in wanted)
                axes.annotate(f"{cell.value:.1f}", (at, cell.value), (5, -10 if lower else 4), fontsize=7,
                              textcoords="offset points", color=colour)  # fmt: skip
    axes.set_xticks(range(len(shown)), [f"{counts[arm]:,}" for arm in shown])
    axes.set_xlim(-0.4, len(shown) - 0.5)
    axes.set_xlabel("Benign pairs in the mixture")
    axes.set_ylabel("Percent of all responses")
    axes.set_ylim(-8, 108)
    axes.grid(axis="y", linewidth=0.4, color="#DDDDDD")
    axes.set_axisbelow(True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    sns.despine(figure)
    known = [arm for arm in ("mirage", "mirage_balanced") if arm in shown]
    named = "; ".join(f"{counts[arm]:,} is {names.method(arm)}" for arm in known)
    absent = ", ".join(f"{counts[arm]:,}" for arm in counts if arm not in shown)
    note = f"{named}. Bars: {sources.interval_name}. Steps on the axis are not to scale."
    footer(figure, sources, note + (f" Not run: {absent}." if absent else "") + " Not in the paper.")
    return figure


_DRAWN: dict[str, Callable[[Sources], Figure]] = {
    **SAMPLE_FIGURES,
    **PROBE_FIGURES,
    "4": _figure4,
    "5": _figure5,
    "7": _figure7,
    "9": _figure9,
    "S1": _figure_s1,
    "S2": _figure_s2,
}
FIGURES = {number: _DRAWN[number] for number in sorted(_DRAWN, key=lambda number: (len(number), number))}


def write_figure(
    number: str, settings: Settings, root: Path | str | None = None, draw: Draw | None = None
) -> list[Path]:
    """Write `<figures>/figure<N>.pdf` (vector, without a date) and `.png` (200 dpi); returns their paths.

    Known are the figures of `FIGURES`; another raises `ReportError`. Files of the run that are not there leave their
    place empty, and the figure says so. `draw` draws the miniature's pictures for print (`pictures.Draw`).
    """
    if number not in FIGURES:
        raise ReportError(f"unknown figure {number!r}; known: {', '.join(FIGURES)}")
    with plt.rc_context(STYLE):
        figure = FIGURES[number](Sources(settings, root, draw, f"figure{number}"))
        try:
            return save(figure, settings.paths.figures / f"figure{number}")
        finally:
            plt.close(figure)
