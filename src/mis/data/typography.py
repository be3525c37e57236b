"""FigStep's pictures, drawn by us from its CSV, for those who have the table alone.

As the project describes (its README and `src/generate_prompts.py`, commit 0861b17): 760 x 760 pixels, the instruction
in bold monospace type of 80 pixels, black on white, wrapped at 15 characters, and below it the empty items 1. 2. 3.;
what goes beyond the edge is cut off there too. The project's font (FreeMono Bold) is replaced by DejaVu Sans Mono Bold,
which Matplotlib carries; its lines stand where those of the project's pictures do (measured on six of them).
"""

from __future__ import annotations

import io
import textwrap
from pathlib import Path

from mis.progress import track
from mis.sources import figstep
from mis.sources.common import csv_rows, write_atomically

SIDE, SIZE, WIDTH, ITEMS = 760, 80, 15, 3
LEFT, BASELINE, PITCH = 20, 73, 75  # of the first line in the project's pictures, and from line to line
FONT = "fonts/ttf/DejaVuSansMono-Bold.ttf"


def draw(root: Path) -> int:
    """Writes `<root>/data/images/drawn/*.png`, one a row of the CSV; returns how many. The same CSV, the same bytes."""
    rows = csv_rows(root / figstep.QUESTIONS, (*figstep.COLUMNS, "instruction"))
    with track(len(rows), "draw figstep") as advance:
        for row in rows:
            write_atomically(root / figstep.DRAWN / figstep.file_name(row), picture(row.text("instruction")))
            advance(1)
    return len(rows)


def lines(instruction: str) -> str:
    """The text of a picture."""
    return "\n".join([textwrap.fill(instruction.removesuffix("\n"), WIDTH), *(f"{k}. " for k in range(1, ITEMS + 1))])


def picture(instruction: str) -> bytes:
    """A PNG."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / FONT, SIZE)
    image = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines(instruction).split("\n")):
        pen.text((LEFT, BASELINE + number * PITCH), line, fill="black", font=font, anchor="ls")
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=False, compress_level=6)
    return stream.getvalue()
