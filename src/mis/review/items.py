"""The pairs that the miniature's construction puts before its experts, as items of a review."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mis.construction.records import Drawing, Element, Filtered, Instruction, Record, derive_seed
from mis.progress import track
from mis.review.records import ReviewError, ReviewItem, write_items
from mis.store import StoreError, read_jsonl, replacing

PIXELS = 384  # a side of a picture that is drawn for the review


def write_review(
    construction: Path, folder: Path, draw: Callable[[Mapping[str, Any], int], Image.Image], size: int | None = None
) -> Path:
    """Writes `items.jsonl` and its pictures to `folder`, of the pairs that entered step 4; returns the file's path.

    `draw` makes a picture of a record's `content` with a side in pixels. `size` pairs are drawn by lot, always the same
    ones; absent, all. A pair that step 4 dropped is among them, and nothing says that it was.
    """
    element, instruction, drawing = (
        _kept(construction / f"{name}.jsonl", kind)
        for name, kind in (("1_elements", Element), ("2_instructions", Instruction), ("3_images", Drawing))
    )
    filtered = _kept(construction / "4_filtering.jsonl", Filtered)
    ids: Sequence[str] = list(drawing)
    if size is not None:
        ids = sorted(sorted(ids, key=lambda id: derive_seed(0, "review", id))[:size])
    items = []
    with track(len(ids), "pairs") as advance:
        for id in ids:
            images = tuple(folder / "pictures" / f"{id}_{place}.png" for place in (1, 2))
            for image, picture in zip(images, drawing[id].pictures, strict=True):
                with replacing(image, "wb") as file:
                    draw(picture.content, PIXELS).save(file, "png")
            proposed = filtered[id].destination if id in filtered else ""
            items.append(ReviewItem(id, images, instruction[id].text, element[id].category, proposed))
            advance(1)
    write_items(folder / "items.jsonl", items)
    return folder / "items.jsonl"


def _kept(path: Path, kind: type[Record]) -> dict[str, Any]:
    """The records that a step kept, by id."""
    try:
        rows = read_jsonl(path)
    except StoreError as error:
        raise ReviewError(f"{error} (`mis construct`)") from None
    return {row["id"]: kind.model_validate(row) for row in rows if "dropped" not in row}
