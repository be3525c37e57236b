"""Tokenizer and image processor of an `internvl_chat` checkpoint, as transformers' own classes; its code is not run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mis.errors import MisError
from mis.models.conversion.internvl_chat import Original
from mis.models.conversion.sentencepiece import read_sentencepiece, tokenizer_of

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
IMAGE_TOKENS = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
END_OF_TURN = "<|im_end|>"
# By the configuration's `template`: the system turn that the original's conversation.py puts in front.
SYSTEM = {
    "internvl2_5": (
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
    ),
}
# One picture stands before the text as "<image>\n"; several are numbered, as the original's documentation does.
CHAT_TEMPLATE = (
    "{begin}{{% if messages[0]['role'] != 'system' %}}<|im_start|>system\n{system}<|im_end|>\n{{% endif %}}"
    "{{% for message in messages %}}<|im_start|>{{{{ message['role'] }}}}\n"
    "{{% if message['content'] is string %}}{{{{ message['content'] }}}}{{% else %}}"
    "{{% set pictures = message['content'] | selectattr('type', 'equalto', 'image') | list | length %}}"
    "{{% set shown = namespace(number=0) %}}"
    "{{% for part in message['content'] %}}{{% if part['type'] == 'image' %}}"
    "{{% set shown.number = shown.number + 1 %}}"
    "{{% if pictures > 1 %}}Image-{{{{ shown.number }}}}: {{% endif %}}<IMG_CONTEXT>\n"
    "{{% else %}}{{{{ part['text'] }}}}{{% endif %}}{{% endfor %}}{{% endif %}}<|im_end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "vocab.json")


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def build_processor(folder: Path, original: Original):
    """The processor for the checkpoint in `folder`. Raises :class:`MisError` where its files say too little.

    The end of a turn is the end of an answer: `<|im_end|>` becomes the tokenizer's `eos_token`.
    """
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    from mis.models.processing import InternVLImageProcessor

    template = original.raw.get("template")
    if template not in SYSTEM:
        raise MisError(f"{original.place}: the template {template!r} is not known; known: {', '.join(SYSTEM)}")
    if original.raw.get("dynamic_image_size") and not original.raw.get("use_thumbnail"):
        raise MisError(f"{original.place}: tiles without a thumbnail, which transformers' image processor cannot do")
    tokenizer = load_tokenizer(folder)
    begin = tokenizer.bos_token if _begins(folder) else ""
    size = original.image_size
    images = GotOcr2ImageProcessorPil(
        size={"height": size, "width": size},
        crop_to_patches=bool(original.raw.get("dynamic_image_size", False)),
        min_patches=original.raw.get("min_dynamic_patch", 1),
        max_patches=original.raw.get("max_dynamic_patch", 6),
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
    )
    chat = CHAT_TEMPLATE.format(begin=begin, system=SYSTEM[template])
    tokenizer.chat_template = chat
    return InternVLImageProcessor(images, tokenizer, image_seq_length=original.image_seq_length, chat_template=chat)


def load_tokenizer(folder: Path):
    """The tokenizer in `folder` as a `PreTrainedTokenizerFast`, every token under the id that the original gives it."""
    from transformers import PreTrainedTokenizerFast

    config = _json(folder / "tokenizer_config.json")
    added = _added_tokens(folder, config)
    if (folder / "tokenizer.model").is_file():
        pieces = read_sentencepiece(folder / "tokenizer.model")
        known = {number: text for number, (text, _) in added.items() if number < len(pieces.pieces)}
        backend = tokenizer_of(pieces, known)
    else:
        backend = _byte_level(folder)
    _add(backend, added, folder)
    missing = [token for token in (*IMAGE_TOKENS.values(), END_OF_TURN) if backend.token_to_id(token) is None]
    if missing:
        raise MisError(f"{folder}: the tokenizer has no token {missing[0]}; is this an InternVL checkpoint?")
    special = {name: _content(config[name]) for name in ("bos_token", "unk_token", "pad_token") if config.get(name)}
    end = special.get("pad_token")
    if end is None or end == END_OF_TURN:  # what pads must not be what is learnt as the end
        special["pad_token"] = _content(config.get("eos_token") or special.get("unk_token") or "<unk>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END_OF_TURN,
        extra_special_tokens=IMAGE_TOKENS | {"video_token": _unused(backend)},
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=int(config.get("model_max_length") or 10**9),
        **special,
    )
    wrong = [number for number, (text, _) in added.items() if tokenizer.convert_tokens_to_ids(text) != number]
    if wrong:
        raise MisError(f"{folder}: {added[wrong[0]][0]!r} does not get its id {wrong[0]}; the files disagree")
    return tokenizer


def _unused(backend) -> str:
    """A token for videos, which are never shown: one that is there, so that the vocabulary does not grow."""
    return next(token for token in ("<video>", "</quad>", "</img>") if backend.token_to_id(token) is not None)


def _begins(folder: Path) -> bool:
    """Does the original put `bos_token` in front? InternLM2's tokenizer does unless told not to; Qwen2's never."""
    config = _json(folder / "tokenizer_config.json")
    return bool(config.get("add_bos_token", (folder / "tokenizer.model").is_file()))


def _byte_level(folder: Path):
    """The backend of a byte-level BPE (Qwen2's): from `tokenizer.json`, or from `vocab.json` and `merges.txt`."""
    from tokenizers import Tokenizer

    if (folder / "tokenizer.json").is_file():
        try:
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception
            raise MisError(f"{folder / 'tokenizer.json'}: cannot be read ({error}); fetch it again") from error
    from transformers import Qwen2Tokenizer

    vocabulary = _json(folder / "vocab.json")
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise MisError(f"{folder / 'merges.txt'}: cannot be read ({error.strerror}); fetch it again") from error
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    return Qwen2Tokenizer(vocab=vocabulary, merges=merges).backend_tokenizer


def _add(backend, added: Mapping[int, tuple[str, Mapping[str, Any]]], folder: Path) -> None:
    """Add the tokens behind the vocabulary one by one, so that a gap in the ids is noticed."""
    from tokenizers import AddedToken

    for number in sorted(added):
        text, options = added[number]
        flags = {name: bool(options.get(name, False)) for name in ("lstrip", "rstrip", "single_word", "normalized")}
        token = AddedToken(text, special=bool(options.get("special", True)), **flags)
        (backend.add_special_tokens if token.special else backend.add_tokens)([token])
        if backend.token_to_id(text) != number:
            raise MisError(
                f"{folder}: the added token {text!r} gets id {backend.token_to_id(text)}, not {number} as "
                "tokenizer_config.json says; ids between are missing"
            )


def _added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[int, tuple[str, Mapping[str, Any]]]:
    """Added tokens by id, with their flags."""
    found: dict[int, tuple[str, Mapping[str, Any]]] = {}
    if (folder / "added_tokens.json").is_file():
        found = {int(number): (text, {}) for text, number in _json(folder / "added_tokens.json").items()}
    for number, token in config.get("added_tokens_decoder", {}).items():
        found[int(number)] = (token["content"], token)
    return found


def _content(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else token["content"]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise MisError(f"{path}: cannot be read ({error}); fetch the checkpoint again") from error
    return value
