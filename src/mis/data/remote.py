"""Repositories of files over HTTP: the Hugging Face hub through its own client, GitHub at a commit.

Each gives a commit, the files there with the checksum that the host announces, and a download that goes on where it was
cut off. `HF_ENDPOINT`, `GITHUB_API_URL` and `GITHUB_RAW_URL` name other servers (a mirror, a test's).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from mis.data.lock import CHUNK, DataError, difference

ATTEMPTS = 5
TIMEOUT_S = 60.0
LONGEST_WAIT_S = 60.0
RETRIED = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class RemoteFile:
    """`digest` is what the host announces: "sha256:..." (large files on the hub), "git:..." (a blob's id), or ""."""

    size: int | None
    digest: str = ""


class Repository(Protocol):
    address: str  # what a person opens in a browser

    def commit(self) -> str: ...

    def files(self, commit: str) -> dict[str, RemoteFile]: ...

    def download(self, path: str, commit: str, target: Path, size: int | None) -> None: ...


def is_right(path: Path, file: RemoteFile, pinned: dict[str, Any] | None) -> bool:
    """Is this file there, and the one that the lock pins (`pinned`, its facts) or else the host announced?"""
    if pinned is not None:
        return not difference(path, pinned)
    if not path.is_file() or (file.size is not None and path.stat().st_size != file.size):
        return False
    kind, _, value = file.digest.partition(":")
    if kind == "sha256":
        hasher = hashlib.sha256()
    elif kind == "git":
        hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        return True
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hasher).hexdigest() == value


class Hub:
    """A repository of the Hugging Face hub: a dataset's, or a model's.

    Needs `HF_TOKEN` (or `hf auth login`) only where it is gated.
    """

    def __init__(self, repository: str, kind: str = "dataset"):
        self.repository, self.kind = repository, kind
        self._endpoint = os.environ.get("HF_ENDPOINT") or None
        folder = "datasets/" if kind == "dataset" else ""
        self.address = f"{self._endpoint or 'https://huggingface.co'}/{folder}{repository}"

    def commit(self) -> str:
        return self._asked(lambda api: api.repo_info(self.repository, repo_type=self.kind)).sha

    def files(self, commit: str) -> dict[str, RemoteFile]:
        info = self._asked(
            lambda api: api.repo_info(self.repository, repo_type=self.kind, revision=commit, files_metadata=True)
        )
        return {
            file.rfilename: RemoteFile(file.size, f"sha256:{file.lfs.sha256}" if file.lfs else f"git:{file.blob_id}")
            for file in info.siblings
        }

    def download(self, path: str, commit: str, target: Path, size: int | None) -> None:
        """Into `target`, whose folder ends in `path`; what was there of it is continued (by the client itself)."""
        from huggingface_hub import hf_hub_download

        folder = target.parents[path.count("/")]
        self._asked(
            lambda api: hf_hub_download(
                self.repository, path, repo_type=self.kind, revision=commit, local_dir=folder, endpoint=self._endpoint
            )
        )

    def _asked(self, ask: Callable[[Any], Any]) -> Any:
        """Errors in our words. The client itself tries again where a server is busy or a connection breaks."""
        from huggingface_hub import HfApi, errors

        wait = 1.0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return ask(HfApi(endpoint=self._endpoint))
            except errors.GatedRepoError:
                raise DataError(
                    f"{self.repository}: gated; open {self.address} signed in, accept its terms there, make a token "
                    "with read access and set HF_TOKEN (or run `hf auth login`), then run the same command again"
                ) from None
            except errors.RepositoryNotFoundError:
                raise DataError(
                    f"{self.address}: no such {self.kind}, or it is private or gated; open the address, accept its "
                    "terms if it has any, and set HF_TOKEN"
                ) from None
            except (errors.HTTPError, errors.LocalEntryNotFoundError, OSError) as error:
                code = getattr(getattr(error, "response", None), "status_code", None)
                if attempt == ATTEMPTS or (code is not None and code not in RETRIED):
                    reason = f"HTTP {code}" if code else type(error).__name__
                    raise DataError(
                        f"{self.address}: no answer that can be used ({reason}, {attempt} attempts); what was loaded "
                        "is kept: run the same command again"
                    ) from None
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_S)


class GitHub:
    """A repository on GitHub, file by file: each is checked against the id that Git has for it at the commit."""

    def __init__(self, repository: str):
        self.repository = repository
        self._api = os.environ.get("GITHUB_API_URL", "https://api.github.com").rstrip("/")
        self._raw = os.environ.get("GITHUB_RAW_URL", "https://raw.githubusercontent.com").rstrip("/")
        self.address = f"https://github.com/{repository}"

    def commit(self) -> str:
        return self._json(f"{self._api}/repos/{self.repository}/commits/HEAD")["sha"]

    def files(self, commit: str) -> dict[str, RemoteFile]:
        tree = self._json(f"{self._api}/repos/{self.repository}/git/trees/{commit}?recursive=1")
        if tree.get("truncated"):
            raise DataError(f"{self.address}: too many files for one listing; fetch it with git and use --local")
        return {
            entry["path"]: RemoteFile(entry["size"], f"git:{entry['sha']}")
            for entry in tree["tree"]
            if entry["type"] == "blob"
        }

    def _json(self, url: str) -> Any:
        content = bytearray()

        def read(response) -> None:
            content[:] = response.read()  # a whole answer, or IncompleteRead

        _with_retries(url, lambda: {"Accept": "application/vnd.github+json"}, read)
        try:
            return json.loads(content)
        except ValueError:
            raise DataError(f"{url}: the answer is not JSON; run the same command again") from None

    def download(self, path: str, commit: str, target: Path, size: int | None) -> None:
        part = target.with_name(f".{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)

        def headers() -> dict[str, str]:
            there = part.stat().st_size if part.is_file() else 0
            return {"Range": f"bytes={there}-"} if there else {}

        def read(response) -> None:
            mode = "ab" if response.status == 206 else "wb"  # a server that knows no ranges sends all of it
            left = int(response.headers.get("Content-Length", 0))
            with open(part, mode) as file:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    left -= len(chunk)
            if left > 0:  # http.client says nothing when it reads in pieces
                raise HTTPException("the connection ended early")

        url = f"{self._raw}/{self.repository}/{commit}/{quote(path)}"
        if size is not None and part.is_file() and part.stat().st_size >= size:
            part.unlink()  # of another version, or damaged: whole files are moved at once
        _with_retries(url, headers, read)
        os.replace(part, target)


def _with_retries(url: str, headers: Callable[[], dict[str, str]], read: Callable[[Any], None]) -> None:
    """Asks until `read` got it all, at most `ATTEMPTS` times without progress in between; waits longer each time."""
    wait = 1.0
    for attempt in range(1, ATTEMPTS + 1):
        asked = 0.0
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers()), timeout=TIMEOUT_S) as response:
                return read(response)
        except urllib.error.HTTPError as error:
            reason, asked = f"HTTP {error.code}", _seconds(error.headers.get("Retry-After"))
            limited = error.code == 403 and error.headers.get("X-RateLimit-Remaining") == "0"
            if limited:
                raise DataError(
                    f"{url}: GitHub's limit of requests an hour is used up; wait and run it again"
                ) from None
            if error.code not in RETRIED:
                raise DataError(f"{url}: {reason}; check the address, or fetch it by hand and use --local") from None
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
            reason = type(error).__name__
        if attempt < ATTEMPTS:
            time.sleep(min(max(wait, asked), LONGEST_WAIT_S))
            wait *= 2
    raise DataError(f"{url}: {reason}, {ATTEMPTS} attempts; what was loaded is kept: run the same command again")


def _seconds(header: str | None) -> float:
    try:
        return float(header or 0)
    except ValueError:
        return 0.0


HOSTS: dict[str, Callable[[str], Repository]] = {"hub": Hub, "github": GitHub}
