"""Makes a miniature base model from nothing: first eyes, then an assistant.

1. Vision stage. Vision tower, projector and word embeddings learn to predict the set of words of a caption
   (classification as in SuperClass, Huang et al., NeurIPS 2024), so that projected image tokens already lie near the
   words for what they show.
2. Assistant stage. The tower is frozen; projector and language model learn the general instruction data.

The result is kept in a cache under a digest of everything that decided it: the settings, the data's bytes, the code.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from pathlib import Path

import numpy as np
import torch

from mis import layout
from mis.code import code_digest
from mis.models.checkpoint import load_checkpoint
from mis.models.features import FeatureStore, FeatureTower, load_pixels
from mis.models.internvl import build, image_tokens
from mis.models.processing import InternVLImageProcessor, build_processor
from mis.progress import track
from mis.samples import Example
from mis.settings import Pretraining, Settings, Stage
from mis.sources import TRAINING_SOURCES
from mis.store import write_csv_atomic
from mis.training.encoding import Collator, encode
from mis.training.fit import fit

# Every text that any later stage trains on, so that no word of a label is unknown to the tokenizer.
CORPORA = (
    ("captions", "original"),
    ("general", "original"),
    ("m4_instruct", "original"),
    ("saferlhf", "original"),
    ("vlguard", "original"),
    ("vlguard", "reasoning"),
    ("mis_train", "safety_cot"),
    ("mis_train", "sorry"),
    ("mis_train", "text_only"),
    ("mis_train", "direct"),
    ("benign_pairs", "safety_cot"),
)


def corpus(settings: Settings, source: str, labels: str = "original") -> list[Example]:
    return TRAINING_SOURCES[source](settings.paths.data / source, labels)


def pretrain(settings: Settings, name: str, seed: int) -> Path:
    """Write the base checkpoint of model `name`; returns its folder.

    A model whose `source` is a folder is taken from there as it is; it must load, and its processor must fit it.
    """
    out = layout.checkpoint(settings, name, seed, "base")
    if settings.models[name].pretraining is None:
        source = Path(settings.models[name].source)
        load_checkpoint(source)
        layout.publish_folder(source, out)
        print(f"{name}: base checkpoint taken from {source}", flush=True)
        return out
    key = cache_key(settings, name, seed)
    cached = settings.paths.cache / "base" / key
    if not (cached / "model.safetensors").is_file():
        print(f"{name}, seed {seed}: pre-training (not in {settings.paths.cache}/base/{key})", flush=True)
        scratch = layout.scratch(settings, name, seed, "base") / key  # what other settings left is not taken up
        _make(settings, settings.models[name].pretraining, seed, scratch)
        layout.publish_folder(scratch / "done", cached)
        shutil.rmtree(scratch.parent, ignore_errors=True)
    else:
        print(f"{name}, seed {seed}: base checkpoint {key} taken from the cache", flush=True)
    layout.publish_folder(cached, out)
    return out


def cache_key(settings: Settings, name: str, seed: int) -> str:
    """Digest of settings, data and code: 16 hex digits. A change in any of them makes another base model."""
    digest = hashlib.sha256()
    model = settings.models[name].model_dump(mode="json")
    digest.update(json.dumps([model, seed, settings.world.model_dump(mode="json"), torch.__version__]).encode())
    for source in ("captions", "general"):
        root = settings.paths.data / source
        for path in sorted(root.rglob("*")):
            if path.is_file():
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update("\n".join(vocabulary(settings)).encode())
    for module in (
        "training/pretrain.py",
        "models/chat.py",
        "training/fit.py",
        "training/encoding.py",
        "models/internvl.py",
        "models/processing.py",
        "models/features.py",
    ):
        digest.update(code_digest(Path(__file__).parents[1] / module).encode())
    return digest.hexdigest()[:16]


def vocabulary(settings: Settings) -> list[str]:
    """The words of all training texts, sorted."""
    words: set[str] = set()
    for source, labels in CORPORA:
        for example in corpus(settings, source, labels):
            words.update(f"{example.prompt} {example.response}".split())
    return sorted(words)


def _make(settings: Settings, pretraining: Pretraining, seed: int, scratch: Path) -> None:
    torch.set_num_threads(pretraining.threads)
    torch.manual_seed(seed)
    size = settings.world.image_size
    processor = build_processor(vocabulary(settings), size, image_tokens(size, pretraining.vision.patch_size))
    model = build(pretraining, processor, size)
    eyes = scratch / "vision.pt"
    if eyes.is_file():
        print("vision stage: done before, taken up", flush=True)
        finished = torch.load(eyes, weights_only=True)
        model.load_state_dict(finished["weights"])
        curves = finished["curve"]
    else:
        curves = _vision_stage(model, processor, settings, pretraining.vision_stage, seed)
        scratch.mkdir(parents=True, exist_ok=True)
        torch.save({"weights": model.state_dict(), "curve": curves}, scratch / ".vision.pt")
        os.replace(scratch / ".vision.pt", eyes)

    examples = corpus(settings, "general")
    data = settings.paths.data
    tower = model.model.vision_tower.eval().requires_grad_(False)
    store = FeatureStore(scratch / "features", tower, processor)
    paths = [data / image for example in examples for image in example.images]
    with track(len(paths), "assistant stage: pictures") as advance:
        store.fill(paths, advance)
    stage = pretraining.assistant_stage
    model.model.vision_tower = FeatureTower()
    collator = Collator(
        processor.tokenizer.pad_token_id,
        processor.image_token_id,
        processor.image_seq_length,
        lambda names: store([data / name for name in names]),
    )
    curves += fit(
        model,
        encode(processor, examples, settings.training.max_length),
        collator,
        folder=scratch / "assistant",
        label="assistant stage",
        batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        warmup_ratio=stage.warmup_ratio,
        weight_decay=stage.weight_decay,
        seed=seed,
        max_steps=stage.steps,
        save_steps=max(1, stage.steps // 5),
        log_steps=max(1, stage.steps // 50),
    )
    model.model.vision_tower = tower
    done = scratch / "done"
    shutil.rmtree(done, ignore_errors=True)
    model.save_pretrained(done)
    processor.save_pretrained(done)
    write_csv_atomic(done / "training.csv", curves, ("step", "loss", "grad_norm"))


def _vision_stage(model, processor: InternVLImageProcessor, settings: Settings, stage: Stage, seed: int) -> list[dict]:
    """Learn to name: softmax over the vocabulary, the words of a caption sharing the target equally.

    A word's logit is the log-sum-exp over image tokens of a scaled cosine between token and word embedding: one token
    that sees the object is enough.
    """
    examples = corpus(settings, "captions")
    paths = [settings.paths.data / example.images[0] for example in examples]
    pixels = torch.cat([load_pixels(processor, paths[i : i + 1024]).half() for i in range(0, len(paths), 1024)])
    words = sorted({word for example in examples for word in example.response.split()})
    column = {word: i for i, word in enumerate(words)}
    targets = torch.zeros(len(examples), len(words))
    for row, example in enumerate(examples):
        for word in example.response.split():
            targets[row, column[word]] = 1.0
    targets /= targets.sum(1, keepdim=True)
    ids = torch.tensor(processor.tokenizer.convert_tokens_to_ids(words))

    network = model.model
    embedding = network.get_input_embeddings()
    scale = torch.nn.Parameter(torch.tensor(math.log(15.0)))
    trained = [
        *network.vision_tower.parameters(),
        *network.multi_modal_projector.parameters(),
        *embedding.parameters(),
        scale,
    ]
    optimiser = torch.optim.AdamW(trained, lr=stage.learning_rate, weight_decay=stage.weight_decay)
    warmup = max(1, round(stage.warmup_ratio * stage.steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / stage.steps)),
    )
    rng = np.random.default_rng([seed, 1])
    order, curve, start = np.empty(0, dtype=int), [], time.monotonic()
    network.train()
    for step in range(1, stage.steps + 1):
        if len(order) < stage.batch_size:
            order = np.concatenate([order, rng.permutation(len(examples))])
        batch, order = order[: stage.batch_size], order[stage.batch_size :]
        images = pixels[batch].float()
        images = torch.roll(images, tuple(rng.integers(-3, 4, 2).tolist()), (2, 3))  # a small shift, as augmentation
        tokens = network.get_image_features(pixel_values=images, return_dict=True).pooler_output
        cosine = torch.nn.functional.normalize(tokens, dim=-1) @ torch.nn.functional.normalize(embedding(ids), dim=-1).T
        logits = torch.logsumexp(cosine * scale.exp(), dim=1)
        loss = -(torch.log_softmax(logits, dim=-1) * targets[batch]).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        if step % max(1, stage.steps // 30) == 0 or step == stage.steps:
            curve.append(
                {"step": -stage.steps + step, "loss": round(loss.item(), 4), "grad_norm": round(norm.item(), 4)}
            )
            rate = step * stage.batch_size / (time.monotonic() - start)
            print(
                f"vision stage: step {step} of {stage.steps}, loss {loss.item():.4f}, {rate:.0f} pictures/s", flush=True
            )
    network.eval()
    return curve
