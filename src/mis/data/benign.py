"""`mis data benign`: harmless pairs of pictures with a question, in the layout of MIS, at the paper's scale.

The paper trains and tests on hazardous pairs only; how often a model warns about harmless ones is asked with these.
They are questions about exactly two pictures from general datasets: M4-Instruct (rows that no arm may draw, so that the
control is disjoint from every training set) and MuirBench. Drawn by a fixed seed.

With `training`, as many other rows of M4-Instruct become `benign_pairs/mis_train.json`, for `mirage_balanced` and its
like. Their answers are M4-Instruct's own: they do not reason about safety, as the miniature's do.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np

from mis.data.lock import DataError
from mis.mixing import drawing, exclusions, pool
from mis.mixtures import ARMS, Part
from mis.samples import Example, Sample
from mis.settings import Settings
from mis.sources import LOADERS, conversations
from mis.sources.common import picture, write_atomically

SEED = 2027
CONTROL, PAIRS = "benign_control", "benign_pairs"
SOURCES = ("m4_instruct", "muirbench")
DEFAULT_COUNT = 500
MOST_WORDS = 60  # of a question: longer ones carry tables and dialogues


def build(settings: Settings, count: int = DEFAULT_COUNT, training: int = 0) -> list[Path]:
    """Writes `<data>/benign_control/mis_benign.json` (half of it from each source) and, with `training`, the pairs.

    Raises :class:`DataError` where the sources have fewer such questions.
    """
    data = settings.paths.data
    free = _free_rows(settings)
    half = count // 2
    from_m4, rest = free[: count - half], free[count - half :]
    if len(from_m4) < count - half or len(rest) < training:
        raise DataError(
            f"{data / 'm4_instruct'}: {len(free)} questions about two pictures are free, {count - half + training} are "
            "needed; fetch more of its archives, or ask for fewer"
        )
    from_muirbench = _muirbench(data, half)
    rows = [
        *(_control_row(data, f"m4_{e.id}", e.prompt, [data / i for i in e.images], "M4-Instruct") for e in from_m4),
        *(
            _control_row(data, f"muirbench_{s.id}", _with_options(s), list(s.images), "MuirBench")
            for s in from_muirbench
        ),
    ]
    written = [data / CONTROL / "mis_benign.json"]
    write_atomically(written[0], (json.dumps(rows, ensure_ascii=False, indent=1) + "\n").encode())
    if training:
        chosen = rest[:training]
        pairs = [
            {
                "id": f"m4_{example.id}",
                "image": [_link(data, PAIRS, data / image) for image in example.images],
                "conversations": [
                    {"from": "human", "value": f"<image>\n<image>\n{example.prompt}"},
                    {"from": "gpt", "value": example.response},
                ],
            }
            for example in chosen
        ]
        written.append(data / PAIRS / conversations.MIS_FILE)
        write_atomically(written[1], (json.dumps(pairs, ensure_ascii=False, indent=1) + "\n").encode())
    return written


def _free_rows(settings: Settings) -> list[Example]:
    """M4-Instruct's questions about two pictures that no arm can draw, in a seeded order.

    Free are the positions of its drawing behind the largest number that any arm takes, whatever arms the configuration
    has: a control that is made once serves all of them.
    """
    most = max(part.count or 0 for arm in ARMS.values() for part in arm.parts if part.source == "m4_instruct")
    part = Part("m4_instruct", "general")
    excluded = exclusions(settings.sources.exclusions)
    examples, _ = pool(part, settings.paths.data, {}, settings.sources, excluded, full=True)
    order = drawing(part, len(examples))
    taken = {(examples[i].prompt, examples[i].images) for i in order[:most]}
    pictures = {image for i in order[:most] for image in examples[i].images}
    behind = [examples[i] for i in order[most:]]
    return [
        example
        for example in behind
        if len(example.images) == 2
        and _fits(example.prompt)
        and (example.prompt, example.images) not in taken
        and not pictures & set(example.images)
    ]


def _muirbench(data: Path, count: int) -> list[Sample]:
    samples = [s for s in LOADERS["muirbench"](data / "muirbench", "") if len(s.images) == 2 and _fits(s.question)]
    if len(samples) < count:
        raise DataError(
            f"{data / 'muirbench'}: {len(samples)} questions about two pictures, {count} are needed; ask for fewer"
        )
    order = np.random.default_rng(SEED).permutation(len(samples))[:count]
    return [samples[i] for i in order]


def _fits(question: str) -> bool:
    return 0 < len(question.split()) <= MOST_WORDS


def _with_options(sample: Sample) -> str:
    """MuirBench asks for a choice; the control asks openly, with the options in the question."""
    question = _named(sample.question)
    return f"{question} Options: {'; '.join(map(_named, sample.options))}." if sample.options else question


def _named(text: str) -> str:
    """`<image>` in the order of the pictures becomes "the first image", "the second image"."""
    names = iter(("the first image", "the second image"))
    return re.sub(r"\s*<image>\s*", lambda _: f" {next(names, 'the image')} ", text).strip()


def _control_row(data: Path, identity: str, question: str, images: list[Path], source: str) -> dict:
    first, second = (_link(data, CONTROL, image) for image in images)
    return {
        "question": question, "category": "", "sub_category": "", "image_path1": first, "image_path2": second,
        "id": identity, "source": source,
    }  # fmt: skip


def _link(data: Path, dataset: str, image: Path) -> str:
    """A picture in the dataset's own folder: a hard link where the disk allows it. Named by where it comes from."""
    picture(data, str(image.relative_to(data)), dataset)
    name = hashlib.sha256(image.relative_to(data).as_posix().encode()).hexdigest()[:20]
    target = data / dataset / "images" / f"{name}{image.suffix.lower() or '.png'}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(image.resolve(), target)
        except OSError:
            shutil.copyfile(image, target)
    return target.relative_to(data / dataset).as_posix()
