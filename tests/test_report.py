"""Tables, figures, statistics and comparison, on scores that are made up here and nowhere else."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mis.benchmarks import BENCHMARKS
from mis.errors import MisError
from mis.mixtures import ARMS
from mis.report import rendering
from mis.report.compare import compare
from mis.report.headline import headline
from mis.report.reported import Reported, ReportError, repository_root
from mis.report.scores import Scores, count_categories
from mis.report.sources import Sources
from mis.report.specs import SPECS
from mis.report.statistics import align, paired_difference
from mis.report.tables import TABLES, build_table, write_table
from mis.scoring import COLUMNS
from mis.settings import Settings
from mis.statistics import wilson
from mis.taxonomy import CATEGORIES

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def settings(mini: Settings) -> Settings:
    return mini


def rate(arm: str, benchmark: str, split: str, metric: str, seed: int | str) -> tuple[int, int]:
    """Made-up (successes, n) that differ from cell to cell in a fixed way."""
    n = 800 if (benchmark, split) == ("mis", "easy") else 400
    spread = sum(map(ord, f"{arm}{benchmark}{split}{metric}{seed}"))
    return spread % (n // 4 + 1), n


def score_rows(scale: str = "mini", seeds=(0,), model: str = "internvl_mini", arms=tuple(ARMS), pooled=True) -> list:
    """Rows as `mis score` writes them: one a seed and the pooled one, which of a single seed is that seed's."""
    cells = [(b.name, b.split, metric, direction) for b in BENCHMARKS for metric, direction in b.metrics]
    splits = ["taught", "untaught", "privacy_selfharm", *(f"category:{category}" for category in CATEGORIES)]
    cells += [("mis", split, metric, direction) for split in splits for metric, direction in BENCHMARKS[0].metrics]
    cells += [("vlsbench", "privacy_selfharm", "asr", "lower"), ("mm_safetybench", "privacy", "asr", "lower")]
    cells += [("average", "", "exact_match", "higher")]
    rows = []
    for arm in arms:
        for benchmark, split, metric, direction in cells:
            for seed in (*seeds, "all") if pooled else seeds:
                successes, n = rate(arm, benchmark, split, metric, seeds[0] if len(seeds) == 1 else seed)
                value, low, high = (100 * x for x in wilson(successes, n))
                rows.append(dict(zip(COLUMNS, (scale, model, arm, benchmark, split, metric, "percent", direction, value,
                                               "", seed, n, 0, low, high), strict=True)))  # fmt: skip
        if arm != "base" and pooled:
            rows.append(dict.fromkeys(COLUMNS, "") | {"artifact": scale, "model": model, "method": arm, "value": 12.5,
                        "metric": "general_data_share", "unit": "percent", "seed": "all", "n": 4000})  # fmt: skip
    return rows


def write_scores(settings: Settings, rows: list[dict]) -> Path:
    path = settings.paths.results / "scores.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def records(number: str, settings: Settings) -> list[dict[str, str]]:
    return list(build_table(number, settings).records)


def only(rows: list[dict], **wanted: str) -> dict:
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert len(found) == 1, f"{len(found)} rows with {wanted}"
    return found[0]


# --- statistics


def test_pairing_removes_the_difficulty_of_the_samples():
    rng = np.random.default_rng(0)
    first = (rng.random(400) < 0.5).astype(float)
    second = np.where(rng.random(400) < 0.05, 0.0, first)
    paired = paired_difference(first, second)
    shuffled = paired_difference(first, rng.permutation(second))
    assert paired.value == pytest.approx(first.mean() - second.mean())
    assert paired.high - paired.low < 0.4 * (shuffled.high - shuffled.low)
    assert paired.low > 0
    assert paired_difference(first, first) == (0, 0, 0)
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(first, second[:-1])


def test_align_pairs_by_key_and_refuses_a_missing_one():
    first, second = align({"b": 1, "a": 0}, {"a": 1, "b": 0})
    assert (first.tolist(), second.tolist()) == ([0, 1], [1, 0])
    with pytest.raises(ValueError, match="for example mis/easy/2"):
        align({"mis/easy/1": 1, "mis/easy/2": 1}, {"mis/easy/1": 1})


def test_a_difference_over_seeds_keeps_the_questions_shared():
    rng = np.random.default_rng(0)
    first, second = (rng.random(400) < share for share in (0.6, 0.5))
    one = paired_difference(first, second)
    three = paired_difference([first] * 3, [second] * 3)
    assert three.value == one.value
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.1)
    spread = [np.roll(np.arange(400) < n, 7 * n) for n in (80, 200, 320)]
    apart = paired_difference(spread, [second] * 3)
    assert apart.high - apart.low > 2 * (three.high - three.low)
    assert apart == paired_difference(spread, [second] * 3)


# --- the paper's numbers


def test_reported_values_are_the_printed_strings():
    reported = Reported()
    assert len(reported.values) == 885
    assert reported.get("table4", "internvl2_5_8b", "mirage", "mis", "real", "rsr").value == "100.00"
    assert reported.get("table4", "internvl2_5_8b", "textual_sft", "mis", "real", "rsr") is None
    assert reported.small_table("3")[0]["ratio_percent"] == "46.50"


def test_a_root_without_the_numbers_is_named(tmp_path):
    with pytest.raises(ReportError, match="paper_values.csv: not found"):
        repository_root(tmp_path)


@pytest.mark.parametrize("number", [n for n in SPECS if SPECS[n].artifact])
def test_every_printed_number_is_in_its_table_unchanged(number, settings):
    """Without a run: the table holds the paper's cells, all of them, as printed, and nothing else."""
    alone = settings.model_copy(update={"scale": "reported", "world": None, "models": {}})
    table = build_table(number, alone)
    printed = [(v.model, v.method, v.benchmark, v.split, v.metric, v.value) for v in Reported().of(f"table{number}")]
    identity = ("model", "method", "benchmark", "split", "metric", "reported")
    found = [tuple(row[key] for key in identity) for row in table.records if row["reported"]]
    assert sorted(found) == sorted(printed)
    assert not any(row["reproduced"] for row in table.records)
    shown = [cell.value for panel in table.panels for line in panel.lines for cell in line.cells if cell.value]
    assert sorted(shown) == sorted(value for *_, value in printed)


@pytest.mark.parametrize("number", TABLES)
def test_each_table_is_written_at_the_reported_scale(number, settings):
    alone = settings.model_copy(update={"scale": "reported", "world": None, "models": {}})
    paths = write_table(number, alone)
    assert [path.name for path in paths] == [f"table{number}.{kind}" for kind in ("csv", "md", "tex", "html")]
    rows = list(csv.DictReader(paths[0].open()))
    assert {row["scale"] for row in rows} == {"reported"}
    assert "Scale: **reported**" in paths[1].read_text() and "scale: reported" in paths[2].read_text()
    assert ("No data" in paths[1].read_text()) == number.startswith("S")


# --- a run beside them


def test_a_run_stands_beside_its_analogue_only(settings):
    write_scores(settings, score_rows())
    rows = records("1", settings)
    row = only(rows, model="internvl2_5_8b", method="vlguard_r", benchmark="figstep")
    successes, n = rate("vlguard_r", "figstep", "", "asr", 0)
    assert (row["reported"], float(row["reproduced"]), row["n"]) == ("0.60", 100 * successes / n, "400")
    assert row["run_model"] == "internvl_mini"
    others = [row for row in rows if row["model"] != "internvl2_5_8b"]
    assert others and not any(row["reproduced"] or row["run_model"] for row in others)


def test_a_method_that_is_not_run_keeps_its_reported_value(settings):
    write_scores(settings, score_rows(arms=("base", "mirage")))
    row = only(records("5", settings), method="textual_sft", benchmark="siuo")
    assert row["reported"] and not row["reproduced"]
    write_scores(settings, score_rows())
    unclear = only(records("9", settings), method="vlguard")
    assert unclear["reported"] == "87.33" and not unclear["reproduced"]


def test_our_arms_are_extra_rows_and_said_to_be_ours(settings):
    write_scores(settings, score_rows())
    for number in ("5", "6", "11", "12"):
        ours = [row for row in records(number, settings) if row["ours"] == "yes"]
        assert {row["method"] for row in ours} == {"mirage_balanced", "mirage_direct"}
        assert {row["group"] for row in ours} == {"Ours (not in the paper)"}
        assert not any(row["reported"] for row in ours) and any(row["reproduced"] for row in ours)
    assert not any(row["ours"] == "yes" for row in records("1", settings))


def test_a_model_that_the_paper_s_table_lacks_has_its_own_block(settings):
    arms = ("base", "textual_sft", "vlguard_m", "mirage", "mirage_balanced", "vanilla_cot")
    rows = score_rows() + score_rows(model="llava_mini", arms=arms) + score_rows(model="qwen2_vl_mini", arms=("base",))
    write_scores(settings, rows)
    for number in ("13", "14", "15"):
        found = records(number, settings)
        models = list(dict.fromkeys(r["model"] for r in found))
        assert models[-1] == "llava_mini" and "internvl_mini" not in models, "the main model has Tables 4 to 6"
        mine = [r for r in found if r["model"] == "llava_mini"]
        order = ["base", "vanilla_cot", "textual_sft", "vlguard_m", "mirage"]
        assert list(dict.fromkeys(r["method"] for r in mine)) == order
        assert all(r["reproduced"] and not r["reported"] and r["run_model"] == "llava_mini" for r in mine)
        assert only(found, model="qwen2_vl_7b", method="base", **column_of(mine[0]))["run_model"] == "qwen2_vl_mini"
        assert "llava_mini (not in this table of the paper)" in rendering.to_markdown(build_table(number, settings))
    assert only(records("1", settings), model="llava_1_5_13b", method="vlguard_m", benchmark="mmstar")["reproduced"]


def column_of(row: dict[str, str]) -> dict[str, str]:
    return {key: row[key] for key in ("benchmark", "split", "metric")}


def test_averages_and_shares_of_general_data_are_the_scores_own(settings):
    write_scores(settings, score_rows())
    row = only(records("6", settings), method="mirage", benchmark="average")
    successes, n = rate("mirage", "average", "", "exact_match", 0)
    assert (row["reported"], float(row["reproduced"])) == ("61.30", 100 * successes / n)
    line = next(line for line in build_table("6", settings).panels[0].lines if line.label == "MIRage")
    assert [cell.value for cell in line.cells[:2]] == ["11.1", "12.5"]
    assert line.cells[1].small == "", "a mixture has no responses to count"


def test_pooled_seeds_are_shown_and_unpooled_ones_refused(settings):
    write_scores(settings, score_rows(seeds=(0, 1)))
    row = only(records("17", settings), method="mirage")
    successes, n = rate("mirage", "advbench_suffix", "", "asr", "all")
    assert (row["seed"], float(row["reproduced"])) == ("all", 100 * successes / n)
    assert "seeds 0, 1 pooled" in "".join(build_table("17", settings).notes)
    write_scores(settings, score_rows(seeds=(0, 1), pooled=False))
    with pytest.raises(ReportError, match="no pooled row"):
        build_table("17", settings)


def test_failures_and_odd_sample_sizes_are_shown_in_the_cell(settings):
    rows = score_rows(arms=("base", "mirage"))
    odd = next(row for row in rows
               if (row["method"], row["benchmark"], row["seed"]) == ("mirage", "advbench_suffix", "all"))  # fmt: skip
    odd.update(value=2.5, low=1.0, high=4.0, n=390, failures=7)
    write_scores(settings, rows)
    line = next(line for line in build_table("17", settings).panels[0].lines if line.label == "MIRage")
    assert (line.cells[1].value, line.cells[1].small) == ("2.5", "(1.0–4.0), n = 390, 7 failed")


def test_the_best_of_a_column_follows_its_arrow(settings):
    rows = score_rows(arms=("base", "mirage"))
    for row in rows:
        if row["benchmark"] == "advbench_suffix":
            row.update(value=10.0 if row["method"] == "base" else 20.0, low=5.0, high=25.0)
    write_scores(settings, rows)
    bold = {line.label: [cell.bold for cell in line.cells] for line in build_table("17", settings).panels[0].lines[1:]}
    assert bold == {"Base": [False, True], "MIRage": [True, False]}
    table = build_table("6", settings)
    share = [line.cells[0].bold for line in table.panels[0].lines if line.cells]
    assert not any(share), "the share of general data has no better end"


def test_supplement_has_every_arm_of_the_run_and_ours_last(settings):
    write_scores(settings, score_rows())
    for number in ("S1", "S2"):
        methods = list(dict.fromkeys(row["method"] for row in records(number, settings)))
        assert set(methods) == set(ARMS) and methods[-6:-4] == ["mirage_balanced", "mirage_direct"]
    shown = {(row["benchmark"], row["metric"]) for row in records("S1", settings)}
    assert ("benign_control", "over_flagging_rate") in shown and ("mis", "asr") in shown
    splits = {row["split"] for row in records("S2", settings)}
    assert splits == {"new_object", "new_relation", "new_style", "taught", "untaught", "black_image", "white_image",
                      "no_image"}  # fmt: skip
    assert all(row["reproduced"] for row in records("S2", settings))


def test_doubtful_printed_numbers_carry_their_remark(settings):
    table = build_table("6", settings.model_copy(update={"scale": "reported"}))
    text = rendering.to_markdown(table)
    remarks = dict(table.remarks)
    cell = next(line for line in table.panels[0].lines if line.label == "Textual SFT†").cells[3]
    assert cell.value == "48.38" and "swapped" in remarks[cell.mark]
    assert f"48.38[^{cell.mark}]" in text and f"[^{cell.mark}]: " in text


# --- Tables 3 and 7


def test_table_3_counts_easy_and_hard(settings):
    mis = settings.paths.data / "mis"
    mis.mkdir(parents=True)
    sample = {"category": "Hate", "sub_category": "Gender Discrimination"}
    (mis / "mis_easy.json").write_text(json.dumps([sample, {"category": "Violent", "sub_category":
                                                            "Weapon-Related Violence"}]))  # fmt: skip
    (mis / "mis_hard.json").write_text(json.dumps([sample, sample]))
    (mis / "mis_real.json").write_text(json.dumps([sample]))
    rows = records("3", settings)
    assert only(rows, category="Hate", sub_category="")["reproduced_samples"] == "3"
    gender = only(rows, sub_category="Gender Discrimination")
    assert (gender["reported_samples"], gender["reproduced_ratio_percent"]) == ("13", "75.00")
    assert only(rows, category="Erotic", sub_category="")["reproduced_samples"] == "0"
    (mis / "mis_hard.json").write_text(json.dumps([{"category": "Hate", "sub_category": "Hats"}]))
    with pytest.raises(ReportError, match="Hats"):
        build_table("3", settings)
    (mis / "mis_hard.json").write_text("[{")
    with pytest.raises(ReportError, match="mis_hard.json.*mis construct"):
        count_categories(mis)


def test_table_7_takes_the_run_from_its_configuration_and_mixtures(settings):
    datasheet = settings.paths.build / "mixtures" / "datasheet.csv"
    datasheet.parent.mkdir(parents=True)
    datasheet.write_text("arm,source,kind,labels,samples\nvlguard_r,vlguard,safety,reasoning,20\n"
                         "vlguard_r,vlguard,benign,original,15\nvlguard_r,m4_instruct,general,,5\n")  # fmt: skip
    rows = [row for row in records("7", settings) if row["method"] == "vlguard_r"]
    mine = {row["hyperparameter"]: (row["reported"], row["reproduced"])
            for row in rows if row["model"] == "internvl2_5_8b"}  # fmt: skip
    arm = settings.training.arms["vlguard_r"]
    assert mine["general_data_percent"] == ("33.33", "50.00")
    assert mine["learning_rate"][0] == "5e-6" and float(mine["learning_rate"][1]) == arm.learning_rate
    assert mine["epochs"] == ("3", f"{arm.epochs:g}")
    assert not any(row["reproduced"] for row in rows if row["model"] != "internvl2_5_8b")


# --- bad input


def test_unknown_table_lists_the_known_ones(settings):
    with pytest.raises(ReportError, match=r"unknown table '20'; known: 1, 2, .*19, S1, S2, S3, S4"):
        write_table("20", settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "n/a"}, "line 2: value is 'n/a'"),
        ({"low": "nan"}, "line 2: low is 'nan'"),
        ({"artifact": "paper"}, "scores of scale 'paper' in a run of 'mini'"),
    ],
)
def test_bad_scores_are_refused_with_file_and_line(settings, change, message):
    rows = score_rows()
    rows[0].update(change)
    path = write_scores(settings, rows)
    with pytest.raises(ReportError, match=message) as error:
        build_table("1", settings)
    assert str(path) in str(error.value)


def test_damaged_scores_are_refused(settings):
    path = write_scores(settings, score_rows())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1]]))
    with pytest.raises(ReportError, match="stands twice"):
        build_table("1", settings)
    path.write_text("\n".join([*lines[:-1], lines[-1][:20]]))
    with pytest.raises(ReportError, match=f"line {len(lines)}: 15 cells expected"):
        build_table("1", settings)
    path.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    with pytest.raises(ReportError, match="missing column high"):
        build_table("1", settings)


def test_two_models_for_one_row_are_refused(settings):
    write_scores(settings, score_rows() + score_rows(model="internvl2_5_8b"))
    with pytest.raises(ReportError, match="both stand for internvl2_5_8b"):
        build_table("1", settings)


def test_a_model_of_the_paper_stands_for_itself(settings):
    write_scores(settings, score_rows(model="qwen2_vl_7b"))
    rows = [row for row in records("13", settings) if row["reproduced"]]
    assert {row["model"] for row in rows} == {"qwen2_vl_7b"}


# --- rendering


def test_latex_and_markdown_are_escaped():
    nasty = r"a_b & 50% \input{x} $1 #2 ~ ^ {y} | *c* <b> [d](e)"
    line = rendering.Line(nasty, (rendering.Text(nasty),))
    panel = rendering.Panel("", nasty, (rendering.Head(nasty),), (line,))
    table = rendering.Table("1", nasty, nasty, (panel,), (nasty,), (("a", nasty),), ({"x": nasty},))
    tex, markdown = rendering.to_latex(table), rendering.to_markdown(table)
    escaped = rendering.escape_latex(nasty)
    assert escaped.startswith(r"a\_b \& 50\% \textbackslash{}input\{x\} \$1 \#2")
    body = "\n".join(tex.splitlines()[1:])
    assert tex.splitlines()[0].startswith("% ") and r"\input" not in body and body.count(escaped) >= 6
    assert "<b>" not in markdown.replace(r"\<b>", "") and r"\[d\](e)" in markdown
    row = next(line for line in markdown.splitlines() if line.startswith("| a_b") and "---" not in line)
    assert row.replace(r"\|", "").count("|") == 3


@pytest.mark.parametrize("number", TABLES)
def test_markdown_rows_have_equal_columns_and_latex_rows_too(number, settings):
    write_scores(settings, score_rows())
    _, markdown, tex, *_ = write_table(number, settings)
    for block in markdown.read_text().split("\n\n"):
        rows = [line.count("|") for line in block.splitlines() if line.startswith("|")]
        assert len(set(rows)) <= 1
    body = tex.read_text()
    assert body.count("{") - body.count(r"\{") == body.count("}") - body.count(r"\}")
    assert body.count(r"\begin{") == body.count(r"\end{")
    for panel in build_table(number, settings).panels:
        width = sum(len(head.parts) for head in panel.heads)
        assert {len(line.cells) for line in panel.lines} <= {0, width}


def test_a_full_disk_leaves_the_old_table(settings, monkeypatch):
    import os

    old = write_table("17", settings)[1].read_bytes()
    write_scores(settings, score_rows())
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MisError, match="table17.csv"):
        write_table("17", settings)
    folder = settings.paths.results / "tables"
    assert (folder / "table17.md").read_bytes() == old
    assert sorted(p.suffix for p in folder.iterdir()) == [".csv", ".html", ".md", ".tex"]


# --- figures


def test_figure_4_takes_the_sites_numbers_and_the_runs(settings):
    from mis.report.figures import FIGURES

    write_scores(settings, score_rows())
    figure = FIGURES["4"](Sources(settings))
    heights = [round(bar.get_height(), 2) for bar in figure.axes[3].patches]  # RSR, MIS-easy
    printed = [float(Reported().get("website_figure4", "internvl2_5_8b", method, "mis", "easy", "rsr").value)
               for method in ("base", "textual_sft", "vlguard_r", "mirage")]  # fmt: skip
    assert heights[0::2] == printed and printed[-1] == 99.34
    run = [100 * successes / n for method in ("base", "textual_sft", "vlguard_r", "mirage")
           for successes, n in [rate(method, "mis", "easy", "rsr", 0)]]  # fmt: skip
    assert heights[1::2] == pytest.approx(run, abs=0.01)


def test_figures_are_written_and_repeatable(settings):
    from mis.report.figures import FIGURES, write_figure

    write_scores(settings, score_rows())
    for number in ("5", "S1"):
        pdf, png = write_figure(number, settings)
        first = pdf.read_bytes(), png.read_bytes()
        write_figure(number, settings)
        assert (pdf.read_bytes(), png.read_bytes()) == first
        assert first[0].startswith(b"%PDF") and b"CreationDate" not in first[0]
    with pytest.raises(ReportError, match=f"known: {', '.join(FIGURES)}"):
        write_figure("17", settings)


def test_a_figure_without_data_says_so(settings):
    from mis.report.figures import FIGURES

    for number in ("9", "S1"):
        figure = FIGURES[number](Sources(settings))
        assert any("has no data" in text.get_text() for text in figure.axes[0].texts)
    alone = FIGURES["4"](Sources(settings.model_copy(update={"scale": "reported"})))
    assert len(alone.axes[0].patches) == 4


def test_the_safe_rate_counts_no_failure_as_safe(settings):
    from mis.report.figures import _safe_rate

    rows = [row for row in score_rows(arms=("base",)) if row["split"] == "category:Hate"]
    for row in rows:
        row.update(value={"asr": 50.0, "rsr": 20.0, "rr": 10.0, "hr": 5.0}[row["metric"]], failures=60)
    write_scores(settings, rows)
    assert _safe_rate(Sources(settings), "internvl_mini", "base", "category:Hate") == 35.0


# --- comparison and headline


def test_equal_runs_compare_as_identical(settings, tmp_path):
    path = write_scores(settings, score_rows())
    reference = tmp_path / "reference.csv"
    reference.write_bytes(path.read_bytes())
    comparison = compare(settings, reference=reference)
    cells = len(score_rows())
    seed_0 = sum(row["seed"] == 0 for row in score_rows())
    assert f"{seed_0} of {seed_0} cells identical" in comparison.summary()
    rows = list(csv.DictReader((settings.paths.results / "comparison.csv").open()))
    assert len(rows) == cells and {row["identical"] for row in rows} == {"yes"}
    assert {row["overlap"] for row in rows if row["low"]} == {"yes"}
    assert float(rows[0]["width"]) == pytest.approx(float(rows[0]["high"]) - float(rows[0]["low"]))


def test_a_moved_cell_is_found_and_a_lost_one_counted(settings, tmp_path):
    reference = tmp_path / "reference.csv"
    rows = score_rows(arms=("base", "mirage"), seeds=(0, 1))
    reference.write_bytes(write_scores(settings, rows).read_bytes())
    fresh = score_rows(arms=("base", "mirage"))[:-1]
    moved = next(row for row in fresh if (row["method"], row["split"], row["metric"]) == ("mirage", "hard", "asr"))
    moved.update(value=90.0, low=87.0, high=93.0)
    write_scores(settings, fresh)
    comparison = compare(settings, reference=reference)
    apart = [d for d in comparison.same_seed if d.overlap is False]
    assert [d.key for d in apart] == [("internvl_mini", "mirage", "mis", "hard", "asr")]
    assert sum(d.identical for d in comparison.same_seed) == len(comparison.same_seed) - 1
    assert comparison.missing == (("internvl_mini", "mirage", "", "", "general_data_share", "all"),)
    assert not comparison.new
    assert {d.reference.seed for d in comparison.pooled} == {"all"}, "one seed is held against all of the reference"
    text = (settings.paths.results / "comparison.md").read_text()
    assert "MIRage, MIS-hard ASR" in text and "90.0 (87.0–93.0)" in text


def test_without_a_reference_the_comparison_says_so(settings, tmp_path):
    write_scores(settings, score_rows(arms=("base",)))
    comparison = compare(settings, reference=tmp_path / "none.csv")
    assert "Nothing to compare" in comparison.summary()
    assert "Nothing to compare" in (settings.paths.results / "comparison.md").read_text()
    (settings.paths.results / "scores.csv").unlink()
    with pytest.raises(ReportError, match="scores.csv: not found"):
        compare(settings, reference=tmp_path / "none.csv")


def test_headline_shows_places_and_numbers(settings):
    write_scores(settings, score_rows())
    write_table("17", settings)
    text = headline(settings)
    assert f"{settings.paths.results / 'tables'} (1)" in text
    row = next(line for line in text.splitlines() if line.startswith("MIRage-balanced"))
    for where in (("mis", "hard", "asr"), ("benign_control", "", "over_flagging_rate")):
        successes, n = rate("mirage_balanced", *where, 0)
        assert f"{100 * successes / n:.1f} (" in row
    assert "Scale: **mini**" in (settings.paths.results / "headline.md").read_text()


def test_headline_without_scores_says_so(settings):
    assert "Nothing is reproduced" in headline(settings.model_copy(update={"scale": "reported"}))


def test_scores_of_an_absent_file_are_empty(tmp_path):
    from mis.report.reported import read_analogues

    scores = Scores(tmp_path / "scores.csv", read_analogues())
    assert (scores.models, scores.run_model("internvl2_5_8b")) == ([], None)


def test_a_table_needs_neither_torch_nor_pandas_nor_matplotlib():
    code = ("import sys, mis.report.tables, mis.report.headline, mis.report.compare; "
            "print([m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules])")  # fmt: skip
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"
