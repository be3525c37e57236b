"""The released dataset: a stranger loads it with one line of `datasets`, and `mlcroissant` finds no error."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml

from mis import layout
from mis import settings as configuration
from mis.construction.people import DECISIONS, ITEMS, RESULTS
from mis.miniature import stand_ins
from mis.miniature.scenes import Scene, render
from mis.report.release import release
from mis.report.release.parquet import write_split
from mis.report.release.rows import Construction
from mis.report.reported import ReportError
from mis.sources import conversations, mis
from mis.store import read_jsonl
from tests.conftest import ROOT

SPLITS = {"train": 40, "easy": 14, "hard": 14, "real": 7}


def draw(scene, size):
    return render(Scene.from_row(scene), size)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> configuration.Settings:
    folder = tmp_path_factory.mktemp("release")
    base = configuration.load(ROOT / "config" / "smoke.yaml")
    paths = base.paths.model_copy(update={"data": folder / "data", "build": folder, "figures": folder / "figures"})
    sizes = {f"mis_{split}": size for split, size in SPLITS.items()} | {"benchmark": 7, "development": 5}
    made = base.model_copy(update={"paths": paths, "world": base.world.model_copy(update=sizes)})
    stand_ins.construct(made)
    return made


@pytest.fixture(scope="module")
def released(settings):
    return release(settings, draw)


@pytest.fixture(scope="module")
def loaded(released, tmp_path_factory):
    import datasets

    return datasets.load_dataset(str(released), cache_dir=str(tmp_path_factory.mktemp("cache")))


def test_one_line_of_datasets_loads_every_split(loaded, settings):
    assert {split: len(rows) for split, rows in loaded.items()} == SPLITS
    for split in ("easy", "hard", "real"):
        samples = mis.load(settings.paths.data / "mis", split)
        assert [row["question"] for row in loaded[split]] == [sample.question for sample in samples]
        assert [row["sub_category"] for row in loaded[split]] == [sample.sub_category for sample in samples]


def test_pictures_and_labels_are_those_of_the_dataset(loaded, settings):
    from PIL import Image

    examples = conversations.load_mis_train(settings.paths.data / "mis_train", "safety_cot")
    for row, example in zip(loaded["train"], examples, strict=True):
        assert f"{row['perception']} {row['reasoning']} {row['answer']}" == example.response
        for place, path in enumerate(example.images, start=1):
            with Image.open(settings.paths.data / path) as image:
                assert row[f"image_{place}"].convert("RGB").tobytes() == image.convert("RGB").tobytes()
    assert all(row["answer"] == "" for row in loaded["hard"])


def test_every_row_says_how_it_came_to_be(loaded, settings):
    manifest = json.loads((settings.paths.build / "construction" / "manifest.json").read_text(encoding="utf-8"))
    for split, rows in loaded.items():
        for row in rows:
            provenance = row["provenance"]
            assert provenance["source"] and provenance["named"] and 1 <= len(provenance["rounds"]) <= 2
            assert all(name in provenance["named"] for name in row["objects"])
            assert provenance["rounds"][-1]["accepted"] and len(provenance["rounds"][0]["seeds"]) == 2
            assert len(provenance["votes"]) == 3 and provenance["votes"].count({"keep": True, "reason": ""}) >= 2
            assert bool(provenance["photographs"]) == (split == "real")
            made = {(by["step"], by["role"]): by["version"] for by in provenance["made_by"]}
            assert made["elements", "writer"] == manifest["elements"]["made_from"]["writer"]


def test_the_card_counts_what_is_there_and_what_was_dropped(released, settings):
    card = (released / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "cc-by-sa-4.0" and "OpenMoji" in card and "This is a miniature" in card
    assert "| all |  | 40 | 14 | 14 | 7 |" in card
    with open(settings.paths.build / "construction" / "funnel.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            kept, dropped = ("", row["dropped"]) if row["reason"] else (row["kept"], "")
            assert f"| {row['step']} | {row['reason']} | {kept} | {dropped} |" in card
    for name in ("figure2", "figure3", "figure7", "funnel"):
        assert (released / "figures" / f"{name}.png").stat().st_size > 10_000


def test_mlcroissant_validates_the_metadata_and_reads_rows(released):
    import mlcroissant

    dataset = mlcroissant.Dataset(str(released / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    assert {record.name for record in dataset.metadata.record_sets} == set(SPLITS)
    rows = list(dataset.records("hard"))
    assert len(rows) == SPLITS["hard"]
    assert rows[0]["hard/id"] == b"hard/1" and rows[0]["hard/image_1"].size == (48, 48)


def test_the_same_construction_gives_the_same_bytes(released, settings):
    def contents():
        return {str(p.relative_to(released)): p.read_bytes() for p in released.rglob("*") if p.is_file()}

    before = contents()
    assert release(settings, draw) == released
    assert contents() == before


def test_a_large_split_is_several_files(settings, tmp_path, monkeypatch):
    from pyarrow import parquet

    from mis.report.release import parquet as module

    monkeypatch.chdir(settings.paths.build)  # paths of a configuration are relative, mostly
    paths = settings.paths.model_copy(update={"data": Path("data"), "build": Path()})
    construction = Construction(settings.model_copy(update={"paths": paths}))
    monkeypatch.setattr(module, "SHARD_BYTES", 20_000)
    shards = write_split(tmp_path, "train", construction)
    assert len(shards) > 2 and sum(shard.rows for shard in shards) == SPLITS["train"]
    ids = [id for shard in shards for id in parquet.read_table(tmp_path / shard.name)["id"].to_pylist()]
    assert ids == [f"train/{number}" for number in range(1, SPLITS["train"] + 1)]


def test_a_dataset_of_another_run_is_refused(settings, tmp_path):
    shutil.copytree(settings.paths.build / "construction", tmp_path / "construction")
    shutil.copytree(settings.paths.data, tmp_path / "data")
    paths = settings.paths.model_copy(update={"data": tmp_path / "data", "build": tmp_path})
    moved = settings.model_copy(update={"paths": paths})
    file = tmp_path / "data" / "mis" / "mis_hard.json"
    rows = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps([rows[1], rows[0], *rows[2:]]), encoding="utf-8")
    with pytest.raises(ReportError, match="not the construction's record"):
        release(moved, draw)
    assert not layout.release(moved).exists()
    (tmp_path / "construction" / "published.json").unlink()
    with pytest.raises(ReportError, match="no finished construction"):
        release(moved, draw)


def test_what_people_decided_is_in_the_rows_and_names_nobody(tmp_path):
    """A construction by models and people, released."""
    from mis.construction import full_size
    from mis.construction.people import Waiting
    from tests.construction_server import ConstructionServer, configured
    from tests.test_full_construction import decide_all

    with ConstructionServer() as server:
        plan = {"splits": {"train": 2, "easy": 3, "hard": 3}, "people": {"annotators": 2}, "license": "Apache-2.0"}
        settings = configured(tmp_path, server, samples=40, **plan)
        with pytest.raises(Waiting):
            full_size.construct(settings)
        decide_all(settings, "review", lambda n, item: ("accept", item.proposed_category, ("easy", "hard")[n % 2], ""))
        full_size.construct(settings)
    folder = settings.paths.build / "construction"
    assert {path.name for path in (folder / "review").iterdir()} == {ITEMS, RESULTS, DECISIONS}
    target = release(settings)
    rows = [row for split in ("easy", "hard", "train") for row in Construction(settings).rows(split)]
    assert len(rows) == 8
    for row in rows:
        said = row["provenance"]["decisions"]
        assert [decision["annotator"] for decision in said] == ["annotator 1", "annotator 2"]
        assert "scripted@1" in json.dumps(row["provenance"]["made_by"])
        assert all(len(digest) == 64 for one in row["provenance"]["rounds"] for digest in one["sha256"])
    card = (target / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card and "judged by 2 people" in card
    content = b"".join(path.read_bytes() for path in target.rglob("*") if path.is_file())
    assert b"anna" not in content.replace(b"annotator", b"")
    labels = {row["record"] for row in read_jsonl(folder / "labels.jsonl")}
    assert labels == {row["provenance"]["record"] for row in rows if row["id"].startswith("train/")}
