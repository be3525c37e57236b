"""What a run reads of the public datasets, and whether that was pinned: a note a dataset, one table for all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mis import layout
from mis.data import lock
from mis.data.fetch import Fetched, fetch, known
from mis.data.lock import DataError
from mis.settings import Settings
from mis.sources.public import DATASETS, OURS
from mis.store import write_csv_atomic, write_text_atomic

COLUMNS = ("dataset", "repository", "commit", "files", "bytes", "licence", "pinned")


def take(settings: Settings, name: str, lock_path: Path | None = None, allow_unpinned: bool = False) -> Fetched:
    """Fetches or checks a dataset as a step of a run, and notes what was read (`layout.fetched`).

    Raises :class:`DataError` for a dataset that the lock does not name, unless unpinned inputs are allowed: then the
    newest commit is read, the lock stays as it is and the note says so. What is to be done by hand must have been done.
    """
    lock_path = lock_path or settings.sources.lock
    public = known(name)
    if not (name in lock.read(lock_path) or allow_unpinned or settings.sources.allow_unpinned):
        raise DataError(
            f"{lock_path}: {name} is not pinned; run `mis data fetch {name}` and keep the lock under version control, "
            "or allow it: `mis data fetch --allow-unpinned`, or sources.allow_unpinned in the configuration"
        )
    fetched = fetch(name, settings.paths.data, lock_path, write=False)
    if fetched.todo:
        raise DataError("; ".join(fetched.todo))
    rows = []
    for origin in fetched.entry["origins"]:
        files = list(origin["files"].values())
        rows.append(_row(name, origin["repository"], origin["commit"], files, public.licence, fetched.pinned))
    if by_hand := list(fetched.entry["by_hand"].values()):
        rows.append(_row(name, "by hand", None, by_hand, public.licence, fetched.pinned))
    write_text_atomic(layout.fetched(settings, name), json.dumps(rows, indent=1) + "\n")
    return fetched


def _row(name: str, repository: str, commit: str | None, files: Sequence[dict], licence: str, pinned: bool) -> dict:
    size = sum(file["size"] for file in files)
    return {
        "dataset": name, "repository": repository, "commit": commit or "local", "files": len(files), "bytes": size,
        "licence": licence or "not read", "pinned": "yes" if pinned else "no",
    }  # fmt: skip


def write_inputs(settings: Settings, names: Sequence[str]) -> list[Path]:
    """The notes of these datasets as one table, CSV and Markdown. Raises :class:`DataError` for one that is missing."""
    rows = []
    for name in names:
        if name in OURS:
            continue
        path = layout.fetched(settings, name)
        if not path.is_file():
            raise DataError(f"{path}: no such file; run `mis data fetch {name} --for-run`")
        rows += json.loads(path.read_text(encoding="utf-8"))
    path = layout.inputs(settings)
    write_csv_atomic(path, rows, COLUMNS)
    page = path.with_suffix(".md")
    write_text_atomic(page, _page(rows))
    return [path, page]


def _page(rows: list[dict]) -> str:
    unpinned = sorted({row["dataset"] for row in rows if row["pinned"] == "no"})
    said = (
        f"**Unpinned inputs: {', '.join(unpinned)}.** They were read at the commit below, which nothing fixed before."
        if unpinned
        else "Every dataset was read as the lock (`config/data.lock.json`) says."
    )
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(str(row[column]) for column in COLUMNS)} |" for row in rows]
    return "\n".join(["# Datasets that this run read", "", said, "", *lines, ""])


def wanted(settings: Settings) -> list[str]:
    """The public datasets that a configuration's suites and arms read, in the order of the table of datasets."""
    from mis.benchmarks import BY_ID
    from mis.mixtures import ARMS

    sources = {BY_ID[name].source for names in settings.evaluation.suites.values() for name in names}
    sources |= {part.source for arm in settings.all_arms() for part in ARMS[arm].parts}
    return [name for name in DATASETS if name in sources]
