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
from mis.store import replacing, write_text_atomic

BATCH = 256


def load_pixels(processor, paths: Sequence[Path]) -> torch.Tensor:
    """Normalised pictures, one tile each: (pictures, 3, side, side) float32; see `Family.pixel_values`."""
    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                images.append(image.convert("RGB"))
        except (OSError, ValueError) as error:
            raise MisError(f"{path}: picture cannot be read ({error}); make or fetch its dataset again") from None
    settings, family = processor.image_processor, family_of(processor)
    side, images = family.image_size(processor), family.fit(processor, images)
    if not getattr(settings, "crop_to_patches", False) and all(image.size == (side, side) for image in images):
        # The processor's own arithmetic (rescale, normalise) on a whole batch at once; a test holds the two equal.
        stacked = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (settings.image_mean, settings.image_std))
        return (stacked * settings.rescale_factor - mean) / std
    return settings(images, return_tensors="pt")["pixel_values"]


def tower_digest(tower: nn.Module) -> str:
    """SHA-256 over names and weights, 16 hex digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class FeatureStore:
    """Outputs of one frozen tower by picture: `features.npy` (float16, pictures x tokens x width) and `index.json`.

    `tower` is what `Family.take_tower` gave.
    Pictures are known by path and content stamp (size, time of change), so a picture that was drawn anew is computed
    anew.
    """

    def __init__(self, folder: Path, tower: nn.Module, processor):
        self.folder, self.tower, self.processor = folder, tower, processor
        self.digest = tower_digest(tower)
        self.rows: dict[str, int] = {}
        self.array: np.ndarray | None = None
        index = folder / "index.json"
        if index.is_file():
            stored = json.loads(index.read_text(encoding="utf-8"))
            if stored["tower"] == self.digest:
                self.rows = stored["rows"]
                self.array = np.load(folder / stored["file"], mmap_mode="r")

    @staticmethod
    def _name(path: Path) -> str:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise MisError(f"{path}: picture is missing ({error.strerror}); make or fetch its dataset again") from None
        return f"{path}|{stat.st_size}|{stat.st_mtime_ns}"

    @torch.no_grad()
    def _compute(self, paths: Sequence[Path]) -> np.ndarray:
        pixels = load_pixels(self.processor, paths)
        return family_of(self.processor).see(self.tower, self.processor, pixels).half().numpy()

    def fill(self, paths: Sequence[Path], advance=lambda count: None) -> None:
        """Compute what is missing and write the store; a killed call leaves the old one."""
        names = list(dict.fromkeys(self._name(path) for path in paths))
        if all(name in self.rows for name in names):
            return
        file = f"features-{hashlib.sha256(''.join(names).encode()).hexdigest()[:12]}-{self.digest}.npy"
        # Written through `write`, not a memory map: there a full disk is a bus error, which kills without a word.
        with replacing(self.folder / file, "wb") as stream:
            for start in range(0, len(names), BATCH):
                batch = [Path(name.rsplit("|", 2)[0]) for name in names[start : start + BATCH]]
                values = self._compute(batch)
                if start == 0:
                    header = {"descr": "<f2", "fortran_order": False, "shape": (len(names), *values.shape[1:])}
                    np.lib.format.write_array_header_1_0(stream, header)
                stream.write(values.astype("<f2", copy=False).tobytes())
                advance(len(batch))
        self.rows = {name: row for row, name in enumerate(names)}
        index = {"tower": self.digest, "file": file, "rows": self.rows}
        write_text_atomic(self.folder / "index.json", json.dumps(index))
        for old in self.folder.iterdir():
            if old.name not in (file, "index.json"):
                old.unlink()
        self.array = np.load(self.folder / file, mmap_mode="r")

    def __call__(self, paths: Sequence[Path]) -> torch.Tensor:
        """(pictures, tokens, width) float32, from the store where it has them, else computed."""
        names = [self._name(path) for path in paths]
        missing = [path for path, name in zip(paths, names, strict=True) if name not in self.rows]
        fresh = iter(self._compute(missing)) if missing else iter(())
        rows = [self.array[self.rows[name]] if name in self.rows else next(fresh) for name in names]
        return torch.from_numpy(np.stack(rows)).float()
