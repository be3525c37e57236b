"""Base models that were not made here: fetched from the hub, or taken from a folder, and converted where need be.

`B/models/<model>/base` is one for all seeds. What is fetched lies in the cache, by repository and commit, and is pinned
by `config/models.lock.json` as the datasets are by theirs (:mod:`mis.data.lock`).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mis import layout
from mis.data import lock
from mis.data.remote import Hub as Repository
from mis.data.remote import RemoteFile, is_right
from mis.errors import MisError
from mis.models.conversion import convert, is_internvl_chat, read_config
from mis.progress import track
from mis.settings import Cutting, Hub, Model, Settings
from mis.store import full_disk_explained, write_text_atomic

LOCK = Path("config/models.lock.json")
# Of a repository only what transformers reads; no pickles, which could run code, and nothing in folders.
WANTED = (".safetensors", ".json", ".model", ".txt", ".jinja", ".py")


def take(settings: Settings, name: str, lock_path: Path = LOCK) -> Path:
    """Write the base checkpoint of model `name`; returns its folder. A stopped call goes on where it was.

    Raises :class:`MisError` where the source is not there, is not of the family that the configuration names, or would
    run Python code that nobody has read.
    """
    model = settings.models[name]
    if not layout.is_taken(settings, name):
        raise MisError(f"models.{name}: nothing to fetch; it is made here (`mis pretrain`) or served")
    if isinstance(model.source, Hub):
        source, origin = _fetch(settings, name, model.source, lock_path)
    else:
        source = Path(model.source)
        if not source.is_dir():
            raise MisError(f"models.{name}.source: {source} is not a folder; put a checkpoint there, or name another")
        origin = {"folder": str(source)}
    out = layout.checkpoint(settings, name, 0, "base")
    staged = out.with_name(".base.staged")
    with full_disk_explained(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        if is_internvl_chat(source):
            convert(source, staged, say=lambda line: print(f"{name}: {line}", flush=True))
        else:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir()
            for path in sorted(source.iterdir()):
                if path.is_file() and path.suffix in WANTED:
                    _link(path, staged / path.name)
        _check_family(name, model, staged)
        if model.family != "remote":
            _settle(staged, model.cutting)
        from mis.models.checkpoint import ORIGIN

        write_text_atomic(staged / ORIGIN, json.dumps(origin, indent=2) + "\n")
        shutil.rmtree(out, ignore_errors=True)
        staged.rename(out)
    print(f"{name}: base checkpoint from {origin.get('hub', origin.get('folder'))} in {out}", flush=True)
    return out


def _link(source: Path, target: Path) -> None:
    """Weights are not copied where they need not be: they are never written in place."""
    if source.suffix == ".safetensors":
        try:
            return os.link(source.resolve(), target)
        except OSError:
            pass  # another file system
    shutil.copyfile(source, target)


def _check_family(name: str, model: Model, folder: Path) -> None:
    kind = read_config(folder).get("model_type")
    if model.family != "remote" and kind != model.family:
        raise MisError(f"models.{name}.family is {model.family}, but the checkpoint says {kind}: name its own family")


def _settle(folder: Path, cutting: Cutting | None) -> None:
    """Lay the configuration's `cutting` over the image processor's, and see that network and processor fit.

    The network is built from its configuration without weights, so that this costs no memory.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from mis.models.checkpoint import check_fit, load_processor

    if cutting is not None:
        _cut(folder, cutting)
    try:
        processor = load_processor(folder)
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            network = AutoModelForImageTextToText.from_config(config)
    except (AttributeError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MisError(f"{folder}: not a whole checkpoint ({reason}); see docs/models.md") from error
    check_fit(network, processor, folder)


def _cut(folder: Path, cutting: Cutting) -> None:
    """Change what the image processor's file says; the rest of it stays."""
    for path in (folder / "processor_config.json", folder / "preprocessor_config.json"):
        if not path.is_file():
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        images = content.get("image_processor", content)
        if "image_processor_type" not in images:
            continue
        if cutting.max_tiles is not None:
            images["max_patches"] = cutting.max_tiles
        if cutting.min_pixels or cutting.max_pixels:
            size = images.get("size") or {}
            low = cutting.min_pixels or images.pop("min_pixels", None) or size.get("shortest_edge")
            high = cutting.max_pixels or images.pop("max_pixels", None) or size.get("longest_edge")
            images |= {"size": {"shortest_edge": low, "longest_edge": high}}
            images.pop("min_pixels", None)
            images.pop("max_pixels", None)
        path.unlink()  # it may be a link to the fetched file
        write_text_atomic(path, json.dumps(content, indent=2) + "\n")
        return
    raise MisError(f"{folder}: no file of an image processor there, so `cutting` cannot be laid over it")


# --- The hub


def _fetch(settings: Settings, name: str, source: Hub, lock_path: Path) -> tuple[Path, dict[str, Any]]:
    """(folder in the cache, where it came from)."""
    repository = Repository(source.hub, kind="model")
    if source.remote_code and source.revision is None:
        raise MisError(
            f"models.{name}.source: the checkpoint's Python code is run only at a commit whose code somebody has read: "
            f"read it at {repository.address}, then set `revision` to that commit"
        )
    entry = lock.read(lock_path).get(source.hub)
    pinned = entry is not None and source.revision in (None, entry["commit"])
    commit = entry["commit"] if pinned else source.revision or repository.commit()
    folder = settings.paths.cache / "hub" / source.hub.replace("/", "--") / commit
    files: Mapping[str, RemoteFile]
    if pinned:
        files = {path: RemoteFile(known["size"]) for path, known in entry["files"].items()}
    else:
        files = {path: file for path, file in repository.files(commit).items() if _wanted(path)}
    if not any(path.endswith(".safetensors") for path in files):
        raise MisError(f"{repository.address}: no weights in safetensors at {commit}; name a repository that has them")
    _room(folder, files)
    found = {}
    with track(
        len(files), f"fetch {source.hub} ({sum(file.size or 0 for file in files.values()) / 1e9:.2f} GB)"
    ) as done:
        for path in sorted(files):
            target, known = folder / path, entry["files"][path] if pinned else None
            if not is_right(target, files[path], known):
                target.unlink(missing_ok=True)
                repository.download(path, commit, target, files[path].size)
                if not is_right(target, files[path], known):
                    target.unlink(missing_ok=True)
                    raise MisError(
                        f"{target}: has another checksum than {lock_path if pinned else repository.address} says; it "
                        "was removed: run the same command again"
                    )
            found[path] = known or lock.facts(target)
            done(1)
    if not pinned:
        lock.write(lock_path, source.hub, {"commit": commit, "files": found})
        print(f"{source.hub}: newly pinned to {commit} in {lock_path}; keep that file", file=sys.stderr, flush=True)
    return folder, {"hub": source.hub, "commit": commit}


def _wanted(path: str) -> bool:
    return "/" not in path and path.endswith(WANTED)


def _room(folder: Path, files: Mapping[str, RemoteFile]) -> None:
    """Say at once that the disk is too small, not after an hour."""
    there = {path: folder / path for path in files}
    missing = sum(file.size or 0 for path, file in files.items() if not there[path].is_file())
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if missing > free:
        raise MisError(f"{folder}: {missing / 1e9:.1f} GB are to be fetched, {free / 1e9:.1f} GB are free; make room")
