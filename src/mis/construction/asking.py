"""Asking served models for structured answers: prompts from files, answers checked, faults counted by kind.

Nothing that a model or a prompt says is ever part of a message: a fault is one of few words.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mis.construction.participants import NoAnswer
from mis.construction.records import ConstructionError
from mis.models.remote import ChatMessage, ChatRequest, Reply
from mis.progress import track

PROMPTS = Path(__file__).parent / "prompts"
# What an answer can be besides usable. A failed request says nothing of the sample: it stops the step (`Asker`).
EMPTY, REFUSED, MALFORMED = "empty answer", "refused", "malformed answer"
CUT_OFF, FILTERED, FAILED = "cut off", "filtered by the provider", "request failed"
EMPTY_REPLY = "the answer was empty"  # how the client says so in `Reply.error`
# How refusals begin, where a server has no field for them.
REFUSAL = re.compile(
    r"\W*((i['’]?m |i am )?(very |really |so )?sorry\b|i (can['’]?t|cannot|won['’]?t|will not)\b"
    r"|(i['’]?m|i am) (not able|unable)|i must decline|as an ai)",
    re.IGNORECASE,
)  # fmt: skip


class Shape(BaseModel):
    """The form of a structured answer: all fields there, no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Shape)


class Client(Protocol):
    """What is needed of :class:`mis.models.remote.ChatClient`."""

    def map(self, requests: Iterable[tuple[str, ChatRequest]]) -> Iterator[tuple[str, Reply]]: ...


@cache
def _text(name: str) -> str:
    return (PROMPTS / f"{name}.md").read_text(encoding="utf-8").strip()


def filled(name: str, examples: Sequence[str], places: Mapping[str, str]) -> str:
    """The prompt `prompts/<name>.md` with its places filled; `$examples` becomes the configured few-shot examples."""
    shown = "".join(f"\nExample {number}:\n{text.strip()}\n" for number, text in enumerate(examples, start=1))
    return Template(_text(name)).substitute(places, examples=shown)


def prompt_version(name: str, examples: Sequence[str] = ()) -> str:
    """`<name>:<digest>` of a prompt's file and the examples that go into it."""
    content = json.dumps([_text(name), list(examples)])
    return f"{name}:{hashlib.sha256(content.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Question:
    """What is asked: the prompt's file, the form of the answer, and how long and how free it may be."""

    prompt: str
    shape: type[Shape]
    max_tokens: int
    temperature: float = 0.0


class Asker:
    """One served model in one role. `identity` names the model and its revision."""

    def __init__(
        self,
        client: Client,
        identity: str,
        few_shot: Mapping[str, Sequence[str]] | None = None,
        allow_failures: bool = False,
        system: str = "",
        image_text: str = "",
    ):
        self._client = client
        self._identity = identity
        self._few_shot = few_shot or {}
        self._allow_failures = allow_failures
        self._system, self._image_text = system, image_text

    def version(self, *questions: Question) -> str:
        """Names all that decides the answers to these questions: model, revision, prompts, temperatures."""
        asked = (
            f"{prompt_version(q.prompt, self._few_shot.get(q.prompt, ()))}@{q.temperature:g}/{q.max_tokens}"
            for q in questions
        )
        around = self._system + self._image_text
        digest = f" around:{hashlib.sha256(around.encode()).hexdigest()[:16]}" if around else ""
        return f"{self._identity}{digest} {' '.join(asked)}"

    def ask(
        self,
        question: Question,
        places: Sequence[Mapping[str, str]],
        images: Sequence[tuple[Path, ...]] | None = None,
    ) -> list[Any]:
        """One `question.shape` or :class:`NoAnswer` for each of `places`, in order.

        Raises :class:`ConstructionError` at the end if requests failed (no answer after all attempts) and failures are
        not allowed; what was answered is in the client's cache, so that the same call asks only for the rest.
        """
        schema = question.shape.model_json_schema()
        examples = self._few_shot.get(question.prompt, ())

        def request(number: int) -> ChatRequest:
            shown = images[number] if images is not None else ()
            before = "".join(self._image_text.format(number=k) for k in range(1, len(shown) + 1))
            text = before + filled(question.prompt, examples, places[number])
            system = (ChatMessage("system", self._system),) if self._system else ()
            messages = (*system, ChatMessage("user", text, shown))
            return ChatRequest(messages, question.max_tokens, question.temperature, schema)

        requests = ((str(number), request(number)) for number in range(len(places)))
        return self._answers(question.prompt, requests, len(places), lambda reply: read(reply, question.shape))

    def converse(
        self,
        name: str,
        conversations: Sequence[tuple[ChatMessage, ...]],
        max_tokens: int,
        read: Callable[[Reply], Any],
    ) -> list[Any]:
        """What `read` makes of the reply to each conversation, as it stands: no prompt, no form. `name` is for logs."""
        requests = ((str(number), ChatRequest(messages, max_tokens)) for number, messages in enumerate(conversations))
        return self._answers(name, requests, len(conversations), read)

    def _answers(
        self, name: str, requests: Iterable[tuple[str, ChatRequest]], count: int, read: Callable[[Reply], Any]
    ) -> list[Any]:
        answers: list[Any] = [None] * count
        with track(count, f"construct: {name}") as advance:
            for key, reply in self._client.map(requests):
                answers[int(key)] = read(reply)
                advance(1)
        failed = sum(isinstance(answer, NoAnswer) and answer.reason == FAILED for answer in answers)
        if failed and not self._allow_failures:
            raise ConstructionError(
                f"{failed} of {count} requests failed for good ({name}, {self._identity}); what was answered is kept: "
                "mend the endpoint and run the same command again, or give --allow-failures to drop and count these "
                "samples"
            )
        return answers


def fault(reply: Reply) -> NoAnswer | None:
    """Why a reply cannot be used, whatever its form should be; None where it may."""
    if reply.finish_reason == "failed" and EMPTY_REPLY in reply.error:  # the client asked several times
        return NoAnswer(EMPTY)
    by_finish = {"failed": FAILED, "filtered": FILTERED, "length": CUT_OFF}
    if reply.finish_reason in by_finish:
        return NoAnswer(by_finish[reply.finish_reason])
    if reply.refused:
        return NoAnswer(REFUSED)
    return None if reply.text.strip() else NoAnswer(EMPTY)


def read(reply: Reply, shape: type[S]) -> S | NoAnswer:
    """The answer in its form, or why it cannot be used."""
    if unusable := fault(reply):
        return unusable
    try:
        return shape.model_validate(json.loads(_object(reply.text)))
    except (ValueError, ValidationError, RecursionError):
        return NoAnswer(REFUSED if REFUSAL.match(reply.text) else MALFORMED)


def _object(text: str) -> str:
    """The JSON object of an answer: all of it, or what a code fence or a thought before it encloses."""
    text = text.rpartition("</think>")[2]
    return text[text.find("{") : text.rfind("}") + 1]
