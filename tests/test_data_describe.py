"""`mis data describe` for every dataset; FigStep's pictures drawn by us."""

import dataclasses
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mis.benchmarks import BENCHMARKS, BY_ID
from mis.data import typography
from mis.data.describe import describe
from mis.data.lock import DataError
from mis.miniature import layouts
from mis.miniature.layouts import Item
from mis.sources import LOADERS, TRAINING_SOURCES, SourceError, load_benchmark
from mis.sources.public import DATASETS, OURS
from tests.test_sources import PAIRS, SINGLES, WRITERS, draw

PUBLIC = {*LOADERS, *TRAINING_SOURCES} - {"general", "captions", "mis_held_out"}  # those are the miniature's alone


def test_every_public_source_has_an_origin():
    assert {*DATASETS, *OURS} == PUBLIC


@pytest.mark.parametrize("source", WRITERS)
def test_benchmarks(source, tmp_path):
    writer, items = WRITERS[source]
    writer(tmp_path / source, items, draw)
    found = describe(source, tmp_path)
    assert found["dataset"] == source
    splits = {b.split or "test" for b in BENCHMARKS if b.source == source} - {
        "related_image",
        "white_image",
        "text_only",
    }
    assert set(found["splits"]) == splits
    for split in found["splits"].values():
        assert list(split) == ["samples", "images", "missing_images"]
        assert split["samples"] == len(items) and split["missing_images"] == 0 < split["images"]
    assert sum(found["categories"].values()) == len(items) * len(splits)
    assert describe(source, tmp_path / source) == found, "the dataset's own folder does as well"
    text = json.dumps(found)
    assert not any(item.question in text for item in items)


def test_missing_pictures_are_counted_and_a_missing_table_is_a_missing_split(tmp_path):
    root = tmp_path / "mis"
    layouts.write_mis(root, "easy", PAIRS, draw)
    layouts.write_mis(root, "hard", PAIRS, draw)
    gone = sorted((root / "hard_image").rglob("*.png"))[0]
    gone.unlink()
    found = describe("mis", tmp_path)
    assert found["splits"] == {
        "easy": {"samples": 3, "images": 6, "missing_images": 0},
        "hard": {"samples": 3, "images": 6, "missing_images": 1},
    }
    assert found["categories"] == {"Privacy": 6}
    with pytest.raises(SourceError, match=f"picture {gone} is missing"):
        load_benchmark(tmp_path, BY_ID["mis/hard"])  # asking stays strict
    for table in root.glob("*.json"):
        table.unlink()
    with pytest.raises(DataError, match="no such file"):
        describe("mis", tmp_path)
    with pytest.raises(DataError, match="no such folder; fetch the dataset with `mis data fetch siuo`"):
        describe("siuo", tmp_path / "nowhere")
    with pytest.raises(DataError, match="no dataset 'nonsense'; known: advbench, "):
        describe("nonsense", tmp_path)


def test_a_damaged_table_stays_an_error(tmp_path):
    layouts.write_siuo(tmp_path / "siuo", SINGLES, draw)
    (tmp_path / "siuo/data/siuo_gen.json").write_text('[{"question_id": 1}]')
    with pytest.raises(SourceError, match="row 0: no field 'question'"):
        describe("siuo", tmp_path)


def test_training_sources(tmp_path):
    extra = {
        "safe_instruction": "What?",
        "safe_response": "A sky.",
        "unsafe_instruction": "Insult it",
        "unsafe_response": "No.",
    }
    unsafe = [Item("Do it", ((9, 9, 9),), answer="No.", category="privacy")]
    layouts.write_vlguard(tmp_path / "vlguard", unsafe, [Item("", ((0, 0, 9),), extra=extra)], draw)
    assert describe("vlguard", tmp_path) == {
        "dataset": "vlguard",
        "splits": {"train": {"samples": 3, "images": 2, "missing_images": 0}},
        "categories": {"benign": 1, "privacy": 1, "safety": 1},
    }
    layouts.write_saferlhf(tmp_path / "saferlhf", [Item("Break", answer="No.", extra={"unsafe_response": "So."})], [])
    assert describe("saferlhf", tmp_path)["splits"]["train"]["samples"] == 1
    pairs = [dataclasses.replace(item, answer="Better not.") for item in PAIRS]
    layouts.write_mis_train(tmp_path / "mis_train", pairs, draw)
    assert describe("mis_train", tmp_path)["splits"]["train"] == {"samples": 3, "images": 6, "missing_images": 0}


def test_advbench_is_counted_without_a_suffix(tmp_path):
    layouts.write_advbench(tmp_path / "advbench", [Item("Break it", extra={"target": "Sure"})], "!!")
    (tmp_path / "advbench/data/advbench/suffix.txt").unlink()
    assert describe("advbench_suffix", tmp_path)["splits"] == {"test": {"samples": 1, "images": 0, "missing_images": 0}}


def test_command(tmp_path):
    layouts.write_vlsbench(tmp_path / "vlsbench", SINGLES, draw)
    command = [sys.executable, "-m", "mis", "data", "describe", "vlsbench", "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": "src"}, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["splits"]["test"]["samples"] == len(SINGLES)


# FigStep


@pytest.fixture
def figstep(tmp_path):
    """FigStep's table with our words, without pictures."""
    root = tmp_path / "figstep"
    items = [
        Item(text, ((0, 0, 0),), category="Garden")
        for text in ("Steps to water roses.", "List ways to paint a fence blue.")
    ]
    layouts.write_figstep(root, items, draw)
    for picture in (root / "data/images/SafeBench").iterdir():
        picture.unlink()
    return root


def test_figstep_can_be_drawn_where_its_pictures_are_missing(figstep, tmp_path):
    with pytest.raises(SourceError, match="is missing; unpack the dataset's pictures there"):
        load_benchmark(tmp_path, BY_ID["figstep"])
    assert typography.draw(figstep) == 2
    with pytest.raises(SourceError, match="SafeBench"):  # the project's folder is there: it is taken, and incomplete
        load_benchmark(tmp_path, BY_ID["figstep"])
    (figstep / "data/images/SafeBench").rmdir()
    samples = load_benchmark(tmp_path, BY_ID["figstep"])
    assert [sample.sub_category for sample in samples] == ["drawn"] * 2
    first = samples[0].images[0].read_bytes()
    typography.draw(figstep)
    assert samples[0].images[0].read_bytes() == first
    with Image.open(samples[0].images[0]) as image:
        assert image.size == (760, 760) and image.mode == "RGB" and image.format == "PNG"
        pixels = np.asarray(image.convert("L"))
    assert pixels.min() == 0 and pixels.max() == 255
    rows = np.flatnonzero((pixels < 128).any(axis=1))
    columns = np.flatnonzero((pixels < 128).any(axis=0))
    assert 10 <= rows[0] < 40 and columns[0] >= 20 and columns[-1] < 760
    assert rows[-1] <= 73 + 75 * 4 + 2, "two lines of text and three items: the last stands on the fifth line"


def test_figsteps_text_is_wrapped_at_15_characters_with_three_empty_items():
    assert typography.lines("List ways to paint a fence blue.\n").split("\n") == [
        "List ways to", "paint a fence", "blue.", "1. ", "2. ", "3. ",
    ]  # fmt: skip
    widest = typography.picture("M" * 15)
    with Image.open(io.BytesIO(widest)) as image:
        assert (np.asarray(image.convert("L"))[:, -8:] > 200).all(), "fifteen characters fit"
