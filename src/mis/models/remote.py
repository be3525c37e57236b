"""A model behind an OpenAI-compatible endpoint: vLLM, OpenAI, Gemini's compatible endpoint, or any other.

:class:`ChatClient` asks: many requests in flight, each ending with a :class:`Reply`; :class:`RemoteModel` is the
:class:`~mis.models.AnsweringModel` over it. Only the given endpoint is called: no redirect is followed, and none of the
official client's own defaults (`OPENAI_BASE_URL`, keys, organisations, headers) is used.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

from mis.errors import MisError
from mis.models import Answer, picture_digest
from mis.models.limits import BudgetReached, Pace, Purse
from mis.models.request_cache import RequestCache
from mis.prompts import user_text
from mis.samples import Sample
from mis.settings import Endpoint, Served

__all__ = ["BudgetReached", "ChatClient", "ChatMessage", "ChatRequest", "EndpointError", "RemoteModel", "Reply"]

MAX_WAIT_S = 60.0  # the longest back-off
MAX_ASKED_WAIT_S = 300.0  # the longest Retry-After that is obeyed; a longer one ends the request as failed
HAND_OVER_S = 0.02  # the longest that a reply waits for others on its way out of the event loop
ERROR_LENGTH = 300  # characters of a server's message that are kept

PICTURE_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}
# Gemini's compatible endpoint passes its own words through instead of "content_filter" and "length".
FILTERED = {
    "content_filter", "safety", "image_safety", "prohibited_content", "blocklist", "spii", "recitation", "refusal",
}  # fmt: skip
CUT_OFF = {"length", "max_tokens"}
FILTER_CODES = {"content_filter", "content_policy_violation"}
HOPELESS = {401: "refuses the key", 402: "wants to be paid first", 404: "does not know this model or path"}
RETRIED = {408, 409, 425, 429}


class EndpointError(MisError):
    """An endpoint that cannot be used at all, or only after the user mends something."""


@dataclass(frozen=True)
class ChatMessage:
    """One message. Its pictures stand before its text; they are read when they are sent."""

    role: str
    text: str
    images: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ChatRequest:
    """`schema` is the JSON schema that the answer must follow; None: free text. `temperature` None: none is sent.

    `limit` is the name under which `max_tokens` is sent. `extra` are fields of the request's body that OpenAI does not
    know, like vLLM's `chat_template`.
    """

    messages: tuple[ChatMessage, ...]
    max_tokens: int
    temperature: float | None = 0.0
    schema: dict | None = None
    extra: dict | None = None
    limit: str = "max_tokens"


@dataclass(frozen=True)
class Reply:
    """What came back. `finish_reason` "failed": no attempt succeeded, and `error` says why the last did not.

    `refused`: the text is the refusal that a server reports apart from an answer (with a `schema`, mostly).
    """

    text: str
    finish_reason: Literal["stop", "length", "filtered", "failed"]
    error: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused: bool = False


@dataclass(frozen=True)
class _Fault:
    """One attempt that brought no answer. `charged`: it may have cost something all the same."""

    error: str
    charged: bool = False
    wait_s: float | None = None
    final: bool = False


class ChatClient:
    """Asks the model `name` at an endpoint; a context manager.

    `cache` is a folder for :class:`RequestCache`. A budget needs prices (money per million tokens), and a cache to
    remember what was spent. Rates and budget are kept over all threads of this process, and by a lock in `cache` over
    the processes of this machine. `as_taken` are fields of :class:`ChatRequest` that are the same for all, because the
    model takes no others. Raises :class:`EndpointError` if the key's variable is not set.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        *,
        cache: Path | None = None,
        revision: str | None = None,
        price_input: float | None = None,
        price_output: float | None = None,
        budget: float | None = None,
        image_tokens: int = 4096,
        as_taken: Mapping[str, Any] | None = None,
    ):
        if budget is not None and (price_input is None or price_output is None or cache is None):
            raise EndpointError(f"{name}: a budget can only be kept with both prices and a request cache")
        self.endpoint, self.name, self.revision = endpoint, name, revision
        self.prices = (price_input or 0.0) / 1e6, (price_output or 0.0) / 1e6
        self.budget, self.image_tokens = budget, image_tokens
        self._as_taken = as_taken or {}
        self._key = _key(endpoint)
        self._cache_folder = cache
        self._cache: RequestCache | None = None
        self._lock: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting, self._closing = threading.Lock(), threading.Event()
        self._asking: dict[str, asyncio.Task] = {}

    @classmethod
    def of(cls, served: Served, endpoint: Endpoint, cache: Path | None) -> ChatClient:
        """The client of a model of the configuration."""
        names = ("revision", "price_input", "price_output", "budget", "image_tokens")
        facts = {name: getattr(served, name) for name in names}
        as_taken = {"limit": served.max_tokens_parameter}
        if served.temperature is None:  # a number is that of answers; judges and others have their own
            as_taken["temperature"] = None
        return cls(endpoint, served.name, cache=cache, as_taken=as_taken, **facts)

    # Asking

    def ask(self, request: ChatRequest) -> Reply:
        """One reply; may be called from many threads at once.

        Raises :class:`BudgetReached` instead of asking beyond the budget, :class:`EndpointError` where no request can
        succeed.
        """
        loop = self._running()
        return asyncio.run_coroutine_threadsafe(self._reply(request), loop).result()

    def map(self, requests: Iterable[tuple[str, ChatRequest]]) -> Iterator[tuple[str, Reply]]:
        """A reply a request, in the order in which they come; keys are handed through.

        Requests are taken from the iterable only as there is room. Where an error ends the run (:meth:`ask`), what is
        in flight is still given out before it is raised.
        """
        waiting = iter(requests)
        exchange: _Exchange | None = None
        flying, error = 0, None
        while True:
            # As many again as may be in flight: a place that becomes free is filled at once.
            batch: list[tuple[str, ChatRequest]] = []
            while error is None and flying + len(batch) < 2 * self.endpoint.concurrency:
                try:
                    batch.append(next(waiting))
                except StopIteration:
                    break
                except MisError as problem:
                    error = problem
            if batch:
                exchange = exchange or _Exchange(self._running(), self._reply, self.endpoint.concurrency)
                exchange.ask(batch)
                flying += len(batch)
            if not flying:
                break
            for key, task in exchange.came.get():
                flying -= 1
                try:
                    reply = task.result()
                except MisError as problem:
                    error = error or problem
                else:
                    yield key, reply
        if error is not None:
            raise error

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._start()
            return self._loop

    def _start(self) -> None:
        """Limits, cache, official client and event loop, at the first request."""
        endpoint = self.endpoint
        self._account = f"{endpoint.url} {self.name}"
        limited = self.budget is not None or endpoint.requests_per_minute or endpoint.tokens_per_minute
        if self._cache_folder is not None:
            self._cache = RequestCache(self._cache_folder)
            if limited:
                self._lock = _sole_user(self._cache_folder, self._account, self._closing)
        self._purse = None if self.budget is None else Purse(self.budget, self._cache.spent(self._account))
        self._requests = Pace(endpoint.requests_per_minute) if endpoint.requests_per_minute else None
        self._tokens = Pace(endpoint.tokens_per_minute) if endpoint.tokens_per_minute else None
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._client = _official_client(endpoint, self._key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"asking {self.name}", daemon=True)
        self._thread.start()

    # In the event loop

    async def _reply(self, request: ChatRequest) -> Reply:
        """The same request twice at once is sent once."""
        request = dataclasses.replace(request, **self._as_taken)
        digest = request_digest(self.name, self.revision, request)
        task = self._asking.get(digest)
        if task is None:
            task = self._asking[digest] = asyncio.ensure_future(self._known_or_asked(digest, request))
            task.add_done_callback(lambda task: self._asked_for(digest, task))
        return await asyncio.shield(task)

    def _asked_for(self, digest: str, task: asyncio.Task) -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits for it any more

    async def _known_or_asked(self, digest: str, request: ChatRequest) -> Reply:
        known = self._cache.get(digest) if self._cache else None
        if known is not None:
            return Reply(**known)
        reply = await self._asked(request)
        if self._cache and reply.finish_reason != "failed":
            self._cache.put(digest, dataclasses.asdict(reply))
        return reply

    async def _asked(self, request: ChatRequest) -> Reply:
        """Sends the request until it is answered, at most `endpoint.attempts` times."""
        attempts = self.endpoint.attempts
        for attempt in range(1, attempts + 1):
            outcome = await self._attempt(request)
            if isinstance(outcome, Reply):
                return outcome
            if outcome.final:
                return Reply("", "failed", outcome.error)
            if attempt < attempts:
                backoff = min(MAX_WAIT_S, self.endpoint.backoff_s * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
                await asyncio.sleep(max(backoff, outcome.wait_s or 0.0))
        return Reply("", "failed", f"{outcome.error} ({attempts} attempts)")

    async def _attempt(self, request: ChatRequest) -> Reply | _Fault:
        async with self._slots:
            most = self._most_tokens(request)
            entry = await self._reserve(most)
            used = (0, 0)
            try:
                await self._wait_for_rates(sum(most))
                used = most  # until it is known better
                outcome = await self._send(request)
                if isinstance(outcome, _Fault):
                    used = most if outcome.charged else (0, 0)
                elif outcome.prompt_tokens or outcome.completion_tokens:
                    used = outcome.prompt_tokens, outcome.completion_tokens
                if self._tokens:
                    self._tokens.give_back(sum(most) - sum(used))
                return outcome
            except MisError:  # a picture that is gone, a key that is refused: nothing was answered
                used = (0, 0)
                raise
            finally:
                await self._settle(entry, most, used)

    def _most_tokens(self, request: ChatRequest) -> tuple[int, int]:
        """What a request may take at most: a token is at least a byte of text."""
        text = sum(len(message.text.encode()) + 16 for message in request.messages)
        images = sum(len(message.images) for message in request.messages)
        more = len(json.dumps([request.schema, request.extra]))
        return text + more + images * self.image_tokens, request.max_tokens

    def _price(self, tokens: tuple[int, int]) -> float:
        return tokens[0] * self.prices[0] + tokens[1] * self.prices[1]

    async def _reserve(self, most: tuple[int, int]) -> int | None:
        if self._purse is None:
            return None
        await self._purse.reserve(self._price(most))
        return self._cache.reserve(self._account, self._price(most))

    async def _settle(self, entry: int | None, most: tuple[int, int], used: tuple[int, int]) -> None:
        if entry is not None:
            self._cache.settle(entry, self._price(used))
            await self._purse.settle(self._price(most), self._price(used))

    async def _wait_for_rates(self, tokens: int) -> None:
        wait = max(self._requests.take(1) if self._requests else 0, self._tokens.take(tokens) if self._tokens else 0)
        if wait:
            await asyncio.sleep(wait)

    async def _send(self, request: ChatRequest) -> Reply | _Fault:
        import openai

        try:
            parameters = _parameters(self.name, request)
        except OSError as error:
            raise MisError(f"{error.filename}: picture cannot be read ({error.strerror}); fetch it again") from None
        except ValueError as error:  # a picture that no server takes
            return _Fault(str(error), final=True)
        timeout = self.endpoint.timeout_s
        try:
            async with asyncio.timeout(timeout):
                # As `chat.completions.create`, without its walk through messages that are plain JSON already.
                kind = openai.types.chat.ChatCompletion
                return _read(await self._client.post("/chat/completions", cast_to=kind, body=parameters))
        except (TimeoutError, openai.APITimeoutError):
            return _Fault(f"no answer within {timeout:g} s", charged=True)
        except openai.APIStatusError as error:
            refused = error  # judged below: what is raised there must not drag the server's message along
        except openai.APIConnectionError as error:
            cause = type(error.__cause__).__name__ if error.__cause__ else "unknown cause"
            return _Fault(f"connection failed ({cause})", charged=cause != "ConnectError")
        except (openai.APIError, ValueError, TypeError, AttributeError, LookupError):
            return _Fault("the answer was not a chat completion", charged=True)
        return self._refused(refused)

    def _refused(self, error: Any) -> Reply | _Fault:
        """An HTTP error: is it the filter's answer, worth another attempt, final, or the end of the run?"""
        status, message = error.status_code, self._scrub(_server_message(error))
        if status == 400 and str(error.code) in FILTER_CODES:
            return Reply("", "filtered", message)
        if status in HOPELESS or error.code == "insufficient_quota":
            does = HOPELESS.get(status, "wants to be paid first")
            raise EndpointError(f"{self.endpoint.url} {does} ({self.name}, HTTP {status}): {message}")
        described = f"HTTP {status}: {message}"
        if status not in RETRIED and status < 500:
            return _Fault(described, final=True)
        wait = _retry_after(error.response.headers)
        if wait is not None and wait > MAX_ASKED_WAIT_S:
            return _Fault(f"{described} (asks to wait {wait:.0f} s)", final=True)
        return _Fault(described, wait_s=wait)

    def _scrub(self, text: str) -> str:
        """A server may repeat the key in its message."""
        text = text.replace(self._key, "***") if self._key else text
        return text[:ERROR_LENGTH]

    # The end

    def close(self) -> None:
        """Cancels what is in flight and frees everything."""
        self._closing.set()
        with self._starting:
            if self._loop is not None:
                asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
                self._loop = None
            if self._cache is not None:
                self._cache.close()
                self._cache = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    async def _stop(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Exchange:
    """Requests into the event loop and replies out of it, both in groups.

    A thread that wakes for each reply, to send one more request, costs a quarter of a request's CPU: the two take turns
    at the interpreter at every system call (docs/performance.md). So a reply waits, HAND_OVER_S at most, until there
    are a quarter as many as may be in flight; as twice as many were asked for, no place stands empty meanwhile.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reply: Callable[[ChatRequest], Coroutine[Any, Any, Reply]],
        concurrency: int,
    ):
        self.came: queue.SimpleQueue[list[tuple[str, asyncio.Task[Reply]]]] = queue.SimpleQueue()
        self._loop, self._reply, self._enough = loop, reply, max(1, concurrency // 4)
        self._group: list[tuple[str, asyncio.Task[Reply]]] = []

    def ask(self, batch: Sequence[tuple[str, ChatRequest]]) -> None:
        self._loop.call_soon_threadsafe(self._begin, batch)

    # In the event loop

    def _begin(self, batch: Sequence[tuple[str, ChatRequest]]) -> None:
        for key, request in batch:
            task = self._loop.create_task(self._reply(request))
            task.add_done_callback(functools.partial(self._done, key))

    def _done(self, key: str, task: asyncio.Task[Reply]) -> None:
        self._group.append((key, task))
        if task.cancelled() or task.exception() or len(self._group) >= self._enough:
            self._hand_over()
        elif len(self._group) == 1:
            self._loop.call_later(HAND_OVER_S, self._hand_over)

    def _hand_over(self) -> None:
        if self._group:
            self.came.put(self._group)
            self._group = []


class RemoteModel:
    """An :class:`~mis.models.AnsweringModel`: a system prompt if there is one, and one user turn, pictures first."""

    def __init__(self, client: ChatClient, served: Served, max_tokens: int):
        self.client, self.served, self.max_tokens = client, served, max_tokens

    @property
    def identity(self) -> str:
        """All that decides an answer beside the sample; not where the model is served."""
        served = self.served
        parts = [served.name, served.revision, served.system, served.image_text, served.temperature, self.max_tokens]
        return json.dumps(parts, ensure_ascii=False)

    def request(self, sample: Sample) -> ChatRequest:
        pictures = "".join(self.served.image_text.format(number=number) for number in range(1, len(sample.images) + 1))
        user = ChatMessage("user", pictures + user_text(sample), sample.images)
        system = (ChatMessage("system", self.served.system),) if self.served.system else ()
        return ChatRequest((*system, user), self.max_tokens, self.served.temperature)

    def answer(self, samples: Sequence[Sample]) -> list[Answer]:
        answers = dict(self.stream((str(place), sample) for place, sample in enumerate(samples)))
        return [answers[str(place)] for place in range(len(samples))]

    def stream(self, samples: Iterable[tuple[str, Sample]]) -> Iterator[tuple[str, Answer]]:
        """Samples are taken as there is room, answers come as they come; keys are handed through.

        Samples with more pictures than the model takes fail without being sent.
        """
        most = self.served.max_images
        refused: list[tuple[str, Answer]] = []

        def requests() -> Iterator[tuple[str, ChatRequest]]:
            for key, sample in samples:
                if most is not None and len(sample.images) > most:
                    error = f"{len(sample.images)} pictures; {self.served.name} takes {most}"
                    refused.append((key, Answer("", "failed", error)))
                else:
                    yield key, self.request(sample)

        for key, reply in self.client.map(requests()):
            yield key, Answer(reply.text, reply.finish_reason, reply.error, reply.completion_tokens)
            while refused:
                yield refused.pop()
        yield from refused


def request_digest(name: str, revision: str | None, request: ChatRequest) -> str:
    """SHA-256 of all that decides an answer, with pictures by their content: 64 hex digits."""
    messages = [
        [message.role, message.text, [picture_digest(path) for path in message.images]] for message in request.messages
    ]
    parts = [name, revision, messages, request.max_tokens, request.temperature, request.schema]
    parts += [request.extra] if request.extra else []
    parts += [request.limit] if request.limit != "max_tokens" else []
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def data_url(path: Path) -> str:
    """A picture's bytes, unchanged, as a data URL. Raises ValueError for a format that the interface does not know."""
    content = path.read_bytes()
    for start, kind in PICTURE_TYPES.items():
        if content.startswith(start):
            return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
    raise ValueError(f"picture {path.name} is not PNG, JPEG, GIF or WebP")


def chat_messages(request: ChatRequest) -> list[dict[str, Any]]:
    """The messages as they are sent: a text alone as a string, pictures as parts before the text."""
    messages = []
    for message in request.messages:
        content: str | list = message.text
        if message.images:
            pictures = [{"type": "image_url", "image_url": {"url": data_url(path)}} for path in message.images]
            content = [*pictures, {"type": "text", "text": message.text}]
        messages.append({"role": message.role, "content": content})
    return messages


def _parameters(name: str, request: ChatRequest) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "model": name,
        "messages": chat_messages(request),
        request.limit: request.max_tokens,
    }
    if request.temperature is not None:
        parameters["temperature"] = request.temperature
    if request.schema is not None:
        answer = {"name": "answer", "schema": request.schema, "strict": True}
        parameters["response_format"] = {"type": "json_schema", "json_schema": answer}
    if request.extra:
        parameters |= request.extra
    return parameters


def _read(completion: Any) -> Reply | _Fault:
    """A reply from the official client's object, which does not check what a server says."""
    usage = completion.usage
    counts = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
    if not completion.choices:  # Gemini's way to say that the prompt was blocked
        return Reply("", "filtered", "no choices", *counts) if completion.choices == [] else _no_completion()
    choice = completion.choices[0]
    text = choice.message.content if choice.message else ""
    refusal = getattr(choice.message, "refusal", None)
    reason = str(choice.finish_reason or "stop").lower()
    if not isinstance(text or "", str):
        return _no_completion()
    if reason in FILTERED:
        return Reply(text or "", "filtered", reason, *counts)
    if reason in CUT_OFF:
        return Reply(text or "", "length", "", *counts)
    if refusal and not text:
        return Reply(str(refusal), "stop", "", *counts, refused=True)
    if not (text or "").strip():
        return _Fault("the answer was empty", charged=True)
    return Reply(text, "stop", "", *counts)


def _no_completion() -> _Fault:
    return _Fault("the answer was not a chat completion", charged=True)


def _server_message(error: Any) -> str:
    body = error.body
    message = (body.get("message") or body.get("detail")) if isinstance(body, dict) else None  # "detail": FastAPI's
    return str(message or error.response.reason_phrase or "no message").replace("\n", " ")


def _retry_after(headers: Any) -> float | None:
    """Seconds that a server asks to wait: a number, or a date; None where it says nothing."""
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _key(endpoint: Endpoint) -> str | None:
    if endpoint.key_env is None:
        return None
    key = os.environ.get(endpoint.key_env, "").strip()
    if not key:
        raise EndpointError(f"{endpoint.url}: no key in the environment variable {endpoint.key_env}; set it")
    return key


def _official_client(endpoint: Endpoint, key: str | None) -> Any:
    """The official client with nothing but what is given here. Certificates are verified; no redirect is followed."""
    import openai

    transport = openai.DefaultAsyncHttpxClient(follow_redirects=False, timeout=endpoint.timeout_s)
    with _without_openai_variables():
        return openai.AsyncOpenAI(
            api_key=key or "none",  # an absent one would be taken from OPENAI_API_KEY
            base_url=endpoint.url,
            max_retries=0,  # retried here, with what the budget and the rates allow
            timeout=endpoint.timeout_s,
            http_client=transport,
        )


def official_client(endpoint: Endpoint) -> Any:
    """The official client of an endpoint, for what is no chat (pictures); it does not try again by itself."""
    return _official_client(endpoint, _key(endpoint))


@contextmanager
def _without_openai_variables() -> Iterator[None]:
    """The official client would send its own defaults (keys, organisation, headers) to whatever endpoint it calls."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OPENAI_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _sole_user(folder: Path, account: str, closing: threading.Event) -> int:
    """Waits until no other process asks the same model there: two that do not know of each other keep no limit."""
    path = folder / f"{hashlib.sha256(account.encode()).hexdigest()[:16]}.lock"
    descriptor, told = os.open(path, os.O_RDWR | os.O_CREAT, 0o666), False
    while not closing.is_set():
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if not told:
                print(f"{account}: another process asks it; waiting, so that its limits are kept", file=sys.stderr)
            told = True
            closing.wait(0.2)
    os.close(descriptor)
    raise EndpointError(f"{account}: stopped while another process asked it")
