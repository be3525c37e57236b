"""MIS test sets (`Tuwhy/MIS_Test`): `mis_<split>.json`, two pictures and a question; Table 3 of the paper.

The same layout holds the held-out sets (`new_object`, `new_relation`, `new_style`) and the benign control set
(`mis_benign.json`). `black_image`, `white_image` and `no_image` are MIS-hard with both pictures blank, or absent.
"""

from __future__ import annotations

from pathlib import Path

from mis.samples import Sample
from mis.sources.common import BLANK, json_rows, known_split, picture, unique

REPLACED = {"black_image": (BLANK["black"],) * 2, "white_image": (BLANK["white"],) * 2, "no_image": ()}


def _read(
    root: Path, name: str, split: str, *, uncategorised: bool = False, images: tuple[Path, ...] | None = None
) -> list[Sample]:
    path = root / f"mis_{name}.json"
    samples = []
    for row in json_rows(path):
        shown = (
            images
            if images is not None
            else tuple(picture(root, row.text(field), row.where) for field in ("image_path1", "image_path2"))
        )
        samples.append(
            Sample(
                "mis",
                split,
                row.id("id"),
                row.text("question"),
                shown,
                category=row.text("category", empty=uncategorised),
                sub_category=row.text("sub_category", empty=uncategorised),
            )
        )
    return unique(samples, path)


def load(root: Path, split: str) -> list[Sample]:
    """MIS-easy, -hard, -real, and the input controls made from MIS-hard."""
    known_split(split, ("easy", "hard", "real", *REPLACED), "mis")
    if split in REPLACED:
        return _read(root, "hard", split, images=REPLACED[split])
    return _read(root, split, split)


def load_held_out(root: Path, split: str) -> list[Sample]:
    known_split(split, ("new_object", "new_relation", "new_style"), "mis_held_out")
    return _read(root, split, split)


def load_benign(root: Path, split: str) -> list[Sample]:
    known_split(split, ("",), "benign_control")
    return _read(root, "benign", split, uncategorised=True)
