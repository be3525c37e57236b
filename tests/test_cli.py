"""The command line: it explains itself, and a mistake is one message that says how to mend it."""

import errno
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mis import layout, suites
from mis.cli import app
from mis.models import Answer
from mis.samples import Sample
from mis.settings import load
from mis.store import read_jsonl

# Subprocesses see the same library, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(layout.__file__).parents[1])}
COMMANDS = (
    "world construct mix pretrain features train select respond judge audit score table figure compare headline keep "
    "paper config"
).split()
MINI = Path("config/mini.yaml")


@pytest.fixture
def mis():
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def config(tmp_path):
    """A configuration of one suite and two arms, all of whose paths lie in `tmp_path`."""
    raw = yaml.safe_load(MINI.read_text())
    raw["paths"] = {name: str(tmp_path / name) for name in raw["paths"]}
    raw["evaluation"]["suites"] = {"all": ["mis/easy", "q_bench"]}
    raw["arms"] = ["base", "mirage"]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.fixture
def world(config, monkeypatch):
    """Samples, checkpoints, a model that echoes (and fails where `failing` says), and an oracle that says "unsafe"."""
    settings = load(config)
    for arm in settings.arms:
        folder = layout.checkpoint(settings, "internvl_mini", 0, arm)
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(arm.encode())
    samples = [Sample("mis", "easy", str(n), f"why {n}") for n in range(4)]
    samples += [Sample("q_bench", "", "0", "which", options=("red", "blue"), answer="red")]
    monkeypatch.setattr(suites, "load_samples", lambda settings, names: samples)
    monkeypatch.setattr("mis.scoring.load_samples", lambda settings, names: samples[:4])
    state = types.SimpleNamespace(settings=settings, failing=set(), asked=[])

    class Echo:
        def __init__(self, folder, settings, seed, model_name):
            assert (folder / "model.safetensors").exists()

        def answer(self, samples):
            state.asked += [sample.id for sample in samples]
            failed = Answer("", "failed", "time-out")
            return [failed if sample.question in state.failing else Answer("red") for sample in samples]

    class Oracle:
        def __init__(self, truth):
            self.truth = truth

        def verdict(self, sample, response):
            return ("unsafe", "") if response.arm == "base" else ("safe_reasoning", "")

    monkeypatch.setitem(sys.modules, "mis.models.local", types.SimpleNamespace(LocalModel=Echo))
    monkeypatch.setitem(sys.modules, "mis.judges.oracle", types.SimpleNamespace(OracleJudge=Oracle))
    return state


def test_help_names_every_step():
    command = [sys.executable, "-m", "mis.cli", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert [name for name in COMMANDS if f"\n  {name} " not in result.stdout] == []
    order = ["mis world", "mis construct", "mis pretrain", "mis train", "mis respond", "mis judge", "mis score"]
    positions = [result.stdout.index(step) for step in order]
    assert positions == sorted(positions)
    assert not re.search(r"\w\.\.\.", result.stdout)  # no explanation is cut off


def test_help_imports_nothing_heavy():
    code = "import sys, mis.cli; print(*{'torch', 'numpy', 'pandas', 'transformers', 'PIL'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert result.stdout == "\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_step_explains_itself(mis, command):
    result = mis(command, "--help")
    assert result.exit_code == 0
    assert "config/mini.yaml" in result.stdout  # where the configuration comes from if none is named


def test_a_bad_configuration_is_one_message(mis, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(MINI.read_text().replace("scale: mini", "scale: mini\nsclae: x"))
    result = mis("score", "--config", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"mis: {path} cannot be used:\n  sclae: unknown key")
    assert "Traceback" not in result.stderr
    assert mis("score", "--config", tmp_path / "none.yaml").exit_code == 2


def test_debug_shows_where_an_error_came_from(tmp_path):
    command = [sys.executable, "-m", "mis.cli", "--debug", "score", "--config", str(tmp_path / "none.yaml")]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert result.returncode != 0
    assert "Traceback" in result.stderr and "none.yaml: cannot be read" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("respond", "half", "--arm", "base", "--model", "internvl_mini", "--seed", 0), "no suite 'half'; it has all"),
        (("respond", "all", "--arm", "x", "--model", "internvl_mini", "--seed", 0), "no arm 'x'; it has base, mirage"),
        (("train", "mirage", "--model", "gpt", "--seed", 0), "no model 'gpt'; it has internvl_mini"),
        (("judge", "--model", "gpt", "--seed", 0), "no model 'gpt'; it has internvl_mini"),
        (("respond", "all", "--arm", "base", "--model", "internvl_mini", "--seed", 0), "no checkpoint here"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(mis, config, words, message):
    result = mis(*words, "--config", config)
    assert result.exit_code == 2
    assert message in result.stderr


def test_responses_verdicts_and_scores_from_the_command_line(mis, config, world):
    where = ("--model", "internvl_mini", "--seed", 0, "--config", config)
    for arm in ("base", "mirage"):
        result = mis("respond", "all", "--arm", arm, *where)
        assert result.exit_code == 0, result.output
        assert "5 responses (5 stop); 5 asked" in result.stdout
    assert "0 asked" in mis("respond", "all", "--arm", "base", *where).stdout
    result = mis("judge", *where)
    assert result.exit_code == 0, result.output
    assert "1 correct, 4 unsafe" in result.stdout and "1 correct, 4 safe_reasoning" in result.stdout
    result = mis("score", "--config", config)
    assert result.exit_code == 0, result.output
    rows = Path(result.stdout.strip()).read_text().splitlines()
    assert any(row.startswith("mini,internvl_mini,base,mis,easy,asr,percent,lower,100.0,,0,4,0,") for row in rows)
    assert any(row.startswith("mini,internvl_mini,mirage,mis,easy,rsr,percent,higher,100.0,,all,4,0,") for row in rows)
    shown = mis("headline", "--config", config)
    assert shown.exit_code == 0 and str(world.settings.paths.results / "scores.csv") in shown.stdout
    compared = mis("compare", "--config", config)
    assert compared.exit_code == 0 and "ompare" in compared.stdout


def test_tables_and_figures_say_what_they_wrote(mis, config):
    settings = load(config)
    written = mis("table", "3", "--config", config)
    stem = settings.paths.results / "tables" / "table3"
    assert written.stdout.split() == [f"{stem}.{ending}" for ending in ("csv", "md", "tex", "html")]
    for command in ("table", "figure"):
        unknown = mis(command, "99", "--config", config)
        assert unknown.exit_code == 2
        assert "99" in unknown.stderr and "known: " in unknown.stderr


def test_a_retrained_checkpoint_is_asked_anew(mis, config, world):
    words = ("respond", "all", "--arm", "base", "--model", "internvl_mini", "--seed", 0, "--config", config)
    mis(*words)
    folder = layout.checkpoint(world.settings, "internvl_mini", 0, "base")
    (folder / "model.safetensors").write_bytes(b"trained again")
    assert "5 asked" in mis(*words).stdout


def test_failed_responses_end_with_1_and_a_rerun_asks_only_for_them(mis, config, world):
    words = ("respond", "all", "--arm", "base", "--model", "internvl_mini", "--seed", 0, "--config", config)
    world.failing = {"why 2"}
    result = mis(*words)
    assert result.exit_code == 1
    assert "5 responses (1 failed, 4 stop)" in result.stdout
    assert "run the same command again" in result.stderr
    assert mis(*words, "--allow-failures").exit_code == 0
    world.failing, world.asked = set(), []
    assert mis(*words).exit_code == 0
    assert world.asked == ["2"]


def test_an_arm_that_was_not_run_is_named_and_left_out(mis, config, world):
    where = ("--model", "internvl_mini", "--seed", 0, "--config", config)
    result = mis("judge", *where)
    assert result.exit_code == 2 and "no responses to judge; run `mis respond` first" in result.stderr
    mis("respond", "all", "--arm", "base", *where)
    result = mis("judge", *where)
    assert result.exit_code == 0
    assert "mirage is left out" in result.stderr


def test_a_full_disk_is_one_message_and_loses_nothing(mis, config, world, monkeypatch):
    words = ("respond", "all", "--arm", "base", "--model", "internvl_mini", "--seed", 0, "--config", config)

    def full_disk(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_disk)  # the answers fit, the published file does not
        result = mis(*words)
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr and "free some space" in result.stderr
    world.asked = []
    assert mis(*words).exit_code == 0
    assert world.asked == []  # all answers were in the journal
    out = layout.responses(world.settings, "internvl_mini", 0, "base", "all")
    assert len(read_jsonl(out)) == 5


def test_an_error_of_ours_is_not_hidden(mis, config, monkeypatch):
    def broken(settings):
        raise PermissionError(errno.EACCES, "not allowed")

    monkeypatch.setitem(sys.modules, "mis.scoring", types.SimpleNamespace(score=broken))
    assert isinstance(mis("score", "--config", config).exception, PermissionError)


def test_a_configuration_is_printed_in_full_and_loads_again(mis, config, tmp_path):
    printed = tmp_path / "printed.yaml"
    assert mis("config", "--config", config, "--output", printed).exit_code == 0
    assert load(printed) == load(config)
    result = mis("config", "--schema")
    assert json.loads(result.stdout)["additionalProperties"] is False
