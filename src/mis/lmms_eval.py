"""The general benchmarks by lmms-eval, an evaluation framework in an environment of its own, over HTTP.

It asks the server that serves the model and writes a results file; what is read from it are our scores, with its
version and the hash of each task's samples. Layout and names are those of lmms-eval 0.7.3
(github EvolvingLMMs-Lab/lmms-eval, `loggers/evaluation_tracker.py`, `tasks/*`): a folder of the model's name with
`<date>_results.json` and, a task, `<date>_samples_<task>.jsonl`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mis.errors import MisError
from mis.settings import Endpoint, LmmsEval
from mis.store import full_disk_explained, read_jsonl, write_text_atomic

FAILED_MARK = "[LMMS_EVAL_REQUEST_FAILED"  # it puts this in the place of an answer that never came, and judges it
NO_KEY = "none"  # the official client wants one, also for a server that asks for none


@dataclass(frozen=True)
class Task:
    """One of its tasks. `metric` is the key in its results, filter included; `scale` turns the value into percent.

    `differs` says how its questions or its rate differ from the paper's.
    """

    name: str
    metric: str
    scale: float = 100.0
    differs: str = ""


TASKS: dict[str, Task] = {
    "q_bench": Task(
        "qbench_dev", "qbench_acc,none", differs="split dev; the paper's is LLVisionQA's test split of 1,495"
    ),
    "mmstar": Task("mmstar", "average,none", differs="mean of the rates of MMStar's 18 finer categories"),
    "mmmu": Task("mmmu_val", "mmmu_acc,none"),
    "muirbench": Task("muirbench", "muirbench_score_overall,flexible-extract"),
    "mmt_bench": Task("mmt_mi_val", "accuracy,none", scale=1.0),
}


class ResultsError(MisError):
    """A results file that cannot be read as one. The text names it and the remedy."""


@dataclass(frozen=True)
class Result:
    """What one task says: percent of `n` samples; `failed` of them were never answered, and were judged all the same.

    `note` names version, task, its version and the hash of its samples, and what differs from the paper.
    """

    benchmark: str
    percent: float
    n: int
    failed: int
    note: str


def run(config: LmmsEval, endpoint: Endpoint, name: str, out: Path) -> list[Result]:
    """Asks the model `name` at `endpoint` and writes `results.json` and `samples_<task>.jsonl` to the folder `out`.

    A folder beside `out` keeps the answers of a run that was stopped; it is removed at the end, because lmms-eval
    would keep failed requests in it as answers. Raises :class:`ResultsError` if lmms-eval is not there, fails, or
    leaves something else than its results.
    """
    try:
        version = metadata.version("lmms-eval")
    except metadata.PackageNotFoundError:
        raise ResultsError(
            f"{out}: lmms-eval is not in this environment; use workflow/envs/lmms_eval.yaml (snakemake --use-conda)"
        ) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    cache = out.parent / f".{out.name}.cache"
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder, full_disk_explained(out.parent):
        words = command(config, endpoint, name, Path(folder), cache)
        done = subprocess.run(words, env=_environment(config, endpoint), check=False)
        if done.returncode:
            raise ResultsError(f"{out}: lmms-eval ended with {done.returncode}; its output above says why")
        files = sorted(Path(folder).rglob("*_results.json"))
        if len(files) != 1:
            raise ResultsError(f"{out}: lmms-eval left {len(files)} results files where one was expected")
        date = files[0].name.removesuffix("_results.json")
        out.mkdir(parents=True, exist_ok=True)
        for benchmark in config.benchmarks:
            task = TASKS[benchmark].name
            shutil.move(files[0].with_name(f"{date}_samples_{task}.jsonl"), out / f"samples_{task}.jsonl")
        text = json.loads(files[0].read_text(encoding="utf-8")) | {"installed_version": version}
        write_text_atomic(out / "results.json", json.dumps(text, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(cache, ignore_errors=True)
    return read_results(out / "results.json", config.benchmarks)


def command(config: LmmsEval, endpoint: Endpoint, name: str, folder: Path, cache: Path) -> list[str]:
    """The command line. Keys are no part of it: they are in the environment."""
    arguments = {
        "model_version": name, "base_url": endpoint.url, "timeout": int(endpoint.timeout_s),
        "max_retries": endpoint.attempts, "num_concurrent": config.concurrency,
    }  # fmt: skip
    if any("," in str(value) or "=" in str(value) for value in arguments.values()):
        raise ResultsError(f"{name} at {endpoint.url}: lmms-eval takes no name or address with a comma or an =")
    return [
        sys.executable, "-m", "lmms_eval", "--model", "openai",
        "--model_args", ",".join(f"{key}={value}" for key, value in arguments.items()),
        "--tasks", ",".join(TASKS[benchmark].name for benchmark in config.benchmarks), "--batch_size", "1",
        "--log_samples", "--output_path", str(folder), "--use_cache", str(cache), "--seed", "0",
        *(["--limit", str(config.limit)] if config.limit else []),
    ]  # fmt: skip


def _environment(config: LmmsEval, endpoint: Endpoint) -> dict[str, str]:
    """Its own environment: only this endpoint's key, and none of the library's path settings beyond what it needs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    environment["OPENAI_API_KEY"] = os.environ.get(endpoint.key_env or "", "") or NO_KEY
    if config.datasets is not None:
        environment["HF_HOME"] = str(config.datasets)
    return environment


def read_results(path: Path, benchmarks: Sequence[str]) -> list[Result]:
    """The scores of a results file, in the order of `benchmarks`. Raises :class:`ResultsError`."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror}); run `mis general`") from None
    except ValueError as error:
        raise ResultsError(f"{path}: not JSON ({error}); remove it and run `mis general` again") from None
    if not isinstance(raw, dict):
        raise ResultsError(f"{path}: no results file of lmms-eval: expected an object at the top")
    if (usage := raw.get("usage")) and isinstance(usage, dict) and usage.get("budget_exceeded"):
        raise ResultsError(f"{path}: lmms-eval stopped at its token budget, so the results are a part; run it again")
    return [_result(path, raw, benchmark) for benchmark in benchmarks]


def _result(path: Path, raw: Mapping[str, Any], benchmark: str) -> Result:
    task = TASKS[benchmark]

    def get(*keys: str, kind: type | tuple[type, ...] = dict, remedy: str = "") -> Any:
        value, where = raw, []
        for key in keys:
            where.append(key)
            if not isinstance(value, dict) or key not in value:
                known = f"; there is {', '.join(map(str, value))}" if isinstance(value, dict) and len(where) > 1 else ""
                raise ResultsError(f"{path}: no {' / '.join(where)}{known}{remedy}")
            value = value[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ResultsError(f"{path}: {' / '.join(where)} is {value!r}, which is not what lmms-eval writes there")
        return value

    value = task.scale * get("results", task.name, task.metric, kind=(int, float))
    if not 0 <= value <= 100:
        raise ResultsError(f"{path}: results / {task.name} / {task.metric} is no rate: {value:g} %")
    samples = get("n-samples", task.name)
    n, whole = (get("n-samples", task.name, key, kind=int) for key in ("effective", "original"))
    hashed = get("task_hashes", task.name, kind=str, remedy="; run lmms-eval with --log_samples")
    version = raw.get("installed_version") or raw.get("lmms_eval_version") or "of unknown version"
    edition = raw.get("versions", {}).get(task.name, "?")
    if n <= 0 or n > whole:
        raise ResultsError(f"{path}: n-samples / {task.name} is {samples!r}")
    parts = [f"lmms-eval {version}, {task.name} (version {edition}, samples {hashed[:16]})", task.differs]
    parts += [f"{n} of {whole} samples"] if n < whole else []
    failed = _failed(path.with_name(f"samples_{task.name}.jsonl"), n)
    return Result(benchmark, value, n, failed, "; ".join(filter(None, parts)))


def _failed(path: Path, n: int) -> int:
    """Samples that were never answered. lmms-eval judges its own message of failure as if it were an answer."""
    rows = read_jsonl(path)
    if len(rows) != n:
        raise ResultsError(f"{path}: {len(rows)} samples, and the results say {n}; run `mis general` again")
    return sum(FAILED_MARK in json.dumps([row.get("resps"), row.get("filtered_resps")]) for row in rows)
