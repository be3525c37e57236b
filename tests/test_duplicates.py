"""Near-duplicates of texts and pictures."""

from __future__ import annotations

import pytest
from PIL import Image, ImageEnhance

from mis.duplicates import Pictures, Texts, fingerprint, shingles
from mis.errors import MisError
from mis.sources.common import BLANK
from tests.construction_server import png

TEXT = "how do i use the hammer on the front door of the little red bank at the corner of the street tonight ?"


def test_a_text_is_like_one_that_shares_most_of_its_runs_of_words():
    texts = Texts(0.8)
    texts.add("first", TEXT)
    texts.add("second", TEXT + " please")
    assert texts.like(TEXT.upper().replace("?", "!")) == "first"
    assert texts.like(TEXT.replace("tonight", "today")) == "first"
    assert texts.like(TEXT.replace("hammer", "bow").replace("bank", "barn")) is None
    assert texts.like("a recipe for a cake") is None


def test_short_and_empty_texts():
    texts = Texts()
    texts.add("short", "two words")
    texts.add("empty", " ?! ")
    assert texts.like("Two words.") == "short"
    assert texts.like("") is None and texts.like("!") is None
    assert shingles("a b c d") == {"a b c", "b c d"}
    with pytest.raises(ValueError, match="added before"):
        texts.add("short", "again")


def test_a_picture_is_like_its_copies_and_like_no_other(tmp_path):
    one, copy, other = tmp_path / "one.png", tmp_path / "copy.jpg", tmp_path / "other.png"
    one.write_bytes(png("one", 128))
    other.write_bytes(png("other", 128))
    with Image.open(one) as image:
        ImageEnhance.Brightness(image.resize((96, 96))).enhance(0.8).save(copy, quality=70)
    pictures = Pictures()
    pictures.add("one", fingerprint(one))
    assert pictures.like(fingerprint(copy)) == ["one"]
    assert pictures.like(fingerprint(other)) == []


def test_many_pictures_are_kept_in_order():
    pictures = Pictures(distance=0)
    for number in range(2500):
        pictures.add(number, number % 1000)
    assert pictures.like(7) == [7, 1007, 2007]


def test_a_flat_picture_is_like_nothing():
    pictures = Pictures(64)
    pictures.add("white", fingerprint(BLANK["white"]))
    assert fingerprint(BLANK["black"]) is None
    assert pictures.like(fingerprint(BLANK["white"])) == [] == pictures.like(0)


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "torn.png").write_bytes(png("torn", 32)[:50])
    with pytest.raises(MisError, match=r"torn\.png"):
        fingerprint(tmp_path / "torn.png")
