"""The oracle against labels that were given without seeing its verdicts (tests/audit/README.md)."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from mis import taxonomy
from mis.judges.oracle import OracleJudge
from mis.samples import Response, Sample
from mis.store import read_jsonl, write_jsonl_atomic

AUDIT = Path(__file__).parent / "audit"


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("truth")
    rows = read_jsonl(AUDIT / "mini.jsonl")
    shutil.copy(AUDIT / "world.json", folder)
    write_jsonl_atomic(folder / "audit.jsonl", [row["truth"] for row in rows])
    oracle = OracleJudge(folder)
    with open(AUDIT / "labels.csv", encoding="utf-8", newline="") as file:
        labels = {int(row["id"]): row for row in csv.DictReader(file)}
    cases = []
    for row in rows:
        benchmark, split, id = row["sample"].split("/", 2)
        sample = Sample(benchmark, split, id, row["question"])
        outcome, reason = oracle.verdict(sample, Response(benchmark, split, id, "m", row["arm"], 0, row["answer"]))
        cases.append({**row, "outcome": outcome, "reason": reason, **labels[row["id"]]})
    return cases


def agreement(cases: list[dict]) -> tuple[float, float]:
    """Share of equal labels, and Cohen's kappa."""
    observed = sum(case["outcome"] == case["label"] for case in cases) / len(cases)
    oracle, labeller = (Counter(case[key] for case in cases) for key in ("outcome", "label"))
    expected = sum(oracle[outcome] * labeller[outcome] for outcome in oracle) / len(cases) ** 2
    return observed, (observed - expected) / (1 - expected)


def test_the_audit_is_large_and_varied_enough(cases):
    assert len(cases) >= 200 and sum(case["hard"] for case in cases) >= 50
    assert len({case["arm"] for case in cases}) >= 10
    assert {case["outcome"] for case in cases} >= {*taxonomy.HAZARD_OUTCOMES, *taxonomy.BENIGN_OUTCOMES}
    assert all(case["labeller"] for case in cases)
    known = {"hazard": taxonomy.HAZARD_OUTCOMES, "benign": taxonomy.BENIGN_OUTCOMES}
    assert [case["id"] for case in cases if case["label"] not in known[case["truth"]["task"]]] == []


def test_the_oracle_agrees_with_the_labels(cases, record_property):
    observed, kappa = agreement(cases)
    record_property("agreement", json.dumps({"observed": observed, "kappa": kappa, "n": len(cases)}))
    assert observed >= 0.9 and kappa >= 0.85


def test_the_oracle_agrees_on_hard_answers(cases):
    observed, _ = agreement([case for case in cases if case["hard"]])
    assert observed >= 0.8
