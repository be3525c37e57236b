"""`mis data leaks`: is any test sample in a training set? Exact and near duplicates of texts and pictures, by id.

Compared are the examples that an arm is trained on (`B/mixtures`) with every sample of a suite.

- `sample`: the same text and the same pictures (of a sample without pictures: the same text).
- `picture`: a picture with the same pixels. `text`: the same text (case, punctuation and spaces do not count).
- `near_picture`: perceptual hashes that differ in at most 6 of 64 bits. `near_text`: at least 80 % of the runs of three
  words are shared.

A leak is what is exact, but for two things that say nothing: a picture of one colour, and a text that is shared by many
(:data:`SHARED`: "What is the difference between these images?"). A leak fails the check, and so the run. The rule that
lets it pass is a row of `sources.exclusions` (source, id, reason): that example is then drawn by no arm.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mis import layout
from mis.data.lock import DataError
from mis.duplicates import Pictures, Texts, fingerprint
from mis.mixing import read_mixture
from mis.progress import track
from mis.samples import Example, Sample
from mis.settings import Settings
from mis.sources.common import csv_rows
from mis.store import write_csv_atomic
from mis.suites import load_samples

COLUMNS = ("kind", "leak", "test", "source", "id", "similarity")
KINDS = ("sample", "picture", "text", "near_picture", "near_text")
SHARED = 3  # a text that so many samples of a benchmark, or examples of a source, have is a phrase and no sample
MIN_WORDS = 4  # shorter texts are compared only as part of a sample


@dataclass(frozen=True)
class Pair:
    """One finding. `similarity`: share of runs of words, or of equal bits; 1 for what is exact."""

    kind: str
    leak: bool
    test: str
    source: str
    id: str
    similarity: float

    def row(self) -> dict:
        return {"kind": self.kind, "leak": "yes" if self.leak else "no", "test": self.test, "source": self.source,
                "id": self.id, "similarity": f"{self.similarity:.3f}"}  # fmt: skip


def leaks(settings: Settings, arm: str, suite: str) -> tuple[Path, Counter[str]]:
    """Writes `R/leaks/<arm>/<suite>.csv`, sorted; returns its path, and the numbers of pairs by kind and of leaks."""
    if not all(map(find_spec, ("datasketch", "imagehash"))):
        raise DataError("datasketch and imagehash are not installed: pip install 'mis[leaks]', or --use-conda")
    examples = read_mixture(layout.mixture(settings, arm))
    samples = load_samples(settings, settings.evaluation.suites[suite])
    with Looks(layout.looks(settings)) as looks:
        found = {Pair(*finding) for finding in compare(samples, examples, settings.paths.data, looks)}
    pairs = sorted(found, key=lambda pair: (KINDS.index(pair.kind), pair.test, pair.source, pair.id))
    path = layout.leaks(settings, arm, suite)
    write_csv_atomic(path, (pair.row() for pair in pairs), COLUMNS)
    counts = Counter(pair.kind for pair in pairs)
    counts["leaks"] = sum(pair.leak for pair in pairs)
    return path, counts


def found_before(settings: Settings, arm: str, suite: str) -> int:
    """How many leaks the file names."""
    return sum(row.text("leak") == "yes" for row in csv_rows(layout.leaks(settings, arm, suite), COLUMNS))


def compare(
    samples: Iterable[Sample], examples: Iterable[Example], data: Path, looks: Callable[[Path], Look]
) -> Iterator[tuple]:
    """(kind, leak, test key, source, id, similarity) of every pair that is too much alike."""
    tests, trains = list(samples), list(examples)
    test_pictures = {sample.key: [looks(image) for image in sample.images] for sample in tests}
    with track(len(trains), "leaks: pictures") as advance:
        train_pictures = []
        for example in trains:
            train_pictures.append([looks(data / image) for image in example.images])
            advance(1)
    yield from _texts(tests, trains, test_pictures, train_pictures)
    yield from _pictures(tests, trains, test_pictures, train_pictures)


@dataclass(frozen=True)
class Look:
    """What identifies a picture: its pixels, and how it looks; `hash` is None for one of a single colour."""

    pixels: str
    hash: int | None


class Looks:
    """The looks of pictures, each file decoded once; kept in a database where one is given. A context manager."""

    def __init__(self, path: Path | None = None):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        # Several jobs may look at once: each waits for the other's short writes.
        self._known = sqlite3.connect(path or ":memory:", timeout=60, isolation_level=None)
        self._known.execute("CREATE TABLE IF NOT EXISTS looks (file TEXT PRIMARY KEY, pixels TEXT, hash TEXT)")

    def __call__(self, path: Path) -> Look:
        state = path.stat()
        file = f"{path.absolute()}\0{state.st_size}\0{state.st_mtime_ns}"
        row = self._known.execute("SELECT pixels, hash FROM looks WHERE file = ?", (file,)).fetchone()
        if row is None:
            from PIL import Image

            look = fingerprint(path)
            with Image.open(path) as image:
                image = image.convert("RGB")
                digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
            row = digest, "" if look is None else f"{look:016x}"
            self._known.execute("INSERT OR REPLACE INTO looks VALUES (?, ?, ?)", (file, *row))
        return Look(row[0], int(row[1], 16) if row[1] else None)

    def __enter__(self) -> Looks:
        return self

    def __exit__(self, *_: object) -> None:
        self._known.close()


def _texts(tests, trains, test_pictures, train_pictures) -> Iterator[tuple]:
    by_text: dict[str, list[Sample]] = defaultdict(list)
    for sample in tests:
        by_text[_plain(sample.question)].append(sample)
    # The same sample under another split (a white picture in the place of its own) counts once.
    shared = {text for text, its in by_text.items() if len({(s.benchmark, s.id) for s in its}) >= SHARED}
    of_trains: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(trains):
        of_trains[_plain(example.prompt)].append(number)
    shared |= {
        text for text, its in of_trains.items() if len({(trains[n].source, trains[n].id) for n in its}) >= SHARED
    }
    near = Texts()
    for text, its in by_text.items():
        if text and text not in shared and len(text.split()) >= MIN_WORDS:
            near.add(its[0].key, text)
    keys = {its[0].key: its for its in by_text.values()}
    with track(len(trains), "leaks: texts") as advance:
        for text, numbers in of_trains.items():
            advance(len(numbers))
            if not text:
                continue
            for number in numbers:
                for sample in by_text.get(text, ()):
                    same = test_pictures[sample.key] == train_pictures[number]
                    if same:
                        yield _found("sample", True, sample, trains[number], 1.0)
                    elif text not in shared and len(text.split()) >= MIN_WORDS:
                        yield _found("text", True, sample, trains[number], 1.0)
            if text in shared or len(text.split()) < MIN_WORDS:
                continue
            for key, similarity in near.all_like(text):
                if _plain(keys[key][0].question) != text:
                    for number in numbers:
                        yield from (_found("near_text", False, s, trains[number], similarity) for s in keys[key])


def _pictures(tests, trains, test_pictures, train_pictures) -> Iterator[tuple]:
    seen = Pictures()
    exact: dict[str, dict[str, Sample]] = defaultdict(dict)
    hashes: dict[str, set[int]] = defaultdict(set)
    by_key = {sample.key: sample for sample in tests}
    for sample in tests:
        for look in test_pictures[sample.key]:
            if look.hash is not None:
                exact[look.pixels][sample.key] = sample
                if look.hash not in hashes[sample.key]:
                    seen.add(sample.key, look.hash)
                    hashes[sample.key].add(look.hash)
    for number, example in enumerate(trains):
        for look in train_pictures[number]:
            if look.hash is None:
                continue
            for sample in exact.get(look.pixels, {}).values():
                yield _found("picture", True, sample, example, 1.0)
            for key in seen.like(look.hash):
                if key not in exact.get(look.pixels, {}):
                    apart = min((look.hash ^ other).bit_count() for other in hashes[key])
                    yield _found("near_picture", False, by_key[key], example, 1 - apart / 64)


def _found(kind: str, leak: bool, sample: Sample, example: Example, similarity: float) -> tuple:
    return kind, leak, sample.key, example.source, example.id, similarity


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
