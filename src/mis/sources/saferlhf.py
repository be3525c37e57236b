"""PKU-SafeRLHF (`PKU-Alignment/PKU-SafeRLHF`): text only, `data/<model>/train.jsonl`, two answers a prompt.

The paper trains its textual arm on 2,000 harmful prompts with safe answers and 1,000 benign prompts with the original
ones, each paired with an all-black picture; the dataset has no flag "harmful", so it is decided from the answers:

- both safe (`is_response_0_safe`, `is_response_1_safe`): benign; the answer is the one of `better_response_id`;
- one unsafe: harmful; the answer is the other, safe one;
- both unsafe: harmful without a safe answer. Labels "original" leave such a prompt out; any other variant brings the
  answer (the paper had Llama-3-8B-Instruct write it), for the harmful prompts that the label step drew.

A prompt stands in several rows, with other answers each time: an arm draws it once (`mixtures.ONCE`).
"""

from __future__ import annotations

from pathlib import Path

from mis.samples import Example
from mis.sources.common import BLANK, Row, SourceError, extract, jsonl_rows
from mis.sources.labels import BARE, relabel

PATTERN = "data/*/train.jsonl"


def _example(row: Row, identity: str, images: tuple[str, ...]) -> Example:
    safe = [row.get(f"is_response_{k}_safe", bool) for k in (0, 1)]
    kind = "benign" if all(safe) else "safety"
    chosen = safe.index(True) if any(safe) else None
    if kind == "benign":
        chosen = row.get("better_response_id", int)
        if chosen not in (0, 1):
            raise row.error("'better_response_id' is neither 0 nor 1")
    response = "" if chosen is None else row.text(f"response_{chosen}")
    return Example(identity, "saferlhf", kind, images, row.text("prompt"), response)


def load(root: Path, labels: str) -> list[Example]:
    """Ids are `<model>-<line>`, lines from 1: the dataset has none."""
    paths = sorted(root.glob(PATTERN))
    if not paths:
        raise SourceError(f"{root / PATTERN}: no such file; put the dataset there in its public layout (docs/data.md)")
    black = extract(root, BLANK["black"].read_bytes(), str(BLANK["black"]))
    images = (f"{root.name}/{black.relative_to(root).as_posix()}",)
    examples = [
        _example(row, f"{path.parent.name}-{row.where.rpartition(' ')[2]}", images)
        for path in paths
        for row in jsonl_rows(path)
    ]
    if labels == BARE:
        return examples
    if labels == "original":
        return [example for example in examples if example.response]
    return relabel(examples, root, labels, drawn=True)
