"""Makes a miniature base model from nothing: first eyes, then an assistant.

1. Vision stage. Vision tower, projector and word embeddings learn to predict the set of words of a caption
   (classification as in SuperClass, Huang et al., NeurIPS 2024), so that projected image tokens already lie near the
   words for what they show. Models of one shape share these eyes.
2. Assistant stage. The tower is frozen; projector and language model learn the general instruction data. An arm that
   is made from scratch (VLGuard-M) has its samples mixed into that data.

Eyes and models are kept in a cache under a digest of everything that decided them: settings, the data's bytes, code.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file

from mis import layout
from mis.code import code_digest
from mis.errors import MisError
from mis.mixing import read_mixture
from mis.mixtures import ARMS
from mis.models import checkpoint_identity
from mis.models.families import FAMILIES, family_of
from mis.models.features import FeatureStore, load_pixels
from mis.progress import track
from mis.prompts import thoughtful
from mis.samples import Example
from mis.settings import Model, Settings
from mis.sources import TRAINING_SOURCES
from mis.sources.labels import with_thoughts
from mis.store import read_jsonl, write_csv_atomic, write_text_atomic
from mis.training.encoding import Collator, encode
from mis.training.fit import fit
from mis.training.parts import freeze, prefixes

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

# What of a model's settings is known by its content instead, which the digests take.
BY_CONTENT = {"text": {"folder"}}


def corpus(settings: Settings, source: str, labels: str = "original") -> list[Example]:
    return TRAINING_SOURCES[source](settings.paths.data / source, labels)


def pretrain(settings: Settings, name: str, seed: int, arm: str = "base") -> Path:
    """Write the base checkpoint of model `name`, or that of an arm that is made from scratch; returns its folder.

    A model that is not made here is refused: `mis model fetch` takes it from where it is.
    """
    out = layout.checkpoint(settings, name, seed, arm)
    if settings.models[name].pretraining is None:
        what = f"{arm} is mixed into the data that makes {name}, but {name}" if ARMS[arm].from_scratch else name
        raise MisError(f"{what} is not made here; `mis model fetch {name}` takes it from where it is")
    key = cache_key(settings, name, seed, arm)
    cached = settings.paths.cache / "base" / key
    what = f"{name}, seed {seed}" + (f", {arm}" if arm != "base" else "")
    with _alone(cached):
        if not (cached / "model.safetensors").is_file():
            print(f"{what}: pre-training (not in {settings.paths.cache}/base/{key})", flush=True)
            scratch = layout.scratch(settings, name, seed, arm) / key  # what other settings left is not taken up
            _make(settings, name, seed, arm, scratch)
            layout.publish_folder(scratch / "done", cached)
            shutil.rmtree(scratch.parent, ignore_errors=True)
        else:
            print(f"{what}: checkpoint {key} taken from the cache", flush=True)
    layout.publish_folder(cached, out)
    return out


@contextmanager
def _alone(cached: Path) -> Iterator[None]:
    """One process at a time makes what goes to `cached`: the next one waits, and finds it there.

    Models of the same making (say, one that only trains its arms for longer) begin side by side in a run.
    """
    cached.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cached.with_suffix(".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"{cached.name} is being made by another process: waiting for it", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def cache_key(settings: Settings, name: str, seed: int, arm: str = "base") -> str:
    """Digest of settings, data and code: 16 hex digits. A change in any of them makes another model."""
    model = settings.models[name]
    made_of = model.pretraining.model_dump(mode="json", exclude=BY_CONTENT)
    decided = [model.family, model.thinks, made_of, settings.training.max_length]
    digest = _digest(settings, model, decided, seed, ("captions", "general"))
    digest.update("\n".join(vocabulary(settings, thinks=model.thinks)).encode())
    if model.thinks:
        digest.update((settings.paths.data / "thoughts" / "general.jsonl").read_bytes())
    if arm != "base":
        digest.update(layout.mixture(settings, arm).read_bytes())
    return digest.hexdigest()[:16]


def eyes_key(settings: Settings, name: str, seed: int) -> str:
    """Digest of what decides a vision stage: models that differ in their language model's depth share the eyes."""
    model = settings.models[name]
    made_of = model.pretraining.model_dump(mode="json", exclude={**BY_CONTENT, "assistant_stage": True, "lora": True})
    digest = _digest(settings, model, [model.family, made_of], seed, ("captions",))
    digest.update("\n".join(vocabulary(settings)).encode())
    return digest.hexdigest()[:16]


def _digest(settings: Settings, model: Model, decided: list, seed: int, sources: Sequence[str]):
    digest = hashlib.sha256()
    digest.update(json.dumps([decided, seed, settings.world.image_size, torch.__version__]).encode())
    if model.text_folder:
        digest.update(checkpoint_identity(model.text_folder).encode())
    for source in sources:
        root = settings.paths.data / source
        for path in sorted(root.rglob("*")):
            if path.is_file():
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    for module in (
        "training/pretrain.py",
        "models/chat.py",
        "training/fit.py",
        "training/encoding.py",
        "models/family.py",
        "models/backbone.py",
        f"models/{model.family}.py",
        "models/processing.py",
        "models/features.py",
    ):
        digest.update(code_digest(Path(__file__).parents[1] / module).encode())
    return digest


def vocabulary(settings: Settings, *, thinks: bool = False) -> list[str]:
    """The words of all training texts, sorted; with `thinks` those of the thoughts too."""
    words: set[str] = set()
    for source, labels in CORPORA:
        for example in corpus(settings, source, labels):
            words.update(f"{example.prompt} {example.response}".split())
    if thinks:
        for path in sorted((settings.paths.data / "thoughts").glob("*.jsonl")):
            for row in read_jsonl(path):
                words.update(thoughtful(row["response"], "").split())
    return sorted(words)


def _fresh(settings: Settings, name: str, seed: int, *, thinks: bool):
    """(network with random weights, processor)."""
    model, size = settings.models[name], settings.world.image_size
    family, pretraining = FAMILIES[model.family], model.pretraining
    torch.manual_seed(seed)
    options = {"text": model.text_folder} if model.text_folder else {}
    words = vocabulary(settings, thinks=thinks)
    processor = family.build_processor(words, size, pretraining.vision.patch_size, **options)
    return family.build(pretraining, processor, size), processor


def _make(settings: Settings, name: str, seed: int, arm: str, scratch: Path) -> None:
    model = settings.models[name]
    pretraining, data = model.pretraining, settings.paths.data
    torch.set_num_threads(pretraining.threads)
    eyes = _eyes(settings, name, seed)
    network, processor = _fresh(settings, name, seed, thinks=model.thinks)
    open_eyes(network, processor, eyes)

    examples = corpus(settings, "general")
    if arm != "base":
        examples += read_mixture(layout.mixture(settings, arm))
    if model.thinks:
        examples = with_thoughts(examples, data)
    family = family_of(network)
    tower = family.take_tower(network).eval().requires_grad_(False)
    store = FeatureStore(scratch / "features", tower, processor)
    paths = [data / image for example in examples for image in example.images]
    with track(len(paths), "assistant stage: pictures") as advance:
        store.fill(paths, advance)
    stage = pretraining.assistant_stage
    adapters = None
    if pretraining.attention:
        network.set_attn_implementation(pretraining.attention)
    if pretraining.lora:
        from mis.training.lora import add_adapters, merge

        network = network.to(torch.bfloat16)
        freeze(network, ("language_model",))
        adapters = add_adapters(network, pretraining.lora, prefixes(network, ("language_model",)))
        family.eyes(network)["projector"].float().requires_grad_(True)
    network, curve = fit(
        network,
        encode(processor, examples, settings.training.max_length),
        Collator(processor, lambda names: store([data / name for name in names])),
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
        bf16=pretraining.lora is not None,
    )
    family.put_tower(network, tower)
    if adapters:  # the tower too: what is trained in 16 bits must see with the same eyes
        network = merge(adapters).to(torch.bfloat16)
    done = scratch / "done"
    shutil.rmtree(done, ignore_errors=True)
    network.save_pretrained(done)
    processor.save_pretrained(done)
    shutil.copyfile(eyes / "training.csv", done / "vision_training.csv")
    write_csv_atomic(done / "training.csv", curve, ("step", "loss", "grad_norm"))


def _eyes(settings: Settings, name: str, seed: int) -> Path:
    """The folder of the trained eyes, from the cache if they were made before: `eyes.safetensors`, `words.json`."""
    key = eyes_key(settings, name, seed)
    folder = settings.paths.cache / "eyes" / key
    with _alone(folder):
        if (folder / "eyes.safetensors").is_file():
            print(f"vision stage: {key} taken from the cache", flush=True)
        else:
            _make_eyes(settings, name, seed, folder)
    return folder


def _make_eyes(settings: Settings, name: str, seed: int, folder: Path) -> None:
    network, processor = _fresh(settings, name, seed, thinks=False)
    curve = _vision_stage(network, processor, settings, name, seed)
    made = layout.scratch(settings, name, seed, "eyes") / folder.name
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    tokens = processor.tokenizer.convert_ids_to_tokens(range(len(processor.tokenizer)))
    save_file({key: value.contiguous() for key, value in _seeing(network).items()}, made / "eyes.safetensors")
    write_text_atomic(made / "words.json", json.dumps(tokens))
    write_csv_atomic(made / "training.csv", curve, ("step", "loss", "grad_norm"))
    layout.publish_folder(made, folder)
    shutil.rmtree(made.parent, ignore_errors=True)


def _seeing(network) -> dict[str, torch.Tensor]:
    """What the vision stage trains: tower, projector, word vectors (a pretrained model's it leaves as they are)."""
    weights = {
        f"{part}.{key}": value
        for part, module in family_of(network).eyes(network).items()
        for key, value in module.state_dict().items()
    }
    return weights | {"words": network.get_input_embeddings().weight.detach()}


def open_eyes(network, processor, eyes: Path) -> None:
    """Give `network` the eyes in the folder `eyes`; words that those do not know keep their random vectors."""
    weights = load_file(eyes / "eyes.safetensors")
    rows = {token: row for row, token in enumerate(json.loads((eyes / "words.json").read_text(encoding="utf-8")))}
    tokens = processor.tokenizer.convert_ids_to_tokens(range(len(processor.tokenizer)))
    known = [(own, rows[token]) for own, token in enumerate(tokens) if token in rows]
    mine, theirs = map(list, zip(*known, strict=True))
    with torch.no_grad():
        for key, value in _seeing(network).items():
            if key == "words":
                value[mine] = weights[key][theirs]
            else:
                value.copy_(weights[key])


def _spelling(tokenizer, words: Sequence[str]) -> list[list[int]]:
    """The tokens of each word as it stands within a sentence (a word-level tokenizer has one each)."""
    return [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]


def word_vectors(embedding: torch.nn.Embedding, spelling: Sequence[Sequence[int]]) -> torch.Tensor:
    """(words, width): a word's vector is the mean of its tokens'."""
    if all(len(tokens) == 1 for tokens in spelling):
        return embedding(torch.tensor([token for (token,) in spelling]))
    flat = embedding(torch.tensor([token for tokens in spelling for token in tokens]))
    rows = torch.tensor([row for row, tokens in enumerate(spelling) for _ in tokens])
    sums = torch.zeros(len(spelling), flat.shape[1]).index_add(0, rows, flat)
    return sums / torch.tensor([len(tokens) for tokens in spelling]).unsqueeze(1)


def _vision_stage(model, processor, settings: Settings, name: str, seed: int) -> list[dict]:
    """Learn to name: softmax over the vocabulary, the words of a caption sharing the target equally.

    A word's logit is the log-sum-exp over image tokens of a scaled cosine between token and word embedding: one token
    that sees the object is enough. Word embeddings are trained too, unless they are a pretrained language model's:
    those mean something already, and the eyes learn to speak to them.
    """
    stage = settings.models[name].pretraining.vision_stage
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
    spelling = _spelling(processor.tokenizer, words)
    fixed_words = settings.models[name].text_folder is not None

    network, family = model.model, family_of(model)
    embedding = network.get_input_embeddings()
    scale = torch.nn.Parameter(torch.tensor(math.log(15.0)))
    trained = [
        *(parameter for part in family.eyes(model).values() for parameter in part.parameters()),
        *(() if fixed_words else embedding.parameters()),
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
        tokens = family.project(model, processor, images)
        vectors = torch.nn.functional.normalize(word_vectors(embedding, spelling), dim=-1)
        cosine = torch.nn.functional.normalize(tokens, dim=-1) @ vectors.T
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
    if fixed_words:
        _speak_as_loud(network, embedding, spelling, family.project(model, processor, pixels[:512].float()))
    return curve


@torch.no_grad()
def _speak_as_loud(network, embedding: torch.nn.Embedding, spelling: Sequence[Sequence[int]], tokens: torch.Tensor):
    """Scale the projector so that `tokens` are as long as word vectors: naming by cosine leaves their length open.

    A language model adds to what it is given; a picture a hundred times as long as a word would drown all else.
    """
    last = [module for module in network.multi_modal_projector.modules() if isinstance(module, torch.nn.Linear)][-1]
    ratio = word_vectors(embedding, spelling).norm(dim=-1).mean() / tokens.norm(dim=-1).mean()
    last.weight.mul_(ratio)
    last.bias.mul_(ratio)
