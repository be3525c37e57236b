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
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import accumulate
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


# Where the standing attempts begin in the journal, and which rows are to be published. A temporary database without a
# name: SQLite keeps on disk what does not fit its page cache, so that memory stays flat however many there are.
INDEX = """
CREATE TABLE standing (key TEXT, request TEXT, ok INTEGER, start INTEGER, PRIMARY KEY (key, request)) WITHOUT ROWID;
CREATE TABLE expected (key TEXT PRIMARY KEY, request TEXT) WITHOUT ROWID;
"""
STAND = """
INSERT INTO standing VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET ok = excluded.ok, start = excluded.start WHERE excluded.ok OR NOT ok
"""
MISSING = "FROM expected LEFT JOIN standing USING (key, request) WHERE start IS NULL"


def journal_path(published: Path) -> Path:
    return published.with_name(f"{published.stem}.journal.jsonl")


def read_attempts(path: Path) -> list[Attempt]:
    """The attempts of a journal that another process may be writing; a line without its end is left out."""
    with open(path, "rb") as file:
        return [_attempt(line, path, number) for number, line in enumerate(file, start=1) if line.endswith(b"\n")]


def _attempt(line: bytes, path: Path, number: int) -> Attempt:
    row = _parse(line, path, number)
    try:
        attempt = Attempt(**row)
        attempt.key  # noqa: B018  a row without a key is as useless as a torn one
    except (TypeError, KeyError):
        raise StoreError(
            f"{path}, line {number}: not a journal's row; remove that line, or the file to ask anew"
        ) from None
    return attempt


class Journal:
    """Append-only record of attempts; a context manager that holds the file's exclusive lock.

    `repaired` is the number of bytes of a torn last line (the writer was killed) that were cut off, 0 if there was
    none; the attempt in it counts as never made. `every` is the number of attempts between two fsyncs: 1 where an
    attempt costs money, more where it is cheap. A killed process loses nothing that `append` returned from; a power
    failure loses at most `every` attempts. Memory does not grow with the number of attempts.
    """

    def __init__(self, path: Path | str, *, every: int = 1):
        self.path = Path(path)
        self.every = every
        self.repaired = 0
        self._unsynced = 0
        with _explained(self.path, "the journal could not be opened"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._reader = open(self.path, "rb")
        self._index = sqlite3.connect("", isolation_level=None)
        try:
            self._lock()
            self._index.executescript(INDEX)
            self._load()
        except BaseException:
            self._free()
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
        end = 0  # of the whole lines

        def found() -> Iterator[tuple[Attempt, int]]:
            nonlocal end
            for number, line in enumerate(self._reader, start=1):
                if not line.endswith(b"\n"):
                    self.repaired = len(line)
                    return
                yield _attempt(line, self.path, number), end
                end += len(line)

        self._note(found())
        if self.repaired:
            os.ftruncate(self._descriptor, end)
            os.fsync(self._descriptor)

    def _note(self, attempts: Iterable[tuple[Attempt, int]]) -> None:
        """Attempts and where their lines start."""
        self._index.execute("BEGIN")
        self._index.executemany(STAND, ((a.key, a.request, a.ok, start) for a, start in attempts))
        self._index.execute("COMMIT")

    @property
    def attempts(self) -> list[Attempt]:
        """All of them in their order, read from the file."""
        return read_attempts(self.path)

    def append(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """Writes the attempts in one go and returns them with their time.

        If the disk is full none of them is kept, and the journal stays readable.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        stamped = [Attempt(a.request, a.ok, a.row, now) for a in attempts]
        lines = [_line(asdict(attempt)).encode() for attempt in stamped]
        start = os.fstat(self._descriptor).st_size
        with _explained(self.path, "what was answered before is kept"):
            try:
                view = memoryview(b"".join(lines))
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                os.ftruncate(self._descriptor, start)
                raise
            self._note(zip(stamped, accumulate(map(len, lines), initial=start), strict=False))
            self._unsynced += len(stamped)
            if self._unsynced >= self.every:
                self._sync()
        return stamped

    def _sync(self) -> None:
        os.fsync(self._descriptor)
        self._unsynced = 0

    def expect(self, key: str, request: str) -> bool:
        """Says that a row of this key, for this request, will be published; returns whether it is answered already.

        Raises :class:`StoreError` if the key was expected before.
        """
        try:
            self._index.execute("INSERT INTO expected VALUES (?, ?)", (key, request))
        except sqlite3.IntegrityError:
            raise StoreError(f"{self.path}: two rows share the key {key}; keys must be unique") from None
        found = self._find("ok", key, request)
        return bool(found and found[0])

    def _find(self, column: str, key: str, request: str) -> tuple | None:
        query = f"SELECT {column} FROM standing WHERE key = ? AND request = ?"
        return self._index.execute(query, (key, request)).fetchone()

    def standing(self, requests: Mapping[str, str]) -> dict[str, Attempt]:
        """Per key of `requests` (key -> digest) the attempt that stands: the last successful one, else the last failed.

        Attempts at another request than the one given are left out, as are keys that were never attempted.
        """
        found = {key: self._find("start", key, request) for key, request in requests.items()}
        return {key: self._read(row[0]) for key, row in found.items() if row}

    def _read(self, start: int) -> Attempt:
        self._reader.seek(start)
        return Attempt(**json.loads(self._reader.readline()))

    def missing(self) -> tuple[int, int, str | None]:
        """How many expected rows were never attempted, of how many, and the first of their keys."""
        (total,) = self._index.execute("SELECT COUNT(*) FROM expected").fetchone()
        count, first = self._index.execute(f"SELECT COUNT(*), MIN(key) {MISSING}").fetchone()
        return count, total, first

    def expected(self) -> Iterator[Attempt]:
        """The standing attempts at what was expected, sorted by key."""
        query = "SELECT start FROM expected JOIN standing USING (key, request) ORDER BY key"
        return (self._read(start) for (start,) in self._index.execute(query))

    def close(self) -> None:
        try:
            if self._unsynced:
                with _explained(self.path, "the last attempts may not have reached the disk"):
                    self._sync()
        finally:
            self._free()

    def _free(self) -> None:
        self._index.close()
        self._reader.close()
        os.close(self._descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def compact(journal: Journal, path: Path | str, see: Callable[[dict[str, Any]], object]) -> None:
    """Writes the standing row of all that `journal` expects, sorted by key, without times and attempts.

    The same attempts give the same bytes, however often the run was interrupted. `see` is shown each row, so that
    nobody needs to hold all. Raises :class:`StoreError` if a row was never attempted.
    """
    count, total, first = journal.missing()
    if count:
        raise StoreError(
            f"{path}: {count} of {total} rows are missing in {journal.path}, the first is {first}; "
            "run the same command again"
        )
    with replacing(path) as file:
        for attempt in journal.expected():
            see(attempt.row)
            file.write(_line(attempt.row))


def publish(journal: Journal, path: Path | str, requests: Mapping[str, str]) -> list[dict[str, Any]]:
    """:func:`compact` of the rows with the keys of `requests` (key -> digest); returns them."""
    for key, request in requests.items():
        journal.expect(key, request)
    rows: list[dict[str, Any]] = []
    compact(journal, path, rows.append)
    return rows
