"""Asking a model every question of a suite, so that no answer is lost and none is paid for twice."""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mis.errors import MisError
from mis.models import AnsweringModel
from mis.progress import track
from mis.prompts import user_text
from mis.samples import Response, Sample, to_row
from mis.store import Attempt, Journal, journal_path, publish

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
    batch_size: int,
    identity: str,
    progress: bool = True,
) -> Summary:
    """Writes one :class:`Response` a sample to `out`, sorted by key; asks only for what its journal lacks or saw fail.

    `identity` stands for everything but the sample that decides an answer: the checkpoint's digest and the generation
    parameters. An answer in the journal counts only for the same identity, prompt text and picture contents.
    Batches are cut from all samples in a fixed order, by number of pictures and length of the question, so that they
    are even and an interrupted run is batched like an uninterrupted one.
    """
    start = time.monotonic()
    requests = {_response(sample, model_name, arm, seed).key: _request(sample, identity) for sample in samples}
    if len(requests) < len(samples):
        raise MisError(f"{out}: {len(samples) - len(requests)} samples share a key with another; keys must be unique")
    ordered = sorted(samples, key=lambda sample: (len(sample.images), len(user_text(sample)), sample.key))
    asked = 0
    with Journal(journal_path(out), every=FSYNC_EVERY) as journal:
        if journal.repaired:
            print(f"{journal.path}: a torn last line was cut off ({journal.repaired} bytes)", file=sys.stderr)
        done = {key for key, attempt in journal.standing(requests).items() if attempt.ok}
        with track(len(samples), f"{model_name} {arm} {out.stem}", enabled=progress) as advance:
            for first in range(0, len(ordered), batch_size):
                batch = ordered[first : first + batch_size]
                missing = [sample for sample in batch if _response(sample, model_name, arm, seed).key not in done]
                if missing:
                    answers = model.answer(missing)
                    if len(answers) != len(missing):
                        raise MisError(f"{out}: the model gave {len(answers)} answers to {len(missing)} questions")
                    attempts = []
                    for sample, answer in zip(missing, answers, strict=True):
                        response = _response(
                            sample, model_name, arm, seed, answer.text, answer.finish_reason, answer.error, answer.trace
                        )
                        ok = answer.finish_reason != "failed"
                        attempts.append(Attempt(requests[response.key], ok, to_row(response)))
                    journal.append(attempts)
                    asked += len(missing)
                advance(len(batch))
        rows = publish(journal, out, requests)
    return Summary(len(rows), asked, dict(Counter(row["finish_reason"] for row in rows)), time.monotonic() - start)


def _response(sample: Sample, model: str, arm: str, seed: int, text: str = "", *rest) -> Response:
    return Response(sample.benchmark, sample.split, sample.id, model, arm, seed, text, *rest)


def _request(sample: Sample, identity: str) -> str:
    """Digest of what is asked: 16 hex digits."""
    digest = hashlib.sha256()
    for part in (identity, user_text(sample), *map(_picture_digest, sample.images)):
        digest.update(hashlib.sha256(part.encode()).digest())  # fixed length: parts cannot run into each other
    return digest.hexdigest()[:16]


def _picture_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MisError(f"{path}: picture cannot be read ({error.strerror}); make or fetch its dataset again") from error
