"""What figures of data share: their style, a footer, a word where there is nothing, the two files of each."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mis.report.sources import Sources
from mis.store import replacing

PICTURE_DPI = 400  # of the pictures in a PDF; all else is vectors
STYLE = {
    "font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5, "legend.frameon": False, "pdf.fonttype": 42, "axes.titleweight": "bold",
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "text.hinting": "none",  # letters as wide in the PNG as in the PDF
}  # fmt: skip


def nothing(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#555555", wrap=True)


def footer(figure: Figure, sources: Sources, note: str) -> None:
    """The scale and its seeds, then a note, in a line that wraps."""
    run = f"Scale: {sources.scale}, {sources.seeds_text}. " if sources.scores.models else f"Scale: {sources.scale}. "
    figure.supxlabel(run + note, fontsize=6.5, color="#444444", x=0.01, ha="left", wrap=True)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.pdf` (vector, without a date) and `.png` (200 dpi); the same figure gives the same bytes."""
    options = {
        ".pdf": {"dpi": PICTURE_DPI, "metadata": {"CreationDate": None}},
        ".png": {"dpi": 200, "metadata": {"Software": None}},
    }
    paths = [stem.with_suffix(suffix) for suffix in options]
    for path in paths:
        with replacing(path, "wb") as file:
            figure.savefig(file, format=path.suffix[1:], **options[path.suffix])
    return paths
