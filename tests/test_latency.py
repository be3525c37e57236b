"""Times of single answers: what the clock covers, what is counted, and where the numbers go. No test waits."""

import csv
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from mis import latency, layout
from mis.errors import MisError
from mis.models import Answer
from mis.report.compare import compare_scores
from mis.report.tables import build_table
from mis.samples import Sample
from mis.scoring import COLUMNS, latencies
from mis.settings import load

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Fake:
    """Says as many tokens as the sample's id; notes what it was asked together."""

    asked: list = field(default_factory=list)

    def answer(self, samples):
        self.asked.append([sample.id for sample in samples])
        return [Answer("words", tokens=int(sample.id)) for sample in samples]


@pytest.fixture
def settings(tmp_path):
    mini = load(ROOT / "config" / "mini.yaml")
    paths = mini.paths.model_copy(update={"results": tmp_path, "data": tmp_path, "build": tmp_path})
    plan = mini.evaluation.latency.model_copy(update={"samples": 3, "warm_up": 2, "arms": ["base", "vlguard_m"]})
    return mini.model_copy(
        update={"paths": paths, "evaluation": mini.evaluation.model_copy(update={"latency": plan}), "seeds": [0, 1]}
    )


def samples(name, number=6):
    benchmark, _, split = name.partition("/")
    return [Sample(benchmark, split, str(n), "how ?") for n in range(1, number + 1)]


def test_questions_are_asked_one_at_a_time_and_the_warm_up_is_outside_the_clock():
    model, ticks = Fake(), []

    def clock():
        ticks.append(len(model.asked))
        return len(ticks) ** 2

    rows = latency.timed(model, samples("mmstar", 3), 2, clock=clock)
    assert model.asked == [["1"], ["2"], ["1"], ["2"], ["3"]]
    assert ticks == [2, 3, 3, 4, 4, 5]
    assert [(row["sample_id"], row["seconds"], row["tokens"]) for row in rows] == [
        ("1", 3, 1),
        ("2", 7, 2),
        ("3", 11, 3),
    ]


def test_every_benchmark_of_table_10_is_timed_for_the_arms_that_the_model_has(settings, monkeypatch):
    monkeypatch.setattr(latency, "load_samples", lambda settings, names: samples(names[0]))
    loaded = []
    path = latency.measure_latency(settings, "internvl_mini", 0, lambda arm: loaded.append(arm) or Fake())
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert loaded == ["base"]  # vlguard_m is no arm of this model
    assert {(row["benchmark"], row["split"]) for row in rows} == {("mmstar", ""), ("mis", "hard"), ("mssbench", "safe")}
    assert [row["sample_id"] for row in rows[:3]] == ["1", "3", "5"]  # spread over the file
    none = settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update={"latency": None})})
    with pytest.raises(MisError, match="evaluation.latency"):
        latency.measure_latency(none, "internvl_mini", 0, lambda arm: Fake())


def write_times(settings, seed, seconds, tokens=10, benchmark="mis,hard", reason="stop"):
    path = layout.latency(settings, "internvl_mini", seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a") as file:
        if new:
            file.write(",".join(latency.COLUMNS) + "\n")
        file.writelines(f"base,{benchmark},{n},{s},{tokens},{reason}\n" for n, s in enumerate(seconds))


def test_scores_hold_mean_seconds_and_tokens_per_second_by_seed_and_pooled(settings):
    assert latencies(settings) == []
    write_times(settings, 0, [0.1, 0.2, 0.3])
    write_times(settings, 1, [0.3, 0.4, 0.5])
    rows = {(row["metric"], row["seed"]): row for row in latencies(settings)}
    assert {key: row["value"] for key, row in rows.items() if key[0] == "latency_s"} == {
        ("latency_s", 0): 0.2, ("latency_s", 1): 0.4, ("latency_s", "all"): pytest.approx(0.3),
    }  # fmt: skip
    speed = rows["tokens_per_s", 0]
    assert speed["value"] == pytest.approx((100 + 50 + 100 / 3) / 3, abs=1e-4)
    assert (speed["unit"], speed["direction"], speed["n"]) == ("tokens_per_second", "higher", 3)
    assert rows["latency_s", "all"]["n"] == 6 and rows["latency_s", "all"]["unit"] == "seconds"
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows.values())
    assert rows["latency_s", "all"]["high"] > rows["latency_s", 0]["high"]
    assert set(speed) <= set(COLUMNS)


def test_failures_are_counted_and_unknown_tokens_give_no_speed(settings):
    write_times(settings, 0, [0.1, 0.3], tokens=0)
    write_times(settings, 0, [9.0], benchmark="mmstar,", reason="failed")
    rows = latencies(settings)
    assert {row["metric"] for row in rows} == {"latency_s"} and {row["benchmark"] for row in rows} == {"mis"}
    write_times(settings, 1, [0.1, 0.3])
    write_times(settings, 1, [9.0, 9.0, 9.0], reason="failed")
    (pooled,) = [row for row in latencies(settings) if row["seed"] == "all" and row["metric"] == "latency_s"]
    assert (pooled["value"], pooled["failures"]) == (pytest.approx(0.2), 3)


def write_scores(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def test_table_10_shows_the_runs_times_beside_the_papers_and_the_comparison_leaves_them_out(settings, tmp_path):
    for seed, step in zip((0, 1), count(1)):
        write_times(settings, seed, [0.01 * step, 0.02 * step])
    rows = latencies(settings)
    write_scores(layout.scores(settings), rows)
    table = build_table("10", settings, ROOT)
    record = next(r for r in table.records if (r["run_model"], r["metric"]) == ("internvl_mini", "latency_s"))
    assert (record["reported"], record["method"], float(record["reproduced"])) == ("6.2", "base", 0.0225)
    shown = [cell.value for panel in table.panels for line in panel.lines for cell in line.cells]
    assert "0.022" in shown or "0.023" in shown
    reference = tmp_path / "reference.csv"
    write_scores(reference, [row | {"value": 5} for row in rows])
    compared = compare_scores(layout.scores(settings), reference, "mini")
    assert not (compared.same_seed or compared.pooled or compared.missing or compared.new)
