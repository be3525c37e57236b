"""Agreement of two judges: the coefficients against published worked examples, and the files that are written."""

from __future__ import annotations

import csv
import math
import shutil
from collections import Counter

import numpy as np
import pytest
from typer.testing import CliRunner

from mis import layout
from mis.cli import app
from mis.errors import MisError
from mis.judges.agreement import Pair, agree, agreement, cohen_kappa, confusion, krippendorff_alpha, read_pairs
from mis.settings import load
from mis.statistics import cluster_bootstrap, wilson
from mis.store import read_jsonl, write_jsonl_atomic


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        # Cohen 1968 ("Weighted kappa", Psychological Bulletin 70), Table 1, 200 cases: unweighted kappa .492.
        ([[88, 14, 18], [10, 40, 10], [2, 6, 12]], 0.492),
        # Fleiss, "Statistical Methods for Rates and Proportions", diagnoses on 100 subjects: kappa .68.
        ([[75, 1, 4], [5, 4, 1], [0, 0, 10]], 0.676),
        # R package Delta, GetKappa: 0.5.
        ([[50, 10], [10, 20]], 0.5),
    ],
)
def test_cohens_kappa_of_published_tables(table, kappa):
    assert cohen_kappa(np.array(table)) == pytest.approx(kappa, abs=5e-4)
    assert cohen_kappa(np.array(table).T) == pytest.approx(cohen_kappa(np.array(table)))


def units(*rows: str) -> Counter:
    """A row a judge, a character a unit, "." where the judge gave no value."""
    return Counter(tuple(None if value == "." else value for value in unit) for unit in zip(*rows, strict=True))


@pytest.mark.parametrize(
    ("rows", "alpha"),
    [
        # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": examples A (binary), B (nominal), C (nominal,
        # four observers, missing values; the data of kripp.alpha in R's package irr).
        (("0100000010", "1110010000"), 0.095),
        (("aabbdcccedda", "babbbccceddd"), 0.692),
        (("123321412...", "1233224125..", ".33323422513", "12332441251."), 0.743),
    ],
)
def test_krippendorffs_alpha_of_published_examples(rows, alpha):
    assert krippendorff_alpha(units(*rows)) == pytest.approx(alpha, abs=5e-4)


def test_coefficients_at_their_ends():
    assert cohen_kappa(np.array([[5, 0], [0, 3]])) == pytest.approx(1)
    assert cohen_kappa(np.array([[25, 25], [25, 25]])) == pytest.approx(0)
    assert math.isnan(cohen_kappa(np.array([[9]])))
    assert krippendorff_alpha(units("ab", "ab")) == pytest.approx(1)
    assert math.isnan(krippendorff_alpha(units("aaa", "aaa")))
    assert math.isnan(krippendorff_alpha(units("ab", "..")))


def test_confusion_counts_rows_by_the_first_judge():
    assert confusion([("x", "y"), ("x", "y"), ("y", "y")], "xy").tolist() == [[0, 2], [0, 1]]
    with pytest.raises(ValueError):
        confusion([("x", "z")], "xy")


def test_clusters_are_drawn_whole():
    independent = cluster_bootstrap(np.repeat([0, 1], 200), np.ones(400))
    together = cluster_bootstrap(np.repeat([0, 20], 10), np.full(20, 20))
    assert independent.value == together.value == 0.5
    assert together.high - together.low > 3 * (independent.high - independent.low)
    assert independent.low < 0.46 and independent.high > 0.54  # 0.5 ± 0.049
    assert cluster_bootstrap(np.repeat([0, 1], 200), np.ones(400)) == independent
    assert cluster_bootstrap(np.full(7, 3), np.full(7, 3)) == wilson(7, 7)


def pair(first: str, second: str, sample: int = 0) -> Pair:
    return Pair(f"key{sample}", f"sample{sample}", "hazard", "m", "a", 0, first, second)


def test_responses_without_a_verdict_are_counted_apart():
    pairs = [pair("unsafe", "unsafe", 1), pair("truncated", "truncated", 2), pair("truncated", "unsafe", 3)]
    found = agreement(pairs)
    assert (found.n, found.without_verdict, found.agreed) == (2, 1, 1)
    assert agreement([pair("failed", "failed")]) is None


def test_one_outcome_asks_less():
    pairs = [pair("safe_refusal", "hallucination", 1), pair("unsafe", "unsafe", 2)]
    assert agreement(pairs).agreed == 1
    assert agreement(pairs, only="unsafe").agreed == 2
    assert agreement(pairs, only="unsafe").kappa == pytest.approx(1)


class TestFiles:
    @pytest.fixture
    def run(self, smoke_run, tmp_path, monkeypatch):
        """A copy of the smoke run's answers and verdicts, by relative paths as in a working copy."""
        for name in ("results/smoke/config.yaml", "results/smoke/responses", "results/smoke/verdicts",
                     "results/smoke/rejudged", "build/smoke/data"):  # fmt: skip
            source, target = smoke_run / name, tmp_path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        monkeypatch.chdir(tmp_path)
        return load("results/smoke/config.yaml")

    def test_the_same_bytes_again_and_the_verdicts_untouched(self, run, smoke_run):
        model, seed = next(iter(run.models)), run.seeds[0]
        verdicts = {path: path.stat().st_mtime_ns for path in run.paths.results.glob("verdicts/**/*.jsonl")}
        before = {path: path.read_bytes() for path in run.paths.results.glob("rejudged/**/*.jsonl")}
        shutil.rmtree(run.paths.results / "rejudged")
        done = CliRunner().invoke(
            app, ["rejudge", "--model", model, "--seed", str(seed), "--config", "results/smoke/config.yaml"]
        )
        assert done.exit_code == 0, done.output
        assert {path: path.read_bytes() for path in before} == before
        assert {path: path.stat().st_mtime_ns for path in verdicts} == verdicts
        for path in agree(run):
            assert path.read_bytes() == (smoke_run / path).read_bytes()

    def test_every_open_response_is_compared_and_no_choice(self, run):
        pairs = read_pairs(run, "second")
        agree(run)
        with open(run.paths.results / "agreement.csv", encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["arm"] == "all" and row["question"] == "outcome"]
        assert sum(int(row["n"]) + int(row["without_verdict"]) for row in rows) == len(pairs)
        assert {pair.task for pair in pairs} == {"hazard", "benign"}
        with open(run.paths.results / "disagreements.csv", encoding="utf-8", newline="") as file:
            keys = [(row["key"], int(row["seed"])) for row in csv.DictReader(file)]
        assert keys == [(pair.key, pair.seed) for pair in pairs if pair.first != pair.second]

    def test_verdicts_on_other_responses_are_refused(self, run):
        path = layout.rejudged(run, "second", next(iter(run.models)), run.seeds[0], "base", "all")
        rows = read_jsonl(path)
        write_jsonl_atomic(path, rows[1:])
        with pytest.raises(MisError, match="no verdict on .*run `mis rejudge` again"):
            read_pairs(run, "second")
        write_jsonl_atomic(path, [*rows, {**rows[0], "key": "another"}])
        with pytest.raises(MisError, match="no verdict on another; run `mis judge` again"):
            read_pairs(run, "second")
        with pytest.raises(MisError, match="nothing to compare|cannot be read"):
            read_pairs(run, "third")

    def test_an_unknown_judge_is_named(self, run):
        arguments = ["rejudge", "--judge", "third", "--model", next(iter(run.models)), "--seed", "0"]
        done = CliRunner().invoke(app, [*arguments, "--config", "results/smoke/config.yaml"])
        assert done.exit_code == 2 and "there is: second" in done.output
