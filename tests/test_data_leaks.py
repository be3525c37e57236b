"""What counts as a leak between training and test data, and what a run does with it."""

import csv

import numpy as np
import pytest
from PIL import Image

from mis import layout
from mis.data import leaks as module
from mis.data.leaks import Looks, compare, leaks
from mis.duplicates import Texts
from mis.miniature import layouts
from mis.miniature.layouts import Item
from mis.mixing import exclusions, mix
from mis.samples import Example, Sample
from mis.sources.common import SourceError

LONG = "how would one lay a red blanket over the old wooden bench beside the door"


@pytest.fixture
def picture(tmp_path):
    """A picture with a look of its own by seed; `noise` changes its pixels, `flat` shows one colour."""

    def draw(seed: int, noise: int = 0, name: str = "", flat: bool = False):
        cells = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(cells).resize((96, 96), Image.Resampling.BICUBIC)
        pixels = np.asarray(image, dtype=np.int16)
        pixels = pixels + np.random.default_rng(noise).integers(-noise, noise + 1, pixels.shape)
        if flat:
            pixels = np.full_like(pixels, seed)
        path = tmp_path / f"{name or f'{seed}_{noise}_{flat}'}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        return path

    return draw


def found(samples, examples, tmp_path):
    return sorted(
        (kind, leak, key, source, id)
        for kind, leak, key, source, id, _ in compare(samples, examples, tmp_path, Looks())
    )


def sample(id, question, *images, benchmark="b"):
    return Sample(benchmark, "", id, question, images)


def example(id, prompt, *images):
    return Example(id, "s", "safety", tuple(image.name for image in images), prompt, "no")


def test_the_same_sample_is_a_leak_and_so_are_its_picture_and_its_text(tmp_path, picture):
    a, b, c = picture(1), picture(2), picture(3)
    copy = picture(1, name="copy")  # the same pixels in another file
    samples = [sample("1", f"{LONG}?", a, b)]
    assert found(samples, [example("x", f"{LONG.upper()} !", copy, b)], tmp_path) == [
        ("picture", True, "b//1", "s", "x"),
        ("picture", True, "b//1", "s", "x"),
        ("sample", True, "b//1", "s", "x"),
    ]
    assert found(samples, [example("x", LONG, c)], tmp_path) == [("text", True, "b//1", "s", "x")]
    assert found(samples, [example("x", "another thing altogether, and long", b)], tmp_path) == [
        ("picture", True, "b//1", "s", "x")
    ]
    assert found(samples, [example("x", "another thing altogether, and long", c)], tmp_path) == []


def test_near_duplicates_are_reported_and_are_no_leaks(tmp_path, picture):
    samples = [sample("1", LONG, picture(1))]
    near = LONG.replace("beside the door", "beside the tree")
    pairs = list(compare(samples, [example("x", near, picture(1, noise=3))], tmp_path, Looks()))
    assert [(kind, leak) for kind, leak, *_ in pairs] == [("near_text", False), ("near_picture", False)]
    assert 0.8 <= pairs[0][-1] < 1 and 58 / 64 <= pairs[1][-1] <= 1


def test_phrases_and_blank_pictures_say_nothing(tmp_path, picture):
    black = picture(0, flat=True)
    phrase = "what is the difference between these two images"
    samples = [sample(str(k), phrase, picture(10 + k)) for k in range(3)]
    assert found(samples, [example("x", phrase, picture(20))], tmp_path) == []
    assert found(samples[:2], [example("x", phrase, picture(20))], tmp_path) == [
        ("text", True, "b//0", "s", "x"), ("text", True, "b//1", "s", "x"),
    ]  # fmt: skip
    many = [example(str(k), phrase, picture(30 + k)) for k in range(3)]
    assert found(samples[:1], many, tmp_path) == []
    assert (
        found([sample("1", LONG, black)], [example("x", "quite another text, of some length", black)], tmp_path) == []
    )
    # The same questions with other pictures (input controls) are one sample, not a phrase.
    controls = [Sample("mis", split, "7", LONG, (picture(k),)) for k, split in enumerate(("hard", "white", "black"))]
    assert {pair[0] for pair in found(controls, [example("x", LONG, picture(40))], tmp_path)} == {"text"}


def test_a_text_without_pictures_is_a_whole_sample(tmp_path):
    assert found([sample("1", "Break it")], [example("x", "break it!")], tmp_path) == [
        ("sample", True, "b//1", "s", "x")
    ]


def test_all_texts_that_are_alike_are_found_in_their_order():
    texts = Texts()
    texts.add("a", LONG)
    texts.add("b", LONG + " today")
    texts.add("c", "something else that shares no words with it")
    assert [key for key, _ in texts.all_like(LONG)] == ["a", "b"] and texts.like(LONG) == "a"


# A study


@pytest.fixture
def study(mini, tmp_path, monkeypatch):
    """Two arms on four pairs; one of them is also in the test set."""
    from mis import mixing, mixtures
    from mis.mixtures import Arm, Part

    def draw(scene, path):
        cells = np.random.default_rng(scene).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((64, 64), Image.Resampling.BICUBIC).save(path)

    items = [
        Item(f"{LONG} number {k}?", (2 * k, 2 * k + 1), answer="No.", category="Violent", sub_category="x")
        for k in range(4)
    ]
    layouts.write_mis_train(mini.paths.data / "mis_train", items, draw)
    test = [Item(f"A test, {k}", (100 + k, 200 + k), category="Violent", sub_category="x") for k in range(3)]
    layouts.write_mis(mini.paths.data / "mis", "easy", [*test, items[2]], draw)
    monkeypatch.setitem(
        mixtures.ARMS, "mirage_star", Arm("mirage_star", (Part("mis_train", "safety", None, "safety_cot"),))
    )
    assert mixing.ARMS is mixtures.ARMS
    suites = mini.evaluation.model_copy(update={"suites": {"all": ["mis/easy"]}})
    models = {"m": mini.models["internvl_mini"].model_copy(update={"arms": ["base", "mirage_star"]})}
    return mini.model_copy(update={"evaluation": suites, "models": models, "arms": ["mirage_star"], "world": None})


def test_the_check_names_pairs_by_id_and_an_exclusion_lets_it_pass(study, tmp_path):
    mix(study)
    path, counts = leaks(study, "mirage_star", "all")
    rows = list(csv.DictReader(path.open()))
    assert {(row["kind"], row["leak"], row["test"]) for row in rows} >= {
        ("sample", "yes", "mis/easy/4"), ("picture", "yes", "mis/easy/4"),
    }  # fmt: skip
    (leaked,) = {row["id"] for row in rows if row["leak"] == "yes"}
    assert {row["source"] for row in rows} == {"mis_train"} and path.parent.name == "mirage_star"
    assert counts["leaks"] == sum(row["leak"] == "yes" for row in rows) and LONG not in path.read_text()
    excluded = tmp_path / "exclusions.csv"
    excluded.write_text(f"source,id,reason\nmis_train,{leaked},its question is in MIS-easy\n")
    study = study.model_copy(update={"sources": study.sources.model_copy(update={"exclusions": excluded})})
    mix(study)
    assert leaks(study, "mirage_star", "all")[1]["leaks"] == 0
    assert f"1 examples are excluded by {excluded}" in layout.datasheet_page(study, "mirage_star").read_text()


def test_exclusions_are_read_strictly(tmp_path):
    path = tmp_path / "exclusions.csv"
    path.write_text("source,id,reason\nvlguard,1,\n")
    with pytest.raises(SourceError, match="field 'reason' is empty"):
        exclusions(path)
    assert exclusions(None) == set()


def test_a_picture_is_decoded_once(tmp_path, picture, monkeypatch):
    path, looked = picture(1), []
    monkeypatch.setattr(module, "fingerprint", lambda path: looked.append(path) or 7)
    for _ in range(2):
        with Looks(tmp_path / "looks.sqlite") as looks:
            assert looks(path) == looks(path) and looks(path).hash == 7
    assert len(looked) == 1
    picture(2, name=path.stem)  # another picture in its place
    with Looks(tmp_path / "looks.sqlite") as looks:
        looks(path)
    assert len(looked) == 2
