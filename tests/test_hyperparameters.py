"""The configuration at the paper's scale trains with the hyper-parameters that the paper prints (Table 7)."""

from __future__ import annotations

import csv
from collections import Counter

import pytest

from mis.mixtures import ARMS
from mis.settings import load

# Methods of the table that are no arm here, with the reason.
NO_ARM = {"vlguard_p_dagger": "printed in Table 7 alone; no result of the paper is under that name"}


@pytest.fixture(scope="module")
def paper(root):
    return load(root / "config" / "paper.yaml")


@pytest.fixture(scope="module")
def rows(root):
    with open(root / "data" / "reported" / "table7_hyperparameters.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_printed_row_is_what_the_configuration_says(paper, rows):
    compared = Counter()
    for row in rows:
        model, arm = row["model"], row["method"]
        if arm in NO_ARM or model not in paper.models:
            continue
        options = paper.arm_training(model, arm)
        assert options is not None, (model, arm)
        printed = (float(row["learning_rate"]), float(row["epochs"]), float(row["warmup_ratio"]))
        assert (options.learning_rate, options.epochs, paper.training.warmup_ratio) == printed, (model, arm)
        compared[model] += 1
    assert compared["internvl2_5_8b"] == 8
    trained = {model for model in paper.models if any(ARMS[arm].trained for arm in paper.arms_of(model))}
    assert set(compared) >= trained & {row["model"] for row in rows}


def test_the_global_batch_is_the_same_for_every_arm_and_the_tower_is_frozen(paper):
    plan = paper.training.sharding
    world = plan.gpus * plan.nodes
    assert paper.training.global_batch_size % (world * paper.training.per_device_batch_size) == 0
    assert all("vision_tower" not in arm.trains for arm in ARMS.values())
