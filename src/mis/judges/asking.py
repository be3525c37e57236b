"""Judging a file of responses where judging means asking: many questions in flight, each verdict kept as it comes.

A panel says which judge has which benchmark. Whatever happens to a question is an outcome: the judge refused, the
provider filtered it, the answer was cut off or is not the form, no attempt succeeded. None of them is left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mis.benchmarks import Benchmark
from mis.judges import Judge, benchmark_of, choice, pair_with_samples
from mis.models.remote import ChatRequest, Reply, request_digest
from mis.progress import track
from mis.prompts import without_thought
from mis.samples import Response, Sample, Verdict, to_row
from mis.store import Attempt, Journal, compact, journal_path
from mis.taxonomy import FAILED, FAILURES, FILTERED, TRUNCATED, UNPARSABLE

FSYNC_EVERY = 32  # verdicts that a power failure may take; the request cache has their replies
EXACT_MATCH = "exact_match"  # who judged a choice


class AskingJudge(Protocol):
    """`request` gives what is sent for a response (None: the judge cannot judge its benchmark), `read` turns the reply
    into (outcome, reason), `identity` is what decides the verdict beside the two. `kind` is its word in benchmarks.py.
    """

    kind: str

    def request(self, sample: Sample, response: Response) -> ChatRequest | None: ...
    def read(self, sample: Sample, response: Response, reply: Reply) -> tuple[str, str]: ...
    def identity(self, sample: Sample) -> str: ...


class Client(Protocol):
    """Who answers: `mis.models.remote.ChatClient` or `mis.models.text_chat.LocalChat`."""

    name: str
    revision: str | None

    def map(self, requests: Iterable[tuple[str, ChatRequest]]) -> Iterator[tuple[str, Reply]]: ...


@dataclass(frozen=True)
class Seat:
    """One judge of a panel. `name` goes into the verdict's column `judge`; a judge without a client asks nobody."""

    name: str
    judge: AskingJudge | Judge
    client: Client | None = None


@dataclass(frozen=True)
class Summary:
    """What a call did. `outcomes` counts all published rows; `failed` those that a rerun would ask again; `left_out`
    the responses that no judge of the panel can judge."""

    outcomes: dict[str, int]
    asked: int
    failed: int
    left_out: int

    @property
    def missing(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome in FAILURES)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        left = f"; {self.left_out} responses are not for this judge" if self.left_out else ""
        return f"{sum(self.outcomes.values())} verdicts ({counts}); {self.asked} asked{left}"


def judge_by_asking(
    samples: Sequence[Sample],
    responses: Sequence[Response],
    seat_of: Callable[[Benchmark], Seat | None],
    out: Path,
    *,
    progress: bool = True,
) -> Summary:
    """Writes one :class:`Verdict` a response to `out`, sorted by key; asks only for what its journal lacks or saw fail.

    A verdict in the journal counts only for the same judge, model, question, response, picture contents and wording.
    Raises :class:`MisError` for a response without a sample; where the asking itself ends (a budget, a refused key)
    the verdicts that came before are kept.
    """
    pairs = pair_with_samples(samples, responses, out)
    cases = [case for pair in pairs if (case := _case(*pair, seat_of)) is not None]
    outcomes: Counter[str] = Counter()
    with Journal(journal_path(out), every=FSYNC_EVERY) as journal:
        if journal.repaired:
            print(f"{journal.path}: a torn last line was cut off ({journal.repaired} bytes)", file=sys.stderr)
        waiting = [case for case in cases if not journal.expect(case.response.key, case.digest)]
        settled = [case for case in waiting if case.client is None]
        journal.append([_attempt(case, *case.settled()) for case in settled])
        asking: dict[int, dict[str, _Case]] = {}
        for case in waiting:
            if case.client is not None:
                asking.setdefault(id(case.client), {})[case.response.key] = case
        with track(len(cases), f"judging {out.stem}", enabled=progress) as advance:
            advance(len(cases) - len(waiting) + len(settled))
            for group in asking.values():
                client = next(iter(group.values())).client
                for key, reply in client.map((key, case.request) for key, case in group.items()):
                    outcome, reason = group[key].read(reply)
                    # Without a reply there is no verdict to keep: a rerun asks again.
                    journal.append([_attempt(group[key], outcome, reason, ok=reply.finish_reason != "failed")])
                    advance(1)
        failed = sum(not attempt.ok for attempt in journal.expected())
        compact(journal, out, lambda row: outcomes.update([row["outcome"]]))
    return Summary(dict(outcomes), sum(map(len, asking.values())), failed, len(pairs) - len(cases))


@dataclass(frozen=True)
class _Case:
    """A response and who judges it. The request is made when it is sent: it holds the texts once more."""

    sample: Sample
    response: Response
    seat: Seat
    client: Client | None
    digest: str

    @property
    def request(self) -> ChatRequest:
        return self.seat.judge.request(self.sample, self.response)

    def settled(self) -> tuple[str, str]:
        """Without asking: what did not answer, choices, and judges that ask nobody."""
        return _without_asking(self.sample, self.response, self.seat)

    def read(self, reply: Reply) -> tuple[str, str]:
        if reply.finish_reason == "failed":
            return FAILED, f"judge: {reply.error}"
        if reply.finish_reason == "filtered":
            return FILTERED, f"judge: {reply.error}"
        return self.seat.judge.read(self.sample, self.response, reply)


def _case(sample: Sample, response: Response, seat_of: Callable[[Benchmark], Seat | None]) -> _Case | None:
    benchmark = benchmark_of(sample)
    seat = Seat(EXACT_MATCH, choice) if benchmark.task == "choice" else seat_of(benchmark)
    if seat is None:
        return None
    response = dataclasses.replace(response, text=without_thought(response.text))
    answered = response.finish_reason in ("stop", "length")
    client = seat.client if answered and benchmark.task != "choice" else None
    parts = [seat.name, sample.question, sample.options, sample.answer, response.text, response.finish_reason]
    if client is not None:
        request = seat.judge.request(sample, response)
        if request is None:
            return None
        digest = request_digest(client.name, client.revision, request)
        parts = [seat.name, seat.judge.identity(sample), digest, response.finish_reason]
    return _Case(sample, response, seat, client, hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16])


def _without_asking(sample: Sample, response: Response, seat: Seat) -> tuple[str, str]:
    if response.finish_reason == "failed":
        return FAILED, response.error
    if response.finish_reason == "filtered":
        return FILTERED, response.error
    if response.finish_reason == "length":
        return TRUNCATED, "ran into the token limit"
    if seat.name == EXACT_MATCH:
        return choice.verdict(sample, response.text)
    outcome, reason = seat.judge.verdict(sample, response)
    return outcome or UNPARSABLE, reason


def _attempt(case: _Case, outcome: str, reason: str, ok: bool = True) -> Attempt:
    response = case.response
    verdict = Verdict(
        response.benchmark, response.split, response.sample_id, response.model, response.arm, response.seed,
        case.seat.name, outcome, reason,
    )  # fmt: skip
    return Attempt(case.digest, ok, to_row(verdict))
