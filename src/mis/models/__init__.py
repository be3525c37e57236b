"""One small interface to anything that answers: a batch of samples in, an answer each out."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from mis.errors import MisError
from mis.samples import Sample, Turn

CHECKPOINT_FILES = (
    "*.safetensors", "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What came back for one sample. `finish_reason` is stop, length, filtered or failed; `error` says why.

    `tokens` counts what was generated, the end token included (0: unknown); `trace` are the turns of a way of asking.
    """

    text: str
    finish_reason: str = "stop"
    error: str = ""
    tokens: int = 0
    trace: tuple[Turn, ...] = ()


class AnsweringModel(Protocol):
    """`answer` returns one :class:`Answer` a sample, in order.

    What fails for one sample (a refusal of the service, a time-out) is an answer with `finish_reason` "failed". An
    exception ends the run; what was answered before is kept.
    """

    def answer(self, samples: Sequence[Sample]) -> list[Answer]: ...


@runtime_checkable
class StreamingModel(AnsweringModel, Protocol):
    """`stream` takes samples as there is room, gives answers as they come, and hands their keys through."""

    def stream(self, samples: Iterable[tuple[str, Sample]]) -> Iterator[tuple[str, Answer]]: ...


def checkpoint_identity(folder: Path) -> str:
    """SHA-256 over the weights, configuration, tokenizer and processor of a local checkpoint, 64 hex digits.

    Logs and trainer state beside them do not count, so a checkpoint that is trained anew to the same bits stays the
    same. Raises :class:`MisError` if the folder holds no safetensors file.
    """
    files = sorted({path for pattern in CHECKPOINT_FILES for path in Path(folder).glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in files):
        raise MisError(f"{folder}: no checkpoint here (no *.safetensors); run `mis pretrain` or `mis train` first")
    digest = hashlib.sha256()
    for path in files:
        stat = path.stat()
        digest.update(f"{path.name}\0{file_digest(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def file_digest(path: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file; size and time of change only key the cache."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def picture_digest(path: Path) -> str:
    """SHA-256 of a picture's bytes, 64 hex digits. Raises :class:`MisError` if it cannot be read."""
    try:
        stat = path.stat()
        return file_digest(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise MisError(f"{path}: picture cannot be read ({error.strerror}); make or fetch its dataset again") from error
