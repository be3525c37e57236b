"""MIS-real: photographs for the objects of test samples, from a local CLIP index; a person confirms each pair.

The index is a folder in the layout of clip-retrieval (github rom1504/clip-retrieval): `image.index`, a faiss index of
normalised image embeddings, and `metadata/*.parquet`, whose rows, files in the order of their names, are the index's.
The columns `image_path` and `url` are its own; `license` is needed here and must be filled: a photograph without a
licence is never proposed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mis.construction.participants import NoAnswer, Photos
from mis.construction.people import Review, item_id
from mis.construction.records import Candidate, ConstructionError, Picture
from mis.review.records import ACCEPT, ReviewItem
from mis.settings import PhotographIndex
from mis.sources.common import SourceError, parquet_rows, picture, write_atomically

COLUMNS = ("image_path", "url", "license")
QUERY = "a photo of {}"
NOT_FOUND, NOT_CONFIRMED = "no photograph found", "no photograph confirmed"


class ClipIndex:
    """Photographs by what they show. Loaded when it is first asked."""

    def __init__(self, settings: PhotographIndex):
        self._settings = settings
        self._loaded: tuple[Any, list[dict[str, Any]]] | None = None
        path = settings.index / "image.index"
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ConstructionError(
                f"{path}: no index of photographs ({error.strerror}); docs/construction.md"
            ) from None
        self.version = (
            f"{settings.index.name} ({size} bytes) {settings.clip.name} nearest {settings.nearest} choices "
            f"{settings.choices} similarity>={settings.minimum_similarity:g}"
        )

    def nearest(self, names: Sequence[str]) -> list[list[dict[str, Any]]]:
        """For each name the photographs that show it best: metadata's rows with `similarity`, best first.

        Only those with a licence and a whole file, and at least the configured similarity.
        """
        import faiss

        index, rows = self._load()
        texts = self._embed([QUERY.format(name) for name in names])
        faiss.normalize_L2(texts)
        similarities, places = index.search(texts, min(self._settings.nearest, len(rows)))
        return [
            [
                {**rows[place], "similarity": round(float(similarity), 4)}
                for similarity, place in zip(*line, strict=True)
                if place >= 0 and similarity >= self._settings.minimum_similarity and self._usable(rows[place])
            ]
            for line in zip(similarities, places, strict=True)
        ]

    def _usable(self, row: dict[str, Any]) -> bool:
        if not row["license"]:
            return False
        try:
            picture(self._settings.images, row["image_path"], "")
        except SourceError:
            return False
        return True

    def _load(self) -> tuple[Any, list[dict[str, Any]]]:
        if self._loaded is None:
            import faiss

            folder = self._settings.index
            try:
                index = faiss.read_index(str(folder / "image.index"))
            except RuntimeError:
                raise ConstructionError(f"{folder / 'image.index'}: not a faiss index; make it again") from None
            rows = []
            for row in parquet_rows(folder, "metadata/*.parquet", COLUMNS):
                rows.append({column: str(row.values[column] or "") for column in COLUMNS})
            if len(rows) != index.ntotal:
                raise ConstructionError(
                    f"{folder}: {index.ntotal} embeddings and {len(rows)} rows of metadata; they belong to different "
                    "indices: make them again"
                )
            self._loaded = index, rows
        return self._loaded

    def _embed(self, texts: Sequence[str]):
        """Embeddings of texts, float32, (texts, dimensions), not normalised."""
        import numpy as np
        import torch
        from transformers import AutoTokenizer, CLIPModel

        tokenizer = AutoTokenizer.from_pretrained(self._settings.clip)
        model = CLIPModel.from_pretrained(self._settings.clip, use_safetensors=True).eval()
        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), 64):
                batch = tokenizer(list(texts[start : start + 64]), padding=True, truncation=True, return_tensors="pt")
                pooled = model.text_model(**batch).pooler_output
                found.append(model.text_projection(pooled).float().numpy())
        return np.ascontiguousarray(np.concatenate(found), dtype=np.float32)


class ConfirmedPhotographs:
    """The :class:`~mis.construction.participants.PhotoSource` of real photographs.

    Of each object's nearest photographs pairs are proposed, best first, none twice; a person looks at up to `choices`
    pairs a sample, and the first accepted one is taken. `review` None: nobody looks, and the best pair is taken.
    """

    def __init__(self, settings: PhotographIndex, index: ClipIndex, review: Review | None, folder: Path):
        self._settings, self._index, self._review, self._folder = settings, index, review, folder
        self.version = f"{index.version} {f'people {review.digest}' if review else 'unconfirmed'}"

    def find(self, candidates: Sequence[Candidate], seeds: Sequence[int]) -> list[Photos | NoAnswer]:
        if not candidates:
            return []
        nearest = self._index.nearest([name for c in candidates for name in c.element.objects])
        proposed = [
            self._proposals(candidate, nearest[2 * i], nearest[2 * i + 1], seed)
            for i, (candidate, seed) in enumerate(zip(candidates, seeds, strict=True))
        ]
        if self._review is None:
            return [pairs[0] if pairs else NoAnswer(NOT_FOUND) for pairs in proposed]
        items = {
            item_id(c.id, c.instruction.text, pair): (c, pair)
            for c, pairs in zip(candidates, proposed, strict=True)
            for pair in pairs
        }
        shown = [
            ReviewItem(
                id=id,
                images=tuple(self._folder / photo.content["file"] for photo in pair),
                question=c.instruction.text,
                proposed_category=c.element.category,
                note=f"Photographs: does the first show {c.element.objects[0]}, the second {c.element.objects[1]}?",
            )
            for id, (c, pair) in items.items()
        ]
        results = self._review.results(shown) if shown else {}
        return [
            next(
                (p for p in pairs if results[item_id(c.id, c.instruction.text, p)].decision == ACCEPT),
                NoAnswer(NOT_CONFIRMED if pairs else NOT_FOUND),
            )
            for c, pairs in zip(candidates, proposed, strict=True)
        ]

    def _proposals(self, candidate: Candidate, first: list[dict], second: list[dict], seed: int) -> list[Photos]:
        """The best pair, the second best of each, and so on; never the same photograph twice in a pair."""
        pairs = [pair for pair in zip(first, second, strict=False) if pair[0]["image_path"] != pair[1]["image_path"]]
        return [
            tuple(self._photo(row, name, seed) for row, name in zip(pair, candidate.element.objects, strict=True))
            for pair in pairs[: self._settings.choices]
        ]

    def _photo(self, row: dict[str, Any], name: str, seed: int) -> Picture:
        """Copies a photograph beside the drawings, so that the construction's folder is complete."""
        source = self._settings.images / row["image_path"]
        content = source.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        file = f"photographs/{digest[:2]}/{digest[:24]}{source.suffix.lower()}"
        target = self._folder / file
        if not target.exists():
            write_atomically(target, content)
        origin = {key: row[key] for key in ("url", "license", "similarity")}
        return Picture(prompt=QUERY.format(name), seed=seed, content={"file": file, "sha256": digest, **origin})
