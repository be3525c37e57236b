"""lmms-eval's results file becomes our scores; what is not one is refused in words."""

from __future__ import annotations

import csv
import json
import stat
import sys
from pathlib import Path

import pytest

from mis import layout, lmms_eval, scoring
from mis.lmms_eval import TASKS, ResultsError, read_results
from mis.settings import Endpoint, LmmsEval

# The layout of lmms-eval 0.7.3 (evaluator.py, loggers/evaluation_tracker.py), metrics as its tasks name them.
METRICS = {
    "qbench_dev": ("qbench_acc,none", 0.75), "mmstar": ("average,none", 0.5), "mmmu_val": ("mmmu_acc,none", 0.25),
    "muirbench": ("muirbench_score_overall,flexible-extract", 0.625), "mmt_mi_val": ("accuracy,none", 37.5),
}  # fmt: skip
N = 8


def results(**changes) -> dict:
    raw = {
        "results": {task: {"alias": task, metric: value, metric.replace(",", "_stderr,"): "N/A"}
                    for task, (metric, value) in METRICS.items()},
        "group_subtasks": {task: [] for task in METRICS},
        "configs": {task: {"task": task} for task in METRICS},
        "versions": dict.fromkeys(METRICS, 0.0),
        "n-shot": dict.fromkeys(METRICS, 0),
        "higher_is_better": {task: {metric.split(",")[0]: True} for task, (metric, _) in METRICS.items()},
        "n-samples": {task: {"original": N, "effective": N} for task in METRICS},
        "config": {"model": "openai", "model_args": "model_version=m", "limit": None},
        "git_hash": None, "lmms_eval_version": "unknown@unknown", "date": "20261124_120000",
        "task_hashes": {task: f"{number:064x}" for number, task in enumerate(METRICS, start=10)},
        "model_source": "openai", "model_name": "m", "total_evaluation_time_seconds": "1.5",
    }  # fmt: skip
    return raw | changes


def write(folder: Path, raw: dict, failed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(raw), encoding="utf-8")
    for task in METRICS:
        rows = [{"doc_id": n, "doc_hash": "0", "target": "A", "filtered_resps": "A"} for n in range(N)]
        for row in rows[:failed]:
            row["filtered_resps"] = "[LMMS_EVAL_REQUEST_FAILED after 5 retries] Connection error."
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"samples_{task}.jsonl").write_text(text, encoding="utf-8")
    return folder / "results.json"


def test_a_results_file_is_read(tmp_path):
    found = {result.benchmark: result for result in read_results(write(tmp_path, results()), list(TASKS))}
    assert {name: result.percent for name, result in found.items()} == {
        "q_bench": 75.0, "mmstar": 50.0, "mmmu": 25.0, "muirbench": 62.5, "mmt_bench": 37.5,
    }  # fmt: skip
    assert all((result.n, result.failed) == (N, 0) for result in found.values())
    note = found["q_bench"].note
    assert "qbench_dev (version 0.0, samples 0000000000000000)" in note and "test split of 1,495" in note


def test_what_it_did_not_get_an_answer_to_is_counted(tmp_path):
    """lmms-eval judges its own message of failure like an answer."""
    assert [result.failed for result in read_results(write(tmp_path, results(), failed=3), ["mmmu"])] == [3]


def changed(*keys, to):
    raw = results()
    place = raw
    for key in keys[:-1]:
        place = place[key]
    if to is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = to
    return raw


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ([], "expected an object at the top"),
        (changed("results", to=None), "no results"),
        (changed("results", "muirbench", to=None), "no results / muirbench; there is qbench_dev"),
        (changed("results", "muirbench", METRICS["muirbench"][0], to=None), "no results / muirbench / muirbench_score"),
        (changed("results", "muirbench", METRICS["muirbench"][0], to="N/A"), "is 'N/A'"),
        (changed("results", "muirbench", METRICS["muirbench"][0], to=62.5), "is no rate: 6250 %"),
        (changed("n-samples", "muirbench", to={"effective": 8}), "no n-samples / muirbench / original"),
        (changed("n-samples", "muirbench", to={"effective": 9, "original": 8}), "n-samples / muirbench is"),
        (changed("n-samples", "muirbench", to={"effective": 7, "original": 8}), "8 samples, and the results say 7"),
        (changed("task_hashes", to={}), "--log_samples"),
        (results(usage={"budget_exceeded": True}), "the results are a part"),
    ],
)
def test_what_is_no_results_file_is_refused_in_words(tmp_path, raw, says):
    path = write(tmp_path, raw)
    with pytest.raises(ResultsError) as error:
        read_results(path, ["muirbench"])
    assert str(tmp_path) in str(error.value) and says in str(error.value)


def test_a_file_that_is_cut_short_or_absent(tmp_path):
    with pytest.raises(ResultsError, match="run `mis general`"):
        read_results(tmp_path / "results.json", ["mmmu"])
    path = write(tmp_path, results())
    path.write_text(path.read_text()[:-5])
    with pytest.raises(ResultsError, match="not JSON"):
        read_results(path, ["mmmu"])


@pytest.fixture
def settings(mini):
    plan = LmmsEval(benchmarks=list(TASKS))
    evaluation = mini.evaluation.model_copy(update={"lmms_eval": plan})
    return mini.model_copy(update={"evaluation": evaluation, "seeds": [0, 1]})


def test_scores_have_its_rates_with_intervals_notes_and_the_mean(settings):
    for seed in (0, 1):
        folder = layout.general(settings, "internvl_mini", seed, "mirage")
        write(folder, changed("results", "mmmu_val", "mmmu_acc,none", to=0.25 + 0.5 * seed), failed=seed)
    rows = scoring.general_benchmarks(settings)
    by_cell = {(row["benchmark"], row["seed"]): row for row in rows}
    assert len(rows) == 6 * 3 and {row["method"] for row in rows} == {"mirage"}
    one = by_cell["mmmu", 0]
    assert (one["value"], one["n"], one["failures"]) == (25.0, N, 0)
    assert one["low"] < 25 < one["high"] and one["metric"] == "exact_match" and "mmmu_val" in one["note"]
    assert by_cell["mmmu", "all"]["value"] == 50.0 and by_cell["mmmu", "all"]["n"] == 2 * N
    assert by_cell["mmmu", "all"]["failures"] == 1 and by_cell["average", "all"]["failures"] == 5
    assert by_cell["average", 0]["value"] == pytest.approx(50.0)
    assert by_cell["average", "all"]["value"] == pytest.approx(55.0)


FAKE = """#!{python}
# What lmms-eval does with its command line and its files; it asks the endpoint nothing.
import json, os, pathlib, sys
sys.path.insert(0, {tests!r})
import tests.test_lmms_eval as t
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert os.environ["OPENAI_API_KEY"] == "none", "the key goes by the environment"
folder = pathlib.Path(words["--output_path"]) / "m"
t.write(folder, t.results())
(folder / "results.json").rename(folder / "20261124_120000_results.json")
for task in t.METRICS:
    (folder / f"samples_{{task}}.jsonl").rename(folder / f"20261124_120000_samples_{{task}}.jsonl")
(pathlib.Path({log!r})).write_text(json.dumps(sys.argv[1:]))
"""


def test_it_is_run_over_http_with_the_key_in_the_environment(tmp_path, monkeypatch, root):
    program, log = tmp_path / "python", tmp_path / "words.json"
    program.write_text(FAKE.format(python=sys.executable, tests=str(root), log=str(log)), encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(lmms_eval.metadata, "version", lambda name: "0.7.3")
    monkeypatch.setenv("PYTHONPATH", f"{root / 'src'}:{root}")
    monkeypatch.setattr(lmms_eval, "command", _words_of(lmms_eval.command))
    endpoint = Endpoint(url="http://127.0.0.1:9/v1")
    found = lmms_eval.run(LmmsEval(benchmarks=list(TASKS), limit=8), endpoint, "m", tmp_path / "out")
    assert [result.percent for result in found] == [75.0, 50.0, 25.0, 62.5, 37.5]
    assert found[0].note.startswith("lmms-eval 0.7.3, qbench_dev")
    words = json.loads(log.read_text())
    arguments = words[words.index("--model_args") + 1]
    assert "base_url=http://127.0.0.1:9/v1" in arguments and "model_version=m" in arguments and "key" not in arguments
    assert words[words.index("--tasks") + 1] == "qbench_dev,mmstar,mmmu_val,muirbench,mmt_mi_val"
    assert "--log_samples" in words and words[words.index("--limit") + 1] == "8"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["results.json", *(f"samples_{task.name}.jsonl" for task in TASKS.values())]
    )
    assert not list(tmp_path.glob(".out*")), "nothing is left beside the results"


def _words_of(command):
    """Without `-m lmms_eval`, which the stand-in does not need: its words then come in pairs."""

    def words(*arguments):
        first, _, _, *rest = command(*arguments)
        rest.remove("--log_samples")
        return [first, *rest, "--log_samples"]

    return words


def test_without_lmms_eval_the_environment_is_named(tmp_path):
    with pytest.raises(ResultsError, match="workflow/envs/lmms_eval.yaml"):
        lmms_eval.run(LmmsEval(benchmarks=["mmmu"]), Endpoint(url="http://127.0.0.1:9/v1"), "m", tmp_path / "out")


def test_its_rows_go_into_scores_csv(settings, tmp_path):
    write(layout.general(settings, "internvl_mini", 0, "base"), results())
    path = tmp_path / "rows.csv"
    scoring.write_csv_atomic(path, scoring.general_benchmarks(settings), scoring.COLUMNS)
    with path.open(newline="") as file:
        assert {row["benchmark"] for row in csv.DictReader(file)} == {*TASKS, "average"}
