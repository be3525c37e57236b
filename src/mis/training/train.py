"""Fine-tunes one arm from its base model: what is frozen follows `mixtures.ARMS`, the rest the configuration.

docs/training.md says what happens in a step, on one process or many.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import partial
from pathlib import Path

import torch
from transformers.utils import is_flash_attn_2_available

from mis import layout
from mis.errors import MisError
from mis.mixing import read_mixture
from mis.mixtures import ARMS
from mis.models import checkpoint_identity
from mis.models.checkpoint import load_checkpoint, save_processor
from mis.models.families import family_of
from mis.models.features import look
from mis.samples import Example, to_row
from mis.settings import ArmTraining, Settings, Training
from mis.sources.common import BLANK
from mis.sources.labels import with_thoughts
from mis.store import write_csv_atomic
from mis.training import sharding
from mis.training.encoding import Collator, encode
from mis.training.fit import fit
from mis.training.parts import freeze, prefixes
from mis.training.pretrain import pretrain


def attention_of(training: Training) -> str:
    """The implementation of attention that is to be had here."""
    if training.attention == "flash_attention_2" and not is_flash_attn_2_available():
        sharding.say(
            "flash_attention_2 is not to be had here (it wants an NVIDIA GPU and the package flash-attn): sdpa is used "
            "in its place, which computes the same with more memory and time"
        )
        return "sdpa"
    return training.attention


def locate(settings: Settings, image: str) -> Path:
    """A path of an example: below the data root, or one of the packaged blank pictures; any other is an error."""
    path = Path(image)
    if path in BLANK.values():
        return path
    if path.is_absolute() or ".." in path.parts:
        raise MisError(f"picture path {image!r} does not stay inside {settings.paths.data}; run `mis mix` again")
    return settings.paths.data / path


def train(settings: Settings, model_name: str, arm: str, seed: int) -> Path:
    """Write the checkpoint of `arm`; goes on from the last saved step of a killed run. Returns its folder.

    With `training.sharding` this is one process of several, begun by torchrun; the first one writes.
    """
    if not ARMS[arm].trained:
        raise MisError(f"{arm} answers with the untuned model's weights: nothing is trained; run `mis pretrain`")
    if ARMS[arm].from_scratch:
        return pretrain(settings, model_name, seed, arm)
    examples = read_mixture(layout.mixture(settings, arm))
    if settings.models[model_name].thinks:
        examples = with_thoughts(examples, settings.paths.data)
    out = layout.checkpoint(settings, model_name, seed, arm)
    base = layout.checkpoint(settings, model_name, seed, "base")
    options = settings.arm_training(model_name, arm)
    scratch = layout.scratch(settings, model_name, seed, arm) / run_key(settings, base, arm, options, seed, examples)
    model, processor, curve = tune(
        settings,
        base,
        examples,
        ARMS[arm].trains,
        options,
        seed=seed,
        scratch=scratch,
        features=layout.features(settings, model_name, seed),
        label=arm,
    )
    if model is None:  # another process writes
        return out
    done = scratch / "done"
    shutil.rmtree(done, ignore_errors=True)
    model.save_pretrained(done, max_shard_size="1TB")  # one file: the workflow's output
    save_processor(processor, base, done)
    write_csv_atomic(done / "training.csv", curve, ("step", "loss", "grad_norm"))
    if (scratch / "adapter").is_dir():
        shutil.copytree(scratch / "adapter", done / "adapter")
    layout.publish_folder(done, out)
    shutil.rmtree(scratch.parent, ignore_errors=True)
    return out


def run_key(settings: Settings, base: Path, arm: str, options: ArmTraining, seed: int, examples: list[Example]) -> str:
    """Digest of what decides a training, 16 hex digits: the steps of another one are never taken up."""
    training = settings.training.model_dump(mode="json", exclude={"arms", "selection"})
    hyper = options.model_dump(mode="json")
    decided = [checkpoint_identity(base), training, hyper, ARMS[arm].trains, seed, torch.__version__]
    digest = hashlib.sha256(json.dumps(decided).encode())
    digest.update(json.dumps([to_row(example) for example in examples]).encode())
    return digest.hexdigest()[:16]


def tune(
    settings: Settings,
    base: Path,
    examples: list[Example],
    trains: tuple[str, ...],
    options: ArmTraining,
    *,
    seed: int,
    scratch: Path,
    features: Path,
    label: str,
):
    """Fine-tune a copy of `base` on `examples`: (model, processor, loss curve).

    Of several processes the first returns the model, the others None in its place. With LoRA the model has the adapters
    merged; they alone are written to `scratch/adapter`.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    training = settings.training
    torch.set_num_threads(training.threads)
    torch.manual_seed(seed)
    with sharding.process_group(training.sharding) as world:
        size, passes = sharding.micro_batches(training, training.global_batch_size, world)
        deepspeed = sharding.deepspeed_configuration(training, size, passes, world) if training.sharding else None
        shares = sharding.announce(deepspeed)
        small = training.precision == "bf16" and (training.sharding or training.lora)
        model, processor = load_checkpoint(
            base, dtype=torch.bfloat16 if small else torch.float32, attention=attention_of(training)
        )
        freeze(model, trains)
        family, find = family_of(model), partial(locate, settings)
        pictures, tower = look(model, processor, features if training.features == "stored" else None)
        adapters = None
        if training.lora:
            from mis.training.lora import add_adapters, merge, publish_adapters

            adapters = add_adapters(model, training.lora, prefixes(model, trains))
        model, curve = fit(
            model,
            encode(processor, examples, training.max_length, find),
            Collator(processor, lambda names, views=(): pictures([find(name) for name in names], views)),
            folder=scratch / "checkpoints",
            label=label,
            batch_size=training.global_batch_size,
            learning_rate=options.learning_rate,
            warmup_ratio=training.warmup_ratio,
            weight_decay=training.weight_decay,
            seed=seed,
            epochs=options.epochs,
            save_steps=training.save_steps,
            log_steps=training.log_steps,
            adam_beta2=training.adam_beta2,
            size=size if training.sharding or training.per_device_batch_size else None,
            world=world,
            bf16=training.precision == "bf16",
            gradient_checkpointing=training.gradient_checkpointing,
            workers=training.workers,
            deepspeed=deepspeed,
        )
        del shares
    if model is None:
        return None, processor, curve
    if adapters:
        publish_adapters(adapters, scratch / "adapter")
        model = merge(adapters)
    if tower is not None:
        family.put_tower(model, tower)
    return model, processor, curve
