"""MIS-real: photographs from a small index in the layout of clip-retrieval, with a tiny CLIP; a person confirms."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mis.construction.participants import NoAnswer
from mis.construction.people import ITEMS, RESULTS, Review, Waiting
from mis.construction.photographs import NOT_CONFIRMED, NOT_FOUND, QUERY, ClipIndex, ConfirmedPhotographs
from mis.construction.records import Candidate, ConstructionError, Element, Instruction
from mis.review.records import Result, read_items, to_row
from mis.settings import PhotographIndex
from mis.store import write_jsonl_atomic
from tests.construction_server import png

NAMES = ("hammer", "bank", "bow", "clown")


def tiny_clip(folder):
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {word: i for i, word in enumerate(words)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(folder)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = {**small, "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    CLIPModel(
        CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16}, projection_dim=16)
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> PhotographIndex:
    """Three photographs of each name: the second shows it a little worse than the first; the third has no licence."""
    import faiss

    root = tmp_path_factory.mktemp("photographs")
    tiny_clip(root / "clip")
    settings = PhotographIndex(
        index=root / "index", clip=root / "clip", images=root / "images", nearest=12, choices=2, minimum_similarity=0.5
    )
    (root / "index" / "metadata").mkdir(parents=True)
    (root / "images").mkdir()
    (root / "index" / "image.index").write_bytes(b"")
    texts = ClipIndex(settings)._embed([QUERY.format(name) for name in NAMES])
    texts -= texts.mean(axis=0)  # a tiny CLIP says nearly the same of everything
    noise = np.random.default_rng(0).normal(size=texts.shape).astype(np.float32)
    embeddings, rows = [], []
    for row, name in enumerate(NAMES):
        for place, (mixed, licence) in enumerate(((0.0, "CC BY 4.0"), (0.2, "CC0"), (0.1, ""))):
            one = texts[row] / np.linalg.norm(texts[row]) + mixed * noise[row] / np.linalg.norm(noise[row])
            embeddings.append(one / np.linalg.norm(one))
            path = f"{name}_{place}.jpg"
            rows.append({"image_path": path, "caption": name, "url": f"https://example.org/{path}", "license": licence})
            (root / "images" / path).write_bytes(png(path, 32))
    flat = faiss.IndexFlatIP(embeddings[0].shape[0])
    flat.add(np.stack(embeddings))
    faiss.write_index(flat, str(root / "index" / "image.index"))
    for number, part in enumerate((rows[:5], rows[5:])):
        parquet.write_table(pa.Table.from_pylist(part), root / "index" / "metadata" / f"metadata_{number}.parquet")
    return settings


class Centred(ClipIndex):
    """The index with the tiny CLIP's mean taken out of its texts, as the fixture did."""

    def _embed(self, texts):
        everything = super()._embed([QUERY.format(name) for name in NAMES])
        return np.ascontiguousarray(super()._embed(texts) - everything.mean(axis=0))


def candidate(id: str, *objects: str) -> Candidate:
    element = Element(id=id, source=id, category="Privacy", sub_category="Identity Theft", question="q",
                      objects=objects)  # fmt: skip
    return Candidate(element, Instruction(id=id, named="q", referring="q", text=f"use it {id}"))


def test_nearest_photographs_have_a_licence_and_an_address(index):
    found = Centred(index).nearest(["hammer", "bow"])
    assert [[row["image_path"] for row in rows] for rows in found] == [
        ["hammer_0.jpg", "hammer_1.jpg"],
        ["bow_0.jpg", "bow_1.jpg"],
    ]
    assert found[0][0]["license"] == "CC BY 4.0" and found[0][0]["url"] == "https://example.org/hammer_0.jpg"
    assert found[0][0]["similarity"] > found[0][1]["similarity"] > 0.5


def test_a_person_confirms_and_the_first_accepted_pair_is_taken(index, tmp_path):
    review = Review(tmp_path / "confirm", tmp_path, 2)
    asked = [candidate("1", "hammer", "bank"), candidate("2", "bow", "clown"), candidate("3", "bow", "zzz qqq")]
    source = ConfirmedPhotographs(index, Centred(index), review, tmp_path)
    with pytest.raises(Waiting, match="4 of 4 pairs"):
        source.find(asked, [1, 2, 3])
    items = read_items(tmp_path / "confirm" / ITEMS, tmp_path)
    # The second pair of the first sample is accepted; of the second sample none.
    results = [
        to_row(Result(item.id, "accept" if number == 1 else "reject", "Privacy" if number == 1 else "",
                      "hard" if number == 1 else "", ("anna", "ben"), False))
        for number, item in enumerate(items)
    ]  # fmt: skip
    write_jsonl_atomic(tmp_path / "confirm" / RESULTS, results)
    again = ConfirmedPhotographs(index, Centred(index), review, tmp_path)
    assert again.version != source.version
    first, second, third = again.find(asked, [1, 2, 3])
    assert [photo.content["url"] for photo in first] == [
        "https://example.org/hammer_1.jpg", "https://example.org/bank_1.jpg",
    ]  # fmt: skip
    assert [photo.content["license"] for photo in first] == ["CC0", "CC0"]
    assert all((tmp_path / photo.content["file"]).read_bytes() for photo in first)
    assert (second, third) == (NoAnswer(NOT_CONFIRMED), NoAnswer(NOT_FOUND))
    # A later sample takes the place of the second; what was decided before stays in the review.
    with pytest.raises(Waiting, match="2 of 2 pairs"):
        again.find([candidate("4", "clown", "hammer")], [4])
    assert [item.id for item in read_items(tmp_path / "confirm" / ITEMS, tmp_path)][:4] == [item.id for item in items]


def test_without_people_the_best_pair_is_taken_and_the_version_says_so(index, tmp_path):
    source = ConfirmedPhotographs(index, Centred(index), None, tmp_path)
    (pair,) = source.find([candidate("1", "bow", "clown")], [1])
    assert [photo.content["license"] for photo in pair] == ["CC BY 4.0", "CC BY 4.0"]
    assert "unconfirmed" in source.version


def test_an_index_that_does_not_fit_its_metadata_is_refused(index, tmp_path):
    broken = tmp_path / "index"
    (broken / "metadata").mkdir(parents=True)
    (broken / "image.index").write_bytes((index.index / "image.index").read_bytes())
    source = index.index / "metadata" / "metadata_0.parquet"
    (broken / "metadata" / source.name).write_bytes(source.read_bytes())
    with pytest.raises(ConstructionError, match="12 embeddings and 5 rows"):
        Centred(index.model_copy(update={"index": broken})).nearest(["bow"])
    (broken / "image.index").write_bytes(b"nothing")
    with pytest.raises(ConstructionError, match="not a faiss index"):
        Centred(index.model_copy(update={"index": broken})).nearest(["bow"])
    with pytest.raises(ConstructionError, match="no index of photographs"):
        ClipIndex(index.model_copy(update={"index": tmp_path / "nowhere"}))
