"""Step 4, before anybody looks: what was made twice, and what a test set already holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mis.construction.records import Candidate
from mis.duplicates import Pictures, Texts, fingerprint
from mis.samples import Sample

TWICE_TEXT, TWICE_PICTURES = "near-duplicate: question", "near-duplicate: both pictures"
TEST_TEXT, TEST_PICTURE = "as in a test set: question", "as in a test set: picture"


class NearDuplicates:
    """Of samples that are too much alike the first stays; one that is like a test sample goes.

    Compared is the question that names both objects: the final text says too little ("the object in the first image")
    to tell two samples apart. Two samples are also alike if both their pictures are, in either order; one picture like
    a test set's is enough. `folder` is what the pictures' files are named from.
    """

    def __init__(
        self, folder: Path, against: Sequence[Sample], text_similarity: float = 0.8, picture_distance: int = 6
    ):
        self._folder = folder
        self._against = against
        self._similarity, self._distance = text_similarity, picture_distance
        digest = hashlib.sha256()
        for sample in against:
            digest.update(f"{sample.key}\0{sample.question}\0{[image.name for image in sample.images]}\n".encode())
        self.version = (
            f"near-duplicates text>={text_similarity:g} picture<={picture_distance} "
            f"against {len(against)} samples {digest.hexdigest()[:16]}"
        )

    def faults(self, candidates: Sequence[Candidate]) -> list[str]:
        tests, test_pictures = Texts(self._similarity), Pictures(self._distance)
        shown = sorted({image for sample in self._against for image in sample.images})
        for path in shown:
            test_pictures.add(path, fingerprint(path))
        for text in sorted({sample.question for sample in self._against}):
            tests.add(text, text)
        texts, pictures = Texts(self._similarity), Pictures(self._distance)
        return [self._fault(candidate, tests, test_pictures, texts, pictures) for candidate in candidates]

    def _fault(
        self, candidate: Candidate, tests: Texts, test_pictures: Pictures, texts: Texts, pictures: Pictures
    ) -> str:
        named = candidate.instruction.named
        prints = [fingerprint(self._folder / picture.content["file"]) for picture in candidate.pictures]
        if tests.like(named) is not None:
            return TEST_TEXT
        if any(test_pictures.like(one) for one in prints):
            return TEST_PICTURE
        if texts.like(named) is not None:
            return TWICE_TEXT
        if any(one & other for one, other in self._pairs(prints, pictures)):
            return TWICE_PICTURES
        texts.add(candidate.id, named)
        for place, one in enumerate(prints):
            pictures.add((candidate.id, place), one)
        return ""

    @staticmethod
    def _pairs(prints: Sequence[int | None], pictures: Pictures) -> Iterator[tuple[set, set]]:
        """For both orders: which (sample, place) the first and the second picture are like."""
        first, second = (set(pictures.like(one)) for one in prints)
        for places in ((0, 1), (1, 0)):
            yield (
                {id for id, place in first if place == places[0]},
                {id for id, place in second if place == places[1]},
            )
