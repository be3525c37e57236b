"""Keeping a finished run as the committed reference."""

from __future__ import annotations

import csv
import shutil

import pytest

from mis import settings as configuration
from mis.errors import MisError
from mis.report.reference import ALSO, KEPT, keep, timings

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


@pytest.fixture
def finished(root, tmp_path, monkeypatch):
    """A run that has everything, and a checkout for it; the working directory is the run's."""
    monkeypatch.chdir(tmp_path)
    settings = configuration.load(root / "config" / "smoke.yaml")
    results = settings.paths.results
    for name in KEPT:
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        if name == "tables":
            (results / name).mkdir()
            for kind in ("csv", "html"):
                (results / name / f"table1.{kind}").write_text("a")
        else:
            (results / name).write_text(name)
    settings.paths.figures.mkdir(parents=True)
    (settings.paths.figures / "figure4.pdf").write_text("a")
    jobs = results / "benchmarks" / "train_arm"
    jobs.mkdir(parents=True)
    (jobs / "a.tsv").write_text(HEAD + "10.5\t0:00:10\t100.4\t1\t1\t1\t1\t1\t90\t9.25\n")
    (jobs / "b.tsv").write_text(HEAD + "2.0\t0:00:02\t-\t1\t1\t1\t1\t1\t-\tNA\n")
    checkout = tmp_path / "checkout"
    (checkout / "data").mkdir(parents=True)
    shutil.copytree(root / "data" / "reported", checkout / "data" / "reported")
    (checkout / "paper").mkdir()
    return settings, checkout


def test_what_a_reader_wants_is_kept_and_what_can_be_made_again_is_not(finished):
    settings, checkout = finished
    (settings.paths.results / ALSO[0]).write_text("agreement")
    (settings.paths.results / "reproduction.pdf").write_text("pdf")
    target = keep(settings, checkout)
    assert target == checkout / "results" / "reference" / "smoke"
    assert {path.name for path in target.iterdir()} == {*KEPT, ALSO[0], "timings.csv", "machine.md"}
    assert [path.name for path in (target / "tables").iterdir()] == ["table1.csv"]
    assert (checkout / "figures" / "reference" / "smoke" / "figure4.pdf").is_file()
    assert (checkout / "paper" / "reproduction.pdf").read_text() == "pdf"
    with (target / "timings.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "rule": "train_arm",
        "jobs": "2",
        "total_s": "12.5",
        "cpu_s": "9.2",
        "longest_s": "10.5",
        "peak_mb": "100",
    }
    assert timings(settings.paths.results / "nothing") == []


def test_a_run_that_is_not_finished_is_not_kept(finished):
    settings, checkout = finished
    (settings.paths.results / "claims.csv").unlink()
    with pytest.raises(MisError, match=r"claims.csv not there; finish the run first"):
        keep(settings, checkout)
    assert not (checkout / "results").exists()
