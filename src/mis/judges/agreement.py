"""How far two judges agree: raw agreement, Cohen's kappa, Krippendorff's alpha, and where they part.

Compared are the run's verdicts (the first judge) and those that `mis rejudge` wrote (the second), response by response.
A response on which neither gave a verdict, because it failed or was cut off, says nothing about judges: it is counted
apart. One on which only one of them gave none is a disagreement. Choices are matched exactly, not judged: left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mis import layout
from mis.benchmarks import BY_ID
from mis.errors import MisError
from mis.settings import Settings
from mis.statistics import Estimate, cluster_bootstrap
from mis.store import read_jsonl, write_csv_atomic, write_text_atomic
from mis.taxonomy import BENIGN_OUTCOMES, FAILURES, HAZARD_OUTCOMES, HELPFUL, SAFE, UNSAFE

TASKS = {"hazard": (*HAZARD_OUTCOMES, SAFE), "benign": BENIGN_OUTCOMES}
POOLED = "all"
# Asked beside the outcome's own word, because the rates that carry the argument (ASR, helpful rate) ask no more.
ONE_OUTCOME = {"hazard": UNSAFE, "benign": HELPFUL}
COLUMNS = (
    "first", "second", "model", "task", "question", "arm", "n", "without_verdict", "agreed", "agreement", "low", "high",
    "kappa", "alpha",
)  # fmt: skip
DISAGREEMENT_COLUMNS = ("key", "seed", "task", "first", "second", "first_reason", "second_reason")


@dataclass(frozen=True)
class Pair:
    """Two verdicts on one response. `key` names it as in the verdict files; `sample` is the question's own key."""

    key: str
    sample: str
    task: str
    model: str
    arm: str
    seed: int
    first: str
    second: str
    reasons: tuple[str, str] = ("", "")

    @property
    def judged(self) -> bool:
        return self.first not in FAILURES or self.second not in FAILURES


@dataclass(frozen=True)
class Agreement:
    """Of `n` responses `agreed` got the same outcome; `agreement` is the share with its interval.

    `kappa` and `alpha` are NaN where both judges used one and the same outcome throughout: there is no chance agreement
    to be corrected. `without_verdict` responses are not in `n`.
    """

    n: int
    without_verdict: int
    agreed: int
    agreement: Estimate
    kappa: float
    alpha: float


def confusion(pairs: Iterable[tuple[str, str]], outcomes: Sequence[str]) -> np.ndarray:
    """Counts of shape (outcomes, outcomes): rows the first judge's, columns the second's.

    Raises ValueError for an outcome that is not among `outcomes`.
    """
    matrix = np.zeros((len(outcomes), len(outcomes)), dtype=int)
    for (first, second), count in Counter(pairs).items():
        matrix[outcomes.index(first), outcomes.index(second)] += count
    return matrix


def cohen_kappa(matrix: np.ndarray) -> float:
    """Cohen's kappa (1960) of a square table of counts; NaN where chance agreement is 1."""
    share = matrix / matrix.sum()
    expected = float(share.sum(axis=1) @ share.sum(axis=0))
    return math.nan if math.isclose(expected, 1) else (float(np.trace(share)) - expected) / (1 - expected)


def krippendorff_alpha(units: Mapping[tuple[str | None, ...], int]) -> float:
    """Krippendorff's alpha for nominal values (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability").

    `units` says how often each tuple of values occurs, one value a judge, None where a judge gave none; a unit with
    fewer than two values says nothing. NaN where all values are equal or no unit has two.
    """
    totals: Counter[str] = Counter()
    disagreeing = 0.0
    for values, count in units.items():
        present = Counter(value for value in values if value is not None)
        size = present.total()
        if size > 1:
            totals.update({value: times * count for value, times in present.items()})
            disagreeing += count * (size**2 - sum(times**2 for times in present.values())) / (size - 1)
    n = totals.total()
    by_chance = n**2 - sum(times**2 for times in totals.values())
    return 1 - (n - 1) * disagreeing / by_chance if by_chance else math.nan


def agreement(
    pairs: Sequence[Pair], confidence: float = 0.95, replicates: int = 2000, *, only: str = ""
) -> Agreement | None:
    """Agreement over `pairs` of one task; None if none of them was judged.

    With `only` (an outcome) the judges agree if both or neither gave it. The interval draws questions, not responses:
    the answers of all arms and seeds to one question stay together.
    """
    judged = [pair for pair in pairs if pair.judged]
    if not judged:
        return None
    number = {sample: i for i, sample in enumerate(dict.fromkeys(pair.sample for pair in judged))}
    cluster = np.array([number[pair.sample] for pair in judged])
    values = [(pair.first, pair.second) for pair in judged]
    if only:
        values = [tuple(only if word == only else f"not {only}" for word in both) for both in values]
    equal = np.array([first == second for first, second in values])
    totals = np.bincount(cluster, minlength=len(number))
    hits = np.bincount(cluster, weights=equal, minlength=len(number))
    outcomes = Counter(values)
    used = sorted({outcome for both in outcomes for outcome in both})
    return Agreement(
        n=len(judged),
        without_verdict=len(pairs) - len(judged),
        agreed=int(equal.sum()),
        agreement=cluster_bootstrap(hits, totals, confidence, replicates),
        kappa=cohen_kappa(confusion(outcomes.elements(), used)),
        alpha=krippendorff_alpha(outcomes),
    )


def read_pairs(settings: Settings, judge: str) -> list[Pair]:
    """The verdicts of the run beside those of `judge`, on all open questions, in the order of the files.

    Benchmarks that `judge` cannot judge, so that none of its verdicts is about them, are left out. Raises
    :class:`MisError` if it has judged other responses of a benchmark than the run's judge, or nothing at all.
    """
    pairs = []
    for model in settings.models:
        for seed in settings.seeds_of(model):
            for arm in settings.arms_of(model):
                for suite in settings.evaluation.suites:
                    first = layout.verdicts(settings, model, seed, arm, suite)
                    second = layout.rejudged(settings, judge, model, seed, arm, suite)
                    if first.exists() or second.exists():
                        pairs += _read(first, second)
    if not pairs:
        where = settings.paths.results / "rejudged" / judge
        raise MisError(f"{where}: nothing to compare; run `mis judge` and `mis rejudge --judge {judge}`")
    return pairs


def _read(first: Path, second: Path) -> list[Pair]:
    theirs = {row["key"]: row for row in read_jsonl(second)}
    covered = {_benchmark(row) for row in theirs.values()}
    pairs = []
    for row in read_jsonl(first):
        benchmark = _benchmark(row)
        task = BY_ID[benchmark].task
        if task == "choice" or benchmark not in covered:
            continue
        other = theirs.pop(row["key"], None)
        if other is None:
            raise MisError(f"{second}: no verdict on {row['key']}; run `mis rejudge` again")
        pairs.append(Pair(
            row["key"], f"{row['benchmark']}/{row['split']}/{row['sample_id']}", task, row["model"], row["arm"],
            row["seed"], row["outcome"], other["outcome"], (row["reason"], other["reason"]),
        ))  # fmt: skip
    if theirs:
        raise MisError(f"{first}: no verdict on {min(theirs)}; run `mis judge` again")
    return pairs


def _benchmark(row: Mapping) -> str:
    return f"{row['benchmark']}/{row['split']}" if row["split"] else row["benchmark"]


def agree(settings: Settings, judge: str = "second") -> list[Path]:
    """Writes `agreement.csv`, `agreement.md` and `disagreements.csv` to `layout.drift`; returns their paths.

    One row a model, task, arm (and arm "all") and question: do they agree on the outcome, and do they agree on the one
    outcome that the safety and the help rates count? Percent, with the interval of the configured confidence.
    """
    pairs = read_pairs(settings, judge)
    first = settings.judge.kind
    rows = []
    for model in settings.models:
        for task, word in ONE_OUTCOME.items():
            for arm in (POOLED, *settings.arms_of(model)):
                group = [p for p in pairs if p.model == model and p.task == task and arm in (POOLED, p.arm)]
                for only in ("", word):
                    found = agreement(group, settings.report.confidence, settings.report.bootstrap_samples, only=only)
                    if found is not None:
                        cell = {"first": first, "second": judge, "model": model, "task": task, "arm": arm}
                        rows.append(cell | {"question": f"{only} or not" if only else "outcome"} | _row(found))
    apart = [pair for pair in pairs if pair.first != pair.second]
    folder = layout.drift(settings, judge)
    paths = [folder / "agreement.csv", folder / "agreement.md", folder / "disagreements.csv"]
    write_csv_atomic(paths[0], rows, COLUMNS)
    write_text_atomic(paths[1], _markdown(settings, judge, rows, pairs))
    write_csv_atomic(paths[2], map(_disagreement, apart), DISAGREEMENT_COLUMNS)
    return paths


def _row(found: Agreement) -> dict:
    share, low, high = (round(100 * bound, 2) for bound in found.agreement)
    return {
        "n": found.n, "without_verdict": found.without_verdict, "agreed": found.agreed, "agreement": share,
        "low": low, "high": high, "kappa": _number(found.kappa), "alpha": _number(found.alpha),
    }  # fmt: skip


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _disagreement(pair: Pair) -> dict:
    row = {"key": pair.key, "seed": pair.seed, "task": pair.task, "first": pair.first, "second": pair.second}
    return row | dict(zip(("first_reason", "second_reason"), pair.reasons, strict=True))


def _markdown(settings: Settings, judge: str, rows: Sequence[Mapping], pairs: Sequence[Pair]) -> str:
    """The tables of `agreement.md`: agreement, confusion by task, and where to find each kind of disagreement."""
    first, percent = settings.judge.kind, round(100 * settings.report.confidence)
    where = f" (mis/judges/{judge}.py)" if judge not in settings.judges else ""
    parts = [
        f"# Do two judges agree? Scale {settings.scale}",
        f"`{first}` gave the verdicts of this run; `{judge}`{where} judged the same responses. In "
        f"brackets the {percent} % interval, drawn over questions. Kappa and alpha are empty where both judges gave "
        "one and the same outcome throughout.",
    ]
    head = ("model", "task", "question", "arm", "n", "no verdict", "agreement, %", "kappa", "alpha")
    body = [
        (row["model"], row["task"], row["question"], row["arm"], row["n"], row["without_verdict"],
         f"{row['agreement']:.1f} ({row['low']:.1f}–{row['high']:.1f})", row["kappa"], row["alpha"])
        for row in rows
    ]  # fmt: skip
    parts.append(_table(head, body))
    for task, outcomes in TASKS.items():
        group = [pair for pair in pairs if pair.task == task and pair.judged]
        words = [word for word in (*outcomes, *FAILURES) if any(word in (p.first, p.second) for p in group)]
        if not words:
            continue
        parts.append(f"## {task.capitalize()}: {first} (rows) against {judge} (columns)")
        matrix = confusion(((pair.first, pair.second) for pair in group), words)
        body = [(word, *map(int, counts)) for word, counts in zip(words, matrix, strict=True)]
        parts.append(_table(("", *words), body))
        kinds = Counter((pair.first, pair.second) for pair in group if pair.first != pair.second)
        example = {(pair.first, pair.second): f"`{pair.key}`, seed {pair.seed}" for pair in reversed(group)}
        body = [(*kind, count, example[kind]) for kind, count in sorted(kinds.items(), key=lambda x: (-x[1], x[0]))]
        parts.append(_table((first, judge, "responses", "for example"), body))
    parts.append("All disagreements, with both judges' reasons, are in `disagreements.csv`.")
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], body: Iterable[Sequence]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
