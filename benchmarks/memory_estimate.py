"""Does `mis plan` know how much memory a training takes? Its estimate beside measured peaks of small models on the CPU.

    python benchmarks/memory_estimate.py [--zero]

Each case trains a small InternVL without its tower (the features are given) in a process of its own: two optimiser
steps of two passes, with the study's loss. Measured is the largest resident set above that of a process that has
trained a tiny model. With `--zero` DeepSpeed shares a training between two such processes; that needs a C++ compiler
and a minute. docs/performance.md holds the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from mis.settings import Lora, Sharding, Training  # noqa: E402
from mis.sizes import Memory, ModelSize, Text, training_memory  # noqa: E402

PROJECTOR_WIDTH = 64


@dataclass(frozen=True)
class Case:
    """A training: sizes of the language model; samples of a pass, their tokens, how many of them are learnt."""

    name: str
    text: Text
    batch: int
    tokens: int
    answer: int
    checkpointing: bool = False
    bf16: bool = False
    trains: tuple[str, ...] = ("language_model", "projector")
    lora_rank: int = 0
    zero: int = 0


WIDE = Text(hidden_size=512, intermediate_size=2048, layers=8, heads=8, kv_heads=4, vocabulary=2000)
DEEP = Text(hidden_size=256, intermediate_size=768, layers=6, heads=8, kv_heads=4, vocabulary=512)
WORDY = Text(hidden_size=128, intermediate_size=256, layers=2, heads=4, kv_heads=4, vocabulary=30000)
CASES = (
    Case("weights and optimiser", WIDE, 1, 64, 16),
    Case("activations", DEEP, 4, 512, 16),
    Case("activations, checkpointing", DEEP, 4, 512, 16, checkpointing=True),
    Case("output matrix", WORDY, 2, 256, 200),
    Case("LoRA, rank 8", WIDE, 2, 256, 16, lora_rank=8),
    Case("LoRA, rank 8, checkpointing", WIDE, 2, 256, 16, lora_rank=8, checkpointing=True),
)
SHARED = (
    Case("ZeRO-2, two processes", WIDE, 1, 64, 16, bf16=True, zero=2),
    Case("ZeRO-3, two processes", WIDE, 1, 64, 16, bf16=True, zero=3),
)
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def training_of(case: Case) -> Training:
    return Training(
        global_batch_size=2 * case.batch * (2 if case.zero else 1),
        per_device_batch_size=case.batch,
        warmup_ratio=0,
        weight_decay=0,
        max_length=case.tokens,
        save_steps=1,
        threads=1,
        precision="bf16" if case.bf16 else "float32",
        gradient_checkpointing=case.checkpointing,
        features="computed" if case.zero else "stored",
        sharding=Sharding(gpus=2, zero=case.zero) if case.zero else None,
        lora=Lora(rank=case.lora_rank, alpha=16, targets=TARGETS) if case.lora_rank else None,
        arms={},
    )


def estimate(case: Case) -> Memory:
    projector = 4 * PROJECTOR_WIDTH * case.text.hidden_size + case.text.hidden_size**2
    size = ModelSize(text=case.text, projector=projector)
    return training_memory(
        size, case.trains, training_of(case), case.tokens, case.answer, tower=False, held=BUCKET if case.zero else None
    )


BUCKET = 2_000_000


def measure(case: Case) -> int:
    """Bytes at the peak of a training process, above what a process needs anyway."""
    command = [sys.executable, str(Path(__file__).resolve()), "--case", json.dumps(asdict(case))]
    if case.zero:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *command[1:]]
    # Large pieces of memory go back to the system at once, so that the resident set is what is in use.
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "0",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("peak ")]
    if done.returncode or not found:
        raise RuntimeError(done.stderr[-3000:])
    return max(int(line.split()[1]) for line in found)


def _resident() -> int:
    """Bytes at this program's peak; `ru_maxrss` would begin with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def train(case: Case) -> None:
    """Train in this process and print its peak."""
    import torch

    torch.set_num_threads(1)
    engine = _Plain if not case.zero else _DeepSpeed
    if case.zero:
        import deepspeed

        deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    tiny = Text(hidden_size=64, intermediate_size=64, layers=1, heads=2, kv_heads=1, vocabulary=64)
    _steps(
        engine, Case("", tiny, 1, 32, 4, case.checkpointing, case.bf16, case.trains, min(case.lora_rank, 4), case.zero)
    )
    before = _resident()
    _steps(engine, case)
    print(f"peak {_resident() - before}", flush=True)
    if case.zero:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _steps(engine, case: Case) -> None:
    import torch
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, LlamaConfig

    from mis.models.family import FeatureTower
    from mis.training.fit import sample_loss
    from mis.training.train import freeze

    torch.manual_seed(0)
    text, pictures = case.text, 16
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=PROJECTOR_WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
            image_size=112, patch_size=14,
        ).to_dict(),
        text_config=LlamaConfig(
            hidden_size=text.hidden_size, intermediate_size=text.intermediate_size, num_hidden_layers=text.layers,
            num_attention_heads=text.heads, num_key_value_heads=text.kv_heads, vocab_size=text.vocabulary,
        ).to_dict(),
        image_token_id=3, image_seq_length=pictures, tie_word_embeddings=False,
    )  # fmt: skip
    torch.set_default_dtype(torch.bfloat16 if case.bf16 else torch.float32)
    model = InternVLForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.model.vision_tower = FeatureTower()
    freeze(model, case.trains)
    if case.lora_rank:
        from peft import LoraConfig, inject_adapter_in_model

        model.requires_grad_(False)
        inject_adapter_in_model(LoraConfig(r=case.lora_rank, lora_alpha=16, target_modules=TARGETS), model)
    if case.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    ids = torch.randint(4, text.vocabulary, (case.batch, case.tokens))
    ids[:, :pictures] = 3
    labels = torch.full_like(ids, -100)
    labels[:, -case.answer :] = ids[:, -case.answer :]
    # The tower's output has a class token in front, which the network drops.
    features = torch.randn(case.batch, 4 * pictures + 1, PROJECTOR_WIDTH, dtype=model.dtype)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "pixel_values": features}
    update = engine(model, case)
    for _ in range(2):
        for _ in range(2):
            update.backward(sample_loss(model, inputs))
        update.step()


class _Plain:
    def __init__(self, model, case: Case):
        import torch

        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)

    def backward(self, loss) -> None:
        loss.backward()

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


class _DeepSpeed:
    """DeepSpeed as config/deepspeed/ sets it up, with buckets that suit a small model and an AdamW without copies."""

    def __init__(self, model, case: Case):
        import deepspeed
        import torch

        from mis.training.sharding import deepspeed_configuration

        parameters = [p for p in model.parameters() if p.requires_grad]
        config = deepspeed_configuration(training_of(case), case.batch, 2, 2)
        config["zero_optimization"] |= {
            "reduce_bucket_size": BUCKET, "allgather_bucket_size": BUCKET, "stage3_prefetch_bucket_size": BUCKET,
            "stage3_param_persistence_threshold": 1000, "stage3_max_live_parameters": BUCKET,
            "stage3_max_reuse_distance": BUCKET,
        }  # fmt: skip
        config |= {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
        optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
        self.engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)

    def backward(self, loss) -> None:
        self.engine.backward(loss)
        self.engine.step()

    def step(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zero", action="store_true", help="also ZeRO-2 and ZeRO-3, on two processes")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        raw = json.loads(options.case)
        return train(Case(**{**raw, "text": Text(**raw["text"]), "trains": tuple(raw["trains"])}))
    print(
        f"{'case':30}{'measured':>10}{'estimate':>10}{'':>8}   MiB: weights, gradients, optimiser, activations, logits"
    )
    for case in CASES + (SHARED if options.zero else ()):
        found, guess = measure(case), estimate(case)
        parts = [guess.weights, guess.gradients, guess.optimizer, guess.activations, guess.logits, guess.buffers]
        words = ", ".join(f"{part / 2**20:.0f}" for part in parts)
        print(
            f"{case.name:30}{found / 2**20:10.0f}{guess.total / 2**20:10.0f}{guess.total / found - 1:8.0%}   {words}",
            flush=True,
        )


if __name__ == "__main__":
    main()
