"""From responses to verdicts: what every judge shares.

A judge sees an open question, its pictures and the response. It never sees what needs no judge: a response that failed
or was filtered or cut off is an outcome of its own, and a multiple-choice answer is matched exactly.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mis.benchmarks import BY_ID, Benchmark
from mis.errors import MisError
from mis.judges import choice
from mis.prompts import without_thought
from mis.samples import Response, Sample, Verdict, to_row
from mis.store import Attempt, Journal, StoreError, journal_path, publish, read_jsonl, write_jsonl_atomic
from mis.taxonomy import FAILED, FILTERED, TRUNCATED, UNPARSABLE


class Judge(Protocol):
    """`verdict` gives (outcome, reason); the outcome is a word of `taxonomy`, or "" if the judge can say none.

    A judge that may be trusted with a response that ran into the token limit sets `judges_truncated = True`; for all
    others such a response is "truncated", whatever it says.
    """

    def verdict(self, sample: Sample, response: Response) -> tuple[str, str]: ...


def read_responses(path: Path) -> list[Response]:
    """The responses of a published file. Raises :class:`MisError` that names the line of a row that is none."""
    responses = []
    for line, row in enumerate(read_jsonl(path), start=1):
        try:
            responses.append(Response(**{name: value for name, value in row.items() if name != "key"}))
        except TypeError as error:
            raise MisError(f"{path}, line {line}: not a response ({error}); run `mis respond` again") from None
    return responses


def open_responses(path: Path) -> list[Response]:
    """The responses of a published file to open questions: those that a judge sees."""
    return [response for response in read_responses(path) if benchmark_of(response).task != "choice"]


def benchmark_of(record: Sample | Response) -> Benchmark:
    """The benchmark, with its split, that a sample or a response belongs to."""
    return BY_ID[f"{record.benchmark}/{record.split}" if record.split else record.benchmark]


def pair_with_samples(
    samples: Sequence[Sample], responses: Sequence[Response], out: Path
) -> list[tuple[Sample, Response]]:
    """Each response with the sample that it answers. Raises :class:`MisError`, naming `out`, where there is none."""
    by_key = {sample.key: sample for sample in samples}
    paired = []
    for response in responses:
        key = f"{response.benchmark}/{response.split}/{response.sample_id}"
        if key not in by_key:
            raise MisError(f"{out}: response {response.key} answers no sample of the data; run `mis respond` again")
        paired.append((by_key[key], response))
    return paired


def judge_responses(
    samples: Sequence[Sample],
    responses: Sequence[Response],
    judge: Judge,
    out: Path,
    *,
    name: str,
    identity: str | None = None,
) -> dict[str, int]:
    """Writes one :class:`Verdict` a response to `out`, sorted by key, and returns how often each outcome occurs.

    `name` goes into the column `judge`. `identity` stands for all that decides a verdict beside sample and response
    (model, prompt, parameters): with it verdicts are journalled one by one and a rerun asks only for what is missing.
    Without it the judge costs nothing, as the oracle, and judges anew each time, so that a change in its code tells.
    A file whose content would not change is left untouched. Raises :class:`MisError` if a response has no sample.
    """
    paired = pair_with_samples(samples, responses, out)
    if identity is None:
        rows = [to_row(_judged(sample, response, judge, name)) for sample, response in paired]
        rows.sort(key=lambda row: row["key"])
        _write_if_changed(out, rows)
    else:
        requests = {response.key: _request(sample, response, identity) for sample, response in paired}
        with Journal(journal_path(out)) as journal:
            standing = journal.standing(requests)
            for sample, response in paired:
                if response.key not in standing or not standing[response.key].ok:
                    verdict = _judged(sample, response, judge, name)
                    ok = response.finish_reason == "failed" or verdict.outcome != FAILED
                    journal.append([Attempt(requests[response.key], ok, to_row(verdict))])
            rows = publish(journal, out, requests)
    return dict(Counter(row["outcome"] for row in rows))


def _judged(sample: Sample, response: Response, judge: Judge, name: str) -> Verdict:
    outcome, reason = verdict_of(sample, response, judge)
    return Verdict(
        response.benchmark, response.split, response.sample_id, response.model, response.arm, response.seed,
        name, outcome, reason,
    )  # fmt: skip


def verdict_of(sample: Sample, response: Response, judge: Judge) -> tuple[str, str]:
    """(outcome, reason) of one response, the outcomes that need no judge included."""
    if response.finish_reason == "failed":
        return FAILED, response.error
    if response.finish_reason == "filtered":
        return FILTERED, response.error
    cut_off = response.finish_reason == "length"
    response = dataclasses.replace(response, text=without_thought(response.text))
    if cut_off and not getattr(judge, "judges_truncated", False):
        return TRUNCATED, "ran into the token limit"
    if benchmark_of(sample).task == "choice":
        return choice.verdict(sample, response.text)
    outcome, reason = judge.verdict(sample, response)
    return outcome or (TRUNCATED if cut_off else UNPARSABLE), reason


def _request(sample: Sample, response: Response, identity: str) -> str:
    parts = [identity, sample.question, sample.options, sample.answer, response.text, response.finish_reason]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _write_if_changed(path: Path, rows: list[dict]) -> None:
    try:
        unchanged = read_jsonl(path) == rows
    except StoreError:  # absent or damaged: written anew
        unchanged = False
    if not unchanged:
        write_jsonl_atomic(path, rows)
