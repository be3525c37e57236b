"""Training on several processes, one a GPU: how they begin, what DeepSpeed is told, how their weights come together.

The launch is in one place: `mis train` begins itself anew under torchrun where the configuration shards a training.
Nothing heavy is imported before a process group exists.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from mis.errors import MisError
from mis.settings import Settings, Sharding, Training

CONFIGURATIONS = Path(__file__).resolve().parents[3] / "config" / "deepspeed"


def in_group() -> bool:
    """Was this process begun by torchrun?"""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first() -> bool:
    """Is this the one process that writes files and speaks?"""
    return int(os.environ.get("RANK", "0")) == 0


def with_gpus(settings: Settings, gpus: int) -> Settings:
    """`settings` with `gpus` processes a machine; checked again, because the global batch must stay what it is."""
    if not gpus or settings.training.sharding is None or gpus == settings.training.sharding.gpus:
        return settings
    raw = settings.training.model_dump()
    raw["sharding"]["gpus"] = gpus
    try:
        training = Training.model_validate(raw)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise MisError(
            f"--gpus {gpus}: {reason}; ask for a number that divides it (with Snakemake: --resources gpu=N)"
        ) from None
    return settings.model_copy(update={"training": training})


def torchrun(sharding: Sharding, words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command that begins this machine's processes, each of them `mis WORDS`.

    On several machines it is run once on each. Which one this is and where the first is found say NODE_RANK,
    MASTER_ADDR and MASTER_PORT, or else SLURM's own variables; raises :class:`MisError` where neither does.
    """
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={sharding.gpus}"]
    if sharding.nodes == 1:
        command += ["--standalone"]
    else:
        rank = environment.get("NODE_RANK", environment.get("SLURM_NODEID"))
        address = environment.get("MASTER_ADDR") or _first_host(environment.get("SLURM_JOB_NODELIST"))
        if rank is None or address is None:
            raise MisError(
                f"training.sharding.nodes is {sharding.nodes}: begin the command once on each machine, by srun, or "
                "with NODE_RANK (0, 1, ...) and MASTER_ADDR (the first machine) set"
            )
        port = environment.get("MASTER_PORT") or str(20000 + int(environment.get("SLURM_JOB_ID", "0")) % 20000)
        command += [f"--nnodes={sharding.nodes}", f"--node-rank={rank}"]
        command += [f"--master-addr={address}", f"--master-port={port}"]
    return [*command, "-m", "mis", *words]


def _first_host(nodes: str | None) -> str | None:
    if not nodes:
        return None
    shown = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    return shown.stdout.split()[0]


def begin_processes(sharding: Sharding, words: Sequence[str]) -> None:
    """Become torchrun with this machine's processes, each of them `mis WORDS`. Does not return."""
    command = torchrun(sharding, words, os.environ)
    print(f"{sharding.gpus} processes on this machine, {sharding.nodes} machine(s): ZeRO-{sharding.zero}", flush=True)
    sys.stdout.flush()
    os.execv(command[0], command)


def micro_batches(training: Training, global_batch_size: int, world: int) -> tuple[int, int]:
    """(samples of a process's pass, passes a step): their product with the processes is the global batch, always.

    `world` is the number of processes that there are, whatever was asked for.
    """
    size = training.per_device_batch_size or max(1, global_batch_size // world)
    passes, rest = divmod(global_batch_size, size * world)
    if rest or not passes:
        raise MisError(
            f"a global batch of {global_batch_size} cannot be shared out to {world} processes in passes of {size}: "
            "change training.per_device_batch_size or the number of GPUs"
        )
    return size, passes


def deepspeed_configuration(training: Training, size: int, passes: int, world: int) -> dict:
    """What DeepSpeed is told: the file of the ZeRO stage in `config/deepspeed/` and the numbers of this training.

    Numbers instead of "auto": ZeRO-3 shares the weights out while they are read, before the trainer could fill them in.
    """
    path = CONFIGURATIONS / f"zero{training.sharding.zero}.json"
    try:
        stage = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MisError(f"{path}: cannot be read ({error}); run from a whole checkout") from None
    return stage | {
        "train_batch_size": size * passes * world,
        "train_micro_batch_size_per_gpu": size,
        "gradient_accumulation_steps": passes,
        "gradient_clipping": 1.0,  # the trainer compares it with its own
        "bf16": {"enabled": training.precision == "bf16"},
        "steps_per_print": 1_000_000_000,  # the loss curve is ours
    }


def announce(deepspeed: dict | None):
    """Tell transformers of DeepSpeed: while the returned object lives, ZeRO-3 shares weights out as they are read."""
    if deepspeed is None:
        return None
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    return HfDeepSpeedConfig(deepspeed)


@contextmanager
def process_group(sharding: Sharding | None) -> Iterator[int]:
    """The number of processes, between the begin and the orderly end of their group; 1 without sharding.

    The group exists before the model is loaded: ZeRO-3 shares weights out while they are read. At the end all wait for
    each other and leave together: without that, some two-process runs aborted at exit.
    """
    if sharding is None:
        yield 1
        return
    import deepspeed
    import torch
    from accelerate.state import AcceleratorState, PartialState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    wanted = sharding.gpus * sharding.nodes
    if int(os.environ["WORLD_SIZE"]) != wanted:
        raise MisError(
            f"{os.environ['WORLD_SIZE']} processes run, but the configuration has {wanted}: use `mis train --gpus`"
        )
    # ninja, with which DeepSpeed builds a kernel, lies beside Python; the environment need not be activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    deepspeed.init_distributed(dist_backend="nccl" if gpu else "gloo", verbose=False)
    yield torch.distributed.get_world_size()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    unset_hf_deepspeed_config()
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


def say(*words: object) -> None:
    """Print a line, in the first process alone."""
    if is_first():
        print(*words, flush=True)


def whole_network(engine):
    """A network with the trained weights, whole and on the CPU: in the first process; None in the others.

    All processes must call it. With ZeRO-2 it is the engine's own network, in every process. With ZeRO-3 it is built
    anew from the configuration and filled by name, strictly: saved from the shards, text weights of InternVL came out
    under wrong names.
    """
    from transformers.initialization import no_init_weights
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    network = engine.module
    if not engine.zero_optimization_partition_weights():
        engine.destroy()
        for tensor in [*network.parameters(), *network.buffers()]:
            tensor.data = tensor.data.cpu().clone()  # no longer parts of one flat buffer
        return network if is_first() else None
    weights = engine._zero3_consolidated_16bit_state_dict()
    if weights is None:
        return None
    unset_hf_deepspeed_config()  # else the new network would be shared out too
    with no_init_weights():
        whole = type(network)._from_config(network.config, dtype=next(iter(weights.values())).dtype)
    whole.load_state_dict(weights, strict=True)
    whole.tie_weights()
    whole.generation_config = network.generation_config
    return whole
