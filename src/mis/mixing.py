"""Mixes each arm's training examples from the sources, as `mixtures.ARMS` declares them."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from mis import layout
from mis.errors import MisError
from mis.mixtures import ARMS, ONCE, RELEASED, Arm, Part
from mis.samples import Example, to_row
from mis.settings import Settings, Sources
from mis.sources import TRAINING_SOURCES, noting
from mis.sources.common import csv_rows, picture
from mis.sources.labels import LABEL_REFUSED, label_facts
from mis.sources.public import DATASETS
from mis.store import read_jsonl, write_csv_atomic, write_jsonl_atomic, write_text_atomic

SHUFFLE_SEED = 2025  # which examples an arm takes does not depend on the training seed


def mix(settings: Settings, arms: Sequence[str] | None = None) -> None:
    """Write `B/mixtures/<arm>.jsonl` and a page about it for every arm, or for these; of all also the datasheet."""
    cache: dict[tuple[str, str], tuple[list[Example], Counter]] = {}
    excluded = exclusions(settings.sources.exclusions)
    for name in trained_arms(settings) if arms is None else arms:
        if not ARMS[name].trained:
            raise MisError(f"arm {name} trains nothing; those that do: {', '.join(trained_arms(settings))}")
        examples = mixture(
            ARMS[name],
            settings.paths.data,
            cache,
            full=settings.world is None,
            sources=settings.sources,
            excluded=excluded,
        )
        write_jsonl_atomic(layout.mixture(settings, name), (to_row(example) for example in examples))
        page = _page(ARMS[name], examples, settings, cache, excluded)
        write_text_atomic(layout.datasheet_page(settings, name), page)
    if arms is None:
        write_datasheet(settings)


def trained_arms(settings: Settings) -> list[str]:
    return [name for name in settings.all_arms() if ARMS[name].trained]


def write_datasheet(settings: Settings) -> None:
    """Count the examples of all mixtures, by source and kind."""
    sheet: list[dict] = []
    for name in trained_arms(settings):
        counts = Counter((example.source, example.kind) for example in read_mixture(layout.mixture(settings, name)))
        sheet += [
            {"arm": name, "source": source, "kind": kind, "samples": n} for (source, kind), n in sorted(counts.items())
        ]
    write_csv_atomic(layout.datasheet(settings), sheet, ("arm", "source", "kind", "samples"))


def mixture(
    arm: Arm,
    data: Path,
    cache: dict | None = None,
    *,
    full: bool = False,
    sources: Sources | None = None,
    excluded: Collection[tuple[str, str]] = (),
) -> list[Example]:
    """The examples of an arm, shuffled by a fixed seed.

    A source that holds fewer examples than a part asks for gives all it has: a smaller world keeps the study's shape.
    With `full` (public data), that is an error, unless it is known of the released dataset (`mixtures.RELEASED`) or
    their labels were refused, within the limit of `sources`. `excluded` are (source, id) pairs that no arm takes.
    """
    cache = {} if cache is None else cache
    sources = sources or Sources()
    chosen: list[Example] = []
    for part in arm.parts:
        examples, refused = pool(part, data, cache, sources, excluded, full=full)
        _check_count(arm, part, data, len(examples), refused, full, sources)
        chosen += [examples[i] for i in drawing(part, len(examples))[: part.count]]
    if full:
        for example in chosen:
            for image in example.images:  # a loader of a million pictures has not looked into each
                picture(data, image, f"{data / example.source}, {example.id}")
    order = np.random.default_rng([SHUFFLE_SEED, zlib.crc32(arm.name.encode())]).permutation(len(chosen))
    return [chosen[i] for i in order]


def labels_of(part: Part, sources: Sources) -> str:
    """The answer variant of a part, as the configuration has it."""
    return sources.labels.get(f"{part.source}/{part.labels}", part.labels)


def drawing(part: Part, size: int) -> np.ndarray:
    """The order in which a part draws from its pool: (size,) positions."""
    return np.random.default_rng([SHUFFLE_SEED, zlib.crc32(f"{part.source}/{part.kind}".encode())]).permutation(size)


def pool(
    part: Part,
    data: Path,
    cache: dict,
    sources: Sources,
    excluded: Collection[tuple[str, str]] = (),
    *,
    full: bool,
    labels: str | None = None,
) -> tuple[list[Example], int]:
    """What a part may draw from, and how many examples of the source have no label because it was refused.

    `labels` in the place of the part's own variant; `labels.BARE` for the examples before any labels.
    """
    key = (part.source, labels_of(part, sources) if labels is None else labels)
    if key not in cache:
        with noting() as notes:
            cache[key] = TRAINING_SOURCES[part.source](data / part.source, key[1]), notes.left_out
    examples, left_out = cache[key]
    taken = [
        example
        for example in examples
        if example.kind == part.kind
        and example.category not in part.without_categories
        and (example.source, example.id) not in excluded
    ]
    if full and part.source in ONCE:
        first: dict[tuple, Example] = {}
        for example in taken:
            first.setdefault((example.prompt, example.images), example)
        taken = list(first.values())
    labelled = part.kind == "safety" or part.source == "benign_pairs"
    return taken, left_out[LABEL_REFUSED] if labelled else 0


def _check_count(arm: Arm, part: Part, data: Path, there: int, refused: int, full: bool, sources: Sources) -> None:
    wanted = min(
        part.count or there + refused, RELEASED.get((part.source, part.kind), there + refused + (part.count or 0))
    )
    lacking = wanted - there
    if not full or lacking <= 0:
        return
    if lacking <= refused and lacking <= sources.unlabelled_limit * wanted:
        return
    if refused:
        raise MisError(
            f"{data / part.source}: {there} {part.kind} examples have a label, arm {arm.name} takes {wanted}, and "
            f"{refused} were refused or came back malformed; run `mis data label` again, or raise "
            "sources.unlabelled_limit"
        )
    raise MisError(
        f"{data / part.source}: {there} {part.kind} examples, but arm {arm.name} takes {wanted}; "
        "the dataset is incomplete: fetch it again"
    )


def exclusions(path: Path | None) -> set[tuple[str, str]]:
    """The (source, id) pairs of a CSV file `source,id,reason`; none without a file. Every row must give a reason."""
    rows = csv_rows(path, ("source", "id", "reason")) if path else []
    return {(row.text("source"), row.text("id")) for row in rows if row.text("reason")}


# A page an arm

KINDS = {
    "safety": "harmful inputs",
    "benign": "harmless inputs of a safety dataset",
    "general": "general instruction data",
}


def _page(arm: Arm, examples: list[Example], settings: Settings, cache: dict, excluded: Collection) -> str:
    """Counts, shares, licences and where the labels come from, in Markdown."""
    counts = Counter((example.source, example.kind) for example in examples)
    general = sum(n for (_, kind), n in counts.items() if kind != "safety")
    lines = [
        f"# {arm.name}: {len(examples):,} training examples",
        "",
        f"{100 * general / max(1, len(examples)):.1f} % are no harmful inputs (the share of general data of the "
        f"paper's Table 6). Trained: {', '.join(arm.trains).replace('_', ' ')}. Drawn by seed {SHUFFLE_SEED}, whatever "
        "the training's seed.",
        "",
        "| source | kind | samples | share | asked for | licence | labels |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for part in arm.parts:
        n = counts[part.source, part.kind]
        licence = DATASETS[part.source].licence or "not read" if part.source in DATASETS else "made here"
        origin = _origin(part, settings)
        lines.append(
            f"| {part.source} | {KINDS[part.kind]} | {n:,} | {100 * n / max(1, len(examples)):.1f} % "
            f"| {part.count or 'all'} | {licence if settings.world is None else 'made here'} | {origin} |"
        )
    notes = []
    for part in arm.parts:
        if part.without_categories:
            notes.append(f"{part.source}: without {' and '.join(part.without_categories)}")
        released = RELEASED.get((part.source, part.kind))
        if settings.world is None and released and part.count and released < part.count:
            notes.append(f"{part.source}: the released file has {released} of the paper's {part.count}; all are taken")
        _, left_out = cache[part.source, labels_of(part, settings.sources)]
        notes += [f"{part.source}: {n:,} rows are not drawn from: {reason}" for reason, n in sorted(left_out.items())]
    if taken_out := sum(source in {part.source for part in arm.parts} for source, _ in excluded):
        notes.append(f"{taken_out:,} examples are excluded by {settings.sources.exclusions}")
    if notes:
        lines += ["", *(f"- {note}" for note in dict.fromkeys(notes))]
    return "\n".join([*lines, ""])


def _origin(part: Part, settings: Settings) -> str:
    """Where the answers of a part come from."""
    labels = labels_of(part, settings.sources)
    if part.kind != "safety" and part.source not in ("benign_pairs", "general", "captions"):
        labels = "original"
    facts = label_facts(settings.paths.data / part.source, labels)
    if facts is None:
        return "the dataset's own" if settings.world is None else f"made here ({labels})"
    outcomes = json.dumps(facts["outcomes"]).strip("{}").replace('"', "")
    return f"{labels}: written by {facts['model']}, prompt {facts['prompt']} ({outcomes})"


def read_mixture(path: Path) -> list[Example]:
    """The examples of a mixture's file. Raises :class:`MisError` that names the line of a row that is none."""
    examples = []
    for line, row in enumerate(read_jsonl(path), start=1):
        try:
            examples.append(Example(**{**row, "images": tuple(row["images"])}))
        except (KeyError, TypeError) as error:
            raise MisError(f"{path}, line {line}: not an example ({error}); run `mis mix` again") from None
    return examples
