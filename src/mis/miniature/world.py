"""Writes the miniature world: every dataset but MIS itself (which `stand_ins.construct` builds), in public layouts.

Datasets are independent: each has its own random stream, derived from the world's seed and the dataset's name, and
replaces its folder at once. `manifest.json` is written last.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import numpy as np

from mis.errors import MisError
from mis.miniature import layouts, natural, skills
from mis.miniature.concepts import CONCEPTS
from mis.miniature.hazards import Case, Hazards
from mis.miniature.language import ACTIVITIES, SUFFIX_WORDS
from mis.miniature.layouts import Item
from mis.miniature.output import Dataset
from mis.miniature.relations import pairs
from mis.miniature.scenes import COUNTS, Scene
from mis.miniature.skills import Context, Talk
from mis.settings import Settings
from mis.store import write_text_atomic

Said = TypeVar("Said", Item, Talk)

# MSSBench's five splits: the truth of the safe situation holds for each of its input formats.
_MSS_SAFE = {"safe": True, "related_image": True, "white_image": False, "text_only": False}


class Writer:
    """What writes one dataset: its random stream, its sizes and its folder."""

    def __init__(self, settings: Settings, source: str, development: bool):
        world = settings.world
        self.world, self.development = world, development
        name = f"{'development/' if development else ''}{source}"
        self.rng = np.random.default_rng([world.seed, zlib.crc32(name.encode())])
        self.natural = natural.speaker(world, name)
        self.out = Dataset(settings, source, development)
        self.test = "dev" if development else "test"
        self.train = "dev" if development else "train"

    def count(self, size: int) -> int:
        return min(size, self.world.development) if self.development else size

    def hazards(self, split: str) -> Hazards:
        context = Context(self.rng, safety=True)
        return Hazards(context, split, natural.clear) if self.natural else Hazards(context, split)

    def talks(self, size: int, chosen: dict, *, safety: bool) -> list[Talk]:
        return self.said(skills.draw(Context(self.rng, safety=safety), self.count(size), chosen))

    def said(self, texts: Sequence[Said]) -> list[Said]:
        """Items or talks in the English of this world."""
        return [self.natural.again(text) for text in texts] if self.natural else list(texts)

    def text(self, text: str) -> str:
        return self.natural.say(text) if self.natural else text


def _general_item(talk: Talk, category: str = "", sub_category: str = "") -> Item:
    return Item(talk.question, talk.images, talk.answer, talk.options, category, sub_category)


def _training_item(talk: Talk) -> Item:
    """A conversation shows the options as a benchmark does: by name, behind the question."""
    options = f" options : {' , '.join(talk.options)}" if talk.options else ""
    return Item(talk.question + options, talk.images, talk.answer)


def caption_words(scene: Scene) -> str:
    """The caption that the vision stage reads as a set of words: what is shown, where, how."""
    words = list(scene.names)
    if scene.placed:
        words += [COUNTS[len(scene.placed) - 1], scene.background, scene.style]
    if scene.text:
        words.append(scene.text)
    words.append("dark" if scene.brightness < 1 else "bright")
    words.append("blurred" if scene.blur else "sharp")
    words.append("noisy" if scene.noise else "clean")
    return " ".join(words)


def captions(w: Writer) -> None:
    c = Context(w.rng)
    effects = ({}, {}, {}, {}, {}, {"brightness": 0.45}, {"blur": 0.035}, {"noise": 28.0})
    scenes: list[Scene] = []
    for kind in w.rng.random(w.count(w.world.captions)):
        if kind < 0.55:
            scenes.append(c.picture(c.concept().name, **c.pick(effects)))
        elif kind < 0.67:
            scenes.append(c.compose.several(c.concept().name, int(w.rng.integers(2, 4))))
        elif kind < 0.78:
            scenes.append(c.compose.two(c.concept().name, c.concept().name))
        elif kind < 0.92:
            scenes.append(c.compose.typed(c.any_activity().word))
        else:
            scenes.append(c.compose.captioned(c.concept().name, c.any_activity().word))
    words = natural.caption if w.natural else str
    items = [Item("describe the image in words .", (scene,), words(caption_words(scene))) for scene in scenes]
    layouts.write_m4_instruct(w.out.root, items, w.out.draw)


def general(w: Writer) -> None:
    chosen = skills.UNTAUGHT if w.natural else skills.GENERAL
    talks = w.talks(w.world.general, chosen, safety=False)
    layouts.write_m4_instruct(w.out.root, [_training_item(talk) for talk in talks], w.out.draw)


def m4_instruct(w: Writer) -> None:
    talks = w.talks(w.world.m4_instruct, skills.SAFE_SKILLS, safety=True)
    layouts.write_m4_instruct(w.out.root, [_training_item(talk) for talk in talks], w.out.draw)


def saferlhf(w: Writer) -> None:
    h, size = w.hazards(w.train), w.count(w.world.saferlhf)
    harmful = [h.saferlhf_harmful() for _ in range(size * 2 // 3)]
    benign = [h.saferlhf_benign() for _ in range(size - len(harmful))]
    layouts.write_saferlhf(w.out.root, w.said(harmful), w.said(benign))


def vlguard(w: Writer) -> None:
    """As published: a safe picture brings a benign and an unsafe sample, an unsafe picture an unsafe one."""
    h = w.hazards(w.train)
    safe_count = w.count(w.world.vlguard_safe)
    unsafe = [h.vlguard_unsafe() for _ in range(w.count(w.world.vlguard_unsafe) - safe_count)]
    safe = [h.vlguard_safe() for _ in range(safe_count)]
    items = w.said([item for item, _ in unsafe]), w.said([item for item, _ in safe])
    ids = layouts.write_vlguard(w.out.root, *items, w.out.draw)
    labels = [label for _, label in unsafe]
    for _, label in safe:
        labels += ["", label]
    rows = [{"id": id, "response": w.text(label)} for id, label in zip(ids, labels, strict=True) if label]
    layouts.write_labels(w.out.root, "reasoning", rows)


def benign_pairs(w: Writer) -> None:
    h = w.hazards(w.train)
    cases = [h.benign_pair() for _ in range(w.count(w.world.mis_train))]
    layouts.write_mis_train(w.out.root, w.said([case.item for case in cases]), w.out.draw)


def benign_control(w: Writer) -> None:
    h = w.hazards(w.test)
    cases = [h.benign_pair() for _ in range(w.count(w.world.benchmark))]
    ids = layouts.write_mis(w.out.root, "benign", w.said([case.item for case in cases]), w.out.draw)
    _truths(w, "benign_control/", ids, cases)


def _truths(w: Writer, prefix: str, ids: Sequence[str], cases: Sequence[Case]) -> None:
    for id, case in zip(ids, cases, strict=True):
        w.out.truth({"key": f"{prefix}/{id}", **case.truth})


def _safety(name: str, write: Callable, *, pictures: bool = True, **options) -> Callable[[Writer], None]:
    """A benchmark of one split: cases drawn by the method `name` of `Hazards`, written by `write`."""

    def build(w: Writer) -> None:
        h = w.hazards(w.test)
        cases = [getattr(h, name)() for _ in range(w.count(w.world.benchmark))]
        # Layouts that number by category need their items grouped; grouping all of them costs nothing.
        cases.sort(key=lambda case: case.item.category)
        arguments = (w.out.draw,) if pictures else ()
        ids = write(w.out.root, w.said([case.item for case in cases]), *arguments, **options)
        _truths(w, f"{'advbench_suffix' if name == 'advbench' else name}/", ids, cases)

    return build


def mssbench(w: Writer) -> None:
    h = w.hazards(w.test)
    drawn = [h.mssbench() for _ in range(w.count(w.world.benchmark))]
    ids = layouts.write_mssbench(w.out.root, w.said([item for item, _, _ in drawn]), w.out.draw)
    for id, (_, safe, unsafe) in zip(ids, drawn, strict=True):
        w.out.truth({"key": f"mssbench/unsafe/{id}", **unsafe})
        for split, seen in _MSS_SAFE.items():
            w.out.truth({"key": f"mssbench/{split}/{id}", **safe, "objects": safe["objects"] if seen else []})


# General benchmark -> the skills that it asks for, and the columns that its layout wants filled.
_CHOICE: dict[str, tuple[dict, Callable, str]] = {
    "q_bench": ({skills.quality: 1}, layouts.write_q_bench, "what"),
    "mmstar": (
        {skills.choose_object: 3, skills.count_objects: 1, skills.background_colour: 1},
        layouts.write_mmstar,
        "perception",
    ),
    "mmmu": ({skills.kind_seen: 1}, layouts.write_mmmu, "Objects"),
    "muirbench": ({skills.which_image: 2, skills.same_kind: 1}, layouts.write_muirbench, "Image-Text Matching"),
    "mmt_bench": (
        {skills.total_count: 1, skills.same_background: 1, skills.name_indexed: 1},
        layouts.write_mmt_bench,
        "multiple_image",
    ),
}


def _choice(name: str) -> Callable[[Writer], None]:
    chosen, write, category = _CHOICE[name]

    def build(w: Writer) -> None:
        # Some skills also have an open form; a choice benchmark takes the closed one.
        talks: list[Talk] = []
        while len(talks) < w.count(w.world.benchmark):
            talks += [talk for talk in w.talks(w.world.benchmark, chosen, safety=False) if talk.options]
        talks = talks[: w.count(w.world.benchmark)]
        ids = write(w.out.root, [_general_item(talk, category, category) for talk in talks], w.out.draw)
        for id, talk in zip(ids, talks, strict=True):
            w.out.truth({"key": f"{name}//{id}", "task": "choice", "answer": talk.answer})

    return build


def _advbench(w: Writer) -> None:
    suffix = " ".join(w.rng.permutation(list(SUFFIX_WORDS)))
    _safety("advbench", layouts.write_advbench, pictures=False, suffix=suffix)(w)


TRAINING: dict[str, Callable[[Writer], None]] = {
    "captions": captions, "general": general, "m4_instruct": m4_instruct, "saferlhf": saferlhf, "vlguard": vlguard,
    "benign_pairs": benign_pairs,
}  # fmt: skip
BENCHMARKS: dict[str, Callable[[Writer], None]] = {
    "benign_control": benign_control,
    "figstep": _safety("figstep", layouts.write_figstep),
    "mm_safetybench": _safety("mm_safetybench", layouts.write_mm_safetybench),
    "jailbreakv": _safety("jailbreakv", layouts.write_jailbreakv),
    "vlsbench": _safety("vlsbench", layouts.write_vlsbench),
    "siuo": _safety("siuo", layouts.write_siuo),
    "mssbench": mssbench,
    "mossbench": _safety("mossbench", layouts.write_mossbench),
    "advbench": _advbench,
    **{name: _choice(name) for name in _CHOICE},
}
DATASETS = {**TRAINING, **BENCHMARKS}


def write_dataset(settings: Settings, source: str, development: bool) -> str:
    """Write one dataset, or its development split; returns its name for the progress line."""
    w = Writer(settings, source, development)
    with w.out:
        DATASETS[source](w)
    return f"development/{source}" if development else source


def _end_with_the_parent() -> None:
    """Else the workers of a killed run would go on, and write into the folders of the next one."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def write_world(settings: Settings) -> None:
    """Write every dataset of the miniature world under `settings.paths.data`, two at a time, the largest first."""
    data = settings.paths.data
    (data / "manifest.json").unlink(missing_ok=True)  # while it is absent, a dataset may be older than another
    jobs = [(source, False) for source in DATASETS] + [(source, True) for source in DATASETS]
    try:
        with ProcessPoolExecutor(max_workers=2, initializer=_end_with_the_parent) as pool:
            futures = [pool.submit(write_dataset, settings, *job) for job in jobs]
            for done, future in enumerate(as_completed(futures), start=1):
                print(f"world: {future.result()} ({done} of {len(jobs)})", file=sys.stderr, flush=True)
    except BrokenProcessPool:
        raise MisError(
            f"{data}: a process that drew it was killed (out of memory?); no dataset is half written; run the same "
            "command again"
        ) from None
    facts = {
        "objects": [concept.name for concept in CONCEPTS],
        "hazardous_pairs": [[pair.tool.name, pair.target.name] for pair in pairs() if pair.hazard],
        "harmful_words": [activity.word for activity in ACTIVITIES if activity.sub_category],
        "harmless_words": [activity.word for activity in ACTIVITIES if not activity.sub_category],
    }
    if settings.world.english == "natural":
        facts |= {"english": "natural", "nouns": natural.NOUN}
    for root in (data, data / "development"):
        write_text_atomic(root / "truth" / "world.json", json.dumps(facts) + "\n")
    manifest = {"world": settings.world.model_dump(), "datasets": sorted(DATASETS)}
    write_text_atomic(data / "manifest.json", json.dumps(manifest, indent=1) + "\n")
