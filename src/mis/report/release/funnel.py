"""The funnel of a construction as a figure: what each step kept, what it dropped, and the reasons that cost most."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt

from mis.report.release.rows import Construction
from mis.store import replacing

KEPT, DROPPED = "#0072B2", "#D55E00"
SHOWN = 3  # reasons beside a bar; the others are counted as one


def write_funnel(folder: Path, construction: Construction) -> list[Path]:
    """`funnel.pdf` and `funnel.png`: one bar a step; its length is what entered."""
    kept: dict[str, int] = {}
    dropped: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in construction.funnel:
        if row["reason"]:
            dropped[row["step"]].append((row["dropped"], row["reason"]))
        else:
            kept[row["step"]] = row["kept"]
    steps = list(kept)
    figure, axes = plt.subplots(figsize=(6.5, 0.5 * len(steps) + 0.9))
    try:
        widest = max(kept[step] + sum(n for n, _ in dropped[step]) for step in steps)
        for place, step in enumerate(steps):
            lost = sum(n for n, _ in dropped[step])
            axes.barh(place, kept[step], color=KEPT, label="kept" if not place else None)
            axes.barh(place, lost, left=kept[step], color=DROPPED, hatch="//", edgecolor="white",
                      label="dropped" if not place else None)  # fmt: skip
            axes.text(kept[step] + lost + 0.01 * widest, place, _said(kept[step], dropped[step]), va="center", size=6.5)
        axes.set_yticks(range(len(steps)), [f"{number} {step}" for number, step in enumerate(steps, start=1)], size=8)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.9 * widest)
        axes.set_xlabel("samples", size=8)
        axes.tick_params(axis="x", labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower right", frameon=False, fontsize=8)
        figure.tight_layout()
        paths = []
        for suffix, options in (("pdf", {"metadata": {"CreationDate": None}}), ("png", {"dpi": 200})):
            paths.append(folder / f"funnel.{suffix}")
            with replacing(paths[-1], "wb") as file:
                figure.savefig(file, format=suffix, **options)
    finally:
        plt.close(figure)
    return paths


def _said(kept: int, dropped: list[tuple[int, str]]) -> str:
    """ "12,345 kept; refused 100; cut off 20; malformed answer 7; other reasons 9", in two lines where it is long."""
    most = sorted(dropped, key=lambda item: (-item[0], item[1]))
    words = [f"{reason} {n:,}" for n, reason in most[:SHOWN]]
    if rest := sum(n for n, _ in most[SHOWN:]):
        words.append(f"other reasons {rest:,}")
    lines = "; ".join([f"{kept:,} kept", *words])
    half = lines.find("; ", len(lines) // 2)
    return lines if len(lines) < 60 or half < 0 else f"{lines[: half + 1]}\n{lines[half + 2 :]}"
