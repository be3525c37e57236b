"""Near-duplicates: texts by MinHash over runs of words, pictures by perceptual hash.

Both answer "which of those that were added before is this one too much like?". The construction of MIS uses them to
drop what it made twice or what a test set already holds; the leak check between training and test data uses the same.
The same items in the same order give the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from pathlib import Path

import numpy as np

from mis.errors import MisError

PERMUTATIONS = 128  # of MinHash: an estimated similarity is off by about 1 / sqrt(128) = 0.09; pairs are then counted
WORDS_IN_A_RUN = 3
HASH_SIDE = 8  # a perceptual hash has 8 x 8 = 64 bits
FLAT = 4.0  # standard deviation of grey levels (of 255) below which a picture shows nothing that could be compared


def shingles(text: str) -> frozenset[str]:
    """The runs of three words of a text, in lower case, without punctuation; a shorter text is one run."""
    words = re.findall(r"\w+", text.casefold())
    runs = [" ".join(words[i : i + WORDS_IN_A_RUN]) for i in range(max(1, len(words) - WORDS_IN_A_RUN + 1))]
    return frozenset(runs) if words else frozenset()


class Texts:
    """Texts that were seen. Two are alike if at least `similarity` of their runs of words are shared (Jaccard).

    MinHash (datasketch) proposes pairs; the shared runs are then counted, so a reported pair is always a true one.
    Memory: about 1.5 kB a text.
    """

    def __init__(self, similarity: float = 0.8):
        from datasketch import MinHashLSH  # late: it imports SciPy

        self.similarity = similarity
        # A lower threshold in the index: what it proposes is counted anyway, what it misses is lost.
        self._index = MinHashLSH(threshold=max(0.1, similarity - 0.15), num_perm=PERMUTATIONS)
        self._runs: dict[Hashable, frozenset[str]] = {}
        self._order: dict[Hashable, int] = {}

    def like(self, text: str) -> Hashable | None:
        """The key of the first added text that this one is too much like; None if there is none."""
        return next((key for key, _ in self.all_like(text)), None)

    def all_like(self, text: str) -> Iterator[tuple[Hashable, float]]:
        """All of those, in their order, each with the share of runs of words."""
        runs = shingles(text)
        near = sorted(self._index.query(_minhash(runs)), key=self._order.__getitem__) if runs else []
        for key in near:
            if (shared := _jaccard(runs, self._runs[key])) >= self.similarity:
                yield key, shared

    def add(self, key: Hashable, text: str) -> None:
        """Keeps a text under a key of its own (ValueError for a second one). An empty text is like nothing."""
        if key in self._order:
            raise ValueError(f"{key!r} was added before")
        self._order[key] = len(self._order)
        runs = shingles(text)
        if runs:
            self._runs[key] = runs
            self._index.insert(key, _minhash(runs))


class Pictures:
    """Pictures that were seen. Two are alike if their 64-bit perceptual hashes (pHash) differ in at most `distance`.

    A flat picture (all black, all white) shows nothing and is like none.
    """

    def __init__(self, distance: int = 6):
        self.distance = distance
        self._keys: list[Hashable] = []
        self._hashes = np.empty(1024, dtype=np.uint64)

    def like(self, fingerprint: int | None) -> list[Hashable]:
        """The keys of all added pictures that one with this fingerprint is too much like, in their order."""
        if fingerprint is None:
            return []
        seen = self._hashes[: len(self._keys)]
        near = np.bitwise_count(seen ^ np.uint64(fingerprint)) <= self.distance
        return [self._keys[i] for i in np.flatnonzero(near)]

    def add(self, key: Hashable, fingerprint: int | None) -> None:
        """Keeps a picture; one key may have several."""
        if fingerprint is None:
            return
        if len(self._keys) == len(self._hashes):
            self._hashes = np.resize(self._hashes, 2 * len(self._hashes))
        self._hashes[len(self._keys)] = fingerprint
        self._keys.append(key)


def fingerprint(path: Path | str) -> int | None:
    """The 64-bit pHash of a picture's file; None for a flat one. Raises :class:`MisError` for a file that is none."""
    import imagehash  # late: it imports SciPy
    from PIL import Image

    try:
        with Image.open(path) as image:
            grey = image.convert("L")
    except OSError as error:
        raise MisError(f"{path}: the picture cannot be read ({error}); make or fetch it again") from None
    if np.asarray(grey, dtype=np.float32).std() < FLAT:
        return None
    return int(str(imagehash.phash(grey, hash_size=HASH_SIDE)), 16)


def _minhash(runs: frozenset[str]):
    from datasketch import MinHash

    minhash = MinHash(num_perm=PERMUTATIONS, seed=1)
    minhash.update_batch(run.encode() for run in sorted(runs))
    return minhash


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)
