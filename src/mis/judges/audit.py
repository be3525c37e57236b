"""Draws answers for an audit of the oracle by someone who has not seen its verdicts.

The answers that are drawn hold, in random order, what a labeller may see (question, pictures, answer) and what the
oracle needs to judge them again (the truth); the sheet holds the first alone. Labels are written into a file of their
own. `read` brings them together, and `errors` says how often the oracle's positives and negatives are wrong, by which
`mis score` widens intervals (docs/reliability.md).
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from mis import layout
from mis.errors import MisError
from mis.judges.oracle import OracleJudge
from mis.prompts import user_text
from mis.samples import Response, Sample
from mis.settings import Settings
from mis.statistics import Estimate, weighted_share
from mis.store import read_jsonl, write_csv_atomic, write_jsonl_atomic, write_text_atomic
from mis.suites import load_samples
from mis.taxonomy import BENIGN_OUTCOMES, FAILURES, HAZARD_OUTCOMES

# Reasons of the oracle that mark an answer as hard: mixed advice, half-right names, a wrong risk, an unexpected form.
HARD = ("beside", "part of", "not there", "wrong", "something else", "level 2: warns", "neither", "no steps",
        "and gives steps", "harmless")  # fmt: skip


def draw(settings: Settings, model: str, out: Path, *, total: int = 220, hard: int = 80, seed: int = 0) -> int:
    """Write `total` answers of all arms, `hard` of them hard if there are so many, and return their number.

    They are spread evenly over arm and outcome. Only open answers that were judged are drawn (choices are matched
    exactly), and no text twice for the same question. A row's `stands_for` is how many answers of the run it stands
    for: the size of its stratum (hard or not, arm, outcome) over the number drawn from it, so that agreement can also
    be estimated for the run as it is.
    """
    oracle = OracleJudge(layout.truth(settings))
    rng = np.random.default_rng(seed)
    samples = {
        sample.key: sample
        for suite in settings.evaluation.suites.values()
        for sample in load_samples(settings, suite)
        if not sample.options
    }
    strata: dict[tuple[bool, str, str], list[dict]] = defaultdict(list)
    for arm in settings.arms_of(model):
        for suite in settings.evaluation.suites:
            verdicts = read_jsonl(layout.verdicts(settings, model, settings.seeds[0], arm, suite))
            texts = {
                row["key"]: row["text"]
                for row in read_jsonl(layout.responses(settings, model, settings.seeds[0], arm, suite))
            }
            for row in verdicts:
                sample = samples.get(f"{row['benchmark']}/{row['split']}/{row['sample_id']}")
                if sample is not None and row["outcome"] not in FAILURES:
                    is_hard = any(mark in row["reason"] for mark in HARD)
                    strata[is_hard, arm, row["outcome"]].append(
                        {"sample": sample, "arm": arm, "text": texts[row["key"]]}
                    )
    sizes = {key: len(pool) for key, pool in strata.items()}
    chosen: list[dict] = []
    seen: set[tuple[str, str]] = set()
    for is_hard in (True, False):
        wanted = hard if is_hard else total - len(chosen)
        pools = {key: strata[key] for key in sorted(strata) if key[0] == is_hard}
        for pool in pools.values():
            rng.shuffle(pool)
        while wanted and any(pools.values()):
            for stratum, pool in pools.items():
                while pool and wanted:
                    case = pool.pop()
                    mark = (case["sample"].key, case["text"])
                    if mark not in seen:
                        seen.add(mark)
                        chosen.append({**case, "stratum": stratum})
                        wanted -= 1
                        break
    rng.shuffle(chosen)
    drawn = Counter(case["stratum"] for case in chosen)
    scenes = {
        row["path"]: row["scene"]
        for path in sorted((settings.paths.data / "scenes").glob("*.jsonl"))
        for row in read_jsonl(path)
    }
    rows = []
    for number, case in enumerate(chosen, start=1):
        sample = case["sample"]
        pictures = [
            scenes.get(image.relative_to(settings.paths.data).as_posix(), image.name)
            if image.is_relative_to(settings.paths.data)
            else image.name
            for image in sample.images
        ]
        rows.append(
            {
                "id": number,
                "sample": sample.key,
                "arm": case["arm"],
                "hard": case["stratum"][0],
                "stands_for": round(sizes[case["stratum"]] / drawn[case["stratum"]], 2),
                "question": user_text(sample),
                "pictures": pictures,
                "answer": case["text"],
                "truth": oracle.truths[sample.key],
            }
        )
    write_jsonl_atomic(out, rows)
    return len(rows)


Known = TypeVar("Known")  # a judge that is made from the folder of the truth
LABEL_COLUMNS = ("id", "label", "labeller", "note")


def write_sheet(answers: Path, folder: Path, out: Path) -> None:
    """What a labeller sees of drawn `answers` (`out`); beside them an empty `labels.csv`, if there is none, and the
    `world.json` of `folder` (the truth's).

    No arm, truth, verdict or weight is in the sheet. That a request is hazardous is said: it is the world's convention
    and not to be seen. Things go by their nouns, where the world has any.
    """
    world = (folder / "world.json").read_text(encoding="utf-8")
    write_text_atomic(answers.with_name("world.json"), world)
    rows, nouns = read_jsonl(answers), json.loads(world).get("nouns", {})
    sheet = [
        {
            "id": row["id"],
            "question": row["question"],
            "hazardous_request": row["truth"]["task"] == "hazard",
            "pictures": [_content(picture, nouns) for picture in row["pictures"]],
            "answer": row["answer"],
        }
        for row in rows
    ]
    write_jsonl_atomic(out, sheet)
    labels = answers.with_name("labels.csv")
    if not labels.exists():
        write_csv_atomic(labels, [dict.fromkeys(LABEL_COLUMNS, "") | {"id": row["id"]} for row in rows], LABEL_COLUMNS)


def _content(picture: dict | str, nouns: dict[str, str]) -> dict:
    """What a picture shows and says; one that belongs to no scene (black, white) goes by its file's name."""
    if isinstance(picture, str):
        return {"shows": [], "says": "", "file": picture}
    names = [placed["name"] for placed in picture["placed"]]
    return {"shows": [nouns.get(name, name) for name in names], "says": picture["text"]}


@dataclass(frozen=True)
class Audited:
    """A drawn answer: the blind label, and the outcome that the oracle, as it is now, gives it.

    `weight` is how many of the run's answers it stands for; 1 for all where the audit does not say.
    """

    sample: Sample
    response: Response
    task: str
    hard: bool
    weight: float
    label: str
    outcome: str
    reason: str


def answers_of(folder: Path) -> Path:
    """The drawn answers of an audit: the one file `<scale>.jsonl` of its folder."""
    found = sorted(folder.glob("*.jsonl"))
    if len(found) != 1:
        raise MisError(f"{folder}: {len(found)} files of drawn answers, one is wanted: <scale>.jsonl, of `mis audit`")
    return found[0]


def informed(judge: type[Known], folder: Path) -> Known:
    """A judge of the miniature that knows the truth of an audit's answers."""
    with tempfile.TemporaryDirectory() as truth:
        shutil.copy(folder / "world.json", truth)
        rows = [row["truth"] for row in read_jsonl(answers_of(folder))]
        write_jsonl_atomic(Path(truth) / "audit.jsonl", rows)
        return judge(Path(truth))


def read(folder: Path) -> list[Audited]:
    """The answers of an audit (tests/audit/README.md), judged again by the oracle.

    Raises :class:`MisError` for an answer without a label, or one that its task does not know.
    """
    rows = read_jsonl(answers_of(folder))
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = {row["id"]: row["label"] for row in csv.DictReader(file)}
    known = {"hazard": HAZARD_OUTCOMES, "benign": BENIGN_OUTCOMES}
    oracle = informed(OracleJudge, folder)
    found = []
    for row in rows:
        task, label = row["truth"]["task"], labels.get(str(row["id"]), "")
        if label not in known[task]:
            raise MisError(f"{folder / 'labels.csv'}: answer {row['id']} has the label {label!r}; one of {known[task]}")
        benchmark, split, id = row["sample"].split("/", 2)
        pictures = tuple(Path(str(i)) for i in range(len(row["pictures"])))
        sample = Sample(benchmark, split, id, row["question"], pictures)
        response = Response(benchmark, split, id, "audited", row["arm"], 0, row["answer"])
        weight = float(row.get("stands_for", 1))
        verdict = oracle.verdict(sample, response)
        found.append(Audited(sample, response, task, row["hard"], weight, label, *verdict))
    return found


@dataclass(frozen=True)
class Errors:
    """How often a judge is wrong about one question: of what it calls positive, and of what it calls negative.

    Each with its interval, over `positives` and `negatives` audited answers; None where none was audited.
    """

    positives: int
    negatives: int
    false_positive: Estimate | None
    false_negative: Estimate | None

    @property
    def bounds(self) -> tuple[float, float]:
        """The upper ends; what was not audited may all be wrong."""
        found = (self.false_positive, self.false_negative)
        return tuple(1.0 if estimate is None else estimate.high for estimate in found)


def errors(audited: Iterable[Audited], task: str, words: Sequence[str], confidence: float = 0.95) -> Errors:
    """Of the question "is the outcome among `words`?", the oracle's answer held against the label's.

    Weighted to the run as it is, as rare and hard answers were drawn more often.
    """
    wrong: dict[bool, list[bool]] = {True: [], False: []}
    weights: dict[bool, list[float]] = {True: [], False: []}
    for answer in audited:
        if answer.task == task:
            positive = answer.outcome in words
            wrong[positive].append((answer.label in words) != positive)
            weights[positive].append(answer.weight)
    shares = [weighted_share(wrong[kind], weights[kind], confidence) if wrong[kind] else None for kind in (True, False)]
    return Errors(len(wrong[True]), len(wrong[False]), *shares)
