"""The harmless pairs at the paper's scale: from the public layouts, disjoint from what arms are trained on, seeded."""

import json

import numpy as np
import pytest
from PIL import Image

from mis import mixtures
from mis.benchmarks import BY_ID
from mis.data import benign
from mis.data.lock import DataError
from mis.miniature import layouts
from mis.miniature.layouts import Item
from mis.mixing import mix
from mis.mixtures import Arm, Part
from mis.sources import TRAINING_SOURCES, load_benchmark
from mis.store import read_jsonl

ROWS = 60


def draw(scene, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(scene).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(cells).resize((16, 16)).save(path)


def m4_row(number, pictures):
    """As the released file has them: named by sample_id, answers in turns, one folder an archive."""
    tags = "".join("<image>\n" for _ in pictures)
    return {
        "sample_id": str(number % 7), "metadata": {"dataset": "Shapes", "split": "train"},
        "conversations": [
            {"from": "human", "value": f"{tags}What changed in picture {number}?"},
            {"from": "gpt", "value": f"Thing {number}."},
        ],
        "image": pictures,
    }  # fmt: skip


@pytest.fixture
def study(mini, monkeypatch):
    data = mini.paths.data
    rows = []
    for number in range(ROWS):
        names = [f"Shapes/{number}_{k}.png" for k in range(3 if number % 5 == 0 else 2)]
        for k, name in enumerate(names):
            draw(10 * number + k, data / "m4_instruct" / name)
        rows.append(m4_row(number, names))
    rows.append(m4_row(98, ["Elsewhere/1.png", "Elsewhere/2.png"]))  # an archive that is not there
    broken = m4_row(99, ["Shapes/1_0.png", "Shapes/1_1.png"])
    broken["conversations"][0]["from"] = "gpt"
    (data / "m4_instruct/m4_instruct_annotations.json").write_text(json.dumps([*rows, broken]))
    pairs = [
        Item(
            f"Is <image> like <image>, {k}?",
            (1000 + k, 2000 + k),
            options=("yes", "no <image>"),
            answer="yes",
            category="c",
        )
        for k in range(20)
    ]
    layouts.write_muirbench(data / "muirbench", pairs, lambda scene, path: draw(scene, path))
    for name in list(mixtures.ARMS):
        monkeypatch.delitem(mixtures.ARMS, name)
    for arm in (
        Arm("base", ()),
        Arm("small", (Part("m4_instruct", "general", 5),)),
        Arm("large", (Part("m4_instruct", "general", 20),)),
    ):
        monkeypatch.setitem(mixtures.ARMS, arm.name, arm)
    return mini.model_copy(update={"world": None})


def test_the_control_is_disjoint_seeded_and_read_by_the_loader_of_mis(study):
    (path,) = benign.build(study, 20)
    first = path.read_bytes()
    samples = load_benchmark(study.paths.data, BY_ID["benign_control"])
    assert len(samples) == 20 and sum(sample.id.startswith("muirbench_") for sample in samples) == 10
    assert all(len(sample.images) == 2 for sample in samples)
    chosen = next(sample for sample in samples if sample.id.startswith("muirbench_"))
    assert (
        "Is the first image like the second image" in chosen.question
        and "Options: yes; no the first image" in chosen.question
    )
    assert {row["source"] for row in json.loads(first)} == {"M4-Instruct", "MuirBench"}
    benign.build(study, 20)
    assert path.read_bytes() == first

    large = study.model_copy(
        update={
            "arms": ["large"],
            "models": {"m": study.models["internvl_mini"].model_copy(update={"arms": ["large"]})},
        }
    )
    mix(large)
    trained = read_jsonl(study.paths.build / "mixtures/large.jsonl")
    assert not {f"m4_{row['id']}" for row in trained} & {sample.id for sample in samples}
    drawn = {image for row in trained for image in row["images"]}
    assert len(drawn) >= 40
    shown = {image.read_bytes() for sample in samples for image in sample.images}
    assert not shown & {(study.paths.data / image).read_bytes() for image in drawn}
    page = (study.paths.build / "mixtures/large.md").read_text()
    assert "1 rows are not drawn from: its pictures are in an archive that is not there" in page
    assert "1 rows are not drawn from: no question and answer" in page


def test_pairs_to_train_on_are_others_than_the_control(study):
    control, pairs = benign.build(study, 20, training=5)
    examples = TRAINING_SOURCES["benign_pairs"](pairs.parent, "safety_cot")
    assert len(examples) == 5 and all(example.kind == "benign" and len(example.images) == 2 for example in examples)
    assert all(example.prompt.startswith("What changed") for example in examples)
    assert not {row["id"] for row in json.loads(control.read_text())} & {example.id for example in examples}


def test_too_few_questions_are_an_error(study):
    with pytest.raises(DataError, match="questions about two pictures are free, 500 are needed"):
        benign.build(study, 1000)
    with pytest.raises(DataError, match="muirbench: 20 questions about two pictures, 22 are needed"):
        benign.build(study, 44)


def test_a_picture_missing_from_an_archive_that_is_there_is_an_error(study):
    (study.paths.data / "m4_instruct/Shapes/1_1.png").unlink()
    with pytest.raises(ValueError, match="picture .*Shapes/1_1.png is missing"):
        TRAINING_SOURCES["m4_instruct"](study.paths.data / "m4_instruct", "original")
