"""Fine-tunes one arm from its base model: what is frozen follows `mixtures.ARMS`, the rest the configuration."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import torch

from mis import layout
from mis.errors import MisError
from mis.mixing import read_mixture
from mis.mixtures import ARMS
from mis.models import checkpoint_identity
from mis.models.checkpoint import load_checkpoint
from mis.models.families import family_of
from mis.models.features import FeatureStore
from mis.samples import Example, to_row
from mis.settings import ArmTraining, Settings
from mis.sources.common import BLANK
from mis.sources.labels import with_thoughts
from mis.store import write_csv_atomic
from mis.training.encoding import Collator, encode
from mis.training.fit import fit
from mis.training.pretrain import pretrain


def freeze(model, trains: tuple[str, ...]) -> None:
    """Leave gradients only to the named parts; the vision tower never gets any."""
    parts = family_of(model).parts
    wanted = tuple(prefix for part in trains for prefix in parts[part])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(f".{prefix}." in f".{name}" for prefix in wanted))


def locate(settings: Settings, image: str) -> Path:
    """A path of an example: below the data root, or one of the packaged blank pictures; any other is an error."""
    path = Path(image)
    if path in BLANK.values():
        return path
    if path.is_absolute() or ".." in path.parts:
        raise MisError(f"picture path {image!r} does not stay inside {settings.paths.data}; run `mis mix` again")
    return settings.paths.data / path


def train(settings: Settings, model_name: str, arm: str, seed: int) -> Path:
    """Write the checkpoint of `arm`; goes on from the last saved step of a killed run. Returns its folder."""
    if not ARMS[arm].trained:
        raise MisError(f"{arm} answers with the untuned model's weights: nothing is trained; run `mis pretrain`")
    if ARMS[arm].from_scratch:
        return pretrain(settings, model_name, seed, arm)
    examples = read_mixture(layout.mixture(settings, arm))
    if settings.models[model_name].thinks:
        examples = with_thoughts(examples, settings.paths.data)
    out = layout.checkpoint(settings, model_name, seed, arm)
    base = layout.checkpoint(settings, model_name, seed, "base")
    scratch = layout.scratch(settings, model_name, seed, arm) / run_key(settings, base, arm, seed, examples)
    model, processor, curve = tune(
        settings,
        base,
        examples,
        ARMS[arm].trains,
        settings.training.arms[arm],
        seed=seed,
        scratch=scratch,
        features=layout.features(settings, model_name, seed),
        label=arm,
    )
    done = scratch / "done"
    shutil.rmtree(done, ignore_errors=True)
    model.save_pretrained(done)
    processor.save_pretrained(done)
    write_csv_atomic(done / "training.csv", curve, ("step", "loss", "grad_norm"))
    layout.publish_folder(done, out)
    shutil.rmtree(scratch.parent, ignore_errors=True)
    return out


def run_key(settings: Settings, base: Path, arm: str, seed: int, examples: list[Example]) -> str:
    """Digest of what decides a training, 16 hex digits: the steps of another one are never taken up."""
    training = settings.training.model_dump(mode="json", exclude={"arms", "selection"})
    options = settings.training.arms[arm].model_dump(mode="json")
    decided = [checkpoint_identity(base), training, options, ARMS[arm].trains, seed, torch.__version__]
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
    """Fine-tune a copy of `base` on `examples`: (model, processor, loss curve)."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    torch.set_num_threads(settings.training.threads)
    torch.manual_seed(seed)
    model, processor = load_checkpoint(base)
    freeze(model, trains)
    family = family_of(model)
    tower = family.take_tower(model).eval()
    store = FeatureStore(features, tower, processor)
    collator = Collator(processor, lambda names: store([locate(settings, name) for name in names]))
    training = settings.training
    curve = fit(
        model,
        encode(processor, examples, training.max_length),
        collator,
        folder=scratch / "checkpoints",
        label=label,
        batch_size=training.global_batch_size,
        learning_rate=options.learning_rate,
        warmup_ratio=training.warmup_ratio,
        weight_decay=training.weight_decay,
        seed=seed,
        epochs=options.epochs,
        save_steps=training.save_steps,
    )
    family.put_tower(model, tower)
    return model, processor, curve
