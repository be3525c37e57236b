"""Pictures for print. A dataset of the miniature keeps how each picture is drawn, so print need not enlarge pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from mis.report.reported import ReportError
from mis.store import read_jsonl

PRINT_PIXELS = 512
# A file with a shorter side is what a small model sees, and is shown as such.
SMALL = 128

# Draws a vector layout (a row's scene in `scenes/<dataset>.jsonl`, the `content` of a construction's picture) as RGB,
# with a side in pixels.
Draw = Callable[[Mapping[str, Any], int], Image.Image]


class Picture(NamedTuple):
    """`shown` goes to print; `seen` is the model's own small view, None where that is as large."""

    shown: Image.Image
    seen: Image.Image | None = None


class Pictures:
    """The pictures under a data root. Without `draw` they are shown as their files are."""

    def __init__(self, data: Path, draw: Draw | None = None):
        self._data = Path(data).resolve()
        self._draw = draw
        self._scenes = cache(self._read_scenes)

    def _read_scenes(self, dataset: str) -> dict[str, dict[str, Any]]:
        path = self._data / "scenes" / f"{dataset}.jsonl"
        return {row["path"]: row["scene"] for row in read_jsonl(path)} if path.exists() else {}

    def of_file(self, path: Path) -> Picture:
        """A dataset's picture. Raises :class:`ReportError` where it cannot be read."""
        try:
            seen = Image.open(path).convert("RGB")
        except OSError as error:
            raise ReportError(f"{path}: picture cannot be read ({error}); make or fetch its dataset again") from None
        scene = None
        if self._draw and Path(path).resolve().is_relative_to(self._data):
            name = Path(path).resolve().relative_to(self._data)
            scene = self._scenes(name.parts[0]).get(name.as_posix())
        shown = self._draw(scene, PRINT_PIXELS) if scene else seen
        return Picture(shown, seen if max(seen.size) < SMALL else None)

    def of_record(self, content: Mapping[str, Any], size: int) -> Picture | None:
        """A picture of a construction's record, seen by a model at `size` pixels; None where nobody can draw it."""
        if self._draw is None:
            return None
        return Picture(self._draw(content, PRINT_PIXELS), self._draw(content, size) if size < SMALL else None)
