"""The rules for public data: planned at the paper's scale, and run on tiny datasets that a loopback server serves."""

import csv
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mis.miniature import layouts
from mis.miniature.layouts import Item
from tests.conftest import ROOT
from tests.hub_server import HubServer


def draw(scene: int, path: Path) -> None:
    cells = np.random.default_rng(scene).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(cells).resize((48, 48), Image.Resampling.BICUBIC).save(path)


def pairs(first: int, count: int) -> list[Item]:
    return [
        Item(
            f"Could the object in the first image hold the second one, number {k}?", (2 * k, 2 * k + 1),
            answer="It should not.", category="Violent", sub_category="Weapon-Related Violence",
        )
        for k in range(first, first + count)
    ]  # fmt: skip


def repository(root: Path, archive: str = "") -> dict[str, bytes]:
    """The files of a folder; with `archive` its pictures in a zip."""
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    if not archive:
        return files
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name in [name for name in files if name.endswith(".png")]:
            packed.writestr(name, files.pop(name))
    return files | {archive: stream.getvalue()}


@pytest.fixture
def study(tmp_path):
    """A configuration like the paper's with one arm and MIS alone, and a server that has both datasets of MIS."""
    made = tmp_path / "made"
    layouts.write_mis_train(made / "train", pairs(0, 6), draw)
    for split, start in (("easy", 100), ("hard", 200), ("real", 300)):
        layouts.write_mis(made / "test", split, pairs(start, 2) + (pairs(3, 1) if split == "hard" else []), draw)
    raw = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
    model = raw["models"]["internvl2_5_8b"] | {"arms": ["base", "mirage_star"]}
    raw |= {
        "scale": "tiny", "models": {"m": model}, "planning": None,
        "paths": {name: f"{name}/tiny" for name in ("data", "build", "results", "figures", "cache")},
        "evaluation": raw["evaluation"] | {"suites": {"mis": ["mis/easy", "mis/hard", "mis/real"]}, "latency": None},
        "sources": {"lock": str(tmp_path / "lock.json"), "exclusions": str(tmp_path / "exclusions.csv")},
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "exclusions.csv").write_text("source,id,reason\n")
    hub = {"Tuwhy/MIS_Train": repository(made / "train", "images.zip"), "Tuwhy/MIS_Test": repository(made / "test")}
    with HubServer(hub, large=("images.zip",)) as server:
        yield tmp_path, server


def run(folder: Path, server: HubServer, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += [*arguments, "--cores", "2", "--configfile", str(folder / "tiny.yaml")]
    environment = os.environ | server.environment | {"HF_HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


@pytest.mark.slow
def test_public_data_are_fetched_mixed_and_checked(study):
    folder, server = study
    ok, inputs = "build/tiny/leaks/mirage_star/mis.ok", "results/tiny/inputs.md"

    done = run(folder, server, ok)
    text = done.stdout + done.stderr
    assert done.returncode != 0 and "is not pinned; run `mis data fetch" in text

    for name in ("mis", "mis_train"):
        command = [sys.executable, "-m", "mis", "data", "fetch", name, "--config", "tiny.yaml", "--lock", "lock.json"]
        environment = os.environ | server.environment | {"HF_HOME": str(folder), "PYTHONPATH": str(ROOT / "src")}
        assert subprocess.run(command, cwd=folder, env=environment, check=False).returncode == 0

    done = run(folder, server, inputs, ok)
    assert (
        done.returncode != 0
        and "mirage_star is trained on 2 exact duplicates of samples of mis" in done.stdout + done.stderr
    )
    rows = list(csv.DictReader((folder / "results/tiny/leaks/mirage_star/mis.csv").open()))
    leaked = {row["id"] for row in rows if row["leak"] == "yes"}
    assert len(leaked) == 1 and "Every dataset was read as the lock" in (folder / inputs).read_text()

    (folder / "exclusions.csv").write_text(f"source,id,reason\nmis_train,{leaked.pop()},MIS-hard has it\n")
    done = run(folder, server, ok, "--forcerun", "mix_arms")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert (folder / ok).exists()
    page = (folder / "build/tiny/mixtures/mirage_star.md").read_text()
    assert page.startswith("# mirage_star: 5 training examples") and "1 examples are excluded by" in page


@pytest.mark.slow
def test_the_papers_scale_is_planned_with_its_data(snakemake, tmp_path):
    done = snakemake(tmp_path, "table4", "-n", "--configfile", str(ROOT / "config/paper.yaml"))
    assert done.code == 0, done.text[-3000:]
    plan = dict(line.split()[:2] for line in done.text.splitlines() if len(line.split()) == 2)
    assert (plan["fetch_data"], plan["mix_arms"]) == ("3", "1"), "MIS, MIS-train and M4-Instruct, for MIRage alone"
    assert "label_reasoning" not in plan, "Table 4 has no arm with these labels"
    assert plan["check_leaks"] == "1"
