"""Mixes each arm's training examples from the sources, as `mixtures.ARMS` declares them."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from mis import layout
from mis.errors import MisError
from mis.mixtures import ARMS, Arm, Part
from mis.samples import Example, to_row
from mis.settings import Settings
from mis.sources import TRAINING_SOURCES
from mis.store import read_jsonl, write_csv_atomic, write_jsonl_atomic

SHUFFLE_SEED = 2025  # which examples an arm takes does not depend on the training seed


def mix(settings: Settings) -> None:
    """Write `B/mixtures/<arm>.jsonl` for every arm, and the datasheet that counts their parts."""
    cache: dict[tuple[str, str], list[Example]] = {}
    sheet: list[dict] = []
    for name in settings.all_arms():
        if not ARMS[name].trained:
            continue
        examples = mixture(ARMS[name], settings.paths.data, cache, full=settings.world is None)
        write_jsonl_atomic(layout.mixture(settings, name), (to_row(example) for example in examples))
        counts = Counter((example.source, example.kind) for example in examples)
        sheet += [
            {"arm": name, "source": source, "kind": kind, "samples": n} for (source, kind), n in sorted(counts.items())
        ]
    write_csv_atomic(layout.datasheet(settings), sheet, ("arm", "source", "kind", "samples"))


def mixture(arm: Arm, data: Path, cache: dict | None = None, *, full: bool = False) -> list[Example]:
    """The examples of an arm, shuffled by a fixed seed.

    A source that holds fewer examples than a part asks for gives all it has: a smaller world keeps the study's shape.
    With `full` (public data), that is an error.
    """
    cache = {} if cache is None else cache
    chosen: list[Example] = []
    for part in arm.parts:
        examples = _part(part, data, cache)
        if part.count is not None and len(examples) < part.count and full and part.source != "vlguard":
            raise MisError(
                f"{data / part.source}: {len(examples)} {part.kind} examples, but arm {arm.name} takes {part.count}; "
                "the dataset is incomplete: fetch it again"
            )
        rng = np.random.default_rng([SHUFFLE_SEED, zlib.crc32(f"{part.source}/{part.kind}".encode())])
        order = rng.permutation(len(examples))[: part.count]
        chosen += [examples[i] for i in order]
    order = np.random.default_rng([SHUFFLE_SEED, zlib.crc32(arm.name.encode())]).permutation(len(chosen))
    return [chosen[i] for i in order]


def _part(part: Part, data: Path, cache: dict) -> list[Example]:
    key = (part.source, part.labels)
    if key not in cache:
        cache[key] = TRAINING_SOURCES[part.source](data / part.source, part.labels)
    return [e for e in cache[key] if e.kind == part.kind and e.category not in part.without_categories]


def read_mixture(path: Path) -> list[Example]:
    """The examples of a mixture's file. Raises :class:`MisError` that names the line of a row that is none."""
    examples = []
    for line, row in enumerate(read_jsonl(path), start=1):
        try:
            examples.append(Example(**{**row, "images": tuple(row["images"])}))
        except (KeyError, TypeError) as error:
            raise MisError(f"{path}, line {line}: not an example ({error}); run `mis mix` again") from None
    return examples
