"""Training does what it did: twenty recorded steps of a tiny network of each family, and of each way to take a step."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from mis.models.families import FAMILIES
from tests.trajectories.record import HERE, STEPS, trajectory

# Recorded on one x86 machine; another one's sums may differ in the last bits, which twenty steps of AdamW enlarge.
LOSS, NORM = 2e-4, 2e-3  # absolute, relative

pytestmark = pytest.mark.usefixtures("one_thread")


def columns(rows) -> np.ndarray:
    rows = list(rows)
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    return np.array([[float(row["loss"]), float(row["grad_norm"])] for row in rows]).T


@pytest.mark.parametrize("family", FAMILIES)
def test_training_follows_the_recorded_trajectory(family, tmp_path):
    with open(HERE / f"{family}.csv", encoding="utf-8") as file:
        loss, norm = columns(csv.DictReader(file))
    assert loss[0] - loss[-1] > 0.7, "it learns"
    found = columns(trajectory(family, tmp_path))
    np.testing.assert_allclose(found[0], loss, rtol=0, atol=LOSS)
    np.testing.assert_allclose(found[1], norm, rtol=NORM)


@pytest.mark.parametrize(
    "options",
    [{"size": 2}, {"gradient_checkpointing": True}, {"workers": 1}],
    ids=["accumulation", "checkpointing", "workers"],
)
def test_how_a_step_is_taken_changes_nothing(options, tmp_path):
    (tmp_path / "plain").mkdir()
    loss, norm = columns(trajectory("internvl", tmp_path / "plain", size=8))
    found = columns(trajectory("internvl", tmp_path, **{"size": 8, **options}))
    np.testing.assert_allclose(found[0], loss, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[1], norm, rtol=1e-4)


def test_bf16_is_close_and_not_the_same(tmp_path):
    (tmp_path / "plain").mkdir()
    loss, _ = columns(trajectory("internvl", tmp_path / "plain"))
    found, _ = columns(trajectory("internvl", tmp_path, bf16=True))
    assert 0 < np.abs(found - loss).max() < 0.1
