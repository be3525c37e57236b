"""The small scale at the size of a test: a pretrained language model (a tiny one) under the miniature's eyes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from test_backbone import folder  # noqa: F401  fixture: a tiny Llama with a byte-level tokenizer
from test_probes import instructed  # noqa: F401  fixture: the same with a chat template

from mis.probes.curves import points
from mis.settings import Settings, load, validate
from mis.store import read_jsonl

WORLD = {
    "captions": 120, "general": 120, "m4_instruct": 12, "saferlhf": 30, "vlguard_unsafe": 20, "vlguard_safe": 10,
    "mis_train": 30, "mis_easy": 14, "mis_hard": 13, "mis_real": 12, "benchmark": 8, "development": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(snakemake, root, instructed, tmp_path_factory) -> Path:  # noqa: F811
    """`config/small.yaml` with less of everything: the default target, and the curves of the optional arms."""
    place = tmp_path_factory.mktemp("small")
    raw = yaml.safe_load((root / "config" / "small.yaml").read_text(encoding="utf-8"))
    raw["world"] |= WORLD
    raw["paths"]["cache"] = "build/small/cache"
    raw["training"] |= {"max_length": 2048, "save_steps": 2}  # a tokenizer that knows few words spells the others
    for model in raw["models"].values():
        made = model["pretraining"]
        made["text"], made["vision"] = {"folder": str(instructed)}, made["vision"] | {"hidden_size": 32, "layers": 1}
        made["vision_stage"] |= {"steps": 3, "batch_size": 16}
        made["assistant_stage"] |= {"steps": 2, "batch_size": 8}
    raw["evaluation"] |= {"max_new_tokens": 8, "probes": {"per_relation": 1, "samples": 4, "max_new_tokens": 4}}
    raw["report"]["bootstrap_samples"] = 100
    (place / "small.yaml").write_text(yaml.safe_dump(raw))
    for targets in ((), ("development", "--config", "families=all")):
        chosen = [*targets[:1], "--cores", "2", "--configfile", str(place / "small.yaml"), *targets[1:]]
        done = snakemake(place, *chosen)
        assert done.code == 0, done.text[-4000:]
    return place / "results" / "small"


@pytest.fixture(scope="module")
def settings(run) -> Settings:
    return load(run / "config.yaml")


@pytest.mark.slow
def test_every_arm_answers_and_is_scored(run):
    scores = list(csv.DictReader((run / "scores.csv").open(encoding="utf-8")))
    arms = {"base", "textual_sft", "vlguard_p", "vlguard_r", "mirage", "mirage_balanced"}
    assert {row["method"] for row in scores} == arms
    assert {row["metric"] for row in scores} >= {"asr", "over_flagging_rate", "exact_match"}
    asked = {path.parent.name for path in (run / "responses").rglob("mis.jsonl")}
    assert asked == arms


@pytest.mark.slow
def test_what_is_measured_by_likelihood_is_there_for_every_arm_and_the_bare_model(run):
    probes = run / "probes" / "smollm_mini"
    for arm in ("base", "textual_sft", "vlguard_p", "vlguard_r", "mirage", "mirage_balanced"):
        rows = list(csv.DictReader((probes / "seed0" / arm / "separation.csv").open(encoding="utf-8")))
        assert len(rows) == 6 * 4 and {row["hazardous"] for row in rows} == {"0", "1"}
    assert (probes / "bare" / "knowledge.csv").is_file() and not (probes / "bare" / "separation.csv").exists()


@pytest.mark.slow
def test_the_curves_vary_benign_pairs_epochs_and_the_label(run):
    rows = list(csv.DictReader((run / "development" / "curves.csv").open(encoding="utf-8")))
    varied = {
        what: [row["value"] for row in rows if row["what"] == what] for what in ("benign pairs", "epochs", "label")
    }
    assert sorted(map(int, varied["benign pairs"])) == [0, 30, 30, 30]  # a smaller world gives all that it has
    assert sorted(varied["epochs"]) == ["2", "6"] and sorted(varied["label"]) == ["reasons first", "verdict first"]
    assert all(0 <= float(row["low"]) <= float(row["auc"]) <= float(row["high"]) <= 1 for row in rows)
    answered = run / "probes" / "smollm_mini" / "seed0" / "mirage" / "development" / "outcomes.csv"
    found = list(csv.DictReader(answered.open(encoding="utf-8")))
    assert {row["benchmark"] for row in found} == {"mis/easy", "mis/hard", "benign_control"} and len(found) == 3 * 4


@pytest.mark.slow
def test_the_development_split_shares_no_pair_with_training_or_test(run):
    data = run.parents[1] / "build" / "small" / "data"

    def of(root: Path, names) -> set:
        rows = [row for name in names for row in read_jsonl(root / "truth" / f"{name}.jsonl")]
        return {(row["tool"], row["target"]) for row in rows}

    tests = ("mis", "mssbench", "benign_control")
    test, development, train = of(data, tests), of(data / "development", tests), of(data, ("mis_train",))
    assert test and development and train
    assert not test & development and not train & (test | development)


def test_the_points_of_the_curves(root):
    raw = yaml.safe_load((root / "config" / "small.yaml").read_text(encoding="utf-8"))
    few, all_ = (points(validate(json.loads(json.dumps(raw | {"families": which})))) for which in ("default", "all"))
    assert few == [("smollm_mini", "mirage"), ("smollm_mini", "mirage_balanced")]
    assert ("smollm_mini_long", "mirage_balanced") in all_ and ("smollm_mini", "mirage_direct") in all_
    assert len(all_) == 6
