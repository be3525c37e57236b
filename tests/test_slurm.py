"""The SLURM profile on a real SLURM: one node on this machine, started for the test and stopped after it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import slurm_cluster
import yaml

# What is made of measured times, beside the columns below: the times, the table that shows them, the PDF, the tower's
# outputs (named by the run's folder), journals (they hold when a sample was answered).
TIMED = re.compile(r"/benchmarks/|/features/|/latency/|journal|/paper/|/table10\.|/claims\.(html|md|tex)|\.pdf$")
MEASURED = re.compile("latency_s|tokens_per_s|^C(99|100),")  # rows of scores.csv and claims.csv


def published(run: Path) -> dict[str, list[str] | bytes]:
    """Each file of a run by its path: data, mixtures, checkpoints, answers, verdicts, tables, figures, claims."""
    files = (path for part in ("build", "results", "figures") for path in (run / part).rglob("*") if path.is_file())
    names = {str(path.relative_to(run)): path for path in files}
    found = {name: path.read_bytes() for name, path in names.items() if not TIMED.search(name)}
    for name in ("results/smoke/scores.csv", "results/smoke/claims.csv"):
        found[name] = [line for line in found[name].decode().splitlines() if not MEASURED.search(line)]
    return found


@pytest.mark.slow
@pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing() or "SLURM is here")
def test_the_whole_study_runs_through_slurm_and_gives_what_it_gives_without(root, smoke_run, tmp_path):
    """The smoke scale's default target, each job a job of SLURM: data, trainings, answers, tables, figures, PDF."""
    with (
        tempfile.TemporaryDirectory(prefix="slurm") as folder,  # a socket's path must be short
        slurm_cluster.cluster(Path(folder) / "cluster") as environment,
    ):
        snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile")]
        done = subprocess.run(
            [
                *snakemake, "--directory", str(tmp_path), "--workflow-profile", str(root / "workflow/profiles/slurm"),
                "--latency-wait", "10", "--slurm-init-seconds-before-status-checks", "2",
                "--seconds-between-status-checks", "2", "--config", "scale=smoke",
            ],
            env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, cwd=root,
        )  # fmt: skip
        listed = subprocess.run(
            ["scontrol", "--oneliner", "show", "jobs"], env=environment, capture_output=True, text=True, check=True
        ).stdout
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-4000:]
    jobs: dict[str, list[dict]] = {}
    for line in listed.splitlines():
        job = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
        jobs.setdefault(job["Comment"].split("_wildcards_")[0].removeprefix("rule_"), []).append(job)
    # All steps but `all` itself, each of them once; what a rule asks for is what SLURM was asked for.
    (steps,) = set(re.findall(r"^total +(\d+)$", text, re.MULTILINE))
    assert sum(map(len, jobs.values())) == int(steps) - 1
    assert {"write_world", "pretrain_base", "judge_internvl_mini", "make_figure"} <= jobs.keys()
    assert len(jobs["train_arm"]) == 4 and len(jobs["respond"]) == 6 and len(jobs["measure_latency"]) == 1
    assert {job["JobState"] for each in jobs.values() for job in each} == {"COMPLETED"}
    (base,) = jobs["pretrain_base"]
    assert "mem=6000M" in base["TRES"] and base["TimeLimit"] == "04:00:00"

    there, here = published(tmp_path), published(smoke_run)
    assert there.keys() == here.keys()
    assert not [name for name, content in here.items() if there[name] != content]
    for kind in ("build/smoke/models", "results/smoke/responses", "results/smoke/tables", "figures/smoke"):
        assert any(name.startswith(kind) for name in here), kind
    assert len(here["results/smoke/scores.csv"]) > 1000
    pdf = "results/smoke/reproduction.pdf"
    assert (tmp_path / pdf).exists() == (smoke_run / pdf).exists()


def settings(root: Path, name: str) -> dict:
    return yaml.safe_load((root / "workflow" / "profiles" / name / "config.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_cluster_does_not_inherit_the_limit_of_one_gpu(root, name):
    """profiles/default allows one GPU at once, which would cut a training's eight down to one."""
    profile = settings(root, name)
    assert "resources" not in profile
    text = (root / "workflow" / "profiles" / name / "config.yaml").read_text(encoding="utf-8")
    assert f"--workflow-profile workflow/profiles/{name}" in text
    assert {"gpu=0", "mem_mb=4000", "runtime=240"} <= set(profile["default-resources"])


class TestKubernetes:
    """`pods.py` with a kubectl that runs the containers right here."""

    @pytest.fixture
    def environment(self, root, tmp_path) -> dict[str, str]:
        (tmp_path / "bin").mkdir()
        (tmp_path / "cluster").mkdir()
        (tmp_path / "bin" / "kubectl").symlink_to(root / "tests" / "fake_kubectl.py")
        path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "FAKE_CLUSTER": str(tmp_path / "cluster"),
                "MIS_IMAGE": "mis:1", "MIS_VOLUME": "claim"}  # fmt: skip

    def pods(self, root, environment, folder, *words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(root / "workflow" / "profiles" / "kubernetes" / "pods.py"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)

    def submit(self, root, environment, folder, script: str, gpus: int = 0) -> subprocess.CompletedProcess:
        path = folder / "job.sh"
        path.write_text(script, encoding="utf-8")
        asked = ["--rule", "train_arm", "--cpus", "4", "--memory-mb", "8000", "--gpus", str(gpus), "--minutes", "30"]
        return self.pods(root, environment, folder, "submit", *asked, str(path))

    def test_what_a_rule_asks_for_is_what_its_pod_gets(self, root, environment, tmp_path):
        environment |= {"MIS_SECRET": "keys"}
        job = self.submit(root, environment, tmp_path, "exit 0\n", gpus=8).stdout.strip()
        manifest = json.loads((tmp_path / "cluster" / f"{job}.json").read_text(encoding="utf-8"))
        pod = manifest["spec"]["template"]["spec"]
        container = pod["containers"][0]
        assert container["resources"]["requests"] == {"cpu": "4", "memory": "8000M", "nvidia.com/gpu": "8"}
        assert container["resources"]["limits"] == {"memory": "8000M", "nvidia.com/gpu": "8"}
        assert manifest["spec"]["activeDeadlineSeconds"] == 1800 and manifest["spec"]["backoffLimit"] == 0
        assert container["workingDir"] == str(tmp_path) and container["envFrom"] == [{"secretRef": {"name": "keys"}}]
        assert {volume["name"] for volume in pod["volumes"]} == {"work", "shared-memory"}
        assert self.pods(root, environment, tmp_path, "status", job).stdout.strip() == "success"

    def test_a_job_that_fails_is_said_to_have_failed(self, root, environment, tmp_path):
        job = self.submit(root, environment, tmp_path, "exit 3\n").stdout.strip()
        manifest = json.loads((tmp_path / "cluster" / f"{job}.json").read_text(encoding="utf-8"))
        requests = manifest["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
        assert "nvidia.com/gpu" not in requests
        assert self.pods(root, environment, tmp_path, "status", job).stdout.strip() == "failed"

    def test_an_unset_image_is_named(self, root, environment, tmp_path):
        del environment["MIS_IMAGE"]
        done = self.submit(root, environment, tmp_path, "exit 0\n")
        assert done.returncode != 0 and "MIS_IMAGE is not set" in done.stderr

    def test_snakemake_makes_a_table_through_it(self, root, environment, tmp_path):
        run = tmp_path / "run"
        run.mkdir()
        (run / "workflow").symlink_to(root / "workflow")  # the profile names its program from the repository's root
        done = subprocess.run(
            [
                sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(run),
                "--workflow-profile", str(root / "workflow" / "profiles" / "kubernetes"), "--latency-wait", "5",
                "--seconds-between-status-checks", "1", "--config", "scale=reported",
                "--", "results/reported/tables/table18.csv",
            ],
            env=environment, capture_output=True, text=True, check=False, cwd=root,
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        assert (run / "results" / "reported" / "tables" / "table18.csv").is_file()
        assert len(list((tmp_path / "cluster").glob("mis-make-table-*.json"))) == 1
