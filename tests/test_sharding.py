"""Training on several processes: the launch, what DeepSpeed is told, and that nothing depends on the number of them.

Two processes on the CPU talk over gloo. DeepSpeed compiles a small kernel at its first use on a machine (a minute, with
g++); later runs find it.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from isolated import Command, mis
from safetensors.torch import load_file
from tiny import ARM, MODEL, change, run_folder

from mis import layout
from mis import settings as configuration
from mis.errors import MisError
from mis.mixing import read_mixture
from mis.models.checkpoint import load_checkpoint, load_processor
from mis.models.features import Pixels
from mis.settings import Sharding
from mis.training import sharding
from mis.training.encoding import Collator, Encoded, encode
from mis.training.fit import FILLER, Encodings, LengthGroups, SamePath, filler

WHERE = ("train", ARM, "--model", MODEL, "--seed", 0, "--config")
COUNT, STEPS, SAVED, PASSES = 203, 20, 3, 2  # PASSES: of 4 samples by each of 2 processes, 16 a step


# --- Launch and numbers -----------------------------------------------------------------------------------------------


def training(**changes) -> configuration.Training:
    raw = configuration.load("config/mini.yaml").training.model_dump()
    return configuration.Training.model_validate(raw | {"features": "computed"} | changes)


def test_one_machine_needs_no_address():
    command = sharding.torchrun(Sharding(gpus=8, zero=3), ["train", "mirage"], {})
    assert command == [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=8", "--standalone", "-m", "mis", "train",
        "mirage",
    ]  # fmt: skip


def test_several_machines_are_told_apart_by_slurm_or_by_hand(monkeypatch, tmp_path):
    plan = Sharding(gpus=8, nodes=2, zero=3)
    by_hand = sharding.torchrun(plan, ["train"], {"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "7"})
    assert {"--nnodes=2", "--node-rank=1", "--master-addr=a", "--master-port=7"} <= set(by_hand)
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$3" = "gpu[3-4]" ] && printf "gpu3\\ngpu4\\n"\n', encoding="utf-8")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    slurm = {"SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "gpu[3-4]", "SLURM_JOB_ID": "20345"}
    assert {"--node-rank=0", "--master-addr=gpu3", "--master-port=20345"} <= set(sharding.torchrun(plan, [], slurm))
    with pytest.raises(MisError, match="sharding.nodes is 2: begin the command once on each machine"):
        sharding.torchrun(plan, [], {})


@pytest.mark.parametrize(
    ("size", "world", "expected"),
    [(None, 1, (32, 1)), (None, 8, (4, 1)), (2, 8, (2, 2)), (1, 1, (1, 32)), (4, 2, (4, 4))],
)
def test_the_global_batch_is_the_same_on_any_number_of_gpus(size, world, expected):
    options = training(per_device_batch_size=size, sharding={"gpus": world, "zero": 3}, precision="bf16")
    found = sharding.micro_batches(options, 32, world)
    assert found == expected
    told = sharding.deepspeed_configuration(options, *found, world)
    assert told["train_batch_size"] == 32 == told["train_micro_batch_size_per_gpu"] * found[1] * world
    assert told["bf16"] == {"enabled": True} and told["zero_optimization"]["stage"] == 3


def test_a_number_of_gpus_that_does_not_divide_the_batch_is_refused():
    with pytest.raises(MisError, match="a global batch of 32 cannot be shared out to 6 processes"):
        sharding.micro_batches(training(per_device_batch_size=2), 32, 6)
    settings = configuration.load("config/mini.yaml")
    settings = settings.model_copy(update={"training": training(sharding={"gpus": 8, "zero": 3})})
    assert sharding.with_gpus(settings, 0) is settings is sharding.with_gpus(settings, 8)
    assert sharding.with_gpus(settings, 4).training.sharding.gpus == 4, "Snakemake gave four of eight"
    with pytest.raises(MisError, match="^--gpus 5: .*global_batch_size 32 is no multiple of 5 processes"):
        sharding.with_gpus(settings, 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sharding": {"gpus": 3, "zero": 2}}, "global_batch_size 32 is no multiple of 3 processes x 1 samples"),
        ({"per_device_batch_size": 5}, "no multiple of 1 processes x 5 samples"),
        ({"attention": "flash_attention_2"}, "set precision: bf16"),
        ({"sharding": {"gpus": 2, "zero": 3}, "features": "stored"}, "set features: computed, or zero: 2"),
        (
            {"sharding": {"gpus": 2, "zero": 3}, "lora": {"rank": 1, "alpha": 1, "targets": ["q_proj"]}},
            "set sharding.zero: 2",
        ),
    ],
)
def test_a_training_that_cannot_be_is_refused_with_the_remedy(changes, words):
    with pytest.raises(ValueError, match=words):
        training(**changes)


# --- Places without a sample ------------------------------------------------------------------------------------------


def item(length: int, images: tuple[str, ...] = ()) -> Encoded:
    return Encoded(f"a/{length}", list(range(length)), length - 2, images)


def test_the_last_batch_is_filled_up_and_nothing_else_changes():
    lengths = np.random.default_rng(0).integers(10, 99, 45)
    plain, full = (list(LengthGroups(lengths, 16, 3, full=full)) for full in (False, True))
    assert full == [*plain, FILLER, FILLER, FILLER] and len(LengthGroups(lengths, 16, 3, full=True)) == 48
    assert list(LengthGroups(lengths[:32], 16, 3, full=True)) == list(LengthGroups(lengths[:32], 16, 3))


def test_the_filler_carries_no_loss_and_has_pictures_if_any_sample_has():
    items = [item(9), item(20, ("a", "b")), item(12, ("c",))]
    found = Encodings(items)[FILLER]
    assert found == replace(items[2], prompt_length=12) and Encodings(items)[1] is items[1]
    assert filler(items[:1]).images == ()
    collate = SamePath(list, found)
    assert collate(items[:1]) == [items[0], found], "a batch without pictures goes through the tower too"
    assert collate(items[1:]) == items[1:]
    assert SamePath(list, filler(items[:1]))(items[:1]) == items[:1]


# --- Two processes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Thirteen steps an epoch, the last one short; a third of the samples, and so some passes, have no picture."""
    folder = tmp_path_factory.mktemp("sharded")
    assert COUNT % 16 and -(-COUNT // 16) == 13
    arms = {ARM: {"learning_rate": 3e-3, "epochs": (STEPS + 0.5) / 13}}
    run_folder(folder, COUNT, save_steps=SAVED, arms=arms, per_device_batch_size=16)
    return folder


def processes(run: Path, kill: tuple[int, tuple[str, int]] | None = None, before=None) -> list:
    """`mis train` as two processes, as torchrun begins them; `kill` is (rank, what `isolated` takes), `before` its too.

    After a kill the other one is killed too, as torchrun does.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    commands = [
        Command(
            run, *WHERE, "sharded.yaml", kill=kill[1] if kill and kill[0] == rank else None,
            environment={**group, "RANK": str(rank), "LOCAL_RANK": str(rank)}, before=before,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    if kill:
        commands[kill[0]].process.join(240)
        commands[1 - kill[0]].kill()
    return [command.end(400) for command in commands]  # the kernel may be compiled first


def out(run: Path) -> Path:
    return run / "build/smoke/models" / MODEL / "seed0" / ARM


def curve(run: Path) -> list[tuple[float, float]]:
    with open(out(run) / "training.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    return [(float(row["loss"]), float(row["grad_norm"])) for row in rows]


def says(model, processor, run: Path) -> torch.Tensor:
    """The logits of eight samples of the mixture, some of them with pictures."""
    settings = configuration.load(run / "config.yaml")
    data = run / settings.paths.data
    see = Pixels(processor)
    items = encode(processor, read_mixture(run / layout.mixture(settings, ARM))[:8], 256, lambda name: data / name)
    batch = Collator(processor, lambda names, views=(): see([data / name for name in names], views))(items)
    assert "pixel_values" in batch
    with torch.no_grad():
        return model.eval()(**{key: value for key, value in batch.items() if key != "labels"}).logits


def keep_logits() -> None:
    """In a training process: when training is over, the logits of the network as it was trained go to logits.pt."""
    whole_network = sharding.whole_network

    def heard(engine):
        settings = configuration.load("config.yaml")
        processor = load_processor(layout.checkpoint(settings, MODEL, 0, "base"))
        logits = says(engine.module, processor, Path())  # of all processes: ZeRO-3 gathers the weights
        if sharding.is_first():
            torch.save(logits, "logits.pt")
        return whole_network(engine)

    sharding.whole_network = heard


@pytest.fixture(scope="module")
def single(run, one_thread):
    """The loss curve, the weights and the logits of one process."""
    ended = mis(run, *WHERE, "config.yaml")
    assert ended.code == 0, ended.text
    return curve(run), load_file(out(run) / "model.safetensors"), says(*load_checkpoint(out(run)), run)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [2, 3])
def test_two_processes_give_the_curve_of_one_and_resume_exactly(run, single, zero):
    """Kills: ZeRO-2 seed 2, ZeRO-3 seed 3; five steps and ranks each drawn from `random.Random(seed)`."""
    change(run, "sharded.yaml", sharding={"gpus": 2, "zero": zero}, per_device_batch_size=4)
    ended = processes(run, before=keep_logits)
    assert [one.code for one in ended] == [0, 0], ended[0].text + ended[1].text
    losses, expected = np.array(curve(run)), np.array(single[0])
    assert np.abs(losses - expected)[:, 0].max() < 1e-5
    np.testing.assert_allclose(losses[:, 1], expected[:, 1], rtol=1e-3)
    assert losses[0, 0] - losses[-1, 0] > 0.01, "it learns something"

    # The checkpoint has the names of the base's, loads like any other, and holds what was trained.
    base = load_file(out(run).parent / "base" / "model.safetensors")
    weights = load_file(out(run) / "model.safetensors")
    assert weights.keys() == base.keys() == single[1].keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, single[1][name], rtol=0, atol=1e-4)
        assert torch.equal(value, base[name]) == ("vision_tower" in name), name

    # Reloaded it says to the last bit what the trained network said, and what a single process's does.
    logits = says(*load_checkpoint(out(run)), run)
    assert torch.equal(logits, torch.load(run / "logits.pt"))
    torch.testing.assert_close(logits, single[2], rtol=0, atol=1e-4)
    assert (logits - says(*load_checkpoint(out(run).parent / "base"), run)).abs().max() > 0.1

    uninterrupted = {path.name: path.read_bytes() for path in out(run).iterdir() if path.is_file()}
    shutil.rmtree(out(run))
    dice = random.Random(zero)
    done = 0
    for step in sorted(dice.sample(range(2, STEPS + 1), 5)):
        rank, passed = dice.randrange(2), dice.randrange(PASSES)
        ended = processes(run, (rank, ("transformers:Trainer.training_step", (step - done - 1) * PASSES + passed + 1)))
        assert ended[rank].code == -signal.SIGKILL, ended[rank].text
        assert not out(run).exists()
        if done:
            assert f"checkpoint-{done}\n" in ended[0].text
        done = (step - 1) // SAVED * SAVED
    ended = processes(run)
    assert [one.code for one in ended] == [0, 0], ended[0].text + ended[1].text
    assert f"going on from build/smoke/scratch/{MODEL}/seed0/{ARM}" in ended[0].text
    assert {path.name: path.read_bytes() for path in out(run).iterdir() if path.is_file()} == uninterrupted


@pytest.mark.slow
def test_the_command_begins_its_processes_itself(run, single):
    """With half of the GPUs that the configuration asks for, in bf16, activations computed again."""
    change(
        run, "sharded.yaml", sharding={"gpus": 4, "zero": 3}, per_device_batch_size=4, precision="bf16",
        gradient_checkpointing=True, attention="flash_attention_2",
    )  # fmt: skip
    words = [str(word) for word in (*WHERE, "sharded.yaml", "--gpus", 2)]
    environment = {**os.environ, "PYTHONPATH": str(Path("src").resolve()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mis", *words], cwd=run, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "2 processes on this machine, 1 machine(s): ZeRO-3" in done.stdout
    assert done.stdout.count("flash_attention_2 is not to be had here") == 1
    losses, expected = np.array(curve(run)), np.array(single[0])
    assert 0 < np.abs(losses - expected)[:, 0].max() < 0.1
    weights = load_file(out(run) / "model.safetensors")
    assert weights.keys() == single[1].keys()
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    load_checkpoint(out(run))
