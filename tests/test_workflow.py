"""The workflow: what it plans, what it refuses, what runs again after a change, and the whole study in a minute."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from mis.report import latex
from mis.settings import ConfigurationError, Settings, load
from workflow import library
from workflow.configuration import resolve, write_if_changed

PDF = {"make_paper": 1} if latex.installed() else {}


def planned(text: str) -> dict[str, int]:
    """Rule -> number of jobs, from the statistics that a dry run prints."""
    table = text.split("Job stats:")[1].split("Reasons:")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}


@pytest.fixture
def plan(snakemake, tmp_path):
    def run(*arguments: str) -> dict[str, int]:
        done = snakemake(tmp_path, "--dry-run", *arguments)
        assert done.code == 0, done.text
        return planned(done.text)

    return run


def test_the_default_plan_is_the_whole_miniature(plan):
    jobs = plan()
    expected = {
        "write_world": 1, "construct_mis": 1, "mix_arms": 1, "pretrain_base": 1, "cache_features": 1,
        "train_arm": 13, "respond": 15, "measure_skills": 1, "measure_latency": 1, "judge_internvl_mini": 1,
        "rejudge_internvl_mini": 1, "agree": 1, "score": 1, "make_table": 15, "make_figure": 18, "make_headline": 1,
        "compare": 1, "judge_claims": 1, "make_browser": 1, "run_notebook": 3, **PDF, "all": 1,
    }  # fmt: skip
    assert jobs == {**expected, "total": sum(expected.values())}


def test_one_table_plans_its_own_inputs_only(plan):
    jobs = plan("table4")
    assert jobs["make_table"] == 1 and jobs["train_arm"] == 13 and "make_figure" not in jobs
    assert set(plan("table3")) == {"table3", "make_table", "write_world", "construct_mis", "total"}
    assert set(plan("table19")) == {"table19", "make_table", "total"}


def test_the_construction_ends_with_its_release(plan):
    assert set(plan("construction")) == {"construction", "write_world", "construct_mis", "release_mis", "total"}


def test_each_seed_has_its_own_base_and_arms(plan):
    jobs = plan("--config", "seeds=[0,1]")
    assert (jobs["pretrain_base"], jobs["train_arm"], jobs["respond"], jobs["judge_internvl_mini"]) == (2, 26, 30, 2)
    assert (jobs["score"], jobs["write_world"]) == (1, 1)


def test_a_named_file_is_complete_and_equals_its_scale(plan, root):
    jobs = plan("--configfile", str(root / "config" / "smoke.yaml"))
    assert jobs == plan("--config", "scale=smoke")
    assert jobs["train_arm"] == 4


def test_the_reported_scale_draws_tables_from_the_paper_alone(plan):
    assert plan("--config", "scale=reported") == {
        "make_table": 19, "make_figure": 3, "judge_claims": 1, "all": 1, "total": 24,
    }  # fmt: skip


def test_the_reported_scale_runs_and_a_deleted_table_is_one_job(snakemake, tmp_path):
    scale = ("--cores", "2", "--config", "scale=reported")
    done = snakemake(tmp_path, *scale)
    assert done.code == 0, done.text
    assert len(list((tmp_path / "results" / "reported" / "tables").glob("table*.csv"))) == 19
    assert (tmp_path / "results" / "reported" / "claims.tex").exists()
    again = snakemake(tmp_path, *scale)
    assert "Nothing to be done" in again.text
    table = tmp_path / "results" / "reported" / "tables" / "table4.csv"
    before = table.read_bytes()
    table.unlink()
    assert planned(snakemake(tmp_path, *scale).text) == {"make_table": 1, "all": 1, "total": 2}
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "sceds=[0]"], ["mini.yaml", "--config sceds=", "unknown key", "config/schema.json"]),
        (["--config", "seeds=[-1]"], ["mini.yaml", "seeds.0", "greater than or equal to 0"]),
        (["--config", "training={epochs: 3}"], ["training.epochs", "unknown key"]),
        (["--config", "scale=huge"], ["unknown scale 'huge'", "mini", "smoke", "--configfile"]),
        (["table99"], ["unknown target 'table99'", "table19", "figure4"]),
        (["figure"], ["unknown target 'figure'", "figure9"]),
        (["--configfile", "config/smoke.yaml", "--config", "scale=mini"], ["not both"]),
    ],
)
def test_a_mistake_is_named_with_its_remedy(snakemake, tmp_path, arguments, words):
    done = snakemake(tmp_path, "--dry-run", *arguments)
    assert done.code != 0
    assert all(word in done.text for word in words), done.text
    assert "Traceback (most recent call last)" not in done.text


def test_an_incomplete_file_is_refused_instead_of_completed(snakemake, tmp_path):
    partial = tmp_path / "partial.yaml"
    partial.write_text("scale: mine\nseeds: [0]\n", encoding="utf-8")
    done = snakemake(tmp_path, "--dry-run", "--configfile", str(partial))
    assert done.code != 0
    assert "partial.yaml" in done.text and "training: Field required" in done.text


def test_a_dry_run_writes_nothing(snakemake, tmp_path):
    assert snakemake(tmp_path, "--dry-run").code == 0
    assert not [path for path in tmp_path.iterdir() if path.name != ".snakemake"]


class TestConfiguration:
    def test_only_what_is_said_is_laid_over(self, root):
        overlay = {"training": {"arms": {"mirage": {"epochs": 7}}}, "seeds": ["5"]}  # Snakemake hands on text
        changed = resolve(overlay, [], root / "config").model_dump()
        plain = resolve({}, [], root / "config").model_dump()
        assert changed["seeds"] == [5]
        assert changed["training"]["arms"]["mirage"] == plain["training"]["arms"]["mirage"] | {"epochs": 7}
        changed["seeds"], changed["training"]["arms"]["mirage"] = plain["seeds"], plain["training"]["arms"]["mirage"]
        assert changed == plain

    def test_every_committed_scale_is_valid_and_keeps_to_its_folders(self, root):
        scales = sorted((root / "config").glob("*.yaml"))
        assert {"mini", "smoke", "reported"} <= {path.stem for path in scales}
        for path in scales:
            settings = resolve({"scale": path.stem}, [], root / "config")
            assert settings.scale == path.stem
            assert settings.paths.results == Path("results") / path.stem
            assert settings.paths.figures == Path("figures") / path.stem
            assert settings.paths.build == Path("build") / path.stem

    def test_a_broken_file_is_named(self, tmp_path):
        (tmp_path / "bad.yaml").write_text("a: [1\n", encoding="utf-8")
        with pytest.raises(ConfigurationError, match="bad.yaml: not valid YAML"):
            resolve({"scale": "bad"}, [], tmp_path)
        (tmp_path / "list.yaml").write_text("- 1\n", encoding="utf-8")
        with pytest.raises(ConfigurationError, match="list.yaml: expected a mapping"):
            resolve({"scale": "list"}, [], tmp_path)

    def test_an_unchanged_configuration_keeps_its_time(self, root, tmp_path):
        path = tmp_path / "results" / "config.yaml"
        settings = resolve({}, [], root / "config")
        write_if_changed(settings, path)
        before = path.stat().st_mtime_ns
        write_if_changed(settings, path)
        assert path.stat().st_mtime_ns == before
        other = resolve({"seeds": [1]}, [], root / "config")
        write_if_changed(other, path)
        assert path.stat().st_mtime_ns != before and load(path) == other

    def test_the_schema_is_the_settings_models_own(self, root):
        committed = json.loads((root / "config" / "schema.json").read_text(encoding="utf-8"))
        assert committed == Settings.model_json_schema(), (
            "write it anew: mis config --schema --output config/schema.json"
        )


class TestLibraryDigest:
    """A rule runs again when, and only when, code that it uses has changed."""

    @pytest.fixture
    def source(self, tmp_path) -> Path:
        files = {
            "mis/__init__.py": "",
            "mis/cli.py": "from mis.training import train",
            "mis/settings.py": "from mis import benchmarks",
            "mis/benchmarks.py": "",
            "mis/samples.py": "",
            "mis/training/__init__.py": "",
            "mis/training/train.py": "from mis.training.loop import run\nfrom mis import settings, cli",
            "mis/training/loop.py": "def run():\n    from ..samples import Sample",
            "mis/training/select.py": "",
            "mis/training/words.json": "[]",
            "mis/training/select.yaml": "of select.py alone",
            "mis/report/__init__.py": "",
            "mis/report/tables.py": "import mis.samples",
        }
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    def names(self, source: Path, *modules: str) -> set[str]:
        return {str(path.relative_to(source / "mis")) for path in library.files(source, *modules)}

    def test_imports_are_followed_at_any_depth(self, source):
        assert self.names(source, "mis.training.train") == {
            "__init__.py", "training/__init__.py", "training/train.py", "training/loop.py", "training/words.json",
            "samples.py",
        }  # fmt: skip

    def test_a_package_counts_whole(self, source):
        assert {"training/select.py", "training/select.yaml"} <= self.names(source, "mis.training")

    def test_settings_and_command_line_are_not_followed(self, source):
        assert self.names(source, "mis.training").isdisjoint({"settings.py", "cli.py", "benchmarks.py"})

    @pytest.mark.parametrize(
        ("changed", "trains", "draws"),
        [("training/loop.py", True, False), ("training/words.json", True, False),
         ("training/select.yaml", False, False), ("report/tables.py", False, True),
         ("samples.py", True, True), ("benchmarks.py", False, False)],
    )  # fmt: skip
    def test_a_change_reaches_those_who_use_it(self, source, changed, trains, draws):
        def digests():
            library._imports.cache_clear()
            library._content_digest.cache_clear()
            return library.digest(source, "mis.training.train"), library.digest(source, "mis.report.tables")

        before = digests()
        path = source / "mis" / changed
        content = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            path.write_text(f"# a comment\n{content}", encoding="utf-8")
            assert digests() == before
        path.write_text(f"{content}\nCHANGED = 1\n", encoding="utf-8")
        after = digests()
        assert (before[0] != after[0], before[1] != after[1]) == (trains, draws)

    def test_a_module_that_is_gone_is_an_error(self, source):
        with pytest.raises(ValueError, match="there is no module mis.nowhere"):
            library.digest(source, "mis.nowhere")

    def test_tables_do_not_depend_on_training_nor_training_on_tables(self, root):
        report = self.names(root / "src", "mis.report.tables")
        train = self.names(root / "src", "mis.training.train")
        assert not [name for name in report if name.startswith(("training/", "miniature/", "models/"))]
        assert not [name for name in train if name.startswith(("report/", "miniature/", "judges/"))]


class TestTheWholeStudy:
    """Every step at the smoke scale: the one end-to-end run that all tests share."""

    def test_everything_is_there(self, smoke_run):
        results, figures = smoke_run / "results" / "smoke", smoke_run / "figures" / "smoke"
        assert (results / "scores.csv").stat().st_size > 1000
        for number in "1 3 4 5 6 7 9 10 11 12 16 17 S1 S2".split():  # Table 2 wants an arm that smoke has not
            for form in ("csv", "md", "tex", "html"):
                assert (results / "tables" / f"table{number}.{form}").stat().st_size > 0
        for number in (*map(str, range(1, 17)), "S1", "S2"):
            assert (figures / f"figure{number}.pdf").read_bytes().startswith(b"%PDF")
            assert (figures / f"figure{number}.png").read_bytes().startswith(b"\x89PNG")
        assert (results / "headline.md").read_text(encoding="utf-8").strip()
        for name in ("claims", "shape"):
            assert all((results / f"{name}.{form}").stat().st_size > 0 for form in ("csv", "md", "tex"))
        resolved = yaml.safe_load((results / "config.yaml").read_text(encoding="utf-8"))
        assert resolved["scale"] == "smoke"

    def test_every_job_left_its_cost(self, smoke_run):
        rows = list((smoke_run / "results" / "smoke" / "benchmarks").rglob("*.tsv"))
        assert len(rows) >= 30
        for path in rows:
            header, first = path.read_text(encoding="utf-8").splitlines()[:2]
            assert float(dict(zip(header.split("\t"), first.split("\t"), strict=True))["s"]) > 0

    def test_a_rerun_has_nothing_to_do(self, smoke_run, snakemake):
        done = snakemake(smoke_run, "--cores", "2", "--config", "scale=smoke")
        assert done.code == 0 and "Nothing to be done" in done.text, done.text

    def test_another_seed_leaves_the_first_ones_work_alone(self, smoke_run, snakemake):
        done = snakemake(smoke_run, "--dry-run", "--config", "scale=smoke", "seeds=[0,1]")
        jobs = planned(done.text)
        own = ("pretrain_base", "train_arm", "respond", "judge_internvl_mini")
        assert tuple(jobs[name] for name in own) == (1, 4, 6, 1)
        assert "write_world" not in jobs

    def test_a_changed_value_reruns_those_who_use_it(self, smoke_run, snakemake):
        overlay = "training={arms: {mirage: {epochs: 2}}}"
        jobs = planned(snakemake(smoke_run, "--dry-run", "--config", "scale=smoke", overlay).text)
        assert (jobs["train_arm"], jobs["respond"]) == (1, 1)
        assert "pretrain_base" not in jobs

    def test_a_deleted_table_is_one_job(self, smoke_run, snakemake, tmp_path):
        copy = tmp_path  # as deep as the original: the paper's files are inputs by relative path
        shutil.copytree(smoke_run, copy, symlinks=True, dirs_exist_ok=True)
        table = copy / "results" / "smoke" / "tables" / "table4.csv"
        before = table.read_bytes()
        table.unlink()
        done = snakemake(copy, "--cores", "2", "--config", "scale=smoke")
        assert done.code == 0, done.text
        assert planned(done.text) == {"make_table": 1, **PDF, "all": 1, "total": 2 + len(PDF)}
        assert table.read_bytes() == before
