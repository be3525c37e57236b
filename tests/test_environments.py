"""The environments agree: lock files, pyproject.toml, the conda files; and what rules, Makefile and CI make of them."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CONDA_FILES = ("environment.yml", "workflow/envs/gpu.yaml", "workflow/envs/leaks.yaml", "workflow/envs/painting.yaml")
# Programs that the study only talks to, in environments of their own: what stands there and not in the lock, and why.
OTHER_PROGRAMS = {
    "workflow/envs/vllm.yaml": {"vllm": "the program", "transformers": "vLLM 0.33 wants one below 5.21"},
    "workflow/envs/lmms_eval.yaml": {"lmms-eval": "the program"},
}
# Conda's own packages, with the reason why no lock decides their version.
NOT_FROM_THE_LOCK = {
    "python": "the interpreter",
    "pip": "the installer",
    "make": "a tool",
    "cxx-compiler": "a tool",
    "flash-attn": "has no wheel; conda-forge's build",
    "pytorch": "the build that conda-forge's flash-attn was compiled against",
}


def lock(path: Path) -> dict[str, Version]:
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "-r ")):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!]+)", line)
            assert match, f"{path.name}: {line!r} is not NAME==VERSION without a local version"
            name = canonicalize_name(match[1])
            assert name not in pins, f"{path.name}: {name} twice"
            pins[name] = Version(match[2])
    return pins


@pytest.fixture(scope="module")
def study(root) -> dict[str, Version]:
    return lock(root / "requirements.lock")


@pytest.fixture(scope="module")
def everything(root, study) -> dict[str, Version]:
    more = lock(root / "requirements-dev.lock")
    assert not study.keys() & more.keys()
    return study | more


@pytest.fixture(scope="module")
def project(root) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def conda(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What a conda file asks of conda (name -> rest of the match) and of pip (name -> version)."""
    dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    pip_lines = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    from_conda = dict(entry.partition("=")[::2] for entry in dependencies if isinstance(entry, str))
    from_pip = dict(line.split("==") for line in pip_lines)
    return from_conda, {canonicalize_name(name): version for name, version in from_pip.items()}


def test_locks_hold_every_direct_dependency_within_its_range(project, study, everything):
    optional = [line for lines in project["optional-dependencies"].values() for line in lines]
    for lines, pins in ((project["dependencies"], study), (optional, everything)):
        for requirement in map(Requirement, lines):
            version = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement


def test_locks_hold_what_their_packages_need(study, everything):
    for name, pins in [*((name, study) for name in study), *((name, everything) for name in everything)]:
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # an optional part that is not installed here
        for requirement in map(Requirement, needs):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed = canonicalize_name(requirement.name)
                if needed.startswith(("nvidia-", "cuda-", "triton")):
                    continue  # they come with the build of torch
                assert needed in pins or needed == "setuptools", f"{name} needs {needed}, which no lock names"
                assert needed == "setuptools" or requirement.specifier.contains(pins[needed]), f"{name}: {requirement}"


def test_what_is_installed_here_is_what_the_lock_names(study):
    different = {name: (metadata.version(name), str(pin)) for name, pin in study.items()
                 if Version(Version(metadata.version(name)).public) != pin}  # fmt: skip
    assert not different, f"installed, locked: {different}; run `make test`, or `make lock` after a change"


def test_the_library_imports_nothing_undeclared(root, project):
    declared = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    for lines in project["optional-dependencies"].values():
        declared |= {canonicalize_name(Requirement(line).name) for line in lines}
    providers = metadata.packages_distributions()
    undeclared = {}
    for path in (root / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names} - {"mis"} - sys.stdlib_module_names:
                found = {canonicalize_name(name) for name in providers.get(top, [top])}
                if not found & declared:
                    undeclared[str(path.relative_to(root))] = top
    assert not undeclared


@pytest.mark.parametrize("name", CONDA_FILES)
def test_conda_files_repeat_the_locks_pins(root, everything, name):
    from_conda, from_pip = conda(root / name)
    assert from_pip == {package: str(everything[package]) for package in from_pip}
    assert from_conda.keys() <= NOT_FROM_THE_LOCK.keys(), "pin it by pip, or give the reason here"


@pytest.mark.parametrize(("name", "own"), OTHER_PROGRAMS.items())
def test_other_programs_have_the_studys_pins_where_they_can(root, everything, name, own):
    _, from_pip = conda(root / name)
    shared = {package: version for package, version in from_pip.items() if package not in own}
    assert shared == {package: str(everything[package]) for package in shared}
    assert own.keys() <= from_pip.keys()


def test_the_default_environment_holds_the_whole_study(root, project):
    from_conda, from_pip = conda(root / "environment.yml")
    direct = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    named = {"torch", "transformers", "deepspeed", "datasets", "matplotlib", "seaborn", "snakemake", "jupyter"}
    assert direct | named <= from_pip.keys()
    assert from_conda["python"] == "3.11"


def test_flash_attention_is_condas_build(root):
    from_conda, from_pip = conda(root / "workflow/envs/gpu.yaml")
    assert from_conda["flash-attn"] and "cuda" in from_conda["pytorch"]
    assert not {"flash-attn", "torch"} & from_pip.keys()


def rules(root: Path) -> dict[str, tuple[Path, str]]:
    """Rule -> (file, text), from the workflow's files; a rule that a loop makes has its name in a directive."""
    found = {}
    for path in sorted((root / "workflow" / "rules").glob("*.smk")):
        for part in re.split(r"^ *rule(?= \w+:|:$)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            name = part.partition(":")[0].strip() or re.search(r'name:\s+f?"([^"]+)"', part)[1]
            found[name] = (path, part)
    return found


def test_every_rule_reaches_the_library_in_the_one_way(root):
    import typer

    from mis.cli import app

    commands = typer.main.get_command(app).commands
    calling = {name: rule for name, rule in rules(root).items() if "shell:" in rule[1]}
    assert {"write_world", "construct_mis", "mix_arms", "pretrain_base", "train_arm", "respond", "judge_{model}",
            "score", "make_table", "make_figure", "make_headline", "compare"} <= calling.keys()  # fmt: skip
    for name, (path, text) in calling.items():
        called = re.findall(r"python -m mis (\w+)", text)
        assert len(called) == 1 and called[0] in commands, name
        environment = re.search(r'conda:\s+"([^"]+)"', text)
        assert environment, f"{name} names no environment"
        file = (path.parent / environment[1]).resolve()
        assert str(file.relative_to(root)) in {*CONDA_FILES, *OTHER_PROGRAMS}, name
        for directive in ("log:", "benchmark:", "threads:", "library=library(", "gpu=", "mem_mb="):
            # A server is ended from outside, so nobody could write its times.
            assert directive in text or (directive, "service(" in text) == ("benchmark:", True), f"{name}: {directive}"


@pytest.mark.slow
@pytest.mark.parametrize("name", CONDA_FILES)
def test_the_pip_part_resolves(root, tmp_path, name):
    _, from_pip = conda(root / name)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("".join(f"{name}=={version}\n" for name, version in from_pip.items()), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    done = subprocess.run([*pip, "-r", str(requirements)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


class TestMakefile:
    def make(self, root: Path, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["make", *arguments], cwd=root, capture_output=True, text=True, check=False)

    def test_an_old_python_is_refused_in_words(self, root, tmp_path):
        old = tmp_path / "python3.9"
        pretend = "import sys; sys.version_info = (3, 9, 1); exec(sys.argv[2])"
        old.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{pretend}' \"$@\"\n", encoding="utf-8")
        old.chmod(0o755)
        done = self.make(root, "reproduce", f"PYTHON={old}", f"VENV={tmp_path}/venv")
        assert done.returncode != 0
        assert "Python 3.11 or newer is needed, found 3.9" in done.stderr
        assert not (tmp_path / "venv").exists()

    def test_the_index_for_torch_is_for_torch_alone(self, root, tmp_path):
        text = self.make(root, "-n", "reproduce", f"VENV={tmp_path}/venv", "TORCH_INDEX=https://example.org/cpu").stdout
        lines = [line for line in text.splitlines() if "example.org" in line]
        assert len(lines) == 1 and lines[0].endswith("--no-deps --index-url https://example.org/cpu torch==2.13.0")
        assert "example.org" not in self.make(root, "-n", "reproduce", f"VENV={tmp_path}/venv").stdout

    def test_seeds_scale_and_arguments_are_passed_on(self, root, tmp_path):
        given = ["SEEDS=0,1,2", "SCALE=smoke", "ARGS=table4"]
        text = self.make(root, "-n", "reproduce", f"VENV={tmp_path}", *given).stdout
        assert 'snakemake --cores all table4 --config scale=smoke "seeds=[0,1,2]"' in text


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_a_skip_fails_in_continuous_integration_only(root, tmp_path, ci, code):
    shutil.copy(root / "tests" / "conftest.py", tmp_path)
    test = "import pytest\n\ndef test_one():\n    pytest.skip('no browser')\n\ndef test_two():\n    pass\n"
    (tmp_path / "test_skips.py").write_text(test, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    environment = {**os.environ, "CI": ci}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == code, done.stdout
