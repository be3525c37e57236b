"""A run's own outcomes as evidence: every rate with its bootstrap replicates, drawn jointly for all models and arms."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from types import CodeType
from typing import Any

import numpy as np

from mis.benchmarks import GENERAL
from mis.report import names
from mis.report.claims.expressions import Expression
from mis.report.claims.paper import Paper
from mis.report.reported import ReportError
from mis.report.sources import Sources
from mis.scoring import COUNTED, POOLED, Group, counted, groups_of, not_applicable, outcome_words, read_outcomes

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
NOT_COMPARABLE, NOT_APPLICABLE = "not comparable", "not applicable"

# Splits that ask the same questions as another one; their samples are drawn together, so that they are paired.
_SAME_QUESTIONS = {
    **{f"mssbench/{split}": "mssbench/safe" for split in ("unsafe", "related_image", "white_image", "text_only")},
    **{f"mis/{split}": "mis/hard" for split in ("black_image", "white_image", "no_image")},
}
_COUNTED_METRICS = {metric for _, metric in COUNTED}


@dataclass
class Trace:
    """What one evaluation looked up, and what it did not find.

    `values` holds the looked-up numbers by (model, method, benchmark, split, metric, seed) with the paper's model ids;
    `absent` the paper's models that the run has not; `outside` whether nothing but such models was asked for;
    `senseless` says of ways of asking why their rates mean nothing (a skill is missing).
    """

    values: dict[tuple[Any, ...], float] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)
    absent: dict[str, None] = field(default_factory=dict)
    outside: bool = False
    senseless: dict[str, None] = field(default_factory=dict)

    def lack(self, what: str) -> float:
        self.missing[what] = None
        return float("nan")


@dataclass(frozen=True)
class Verdict:
    """What a run says of a claim; `share` of the replicates it is true in, None where they were not asked."""

    word: str
    share: float | None = None
    numbers: str = ""
    missing: str = ""
    remark: str = ""


def decide(own: bool, share: float, share_with_ties: float, confidence: float) -> str:
    """Holds, fails or undecided; `own` is whether the claim is true of the run's own values.

    Holds: true in almost all replicates. Fails: in almost none, even if every tie counts for the claim: of two arms
    that answer alike in every sample neither is better. For `a > b` this is the percentile interval of the paired
    difference excluding 0. A claim of many parts that is true of the run itself but in few replicates (each part holds
    narrowly) does not fail: it is undecided.
    """
    tail = (1 - confidence) / 2
    if own and share >= 1 - tail:
        return HOLDS
    return FAILS if not own and share_with_ties <= tail else UNDECIDED


class Run:
    """The verdicts of a run, and `replicates` joint bootstrap samples of them.

    A replicate draws seeds with replacement, the same for all models and arms with these seeds, then each split's
    samples with replacement, the same for all models, arms and seeds; splits that ask the same questions share theirs.
    Arrays of a rate have shape (1 + replicates,), in percent: the run's own value, then the replicates.

    Where all outcomes of a cell are equal resampling cannot move it: 0 of n is replaced by draws of 1 - u^(1/n), u
    uniform, whose upper quantile is Clopper and Pearson's bound for n samples of one seed (n of n likewise). u is the
    same for all cells of a split, so that two arms without any hit stay equal.
    """

    def __init__(self, sources: Sources, paper: Paper, seed: int = 0, judge: str = ""):
        """With `judge` (of `mis rejudge`) its verdicts stand in the place of the run's."""
        self.sources, self.paper, self.seed = sources, paper, seed
        self.settings = sources.settings
        self.replicates = self.settings.report.bootstrap_samples
        self.confidence = self.settings.report.confidence
        self.outcomes = read_outcomes(self.settings, judge=judge)
        self._counted = counted(self.settings)
        self.groups = {(group.benchmark, group.split): group for group in groups_of(self.settings, self.outcomes)}
        self.senseless = {key[:2]: note for key, note in not_applicable(self.settings).items() if key[2] == POOLED}
        models = dict.fromkeys(model for model, _ in self.outcomes)
        self.run_model = {reported: run for reported, run in sources.configured_models.items() if run in models}
        self._draws: dict[tuple, np.ndarray] = {}
        self._cells: dict[tuple, np.ndarray | None] = {}
        self._lists: dict[tuple, list[float]] = {}

    @property
    def miniature(self) -> bool:
        return self.settings.world is not None

    def models(self, *methods: str) -> list[str]:
        """The run's models that have all of these arms, as the paper's ids."""
        return [
            reported
            for reported, run in self.run_model.items()
            if all((run, method) in self.outcomes for method in methods)
        ]

    # --- rates and their replicates

    def cell(
        self, model: str, arm: str, benchmark: str, split: str, metric: str, seed: int | None = None
    ) -> np.ndarray | None:
        """A rate of the run's own `model`, of all its seeds or one; None where it was not run or means nothing."""
        key = (model, arm, benchmark, split, metric, seed)
        if key not in self._cells:
            self._cells[key] = self._cell(*key)
        return self._cells[key]

    def _cell(
        self, model: str, arm: str, benchmark: str, split: str, metric: str, seed: int | None
    ) -> np.ndarray | None:
        seeds = self.outcomes.get((model, arm))
        if seeds is None or (model, arm) in self.senseless:
            return None
        if benchmark == "average":
            parts = [self.cell(model, arm, name, split, metric, seed) for name in GENERAL]
            return None if any(part is None for part in parts) else np.mean(parts, axis=0)
        if metric == "general_data_share":
            share = self.sources.general_data_percent.get(arm)
            return None if share is None else np.full(1 + self.replicates, share)
        if metric not in _COUNTED_METRICS:
            return self._measured(model, arm, benchmark, split, metric) if seed is None else None
        group = self.groups.get((benchmark, split))
        words = outcome_words(seeds, group, model, arm) if group and (group.task, metric) in COUNTED else None
        if words is None and benchmark in GENERAL:  # lmms-eval gives a rate, and no answer of its own
            return self._measured(model, arm, benchmark, split, metric) if seed is None else None
        if words is None or seed not in (None, *seeds):
            return None
        hits = np.isin(words, self._counted[group.task, metric])
        own = hits if seed is None else hits[[list(seeds).index(seed)]]
        values = self.totals(group, own, tuple(seeds) if seed is None else (seed,)) / own.size
        if own.all() or not own.any():
            shift = 1 - self._uniform(group, own.shape[1]) ** (1 / own.shape[1])
            values[1:] += np.where(own.flat[0], -shift, shift)
        return 100 * values

    def _measured(self, model: str, arm: str, benchmark: str, split: str, metric: str) -> np.ndarray | None:
        """A number that counts no outcomes (a latency), from `scores.csv`; normal draws of its interval's width."""
        cell = self.sources.scores.get(model, arm, benchmark, split, metric)
        if cell is None:
            return None
        spread = (cell.width or 0) / 2 / NormalDist().inv_cdf(0.5 + self.confidence / 2)
        rng = self._rng("/".join((model, arm, benchmark, split, metric)))
        return cell.value + spread * np.append(0, rng.standard_normal(self.replicates))

    def totals(self, group: Group, hits: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """How many of `hits`, shape (seeds, samples in the order of their keys), each replicate holds."""
        size = hits.shape[1]
        sums = self._counts(self._stream(group), size) @ hits.T.astype(np.float32)
        return (sums * self._counts(f"seeds {' '.join(map(str, seeds))}", len(seeds))).sum(axis=1, dtype=float)

    @staticmethod
    def _stream(group: Group) -> str:
        name = f"{group.benchmark}/{group.split}"
        return _SAME_QUESTIONS.get(name, name)

    def _rng(self, *stream: object) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(repr(stream).encode())])

    def _counts(self, stream: str, size: int) -> np.ndarray:
        """How often each of `size` things is drawn, shape (1 + replicates, size); in the first row each once."""
        if (stream, size) not in self._draws:
            drawn = self._rng(stream, size).multinomial(size, np.full(size, 1 / size), size=self.replicates)
            self._draws[stream, size] = np.vstack([np.ones(size), drawn]).astype(np.float32)
        return self._draws[stream, size]

    def _uniform(self, group: Group, size: int) -> np.ndarray:
        return self._rng(self._stream(group), size, "uniform").random(self.replicates)

    # --- claims

    def judge(self, expression: Expression) -> Verdict:
        """The uniform rule: true in almost all replicates, in almost none, or undecided.

        Lists of the paper's models shrink to those that the run has; a conjunct about other models alone is left out.
        A value that was not run leaves the claim undecided.
        """
        trace, kept = Trace(), []
        for number, code in enumerate(expression.as_written):
            part = Trace()
            try:
                expression.evaluate(code, expression.scope(self._tracing(part), self._present(part)))
            except ReportError:
                if not (part.missing or part.senseless or part.outside):
                    raise
            trace.absent |= part.absent
            if not part.outside:
                kept.append(number)
                trace.values |= part.values
                trace.missing |= part.missing
                trace.senseless |= part.senseless
                if not (part.values or part.missing or part.senseless):
                    trace.lack("anything to compare")
        absent = f"not in the run: {', '.join(map(names.model, trace.absent))}" if trace.absent else ""
        numbers = self.numbers(trace.values)
        if trace.senseless:
            return Verdict(NOT_APPLICABLE, None, numbers, absent, " ".join(trace.senseless))
        if trace.missing or not kept:
            return Verdict(UNDECIDED, None, numbers, "; ".join(filter(None, [", ".join(trace.missing), absent])))
        own, written = self.share(expression, [expression.as_written[number] for number in kept])
        ties = written
        if decide(own, written, written, self.confidence) == FAILS:
            _, ties = self.share(expression, [expression.with_ties[number] for number in kept])
        remark = f"True in {100 * ties:.1f} % with ties." if ties != written else ""
        return Verdict(decide(own, written, ties, self.confidence), written, numbers, absent, remark)

    def share(self, expression: Expression, codes: list[CodeType]) -> tuple[bool, float]:
        """Whether all of `codes` are true of the run's own values, and the share of replicates in which they are."""
        lists, replicate = self._lists, 0

        def v(model, method, benchmark, split, metric, artifact=None, seed=None) -> float:
            return lists[model, method, benchmark, split, metric, seed][replicate]

        found: dict[str, list] = {}

        def ids(*column, **where) -> list:
            key = repr((column, where))
            if key not in found:
                found[key] = self._ids(*column, **where)
            return found[key]

        scope = expression.scope({"v": v, "ids": ids}, lambda models: [model for model in models if self._has(model)])
        true = []
        for replicate in range(1 + self.replicates):  # noqa: B007  v reads it
            true.append(all(expression.evaluate(code, scope) for code in codes))
        return true[0], sum(true[1:]) / self.replicates

    def _has(self, model: str) -> bool:
        return model in self.run_model

    def _tracing(self, trace: Trace) -> dict[str, Callable]:
        """Lookups that note what they find and what they do not; a table of the paper is no measurement of a run."""

        def v(model, method, benchmark, split, metric, artifact=None, seed=None) -> float:
            if not self._has(model):
                trace.absent[model] = None
                trace.outside = True
                return float("nan")
            run, key = self.run_model[model], (model, method, benchmark, split, metric, seed)
            if (run, method) not in self.outcomes:
                return trace.lack(f"{names.method(method)} of {run}")
            if (run, method) in self.senseless:
                trace.senseless[f"{names.method(method)} of {run}: {self.senseless[run, method]}."] = None
                return float("nan")
            values = self.cell(run, *key[1:])
            if values is None:
                where = names.column(benchmark, split, metric) + (f", seed {seed}" if seed is not None else "")
                return trace.lack(f"{where} of {run}")
            self._lists[key] = values.tolist()
            return trace.values.setdefault(key, self._lists[key][0])

        def ids(column, **where) -> list:
            found = self._ids(column, **where)
            if not found:
                trace.lack("a second seed" if column == "seed" else f"a model with {_arm_or(**where)}")
            return found

        def table(*where) -> float:
            return trace.lack("the run's own count of what the paper's table holds")

        return {"v": v, "ids": ids, "names": lambda *_: [table()], **dict.fromkeys(("t3", "t7", "t18", "t19"), table)}

    def _present(self, trace: Trace) -> Callable[[list], list]:
        def present(models: list) -> list:
            found = [model for model in models if self._has(model)]
            trace.absent |= dict.fromkeys(model for model in models if not self._has(model))
            trace.outside |= not found
            return found

        return present

    def _ids(self, column: str, artifact: str = "", model: str = "", method: str = "", benchmark: str = "") -> list:
        """Models: the run's own, with the arm and the benchmark; methods: the paper's in that table; seeds: if several.

        A claim about all methods of a table asks for each of them: one that was not run is missing, not left out.
        """
        if column == "model":
            benchmarks = {name for name, _ in self.groups}
            return self.models(*filter(None, [method])) if benchmark in ("", *benchmarks) else []
        if column == "method":
            where = {"artifact": artifact, "model": model, "benchmark": benchmark}
            return self.paper.ids("method", **{key: value for key, value in where.items() if value})
        if column == "seed":
            seeds = list(self.outcomes.get((self.run_model.get(model, ""), "base"), ()))
            return seeds if len(seeds) > 1 else []
        raise ReportError(f"ids({column!r}, ...) is not known of a run; known: model, method, seed")

    def numbers(self, values: dict[tuple[Any, ...], float]) -> str:
        """The looked-up numbers as text: by model, then arms that were asked the same things together."""
        by_arm: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
        for (model, method, benchmark, split, metric, seed), value in values.items():
            place = names.split(benchmark, split) if benchmark else ""
            column = (place + (f", seed {seed}" if seed is not None else ""), names.METRICS.get(metric, metric))
            by_arm.setdefault((self.run_model[model], method), {})[column] = value
        texts = []
        for model in dict.fromkeys(model for model, _ in by_arm):
            blocks: dict[tuple[tuple[str, str], ...], list[str]] = {}
            for (owner, method), cells in by_arm.items():
                if owner == model:
                    shown = " / ".join(_number(value, metric) for (_, metric), value in cells.items())
                    blocks.setdefault(tuple(cells), []).append(f"{names.method(method)} {shown}")
            texts.append(f"{model}: " + "; ".join(f"{_heads(blk)}: {', '.join(arms)}" for blk, arms in blocks.items()))
        return ". ".join(texts)


def _arm_or(method: str = "", **where: str) -> str:
    return " ".join(filter(None, [names.method(method) if method else "", *where.values()]))


def _number(value: float, metric: str) -> str:
    """Percent with one decimal; seconds and tokens a second with three digits."""
    return f"{value:.3g}" if metric in (names.METRICS["latency_s"], names.METRICS["tokens_per_s"]) else f"{value:.1f}"


def _heads(columns: tuple[tuple[str, str], ...]) -> str:
    """ "MIS-easy / MIS-hard ASR": a metric that all columns share stands once."""
    if len({metric for _, metric in columns}) == 1:
        return f"{' / '.join(place for place, _ in columns)} {columns[0][1]}".strip()
    return " / ".join(f"{place} {metric}".strip() for place, metric in columns)
