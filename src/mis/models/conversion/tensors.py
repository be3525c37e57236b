"""Safetensors read and written a piece at a time, as bytes: no tensor is ever whole in memory.

A file is eight bytes (the header's length, little-endian), a JSON header of names, types, shapes and offsets, and the
tensors' bytes (https://github.com/huggingface/safetensors#format). Renaming tensors, splitting and joining them by rows
needs no arithmetic, so that every type passes through unchanged, bfloat16 included.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mis.errors import MisError
from mis.store import replacing

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
CHUNK = 2**24
LONGEST_HEADER = 100_000_000  # the format's own bound
BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: `start` is the place of its first byte."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        return BYTES[self.dtype] * math.prod(self.shape[1:])

    def whole(self) -> Rows:
        return Rows(self, 0, self.rows)


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `stop` (exclusive) of a stored tensor."""

    tensor: Stored
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Pieced:
    """A tensor to be written: rows of stored ones, one after the other. The first says type and width."""

    pieces: tuple[Rows, ...]

    @property
    def dtype(self) -> str:
        return self.pieces[0].tensor.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        first = self.pieces[0].tensor
        return (sum(map(len, self.pieces)), *first.shape[1:]) if first.shape else ()

    @property
    def size(self) -> int:
        return sum(len(rows) * rows.tensor.row_bytes for rows in self.pieces)


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a file. Raises :class:`MisError` where it is no safetensors file, or cut off."""
    remedy = "fetch or copy the file again"
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= LONGEST_HEADER:
                raise ValueError(f"its header would have {length} bytes")
            header = json.loads(file.read(length))
            size = file.seek(0, 2)
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            start, stop = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = Stored(path, entry["dtype"], tuple(entry["shape"]), start)
            if stop - start != BYTES[entry["dtype"]] * math.prod(entry["shape"]):
                raise ValueError(f"{name}: bytes and shape do not agree")
            if stop > size:
                raise ValueError(f"it ends after {size} bytes, inside {name}")
    except OSError as error:
        raise MisError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MisError(f"{path}: not a whole safetensors file ({error}); {remedy}") from None
    return tensors


def read_checkpoint(folder: Path) -> dict[Path, dict[str, Stored]]:
    """The tensors of a checkpoint by file: those that the index names, or those of `model.safetensors`.

    Other files in the folder do not count. Raises :class:`MisError` for a missing shard or a tensor that is not in the
    shard where the index says it is.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            places: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            by_file: dict[str, set[str]] = {}
            for name, file in places.items():
                if Path(file).name != file:
                    raise ValueError(f"{file!r} is not a file beside it")
                by_file.setdefault(file, set()).add(name)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise MisError(f"{index}: not an index of shards ({error}); fetch or copy it again") from None
        found = {folder / file: read_header(folder / file) for file in sorted(by_file)}
        for path, tensors in found.items():
            if wrong := sorted(by_file[path.name] ^ tensors.keys()):
                raise MisError(f"{path}: not what {INDEX} says of it, as {wrong[0]}; fetch both again")
        return found
    single = folder / SINGLE
    if not single.is_file():
        other = next((path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)), None)
        reason = f"{other} is a pickle, which could run code" if other else f"neither {SINGLE} nor {INDEX} is there"
        raise MisError(f"{folder}: no weights in safetensors ({reason}); fetch the checkpoint in that format")
    return {single: read_header(single)}


def write_tensors(path: Path, tensors: Mapping[str, Pieced]) -> None:
    """A safetensors file of `tensors`, in their order; an older one stays until it is whole."""
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + tensor.size],
        }  # fmt: skip
        offset += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        open_file: IO[bytes] | None = None
        try:
            for rows in (rows for tensor in tensors.values() for rows in tensor.pieces):
                if open_file is None or open_file.name != str(rows.tensor.file):
                    if open_file:
                        open_file.close()
                    open_file = open(rows.tensor.file, "rb")  # noqa: SIM115  closed below, kept over many tensors
                _copy(open_file, out, rows)
        finally:
            if open_file:
                open_file.close()


def _copy(source: IO[bytes], out: IO[bytes], rows: Rows) -> None:
    source.seek(rows.tensor.start + rows.start * rows.tensor.row_bytes)
    left = len(rows) * rows.tensor.row_bytes
    while left:
        piece = source.read(min(CHUNK, left))
        if not piece:
            raise MisError(f"{rows.tensor.file}: ends early; it changed while it was read: run the same command again")
        out.write(piece)
        left -= len(piece)


def index_of(shards: Iterable[tuple[str, Mapping[str, Pieced]]]) -> dict:
    """The content of the index over `shards`, (file, tensors)."""
    shards = list(shards)
    total = sum(tensor.size for _, tensors in shards for tensor in tensors.values())
    places = {name: file for file, tensors in shards for name in tensors}
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
