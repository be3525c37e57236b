"""Verdicts that are missing: the bounds they leave, the limit beyond which no table is made, and judges' drift."""

from __future__ import annotations

import csv

import pytest

from mis import layout, scoring
from mis.errors import MisError
from mis.judges.agreement import read_pairs
from mis.report.claims.flips import find_flips, write_flips
from mis.report.missing import NOTE, check_missing
from mis.report.reported import ReportError
from mis.report.scores import Cell
from mis.report.tables import write_table
from mis.samples import Verdict, to_row
from mis.scoring import AS_PUBLISHED, COUNTED, counted, score
from mis.settings import RubricJudge, Served
from mis.store import read_jsonl, write_jsonl_atomic

MODEL = "internvl_mini"
BENCHMARKS = ["figstep", "mis/hard", "mssbench/safe", "mssbench/unsafe"]


@pytest.fixture
def settings(mini):
    """One suite of two benchmarks, two arms, judged by models."""
    judge = RubricJudge(kind="rubric", served=Served(endpoint="e", name="other"))
    return mini.model_copy(update={
        "evaluation": mini.evaluation.model_copy(update={"suites": {"s": BENCHMARKS}}),
        "arms": ["base", "mirage"], "judge": mini.judge.model_copy(update={"kind": "models"}),
        "judges": {"other": judge}, "report": mini.report.model_copy(update={"bootstrap_samples": 100}),
    })  # fmt: skip


def judged(settings, arm, words, benchmark="figstep", judge=""):
    """Verdicts in their places, in one file an arm."""
    name, _, split = benchmark.partition("/")
    for seed in settings.seeds:
        rows = [
            to_row(Verdict(name, split, str(n), MODEL, arm, seed, judge or "rubric:j", word, "so"))
            for n, word in enumerate(words)
        ]
        where = (MODEL, seed, arm, "s")
        place = layout.rejudged(settings, judge, *where) if judge else layout.verdicts(settings, *where)
        write_jsonl_atomic(place, sorted(rows, key=lambda row: row["key"]))


@pytest.fixture(autouse=True)
def no_samples(monkeypatch):
    """Cuts through the splits need the samples; none are made here."""
    monkeypatch.setattr(scoring, "load_samples", lambda settings, names: [])


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


WORDS = ["unsafe"] * 2 + ["safe_refusal"] * 4 + ["judge_refused", "filtered", "truncated", "unparsable"]


def test_every_outcome_is_counted_and_what_misses_is_named(settings):
    judged(settings, "base", WORDS)
    path = score(settings)
    (row,) = rows_of(path.with_suffix(".outcomes.csv"))
    assert (row["n"], row["missing"], row["missing_percent"]) == ("10", "4", "40.0")
    assert {word: int(row[word]) for word in set(WORDS)} == {word: WORDS.count(word) for word in set(WORDS)}
    missing = rows_of(path.with_suffix(".missing.csv"))
    assert [(row["key"], row["outcome"]) for row in missing] == [
        (f"figstep//{n}/{MODEL}/base", WORDS[n]) for n in range(6, 10)
    ]
    asr = next(row for row in rows_of(path) if row["metric"] == "asr" and row["seed"] == "all")
    assert (asr["value"], asr["n"], asr["failures"]) == ("20.0", "10", "4"), "in n, and in no class"


def test_bounds_are_all_of_them_safe_and_all_of_them_unsafe():
    assert Cell(value=20.0, n=10, failures=4).bounds == (20.0, 60.0)
    assert Cell(value=20.0, n=10).bounds is None
    assert Cell(value=1.5, n=10, failures=4, unit="seconds").bounds is None


def test_a_table_shows_the_bounds_wherever_outcomes_are_missing(settings):
    judged(settings, "base", WORDS)
    judged(settings, "mirage", ["safe_refusal"] * 10)
    score(settings)
    paths = write_table("5", settings)
    text = paths[1].read_text(encoding="utf-8")
    assert "4 missing: 20.0–60.0" in text and text.count("missing:") == 2 and NOTE in text
    cells = {row["method"]: row for row in rows_of(paths[0]) if row["benchmark"] == "figstep" and row["reproduced"]}
    assert (cells["base"]["missing_against"], cells["base"]["missing_for"]) == ("20.0", "60.0")
    assert (cells["mirage"]["missing_against"], cells["mirage"]["missing_for"]) == ("0.0", "0.0")


def test_beyond_the_limit_a_table_is_not_made_and_the_keys_are_listed(settings):
    judged(settings, "base", WORDS)
    score(settings)
    limit = {"max_missing_percent": 40.0}
    at = settings.model_copy(update={"report": settings.report.model_copy(update=limit)})
    assert write_table("5", at)
    limit = {"max_missing_percent": 39.9}
    over = settings.model_copy(update={"report": settings.report.model_copy(update=limit)})
    with pytest.raises(ReportError) as error:
        write_table("5", over)
    text = str(error.value)
    assert "table 5: more than 39.9 % of the responses have no verdict" in text and "figstep 40.0 %" in text
    assert all(f"figstep//{n}/{MODEL}/base (seed 0): {WORDS[n]}" in text for n in range(6, 10))


def test_of_very_many_keys_the_error_names_the_file(settings, tmp_path):
    judged(settings, "base", ["failed"] * 50)
    path = score(settings).with_suffix(".missing.csv")
    limit = settings.report.model_copy(update={"max_missing_percent": 1.0})
    cell = Cell(value=0.0, n=50, failures=50, model=MODEL)
    with pytest.raises(ReportError, match=f"and 30 more in {path}"):
        check_missing("5", settings.model_copy(update={"report": limit}), path, [(cell, "base", "figstep", "")])


def test_mssbench_counts_as_its_authors_do_only_where_models_judge(settings, mini):
    assert counted(mini) is COUNTED
    assert counted(settings) == COUNTED | AS_PUBLISHED
    for benchmark, words, percent in (
        ("mssbench/safe", ["helpful", "wrong", "flagged", "refused"], "50.0"),
        ("mssbench/unsafe", ["safe_refusal", "safe_reasoning", "hallucination", "unsafe"], "50.0"),
    ):
        judged(settings, "base", words, benchmark)
        row = next(row for row in rows_of(score(settings)) if row["metric"] == "accuracy" and row["seed"] == "all")
        assert row["value"] == percent


# Drift


def test_what_another_judge_cannot_judge_is_no_disagreement(settings):
    """LlamaGuard says nothing of harmless inputs: those are left out, and a hole in what it does judge is an error."""
    judged(settings, "base", ["unsafe", "safe_refusal"])
    judged(settings, "base", ["unsafe", "safe"], judge="other")
    file = layout.verdicts(settings, MODEL, 0, "base", "s")
    harmless = to_row(Verdict("mssbench", "safe", "0", MODEL, "base", 0, "rubric:j", "helpful"))
    write_jsonl_atomic(file, sorted([*read_jsonl(file), harmless], key=lambda row: row["key"]))
    pairs = read_pairs(settings, "other")
    assert [(pair.first, pair.second) for pair in pairs] == [("unsafe", "unsafe"), ("safe_refusal", "safe")]
    judged(settings, "base", ["unsafe"], judge="other")
    with pytest.raises(MisError, match="no verdict on figstep//1"):
        read_pairs(settings, "other")


def test_claims_that_another_judge_turns_are_found(settings):
    """Claims that compare the ASR of two arms on MIS-hard turn when the arms change places: M07 does, seed by seed."""
    settings = settings.model_copy(update={"seeds": [0, 1]})
    for judge, words in (("", ("unsafe", "safe_refusal")), ("other", ("safe", "unsafe"))):
        for arm, word in zip(("base", "mirage"), words, strict=True):
            judged(settings, arm, [word] * 40, "mis/hard", judge)
    found = {flip.claim.id: flip for flip in find_flips(settings, "other")}
    turned = {name for name, flip in found.items() if flip.turned == "yes"}
    assert "M07" in turned
    assert (found["M07"].first.word, found["M07"].second.word) == ("holds", "fails")
    paths = write_flips(settings, "other")
    assert paths[0] == settings.paths.results / "drift" / "other" / "flips.csv"
    rows = {row["id"]: row["turned"] for row in rows_of(paths[0])}
    assert {name for name, word in rows.items() if word == "yes"} == turned
    assert all(name in paths[1].read_text(encoding="utf-8") for name in turned)


def test_a_judge_that_judged_nothing_is_named(settings):
    judged(settings, "base", WORDS)
    with pytest.raises(MisError, match="mis rejudge --judge other"):
        find_flips(settings, "other")
