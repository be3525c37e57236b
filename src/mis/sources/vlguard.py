"""VLGuard (`ys-zong/VLGuard`, gated): `train.json`, 2,000 pictures in `train/`.

An unsafe picture gives one safety example. A safe picture gives two: its safe instruction is benign, its unsafe
instruction is safety. The file's 977 safe and 1,023 unsafe pictures are so 977 benign and 2,000 safety examples.
`test.json` has the same layout but leaves the answers to safe instructions empty: it cannot train anything.
"""

from __future__ import annotations

from pathlib import Path

from mis.samples import Example
from mis.sources.common import Row, json_rows, picture, unique
from mis.sources.labels import BARE, relabel

PICTURES = "train"  # what train.zip unpacks to; image paths are relative to it
# Field of the instruction in `instr-resp`, suffix of the id, kind.
ASKED = {
    False: (("instruction", "", "safety"),),
    True: (("safe_instruction", "-safe", "benign"), ("unsafe_instruction", "-unsafe", "safety")),
}


def load(root: Path, labels: str) -> list[Example]:
    """All examples of the train file; `labels` other than "original" replaces the answers of the safety ones.

    One id of the released file (`Ads_303871`) stands at two rows with different instructions: the second and
    later ones get `~2`, `~3`, ... A row that is there twice with the same instructions is an error.
    """
    path, examples = root / "train.json", []
    earlier: dict[str, list] = {}
    for row in json_rows(path):
        identity, image = row.id("id"), row.text("image")
        picture(root / PICTURES, image, row.where)
        pairs = row.get("instr-resp", list)
        if pairs in earlier.setdefault(identity, []):
            raise row.error(f"id {identity!r} occurs twice with the same instructions; ids must differ")
        earlier[identity].append(pairs)
        number = len(earlier[identity])
        identity += f"~{number}" if number > 1 else ""
        asked = ASKED[row.get("safe", bool)]
        if len(pairs) != len(asked):
            raise row.error(f"'instr-resp' has {len(pairs)} entries, not {len(asked)}; see docs/data.md")
        for values, (field, suffix, kind) in zip(pairs, asked, strict=True):
            pair = Row(values if isinstance(values, dict) else {}, f"{row.where}, {field}")
            examples.append(
                Example(
                    identity + suffix,
                    "vlguard",
                    kind,
                    (f"{root.name}/{PICTURES}/{image}",),
                    pair.text(field),
                    pair.text("response"),
                    row.label("harmful_category"),
                    row.label("harmful_subcategory"),
                )
            )
    unique(examples, path)
    return examples if labels in ("original", BARE) else relabel(examples, root, labels)
