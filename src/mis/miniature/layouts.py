"""Writers of the public layouts: the miniature's datasets as files that the loaders of `mis.sources` read.

Each writer takes the dataset's own folder, draws the pictures, writes the dataset's table last (atomically, so a killed
run leaves no table that names missing pictures), and returns the ids that the loader will give, in the order of the
items. Tables hold letters, indices and columns as the originals do; an `Item` holds texts.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import string
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mis.sources import advbench, conversations, figstep, jailbreakv, mmmu, mmstar, mmt_bench, q_bench
from mis.sources.common import write_atomically


@dataclass(frozen=True)
class Item:
    """One sample before it has a file. `images` are scenes, opaque here; `answer` is the right option's text, or the
    response of a training example; `extra` holds what a single layout wants besides."""

    question: str
    images: tuple = ()
    answer: str = ""
    options: tuple[str, ...] = ()
    category: str = ""
    sub_category: str = ""
    extra: dict = field(default_factory=dict)


Draw = Callable[[Any, Path], None]  # draws a scene to a path, as PNG or JPEG by its suffix


def _json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, ensure_ascii=False, indent=1).encode())


def _jsonl(path: Path, rows: Iterable[dict]) -> None:
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _csv(path: Path, rows: Sequence[dict], columns: Sequence[str], delimiter: str = ",") -> None:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, stream.getvalue().encode())


def _parquet(path: Path, rows: list[dict], types: dict[str, Any]) -> None:
    """A Parquet file; a type "image" becomes Hugging Face's `{"bytes", "path"}`, "images" a list of them."""
    import pyarrow as pa
    from pyarrow import parquet

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    named = {
        "image": image,
        "images": pa.list_(image),
        "int": pa.int64(),
        "str": pa.string(),
        "texts": pa.list_(pa.string()),
    }
    schema = pa.schema([(name, named[kind]) for name, kind in types.items()])
    stream = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema), stream)
    write_atomically(path, stream.getvalue())


def _draw(scene: Any, root: Path, relative: str, draw: Draw) -> str:
    path = root / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(scene, path)
    return relative


def _drawn(scenes: Sequence, draw: Draw) -> list[bytes]:
    """The pictures as PNG bytes, for the layouts that keep them inside a table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.png"
        contents = []
        for scene in scenes:
            draw(scene, path)
            contents.append(path.read_bytes())
    return contents


def _embedded(scenes: Sequence, draw: Draw) -> list[dict]:
    return [{"bytes": content, "path": None} for content in _drawn(scenes, draw)]


def _letter(item: Item) -> str:
    return string.ascii_uppercase[item.options.index(item.answer)]


def write_mis(root: Path, split: str, items: Sequence[Item], draw: Draw) -> list[str]:
    """MIS (easy, hard, real, new_object, new_relation, new_style) and, with `split="benign"`, the benign control."""
    rows = []
    for number, item in enumerate(items, start=1):
        first, second = (
            _draw(scene, root, f"{split}_image/{number}/object{k}.png", draw)
            for k, scene in enumerate(item.images, start=1)
        )
        rows.append(
            {
                "question": item.question,
                "category": item.category,
                "sub_category": item.sub_category,
                "image_path1": first,
                "image_path2": second,
                "id": number,
            }
        )
    _json(root / f"mis_{split}.json", rows)
    return [str(row["id"]) for row in rows]


def write_conversations(root: Path, filename: str, items: Sequence[Item], draw: Draw) -> list[str]:
    """LLaVA conversations: M4-Instruct and the general data (`m4_instruct_annotations.json`), MIS-train and the benign
    pairs (`mis_train.json`). Any number of pictures, none included."""
    rows = []
    for number, item in enumerate(items, start=1):
        images = [_draw(scene, root, f"images/{number}_{k}.png", draw) for k, scene in enumerate(item.images, start=1)]
        row = {
            "id": str(number),
            "image": images,
            "conversations": [
                {"from": "human", "value": "<image>\n" * len(images) + item.question},
                {"from": "gpt", "value": item.answer},
            ],
        }
        if item.category:
            row |= {"category": item.category, "sub_category": item.sub_category}
        rows.append(row)
    _json(root / filename, rows)
    return [row["id"] for row in rows]


def write_m4_instruct(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """M4-Instruct, and the general data of pre-training, which has its layout."""
    return write_conversations(root, conversations.M4_FILE, items, draw)


def write_mis_train(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """MIS-train, and the benign pairs, which have its layout."""
    return write_conversations(root, conversations.MIS_FILE, items, draw)


def write_vlguard(
    root: Path, unsafe_items: Sequence[Item], safe_items: Sequence[Item], draw: Draw, split: str = "train"
) -> list[str]:
    """VLGuard. An unsafe item is question and answer over an unsafe picture; a safe one holds both conversations of a
    safe picture in `extra`: safe_instruction, safe_response, unsafe_instruction, unsafe_response.

    Ids: the unsafe items', then for each safe item its benign and its safety example's.
    """
    rows, ids = [], []
    for number, item in enumerate(unsafe_items, start=1):
        rows.append(
            {
                "id": f"unsafe_{number}",
                "safe": False,
                "harmful_category": item.category,
                "harmful_subcategory": item.sub_category,
                "image": _draw(item.images[0], root / split, f"unsafe/{number}.png", draw),
                "instr-resp": [{"instruction": item.question, "response": item.answer}],
            }
        )
        ids.append(f"unsafe_{number}")
    for number, item in enumerate(safe_items, start=1):
        rows.append(
            {
                "id": f"safe_{number}",
                "safe": True,
                "image": _draw(item.images[0], root / split, f"safe/{number}.png", draw),
                "instr-resp": [
                    {
                        f"{kind}_instruction": item.extra[f"{kind}_instruction"],
                        "response": item.extra[f"{kind}_response"],
                    }
                    for kind in ("safe", "unsafe")
                ],
            }
        )
        ids += [f"safe_{number}-safe", f"safe_{number}-unsafe"]
    _json(root / f"{split}.json", rows)
    return ids


def write_saferlhf(root: Path, harmful: Sequence[Item], benign: Sequence[Item]) -> list[str]:
    """PKU-SafeRLHF. A harmful item's `answer` is the safe one, `extra["unsafe_response"]` the other; a benign item's
    `extra["other_response"]` is its second, equally safe answer. Ids: harmful, then benign."""
    model, rows = "Alpaca3-8B", []
    for number, item in enumerate([*harmful, *benign]):
        is_harmful = number < len(harmful)
        right = number % 2  # the safe (or better) answer is no more often the first than the second
        other = item.extra.get("unsafe_response" if is_harmful else "other_response", "")
        rows.append(
            {
                "prompt": item.question,
                f"response_{right}": item.answer,
                f"response_{1 - right}": other,
                f"is_response_{right}_safe": True,
                f"is_response_{1 - right}_safe": not is_harmful,
                "better_response_id": right,
                "safer_response_id": right,
            }
        )
    _jsonl(root / "data" / model / "train.jsonl", rows)
    return [f"{model}-{line}" for line in range(1, len(rows) + 1)]


def write_labels(root: Path, variant: str, rows: Iterable[dict]) -> None:
    """Another answer variant of a training source: rows of `id`, `response` and, where they change too, `prompt` and
    `images` (relative to `root`)."""
    _jsonl(root / "labels" / f"{variant}.jsonl", rows)


def write_figstep(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """FigStep. The question goes into the table, `extra["instruction"]` is what the picture spells (else the question
    itself); a loader asks every picture with `figstep.PROMPT`."""
    numbers: dict[str, int] = {}
    rows = []
    for item in items:
        category = list(numbers).index(item.category) + 1 if item.category in numbers else len(numbers) + 1
        task = numbers[item.category] = numbers.get(item.category, 0) + 1
        _draw(item.images[0], root, f"{figstep.IMAGES}/query_ForbidQI_{category}_{task}_6.png", draw)
        rows.append(
            {
                "dataset": "ForbidQI",
                "category_id": category,
                "task_id": task,
                "category_name": item.category,
                "question": item.question,
                "instruction": item.extra.get("instruction", item.question),
            }
        )
    _csv(
        root / figstep.QUESTIONS,
        rows,
        ("dataset", "category_id", "task_id", "category_name", "question", "instruction"),
    )
    return [f"{row['category_id']}_{row['task_id']}" for row in rows]


def write_mm_safetybench(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """MM-SafetyBench, pictures of kind SD_TYPO. `extra["key_phrase"]` is what is typed below the picture."""
    scenarios: dict[str, dict[str, dict]] = {}
    ids = []
    for item in items:
        entries = scenarios.setdefault(item.category, {})
        scenario = f"{list(scenarios).index(item.category) + 1:02d}-{item.category.replace(' ', '_')}"
        number = str(len(entries))
        _draw(item.images[0], root, f"imgs/{scenario}/SD_TYPO/{number}.jpg", draw)
        entries[number] = {
            "Question": item.question,
            "Changed Question": item.question,
            "Key Phrase": item.extra.get("key_phrase", ""),
            "Phrase Type": "",
            "Rephrased Question": item.question,
            "Rephrased Question(SD)": item.question,
        }
        ids.append(f"{scenario}_{number}")
    for stale in (root / "processed_questions").glob("*.json"):
        stale.unlink()  # a loader reads every scenario that it finds
    for position, (category, entries) in enumerate(scenarios.items(), start=1):
        _json(root / "processed_questions" / f"{position:02d}-{category.replace(' ', '_')}.json", entries)
    return ids


def write_jailbreakv(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """JailBreakV-28K mini. `category` is the policy, `sub_category` the format; `extra["redteam_query"]` the plain
    request behind the jailbreak."""
    folder, rows = root / jailbreakv.FOLDER, []
    for number, item in enumerate(items):
        rows.append(
            {
                "id": number,
                "jailbreak_query": item.question,
                "redteam_query": item.extra.get("redteam_query", item.question),
                "format": item.sub_category,
                "policy": item.category,
                "from": "miniature",
                "image_path": _draw(item.images[0], folder, f"llm_transfer_attack/{number}.png", draw),
            }
        )
    _csv(
        folder / jailbreakv.TABLE,
        rows,
        ("id", "jailbreak_query", "redteam_query", "format", "policy", "image_path", "from"),
    )
    return [str(row["id"]) for row in rows]


def write_vlsbench(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    rows = [
        {
            "instruction_id": number,
            "instruction": item.question,
            "image_path": _draw(item.images[0], root, f"imgs/{number}.png", draw),
            "category": item.category,
            "sub_category": item.sub_category,
            "source": "generation",
        }
        for number, item in enumerate(items)
    ]
    _json(root / "data.json", rows)
    return [str(row["instruction_id"]) for row in rows]


def write_siuo(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """SIUO. `extra["safety_warning"]` says why text and picture are unsafe together; `answer` is the reference."""
    rows = [
        {
            "question_id": number,
            "image": _draw(item.images[0], root / "data" / "images", f"S-{number}.png", draw).rpartition("/")[2],
            "question": item.question,
            "category": item.category,
            "safety_warning": item.extra.get("safety_warning", ""),
            "reference_answer": item.answer,
        }
        for number, item in enumerate(items, start=1001)
    ]
    _json(root / "data" / "siuo_gen.json", rows)
    return [str(row["question_id"]) for row in rows]


def write_mssbench(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """MSSBench chat; an item's images are (safe situation, unsafe situation)."""
    rows = []
    for number, item in enumerate(items):
        safe, unsafe = (
            _draw(scene, root / "chat", f"{number}_{name}.jpg", draw)
            for name, scene in zip(("safe", "unsafe"), item.images, strict=True)
        )
        rows.append(
            {
                "safe_image_path": safe,
                "unsafe_image_path": unsafe,
                "intent": item.extra.get("intent", ""),
                "queries": [item.question],
                "unsafe_image": item.extra.get("unsafe_image", ""),
                "Type": item.category,
            }
        )
    _json(root / "combined.json", {"chat": rows, "embodied": []})
    return [str(number) for number in range(len(rows))]


def write_mossbench(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    rows = [
        {
            "pid": number,
            "question": item.question,
            "image_path": _draw(item.images[0], root, f"images/{number}.png", draw),
            "short description": item.extra.get("description", "")[:150],
            "description": item.extra.get("description", ""),
            "meta_data_over": item.category,
        }
        for number, item in enumerate(items, start=1)
    ]
    _csv(
        root / "information.csv",
        rows,
        ("pid", "question", "image_path", "short description", "description", "meta_data_over"),
    )
    return [str(row["pid"]) for row in rows]


def write_advbench(root: Path, items: Sequence[Item], suffix: str) -> list[str]:
    """AdvBench, and the `suffix` that a loader puts behind every goal. `extra["target"]` is the wanted beginning."""
    folder = root / advbench.FOLDER
    rows = [{"goal": item.question, "target": item.extra.get("target", "")} for item in items]
    write_atomically(folder / "suffix.txt", f"{suffix}\n".encode())
    _csv(folder / "harmful_behaviors.csv", rows, ("goal", "target"))
    return [str(number) for number in range(len(rows))]


def write_q_bench(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """Q-Bench A1; two to four options. `category` is the question type, `sub_category` the concern."""
    rows = [
        {
            "id": number,
            "image": _embedded(item.images, draw)[0],
            "question": item.question,
            **dict(zip(q_bench.OPTIONS, (*item.options, *[q_bench.ABSENT] * (4 - len(item.options))), strict=True)),
            "question_type": item.category,
            "question_concern": item.sub_category,
            "correct_choice": _letter(item),
        }
        for number, item in enumerate(items)
    ]
    _parquet(
        root / "data" / "test-00000-of-00001.parquet",
        rows,
        {
            "id": "int",
            "image": "image",
            "question": "str",
            **dict.fromkeys(q_bench.OPTIONS, "str"),
            "question_type": "str",
            "question_concern": "str",
            "correct_choice": "str",
        },
    )
    return [str(row["id"]) for row in rows]


def write_mmstar(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """MMStar; the options stand inside the question's text."""
    rows = []
    for number, item in enumerate(items):
        options = [f"{string.ascii_uppercase[k]}: {text}" for k, text in enumerate(item.options)]
        rows.append(
            {
                "index": number,
                "question": f"{item.question}\nOptions: {', '.join(options)}",
                "image": _embedded(item.images, draw)[0],
                "answer": _letter(item),
                "category": item.category,
                "l2_category": item.sub_category,
            }
        )
    _parquet(
        root / mmstar.TABLE,
        rows,
        {"index": "int", "question": "str", "image": "image", "answer": "str", "category": "str", "l2_category": "str"},
    )
    return [str(row["index"]) for row in rows]


def write_mmmu(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """MMMU validation; `category` is the subject (a folder), `sub_category` the subfield; no options: an open one."""
    names = [f"image_{k}" for k in range(1, 8)]
    subjects: dict[str, list[dict]] = {}
    ids = []
    for item in items:
        rows = subjects.setdefault(item.category, [])
        images = _embedded(item.images, draw)
        rows.append(
            {
                "id": f"validation_{item.category}_{len(rows) + 1}",
                "question": item.question,
                "options": repr(list(item.options)),
                "answer": _letter(item) if item.options else item.answer,
                **dict(zip(names, images + [None] * (7 - len(images)), strict=True)),
                "question_type": "multiple-choice" if item.options else "open",
                "subfield": item.sub_category,
            }
        )
        ids.append(rows[-1]["id"])
    for stale in root.glob(mmmu.PATTERN):
        stale.unlink()  # a loader reads every subject that it finds
    for subject, rows in subjects.items():
        _parquet(
            root / subject / "validation-00000-of-00001.parquet",
            rows,
            {
                "id": "str",
                "question": "str",
                "options": "str",
                "answer": "str",
                **dict.fromkeys(names, "image"),
                "question_type": "str",
                "subfield": "str",
            },
        )
    return ids


def write_muirbench(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """MuirBench; `category` is the task, `extra["image_type"]` the kind of picture."""
    rows = [
        {
            "idx": str(number),
            "task": item.category,
            "question": item.question,
            "options": list(item.options),
            "answer": _letter(item),
            "image_list": _embedded(item.images, draw),
            "image_type": item.extra.get("image_type", ""),
            "counterpart_idx": item.extra.get("counterpart_idx", ""),
        }
        for number, item in enumerate(items)
    ]
    _parquet(
        root / "data" / "test-00000-of-00001.parquet",
        rows,
        {
            "idx": "str",
            "task": "str",
            "question": "str",
            "options": "texts",
            "answer": "str",
            "image_list": "images",
            "image_type": "str",
            "counterpart_idx": "str",
        },
    )
    return [row["idx"] for row in rows]


def write_mmt_bench(root: Path, items: Sequence[Item], draw: Draw) -> list[str]:
    """MMT-Bench, multi-image part: base64 pictures in a TSV, a column an option."""
    letters = string.ascii_uppercase[: max([2, *(len(item.options) for item in items)])]
    rows = []
    for number, item in enumerate(items):
        pictures = [base64.b64encode(content).decode() for content in _drawn(item.images, draw)]
        rows.append(
            {
                "index": number,
                "category": item.category,
                "l2-category": item.sub_category,
                "question": item.question,
                **dict(zip(letters, item.options, strict=False)),
                "answer": _letter(item),
                "image": pictures[0] if len(pictures) == 1 else repr(pictures),
            }
        )
    _csv(
        root / mmt_bench.TABLE,
        rows,
        ("index", "category", "l2-category", "question", *letters, "answer", "image"),
        delimiter="\t",
    )
    return [str(row["index"]) for row in rows]
