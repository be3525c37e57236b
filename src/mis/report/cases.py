"""Which samples the case figures show: declared as data, chosen by a stated rule, apart from how they are drawn.

Of the samples that satisfy a case's rule the first one is shown, in the order of the SHA-256 of
`figure<N>/<sample key>`: nobody picks a sample, and two figures do not show the same one. How many samples satisfy the
rule is part of every caption, and a case with a counterexample also shows how its rule is most often broken. The
answers are those of the first model and the first seed of the configuration.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mis import layout
from mis.judges import read_responses
from mis.report import names
from mis.report.reported import ReportError
from mis.samples import Response, Verdict
from mis.settings import Settings
from mis.store import read_jsonl
from mis.taxonomy import FLAGGED, HELPFUL, REFUSED, SAFE_REASONING, SAFE_REFUSAL, UNSAFE

# arm -> the outcomes that it may have
Rule = Mapping[str, tuple[str, ...]]
# arm -> sample key -> outcome
Outcomes = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Case:
    """A sample of `benchmark` (an id of `benchmarks.BY_ID`) with the answers of `arms`.

    It satisfies `wanted`; if no sample does, the caption says so and one that satisfies `otherwise` is shown, if that
    is given, else none. With `counterexample` a second sample shows the most frequent outcomes that break `wanted`.
    """

    benchmark: str
    arms: tuple[str, ...]
    wanted: Rule
    otherwise: Rule = field(default_factory=dict)
    counterexample: bool = False


@dataclass(frozen=True)
class CaseFigure:
    number: str
    title: str
    cases: tuple[Case, ...]


ANY_REFUSAL = (REFUSED, FLAGGED)
MIS_ARMS = ("base", "textual_sft", "vlguard_r", "mirage")
SITUATION_ARMS = ("base", "vlguard_p", "mirage")
RESCUED: Rule = {"base": (UNSAFE,), "mirage": (SAFE_REASONING,)}


def _study(number: str, title: str, benchmark: str, arms: tuple[str, ...], wanted: Rule) -> CaseFigure:
    return CaseFigure(number, title, (Case(benchmark, arms, wanted, counterexample=True),))


CASES: dict[str, CaseFigure] = {
    figure.number: figure
    for figure in (
        CaseFigure(
            "1",
            "Existing safety fine-tuning beside MIRage",
            (
                Case(
                    "mis/hard", ("textual_sft", "vlguard_r", "mirage"),
                    {"textual_sft": (UNSAFE,), "vlguard_r": (UNSAFE,), "mirage": (SAFE_REASONING,)},
                ),
                Case(
                    "mssbench/safe", ("textual_sft", "vlguard_p", "mirage"),
                    {"vlguard_p": ANY_REFUSAL, "mirage": (HELPFUL,)}, otherwise={"vlguard_p": ANY_REFUSAL},
                ),
            ),
        ),
        CaseFigure(
            "6",
            "Over-prudence in a harmless situation: VLGuard-P beside the base model",
            (Case("mssbench/safe", ("base", "vlguard_p"), {"base": (HELPFUL,), "vlguard_p": ANY_REFUSAL}),),
        ),
        _study("10", "Answers on MIS-easy: one picture shows something unsafe", "mis/easy", MIS_ARMS, RESCUED),
        _study("11", "Answers on MIS-hard: the harm lies in the relation alone", "mis/hard", MIS_ARMS, RESCUED),
        _study("12", "Answers on MIS-real: photographs in the place of drawings", "mis/real", MIS_ARMS, RESCUED),
        _study(
            "13", "Answers in MSSBench's safe situations", "mssbench/safe", SITUATION_ARMS,
            {"base": (HELPFUL,), "mirage": (HELPFUL,)},
        ),
        _study("14", "Answers in MSSBench's unsafe situations", "mssbench/unsafe", SITUATION_ARMS, RESCUED),
        _study("15", "Answers on SIUO: safe text and safe picture, unsafe together", "siuo", SITUATION_ARMS, RESCUED),
        _study(
            "16", "Answers on FigStep: the request is printed in the picture", "figstep",
            ("base", "vlguard_r", "mirage"), {"base": (UNSAFE,), "mirage": (SAFE_REASONING, SAFE_REFUSAL)},
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """The sample that a case shows (`key` None: none), and the sentences of its caption that say why."""

    key: str | None
    why: tuple[str, ...]


def in_words(rule: Rule) -> str:
    """ "Base unsafe, MIRage safe with reasoning"."""
    return ", ".join(
        f"{names.method(arm)} {' or '.join(names.OUTCOMES[outcome] for outcome in outcomes)}"
        for arm, outcomes in rule.items()
    )


def rank(figure: str, key: str) -> str:
    """A sample's place in the fixed order of a figure."""
    return hashlib.sha256(f"figure{figure}/{key}".encode()).hexdigest()


def first(figure: str, keys: Iterable[str]) -> str | None:
    """The sample that a figure shows of those that satisfy its rule; None where none does."""
    return min(keys, key=lambda key: rank(figure, key), default=None)


def share(count: int, total: int) -> str:
    """ "12 of 400 samples (3.0 %)"."""
    return f"{count:,} of {total:,} samples" + (f" ({100 * count / total:.1f}\xa0%)" if total else "")


def choose(figure: str, case: Case, outcomes: Outcomes) -> Choice:
    """The sample of a case by its rule, or by the weaker one, or none."""
    why = []
    for weaker, rule in enumerate((case.wanted, case.otherwise)):
        if not rule:
            continue
        name = "A weaker rule" if weaker else "Rule"
        if absent := [arm for arm in rule if not outcomes.get(arm)]:
            why.append(f"{name}: {in_words(rule)}. Not run: {', '.join(map(names.method, absent))}.")
            continue
        keys = _answered(outcomes, rule)
        found = [key for key in keys if all(outcomes[arm][key] in words for arm, words in rule.items())]
        why.append(f"{name}: {in_words(rule)}. Satisfied by {share(len(found), len(keys))}.")
        if found:
            return Choice(first(figure, found), (*why, "Shown: the first of these."))
    return Choice(None, (*why, "None is shown."))


def choose_counterexample(figure: str, case: Case, outcomes: Outcomes) -> Choice:
    """A sample with the outcomes, over all arms shown, that most often break the rule; of two as frequent, the first
    by the alphabet."""
    arms = [arm for arm in case.arms if outcomes.get(arm)]
    if any(arm not in arms for arm in case.wanted):
        return Choice(None, ("No counterexample: an arm of the rule was not run.",))
    keys = _answered(outcomes, arms)
    together: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        if any(outcomes[arm][key] not in words for arm, words in case.wanted.items()):
            together.setdefault(tuple(outcomes[arm][key] for arm in arms), []).append(key)
    if not together:
        return Choice(None, (f"No counterexample: all {len(keys):,} samples satisfy the rule.",))
    combination = min(together, key=lambda words: (-len(together[words]), words))
    rule = {arm: (outcome,) for arm, outcome in zip(arms, combination, strict=True)}
    found, broken = together[combination], sum(map(len, together.values()))
    return Choice(
        first(figure, found),
        (
            f"The rule is broken by {share(broken, len(keys))}.",
            f"Most often: {in_words(rule)}, {share(len(found), len(keys))}.",
            "Shown: the first of these.",
        ),
    )


def count_outcomes(case: Case, outcomes: Outcomes) -> list[str]:
    """A line an arm: how often it has which outcome."""
    lines = []
    for arm in case.arms:
        counts = Counter(outcomes.get(arm, {}).values())
        words = ", ".join(f"{names.OUTCOMES[word]} {n:,}" for word, n in sorted(counts.items(), key=lambda x: -x[1]))
        lines.append(f"{names.method(arm)}: {words or 'not run'}")
    return lines


def _answered(outcomes: Outcomes, arms: Iterable[str]) -> list[str]:
    """Samples that all of `arms` answered, in a fixed order."""
    return sorted(set.intersection(*(set(outcomes[arm]) for arm in arms)))


# --- the run's files


@dataclass(frozen=True)
class Answer:
    response: Response
    verdict: Verdict


def asked(settings: Settings) -> tuple[str, int] | None:
    """(model, seed) whose answers the case figures show; None where the configuration has no model."""
    return next(((model, settings.seeds_of(model)[0]) for model in settings.models if settings.seeds_of(model)), None)


def _arm_files(settings: Settings, case: Case) -> dict[str, tuple[Path, Path]]:
    """(responses, verdicts) of those arms of a case that the configuration runs on its benchmark."""
    suite = next((name for name, ids in settings.evaluation.suites.items() if case.benchmark in ids), None)
    if suite is None or (who := asked(settings)) is None:
        return {}
    configured = settings.arms_of(who[0])
    return {
        arm: (layout.responses(settings, *who, arm, suite), layout.verdicts(settings, *who, arm, suite))
        for arm in case.arms
        if arm in configured
    }


def files(settings: Settings, number: str) -> list[Path]:
    """The responses and verdicts that a case figure is drawn from, without doubles."""
    cases = CASES[number].cases
    return list(dict.fromkeys(path for case in cases for pair in _arm_files(settings, case).values() for path in pair))


def read_answers(settings: Settings, case: Case) -> dict[str, dict[str, Answer]]:
    """The answers of a case's arms by arm and sample key; an arm that was not run is absent.

    Raises :class:`ReportError` for a verdict without its response, or a row that is no verdict.
    """
    answers: dict[str, dict[str, Answer]] = {}
    for arm, (where, path) in _arm_files(settings, case).items():
        if not path.exists():
            continue
        responses = {response.key: response for response in read_responses(where)}
        for line, row in enumerate(read_jsonl(path), start=1):
            try:
                verdict = Verdict(**{name: value for name, value in row.items() if name != "key"})
                response = responses[verdict.key]
            except (TypeError, KeyError) as error:
                raise ReportError(
                    f"{path}, line {line}: no verdict on a response of {where} ({error!r}); run `mis judge` again"
                ) from None
            if f"{verdict.benchmark}/{verdict.split}".rstrip("/") == case.benchmark:
                key = f"{verdict.benchmark}/{verdict.split}/{verdict.sample_id}"
                answers.setdefault(arm, {})[key] = Answer(response, verdict)
    return answers
