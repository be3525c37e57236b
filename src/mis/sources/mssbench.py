"""MSSBench chat (`kzhou35/mssbench`): one query, a safe and an unsafe situation; `combined.json`, pictures in `chat/`.

Table 2 of the paper asks the safe half again with a white picture in place of the situation, and with none.
"""

from __future__ import annotations

from pathlib import Path

from mis.samples import Sample
from mis.sources.common import BLANK, Row, SourceError, known_split, picture, read_json, unique

PICTURE = {"safe": "safe_image_path", "related_image": "safe_image_path", "unsafe": "unsafe_image_path"}
REPLACED = {"white_image": (BLANK["white"],), "text_only": ()}


def load(root: Path, split: str) -> list[Sample]:
    """Ids are the entry's position; the second and later queries of an entry add theirs: `12`, `12_1`."""
    known_split(split, (*PICTURE, *REPLACED), "mssbench")
    path = root / "combined.json"
    entries = read_json(path, dict).get("chat")
    if not isinstance(entries, list):
        raise SourceError(f"{path}: no list 'chat' at the top; the layout is described in docs/data.md")
    samples = []
    for number, values in enumerate(entries):
        row = Row(values if isinstance(values, dict) else {}, f"{path}, chat entry {number}")
        images = (
            REPLACED[split] if split in REPLACED else (picture(root / "chat", row.text(PICTURE[split]), row.where),)
        )
        queries = row.get("queries", list)
        if not queries or not all(isinstance(query, str) and query.strip() for query in queries):
            raise row.error("'queries' must be a list of one or more texts")
        for position, query in enumerate(queries):
            identity = f"{number}_{position}" if position else str(number)
            samples.append(Sample("mssbench", split, identity, query, images, category=row.label("Type")))
    return unique(samples, path)
