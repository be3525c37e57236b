"""Asking a model every question of a suite, so that no answer is lost and none is paid for twice."""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from mis.errors import MisError
from mis.models import Answer, AnsweringModel, StreamingModel, picture_digest
from mis.progress import track
from mis.prompts import user_text
from mis.samples import Response, Sample, to_row
from mis.store import Attempt, Journal, compact, journal_path

FSYNC_EVERY = 512  # A local answer costs milliseconds: what a power failure takes is soon made again.


@dataclass(frozen=True)
class Summary:
    """What a call of :func:`respond` did. `outcomes` counts finish reasons over all `total` published rows."""

    total: int
    asked: int
    outcomes: dict[str, int]
    seconds: float

    @property
    def failed(self) -> int:
        return self.outcomes.get("failed", 0)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.outcomes.items()))
        kept = self.total - self.asked
        return f"{self.total} responses ({counts}); {self.asked} asked in {self.seconds:.1f} s, {kept} from the journal"


def respond(
    samples: Sequence[Sample],
    model: AnsweringModel,
    out: Path,
    *,
    model_name: str,
    arm: str,
    seed: int,
    identity: str,
    batch_size: int = 1,
    concurrency: int = 0,
    progress: bool = True,
) -> Summary:
    """Writes one :class:`Response` a sample to `out`, sorted by key; asks only for what its journal lacks or saw fail.

    `identity` stands for everything but the sample that decides an answer: the checkpoint's digest and the generation
    parameters. An answer in the journal counts only for the same identity, prompt text and picture contents.

    With `concurrency` 0 samples are asked in batches of `batch_size`, cut from all samples in a fixed order, by number
    of pictures and length of the question, so that they are even and an interrupted run is batched like an
    uninterrupted one. Else samples are asked one by one, so many at once (by the model itself, if it streams); each
    answer is kept as it comes, and what is held in memory does not grow with the number of samples.
    """
    start = time.monotonic()

    def blank(sample: Sample) -> Response:
        return Response(sample.benchmark, sample.split, sample.id, model_name, arm, seed, "")

    def attempt(sample: Sample, request: str, answer: Answer) -> Attempt:
        response = replace(
            blank(sample), text=answer.text, finish_reason=answer.finish_reason, error=answer.error, trace=answer.trace
        )
        return Attempt(request, answer.finish_reason != "failed", to_row(response))

    asked, outcomes = 0, Counter()
    with Journal(journal_path(out), every=concurrency or FSYNC_EVERY) as journal:
        if journal.repaired:
            print(f"{journal.path}: a torn last line was cut off ({journal.repaired} bytes)", file=sys.stderr)
        with track(len(samples), f"{model_name} {arm} {out.stem}", enabled=progress) as advance:

            def open_requests() -> Iterator[tuple[Sample, str]]:
                """The samples that are not answered yet, each with the digest of its request."""
                for sample in samples:
                    request = _request(sample, identity)
                    if journal.expect(blank(sample).key, request):
                        advance(1)
                    else:
                        yield sample, request

            if concurrency and isinstance(model, StreamingModel):
                groups = _streamed(open_requests(), model)
            elif concurrency:
                groups = _in_threads(open_requests(), model, concurrency)
            else:
                groups = _in_batches(samples, open_requests(), model, batch_size, out)
            for group in groups:
                journal.append([attempt(*each) for each in group])
                asked += len(group)
                advance(len(group))
        compact(journal, out, lambda row: outcomes.update([row["finish_reason"]]))
    return Summary(outcomes.total(), asked, dict(outcomes), time.monotonic() - start)


Answered = tuple[Sample, str, Answer]  # with the digest of the request


def _in_batches(
    samples: Sequence[Sample], requests: Iterable[tuple[Sample, str]], model: AnsweringModel, size: int, out: Path
) -> Iterator[list[Answered]]:
    """Batches are cut from all samples, also from those that are answered: the same cuts after a stop."""
    missing = {sample.key: request for sample, request in requests}
    ordered = sorted(samples, key=lambda sample: (len(sample.images), len(user_text(sample)), sample.key))
    for first in range(0, len(ordered), size):
        batch = [sample for sample in ordered[first : first + size] if sample.key in missing]
        if batch:
            answers = model.answer(batch)
            if len(answers) != len(batch):
                raise MisError(f"{out}: the model gave {len(answers)} answers to {len(batch)} questions")
            yield [(sample, missing[sample.key], answer) for sample, answer in zip(batch, answers, strict=True)]


def _streamed(requests: Iterable[tuple[Sample, str]], model: StreamingModel) -> Iterator[list[Answered]]:
    flying: dict[str, tuple[Sample, str]] = {}

    def taken() -> Iterator[tuple[str, Sample]]:
        for sample, request in requests:
            flying[sample.key] = sample, request
            yield sample.key, sample

    for key, answer in model.stream(taken()):
        yield [(*flying.pop(key), answer)]


def _in_threads(
    requests: Iterable[tuple[Sample, str]], model: AnsweringModel, concurrency: int
) -> Iterator[list[Answered]]:
    """For conversations of several turns. Gives groups of what has come meanwhile.

    An error is raised when all in flight is in. Twice as many threads as are asked at once, as some wait for another
    attempt.
    """
    waiting, flying, error = iter(requests), 0, None
    done: SimpleQueue[tuple[Sample, str, Answer | BaseException]] = SimpleQueue()

    def ask(sample: Sample, request: str) -> None:
        try:
            (answer,) = model.answer([sample])
        except BaseException as problem:  # raised in the main thread
            answer = problem
        done.put((sample, request, answer))

    pool = ThreadPoolExecutor(2 * concurrency, thread_name_prefix="asking")
    try:
        while True:
            while error is None and flying < 2 * concurrency:
                try:
                    pool.submit(ask, *next(waiting))
                except StopIteration:
                    break
                except MisError as problem:
                    error = problem
                else:
                    flying += 1
            if not flying:
                break
            came = [done.get()]
            while not done.empty():
                came.append(done.get())
            flying -= len(came)
            yield [each for each in came if isinstance(each[2], Answer)]
            error = error or next((each[2] for each in came if isinstance(each[2], BaseException)), None)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if error is not None:
        raise error


def _request(sample: Sample, identity: str) -> str:
    """Digest of what is asked: 16 hex digits."""
    digest = hashlib.sha256()
    for part in (identity, user_text(sample), *map(picture_digest, sample.images)):
        digest.update(hashlib.sha256(part.encode()).digest())  # fixed length: parts cannot run into each other
    return digest.hexdigest()[:16]
