"""A page of cards, texts and pictures, laid out in points from its upper left corner.

Text is measured before it is set, so that a card is as tall as its text and nothing overlaps. All texts are literal:
a `$` or a backslash of a model's answer is drawn as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.textpath import text_to_path
from PIL import Image

PAGE, MARGIN = 6.5 * 72, 1.5  # LaTeX's text width, and room for the outermost lines
WIDTH = PAGE - 2 * MARGIN
BODY, SMALL, HEADING = 7.5, 7.0, 9.0
LEADING = 1.3
GREY = "#555555"
FONT = "DejaVu Sans"
ROOM = 0.98  # of a line: letters are drawn a little wider or narrower than they are measured


_BREAK = re.compile(r"[^\S\xa0]+")
_STOP = re.compile(r" ([.,;:?!])(?= |$)")  # never alone at the beginning of a line


@dataclass(frozen=True)
class Span:
    """Words of one look; `fill` is the colour behind them."""

    text: str
    colour: str = "black"
    bold: bool = False
    fill: str | None = None


Text = str | Sequence[Span]
Line = list[Span]


@lru_cache(maxsize=65536)
def width(text: str, size: float, bold: bool = False) -> float:
    """Width of a text in points."""
    font = FontProperties(family=FONT, size=size, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def clean(text: str) -> str:
    """The text in one line, without control characters; a no-break space (U+00A0) stays."""
    return " ".join(_BREAK.split("".join(c if c == "\xa0" or c.isprintable() else " " for c in text))).strip()


def shorten(text: str, limit: int) -> str:
    """At most about `limit` characters, cut at a word; what was cut is counted."""
    text = clean(text)
    if len(text) <= limit:
        return text
    kept = text[:limit].rpartition(" ")[0] or text[:limit]
    return f"{kept} [… {len(text) - len(kept):,} more characters]"


def wrap(text: Text, room: float, size: float) -> list[Line]:
    """Lines no wider than `room` points; a word that is wider alone is broken."""
    spans = [Span(text)] if isinstance(text, str) else text
    texts = [(span, _STOP.sub("\xa0\\1", clean(span.text))) for span in spans]
    words = [replace(span, text=word) for span, text in texts for word in text.split(" ") if word]
    room *= ROOM
    lines: list[Line] = [[]]
    for word in words:
        longer = _joined(lines[-1], word)
        if lines[-1] and _width(longer, size) > room:
            lines.append([])
            longer = [word]
        while _width(longer, size) > room and len(longer[0].text) > 1:  # a word alone
            cut = next((n for n in range(len(longer[0].text) - 1, 1, -1)
                        if width(longer[0].text[:n], size, word.bold) <= room), 1)  # fmt: skip
            lines[-1] = [replace(word, text=longer[0].text[:cut])]
            lines.append([])
            longer = [replace(word, text=longer[0].text[cut:])]
        lines[-1] = longer
    return [line for line in lines if line]


def _joined(line: Line, word: Span) -> Line:
    """Words of one look become one span, so that the letters keep their distances."""
    if line and replace(line[-1], text="") == replace(word, text=""):
        return [*line[:-1], replace(word, text=f"{line[-1].text} {word.text}")]
    return [*line, word]


def _width(line: Line, size: float) -> float:
    gaps = width(" a", size) - width("a", size)
    return sum(width(span.text, size, span.bold) for span in line) + gaps * (len(line) - 1)


def height(lines: Sequence[Line], size: float) -> float:
    return len(lines) * size * LEADING


class Page:
    """Collects what is to be drawn; `figure` draws it. Coordinates are points from the upper left corner."""

    def __init__(self) -> None:
        self.bottom = 0.0
        self._drawn: list[Callable[[Axes], None]] = []
        self._cards = 0

    def text(
        self, x: float, y: float, text: Text, room: float, size: float = BODY, *, align: str = "left", card: int = 0
    ) -> float:
        """Sets a text in lines of at most `room` points with its top at `y`; returns the y below it.

        `align` is left, center or right of a column that begins at `x`. `card` is the card that it stands in.
        """
        lines = wrap(text, room, size)
        gap = width(" a", size) - width("a", size)
        for number, line in enumerate(lines):
            total = _width(line, size)
            left = x + {"left": 0.0, "center": (room - total) / 2, "right": room - total}[align]
            top = y + number * size * LEADING
            for span in line:
                span_width = width(span.text, size, span.bold)
                if span.fill:
                    self._add(_rectangle, left - 0.7, top + 0.06 * size, span_width + 1.4, 1.18 * size, span.fill)
                self._add(_text, left, top + 0.98 * size, span, size, f"in:{card}" if card else None)
                left += span_width + gap
        end = y + height(lines, size)
        self.bottom = max(self.bottom, end)
        return end

    def card(
        self, x: float, y: float, w: float, h: float, *, fill: str = "#F5F5F5", edge: str = "#BBBBBB",
        bar: str | None = None, dashed: bool = False,
    ) -> int:  # fmt: skip
        """A rounded box, with a coloured bar at its left side; returns its number for the texts in it."""
        self._cards += 1
        self._add(_card, x, y, w, h, fill, edge, dashed, f"card:{self._cards}", bar)
        self.bottom = max(self.bottom, y + h)
        return self._cards

    def picture(
        self, x: float, y: float, side: float, shown: Image.Image, seen: Image.Image | None, *, beside: bool = False
    ) -> None:
        """A picture in a square of `side` points, with the model's small view in the corner that shows least.

        With `beside` the small view stands to the right of the picture, a point a pixel.
        """
        w, h = (side * n / max(shown.size) for n in shown.size)
        left, top = x + (side - w) / 2, y + (side - h) / 2
        self._add(_image, left, top, w, h, shown, "antialiased")
        if seen is not None and beside:
            self._add(_image, x + side + 6, top, *map(float, seen.size), _enlarged(seen), "nearest")
        elif seen is not None:
            part = 0.34
            inset, (right, lower) = part * min(w, h), _emptiest_corner(shown, part)
            across, down = left + 2 + right * (w - inset - 4), top + 2 + lower * (h - inset - 4)
            self._add(_image, across, down, inset, inset, _enlarged(seen), "nearest", True)
        self.bottom = max(self.bottom, y + side)

    def badge(self, right: float, y: float, symbol: str, word: str, colour: str, card: int = 0) -> float:
        """A symbol and a word on their colour's tint, ending at `right`; returns where it begins."""
        label = f"{symbol} {word}"
        w = width(label, SMALL, True) / ROOM + 8
        self._add(_card, right - w, y, w, SMALL * LEADING + 1.5, tint(colour), colour, False, None)
        self.text(
            right - w, y + 0.5, [Span(label.replace(" ", "\xa0"), bold=True)], w, SMALL, align="center", card=card
        )
        return right - w

    def disc(self, x: float, y: float, radius: float, label: str, colour: str) -> None:
        """A number in a filled circle around (x, y)."""
        self._add(_circle, x, y, radius, colour)
        self._add(_text, x, y + 0.36 * HEADING, Span(label, "white", True), HEADING, None, "center")

    def arrow(self, x: float, y: float, to_x: float, to_y: float) -> None:
        self._add(_arrow, x, y, to_x, to_y)

    def _add(self, draw: Callable, *arguments) -> None:
        self._drawn.append(lambda axes: draw(axes, *arguments))

    def figure(self, margin: float = 2.0) -> Figure:
        """All of it, as tall as what stands on it."""
        tall = self.bottom + margin
        figure = plt.figure(figsize=(PAGE / 72, tall / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        for draw in self._drawn:
            draw(axes)
        axes.set_xlim(-MARGIN, PAGE - MARGIN)
        axes.set_ylim(tall, 0)
        return figure


def tint(colour: str, share: float = 0.75) -> tuple[float, ...]:
    """A colour with `share` of white in it."""
    return tuple(c + (1 - c) * share for c in to_rgb(colour))


def _text(axes: Axes, x, baseline, span: Span, size, gid, align="left") -> None:
    axes.text(x, baseline, span.text, fontsize=size, color=span.colour, weight="bold" if span.bold else "normal",
              family=FONT, va="baseline", ha=align, parse_math=False, gid=gid)  # fmt: skip


def _rectangle(axes: Axes, x, y, w, h, colour) -> None:
    axes.add_patch(Rectangle((x, y), w, h, facecolor=colour, linewidth=0, zorder=1.5))


def _circle(axes: Axes, x, y, radius, colour) -> None:
    axes.add_patch(Circle((x, y), radius, facecolor=colour, linewidth=0))


def _card(axes: Axes, x, y, w, h, fill, edge, dashed, gid, bar=None) -> None:
    card = FancyBboxPatch((x, y), w, h, boxstyle="round,pad=0,rounding_size=3", facecolor=fill, edgecolor=edge,
                          linewidth=0.6, linestyle="--" if dashed else "-", gid=gid)  # fmt: skip
    axes.add_patch(card)
    if bar:
        stripe = axes.add_patch(Rectangle((x, y), 4.0, h, facecolor=bar, linewidth=0, zorder=1.5))
        stripe.set_clip_path(card)


def _enlarged(image: Image.Image) -> Image.Image:
    """With whole pixels, so that no viewer of a PDF smooths them."""
    return image.resize((8 * image.width, 8 * image.height), Image.Resampling.NEAREST)


def _emptiest_corner(image: Image.Image, part: float) -> tuple[int, int]:
    """(right, lower) as 0 or 1 of the corner with the least in its `part` of the picture's sides."""
    pixels = np.asarray(image.convert("RGB").resize((64, 64)), dtype=float)
    n = round(64 * part) + 2
    # Of corners alike the lower right, where a reader looks first.
    corners = [(1, 1), (1, 0), (0, 1), (0, 0)]
    ends = {0: slice(n), 1: slice(-n, None)}
    return min(corners, key=lambda corner: round(pixels[ends[corner[1]], ends[corner[0]]].std(axis=(0, 1)).sum()))


def _image(axes: Axes, x, y, w, h, image, interpolation, framed=False) -> None:
    axes.imshow(np.asarray(image), extent=(x, x + w, y + h, y), interpolation=interpolation, aspect="auto", zorder=2)
    for colour, line in (("#333333", 2.0), ("white", 1.2)) if framed else (("#888888", 0.6),):
        axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=line, zorder=2.5))


def _arrow(axes: Axes, x, y, to_x, to_y) -> None:
    axes.add_patch(FancyArrowPatch((x, y), (to_x, to_y), arrowstyle="-|>", mutation_scale=8, color=GREY, linewidth=1.0,
                                   shrinkA=0, shrinkB=0))  # fmt: skip
