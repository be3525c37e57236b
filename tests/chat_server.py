"""A real HTTP server on loopback that speaks OpenAI's chat completions: scripted answers, latency, injected faults.

    with ChatServer(lambda asked: f"re: {asked.text}") as server:
        Endpoint(url=server.url)

`answer` gives a string, an :class:`Answer` or a fault for each request; `faults` is asked before it, and may
give a fault or None. The server runs in a thread of its own, or by itself: `python tests/chat_server.py --latency 1`
prints its URL.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

SECONDS_OF_SILENCE = 3600.0


@dataclass(frozen=True)
class Asked:
    """One request. `attempt` counts how often the same body came, from 1; `number` counts all requests, from 1."""

    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    attempt: int
    number: int

    @property
    def _content(self) -> Any:
        return self.body["messages"][-1]["content"]

    @property
    def text(self) -> str:
        """The text of the last message."""
        if isinstance(self._content, str):
            return self._content
        return "".join(part["text"] for part in self._content if part["type"] == "text")

    @property
    def images(self) -> list[str]:
        """The data URLs of the last message."""
        if isinstance(self._content, str):
            return []
        return [part["image_url"]["url"] for part in self._content if part["type"] == "image_url"]

    @property
    def system(self) -> str:
        return "".join(message["content"] for message in self.body["messages"] if message["role"] == "system")


@dataclass(frozen=True)
class Answer:
    text: str | None
    finish_reason: str = "stop"
    refusal: str | None = None
    prompt_tokens: int = 10
    completion_tokens: int = 5


@dataclass(frozen=True)
class Status:
    """An HTTP error; `headers` may hold "retry-after"."""

    code: int
    message: str = "injected"
    headers: dict[str, str] = field(default_factory=dict)
    error_code: str | None = None


@dataclass(frozen=True)
class Raw:
    """A body as it is, with status 200."""

    body: str
    kind: str = "application/json"


DROPPED = "dropped"  # the connection is closed in the middle of the answer
SILENT = "silent"  # no answer ever
EMPTY = Answer("")
MALFORMED = Raw('{"choices": [{"mess')
FILTERED = Answer("", "content_filter")
CUT_OFF = Answer("and so", "length")


@dataclass(frozen=True)
class Fault:
    """DROPPED or SILENT, apart from a text that reads so."""

    what: str


FAULTS = {
    "429": Status(429, "slow down", {"retry-after": "0"}),
    "500": Status(500, "oops"),
    "dropped": Fault(DROPPED),
    "silent": Fault(SILENT),
    "empty": EMPTY,
    "malformed": MALFORMED,
}
OUTCOMES = {"content_filter": FILTERED, "length": CUT_OFF}


def random_faults(share: float, seed: int, kinds: Sequence[str] = tuple(FAULTS), most: int = 2):
    """A fault for `share` of the attempts, decided by seed, body and attempt; at most `most` times a request.

    Outcomes (`content_filter`, `length`) are decided by the body alone: they stand however often it is asked.
    """
    known = FAULTS | OUTCOMES

    def fault(asked: Asked) -> Any:
        draw = _draw(seed, asked.text)
        if draw.random() < share * sum(kind in OUTCOMES for kind in kinds) / len(kinds):
            return known[draw.choice([kind for kind in kinds if kind in OUTCOMES])]
        draw = _draw(seed, f"{asked.text} {asked.attempt}")
        passing = [kind for kind in kinds if kind in FAULTS]
        if asked.attempt <= most and passing and draw.random() < share * len(passing) / len(kinds):
            return known[draw.choice(passing)]
        return None

    return fault


def _draw(seed: int, text: str) -> random.Random:
    return random.Random(hashlib.sha256(f"{seed} {text}".encode()).digest())


class ChatServer:
    """A context manager. `times` are the moments (monotonic) of all requests; `seen` counts requests by their text;
    `images` counts all pictures; `most_in_flight` is the highest number of requests at once.
    """

    def __init__(
        self,
        answer: Callable[[Asked], Any] = lambda asked: f"re: {asked.text}",
        *,
        latency: float = 0.0,
        faults: Callable[[Asked], Any] | None = None,
        parse: bool = True,
    ):
        self.answer, self.latency, self.faults, self.parse = answer, latency, faults, parse
        self.times: list[float] = []
        self.seen: Counter[str] = Counter()
        self.requests = self.images = self.in_flight = self.most_in_flight = 0
        self._bodies: Counter[bytes] = Counter()
        self.url = ""

    def __enter__(self) -> ChatServer:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready.set)), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self, ready: Callable[[], None], port: int = 0) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._connections: set[asyncio.Task] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", port, limit=2**20, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready()
        await self._stop.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(_header(line) for line in head[1:] if line)
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests += 1
        self.times.append(time.monotonic())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            outcome: Any = Answer("fine")
            if self.parse:
                outcome = self._decide(content, headers, head[0].split(" ")[1])
            if self.latency:
                await asyncio.sleep(self.latency)
            if outcome == Fault(SILENT):
                await asyncio.sleep(SECONDS_OF_SILENCE)
            return await _write(writer, outcome)
        finally:
            self.in_flight -= 1

    def _decide(self, content: bytes, headers: dict[str, str], path: str) -> Any:
        body = json.loads(content)
        digest = hashlib.sha256(content).digest()
        self._bodies[digest] += 1
        asked = Asked(body, headers, path, self._bodies[digest], self.requests)
        self.seen[asked.text] += 1
        self.images += len(asked.images)
        fault = self.faults(asked) if self.faults else None
        return fault if fault is not None else self.answer(asked)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


async def _write(writer: asyncio.StreamWriter, outcome: Any) -> bool:
    if outcome == Fault(DROPPED):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{")
        await writer.drain()
        return False
    status, kind, extra = 200, "application/json", {}
    if isinstance(outcome, str):
        outcome = Answer(outcome)
    if isinstance(outcome, Status):
        status, extra = outcome.code, outcome.headers
        text = json.dumps({"error": {"message": outcome.message, "code": outcome.error_code, "type": "injected"}})
    elif isinstance(outcome, Raw):
        text, kind = outcome.body, outcome.kind
    else:
        text = json.dumps(completion(outcome))
    data = text.encode()
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in extra.items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
    await writer.drain()
    return True


def completion(answer: Answer) -> dict[str, Any]:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}],
        "usage": {
            "prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        },
    }  # fmt: skip


def main() -> None:
    """Serves until it is killed; the first line of its output is its URL."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--fault-share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--no-parse", action="store_true", help="answer without reading the body (for timing)")
    given = parser.parse_args()
    faults = random_faults(given.fault_share, given.seed) if given.fault_share else None
    server = ChatServer(latency=given.latency, faults=faults, parse=not given.no_parse)
    asyncio.run(server._serve(lambda: print(server.url, flush=True), given.port))


if __name__ == "__main__":
    main()
