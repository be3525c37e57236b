"""A sentencepiece model (BPE) as a tokenizer of the `tokenizers` library, from its file alone.

`tokenizer.model` is a protobuf message; the few fields that decide how text is cut are read here, so that neither
sentencepiece nor protobuf need be installed
(https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mis.errors import MisError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6  # SentencePiece.Type
BPE = 2  # TrainerSpec.ModelType
SPACE = "▁"


@dataclass(frozen=True)
class Piece:
    text: str
    score: float
    type: int


@dataclass(frozen=True)
class SentencePieces:
    """Pieces by id, and how text is made ready for them."""

    pieces: tuple[Piece, ...]
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool

    def ids_of(self, kind: int) -> list[int]:
        return [number for number, piece in enumerate(self.pieces) if piece.type == kind]


def read_sentencepiece(path: Path) -> SentencePieces:
    """Raises :class:`MisError` for a file that is none, or that holds another model than BPE."""
    try:
        message = list(_fields(path.read_bytes()))
        pieces = [_piece(value) for number, value in message if number == 1]
        trainer = dict(_fields(_last(message, 2, b"")))
        normalizer = dict(_fields(_last(message, 3, b"")))
    except (OSError, ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise MisError(f"{path}: not a sentencepiece model ({error}); fetch it again") from error
    if not pieces:
        raise MisError(f"{path}: not a sentencepiece model (no pieces); fetch it again")
    if trainer.get(3, 1) != BPE:
        raise MisError(f"{path}: a sentencepiece model of another type than BPE, which InternLM2's is")
    return SentencePieces(
        tuple(pieces),
        charsmap=normalizer.get(2, b""),
        add_dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_whitespaces=bool(normalizer.get(4, 1)),
    )


def _last(message: list, number: int, default):
    return next((value for found, value in reversed(message) if found == number), default)


def _piece(message: bytes) -> Piece:
    fields = dict(_fields(message))
    return Piece(fields[1].decode(), struct.unpack("<f", fields.get(2, bytes(4)))[0], fields.get(3, NORMAL))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field: an integer, or the bytes of anything longer. Protobuf's wire format."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while place < len(message):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            yield number, varint()
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field of wire type {kind}")
        size = {1: 8, 5: 4}.get(kind) or varint()
        if place + size > len(message):
            raise ValueError("it is cut off")
        yield number, message[place : place + size]
        place += size


def merges_of(pieces: SentencePieces) -> list[tuple[str, str]]:
    """Pairs that make a piece, in the order in which sentencepiece joins them: the best piece's first.

    Of one piece every split counts, since either may come up.
    """
    usable = {piece.text: number for number, piece in enumerate(pieces.pieces) if piece.type == NORMAL}
    found = []
    for text, number in usable.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in usable and right in usable:
                found.append((-pieces.pieces[number].score, usable[left], usable[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def tokenizer_of(pieces: SentencePieces, renamed: dict[int, str]):
    """A `tokenizers.Tokenizer` that cuts text as sentencepiece does; ids are the pieces'.

    `renamed` gives ids another text (InternLM2's chat tokens stand on pieces kept free for them). As in the original's
    slow tokenizer, each stretch between added tokens is cut by itself, the dummy prefix included.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers

    texts = [renamed.get(number, piece.text) for number, piece in enumerate(pieces.pieces)]
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise MisError(f"the tokenizer gives {twice!r} two ids")
    unknown = pieces.ids_of(UNKNOWN)
    merges = [pair for pair in merges_of(pieces) if not set(pair) & set(renamed.values())]
    tokenizer = Tokenizer(
        models.BPE(
            {text: number for number, text in enumerate(texts)},
            merges,
            unk_token=texts[unknown[0]] if unknown else None,
            fuse_unk=True,
            byte_fallback=bool(pieces.ids_of(BYTE)),
        )
    )
    steps: list = [normalizers.Precompiled(pieces.charsmap)] if pieces.charsmap else []
    if pieces.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if pieces.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if pieces.add_dummy_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer
