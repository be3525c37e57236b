"""`mis data fetch` and `mis data verify`: public datasets into the data root, pinned by the lock.

A dataset without an entry in the lock is taken at the newest commit, checked against the checksums that its host
announces, and the entry is written. With an entry the commit, sizes and checksums are the entry's. What is already
there and right is not loaded again.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mis.data import archives, lock
from mis.data.lock import DataError
from mis.data.remote import HOSTS, RemoteFile, Repository, is_right
from mis.progress import track
from mis.sources.public import DATASETS, OURS, ByHand, Named, Origin, Public


@dataclass
class Fetched:
    """What a fetch ended with. `pinned`: the lock had the dataset before. `todo`: what a person still has to do."""

    name: str
    entry: dict[str, Any]
    pinned: bool
    todo: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        files = [known for origin in self.entry["origins"] for known in origin["files"].values()]
        files += self.entry["by_hand"].values()
        commits = ", ".join(f"{o['repository']} {(o['commit'] or 'local')[:12]}" for o in self.entry["origins"])
        size = sum(known["size"] for known in files) / 1e6
        state = "as the lock says" if self.pinned else "newly pinned"
        return f"{self.name}: {len(files):,} files, {size:,.1f} MB, {commits}, {state}"


def known(name: str) -> Public:
    if name in OURS:
        raise DataError(f"{name}: made here, not fetched; run `mis data benign`")
    if name not in DATASETS:
        raise DataError(f"no public dataset {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def fetch(
    name: str,
    data: Path,
    lock_path: Path = lock.DEFAULT,
    *,
    write: bool = True,
    renew: bool = False,
    local: bool = False,
    only: tuple[str, ...] = (),
) -> Fetched:
    """Fetches one dataset to `<data>/<name>`; `write`: a new entry goes into the lock.

    `renew` takes the newest commit whatever the lock says; `local` pins the files that lie there, without a host;
    `only` are patterns that a new entry is limited to (say, some archives of M4-Instruct).
    Raises :class:`DataError`.
    """
    public, root = known(name), data / name
    entry = None if renew or local else lock.read(lock_path).get(name)
    pinned = entry is not None
    if pinned:
        _same_origins(public, entry, lock_path)
    entry = {
        "origins": [
            _local(origin, root, only) if local else _origin(origin, old, root, only)
            for origin, old in zip(
                public.origins, entry["origins"] if entry else [None] * len(public.origins), strict=True
            )
        ],
        "by_hand": dict(entry["by_hand"]) if entry else {},
    }
    fetched = Fetched(name, entry, pinned)
    for by_hand in public.by_hand:
        _by_hand(by_hand, root, entry["by_hand"], fetched.todo)
    if write and lock.read(lock_path).get(name) != entry:
        lock.write(lock_path, name, entry)
    return fetched


def verify(name: str, data: Path, lock_path: Path = lock.DEFAULT) -> list[str]:
    """What differs between the files on disk and the lock, a line each; empty if nothing does."""
    public, root = known(name), data / name
    entry = lock.read(lock_path).get(name)
    if entry is None:
        return [f"{name}: not in {lock_path}; run `mis data fetch {name}`"]
    _same_origins(public, entry, lock_path)
    return [f"{root / path}: {problem}" for path, problem in _differences(root, entry)]


def _differences(root: Path, entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for origin in entry["origins"]:
        unpacked = origin["unpacked"]
        for path, facts in origin["files"].items():
            if path in unpacked and not (root / path).exists() and archives.listing(root, path).is_file():
                continue  # removed after it was unpacked
            if problem := lock.difference(root / path, facts):
                yield path, problem
        for archive, facts in unpacked.items():
            yield from archives.differences(root, archive, facts)
    for path, facts in entry["by_hand"].items():
        if problem := lock.difference(root / path, facts):
            yield path, problem


def _same_origins(public: Public, entry: dict[str, Any], lock_path: Path) -> None:
    declared = [(origin.host, origin.repository) for origin in public.origins]
    if declared != [(origin["host"], origin["repository"]) for origin in entry["origins"]]:
        raise DataError(f"{lock_path}: {public.name} is pinned to another repository; fetch it with --renew")


# One repository


def _origin(origin: Origin, old: dict[str, Any] | None, root: Path, only: tuple[str, ...]) -> dict[str, Any]:
    """Loads, checks and unpacks; returns the lock's entry."""
    repository = HOSTS[origin.host](origin.repository)
    commit = old["commit"] if old else repository.commit()
    files: dict[str, Any] = {}
    if old is None:
        there = repository.files(commit)
        remote = {path: there[path] for path in sorted(_chosen(origin, there, only))}
        if not remote:
            raise DataError(f"{repository.address}: none of its files is {', '.join(origin.files)}")
        files.update(_load(repository, origin, commit, root, remote, None))
        if origin.named:
            named = {name: there.get(name) for name in (origin.cut + name for name in _named(origin.named, root))}
            if missing := sorted(name for name in named if name not in there):
                raise DataError(f"{repository.address}: {len(missing)} named files are not there, first {missing[0]}")
            files.update(_load(repository, origin, commit, root, named, None))
    else:
        wanted = {origin.cut + path: RemoteFile(facts["size"]) for path, facts in old["files"].items()}
        skipped = {path for path in old["unpacked"] if not (root / path).exists() and _unpacked(root, path, old)}
        wanted = {path: file for path, file in wanted.items() if path.removeprefix(origin.cut) not in skipped}
        if commit is None and (broken := [p for p, f in old["files"].items() if lock.difference(root / p, f)]):
            raise DataError(f"{root / broken[0]}: not as pinned, and it came from a folder of yours; put it back there")
        for _ in _load(repository, origin, commit, root, wanted, old["files"]):
            pass
        files = old["files"]
    unpacked = _unpack(origin, root, files, old)
    return {
        "host": origin.host,
        "repository": origin.repository,
        "commit": commit,
        "files": dict(sorted(files.items())),
        "unpacked": unpacked,
    }


def _load(
    repository: Repository,
    origin: Origin,
    commit: str,
    root: Path,
    remote: dict[str, RemoteFile],
    pinned: dict[str, Any] | None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Loads what is missing or wrong, checks it, and gives (path in the dataset, facts)."""
    total = sum(file.size or 0 for file in remote.values())
    label = f"fetch {origin.repository} ({total / 1e6:,.1f} MB)"
    with track(len(remote), label) as advance:
        for remote_path, file in remote.items():
            path = remote_path.removeprefix(origin.cut)
            target = root / path
            if not is_right(target, file, pinned and pinned[path]):
                target.unlink(missing_ok=True)
                # The hub's client keeps the repository's own folders.
                repository.download(remote_path, commit, target, file.size)
                if not is_right(target, file, pinned and pinned[path]):
                    size = target.stat().st_size if target.exists() else 0
                    target.unlink(missing_ok=True)
                    raise DataError(
                        f"{target}: loaded from {repository.address}, {size} bytes, with another checksum than "
                        f"{'the lock' if pinned else 'its host'} says; it was removed: run the same command again, and "
                        "if that does not help look at what changed there"
                    )
            advance(1)
            yield path, pinned[path] if pinned else lock.facts(target)


def _unpack(origin: Origin, root: Path, files: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
    unpacked = {}
    for path in sorted(files):
        folder = next((folder for pattern, folder in origin.unpack if _matches(path, pattern)), None)
        if folder is None:
            continue
        if old and _unpacked(root, path, old):
            unpacked[path] = old["unpacked"][path]
            continue
        print(f"unpack {root / path}", file=sys.stderr, flush=True)
        unpacked[path] = archives.unpack(root, path, folder)
        if old and unpacked[path] != old["unpacked"].get(path):
            raise DataError(f"{root / path}: holds other files than the lock says; remove it and fetch it again")
    return unpacked


def _unpacked(root: Path, archive: str, old: dict[str, Any]) -> bool:
    return archive in old["unpacked"] and not any(archives.differences(root, archive, old["unpacked"][archive]))


def _local(origin: Origin, root: Path, only: tuple[str, ...]) -> dict[str, Any]:
    """The entry of files that the user put there; archives must have been left in their place to be unpacked."""
    there = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    paths = {path for path in there if any(_matches(origin.cut + path, pattern) for pattern in origin.files)}
    if origin.named and (root / origin.named.table).is_file():
        paths |= {name for name in _named(origin.named, root) if (root / name).is_file()}
    without = {path for path in paths for pattern in origin.without if _matches(path, pattern)}
    paths = {path for path in paths - without if not only or any(_matches(path, pattern) for pattern in only)}
    if not paths:
        raise DataError(f"{root}: none of its files is {', '.join(origin.files)}; put the dataset there (docs/data.md)")
    files = {path: lock.facts(root / path) for path in sorted(paths)}
    return {
        "host": origin.host,
        "repository": origin.repository,
        "commit": None,
        "files": files,
        "unpacked": _unpack(origin, root, files, None),
    }


def _chosen(origin: Origin, there: dict[str, RemoteFile], only: tuple[str, ...]) -> Iterator[str]:
    for path in there:
        wanted = any(_matches(path, pattern) for pattern in origin.files)
        refused = any(_matches(path, pattern) for pattern in origin.without)
        # What is limited are archives and pictures; the tables are always needed.
        limited = only and any(_matches(path, pattern) for pattern, _ in origin.unpack)
        if wanted and not refused and not (limited and not any(_matches(path, pattern) for pattern in only)):
            yield path


def _matches(path: str, pattern: str) -> bool:
    expression = "".join(
        ".*" if part == "**" else "[^/]*" if part == "*" else re.escape(part)
        for part in re.split(r"(\*\*|\*)", pattern)
    )
    return re.fullmatch(expression, path) is not None


def _named(named: Named, root: Path) -> list[str]:
    text = (root / named.table).read_text(encoding="utf-8-sig")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if named.column not in (rows.fieldnames or ()):
        raise DataError(f"{root / named.table}: no column {named.column}; the project changed its layout")
    return sorted({named.folder + row[named.column] for row in rows if row[named.column]})


def _by_hand(by_hand: ByHand, root: Path, entries: dict[str, Any], todo: list[str]) -> None:
    """Pins what a person put there; says what is missing."""
    paths = sorted(path for path in root.glob(by_hand.files) if path.is_file() and not path.name.startswith("."))
    if len(paths) < by_hand.count:
        todo.append(f"{root / by_hand.files}: {len(paths)} of {by_hand.count} are there; {by_hand.todo}")
    for path in paths:
        name = path.relative_to(root).as_posix()
        if name not in entries:
            entries[name] = lock.facts(path)
        elif problem := lock.difference(path, entries[name]):
            raise DataError(f"{path}: {problem}; put the right file there, or fetch with --renew to pin this one")
