"""Other answers for the examples of a training source: `<root>/labels/<variant>.jsonl`.

A row is `{"id", "response"}` and may hold a `prompt` and a list of `images` (relative to the dataset's root; empty for
none) that replace the example's own, as the text-only variant of MIS needs. A row with an `outcome` other than "ok"
says that nobody wrote an answer (`mis data label`): its example is left out, and counted. `<variant>.json` beside it
says who wrote the answers.

A reasoning model learns with a thought in front of each answer: `<data>/thoughts/<source>.jsonl`, rows {"id",
"response"}, written by the step that labels the data (the miniature's own stand-in, or a model).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from mis.prompts import thoughtful
from mis.samples import Example
from mis.sources.common import Row, SourceError, jsonl_rows, leave_out, picture

BARE = ""  # in the place of a variant: all examples, before any labels; some may have no answer
LABEL_REFUSED = "no usable label was written"  # of `common.Notes`


def label_facts(root: Path, variant: str) -> dict | None:
    """Who wrote the answers of a variant: model, prompt, outcomes. None where no step of ours did."""
    try:
        return json.loads((root / "labels" / f"{variant}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _usable(row: Row) -> bool:
    return row.values.get("outcome", "ok") == "ok"


def relabel(examples: list[Example], root: Path, variant: str, *, drawn: bool = False) -> list[Example]:
    """The examples with the answers of `variant`; examples of kind "benign" keep their own unless the whole source
    is benign. An example without a row is an error; a row without an example is not (a label step may label more).

    `drawn`: the label step drew the examples that an arm takes from a source of which it takes few; those without a
    row are left out.
    """
    path = root / "labels" / f"{variant}.jsonl"
    if not path.is_file():
        raise SourceError(
            f"{path}: no such file; the answer variant {variant!r} of {root.name} is written there by "
            "the step that labels the data"
        )
    rows = {}
    for row in jsonl_rows(path):
        identity = row.id("id")
        if identity in rows:
            raise row.error(f"id {identity!r} occurs twice; ids must differ")
        rows[identity] = row
    everything = all(example.kind == "benign" for example in examples)
    kept = []
    for example in examples:
        if example.kind == "benign" and not everything:
            kept.append(example)
        elif example.id in rows and not _usable(rows[example.id]):
            leave_out(LABEL_REFUSED)
        elif example.id in rows or not drawn:
            kept.append(_replace(example, rows, root, path))
    return kept


def _replace(example: Example, rows: dict, root: Path, path: Path) -> Example:
    if example.id not in rows:
        raise SourceError(f"{path}: no row for id {example.id!r}; run the step that labels the data again")
    row = rows[example.id]
    changes = {"response": row.text("response")}
    if "prompt" in row.values:
        changes["prompt"] = row.text("prompt")
    if "images" in row.values:
        for name in row.get("images", list):
            picture(root, name, row.where)
        changes["images"] = tuple(f"{root.name}/{name}" for name in row.values["images"])
    return dataclasses.replace(example, **changes)


def with_thoughts(examples: list[Example], data: Path) -> list[Example]:
    """The examples of any training sources, each answer behind its thought; one without a thought is an error.

    An example whose thought was refused or came back malformed (its row says so) is left out.
    """
    thoughts: dict[str, dict[str, str | None]] = {}
    for source in {example.source for example in examples}:
        path = data / "thoughts" / f"{source}.jsonl"
        if not path.is_file():
            raise SourceError(f"{path}: no thoughts for {source}; run the step that labels the data (`mis think`)")
        thoughts[source] = {row.id("id"): row.text("response") if _usable(row) else None for row in jsonl_rows(path)}
    changed = []
    for example in examples:
        if example.id not in thoughts[example.source]:
            path = data / "thoughts" / f"{example.source}.jsonl"
            raise SourceError(f"{path}: no thought for id {example.id!r}; run `mis think` again")
        if thoughts[example.source][example.id] is None:
            leave_out(LABEL_REFUSED)
            continue
        response = thoughtful(thoughts[example.source][example.id], example.response)
        changed.append(dataclasses.replace(example, response=response))
    return changed
