r"""The numbers of the reproduction's prose: each macro of `paper/` that asks for one, answered from a run's files.

`paper/sections/*.tex` says `\Score{mirage}{mis/hard}{asr}` and nobody types the number. :func:`requests` finds what is
asked, :class:`Numbers` answers it, :func:`definitions` writes the LaTeX that prints the answers. A request that cannot
be answered is an error that names the file, the line and what is known; what this run left out prints "not run".

Arms and benchmarks are named by the run's ids, a benchmark with its split as "mis/hard". The model is always the run's
first, and beside it stands its reported analogue.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mis import layout
from mis.benchmarks import BENCHMARKS, BY_ID, GENERAL
from mis.mixtures import ARMS
from mis.probes import BARE
from mis.probes.knowing import CONTROL, FULL, REVISED
from mis.report import names
from mis.report.audit import Audit, audit
from mis.report.probe_tables import ORDERS
from mis.report.probes import ARMS_TEMPLATE, BOUNDS, Measured, Probed, curve_value
from mis.report.reference import machine, timings
from mis.report.rendering import escape_latex
from mis.report.reported import ReportError, read_csv, repository_root
from mis.report.scores import Cell
from mis.report.sources import Sources
from mis.report.statistics import paired_difference
from mis.report.tables import TABLES, number
from mis.scoring import COUNTED, read_outcomes
from mis.settings import Settings, load
from mis.statistics import Estimate, wilson

NOT_RUN = r"\emph{not run}"
VERDICTS = {
    "holds": "holds",
    "fails": "fails",
    "undecided": "is undecided",
    "not comparable": "is not comparable",
    "not applicable": "does not apply",
}
CLAIM_COLUMNS = ("id", "source", "statement", "reported", "run")


@dataclass(frozen=True)
class Request:
    """One use of a macro: its arguments, and the file and line that an error names."""

    macro: str
    arguments: tuple[str, ...]
    path: Path
    line: int


_COMMENT = re.compile(r"(?<!\\)%.*")


def requests(sources: Iterable[Path]) -> list[Request]:
    """All uses of this module's macros in LaTeX files, in their order; comments are left out.

    Raises :class:`ReportError` where a macro has too few arguments.
    """
    found = []
    pattern = re.compile(r"\\(" + "|".join(MACROS) + r")(?![A-Za-z])((?:\{[^{}]*\})*)")
    for path in sources:
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for match in pattern.finditer(_COMMENT.sub("", text)):
                macro, arguments = match[1], re.findall(r"\{([^{}]*)\}", match[2])
                wanted = MACROS[macro].arguments
                if "#" in match[2]:  # inside a definition
                    continue
                if len(arguments) < len(wanted):
                    takes = f"{len(wanted)} arguments on one line: {', '.join(wanted)}"
                    raise ReportError(rf"{path}, line {line}: \{macro} takes {takes}")
                found.append(Request(macro, tuple(arguments[: len(wanted)]), path, line))
    return found


def definitions(asked: Iterable[Request], numbers: Numbers) -> str:
    """LaTeX that defines every macro and its answers, one line an answer, sorted. Raises :class:`ReportError`."""
    answers = {}
    for request in asked:
        key = "/".join((request.macro, *request.arguments))
        try:
            answers[key] = MACROS[request.macro].answer(numbers, *request.arguments)
        except ReportError as error:
            call = f"\\{request.macro}" + "".join(f"{{{argument}}}" for argument in request.arguments)
            raise ReportError(f"{request.path}, line {request.line}: {call}: {error}") from None
    lines = ["% Generated from a run; every number of the prose, by the macro that prints it."]
    for name, macro in MACROS.items():
        count = len(macro.arguments)
        key = "/".join([name, *(f"#{i}" for i in range(1, count + 1))])
        lines.append(rf"\newcommand{{\{name}}}" + (f"[{count}]" if count else "") + rf"{{\mislookup{{{key}}}}}")
    lines += [rf"\misdefine{{{key}}}{{{answer}}}" for key, answer in sorted(answers.items())]
    return "\n".join(lines) + "\n"


class Numbers:
    """Answers about one run. `tables` and `figures` are the numbers of those that were made.

    Files are read when first asked for: `scores.csv`, verdicts, `claims.csv`, the datasheet and the funnel of the
    construction, Snakemake's benchmark files.
    """

    def __init__(
        self, settings: Settings, tables: Sequence[str] = (), figures: Sequence[str] = (), root: Path | None = None
    ):
        if not settings.models or settings.world is None:
            raise ReportError(f"scale {settings.scale!r}: the prose of paper/ reports a run of the miniature")
        self.settings = settings
        self.tables, self.figures = tuple(tables), tuple(figures)
        self.root = repository_root(root)
        self.sources = Sources(settings, root)
        self.model = next(iter(settings.models))
        self._committed: dict[str, Numbers] = {}

    @property
    def reported_model(self) -> str:
        return self.sources.analogues.reported_model(self.model)

    # --- scores

    def cell(self, arm: str, where: str, metric: str) -> Cell | None:
        """The pooled cell of the run's first model, or None where it was not run."""
        _known("arm", arm, ARMS)
        _known("benchmark or metric", f"{where} {metric}", _cells())
        benchmark, _, split = where.partition("/")
        return self.sources.scores.get(self.model, arm, benchmark, split, metric)

    def score(self, arm: str, where: str, metric: str) -> str:
        cell = self.cell(arm, where, metric)
        return NOT_RUN if cell is None else number(cell)

    def score_interval(self, arm: str, where: str, metric: str) -> str:
        cell = self.cell(arm, where, metric)
        if cell is None:
            return NOT_RUN
        extras = [] if cell.width is None else [f"{cell.low:.1f}--{cell.high:.1f}"]
        extras += [f"{cell.failures} failed"] if cell.failures else []
        return rf"{number(cell)}\,\%" + (f" ({', '.join(extras)})" if extras else "")

    def samples(self, where: str) -> str:
        """Questions of a benchmark, as every arm and seed was asked."""
        _known("benchmark", where, BY_ID)
        cell = self.cell("base", where, BY_ID[where].metrics[0][0])
        return NOT_RUN if cell is None or cell.n is None else _thousands(cell.n // len(self.sources.scores.seeds))

    # --- the paper's values

    def reported(self, artifact: str, arm: str, where: str, metric: str) -> str:
        benchmark, _, split = where.partition("/")
        value = self.sources.reported.get(artifact, self.reported_model, arm, benchmark, split, metric)
        if value is None:
            raise ReportError(f"the paper prints no such value of {self.reported_model} in {artifact}")
        return value.value

    def reported_difference(self, artifact: str, first: str, second: str, where: str, metric: str) -> str:
        one, two = (Decimal(self.reported(artifact, arm, where, metric)) for arm in (first, second))
        return _points(one - two)

    # --- differences between arms

    @cached_property
    def _outcomes(self):
        return read_outcomes(self.settings)

    @cache  # noqa: B019  lives as long as the build
    def _difference(self, first: str, second: str, where: str, metric: str) -> Estimate | None:
        """First minus second on the same questions, as a fraction; None where one of the two was not run."""
        if self.cell(first, where, metric) is None or self.cell(second, where, metric) is None:
            return None
        parts = GENERAL if where == "average" else (where,)
        arms = [[self._hits(arm, part, metric) for part in parts] for arm in (first, second)]
        # The unweighted mean over benchmarks is the mean over all their samples, each weighted by its benchmark's size.
        total = sum(hits.shape[1] for hits in arms[0])
        one, two = (
            np.concatenate([hits * (total / (len(parts) * hits.shape[1])) for hits in arm], axis=1) for arm in arms
        )
        report = self.settings.report
        estimate = paired_difference(one, two, report.confidence, report.bootstrap_samples)
        if (one - two == (one - two).flat[0]).all():  # resampling cannot move; as for a rate, Wilson's bound stands in
            half = 1 - wilson(one.shape[1], one.shape[1], report.confidence).low
            return Estimate(estimate.value, max(-1.0, estimate.value - half), min(1.0, estimate.value + half))
        return estimate

    def _hits(self, arm: str, where: str, metric: str) -> np.ndarray:
        """1 where an outcome counts for the metric, else 0: shape (seeds, samples), samples ordered by their keys."""
        benchmark = BY_ID[where]
        counted = COUNTED[benchmark.task, metric]
        prefix = f"{benchmark.name}/{benchmark.split}/"
        return np.array([
            [outcomes[key] in counted for key in sorted(outcomes) if key.startswith(prefix)]
            for outcomes in self._outcomes[self.model, arm].values()
        ], dtype=float)  # fmt: skip

    def difference(self, first: str, second: str, where: str, metric: str) -> str:
        estimate = self._difference(first, second, where, metric)
        if estimate is None:
            return NOT_RUN
        low, high = _signed(100 * estimate.low), _signed(100 * estimate.high)
        return rf"{_points(100 * estimate.value)} [{low}, {high}]"

    def compare(self, first: str, second: str, where: str, metric: str) -> str:
        estimate = self._difference(first, second, where, metric)
        if estimate is None:
            return NOT_RUN + " beside"
        if estimate.low <= 0 <= estimate.high:
            return "not distinguishable from"
        return "lower than" if estimate.value < 0 else "higher than"

    # --- claims

    @cached_property
    def claims(self) -> dict[str, dict[str, str]]:
        path = self.settings.paths.results / "claims.csv"
        rows = read_csv(path, CLAIM_COLUMNS)
        for row in rows:
            for column in ("reported", "run"):
                if row[column] not in VERDICTS and (column, row[column]) != ("reported", ""):
                    raise ReportError(
                        f"{path}, line {row['line']}: {column} is {row[column]!r}, no verdict; run `mis claims` again"
                    )
        return {row["id"]: row for row in rows}

    def _claim(self, id: str) -> dict[str, str]:
        _known("claim", id, self.claims)
        return self.claims[id]

    def verdict(self, id: str) -> str:
        return VERDICTS[self._claim(id)["run"]]

    def reported_verdict(self, id: str) -> str:
        return VERDICTS[self._claim(id)["reported"]]

    def statement(self, id: str) -> str:
        return escape_latex(self._claim(id)["statement"])

    def claim(self, id: str) -> str:
        """An entry of a list of claims: id, statement, the verdict on this run, that on the paper's own numbers."""
        row = self._claim(id)
        paper = row["reported"] if row["source"] == "paper" else ""
        return rf"\claimline{{{id}}}{{{self.statement(id)}}}{{{row['run']}}}{{{paper}}}"

    def claim_count(self, source: str, verdict: str) -> str:
        _known("source of claims", source, ("paper", "ours"))
        _known("verdict", verdict, ("any", *VERDICTS))
        own = [row for row in self.claims.values() if row["source"] == source]
        return str(sum(verdict in ("any", row["run"]) for row in own))

    # --- what was run

    def count(self, what: str) -> str:
        scores = self.sources.scores
        counts: dict[str, Callable[[], int]] = {
            "seeds": lambda: len(scores.seeds),
            "arms": lambda: len({key[1] for key in scores.keys() if key[0] == self.model}),
            "models": lambda: len(scores.models),
            "benchmarks": lambda: sum(len(names) for names in self.settings.evaluation.suites.values()),
            "responses": lambda: sum(cell.n or 0 for cell in self._once()),
            "failures": lambda: sum(cell.failures for cell in self._once()),
        }
        _known("count", what, counts)
        return _thousands(counts[what]())

    def _once(self) -> list[Cell]:
        """One cell of every model, arm and benchmark: together they count every response of the run once."""
        metrics = {(b.name, b.split): b.metrics[0][0] for b in BENCHMARKS}
        scores = self.sources.scores
        return [scores.get(*key) for key in scores.keys() if metrics.get(key[2:4]) == key[4]]

    def seeds(self) -> str:
        seeds = self.sources.scores.seeds
        return ("seed " if len(seeds) == 1 else "seeds ") + _listed(seeds)

    def setting(self, path: str) -> str:
        """A value of the configuration by its dotted path; "model" stands for the run's first model."""
        value = self.settings.model_dump(mode="json")
        first, *others = path.split(".")
        for name in ["models", self.model, *others] if first == "model" else [first, *others]:
            if not isinstance(value, dict) or value.get(name) is None:
                raise ReportError(f"the configuration has no {name!r} there")
            value = value[name]
        if isinstance(value, list):
            return _listed([str(entry) for entry in value])
        if isinstance(value, int):
            return _thousands(value)
        return f"{value:g}" if isinstance(value, float) else escape_latex(str(value))

    def image_tokens(self) -> str:
        """Tokens of a picture: its patches, four of which the pixel shuffle joins to one (InternVL)."""
        pretraining = self.settings.models[self.model].pretraining
        if pretraining is None or self.settings.world is None:
            return NOT_RUN
        return str((self.settings.world.image_size // pretraining.vision.patch_size // 2) ** 2)

    def parameters(self) -> str:
        """Millions of parameters of the base model, from the head of its safetensors file."""
        path = layout.checkpoint(self.settings, self.model, self.settings.seeds[0], "base") / "model.safetensors"
        if not path.is_file():
            raise ReportError(f"{path}: not there; run `mis pretrain {self.model} --seed {self.settings.seeds[0]}`")
        with path.open("rb") as file:
            head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total = sum(int(np.prod(tensor["shape"])) for name, tensor in head.items() if name != "__metadata__")
        return f"{total / 1e6:.1f}"

    def mixture(self, arm: str, kind: str) -> str:
        """Training samples of an arm of one kind: safety, benign, general, or all."""
        _known("kind", kind, ("safety", "benign", "general", "all"))
        _known("arm", arm, ARMS)
        path = layout.datasheet(self.settings)
        rows = [row for row in read_csv(path, ("arm", "kind", "samples")) if row["arm"] == arm]
        return _thousands(sum(int(row["samples"]) for row in rows if kind in ("all", row["kind"]))) if rows else NOT_RUN

    def kept(self, step: str) -> str:
        """What a step of the construction kept."""
        path = self.settings.paths.build / "construction" / "funnel.csv"
        rows = {row["step"]: row["kept"] for row in read_csv(path, ("step", "kept", "reason")) if not row["reason"]}
        _known("step", step, rows)
        return _thousands(int(rows[step]))

    @cached_property
    def _timings(self) -> dict[str, dict]:
        return {row["rule"]: row for row in timings(self.settings.paths.results / "benchmarks")}

    def minutes(self, rule: str) -> str:
        """Minutes of work of a rule's jobs, summed, whatever ran beside them; "all" sums all rules."""
        if rule == "all":
            return _thousands(round(sum(row["total_s"] for row in self._timings.values()) / 60))
        _known("rule with a benchmark", rule, self._timings)
        return f"{self._timings[rule]['total_s'] / 60:.1f}"

    def jobs(self, rule: str) -> str:
        """Jobs of a rule that have a benchmark file; "all" counts those of all rules."""
        if rule == "all":
            return _thousands(sum(row["jobs"] for row in self._timings.values()))
        _known("rule with a benchmark", rule, self._timings)
        return _thousands(self._timings[rule]["jobs"])

    def peak_memory(self) -> str:
        """The largest resident memory of any job, in GB."""
        if not self._timings:
            raise ReportError(f"{self.settings.paths.results / 'benchmarks'}: no benchmark files; run by Snakemake")
        return f"{max(row['peak_mb'] for row in self._timings.values()) / 1000:.1f}"

    @cached_property
    def audit(self) -> Audit:
        return audit(self.root / "tests" / "audit" / "second")

    def audited(self, which: str) -> str:
        """Audited answers: how many of "all" or of the "hard" ones."""
        counts = {"all": self.audit.answers, "hard": self.audit.hard}
        _known("answers", which, counts)
        return _thousands(counts[which])

    def agrees(self, which: str) -> str:
        """The share of them on which the oracle and the labels agree, with Wilson's interval."""
        found = self.audit
        counts = {"all": (found.equal, found.answers), "hard": (found.hard_equal, found.hard)}
        _known("answers", which, counts)
        value, low, high = (100 * bound for bound in wilson(*counts[which], self.settings.report.confidence))
        return rf"{value:.1f}\,\% ({low:.1f}--{high:.1f})"

    def version(self, package: str) -> str:
        try:
            return escape_latex(metadata.version(package))
        except metadata.PackageNotFoundError:
            raise ReportError(f"{package} is not installed") from None

    # --- by likelihood, and a committed run beside this one

    def _probed(self, arm: str) -> Probed:
        """An arm of the run's first model, or "bare", its language model as it came, asked in the arms' template."""
        of = {each.arm: each for each in self.sources.probes.all if each.template == ARMS_TEMPLATE}
        _known("arm that was probed", arm, of)
        return of[arm]

    def knowledge(self, arm: str, order: str, table: str) -> str:
        """AUC of ranked knowledge in a word order, over the "full" table of relations, the "revised", or "control"."""
        _known("word order", order, ORDERS["ranked"])
        _known("table of relations", table, (FULL, REVISED, CONTROL))
        where = {"wording": CONTROL} if table == CONTROL else {"table": table}
        return _auc(self._probed(arm).knowledge(order, **where))

    def behaviour(self, arm: str, verdict: str, outcome: str) -> str:
        """Share of the answers to instructions in text, of hazardous or benign relations, with this outcome."""
        counts = self._probed(arm).behaviour(verdict)
        _known("outcome of an instruction", outcome, counts)
        value, low, high = (100 * bound for bound in wilson(counts[outcome], counts["answers"]))
        return rf"{value:.1f}\,\% ({low:.1f}--{high:.1f})"

    def separation(self, arm: str, contrast: str, score: str) -> str:
        return _auc(self._probed(arm).separation(contrast, score))

    def against_chance(self, arm: str, contrast: str, score: str) -> str:
        """Whether the interval of a separation's AUC leaves chance out."""
        found = self._probed(arm).separation(contrast, score)
        if found is None:
            return NOT_RUN + " beside chance"
        return "above chance" if found.low > 0.5 else "below chance" if found.high < 0.5 else (
            "not distinguishable from chance")  # fmt: skip

    def curve(self, what: str, column: str) -> str:
        """A curve on the development split, its points in order: AUCs ("auc", "opening"), or rates in percent."""
        _known("column of the curves", column, (*BOUNDS, "asr", "over_flagging"))
        curves = self.sources.probes.curves
        if not curves:
            return NOT_RUN
        _known("curve", what, curves)
        found = [(point["value"], curve_value(point, column)) for point in curves[what]]
        shown = [_auc(each) if column in BOUNDS else rf"{each.value:.0f}\,\%" for _, each in found]
        return ", ".join(f"{text} [{escape_latex(value)}]" for text, (value, _) in zip(shown, found, strict=True))

    def perplexity(self, arm: str) -> str:
        found = self._probed(arm).ability("nats_per_token")
        return NOT_RUN if found is None else f"{math.exp(found.value):.1f}"

    def general_questions(self, arm: str) -> str:
        found = self._probed(arm).ability("accuracy")
        if found is None:
            return NOT_RUN
        return rf"{100 * found.value:.0f}\,\% ({100 * found.low:.0f}--{100 * found.high:.0f})"

    def language_model(self) -> str:
        """The name of the pretrained language model's file, or its folder."""
        path = layout.probes(self.settings, self.model, None, BARE) / "run.json"
        try:
            source = json.loads(path.read_text(encoding="utf-8"))["source"]
            return escape_latex(source["gguf"]["name"].removesuffix(".gguf") if "gguf" in source else source["folder"])
        except (OSError, ValueError, KeyError) as error:
            raise ReportError(f"{path}: does not name the language model ({error!r}); run `mis probe` again") from None

    def same_verdicts(self) -> str:
        """How many claims have the same verdict at this scale as at the one that it stands beside."""
        own, other = self.settings.scale, self.settings.report.beside
        rows = read_csv(self.settings.paths.results / "claims_by_scale.csv", ("id", own, other))
        return f"{sum(row[own] == row[other] for row in rows)} of {len(rows)}"

    def at(self, scale: str) -> Numbers:
        """The same about the committed run of another scale."""
        if scale not in self._committed:
            self._committed[scale] = Numbers(committed(self.root, scale), root=self.root)
        return self._committed[scale]

    # --- what is shown

    def table(self, name: str) -> str:
        """The table's file; of one that this run has nothing for, a file that says so."""
        _known("table", name, TABLES)
        return f"tables/table{name}" if name in self.tables else f"tables/absent{name}"

    def figure(self, name: str) -> str:
        _known("figure among those made", name, self.figures)
        return f"figures/figure{name}"


def _known(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        shown = list(known)
        more = f" and {len(shown) - 40} more" if len(shown) > 40 else ""
        raise ReportError(f"no {what} {name!r}; known: {', '.join(shown[:40])}{more}")


@cache
def _cells() -> tuple[str, ...]:
    """What `scores.csv` may hold, as "benchmark/split metric": the benchmarks' own splits, and cuts through MIS."""
    own = [f"{benchmark.id} {metric}" for benchmark in BENCHMARKS for metric, _ in benchmark.metrics]
    cuts = [f"mis/{split} {metric}" for split in ("taught", "untaught", "privacy_selfharm")
            for metric, _ in BENCHMARKS[0].metrics]  # fmt: skip
    return (*own, *cuts, "average exact_match")


def committed(root: Path, scale: str) -> Settings:
    """The settings of a committed run, whose results are what is committed of it."""
    folder = root / "results" / "reference" / scale
    settings = load(folder / "config.yaml")
    paths = settings.paths.model_copy(update={"results": folder, "figures": root / "figures" / "reference" / scale})
    return settings.model_copy(update={"paths": paths})


def _auc(found: Measured | None) -> str:
    return NOT_RUN if found is None else f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _thousands(value: int) -> str:
    return f"{value:,}"


def _listed(words: Sequence[str]) -> str:
    words = [escape_latex(word) for word in words]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _signed(value: Decimal | float) -> str:
    places = 2 if isinstance(value, Decimal) else 1
    text = f"{value:+.{places}f}"
    return f"${text}$" if float(text) else f"${0:.{places}f}$"


def _points(value: Decimal | float) -> str:
    return f"{_signed(value)} points"


class Macro(NamedTuple):
    """What a macro takes, in words, and who answers it."""

    arguments: tuple[str, ...]
    answer: Callable[..., str]


_CELL = ("arm", "benchmark/split", "metric")
_SEPARATION = ("arm", "contrast", "score")
_PAIR = ("first arm", "second arm", "benchmark/split", "metric")
MACROS: dict[str, Macro] = {
    "Scale": Macro((), lambda n: escape_latex(n.settings.scale)),
    "Model": Macro((), lambda n: escape_latex(n.model)),
    "ReportedModel": Macro((), lambda n: escape_latex(names.model(n.reported_model))),
    "Score": Macro(_CELL, Numbers.score),
    "ScoreCI": Macro(_CELL, Numbers.score_interval),
    "Samples": Macro(("benchmark/split",), Numbers.samples),
    "Reported": Macro(("artifact", *_CELL), Numbers.reported),
    "ReportedDifference": Macro(("artifact", *_PAIR), Numbers.reported_difference),
    "Difference": Macro(_PAIR, Numbers.difference),
    "Compare": Macro(_PAIR, Numbers.compare),
    "Verdict": Macro(("claim",), Numbers.verdict),
    "ReportedVerdict": Macro(("claim",), Numbers.reported_verdict),
    "Statement": Macro(("claim",), Numbers.statement),
    "Claim": Macro(("claim",), Numbers.claim),
    "ClaimCount": Macro(("paper or ours", "verdict"), Numbers.claim_count),
    "Count": Macro(("what",), Numbers.count),
    "Confidence": Macro((), lambda n: rf"{100 * n.settings.report.confidence:g}\,\%"),
    "Seeds": Macro((), Numbers.seeds),
    "Setting": Macro(("path",), Numbers.setting),
    "ImageTokens": Macro((), Numbers.image_tokens),
    "Parameters": Macro((), Numbers.parameters),
    "Mixture": Macro(("arm", "kind"), Numbers.mixture),
    "Kept": Macro(("step",), Numbers.kept),
    "Minutes": Macro(("rule",), Numbers.minutes),
    "Jobs": Macro(("rule",), Numbers.jobs),
    "PeakMemory": Macro((), Numbers.peak_memory),
    "Machine": Macro((), lambda n: escape_latex(machine())),
    "Audited": Macro(("all or hard",), Numbers.audited),
    "Agrees": Macro(("all or hard",), Numbers.agrees),
    "Kappa": Macro((), lambda n: f"{n.audit.kappa:.2f}"),
    "Version": Macro(("package",), Numbers.version),
    "TableFile": Macro(("table",), Numbers.table),
    "FigureFile": Macro(("figure",), Numbers.figure),
}
# Of a committed run, whose scale is named first: \ScoreCIAt{small}{mirage}{mis/hard}{asr}.
_AT: dict[str, Macro] = {
    name: MACROS[name] for name in ("ScoreCI", "Samples", "Verdict", "ClaimCount", "Seeds", "Setting", "Model")
} | {
    "Knowledge": Macro(("arm", "word order", "table"), Numbers.knowledge),
    "Behaviour": Macro(("arm", "verdict", "outcome"), Numbers.behaviour),
    "Separation": Macro(_SEPARATION, Numbers.separation),
    "AgainstChance": Macro(_SEPARATION, Numbers.against_chance),
    "Curve": Macro(("what", "column"), Numbers.curve),
    "Perplexity": Macro(("arm",), Numbers.perplexity),
    "GeneralQuestions": Macro(("arm",), Numbers.general_questions),
    "LanguageModel": Macro((), Numbers.language_model),
    "SameVerdicts": Macro((), Numbers.same_verdicts),
    "Beside": Macro((), lambda n: escape_latex(n.settings.report.beside or "")),
}


def _of_committed(macro: Macro) -> Macro:
    def answer(numbers: Numbers, scale: str, *arguments: str) -> str:
        return macro.answer(numbers.at(scale), *arguments)

    return Macro(("scale", *macro.arguments), answer)


MACROS |= {f"{name}At": _of_committed(macro) for name, macro in _AT.items()}
