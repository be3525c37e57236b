"""The lock of the public datasets, `config/data.lock.json`: which commit, which files, how large, which checksum.

The first download of a dataset writes its entry; every later one is held against it. Commit the file: it is what makes
two runs read the same data. An entry:

    {"origins": [{"host", "repository", "commit", "files": {path: {"size", "sha256"}},
                  "unpacked": {archive: {"files", "bytes", "sha256"}}}],
     "by_hand": {path: {"size", "sha256"}}}

`commit` is null where files were taken from a folder of the user's. `unpacked.sha256` is that of the archive's listing
(:mod:`mis.data.archives`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mis.errors import MisError
from mis.store import write_text_atomic

DEFAULT = Path("config/data.lock.json")
CHUNK = 1 << 20  # bytes that are read at once where a file is copied


class DataError(MisError):
    """A dataset that cannot be fetched, or is not what the lock says. Names the file and the remedy."""


def read(path: Path) -> dict[str, Any]:
    """The entries by dataset; none where there is no lock yet."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); restore it from version control") from None
    if not isinstance(entries, dict):
        raise DataError(f"{path}: expected an object by dataset; restore it from version control")
    return entries


def write(path: Path, name: str, entry: dict[str, Any]) -> None:
    """Replace the entry of one dataset; the others stay."""
    entries = read(path) | {name: entry}
    text = json.dumps(dict(sorted(entries.items())), indent=1, ensure_ascii=False)
    write_text_atomic(path, text + "\n")


def facts(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return {"size": file.tell(), "sha256": digest.hexdigest()}


def difference(path: Path, known: dict[str, Any]) -> str:
    """What is wrong with a file, "" if it is what the lock says. The size is looked at first: it costs nothing."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != known["size"]:
        return f"has {size} bytes, not {known['size']}"
    return "" if facts(path)["sha256"] == known["sha256"] else "has another SHA-256 than the lock"
