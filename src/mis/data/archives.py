"""Archives, unpacked so that nothing lands outside their folder, with a listing that is checked later.

The listing has the form of `sha256sum`, sorted by path: `<sha256>  <path>`, paths relative to the dataset's folder. It
lies in `.fetched/<archive>.sha256` there, so the archive itself may be removed once it is unpacked.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from mis.data.lock import CHUNK, DataError, facts
from mis.store import write_text_atomic

LISTINGS = ".fetched"
LEFT_OUT = ("__MACOSX", ".DS_Store", "Thumbs.db")  # what file managers add


@dataclass(frozen=True)
class _Member:
    name: PurePosixPath
    size: int
    content: object  # what the opener takes


def unpack(root: Path, archive: str, folder: str) -> dict:
    """Unpacks `<root>/<archive>` into `<root>/<folder>`; returns the lock's facts: files, bytes, the listing's SHA-256.

    Where all members lie in a folder of that name already, they are not put into a second one. Raises
    :class:`DataError` for a damaged archive, and for a member that is a link or would leave the folder: nothing is
    written then.
    """
    path = root / archive
    folder = folder.format(stem=path.stem)
    try:
        with _opened(path) as source:
            members = list(_members(source, path))
            if not members:
                raise DataError(f"{path}: an archive without files; remove it and fetch the dataset again")
            inside = PurePosixPath(folder)
            repeats = folder and all(member.name.parts[: len(inside.parts)] == inside.parts for member in members)
            prefix = PurePosixPath() if repeats else inside
            needed = sum(member.size for member in members)
            if needed > shutil.disk_usage(root).free:
                raise DataError(f"{path}: {needed:,} bytes when unpacked, and the disk has less; free some space")
            lines = []
            for member in members:
                target = root / prefix / member.name
                lines.append((str(prefix / member.name), _write(_open(source, member), target)))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{path}: a damaged archive ({error}); remove it and fetch the dataset again") from None
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(lines))
    write_text_atomic(listing(root, archive), text)
    return {"files": len(lines), "bytes": needed, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def listing(root: Path, archive: str) -> Path:
    return root / LISTINGS / f"{archive}.sha256"


def differences(root: Path, archive: str, known: dict) -> Iterator[tuple[str, str]]:
    """(path, what is wrong) of what was unpacked."""
    path = listing(root, archive)
    if not path.is_file():
        yield archive, "was not unpacked"
        return
    text = path.read_text(encoding="utf-8")
    if hashlib.sha256(text.encode()).hexdigest() != known["sha256"]:
        yield str(path.relative_to(root)), "lists other files than the lock"
        return
    for line in text.splitlines():
        digest, _, name = line.partition("  ")
        if not (root / name).is_file():
            yield name, "is missing"
        elif facts(root / name)["sha256"] != digest:
            yield name, "has another SHA-256 than the lock"


def _opened(path: Path) -> zipfile.ZipFile | tarfile.TarFile:
    return zipfile.ZipFile(path) if path.suffix == ".zip" else tarfile.open(path)


def _members(source: zipfile.ZipFile | tarfile.TarFile, path: Path) -> Iterator[_Member]:
    seen: set[PurePosixPath] = set()
    if isinstance(source, zipfile.ZipFile):
        infos = [
            (info.filename, info.file_size, info.is_dir(), stat.S_ISLNK(info.external_attr >> 16), info)
            for info in source.infolist()
        ]
    else:
        infos = [
            (info.name, info.size, info.isdir(), not (info.isfile() or info.isdir()), info)
            for info in source.getmembers()
        ]
    for name, size, is_folder, is_link, info in infos:
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name or ":" in name.split("/")[0] or "\0" in name:
            raise DataError(
                f"{path}: a member's path leaves the folder; nothing was unpacked: report it to its authors"
            )
        if is_link:
            raise DataError(f"{path}: a member is a link or a device; nothing was unpacked: report it to its authors")
        if is_folder or any(part in LEFT_OUT for part in place.parts):
            continue
        if place in seen:
            raise DataError(f"{path}: a path stands there twice; nothing was unpacked: report it to its authors")
        seen.add(place)
        yield _Member(place, size, info)


def _open(source: zipfile.ZipFile | tarfile.TarFile, member: _Member) -> IO[bytes]:
    return source.open(member.content) if isinstance(source, zipfile.ZipFile) else source.extractfile(member.content)


def _write(content: IO[bytes], target: Path) -> str:
    """No fsync a file (there may be a million): the listing is written last, and without it all is unpacked anew."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, open(target, "wb") as file:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()
