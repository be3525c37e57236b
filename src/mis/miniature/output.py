"""Where a dataset of the miniature is written: pictures, their vector layouts and the truth, all or nothing.

A dataset is built in a hidden folder beside its place and takes that place when it is closed without an error. Who
writes several datasets says when all of them are there (a manifest, written last): they change one after the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from mis.miniature.scenes import Scene, render
from mis.settings import Settings
from mis.sources.common import EXTRACTED
from mis.store import StoreError, replacing


class Dataset:
    """One dataset: `<source>/` in its public layout, `scenes/<source>.jsonl` and `truth/<source>.jsonl`.

    Give `root`, the hidden folder, and `draw` to the writers of `layouts`; the dataset appears under its name when the
    `with` block ends (or `close` is called) and is removed if it ends in an error. With `development` the data root is
    `<data>/development`. Raises :class:`StoreError` where the disk is full or forbidden.
    """

    def __init__(self, settings: Settings, source: str, development: bool = False):
        self.data = settings.paths.data / "development" if development else settings.paths.data
        self.source = source
        self.root = self.data / f".{source}.new"
        self._size = settings.world.image_size
        self._scenes: list[str] = []
        self._truth: list[str] = []
        self._folders: set[Path] = set()
        shutil.rmtree(self.root, ignore_errors=True)  # what a killed run left
        self._folder(self.root)

    def draw(self, scene: Scene, path: Path) -> None:
        """Draws a scene at `path`, as PNG or JPEG by its suffix; keeps its layout under the path that a loader gives.

        A picture drawn outside of `root` ends inside a table; its loader extracts it to a file named by its content.
        """
        self._folder(path.parent)
        try:
            render(scene, self._size).save(path, compress_level=1, quality=95)  # each format takes its own option
        except OSError as error:
            raise _unwritable(path, error) from error
        if path.is_relative_to(self.root):
            name = path.relative_to(self.root).as_posix()
        else:
            name = f"{EXTRACTED}/{hashlib.sha256(path.read_bytes()).hexdigest()[:20]}{path.suffix}"
        place = f"{self.source}/{name}"
        self._scenes.append(_line({"path": place, "scene": scene.to_row()}))

    def truth(self, row: dict[str, Any]) -> None:
        """Keeps what is true of one sample; `key` names it as `Sample.key` does."""
        self._truth.append(_line(row))

    def close(self) -> None:
        """Puts the dataset in its place; until then the old one is untouched."""
        final, old = self.data / self.source, self.data / f".{self.source}.old"
        name = f"{self.source}.jsonl"
        # Both are on the disk before one takes its place.
        with replacing(self.data / "scenes" / name) as scenes, replacing(self.data / "truth" / name) as truth:
            scenes.writelines(self._scenes)
            truth.writelines(self._truth)
            scenes.flush()
            truth.flush()
        try:
            shutil.rmtree(old, ignore_errors=True)
            if final.exists():
                final.rename(old)
            self.root.rename(final)
        except OSError as error:
            raise _unwritable(final, error) from error
        shutil.rmtree(old, ignore_errors=True)

    def _folder(self, folder: Path) -> None:
        if folder not in self._folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _unwritable(folder, error) from error
            self._folders.add(folder)

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            shutil.rmtree(self.root, ignore_errors=True)  # gone already where all went well


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _unwritable(path: Path, error: OSError) -> StoreError:
    reason = error.strerror or os.strerror(error.errno or 0)
    return StoreError(
        f"{path}: {reason}; the dataset was not written and an older one is unchanged; mend that (a full disk: free "
        "some space) and run the same command again"
    )
