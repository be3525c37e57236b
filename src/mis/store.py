"""How records are kept: strict reading, atomic writing, and a journal that survives `kill -9`.

A published file is written whole or not at all. A journal is append-only and holds every attempt with its time; it
lies beside the published file as `<name>.journal.jsonl` and is kept afterwards.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from mis.errors import MisError


class StoreError(MisError):
    """A file that cannot be read or written as it should. The text names it, the line and the remedy."""


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into a message that says what is still whole and what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space" if full else "mend that"
        message = f"{path}: {error.strerror or error}; {what}; {remedy} and run the same command again"
        raise StoreError(message) from error


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turns what torch, safetensors and shutil raise on a full disk, no OSError with a number, into a message.

    `folder` lies on the disk that is written to; the error names it.
    """
    try:
        yield
    except MisError:
        raise
    except Exception as error:
        free = shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.exists())).free
        if os.strerror(errno.ENOSPC) not in str(error) and free > 2**20:
            raise
        raise StoreError(
            f"{folder}: {os.strerror(errno.ENOSPC)}; what was finished before is kept; free some space and run the "
            "same command again"
        ) from error


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, in order.

    Raises :class:`StoreError` for a missing file, a line that is not a JSON object, or a last line without its end.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); run the step that writes it") from error
    if content and not content.endswith(b"\n"):
        line = content.count(b"\n") + 1
        raise StoreError(f"{path}, line {line}: the file is cut off here; remove it and run the step that writes it")
    return [_parse(line, path, number) for number, line in enumerate(content.splitlines(), start=1)]


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:  # malformed JSON or bytes that are not UTF-8
        reason = str(error)
    else:
        if isinstance(row, dict):
            return row
        reason = f"expected a JSON object, found {type(row).__name__}"
    raise StoreError(
        f"{path}, line {number}: not a valid row ({reason}); mend or remove that line, or remove the file, and run the "
        "step that writes it again"
    )


@contextmanager
def replacing(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    """A file to write; it takes the place of `path` only when the block ends without an error.

    Until then, and after any error (a full disk: :class:`StoreError`), the old file stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    encoding = None if "b" in mode else "utf-8"
    try:
        with _explained(path, "the file was not written and an older one is unchanged"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, mode, encoding=encoding, newline=None if encoding is None else "") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """A rename is durable only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text_atomic(path: Path | str, text: str) -> None:
    with replacing(path) as file:
        file.write(text)


def write_jsonl_atomic(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """One row a line, UTF-8, keys in the rows' own order."""
    with replacing(path) as file:
        file.writelines(_line(row) for row in rows)


def write_csv_atomic(path: Path | str, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """`rows` under a header of `columns`; a missing value or None is an empty cell, an unknown column an error."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomic(path, text.getvalue())


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True)
class Attempt:
    """One line of a journal. `request` digests what was asked, so that an answer to another question is never used.

    `row` is what may be published; it holds the `key`. `time` is set by the journal (UTC, ISO 8601).
    """

    request: str
    ok: bool
    row: dict[str, Any]
    time: str = ""

    @property
    def key(self) -> str:
        return self.row["key"]


def journal_path(published: Path) -> Path:
    return published.with_name(f"{published.stem}.journal.jsonl")


class Journal:
    """Append-only record of attempts; a context manager that holds the file's exclusive lock.

    `attempts` are those found on opening and those appended since. `repaired` is the number of bytes of a torn last
    line (the writer was killed) that were cut off, 0 if there was none; the attempt in it counts as never made.
    `every` is the number of attempts between two fsyncs: 1 where an attempt costs money, more where it is cheap. A
    killed process loses nothing that `append` returned from; a power failure loses at most `every` attempts.
    """

    def __init__(self, path: Path | str, *, every: int = 1):
        self.path = Path(path)
        self.every = every
        self.repaired = 0
        self.attempts: list[Attempt] = []
        self._unsynced = 0
        with _explained(self.path, "the journal could not be opened"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            self._lock()
            self._load()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"{self.path}: another process is writing this journal; wait until it ends, or stop it, and run the "
                "same command again"
            ) from None

    def _load(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self.repaired = len(content) - len(whole)
            os.ftruncate(self._descriptor, len(whole))
            os.fsync(self._descriptor)
        for number, line in enumerate(whole.splitlines(), start=1):
            row = _parse(line, self.path, number)
            try:
                attempt = Attempt(**row)
                attempt.key  # noqa: B018  a row without a key is as useless as a torn one
            except (TypeError, KeyError):
                raise StoreError(
                    f"{self.path}, line {number}: not a journal's row; remove that line, or the file to ask anew"
                ) from None
            self.attempts.append(attempt)

    def append(self, attempts: Iterable[Attempt]) -> None:
        """Writes the attempts in one go. If the disk is full none of them is kept, and the journal stays readable."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        stamped = [Attempt(a.request, a.ok, a.row, now) for a in attempts]
        data = "".join(_line(asdict(attempt)) for attempt in stamped).encode()
        start = os.fstat(self._descriptor).st_size
        with _explained(self.path, "what was answered before is kept"):
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                os.ftruncate(self._descriptor, start)
                raise
            self.attempts.extend(stamped)
            self._unsynced += len(stamped)
            if self._unsynced >= self.every:
                self._sync()

    def _sync(self) -> None:
        os.fsync(self._descriptor)
        self._unsynced = 0

    def standing(self, requests: Mapping[str, str]) -> dict[str, Attempt]:
        """Per key of `requests` (key -> digest) the attempt that stands: the last successful one, else the last failed.

        Attempts at another request than the one given are left out, as are keys that were never attempted.
        """
        standing: dict[str, Attempt] = {}
        for attempt in self.attempts:
            if requests.get(attempt.key) != attempt.request:
                continue
            old = standing.get(attempt.key)
            if old is None or attempt.ok or not old.ok:
                standing[attempt.key] = attempt
        return standing

    def close(self) -> None:
        try:
            if self._unsynced:
                with _explained(self.path, "the last attempts may not have reached the disk"):
                    self._sync()
        finally:
            os.close(self._descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def publish(journal: Journal, path: Path | str, requests: Mapping[str, str]) -> list[dict[str, Any]]:
    """Writes the standing row of every key in `requests`, sorted by key, without times and attempts; returns the rows.

    The same attempts give the same bytes, however often the run was interrupted. Raises :class:`StoreError` if a key
    was never attempted.
    """
    standing = journal.standing(requests)
    if missing := sorted(requests.keys() - standing.keys()):
        raise StoreError(
            f"{path}: {len(missing)} of {len(requests)} rows are missing in {journal.path}, the first is {missing[0]}; "
            "run the same command again"
        )
    rows = [standing[key].row for key in sorted(requests)]
    write_jsonl_atomic(path, rows)
    return rows
