"""Sources in the layout of LLaVA conversations: M4-Instruct, the general data, MIS-train, the benign pairs.

A JSON list of `{"id", "image": path or [paths], "conversations": [{"from": "human", "value"}, {"from": "gpt",
"value"}, ...]}`; MIS-train may add `category` and `sub_category`. A longer conversation gives its first turn.

The released M4-Instruct needs judgement: its pictures come in many large archives, of which a user may have some, and
among its rows are conversations that do not begin with a question, or with as many placeholders as pictures. Rows that
name themselves by `sample_id`, as the released ones do, are left out in those cases (`common.Notes` counts them); a
picture that is missing from a folder that is there stays an error. They are opened when an arm takes them.
"""

from __future__ import annotations

from pathlib import Path

from mis.samples import Example
from mis.sources.common import Row, SourceError, json_rows, leave_out, picture, unique, without_placeholders
from mis.sources.labels import BARE, relabel

M4_FILE = "m4_instruct_annotations.json"
MIS_FILE = "mis_train.json"


def _turn(row: Row, position: int, speaker: str) -> str:
    turns = row.get("conversations", list)
    turn = turns[position] if position < len(turns) else None
    if not isinstance(turn, dict) or turn.get("from") != speaker:
        raise row.error(f"turn {position} of 'conversations' is not from {speaker!r}; see docs/data.md")
    return Row(turn, f"{row.where}, turn {position}").text("value")


def _images(row: Row, placeholders: int) -> list[str]:
    """The pictures of the first turn: as many as it has placeholders; all where no turn has any."""
    names = row.values.get("image") or []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise row.error("field 'image' is neither a path nor a list of paths")
    total = sum(
        str(turn.get("value")).count("<image>")
        for turn in row.values["conversations"]
        if isinstance(turn, dict) and turn.get("from") == "human"
    )
    if total not in (0, len(names)):
        raise row.error(f"{total} <image> placeholders for {len(names)} pictures; correct the row")
    return names[:placeholders] if total else names


def _first_turn(row: Row) -> tuple[str, list[str], str]:
    """Prompt, pictures and answer."""
    prompt, placeholders = without_placeholders(_turn(row, 0, "human"))
    if not prompt:
        raise row.error("turn 0 holds no text")
    return prompt, _images(row, placeholders), _turn(row, 1, "gpt")


def _is_folder(root: Path, name: str, known: dict[str, bool]) -> bool:
    """Is the top folder of a picture's path there? (An archive of M4-Instruct is one.)"""
    top = name.split("/")[0]
    if top not in known:
        known[top] = (root / top).exists()
    return known[top]


def _read(root: Path, file: str, source: str, kind: str) -> list[Example]:
    path, examples = root / file, []
    folders: dict[str, bool] = {}
    for number, row in enumerate(json_rows(path)):
        released = "sample_id" in row.values
        try:
            prompt, names, response = _first_turn(row)
        except SourceError:
            if not released:
                raise
            leave_out("no question and answer with as many placeholders as pictures")
            continue
        if released and not all(_is_folder(root, name, folders) for name in names):
            leave_out("its pictures are in an archive that is not there")
            continue
        for name in names:
            picture(root, name, row.where, look=not released)
        examples.append(
            Example(
                # M4-Instruct need not number its rows: then the position does.
                id=row.id("id") if row.values.get("id") is not None else str(number),
                source=source,
                kind=kind,
                images=tuple(f"{root.name}/{name}" for name in names),
                prompt=prompt,
                response=response,
                category=row.label("category"),
                sub_category=row.label("sub_category"),
            )
        )
    return unique(examples, path)


def _variant(examples: list[Example], root: Path, labels: str, own: str) -> list[Example]:
    return examples if labels in (own, BARE) else relabel(examples, root, labels)


def load_m4_instruct(root: Path, labels: str) -> list[Example]:
    """General samples of the arms (`lmms-lab/M4-Instruct-Data`)."""
    return _variant(_read(root, M4_FILE, "m4_instruct", "general"), root, labels, "original")


def load_general(root: Path, labels: str) -> list[Example]:
    """General samples for pre-training, in the layout of M4-Instruct."""
    return _variant(_read(root, M4_FILE, "general", "general"), root, labels, "original")


def load_captions(root: Path, labels: str) -> list[Example]:
    """Captioned pictures for pre-training a vision tower, in M4-Instruct's layout."""
    return _variant(_read(root, M4_FILE, "captions", "general"), root, labels, "original")


def load_mis_train(root: Path, labels: str) -> list[Example]:
    """MIS-train (`Tuwhy/MIS_Train`); the released answers are the safety chains of thought ("safety_cot")."""
    return _variant(_read(root, MIS_FILE, "mis_train", "safety"), root, labels, "safety_cot")


def load_benign_pairs(root: Path, labels: str) -> list[Example]:
    """Harmless pairs in the layout of MIS-train (ours); their answers reason as well ("safety_cot")."""
    return _variant(_read(root, MIS_FILE, "benign_pairs", "benign"), root, labels, "safety_cot")
