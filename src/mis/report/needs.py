"""Which answers a table or figure is made of, so that one of them can be run alone (`report.scores: artifact`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mis.benchmarks import BY_ID, GENERAL
from mis.mixtures import ARMS
from mis.report.cases import CASES, asked
from mis.report.reported import Reported, read_analogues
from mis.report.specs import SPECS, Column
from mis.settings import Settings

# A split of `scores.csv` that is a cut through benchmarks (scoring.cuts), or a mean of several.
_CUTS = {
    ("mis", "privacy_selfharm"): ("mis/easy", "mis/hard"),
    # The miniature's truth alone knows these; it keeps one scores.csv.
    ("mis", "taught"): (),
    ("mis", "untaught"): (),
    ("vlsbench", "privacy_selfharm"): ("vlsbench",),
    ("mm_safetybench", "privacy"): ("mm_safetybench",),
    ("average", ""): GENERAL,
    ("", ""): (),
}
_MIS = ("mis/easy", "mis/hard")
_TIMES = ("latency_s", "tokens_per_s")
# Figures of scores: the artifact whose rows they show, and the benchmarks.
_FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "figure4": ("website_figure4", ("mis/easy", "mis/hard", "mis/real")),
    "figure5": ("figure5", (*_MIS, "vlsbench", "mm_safetybench")),
    "figure9": ("figure4", _MIS),
    "figureS1": ("table5", ("benign_control", "mis/hard")),
    "figureS2": ("", ()),
}

Need = tuple[str, str, str]


def needed(settings: Settings, artifact: str, root: Path | str | None = None) -> list[Need]:
    """(model, arm, benchmark) of the run behind "table4" or "figure4", in the configuration's order.

    A table needs the rows that the paper prints, as far as the run has their models and arms, and our arms where it
    shows them; a table of ours needs every model that was tuned. A benchmark that the configuration does not ask is
    left out.
    """
    kind, number = ("table", artifact[5:]) if artifact.startswith("table") else ("figure", artifact[6:])
    if kind == "figure" and number in CASES:
        who = asked(settings)
        if not who:
            return []
        return _known(settings, {(who[0], arm, case.benchmark) for case in CASES[number].cases for arm in case.arms})
    if kind == "table":
        if number not in SPECS:
            return []
        spec = SPECS[number]
        # Seconds are measured apart from the answers that are judged.
        columns = [column for column in spec.columns if column.metric not in _TIMES]
        benchmarks = {name for column in columns for name in _benchmarks(column)}
        shown = spec.artifact
    else:
        if artifact not in _FIGURES:
            return []
        shown, names = _FIGURES[artifact]
        benchmarks = set(names)
        spec = None
    if shown is None:
        tuned = [model for model in settings.models if any(ARMS[arm].trained for arm in settings.arms_of(model))]
        pairs = {(model, arm) for model in tuned for arm in settings.arms_of(model)}
    else:
        reported, analogues = Reported(root), read_analogues(root)
        rows = set(reported.rows(shown))
        pairs = {
            (model, arm)
            for model in settings.models
            for arm in settings.arms_of(model)
            if (analogues.reported_model(model), arm) in rows
        }
        if spec and spec.with_ours:
            ours = {name for name, arm in ARMS.items() if arm.ours and not arm.supplement}
            models = {model for model, _ in pairs}
            pairs |= {(model, arm) for model in models for arm in settings.arms_of(model) if arm in ours}
    return _known(settings, {(*pair, benchmark) for pair in pairs for benchmark in benchmarks})


def measured(artifact: str) -> frozenset[str]:
    """What an artifact shows that is no rate of answers: "shares" of general data in mixtures, "times" of answers."""
    spec = SPECS.get(artifact.removeprefix("table"))
    columns = spec.columns if spec else ()
    shares = any(not column.benchmark for column in columns)
    times = any(column.metric in _TIMES for column in columns)
    return frozenset(name for name, shown in (("shares", shares), ("times", times)) if shown)


def _benchmarks(column: Column) -> tuple[str, ...]:
    where = (column.benchmark, column.split)
    if where in _CUTS:
        return _CUTS[where]
    return (f"{column.benchmark}/{column.split}" if column.split else column.benchmark,)


def _known(settings: Settings, needs: Iterable[Need]) -> list[Need]:
    """Those that the configuration runs, in its order."""
    asked_of = set(benchmarks(settings))
    order = {
        (model, arm, benchmark): None
        for model in settings.models
        for arm in settings.arms_of(model)
        for benchmark in BY_ID
        if benchmark in asked_of
    }
    wanted = set(needs)
    return [need for need in order if need in wanted]


def benchmarks(settings: Settings) -> list[str]:
    """The benchmarks that the configuration asks, by us or by lmms-eval."""
    own = [name for names in settings.evaluation.suites.values() for name in names]
    lmms = settings.evaluation.lmms_eval
    return own + (list(lmms.benchmarks) if lmms else [])
