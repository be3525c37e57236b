"""A pretrained language model in the place of one from scratch: tokenizer, configuration and weights from a folder.

Nothing of it is changed but what pictures need: the image tokens are added behind its vocabulary, and the conversation
format is the family's.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel

from mis.errors import MisError


def load_tokenizer(folder: Path, special: dict[str, str], image_tokens: dict[str, str], chat_template: str):
    """The tokenizer in `folder` with the image tokens added and, where it lacks them, the format's `special` tokens."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, extra_special_tokens=image_tokens, padding_side="left")
    except (OSError, ValueError) as error:
        raise _unusable(folder, "tokenizer", error) from error
    needed = {name: special[name] for name in ("bos_token", "eos_token")}
    if tokenizer.pad_token is None or tokenizer.pad_token in needed.values():
        needed["pad_token"] = special["pad_token"]  # one of its own: the end of an answer is learnt, padding is not
    tokenizer.add_special_tokens(needed)
    tokenizer.chat_template = chat_template
    return tokenizer


def load_text(folder: Path) -> PreTrainedModel:
    """The language model in `folder`, float32, weights from safetensors only."""
    try:
        return AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unusable(folder, "language model", error) from error


def text_config(text: PreTrainedModel, tokenizer) -> PretrainedConfig:
    """Its configuration with room for the tokens that were added."""
    config = type(text.config)(**text.config.to_dict())
    config.vocab_size = max(config.vocab_size, len(tokenizer))
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    return config


@torch.no_grad()
def put_text(network: PreTrainedModel, text: PreTrainedModel) -> None:
    """Copy the weights of `text` into the language model of `network`; rows of added tokens stay random."""
    own = {**network.model.language_model.state_dict(prefix="model."), "lm_head.weight": network.lm_head.weight}
    for name, value in text.state_dict().items():
        own[name][: len(value)].copy_(value)


def _unusable(folder: Path, what: str, error: Exception) -> MisError:
    reason = str(error).strip().partition("\n")[0]
    return MisError(f"{folder}: no {what} can be read there ({reason}); save one there, or mend `text.folder`")
