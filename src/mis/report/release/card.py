"""The dataset card (`card.md`, filled): what is in it, how it was made and by whom, what was dropped, its licence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import yaml

from mis.report.release.parquet import Shard
from mis.report.release.rows import Construction
from mis.store import write_text_atomic

TEMPLATE = Path(__file__).with_suffix(".md")
DESCRIPTION = (
    "Multi-image safety: two pictures and one neutral instruction; the danger lies in what the instruction would do "
    "with the two together. Training samples have a safety chain of thought in three parts; test samples have none."
)
MINIATURE = (
    "**This is a miniature**: drawings of a made-up world, made by stand-ins that know the truth. It shows the form of "
    "the dataset and the way it is made; it measures nothing about real models."
)
FULL = "Constructed from public safety benchmarks by the models below. It is not the MIS that the authors released."


@dataclass(frozen=True)
class Licence:
    """`id` as the hub knows it; `url` for Croissant; `text` for people."""

    id: str
    url: str
    text: str


OPENMOJI = Licence(
    "cc-by-sa-4.0",
    "https://creativecommons.org/licenses/by-sa/4.0/",
    "The pictures are composed of emojis designed by OpenMoji (openmoji.org), CC BY-SA 4.0, recoloured, scaled, "
    "rotated and composed; they come under the same licence. The texts are Apache-2.0.",
)
UNDECIDED = Licence(
    "other",
    "https://spdx.org/licenses/",
    "Not decided. Before this is given to anybody, the licences of the sources, the terms of the models that wrote and "
    "drew, and those of each photograph of the split real (`provenance.photographs`) must allow it.",
)


def licence(construction: Construction) -> Licence:
    settings = construction.settings
    if settings.world is not None:
        return OPENMOJI
    chosen = settings.construction.license if settings.construction else None
    if chosen is None:
        return UNDECIDED
    return Licence(chosen.lower(), f"https://spdx.org/licenses/{chosen}", f"{chosen}, as the configuration says.")


def name(construction: Construction) -> str:
    """Letters, digits and hyphens: "mis-mini"."""
    return re.sub(r"[^A-Za-z0-9]+", "-", f"mis-{construction.settings.scale}")


def write_card(folder: Path, construction: Construction, files: Mapping[str, Sequence[Shard]]) -> None:
    """Writes `README.md`, which also tells `datasets` which files are which split."""
    head = {
        "pretty_name": f"MIS ({construction.settings.scale})",
        "license": licence(construction).id,
        "language": ["en"],
        "task_categories": ["visual-question-answering"],
        "tags": ["safety", "multi-image", "red-teaming"],
        "size_categories": [_size(sum(shard.rows for shards in files.values() for shard in shards))],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": [shard.name for shard in shards]} for split, shards in files.items()
                ],
            }
        ],
    }
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        scale=construction.settings.scale,
        description=DESCRIPTION,
        origin=FULL if construction.settings.world is None else MINIATURE,
        counts=_counts(construction),
        people=_people(construction),
        funnel=_funnel(construction),
        participants=_participants(construction),
        licence=licence(construction).text,
    )
    write_text_atomic(folder / "README.md", f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{text}")


def _people(construction: Construction) -> str:
    if construction.settings.world is not None:
        return "The experts are stand-ins; no person looked."
    if construction.settings.construction and (people := construction.settings.construction.people):
        return (
            f"Each pair was judged by {people.annotators} people, blind to each other; where they differed an "
            "adjudicator decided. `provenance.decisions` holds what each said."
        )
    return "**No person looked at these samples**: models alone filtered them. Have people review them before any use."


def _table(head: Sequence[str], rows: Sequence[Sequence[object]], numbers: int = 0) -> str:
    """A Markdown table; the last `numbers` columns are numbers."""
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return "\n".join(f"| {' | '.join(_cell(str(cell)) for cell in row)} |" for row in (head, rule, *rows))


def _cell(text: str) -> str:
    """A text as it stands, whatever Markdown would make of it; the dashes of a rule stay."""
    return re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", " ".join(text.split()))


def _counts(construction: Construction) -> str:
    """Table 3 of this dataset."""
    splits, counts = construction.splits, construction.counts()
    rows = [(*names, *(f"{counted[split]:,}" for split in splits)) for names, counted in counts.items()]
    total = [f"{sum(counted[split] for counted in counts.values()):,}" for split in splits]
    return _table(("category", "sub-category", *splits), [*rows, ("all", "", *total)], len(splits))


def _funnel(construction: Construction) -> str:
    rows = [
        (row["step"], row["reason"], *(("", f"{row['dropped']:,}") if row["reason"] else (f"{row['kept']:,}", "")))
        for row in construction.funnel
    ]
    return _table(("step", "dropped because", "kept", "dropped"), rows, 2)


def _participants(construction: Construction) -> str:
    rows = [(row["step"], row["role"], row["version"]) for row in construction.participants]
    return _table(("step", "role", "version"), rows)


def _size(rows: int) -> str:
    """The hub's words."""
    for limit, words in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")):
        if rows < limit:
            return words
    return "100K<n<1M"
