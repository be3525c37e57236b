"""What the loaders share: strict reading of JSON, JSON Lines, CSV and Parquet, and pictures as checked files.

Every fault is a :class:`SourceError` that names the file, the row or line and the remedy, and never quotes a sample.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import string
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from mis.errors import MisError
from mis.samples import Example, Sample

BLANK = {name: Path(__file__).parent / "blank" / f"{name}.png" for name in ("black", "white")}
IMAGE_PLACEHOLDER = "<image>"
EXTRACTED = ".images"  # below a dataset's root: pictures that the dataset itself keeps inside a table
REDOWNLOAD = "download it again, or run the step that wrote it again"
csv.field_size_limit(sys.maxsize)  # a cell of MMT-Bench holds several pictures


class SourceError(MisError, ValueError):
    """A dataset that cannot be read as its public layout says. Its text is meant for the user."""


@dataclass
class Notes:
    """What loaders noticed. `left_out` counts rows that a loader leaves out by a rule of its own, by reason.

    With `count_missing` a missing picture is no error: it is in `missing`, and the sample is given all the same.
    """

    count_missing: bool = False
    missing: set[Path] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)


_NOTES: ContextVar[Notes | None] = ContextVar("notes", default=None)


@contextmanager
def noting(*, count_missing: bool = False) -> Iterator[Notes]:
    """Collects what the loaders notice in the block."""
    token = _NOTES.set(Notes(count_missing))
    try:
        yield _NOTES.get()
    finally:
        _NOTES.reset(token)


def counting() -> bool:
    """Are samples only counted, so that what is missing beside the table is no error?"""
    return (notes := _NOTES.get()) is not None and notes.count_missing


def leave_out(reason: str) -> None:
    """Say that a row is left out."""
    if (notes := _NOTES.get()) is not None:
        notes.left_out[reason] += 1


@dataclass(frozen=True)
class Row:
    """One record of a file; `where` says which, for messages."""

    values: dict[str, Any]
    where: str

    def get(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """The field `name`, which must be there and of type `kind`."""
        if name not in self.values:
            raise self.error(f"no field {name!r}; the layout is described in docs/data.md")
        value = self.values[name]
        # bool is an int in Python; a flag where a number is expected is still a fault.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"field {name!r} has type {type(value).__name__}; the layout is described in docs/data.md")
        return value

    def text(self, name: str, *, empty: bool = False) -> str:
        """A string field; blank text is an error unless `empty`."""
        value = self.get(name, str)
        if not empty and not value.strip():
            raise self.error(f"field {name!r} is empty")
        return value

    def label(self, name: str) -> str:
        """A field of descriptive text: "" where it is absent or null."""
        return "" if self.values.get(name) is None else str(self.values[name])

    def id(self, name: str) -> str:
        """An identifier: a whole number or a non-empty string."""
        value = self.get(name, (str, int))
        return self.text(name) if isinstance(value, str) else str(value)

    def error(self, message: str) -> SourceError:
        return SourceError(f"{self.where}: {message}")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; put the dataset there in its public layout (docs/data.md)") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 (byte {error.start}); {REDOWNLOAD}") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None


def _row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise SourceError(f"{where}: expected an object, found {type(value).__name__}; {REDOWNLOAD}")
    return Row(value, where)


def read_json(path: Path, kind: type) -> Any:
    """The value of a JSON file, a `kind` (list or dict) at the top."""
    try:
        value = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise SourceError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); the file may be cut short: {REDOWNLOAD}"
        ) from None
    if not isinstance(value, kind):
        raise SourceError(f"{path}: expected a {kind.__name__} at the top, found {type(value).__name__}")
    return value


def json_rows(path: Path) -> list[Row]:
    """The objects of a JSON list; rows count from 0, as in Python."""
    return [_row(value, f"{path}, row {number}") for number, value in enumerate(read_json(path, list))]


def jsonl_rows(path: Path) -> list[Row]:
    """The objects of a JSON Lines file; lines count from 1."""
    rows = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise SourceError(
                f"{path}, line {number}: not valid JSON ({error.msg}); the line may be cut short: {REDOWNLOAD}"
            ) from None
        rows.append(_row(value, f"{path}, line {number}"))
    return rows


def csv_rows(path: Path, columns: Sequence[str], delimiter: str = ",") -> list[Row]:
    """The rows of a delimited file with a header that holds at least `columns`; every row must fill the header."""
    # newline="" keeps a line break inside a quoted cell as it is.
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise SourceError(f"{path}: no column {', '.join(missing)}; the layout is described in docs/data.md")
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            if None in values or None in values.values():
                raise SourceError(f"{where}: not as many cells as the header has; {REDOWNLOAD}")
            rows.append(Row(values, where))
    except csv.Error as error:
        raise SourceError(f"{path}, after line {reader.line_num}: {error}; {REDOWNLOAD}") from None
    return rows


def parquet_rows(root: Path, pattern: str, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of the Parquet files below `root` that match `pattern`, in the order of their names."""
    import pyarrow as pa
    from pyarrow import parquet

    paths = sorted(root.glob(pattern))
    if not paths:
        raise SourceError(f"{root / pattern}: no such file; put the dataset there in its public layout (docs/data.md)")
    for path in paths:
        number = 0
        try:
            file = parquet.ParquetFile(path)
            missing = [column for column in columns if column not in file.schema_arrow.names]
            if missing:
                raise SourceError(f"{path}: no column {', '.join(missing)}; the layout is described in docs/data.md")
            for batch in file.iter_batches(batch_size=64):  # rows hold pictures: a few at a time
                for values in batch.to_pylist():
                    yield Row(values, f"{path}, row {number}")
                    number += 1
        except (pa.ArrowException, OSError):
            raise SourceError(f"{path}, after row {number}: not a readable Parquet file; {REDOWNLOAD}") from None


def _verify(file: Path | io.BytesIO) -> str:
    """The format of a picture; raises what PIL raises when it is damaged. About 25 us for a small PNG."""
    with Image.open(file) as image:
        kind = image.format or ""
        image.verify()  # checks every chunk of a PNG, but no more than the header of a JPEG
    if kind == "JPEG":
        stream = open(file, "rb") if isinstance(file, Path) else file
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 64))
        ended = b"\xff\xd9" in stream.read()
        if isinstance(file, Path):
            stream.close()
        if not ended:  # cut short, or followed by other data: only decoding tells
            if not isinstance(file, Path):
                file.seek(0)
            with Image.open(file) as image:
                image.load()
    return kind


def picture(root: Path, relative: str, where: str, *, look: bool = True) -> Path:
    """The file of a picture that a dataset names relative to `root`: inside `root`, there, and not damaged.

    Without `look` it is not opened (a million pictures, of which few will be drawn). "Inside" is a matter of the name
    (no absolute path, no way out through ".."); links that the user set are followed.
    """
    name = os.path.normpath(relative) if relative else "."
    if name == "." or os.path.isabs(name) or name.split(os.sep)[0] == "..":
        raise SourceError(f"{where}: picture path {relative!r} does not stay inside {root}; correct the row")
    path = root / name
    try:
        if look:
            _verify(path)
        elif not path.is_file():
            raise FileNotFoundError
    except FileNotFoundError:
        if not counting():
            raise SourceError(f"{where}: picture {path} is missing; unpack the dataset's pictures there") from None
        _NOTES.get().missing.add(path)
    except Exception as error:  # PIL raises many kinds, SyntaxError among them
        raise SourceError(f"{where}: picture {path} is damaged ({type(error).__name__}); {REDOWNLOAD}") from None
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def extract(root: Path, content: bytes, where: str) -> Path:
    """A picture kept inside a table, as a file: `<root>/.images/<digest>.<format>`, written when absent.

    The name is a digest of the content, so a dataset that was replaced never meets the pictures of the old one.
    """
    try:
        kind = _verify(io.BytesIO(content))
    except Exception as error:
        raise SourceError(f"{where}: its picture is damaged ({type(error).__name__}); {REDOWNLOAD}") from None
    suffix = {"JPEG": "jpg"}.get(kind, kind.lower())
    path = root / EXTRACTED / f"{hashlib.sha256(content).hexdigest()[:20]}.{suffix}"
    try:
        if not path.exists() or path.stat().st_size != len(content):
            write_atomically(path, content)
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be written ({error.strerror}); the dataset's folder must be writable and "
            "have room for its pictures"
        ) from None
    return path


def embedded(row: Row, name: str, root: Path) -> Path:
    """The picture in the field `name`: bytes, or the `{"bytes", "path"}` of Hugging Face's image feature."""
    return extract(root, _image_bytes(row.values.get(name), name, row), row.where)


def embedded_list(row: Row, name: str, root: Path) -> tuple[Path, ...]:
    """The pictures in a field that holds a list of them."""
    return tuple(extract(root, _image_bytes(value, name, row), row.where) for value in row.get(name, list))


def _image_bytes(value: Any, name: str, row: Row) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise row.error(f"field {name!r} holds no picture; {REDOWNLOAD}")
    return content


def right_option(options: Sequence[str], letter: str, row: Row) -> str:
    """The text of the option that `letter` (A is the first) names."""
    position = string.ascii_uppercase.find(letter.strip()) if len(letter.strip()) == 1 else -1
    if not 0 <= position < len(options):
        raise row.error(
            f"the answer is not the letter of one of its {len(options)} options; a split without public "
            "answers cannot be scored"
        )
    return options[position]


def without_placeholders(text: str) -> tuple[str, int]:
    """A prompt without `<image>`, and how many there were.

    Pictures stand before the text in this project, so placeholders at either end say nothing and go; one inside the
    text becomes `[image k]`, because the sentence needs it.
    """
    parts = text.split(IMAGE_PLACEHOLDER)
    first = next((k for k, part in enumerate(parts) if part.strip()), 0)
    last = max((k for k, part in enumerate(parts) if part.strip()), default=0)
    inner = parts[first]
    for k in range(first + 1, last + 1):
        inner += f"[image {k}]{parts[k]}"
    return inner.strip(), len(parts) - 1


def known_split(split: str, known: Sequence[str], dataset: str) -> None:
    """Raise unless the dataset has the split."""
    if split not in known:
        raise SourceError(f"{dataset}: unknown split {split!r}; it has {', '.join(map(repr, known))}")


def unique(records: list[Sample] | list[Example], path: Path) -> Any:
    """The records, whose ids must differ; `path` is the file to correct."""
    seen: set[str] = set()
    for number, record in enumerate(records):
        if record.id in seen:
            raise SourceError(f"{path}: id {record.id!r} occurs twice (again at sample {number}); ids must differ")
        seen.add(record.id)
    return records


Loader = Callable[[Path, str], list[Sample]]
TrainingLoader = Callable[[Path, str], list[Example]]
