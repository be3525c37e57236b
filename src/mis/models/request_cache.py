"""Answers by the content of their requests, so that nothing is paid for twice; and what was spent.

It saves money and is not the record: that is the journal beside the responses. It may be deleted at any time, but for
the money that it has counted.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mis.errors import MisError

WAIT_S = 60.0  # for another process that is writing

SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (digest TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (id INTEGER PRIMARY KEY, account TEXT NOT NULL, money REAL NOT NULL);
"""


class RequestCache:
    """`<folder>/requests.sqlite`, for all models and processes of this machine; the folder must be on a local disk.

    Used by one thread at a time. Raises :class:`MisError` where the file cannot be read or written.
    """

    def __init__(self, folder: Path):
        self.path = Path(folder) / "requests.sqlite"
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
            # A killed process loses nothing; a power failure the last few answers, which are then asked again.
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(SCHEMA)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise MisError(
                f"{self.path}: the request cache cannot be used ({error}); mend that, or remove the file (what it "
                "holds is then asked again), and run the same command again"
            ) from None

    def _execute(self, query: str, *values: object) -> sqlite3.Cursor:
        with self._explained():
            return self._db.execute(query, values)

    def get(self, digest: str) -> dict | None:
        row = self._execute("SELECT reply FROM replies WHERE digest = ?", digest).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, digest: str, reply: dict) -> None:
        text = json.dumps(reply, ensure_ascii=False)
        self._execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", digest, text)

    def spent(self, account: str) -> float:
        """Money spent on an account, requests included that were in flight when a process was killed."""
        return self._execute("SELECT COALESCE(SUM(money), 0) FROM spending WHERE account = ?", account).fetchone()[0]

    def reserve(self, account: str, most: float) -> int:
        """Notes the most that a request may cost, before it is sent; :meth:`settle` corrects it."""
        return self._execute("INSERT INTO spending (account, money) VALUES (?, ?)", account, most).lastrowid

    def settle(self, entry: int, cost: float) -> None:
        self._execute("UPDATE spending SET money = ? WHERE id = ?", cost, entry)

    def close(self) -> None:
        self._db.close()
