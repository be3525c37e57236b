"""Keeps a finished run as the committed reference that later runs are compared with."""

from __future__ import annotations

import csv
import os
import platform
import shutil
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

from mis.errors import MisError
from mis.report.reported import repository_root
from mis.settings import Settings
from mis.store import write_csv_atomic, write_text_atomic

KEPT = ("config.yaml", "scores.csv", "headline.md", "claims.csv", "claims.md", "shape.csv", "shape.md", "tables")
BY_SCALE = ("claims_by_scale.csv", "claims_by_scale.md", "claims_by_scale.tex")
# Where the run has them.
ALSO = (
    "agreement.csv", "agreement.md", "skills", "latency", *BY_SCALE, "probes", "development", "scores.errors.csv",
)  # fmt: skip
# Pages of the report, the same tables once more; what a model wrote when it was told to help.
DERIVED = shutil.ignore_patterns("*.html", "answers.jsonl")
COLUMNS = ("rule", "jobs", "total_s", "cpu_s", "longest_s", "peak_mb")


def keep(settings: Settings, root: Path | None = None) -> Path:
    """Copy scores, claims, tables and figures to `results/reference/<scale>` and `figures/reference/<scale>`.

    Where the run has made the PDF, it goes to `paper/reproduction.pdf`.
    `timings.csv` sums the jobs' seconds and peak memory by rule, from Snakemake's benchmark files; `machine.md` names
    the machine and the versions. Raises :class:`MisError` if the run is not finished.
    """
    root = repository_root(root)
    results, figures = settings.paths.results, settings.paths.figures
    missing = [name for name in KEPT if not (results / name).exists()]
    if missing:
        raise MisError(f"{results}: {', '.join(missing)} not there; finish the run first: snakemake --cores all")
    target = root / "results" / "reference" / settings.scale
    target.mkdir(parents=True, exist_ok=True)
    for name in (*KEPT, *(name for name in ALSO if (results / name).exists())):
        if (results / name).is_dir():
            shutil.copytree(results / name, target / name, ignore=DERIVED, dirs_exist_ok=True)
        else:
            shutil.copy2(results / name, target / name)
    shutil.copytree(figures, root / "figures" / "reference" / settings.scale, dirs_exist_ok=True)
    if (results / "reproduction.pdf").is_file():
        shutil.copy2(results / "reproduction.pdf", root / "paper" / "reproduction.pdf")
    write_csv_atomic(target / "timings.csv", timings(results / "benchmarks"), COLUMNS)
    write_text_atomic(target / "machine.md", machine())
    return target


def timings(folder: Path) -> list[dict]:
    """Seconds, CPU seconds and peak memory (MB) of a run's jobs by rule, the longest total first."""
    jobs: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                jobs[rule].append(tuple(_number(row.get(column, "")) for column in ("s", "cpu_time", "max_rss")))
    rows = [
        {
            "rule": rule,
            "jobs": len(measured),
            "total_s": round(sum(seconds for seconds, _, _ in measured), 1),
            "cpu_s": round(sum(cpu for _, cpu, _ in measured), 1),
            "longest_s": round(max(seconds for seconds, _, _ in measured), 1),
            "peak_mb": round(max(peak for _, _, peak in measured)),
        }
        for rule, measured in jobs.items()
    ]
    return sorted(rows, key=lambda row: -row["total_s"])


def _number(text: str) -> float:
    """A cell of a benchmark file; a job that ended before it was looked at has none."""
    return 0.0 if text in ("", "-", "NA") else float(text)


def machine() -> str:
    """The machine and the versions that decide a run's numbers, as a line of text."""
    names = [line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy", "pillow"))
    return (
        f"Processor: {names[0] if names else platform.processor() or 'unknown'}, {os.cpu_count()} cores. "
        f"Python {platform.python_version()}, {packages}.\n"
    )


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
