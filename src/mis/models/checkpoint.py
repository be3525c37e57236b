"""Loading a checkpoint that transformers knows: weights from safetensors only, and a processor that fits them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, AutoProcessor

from mis.errors import MisError
from mis.models.families import FAMILIES, family_of  # its modules register the processors

ORIGIN = "origin.json"  # in a base that was not made here: where it comes from
PROCESSOR_FILES = (".json", ".jinja", ".model", ".txt")


def load_checkpoint(folder: Path, *, dtype: torch.dtype = torch.float32, attention: str | None = None):
    """(model, processor) of a checkpoint; weights from safetensors only.

    `attention` is transformers' `attn_implementation`; None leaves the choice to transformers (sdpa).
    Raises :class:`MisError` that names the folder where a file is missing or damaged, or files are not of one
    checkpoint.
    """
    if not list(folder.glob("*.safetensors")):
        raise MisError(
            f"{folder}: no checkpoint here (no *.safetensors); run `mis pretrain` or `mis train` first, or `mis model "
            "fetch` for one that comes from elsewhere"
        )
    _refuse_other_layouts(folder)
    remedy = "remove it and run the step that makes it again (`mis pretrain`, `mis model fetch`, `mis train`)"
    try:
        processor = load_processor(folder)
        model, found = AutoModelForImageTextToText.from_pretrained(
            folder,
            use_safetensors=True,
            dtype=dtype,
            attn_implementation=attention,
            output_loading_info=True,
            trust_remote_code=False,
        )
    except (AttributeError, OSError, RuntimeError, ValueError, SafetensorError) as error:  # what damage raises there
        reason = str(error).strip().partition("\n")[0]
        raise MisError(f"{folder}: not a whole checkpoint ({reason}); {remedy}") from error
    # transformers makes up the weights that it does not find, and only prints a report.
    if wrong := sorted({*found["missing_keys"], *found["unexpected_keys"]}):
        raise MisError(f"{folder}: the weights do not fit config.json ({len(wrong)} names, as {wrong[0]}); {remedy}")
    check_fit(model, processor, folder)
    return model, processor


def load_processor(folder: Path):
    """The processor of a checkpoint, as its family's class: the hub's files name one that wants torchvision."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None
    family = FAMILIES.get(kind)
    return (family.processor if family else AutoProcessor).from_pretrained(folder, trust_remote_code=False)


def save_processor(processor, base: Path, folder: Path) -> None:
    """The processor's files for a model that was trained from `base`.

    Of a base from elsewhere they are its own, so that servers read them as they read the released checkpoint.
    """
    if not (base / ORIGIN).is_file():
        processor.save_pretrained(folder)
        return
    others = ("config", "generation_config", "conversion", "model", "origin")
    for path in sorted(base.iterdir()):
        if path.suffix in PROCESSOR_FILES and not path.name.startswith(others):
            shutil.copyfile(path, folder / path.name)
    if (base / "original").is_dir():
        shutil.copytree(base / "original", folder / "original", dirs_exist_ok=True)


def _refuse_other_layouts(folder: Path) -> None:
    """A checkpoint that only its own Python code could load is not loaded: say what to do with it."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, code = config.get("model_type"), config.get("auto_map")
    except (OSError, ValueError, AttributeError):
        return  # what reads it next says what is wrong
    if kind == "internvl_chat":
        raise MisError(f"{folder}: a checkpoint in the released layout; `mis convert {folder} TARGET` makes it native")
    if code and kind not in CONFIG_MAPPING:
        raise MisError(
            f"{folder}: {kind} is none of transformers' own networks, and its Python code is not run here; see "
            "docs/models.md"
        )


def check_fit(model, processor, folder: Path) -> None:
    """A processor of another checkpoint would feed the wrong tokens without a word: refuse it."""
    config, tokenizer = model.config, processor.tokenizer
    vocabulary = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > vocabulary:
        raise MisError(
            f"{folder}: the tokenizer knows {len(tokenizer)} tokens, the model {vocabulary}: they are not of one "
            "checkpoint; copy the processor's files from where the weights came from"
        )
    family = family_of(processor)
    expected, written = family.expected_tokens(config, processor), family.image_tokens(processor)
    if (config.image_token_id, expected) != (processor.image_token_id, written):
        raise MisError(
            f"{folder}: the model expects {expected} image tokens of id {config.image_token_id}, the "
            f"processor writes {written} of id {processor.image_token_id}: they are not of one "
            "checkpoint; copy the processor's files from where the weights came from"
        )
