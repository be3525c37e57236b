"""How well the oracle agrees with labels that were given without seeing its verdicts (`tests/audit/README.md`)."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mis.judges.agreement import cohen_kappa, confusion
from mis.judges.oracle import OracleJudge
from mis.report.reported import read_csv
from mis.samples import Response, Sample
from mis.store import read_jsonl, write_jsonl_atomic
from mis.taxonomy import BENIGN_OUTCOMES, FAILURES, HAZARD_OUTCOMES


@dataclass(frozen=True)
class Audit:
    """Labelled answers and on how many of them oracle and label agree; `kappa` is Cohen's, over all of them."""

    answers: int
    equal: int
    hard: int
    hard_equal: int
    kappa: float


def audit(folder: Path) -> Audit:
    """Judge the answers of `mini.jsonl` with the present oracle and compare with `labels.csv`, both in `folder`."""
    rows = read_jsonl(folder / "mini.jsonl")
    labels = {row["id"]: row["label"] for row in read_csv(folder / "labels.csv", ("id", "label"))}
    with tempfile.TemporaryDirectory() as truth:
        shutil.copy(folder / "world.json", truth)
        write_jsonl_atomic(Path(truth) / "audit.jsonl", [row["truth"] for row in rows])
        oracle = OracleJudge(Path(truth))
    pairs = []
    for row in rows:
        benchmark, split, id = row["sample"].split("/", 2)
        answer = Response(benchmark, split, id, "", row["arm"], 0, row["answer"])
        outcome, _ = oracle.verdict(Sample(benchmark, split, id, row["question"]), answer)
        pairs.append((outcome, labels[str(row["id"])]))
    hard = [pair for pair, row in zip(pairs, rows, strict=True) if row["hard"]]
    return Audit(
        answers=len(pairs),
        equal=sum(outcome == label for outcome, label in pairs),
        hard=len(hard),
        hard_equal=sum(outcome == label for outcome, label in hard),
        kappa=cohen_kappa(confusion(pairs, (*HAZARD_OUTCOMES, *BENIGN_OUTCOMES, *FAILURES))),
    )
