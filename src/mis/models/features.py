"""The frozen vision tower's output, computed once a picture and shared by all arms and benchmarks.

Safety fine-tuning never updates the vision tower, so what it says about a picture is the same for every arm and epoch.
A :class:`FeatureStore` keeps those outputs on disk; `Family.take_tower` puts a stand-in where the tower was, which
passes them through, so that everything behind it (projector, language model) runs unchanged.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from mis.errors import MisError
from mis.models.families import family_of
from mis.models.family import View
from mis.store import replacing, write_text_atomic

BATCH = 256
CUT_BATCH = 8  # pictures that are cut are large: up to thirteen tiles each


def open_pictures(paths: Sequence[Path]) -> list[Image.Image]:
    """The pictures, as RGB. Raises :class:`MisError` for one that cannot be read."""
    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                images.append(image.convert("RGB"))
        except (OSError, ValueError) as error:
            raise MisError(f"{path}: picture cannot be read ({error}); make or fetch its dataset again") from None
    return images


def views_of(processor, paths: Sequence[Path]) -> tuple[View, ...]:
    """How each picture of one sample is cut; empty where every picture is alike. Only the files' heads are read."""
    family = family_of(processor)
    if not paths or not family.cuts(processor):
        return ()
    sizes = []
    for path in paths:
        try:
            with Image.open(path) as image:
                sizes.append(image.size)
        except (OSError, ValueError) as error:
            raise MisError(f"{path}: picture cannot be read ({error}); make or fetch its dataset again") from None
    return family.views(processor, sizes)


class Pixels:
    """The network's `pixel_values` of pictures, made whenever they are asked for: the tower stays in the network."""

    def __init__(self, processor):
        self.processor, self.family = processor, family_of(processor)

    def __call__(self, paths: Sequence[Path], views: Sequence[View] = ()) -> torch.Tensor:
        if views:
            return self.family.cut(self.processor, open_pictures(paths), views)
        return self.family.pixel_values(self.processor, load_pixels(self.processor, paths))


def load_pixels(processor, paths: Sequence[Path]) -> torch.Tensor:
    """Normalised pictures, one tile each: (pictures, 3, side, side) float32; see `Family.pixel_values`."""
    images = open_pictures(paths)
    settings, family = processor.image_processor, family_of(processor)
    side, images = family.image_size(processor), family.fit(processor, images)
    if not getattr(settings, "crop_to_patches", False) and all(image.size == (side, side) for image in images):
        # The processor's own arithmetic (rescale, normalise) on a whole batch at once; a test holds the two equal.
        stacked = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (settings.image_mean, settings.image_std))
        return (stacked * settings.rescale_factor - mean) / std
    return settings(images, return_tensors="pt")["pixel_values"]


def tower_digest(tower: nn.Module) -> str:
    """SHA-256 over names and weights, 16 hex digits; the same whatever type the weights were loaded in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class FeatureStore:
    """Outputs of one frozen tower by picture: `features.npy` (float16, pictures x tokens x width) and `index.json`.

    `tower` is what `Family.take_tower` gave.
    Pictures are known by path and content stamp (size, time of change), so a picture that was drawn anew is computed
    anew. Where pictures are cut, a picture's name holds its view too, and it has a run of rows (first, number) in the
    place of one.
    """

    def __init__(self, folder: Path, tower: nn.Module, processor):
        self.folder, self.tower, self.processor = folder, tower, processor
        self.digest = tower_digest(tower)
        self.family = family_of(processor)
        self.place, self.dtype = _place(tower)
        self.rows: dict[str, int | list[int]] = {}
        self.array: np.ndarray | None = None
        index = folder / "index.json"
        if index.is_file():
            stored = json.loads(index.read_text(encoding="utf-8"))
            if stored["tower"] == self.digest:
                self.rows = stored["rows"]
                self.array = np.load(folder / stored["file"], mmap_mode="r")

    @staticmethod
    def _name(path: Path, view: View | None = None) -> str:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise MisError(f"{path}: picture is missing ({error.strerror}); make or fetch its dataset again") from None
        cut = "" if view is None else f"|{' '.join(map(str, view))}"
        return f"{path}|{stat.st_size}|{stat.st_mtime_ns}{cut}"

    def _names(self, paths: Sequence[Path], views: Sequence[View]) -> list[str]:
        if not views:
            return [self._name(path) for path in paths]
        return [self._name(path, view) for path, view in zip(paths, views, strict=True)]

    @torch.no_grad()
    def _compute(self, paths: Sequence[Path], views: Sequence[View] = ()) -> np.ndarray:
        if views:
            pixels = self.family.cut(self.processor, open_pictures(paths), views).to(self.place, self.dtype)
            return self.family.see_cut(self.tower, self.processor, pixels, views).half().cpu().numpy()
        pixels = load_pixels(self.processor, paths).to(self.place, self.dtype)
        return self.family.see(self.tower, self.processor, pixels).half().cpu().numpy()

    def fill(self, paths: Sequence[Path], advance=lambda count: None, views: Sequence[View] = ()) -> None:
        """Compute what is missing and write the store; a killed call leaves the old one."""
        given = dict(zip(self._names(paths, views), zip(paths, views or [()] * len(paths), strict=True), strict=True))
        names = list(given)
        if all(name in self.rows for name in names):
            return
        counts = [self.family.view_rows(self.processor, given[name][1]) if views else 1 for name in names]
        size = CUT_BATCH if views else BATCH
        file = f"features-{hashlib.sha256(''.join(names).encode()).hexdigest()[:12]}-{self.digest}.npy"
        # Written through `write`, not a memory map: there a full disk is a bus error, which kills without a word.
        with replacing(self.folder / file, "wb") as stream:
            for start in range(0, len(names), size):
                batch = [given[name][0] for name in names[start : start + size]]
                cuts = [given[name][1] for name in names[start : start + size]] if views else ()
                values = self._compute(batch, cuts)
                if len(values) != (rows := sum(counts[start : start + size])):
                    raise MisError(f"{batch[0]}: the tower made {len(values)} rows of a batch that has {rows}")
                if start == 0:
                    header = {"descr": "<f2", "fortran_order": False, "shape": (sum(counts), *values.shape[1:])}
                    np.lib.format.write_array_header_1_0(stream, header)
                stream.write(values.astype("<f2", copy=False).tobytes())
                advance(len(batch))
        self.rows = {name: row for row, name in enumerate(names)}
        if views:
            starts = np.cumsum([0, *counts]).tolist()
            self.rows = {name: [starts[row], counts[row]] for name, row in self.rows.items()}
        index = {"tower": self.digest, "file": file, "rows": self.rows}
        write_text_atomic(self.folder / "index.json", json.dumps(index))
        for old in self.folder.iterdir():
            if old.name not in (file, "index.json"):
                old.unlink()
        self.array = np.load(self.folder / file, mmap_mode="r")

    def __call__(self, paths: Sequence[Path], views: Sequence[View] = ()) -> torch.Tensor:
        """(pictures, tokens, width), or (rows, ...) where pictures are cut; from the store where it has them, else
        computed. Of the tower's type, float32 in the miniature.
        """
        names = self._names(paths, views)
        if views:
            parts = [self._part(name, path, view) for name, path, view in zip(names, paths, views, strict=True)]
            return torch.from_numpy(np.concatenate(parts)).to(self.dtype)
        missing = [path for path, name in zip(paths, names, strict=True) if name not in self.rows]
        fresh = iter(self._compute(missing)) if missing else iter(())
        rows = [self.array[self.rows[name]] if name in self.rows else next(fresh) for name in names]
        return torch.from_numpy(np.stack(rows)).to(self.dtype)

    def _part(self, name: str, path: Path, view: View) -> np.ndarray:
        if name not in self.rows:
            return self._compute([path], [view])
        first, number = self.rows[name]
        return self.array[first : first + number]


def _place(tower: nn.Module) -> tuple[torch.device, torch.dtype]:
    weight = next(tower.parameters(), torch.empty(0))
    return weight.device, weight.dtype


def look(model, processor, folder: Path | None) -> tuple[FeatureStore | Pixels, nn.Module | None]:
    """What gives a batch its pictures, and the tower if it was taken out (`Family.put_tower` undoes that).

    With a `folder` features from the store there, without one pixels, the tower left where it is.
    """
    if folder is None:
        return Pixels(processor), None
    tower = family_of(model).take_tower(model).eval()
    return FeatureStore(folder, tower, processor), tower
