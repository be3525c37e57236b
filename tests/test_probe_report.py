"""Tables and figures S3 and S4, drawn from small made-up files of `mis probe`."""

from __future__ import annotations

import csv
from math import exp
from pathlib import Path

import numpy as np
import pytest

from mis import layout
from mis.probes import BARE, ability, curves, knowing, separation
from mis.probes.knowledge import BENIGN, HAZARDOUS, PROBES
from mis.report.claims import scales
from mis.report.figures import FIGURES, write_figure
from mis.report.probes import Probes, roc
from mis.report.reported import ReportError
from mis.report.sources import Sources
from mis.report.tables import build_table, write_table
from mis.scoring import COLUMNS as SCORE_COLUMNS
from mis.settings import Settings, load
from mis.store import write_csv_atomic, write_text_atomic

ROOT = Path(__file__).resolve().parents[1]
MODEL, ARMS = "internvl_mini", ("base", "mirage", "mirage_balanced")
# What each arm is made to know: its AUC in ranking, and in separating pairs behind the pictures.
KNOWS = {BARE: 0.55, "base": 0.52, "mirage": 0.60, "mirage_balanced": 0.66}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    smoke = load(ROOT / "config" / "smoke.yaml")
    folders = {"data": "data", "build": "build", "results": "results", "figures": "figures"}
    paths = smoke.paths.model_copy(update={key: tmp_path / folder for key, folder in folders.items()})
    models = {MODEL: smoke.models[MODEL].model_copy(update={"arms": list(ARMS)})}
    return smoke.model_copy(update={"paths": paths, "models": models, "optional_arms": []})


def bounds(value: float) -> dict:
    return {"low": round(value - 0.05, 4), "high": round(value + 0.05, 4)}


def write_in_text(folder: Path, templates: tuple[str, ...], auc: float, helps: int, nats: float) -> None:
    rng = np.random.default_rng(0)
    rows, summary, behaviour = [], [], []
    for template in templates:
        for wording in ("neutral", "natural", "control"):
            for probe in PROBES:
                label = {"template": template, "wording": wording, "kind": probe.kind, "order": probe.order}
                rows += [
                    label | {"revised": "yes", "relation": f"{verdict}{i}", "verdict": verdict, "sub_category": "",
                             "prompts": 3, "score": round(float(rng.normal(shift, 1)), 4), "says_dangerous": 1}
                    for verdict, shift in ((HAZARDOUS, 0.2), (BENIGN, 0)) for i in range(20)
                ]  # fmt: skip
                for table, more in (("full", 0), ("revised", 0.1)) if wording != "control" else (("full", 0.3),):
                    summary.append(label | {
                        "table": table, "against": "control" if wording == "control" else "benign", "hazardous": 46,
                        "others": 122, "auc": auc + more, **bounds(auc + more), "says_dangerous_hazardous": 0.25,
                        "says_dangerous_others": 0.125, "accuracy": 0.5625,
                    })  # fmt: skip
        for table, n in (("full", 40), ("revised", 20)):
            counts = {"answers": n, "refuses": 2, "warns": n - helps // (40 // n) - 2, "helps": helps // (40 // n),
                      "empty": 0, "cut_off": 3}  # fmt: skip
            behaviour += [{"template": template, "table": table, "verdict": v} | counts for v in (HAZARDOUS, BENIGN)]
    write_csv_atomic(folder / "knowledge.csv", rows, knowing.ROW_COLUMNS)
    write_csv_atomic(folder / "knowledge_summary.csv", summary, knowing.SUMMARY_COLUMNS)
    write_csv_atomic(folder / "behaviour.csv", behaviour, knowing.BEHAVIOUR_COLUMNS)
    write_csv_atomic(folder / "ability.csv", [
        {"measure": "nats_per_token", "n": 9, "value": nats, "low": nats - 0.1, "high": nats + 0.1},
        {"measure": "nats_per_byte", "n": 9, "value": nats / 4, "low": nats / 5, "high": nats / 3},
        {"measure": "accuracy", "n": 40, "value": 0.625, "low": 0.47, "high": 0.76},
    ], ability.COLUMNS)  # fmt: skip


def write_separation(folder: Path, auc: float, seed: int = 0) -> None:
    rng, rows = np.random.default_rng(seed), []
    for benchmark, hazardous in separation.BENCHMARKS.items():
        for i in range(24):
            score = float(rng.normal(4 * (auc - 0.5) * hazardous, 1))
            values = {
                name: round(score if name != "blind_sum" else float(rng.normal()), 4) for name in separation.SCORES
            }
            rows.append(values | {
                "key": f"{benchmark}/{i}", "benchmark": benchmark, "hazardous": int(hazardous), "relation": f"r{i % 8}",
                "tool": "hammer", "target": "bank", "warning": -3, "helping": -4, "question": "how ?",
            })  # fmt: skip
    write_csv_atomic(folder / "separation.csv", rows, separation.COLUMNS)
    write_csv_atomic(folder / "separation_summary.csv", separation.summarise(rows), separation.SUMMARY_COLUMNS)


def write_probes(settings: Settings, model: str = MODEL, seeds: tuple[int, ...] = (0,)) -> None:
    """What `mis probe` writes of the bare model and of every arm, made up."""
    write_in_text(layout.probes(settings, model, None, BARE), ("internvl", "own"), KNOWS[BARE], 38, 3.0)
    for seed in seeds:
        for i, arm in enumerate(settings.arms_of(model)):
            folder, auc = layout.probes(settings, model, seed, arm), KNOWS.get(arm, 0.5) + 0.1 * seed
            write_in_text(folder, ("internvl",), auc, 36 - 6 * i, 3.1 + i / 10)
            write_separation(folder, auc, seed)


def write_development(settings: Settings) -> None:
    rows = [
        {"what": what, "value": value, "arm": f"arm{i}", "model": MODEL, "auc": 0.6 + i / 20, **bounds(0.6 + i / 20),
         "opening": 0.5, "opening_low": 0.4, "opening_high": 0.6, "asr": 10 + 5 * i, "over_flagging": 90 - 20 * i}
        for what, values in (("benign pairs", (250, 500, 1000, 2000)), ("label", ("reasons first", "verdict first")))
        for i, value in enumerate(values)
    ]  # fmt: skip
    write_csv_atomic(layout.development(settings) / "curve.csv", rows, curves.COLUMNS)


def only(records, **where) -> dict:
    (found,) = [row for row in records if all(row[key] == value for key, value in where.items())]
    return found


# --- tables


def test_knowledge_stands_beside_behaviour_for_the_bare_model_and_every_arm(settings):
    write_probes(settings)
    table = build_table("S3", settings)
    labels = [line.label for line in table.panels[0].lines if line.cells]
    assert labels == [
        "Bare language model, its own template",
        "Bare language model",
        "Base",
        "MIRage",
        "MIRage-balanced",
    ]
    where = {"head": "“safe or dangerous”, AUC", "method": "mirage"}
    assert [float(only(table.records, column=c, **where)["value"]) for c in ("the world's", "revised", "control")] == [
        0.6, 0.7, pytest.approx(0.9)
    ]  # fmt: skip
    found = only(table.records, head="hazardous relations, %", column="helps", method="mirage")
    assert (float(found["value"]), found["n"]) == (30 / 40, "40")
    assert float(found["low"]) < 0.75 < float(found["high"]), "Wilson's"
    prose = only(table.records, head="Prose", column="perplexity of a token ↓", method="base")
    assert float(prose["value"]) == pytest.approx(exp(3.1)) and float(prose["low"]) == pytest.approx(exp(3.0))


def test_separation_is_read_with_its_interval_and_stands_beside_the_rates_of_answers(settings):
    write_probes(settings)
    write_csv_atomic(layout.scores(settings), [
        {"artifact": "smoke", "model": MODEL, "method": "mirage", "benchmark": b, "split": s, "metric": m,
         "unit": "percent", "direction": "lower", "value": v, "note": "", "seed": 0, "n": 40, "failures": 0,
         "low": v - 5, "high": v + 5}
        for b, s, m, v in (("mis", "hard", "asr", 12.5), ("benign_control", "", "over_flagging_rate", 87.5))
    ], SCORE_COLUMNS)  # fmt: skip
    table = build_table("S4", settings)
    assert BARE not in {row["method"] for row in table.records}, "it sees no pictures"
    path = layout.probes(settings, MODEL, 0, "mirage") / "separation_summary.csv"
    written = only(csv.DictReader(path.open()), contrast="mis", score="score_sum")
    found = only(table.records, method="mirage", head="MIS-easy and -hard against benign pairs, AUC", column="seen")
    assert [float(found[key]) for key in ("value", "low", "high")] == [
        float(written[k]) for k in ("auc", "low", "high")
    ]
    rates = [only(table.records, method="mirage", head=head)["value"]
             for head in ("MIS-hard ASR ↓, %", "Benign pairs over-flagging ↓, %", "MIS-easy ASR ↓, %")]  # fmt: skip
    assert rates == ["0.125", "0.875", ""], "not run is empty, not zero"


def test_seeds_are_averaged_and_their_intervals_joined(settings):
    settings = settings.model_copy(update={"seeds": [0, 1]})
    write_probes(settings, seeds=(0, 1))
    arms = {each.arm: each for each in Probes(settings).all}
    found = arms["mirage"].knowledge("safe or dangerous")
    assert found[:3] == (pytest.approx(0.65), pytest.approx(0.55), pytest.approx(0.75))
    assert arms["mirage"].behaviour(HAZARDOUS)["answers"] == 80
    assert "of several seeds" in build_table("S3", settings).notes[-1]


@pytest.mark.parametrize("number", ["S3", "S4"])
def test_the_same_files_give_the_same_table_and_none_says_so(number, settings):
    paths = write_table(number, settings)
    assert "No data" in paths[1].read_text()
    write_probes(settings)
    paths = write_table(number, settings)
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_table(number, settings)] == first
    assert "No data" not in paths[1].read_text() and "MIRage-balanced" in paths[2].read_text()


def test_a_damaged_file_is_named_with_its_line(settings):
    write_probes(settings)
    path = layout.probes(settings, MODEL, 0, "base") / "ability.csv"
    write_text_atomic(path, path.read_text().replace("0.625", "many"))
    with pytest.raises(ReportError, match=r"base/ability.csv, line 4: value is 'many', not a number"):
        build_table("S3", settings)
    write_text_atomic(path, "measure,n\n")
    with pytest.raises(ReportError, match="missing column value, low, high"):
        build_table("S3", settings)


# --- figures


def test_a_roc_counts_ties_as_one_step():
    misses, hits = roc(np.array([3.0, 2, 2, 1]), np.array([True, True, False, False]))
    assert (misses.tolist(), hits.tolist()) == ([0, 0, 0.5, 1], [0, 0.5, 1, 1])


def texts(figure) -> str:
    from matplotlib.text import Text

    return "\n".join(each.get_text() for each in figure.findobj(Text))


def test_figures_show_every_arm_and_the_development_split_where_there_is_one(settings):
    write_probes(settings)
    s3, s4 = (FIGURES[number](Sources(settings)) for number in ("S3", "S4"))
    assert all(name in texts(s3) for name in ("Bare model", "MIRage-balanced", "refuses", "bits a byte"))
    bars = [bar.get_width() for bar in s3.axes[2].patches]  # hazardous relations; refuses, warns, helps, empty a row
    assert bars[:4] == [5, 0, 95, 0] and bars[8:12] == [5, 20, 75, 0]
    curve = s4.axes[0].lines[0]
    assert (curve.get_xdata()[0], curve.get_ydata()[-1]) == (0, 1)
    assert "development" not in texts(s4) and "harmless" in texts(s4)
    write_development(settings)
    figure = FIGURES["S4"](Sources(settings))
    assert "What it takes: development split" in texts(figure) and "benign pairs" in texts(figure)
    ticks = [label.get_text() for label in figure.axes[3].get_xticklabels()]
    assert ticks == ["250", "500", "1000", "2000"], "numbers in their order"
    over = next(line for line in figure.axes[3].lines if list(line.get_ydata()) == pytest.approx([0.9, 0.7, 0.5, 0.3]))
    assert list(over.get_xdata()) == [0, 1, 2, 3]


def test_figures_are_written_alike_and_say_when_there_is_nothing(settings):
    for number in ("S3", "S4"):
        assert "has no data" in texts(FIGURES[number](Sources(settings)))
    write_probes(settings)
    for number in ("S3", "S4"):
        first = [path.read_bytes() for path in write_figure(number, settings)]
        assert [path.read_bytes() for path in write_figure(number, settings)] == first


# --- claims at two scales


def write_claims(path: Path, verdicts: dict[str, str]) -> None:
    write_csv_atomic(path, [
        {"id": id, "source": "ours" if id.startswith("M") else "paper", "place": "Sec. 2", "statement": "50 % of A_b.",
         "reported": "holds", "run": word, "run_numbers": f"ASR {i}"}
        for i, (id, word) in enumerate(verdicts.items())
    ], scales.READ)  # fmt: skip


def test_verdicts_of_two_scales_stand_beside_each_other(settings, tmp_path):
    settings = settings.model_copy(update={"report": settings.report.model_copy(update={"beside": "mini"})})
    reference = tmp_path / "results" / "reference" / "mini" / "claims.csv"
    write_claims(reference, {"C01": "holds", "C02": "fails", "C99": "holds", "M01": "holds"})
    write_claims(settings.paths.results / "claims.csv", {"C01": "holds", "C02": "undecided", "M01": "fails"})
    paths = scales.write_beside(settings, tmp_path)
    rows = list(csv.DictReader(paths[0].open()))
    assert [(row["id"], row["reported"], row["mini"], row["smoke"]) for row in rows] == [
        ("C01", "holds", "holds", "holds"), ("C02", "holds", "fails", "undecided"), ("M01", "holds", "holds", "fails"),
    ]  # fmt: skip
    assert rows[1]["mini_numbers"] == "ASR 1" and rows[2]["smoke_numbers"] == "ASR 2"
    assert scales.counts(rows, "mini", "smoke")[-1] == ["all", "1", "1", "1", "3"]
    markdown, tex = (path.read_text() for path in paths[1:])
    assert "| C02 | 50 % of A_b. | holds | fails | **undecided** |" in markdown
    assert r"M01 & 50 \% of A\_b. &  & holds & \textbf{fails}" in tex, "a claim of ours has no verdict of the paper"
    write_claims(settings.paths.results / "claims.csv", {"C77": "holds"})
    with pytest.raises(ReportError, match="no claim C77"):
        scales.write_beside(settings, tmp_path)
