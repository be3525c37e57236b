"""The samples as Parquet, as `datasets` writes them: pictures inside, features in the file's own description."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mis.report.release.rows import Construction
from mis.store import replacing

SHARD_BYTES = 500 * 1000**2  # of pictures: what the hub advises for one file
GROUP_ROWS = 100  # rows that a reader must hold at once


@dataclass(frozen=True)
class Shard:
    """One file: its name below the release, rows, bytes, and SHA-256."""

    name: str
    rows: int
    bytes: int
    sha256: str


def features() -> Any:
    """`datasets.Features` of every split."""
    from datasets import Features, Image, List, Value

    text, number, flag = Value("string"), Value("int64"), Value("bool")
    return Features(
        {
            "id": text,
            "question": text,
            "image_1": Image(),
            "image_2": Image(),
            "category": text,
            "sub_category": text,
            "objects": List(text),
            "perception": text,
            "reasoning": text,
            "answer": text,
            "provenance": {
                "record": text,
                "source": text,
                "first_question": text,
                "named": text,
                "referring": text,
                "detoxified_because": text,
                "dangerous_terms": List(text),
                "dangerous_text": flag,
                "explicit": List(flag),
                "rounds": List(
                    {
                        "prompts": List(text),
                        "seeds": List(number),
                        "sha256": List(text),
                        "accepted": flag,
                        "reason": text,
                    }
                ),
                "votes": List({"keep": flag, "reason": text}),
                "decisions": List(
                    {
                        "annotator": text,
                        "decision": text,
                        "category": text,
                        "difficulty": text,
                        "reason": text,
                        "time": text,
                    }
                ),
                "photographs": List({"url": text, "license": text, "similarity": Value("float64"), "seed": number}),
                "made_by": List({"step": text, "role": text, "version": text}),
            },
        }
    )


def write_split(folder: Path, split: str, construction: Construction) -> list[Shard]:
    """Writes `data/<split>-<n>-of-<shards>.parquet`; a few rows are in memory at a time."""
    sizes = [
        sum(image.stat().st_size for image in (row["image_1"], row["image_2"])) for row in construction.rows(split)
    ]
    count = max(1, -(-sum(sizes) // SHARD_BYTES))
    bounds = [round(i * len(sizes) / count) for i in range(count + 1)]
    rows = construction.rows(split)
    return [
        _write_shard(folder, f"data/{split}-{number:05d}-of-{count:05d}.parquet", rows, stop - start)
        for number, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False))
    ]


def _write_shard(folder: Path, name: str, rows: Iterator[dict[str, Any]], count: int) -> Shard:
    import pyarrow as pa
    from pyarrow import parquet

    schema = features().arrow_schema
    with (
        replacing(folder / name, "wb") as file,
        parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=True) as writer,
    ):
        for start in range(0, count, GROUP_ROWS):
            group = [_embedded(next(rows)) for _ in range(min(GROUP_ROWS, count - start))]
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
    content = folder / name
    with open(content, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Shard(name, count, content.stat().st_size, digest)


def _embedded(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its pictures' bytes; a path stays as a name."""
    for name in ("image_1", "image_2"):
        path: Path = row[name]
        row[name] = {"bytes": path.read_bytes(), "path": f"{row['id'].replace('/', '_')}_{name}{path.suffix}"}
    return row
