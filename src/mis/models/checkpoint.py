"""Loading a checkpoint that transformers knows: weights from safetensors only, and a processor that fits them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor

from mis.errors import MisError
from mis.models.families import family_of  # its modules register the processors


def load_checkpoint(folder: Path):
    """(model, processor) of a checkpoint; weights from safetensors only.

    Raises :class:`MisError` that names the folder where a file is missing or damaged, or files are not of one
    checkpoint.
    """
    if not list(folder.glob("*.safetensors")):
        raise MisError(f"{folder}: no checkpoint here (no *.safetensors); run `mis pretrain` or `mis train` first")
    remedy = "remove it and run the step that makes it again (`mis pretrain`, `mis train`)"
    try:
        processor = AutoProcessor.from_pretrained(folder)
        model, found = AutoModelForImageTextToText.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (AttributeError, OSError, RuntimeError, ValueError, SafetensorError) as error:  # what damage raises there
        reason = str(error).strip().partition("\n")[0]
        raise MisError(f"{folder}: not a whole checkpoint ({reason}); {remedy}") from error
    # transformers makes up the weights that it does not find, and only prints a report.
    if wrong := sorted({*found["missing_keys"], *found["unexpected_keys"]}):
        raise MisError(f"{folder}: the weights do not fit config.json ({len(wrong)} names, as {wrong[0]}); {remedy}")
    check_fit(model, processor, folder)
    return model, processor


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
