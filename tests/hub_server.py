"""A real HTTP server on loopback with what `mis data fetch` needs of the Hugging Face hub and of GitHub.

    with HubServer({"owner/name": {"data.json": b"..."}}) as server:
        ...  # server.environment: HF_ENDPOINT, GITHUB_API_URL, GITHUB_RAW_URL

`faults[path]` is a list that is used up one request of a file after the other: "503", "drop" (half of what was asked
for, then the connection ends), "wrong" (other bytes, as many). `served` holds what was sent: (method, path, bytes).
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


def commit_of(files: dict[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def blob_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class HubServer:
    """`large` are the paths that the hub keeps in LFS (announced by SHA-256); `gated` repositories answer 403."""

    def __init__(self, repositories: dict[str, dict[str, bytes]], large: tuple[str, ...] = (), gated=()):
        self.history = {name: {commit_of(files): dict(files)} for name, files in repositories.items()}
        self.head = {name: commit_of(files) for name, files in repositories.items()}
        self.large, self.gated = large, set(gated)
        self.faults: dict[str, list[str]] = {}
        self.served: list[tuple[str, str, int]] = []
        self.tokens: set[str | None] = set()

    def push(self, name: str, files: dict[str, bytes]) -> None:
        """A new commit; the old ones stay."""
        self.head[name] = commit_of(files)
        self.history[name][self.head[name]] = dict(files)

    @property
    def environment(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url, "GITHUB_API_URL": f"{self.url}/gh", "GITHUB_RAW_URL": f"{self.url}/raw"}

    def loaded(self, path: str) -> int:
        """Bytes of a file that were sent."""
        return sum(size for method, sent, size in self.served if method == "GET" and sent == path)

    def __enter__(self) -> HubServer:
        server = self

        class Handler(_Handler):
            hub = server

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.hub.tokens.add(self.headers.get("Authorization"))
        if parts[0] == "api" and parts[1] in ("datasets", "models"):  # /api/datasets/owner/name[/revision/commit]
            return self._info("/".join(parts[2:4]), parts[5] if len(parts) > 5 else None)
        if parts[0] == "datasets" and parts[3] == "resolve":  # /datasets/owner/name/resolve/commit/path
            return self._file("/".join(parts[1:3]), parts[4], "/".join(parts[5:]))
        if len(parts) > 4 and parts[2] == "resolve":  # a model's: /owner/name/resolve/commit/path
            return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        if parts[0] == "raw":  # /raw/owner/name/commit/path
            return self._file("/".join(parts[1:3]), parts[3], "/".join(parts[4:]))
        if parts[:2] == ["gh", "repos"] and "/".join(parts[2:4]) not in self.hub.head:
            return self._error(404, "")
        if parts[:2] == ["gh", "repos"] and parts[4] == "commits":
            return self._json({"sha": self.hub.head["/".join(parts[2:4])]})
        if parts[:2] == ["gh", "repos"] and parts[4:6] == ["git", "trees"]:
            files = self.hub.history["/".join(parts[2:4])][parts[6]]
            tree = [{"path": p, "type": "blob", "size": len(c), "sha": blob_id(c)} for p, c in files.items()]
            return self._json({"sha": parts[6], "truncated": False, "tree": [{"path": "x", "type": "tree"}, *tree]})
        self._error(404, "EntryNotFound")

    def _info(self, name: str, commit: str | None) -> None:
        if name not in self.hub.head:
            return self._error(404, "RepoNotFound")
        commit = commit or self.hub.head[name]
        siblings = []
        for path, content in self.hub.history[name][commit].items():
            entry = {"rfilename": path, "size": len(content), "blobId": blob_id(content)}
            if path in self.hub.large:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        self._json({"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": []})

    def _file(self, name: str, commit: str, path: str) -> None:
        if name in self.hub.gated and not self.headers.get("Authorization"):
            return self._error(403, "GatedRepo")
        content = self.hub.history[name].get(commit, {}).get(path)
        if content is None:
            return self._error(404, "EntryNotFound")
        fault = ""
        if self.command == "GET" and self.hub.faults.get(path):
            fault = self.hub.faults[path].pop(0)
        if fault == "503":
            return self._error(503, "")
        etag = hashlib.sha256(content).hexdigest() if path in self.hub.large else blob_id(content)
        if fault == "wrong":
            content = bytes(255 - byte for byte in content)
        start, status = 0, 200
        if (asked := self.headers.get("Range", "")).startswith("bytes="):
            start, status = int(asked[6:].split("-")[0]), 206
        body = content[start:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "drop":
            body = body[: len(body) // 2]
            self.close_connection = True
        self.hub.served.append((self.command, path, len(body)))
        self.wfile.write(body)

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, code: int, kind: str) -> None:
        self.send_response(code)
        if kind:
            self.send_header("X-Error-Code", kind)
        self.send_header("Content-Length", "0")
        self.end_headers()
