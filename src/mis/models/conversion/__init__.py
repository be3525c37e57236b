"""`mis convert`: between the released `internvl_chat` layout and transformers' own InternVL, without its remote code.

`convert(source, target)` reads shard by shard and holds a few megabytes of weights at a time. What is written lies in
`.<target>.partial` until it is whole; a killed call goes on behind its last whole shard.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from mis.errors import MisError
from mis.models.conversion import internvl_chat
from mis.models.conversion.internvl_chat import Original
from mis.models.conversion.tensors import INDEX, SINGLE, Pieced, Stored, index_of, read_checkpoint, write_tensors
from mis.store import full_disk_explained, write_text_atomic

Direction = Literal["native", "internvl_chat"]
RECORD = "conversion.json"
ORIGINAL = "original"  # the original's small files, kept so that the way back finds them
KEPT = (".json", ".py", ".model", ".txt", ".jinja", ".md")
TORCH_TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def convert(
    source: Path,
    target: Path,
    *,
    to: Direction = "native",
    image_token_id: int | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Write the checkpoint in `source` to the folder `target` in the other layout.

    `image_token_id` is only for a source without a tokenizer; no processor is written then. A target that holds the
    same conversion already is left alone. Raises :class:`MisError` for anything that the other side cannot hold.
    """
    source, target = Path(source), Path(target)
    shards = read_checkpoint(source)
    made_from = _fingerprint(source, shards, to, image_token_id)
    if _done(target, made_from):
        say(f"{target}: already there")
        return
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise MisError(f"{target}: is not empty and not this conversion's; name another folder, or remove it")
    partial = target.parent / f".{target.name}.partial"
    with full_disk_explained(target.parent), _alone(partial):
        if not _same(partial / RECORD, made_from):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write_text_atomic(partial / RECORD, json.dumps(made_from, indent=2) + "\n")
        if to == "native":
            config, plan = _to_native(source, shards, image_token_id, partial, say)
        else:
            config, plan = _to_original(source, shards, partial, say)
        _write(partial, plan, say)
        write_text_atomic(partial / "config.json", _dump(config))
        if target.exists():
            target.rmdir()
        partial.rename(target)


def _dump(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def is_internvl_chat(folder: Path) -> bool:
    """Is the checkpoint in `folder` one of the released layout?"""
    return read_config(folder).get("model_type") == "internvl_chat"


def read_config(folder: Path) -> dict[str, Any]:
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise MisError(f"{path}: no configuration of a checkpoint ({error}); fetch or copy it again") from None
    return config


# --- The two directions


def _to_native(source, shards, image_token_id, partial, say) -> tuple[dict, list[tuple[str, dict[str, Pieced]]]]:
    from mis.models.conversion.processor import build_processor, has_tokenizer

    original = Original(read_config(source), str(source / "config.json"))
    layout = original.layout()
    plan = [(path.name, internvl_chat.to_native(tensors, layout)) for path, tensors in shards.items()]
    dtype = _dtype(shards)
    processor = None
    if has_tokenizer(source):
        processor = build_processor(source, original)
        if image_token_id not in (None, processor.image_token_id):
            raise MisError(
                f"{source}: its tokenizer says that <IMG_CONTEXT> is {processor.image_token_id}, not {image_token_id}; "
                "leave --image-token-id out"
            )
        image_token_id = processor.image_token_id
    elif image_token_id is None:
        raise MisError(f"{source}: no tokenizer; fetch it with the rest, or say --image-token-id (no processor then)")
    config = original.native(image_token_id, dtype)
    _check(config, plan, source)
    if processor is None:
        say(f"{source}: no tokenizer there, so no processor is written")
    else:
        if len(processor.tokenizer) > config["text_config"]["vocab_size"]:
            raise MisError(f"{source}: the tokenizer knows more tokens than the model: they are not of one checkpoint")
        processor.save_pretrained(partial)
        write_text_atomic(partial / "generation_config.json", _dump(_generation(processor.tokenizer)))
    kept = partial / ORIGINAL
    kept.mkdir(exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.suffix in KEPT and path.is_file() and path.name != INDEX:
            shutil.copyfile(path, kept / path.name)
    return config, plan


def _generation(tokenizer) -> dict[str, Any]:
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {name: number for name, number in ids.items() if number is not None}


def _to_original(source, shards, partial, say) -> tuple[dict, list[tuple[str, dict[str, Pieced]]]]:
    native = read_config(source)
    place = str(source / "config.json")
    if native.get("model_type") != "internvl":
        raise MisError(f"{place}: model_type is {native.get('model_type')!r}, not internvl")
    images = _image_processor(source)
    config = internvl_chat.original_config(native, place, _dtype(shards), images)
    layout = internvl_chat.native_layout(native)
    stored = {name: tensor for tensors in shards.values() for name, tensor in tensors.items()}
    made = internvl_chat.to_original(stored, layout)
    _check(native, [("", internvl_chat.to_native({n: _as_stored(t) for n, t in made.items()}, layout))], source)
    plan: list[tuple[str, dict[str, Pieced]]] = [(path.name, {}) for path in shards]
    for name, tensor in made.items():
        plan[list(shards).index(tensor.pieces[0].tensor.file)][1][name] = tensor
    kept = source / ORIGINAL
    if kept.is_dir():
        for path in sorted(kept.iterdir()):
            if path.name == "config.json":
                config = _over(json.loads(path.read_text(encoding="utf-8")), config)
            else:
                shutil.copyfile(path, partial / path.name)
    else:
        for pattern in ("tokenizer*", "special_tokens_map.json", "chat_template.jinja", "generation_config.json"):
            for path in sorted(source.glob(pattern)):
                shutil.copyfile(path, partial / path.name)
        say(
            f"{source}: no folder {ORIGINAL}/ beside the weights, so the original's Python files and sentencepiece "
            "model are not written; a server with an InternVL of its own needs none"
        )
    return config, plan


def _over(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What the original's file said, and over it what the native checkpoint says; the conversation format stays."""
    parts = {name: {**before.get(name, {}), **now[name]} for name in ("llm_config", "vision_config")}
    return {**before, **now, **parts, "template": before.get("template", now["template"])}


def _image_processor(source: Path) -> dict[str, Any]:
    for name in ("processor_config.json", "preprocessor_config.json"):
        path = source / name
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            content = content.get("image_processor", content)
            if "max_patches" in content:
                return content
    return {}


def _as_stored(tensor: Pieced) -> Stored:
    first = tensor.pieces[0].tensor
    return Stored(first.file, tensor.dtype, tensor.shape, 0)


def _dtype(shards: Mapping[Path, Mapping[str, Stored]]) -> str:
    """The type of most of the weights, as torch names it."""
    sizes: dict[str, int] = {}
    for tensors in shards.values():
        for tensor in tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.rows * tensor.row_bytes
    largest = max(sizes, key=sizes.__getitem__)
    if largest not in TORCH_TYPES:
        raise MisError(f"weights of type {largest}; known: {', '.join(TORCH_TYPES)}")
    return TORCH_TYPES[largest]


def _check(config: Mapping[str, Any], plan: list[tuple[str, dict[str, Pieced]]], source: Path) -> None:
    """Every tensor that transformers' network has, in its shape, and no other. The network is made without weights."""
    import torch
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    made: dict[str, Pieced] = {}
    for _, tensors in plan:
        if twice := made.keys() & tensors.keys():
            raise MisError(f"{source}: {min(twice)} is there twice")
        made |= tensors
    with torch.device("meta"):
        network = InternVLForConditionalGeneration(InternVLConfig(**config))
    wanted = {internvl_chat.hub_name(name): tuple(value.shape) for name, value in network.state_dict().items()}
    if missing := sorted(wanted.keys() - made.keys()):
        raise MisError(
            f"{source}: {len(missing)} weights are missing, the first is {missing[0]}; are all shards there?"
        )
    if unknown := sorted(made.keys() - wanted.keys()):
        raise MisError(f"{source}: {len(unknown)} weights that config.json knows nothing of, the first is {unknown[0]}")
    for name, shape in wanted.items():
        if made[name].shape != shape:
            raise MisError(
                f"{source}: {name} has shape {made[name].shape}, but config.json says {shape}: not of one checkpoint"
            )


# --- Writing


def _write(folder: Path, plan: list[tuple[str, dict[str, Pieced]]], say: Callable[[str], None]) -> None:
    plan = [(name, tensors) for name, tensors in plan if tensors]
    for number, (name, tensors) in enumerate(plan, start=1):
        if (folder / name).is_file():  # written whole by a call that was stopped later
            continue
        say(f"shard {number} of {len(plan)}: {name}, {sum(t.size for t in tensors.values()) / 2**30:.2f} GiB")
        write_tensors(folder / name, tensors)
    if [name for name, _ in plan] != [SINGLE]:
        write_text_atomic(folder / INDEX, _dump(index_of(plan)))


def _fingerprint(source: Path, shards: Mapping[Path, Any], to: str, image_token_id: int | None) -> dict[str, Any]:
    """What a conversion was made from: a half-written one of anything else is not taken up."""
    files = [*shards, *sorted(path for path in source.iterdir() if path.suffix in KEPT and path.is_file())]
    seen = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        code.update(path.read_bytes())
    return {"to": to, "image_token_id": image_token_id, "source": seen, "code": code.hexdigest()[:16]}


def _same(path: Path, made_from: Mapping[str, Any]) -> bool:
    try:
        return json.loads(path.read_text(encoding="utf-8")) == made_from
    except (OSError, ValueError):
        return False


def _done(target: Path, made_from: Mapping[str, Any]) -> bool:
    return (target / "config.json").is_file() and _same(target / RECORD, made_from)


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """One conversion to a target at a time; the lock goes with the process."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    lock = partial.with_name(f"{partial.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MisError(f"{lock}: another process is converting to this folder; wait until it ends") from None
        yield
        lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
