"""The notebooks: committed without outputs and without logic, and run on a finished run."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest

from mis.errors import MisError
from mis.report import notebook as nb
from mis.report.execute import execute
from mis.scoring import COLUMNS
from mis.settings import load
from mis.store import write_csv_atomic

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]


def code(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
class TestAsCommitted:
    def test_it_is_valid_and_holds_no_outputs(self, path):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                assert not cell.outputs and cell.execution_count is None
            assert not cell.metadata
        assert notebook.metadata.keys() <= {"kernelspec", "language_info"}

    def test_it_holds_no_logic_of_its_own(self, path):
        """Names for lists of arms and rates, and calls of the library; cells a reader takes in at a glance."""
        allowed = (ast.Assign, ast.Expr, ast.ImportFrom)
        for source in code(path):
            assert len(source.splitlines()) <= 6
            for node in ast.walk(ast.parse(source)):
                assert not isinstance(node, (ast.If, ast.For, ast.While, ast.FunctionDef, ast.Lambda, ast.BinOp)), (
                    source
                )
                if isinstance(node, ast.Attribute):
                    assert node.value.id in ("nb", "run"), source
            assert all(isinstance(statement, allowed) for statement in ast.parse(source).body)

    def test_its_prose_states_no_outcome_in_numbers(self, path):
        """A percentage or a decimal number in the prose would be an outcome written by hand."""
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                assert not re.search(r"\d\.\d|\d ?%", cell.source), cell.source


def test_there_are_the_three():
    assert NAMES == ["ablations", "judge_agreement", "safety_gap"]


class TestOnARun:
    """The smoke run's DAG executes them; its numbers mean nothing."""

    @pytest.mark.parametrize("name", NAMES)
    def test_it_ran_to_its_end(self, smoke_run, name):
        folder = smoke_run / "results" / "smoke" / "notebooks"
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in cells)
        assert [output for cell in cells for output in cell.outputs if output.output_type in ("error", "stream")] == []
        shown = [output.data for cell in cells for output in cell.outputs]
        assert sum("image/png" in data for data in shown) >= 2
        assert sum("|:--" in data.get("text/markdown", "") for data in shown) >= 3
        assert "execution" not in json.dumps([cell.metadata for cell in cells])  # no times
        page = (folder / f"{name}.html").read_text(encoding="utf-8")
        assert not re.search(r"""<(script|img|link)[^>]*(src|href)=["']?(https?:)?//""", page)

    @pytest.mark.slow
    def test_again_gives_the_same_bytes(self, smoke_run, tmp_path, monkeypatch):
        monkeypatch.chdir(smoke_run)
        written = execute(NOTEBOOKS[1], Path("results/smoke/config.yaml"), tmp_path)
        for path in written:
            assert path.read_bytes() == (smoke_run / "results" / "smoke" / "notebooks" / path.name).read_bytes()

    @pytest.mark.slow
    def test_a_cell_that_fails_is_named_and_nothing_written(self, smoke_run, tmp_path, monkeypatch):
        monkeypatch.chdir(smoke_run)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
        path = tmp_path / "broken.ipynb"
        nbformat.write(notebook, path)
        with pytest.raises(MisError, match="broken.ipynb: a cell failed: ZeroDivisionError"):
            execute(path, Path("results/smoke/config.yaml"), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NAMES)
    def test_the_page_opens_without_a_network(self, smoke_run, open_page, name):
        page = open_page(smoke_run / "results" / "smoke" / "notebooks" / f"{name}.html")
        assert page.locator("table").count() >= 3
        assert page.locator("img").count() >= 2
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")


class TestPieces:
    @pytest.fixture
    def run(self, smoke_run, monkeypatch):
        monkeypatch.chdir(smoke_run)
        monkeypatch.setenv("MIS_CONFIG", "results/smoke/config.yaml")
        return nb.open_run()

    def test_opened_in_a_folder_below_it_goes_up(self, smoke_run, monkeypatch):
        (smoke_run / "results").is_dir()
        monkeypatch.chdir(smoke_run / "results")
        monkeypatch.setenv("MIS_CONFIG", "results/smoke/config.yaml")
        assert nb.open_run().settings.scale == "smoke"
        assert Path.cwd() == smoke_run

    def test_arms_that_were_not_run_are_named(self, run):
        text = nb.rates(run, ["base", "vlguard_r_ddagger"], ["mis/hard asr"])
        assert "| Base" in text and "Not in this run: VLGuard-R‡." in text
        assert "not run" in nb.differences(run, [("vlguard_r_ddagger", "base")], ["mis/hard asr"])

    def test_an_arm_does_not_differ_from_itself(self, run):
        text = nb.differences(run, [("base", "base")], ["mis/hard asr", "mmstar exact_match"])
        assert text.count("equal throughout") == 2 and "higher" not in text and "lower" not in text

    def test_the_sentence_follows_the_numbers(self, run, monkeypatch):
        """An arm without an unsafe answer against one with nothing else: lower, and the paper's sign is compared."""
        keys = [f"mis/hard/{i}" for i in range(50)]
        model = run.sources.scores.models[0]
        run.outcomes = {
            (model, "mirage"): {0: dict.fromkeys(keys, "safe_reasoning")},
            (model, "base"): {0: dict.fromkeys(keys, "unsafe")},
        }
        text = nb.differences(run, [("mirage", "base")], ["mis/hard asr"], artifact="table12")
        row = [cell.strip() for cell in text.splitlines()[2].strip("|").split("|")]
        assert row[2:] == ["-100.0 (-100.0 to -100.0)", "lower", "-84.3", "yes"]
        back = nb.differences(run, [("base", "mirage")], ["mis/hard asr"])
        assert "higher" in back

    def test_each_audit_has_a_row_for_each_judge_and_none_invented(self, run, root):
        lines = [line for line in nb.audits(run).splitlines() if line.startswith("|")][2:]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        named = sorted(path.parent.name for path in (root / "tests" / "audit").glob("*/mini.jsonl"))
        assert [row[:2] for row in rows] == [
            [name, judge] for name in named for judge in ("oracle", "second", "a language model")
        ]
        for row in rows:
            if row[1] == "a language model":
                assert row[2:] == ["none yet", "", "", "", "", ""]
            else:
                assert row[2] == "220" and float(row[3].split()[0]) > 50

    def test_a_run_without_scores_says_what_to_do(self, root, tmp_path, monkeypatch):
        settings = load(root / "config" / "smoke.yaml")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(MisError, match="no scores; finish the run first"):
            nb.Run(settings).about()
        write_csv_atomic(tmp_path / "results" / "smoke" / "scores.csv", [], COLUMNS)
        with pytest.raises(MisError, match="no scores"):
            nb.Run(settings).about()
