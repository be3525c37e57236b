"""The construction of MIS with served models and people: real HTTP on loopback, answers of the miniature's world."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from mis.construction import costs, full_size, painters, people
from mis.construction.asking import (
    CUT_OFF,
    EMPTY,
    FAILED,
    FILTERED,
    MALFORMED,
    PROMPTS,
    REFUSED,
    Asker,
    Question,
    Shape,
    filled,
    prompt_version,
    read,
)  # fmt: skip
from mis.construction.participants import LabelParts, NoAnswer, PaintRequest
from mis.construction.people import DECISIONS, ITEMS, RESULTS, Review, Waiting
from mis.construction.pipeline import STEPS
from mis.construction.records import Candidate, ConstructionError, Element, Instruction, Picture
from mis.construction.screening import TEST_PICTURE, TEST_TEXT, TWICE_PICTURES, TWICE_TEXT, NearDuplicates
from mis.construction.served import ElementWriter, LlamaGuard
from mis.models.remote import Reply
from mis.review.records import Decision, Result, read_items, to_row
from mis.samples import Sample
from mis.settings import Construction, Endpoint, ImagesEndpoint, People, Served
from mis.sources import conversations, mis
from mis.store import read_jsonl, write_jsonl_atomic
from mis.taxonomy import CATEGORIES, CATEGORY_OF
from tests.chat_server import Status
from tests.construction_server import KINDS, PAIRS, ConstructionServer, configured, png

COUNTED = ("elements", "instructions", "images", "filtering", "labels", "splits")
SPLITS = {"train": 6, "easy": 6, "hard": 6}


def rows(settings, step: str) -> list[dict]:
    return read_jsonl(settings.paths.build / "construction" / f"{STEPS.index(step) + 1}_{step}.jsonl")


def reasons(settings) -> Counter[str]:
    return Counter(row["dropped"] for step in COUNTED for row in rows(settings, step) if "dropped" in row)


# --- all steps, one answer in five faulty -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """500 samples through all steps, and the server with its counts."""
    with ConstructionServer(faulty=0.2) as server:
        settings = configured(
            tmp_path_factory.mktemp("faulty"), server, samples=500, splits={"train": 5, "easy": 3, "hard": 5}
        )
        counts = full_size.construct(settings)
        once = server.requests
        assert full_size.construct(settings) == counts
        assert server.requests == once, "the second run asked again"
    assert counts == {"easy": 3, "hard": 5, "train": 5}
    return settings, server


@pytest.mark.slow
def test_nothing_is_lost_and_the_funnel_adds_up(faulty):
    settings, _ = faulty
    with open(settings.paths.build / "construction" / "funnel.csv", encoding="utf-8") as file:
        funnel = list(csv.DictReader(file))
    entered = 500
    for step in COUNTED:
        found = rows(settings, step)
        assert len(found) == len({row["id"] for row in found}) == entered
        dropped = Counter(row["dropped"] for row in found if "dropped" in row)
        entered -= dropped.total()
        lines = [row for row in funnel if row["step"] == step]
        assert sum(int(row["kept"]) for row in lines) == entered
        assert {row["reason"]: int(row["dropped"]) for row in lines if row["reason"]} == dropped


@pytest.mark.slow
def test_every_faulty_answer_is_counted_by_its_kind(faulty):
    settings, server = faulty
    counted, injected = reasons(settings), server.injected
    assert injected.total() > 300 and injected.keys() == set(KINDS)
    # Two faulty pictures of one pair drop it once.
    for kind in KINDS:
        assert 0.85 * injected[kind] <= counted[kind] <= injected[kind]


# --- a run without faults -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished construction of 60 samples; read it, never write into it."""
    with ConstructionServer() as server:
        settings = configured(tmp_path_factory.mktemp("finished"), server, samples=60, splits=SPLITS)
        full_size.construct(settings)
    return settings, server


def test_the_dataset_is_in_mis_s_public_layout(finished):
    settings, _ = finished
    root = settings.paths.build / "constructed"
    for split in ("easy", "hard"):
        samples = mis.load(root / "mis", split)
        assert len(samples) == 6
        assert all(CATEGORY_OF[sample.sub_category] == sample.category for sample in samples)
    examples = conversations.load_mis_train(root / "mis_train", "safety_cot")
    labels = read_jsonl(settings.paths.build / "construction" / "labels.jsonl")
    assert [example.response for example in examples] == [
        f"{row['perception']} {row['reasoning']} {row['answer']}" for row in labels
    ]
    assert all(not example.prompt.startswith("<image>") and len(example.images) == 2 for example in examples)


def test_the_final_text_names_neither_object(finished):
    settings, _ = finished
    elements = {row["id"]: row for row in rows(settings, "elements")}
    destinations = {row["id"]: row["destination"] for row in rows(settings, "filtering") if "dropped" not in row}
    for row in rows(settings, "instructions"):
        if row["id"] in destinations and destinations[row["id"]] != "training":
            assert not set(elements[row["id"]]["objects"]) & set(row["text"].split())
            assert row["dangerous_terms"] == []


def test_both_rounds_are_kept_and_there_is_no_third(finished):
    settings, server = finished
    found = rows(settings, "images")
    tried = [row["rounds"] if "dropped" not in row else row["known"]["rounds"] for row in found]
    assert {len(rounds) for rounds in tried} == {1, 2}
    assert any("dropped" in row for row in found), "no pair was refused twice"
    folder = settings.paths.build / "construction"
    files = [picture["content"]["file"] for rounds in tried for one in rounds for picture in one["pictures"]]
    assert all((folder / file).is_file() for file in files)
    assert server.shapes["picture"] == len(set(files)) == len(files)


def test_every_step_names_models_revisions_and_prompts(finished):
    settings, _ = finished
    manifest = json.loads((settings.paths.build / "construction" / "manifest.json").read_text(encoding="utf-8"))
    said = json.dumps([entry["made_from"] for entry in manifest.values()])
    assert "scripted@1" in said
    for prompt in PROMPTS.glob("*.md"):
        assert prompt.stem == "sub_category" or prompt_version(prompt.stem) in said, prompt.stem


def test_no_text_of_a_sample_is_logged(tmp_path, capfd):
    with ConstructionServer(faulty=0.1) as server:
        settings = configured(tmp_path, server, samples=20, splits={"train": 100, "easy": 1, "hard": 1})
        with pytest.raises(ConstructionError, match="of 100 samples are left") as error:
            full_size.construct(settings)
    printed = capfd.readouterr()
    shown = printed.out + printed.err + str(error.value)
    assert "construct: elements_text" in shown
    for row in rows(settings, "instructions"):
        assert "named" not in row or row["named"].split()[0] not in shown


# --- going on after an end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [40, 150, 230])
def test_an_endpoint_that_dies_costs_only_what_was_not_answered(tmp_path, finished, after):
    reference, whole = finished

    class Dying(ConstructionServer):
        def _decide(self, content, headers, path):
            self.failing = self.failing or (dying and self.requests > after)
            return super()._decide(content, headers, path)

    dying = True
    with Dying() as server:
        settings = configured(tmp_path, server, samples=60, splits=SPLITS)
        with pytest.raises(ConstructionError, match="failed for good.*--allow-failures"):
            full_size.construct(settings)
        dying = server.failing = False
        full_size.construct(settings)
        for shape, count in server.shapes.items():
            assert count == whole.shapes[shape], shape
    for step in COUNTED:
        assert rows(settings, step) == rows(reference, step)


def test_allowed_failures_drop_their_samples_and_are_counted(tmp_path):
    def decide(shape, asked):
        return Status(500) if shape == "Assessment" and asked.text.count("ba") % 3 == 0 else None

    with ConstructionServer(decide=decide) as server:
        settings = configured(tmp_path, server, samples=40)
        full_size.construct(settings, allow_failures=True)
    assert reasons(settings)[FAILED] > 3


def test_a_change_of_the_examples_asks_again(finished):
    settings, _ = finished
    plan = settings.construction
    changed = plan.model_copy(update={"few_shot": {"assess": ["First thing: a hammer"]}})
    assert prompt_version("assess") != prompt_version("assess", changed.few_shot["assess"])
    assert "Example 1:\nFirst thing: a hammer\n" in filled(
        "assess", changed.few_shot["assess"], dict.fromkeys(("first", "second", "sub_category", "question"), "x")
    )


# --- people -------------------------------------------------------------------------------------------------------


def decide_all(settings, folder: str, judge) -> None:
    """Two annotators who agree, as the review page exports them."""
    place = settings.paths.build / "construction" / folder
    items = read_items(place / ITEMS, settings.paths.build / "construction")
    results, decisions = [], []
    for number, item in enumerate(items):
        decision, category, difficulty, reason = judge(number, item)
        results.append(to_row(Result(item.id, decision, category, difficulty, ("anna", "ben"), False)))
        decisions += [
            to_row(Decision(item.id, name, decision, category, difficulty, reason, "2026-01-01T00:00:00+00:00"))
            for name in ("anna", "ben")
        ]
    write_jsonl_atomic(place / RESULTS, results)
    write_jsonl_atomic(place / DECISIONS, decisions)


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """60 samples that people filtered: every fourth goes, every fourth gets another category, easy or hard in turn."""

    def judge(number, item):
        if number % 4 == 0:
            return "reject", "", "", "unclear pair"
        category = item.proposed_category
        if number % 4 == 1:
            category = next(name for name in CATEGORIES if name != category)
        return "accept", category, "easy" if number % 2 else "hard", ""

    with ConstructionServer() as server:
        plan = {"splits": {"train": 2, "easy": 4, "hard": 4}, "people": {"annotators": 2}}
        settings = configured(tmp_path_factory.mktemp("reviewed"), server, samples=60, **plan)
        with pytest.raises(Waiting, match="wait for people.*mis review serve"):
            full_size.construct(settings)
        asked = server.requests
        with pytest.raises(Waiting):
            full_size.construct(settings)
        assert server.requests == asked, "waiting costs nothing"
        decide_all(settings, "review", judge)
        full_size.construct(settings)
    return settings


def test_what_people_reject_is_dropped_with_their_reason(reviewed):
    items = read_jsonl(reviewed.paths.build / "construction" / "review" / ITEMS)
    assert reasons(reviewed)["experts: unclear pair"] == len(items[::4])


def test_people_decide_category_and_difficulty(reviewed):
    items = read_jsonl(reviewed.paths.build / "construction" / "review" / ITEMS)
    found = {row["id"]: row for row in rows(reviewed, "filtering")}
    elements = {row["id"]: row for row in rows(reviewed, "elements")}
    checked = Counter()
    for number, item in enumerate(items):
        row = found[item["id"].split("-")[0]]
        if "dropped" in row:
            continue
        if number % 4 == 1:
            assert row["category"] != elements[row["id"]]["category"]
            assert CATEGORY_OF[row["sub_category"]] == row["category"]
        else:
            assert "category" not in row
        if not row["dangerous_text"]:
            assert row["destination"] == ("easy" if number % 2 else "hard")
        checked[row["destination"]] += 1
    assert min(checked[name] for name in ("easy", "hard", "training")) > 1
    samples = [s for split in ("easy", "hard") for s in mis.load(reviewed.paths.build / "constructed" / "mis", split)]
    assert all(CATEGORY_OF[sample.sub_category] == sample.category for sample in samples)


def candidate(folder: Path, id="0", named="", text="use it", files=("a", "b"), objects=("hammer", "bank")) -> Candidate:
    pictures = []
    for file in files:
        (folder / f"{file}.png").write_bytes(png(file, 64))
        pictures.append(Picture(prompt=file, seed=0, content={"file": f"{file}.png", "sha256": file}))
    element = Element(id=id, source=id, category="Illegal Activity", sub_category="Property Crimes",
                      question=named or "q", objects=objects)  # fmt: skip
    return Candidate(element, Instruction(id=id, named=named, referring="", text=text), tuple(pictures), "hard")


def test_a_decision_counts_for_what_was_shown_alone(tmp_path):
    review = Review(tmp_path / "review", tmp_path, 2)
    old = candidate(tmp_path)
    with pytest.raises(Waiting):
        people.People(review, tmp_path).vote([old])
    (item,) = read_items(tmp_path / "review" / ITEMS, tmp_path)
    assert (item.proposed_split, item.proposed_category) == ("hard", "Illegal Activity")
    result = Result(item.id, "accept", "Privacy", "easy", ("anna", "ben"), True)
    write_jsonl_atomic(tmp_path / "review" / RESULTS, [to_row(result)])
    (vote,) = people.People(review, tmp_path).vote([old])
    assert (vote.keep, vote.category, vote.difficulty) == (True, "Privacy", "easy")
    for changed in (candidate(tmp_path, text="use it now"), candidate(tmp_path, files=("a", "c"))):
        with pytest.raises(Waiting, match="1 of 1 pairs"):
            people.People(review, tmp_path).vote([changed])


def test_the_command_line_says_what_waits_and_goes_on(tmp_path):
    import yaml
    from typer.testing import CliRunner

    from mis.cli import app

    with ConstructionServer() as server:
        settings = configured(tmp_path, server, samples=30, people={"annotators": 2})
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
        command = ["construct", "--config", str(config)]
        waiting = CliRunner().invoke(app, command)
        assert waiting.exit_code == 1 and "pairs wait for people" in waiting.output
        decide_all(settings, "review", lambda n, item: ("accept", item.proposed_category, ("easy", "hard")[n % 2], ""))
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0 and done.output.endswith("easy 1, hard 1, train 1\n")


# --- near-duplicates ----------------------------------------------------------------------------------------------


def test_what_is_made_twice_or_stands_in_a_test_set_is_dropped(tmp_path):
    long = "how do i use the hammer on the front door of the little red bank at the corner of the street ?"
    (tmp_path / "test.png").write_bytes(png("t", 64))
    tests = [Sample("mis", "easy", "1", long.replace("hammer", "saw"), (tmp_path / "test.png",))]
    given = [
        candidate(tmp_path, "0", long, files=("a", "b")),
        candidate(tmp_path, "1", long.upper(), files=("c", "d")),
        candidate(tmp_path, "2", "what about a bow and a clown ?", files=("b", "a")),
        candidate(tmp_path, "3", "what about a bow and a barn ?", files=("a", "e")),
        candidate(tmp_path, "4", long.replace("hammer", "saw"), files=("f", "g")),
        candidate(tmp_path, "5", "what about a kettle ?", files=("h", "t")),
    ]
    screen = NearDuplicates(tmp_path, tests)
    expected = ["", TWICE_TEXT, TWICE_PICTURES, "", TEST_TEXT, TEST_PICTURE]
    assert screen.faults(given) == expected == screen.faults(given)
    assert screen.version != NearDuplicates(tmp_path, tests, 0.7).version
    assert screen.version != NearDuplicates(tmp_path, []).version


# --- single answers -----------------------------------------------------------------------------------------------


class _Word(Shape):
    word: str


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply('{"word": "bow"}', "stop"), _Word(word="bow")),
        (Reply('```json\n{"word": "bow"}\n```', "stop"), _Word(word="bow")),
        (Reply('<think>{"word": "?"}</think> {"word": "bow"}', "stop"), _Word(word="bow")),
        (Reply('{"word": "bow", "more": 1}', "stop"), MALFORMED),
        (Reply('{"word": 7}', "stop"), MALFORMED),
        (Reply('{"word": "bo', "stop"), MALFORMED),
        (Reply("[" * 100_000, "stop"), MALFORMED),
        (Reply("bow", "stop"), MALFORMED),
        (Reply("  ", "stop"), EMPTY),
        (Reply("", "failed", "the answer was empty (2 attempts)"), EMPTY),
        (Reply("I'm sorry, but I can't help with that.", "stop"), REFUSED),
        (Reply("I cannot do this.", "stop"), REFUSED),
        (Reply("As an AI, I will not.", "stop"), REFUSED),
        (Reply("no", "stop", refused=True), REFUSED),
        (Reply('{"word": "bow"}', "length"), CUT_OFF),
        (Reply("", "filtered"), FILTERED),
        (Reply("", "failed", "HTTP 500"), FAILED),
    ],
)
def test_an_answer_is_usable_or_has_a_reason(reply, expected):
    assert read(reply, _Word) == (NoAnswer(expected) if isinstance(expected, str) else expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("safe", False), ("\n\nunsafe\nS2", True), ("I think so", NoAnswer(MALFORMED)), ("", NoAnswer(EMPTY))],
)
def test_a_llama_guard_reads_the_label_as_the_assistant_s_turn(tmp_path, text, expected):
    asked = []

    class Client:
        def map(self, requests):
            for key, request in requests:
                asked.append(request)
                yield key, Reply(text, "stop")

    label = LabelParts("i see it .", "it is dangerous .", "please do not .")
    assert LlamaGuard(Asker(Client(), "guard@1")).harmful([candidate(tmp_path)], [label]) == [expected]
    user, assistant = asked[0].messages
    assert (user.role, user.text) == ("user", "use it") and asked[0].schema is None
    assert (assistant.role, assistant.text) == ("assistant", "i see it . it is dangerous . please do not .")


def test_a_system_prompt_and_placeholders_are_sent_and_named():
    sent = []

    class Client:
        def map(self, requests):
            for key, request in requests:
                sent.append(request)
                yield key, Reply('{"word": "bow"}', "stop")

    question = Question("explicit", _Word, 8)
    plain = Asker(Client(), "m@1")
    asker = Asker(Client(), "m@1", system="be kind", image_text="<image {number}>\n")
    assert asker.ask(question, [{}], [(Path("a"), Path("b"))]) == [_Word(word="bow")]
    system, user = sent[0].messages
    assert (system.role, system.text) == ("system", "be kind")
    assert user.text.startswith("<image 1>\n<image 2>\nLook at") and len(user.images) == 2
    assert asker.version(question) != plain.version(question)


def test_pairs_are_reserved_for_one_side_by_their_names_alone():
    asker = Asker(None, "m@1")
    samples = [Sample("advbench_goals", "", str(number), "q") for number in range(100)]
    writer = ElementWriter(asker, asker, samples, 1, training_share=0.6, seed=3)
    draw = random.Random(0)
    reserved = Counter()
    for pair in draw.sample(PAIRS, 60):
        names = pair.tool.name, pair.target.name
        sides = {writer._reserved(_pair(*names)), writer._reserved(_pair(names[1].upper(), f" {names[0]}"))}
        assert len(sides) == 1
        reserved.update(sides)
    assert reserved.keys() == {"training", "test"} and 24 < reserved["training"] < 48
    assert ElementWriter(asker, asker, samples, 1)._reserved(_pair("bow", "clown")) == ""


def _pair(first: str, second: str):
    from mis.construction.served import _Pair

    return _Pair(sub_category="Property Crimes", first_object=first, second_object=second, question="q")


# --- painters -----------------------------------------------------------------------------------------------------


def request(prompt: str, seed: int = 1) -> PaintRequest:
    return PaintRequest("bow", prompt, seed, 1)


def test_a_painter_behind_an_endpoint(tmp_path):
    class Server(ConstructionServer):
        def _picture(self, body, content):
            assert (body["size"], body["n"], body["model"]) == ("32x32", 1, "painter")
            if body["prompt"] == "blocked":
                return Status(400, "no", error_code="moderation_blocked")
            if body["prompt"] == "broken":
                return Status(500)
            if body["prompt"] == "late" and self.shapes["picture"] < 5:
                return Status(429, headers={"retry-after": "0"})
            return super()._picture(body, content)

    with Server() as server:
        endpoint = Endpoint(url=server.url, attempts=8, backoff_s=0.01)
        served = Served(endpoint="here", name="painter")
        plan = ImagesEndpoint(model="painter", size="32x32")
        painter = painters.EndpointPainter(plan, served, endpoint, tmp_path, allow_failures=True)
        asked = [request("a bow"), request("a bow", 2), request("blocked"), request("late"), request("a bow")]
        drawn = painter.paint(asked)
        assert drawn[2] == NoAnswer(REFUSED)
        first, second, late, again = (drawn[i] for i in (0, 1, 3, 4))
        assert first == again and len({p.content["sha256"] for p in (first, second, late)}) == 3
        before = server.requests
        assert painter.paint([request("a bow", 2)]) == [second] and server.requests == before
        with pytest.raises(ConstructionError, match="1 of 1 pictures failed"):
            quick = endpoint.model_copy(update={"attempts": 1})
            painters.EndpointPainter(plan, served, quick, tmp_path).paint([request("broken")])


def tiny_pipeline(folder: Path) -> Path:
    """Stable Diffusion 3's own classes with random weights of a few kilobytes."""
    import torch
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
        T5Config,
        T5EncoderModel,
        T5TokenizerFast,
    )

    torch.manual_seed(0)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    clip = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -2.0), ("▁", -1.0), *((letter, -1.5) for letter in letters)]

    def text() -> CLIPTextModelWithProjection:
        small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
        return CLIPTextModelWithProjection(
            CLIPTextConfig(**small, projection_dim=32, vocab_size=len(words), bos_token_id=0, eos_token_id=1,
                           pad_token_id=1)
        )  # fmt: skip

    StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=32, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
            caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=64, out_channels=4,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            sample_size=32, block_out_channels=(4,), layers_per_block=1, latent_channels=4, norm_num_groups=1,
            use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0609, scaling_factor=1.5035,
        ),
        text_encoder=text(), tokenizer=clip, text_encoder_2=text(), tokenizer_2=clip,
        text_encoder_3=T5EncoderModel(T5Config(vocab_size=40, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)),
        tokenizer_3=T5TokenizerFast(vocab=pieces, extra_ids=0),
    ).save_pretrained(folder)  # fmt: skip
    return folder


def test_stable_diffusion_draws_each_picture_from_its_own_seed(tmp_path, one_thread, capfd):
    import numpy as np
    from PIL import Image

    from mis.settings import Diffusers

    plan = Diffusers(
        pipeline=str(tiny_pipeline(tmp_path / "sd3")), steps=2, guidance=3.5, size=32, batch_size=3,
        precision="float32", local_files_only=True,
    )  # fmt: skip
    asked = [request("a bow", seed) for seed in (1, 2**62, 3, 4)]
    together = painters.DiffusersPainter(plan, tmp_path / "one").paint(asked)
    assert len({picture.content["sha256"] for picture in together}) == 4
    alone = painters.DiffusersPainter(plan, tmp_path / "two").paint(asked[3:])[0]
    pixels = [
        np.asarray(Image.open(tmp_path / folder / picture.content["file"]), dtype=int)
        for folder, picture in (("one", together[3]), ("two", alone))
    ]
    assert abs(pixels[0] - pixels[1]).max() <= 1, "the batch changed the picture"
    capfd.readouterr()
    long = painters.DiffusersPainter(plan, tmp_path / "three").paint([request("kettle " * 60)])
    shown = capfd.readouterr()
    assert long and "kettle" not in shown.out + shown.err, "a long prompt is in the log"


# --- costs and settings ---------------------------------------------------------------------------------------------


def test_no_more_is_asked_than_was_planned(finished):
    settings, server = finished
    plan = settings.construction
    planned = Counter()
    for asked in costs.at_most(plan, 60, 24):
        planned[asked.step, asked.role] += asked.requests
        assert 0 < asked.prompt_tokens < 1500 and asked.model == "scripted"
    asked = Counter(
        {
            ("elements", "text_writer"): 36,
            ("elements", "image_writer"): 24,
            ("instructions", "instruction_writer"): sum(
                server.shapes[shape] for shape in ("Question", "Assessment", "Text", "Detoxified")
            ),
            ("images", "reviewer"): server.shapes["Review"],
            ("filtering", "screen"): server.shapes["Screened"],
            ("filtering", "classifier"): server.shapes["Dangerous"] + server.shapes["Explicit"],
            ("labels", "labeller"): server.shapes["Label"],
            ("labels", "guard"): server.shapes["Harmful"],
        }
    )
    assert server.shapes["Pairs"] == 60
    assert planned.keys() == asked.keys() and all(asked[key] <= planned[key] for key in planned)
    assert server.shapes["picture"] <= costs.pictures(plan, 60) == 240
    assert costs.decisions(plan, 60) == 0
    reviewed = plan.model_copy(update={"people": People(annotators=3)})
    assert costs.decisions(reviewed, 60) == 180
    corrected = sum(asked.requests for asked in costs.at_most(reviewed, 60, 24)) - sum(planned.values())
    assert corrected == 60, "where people correct the category, the sub-category is asked for"


def test_a_plan_that_cannot_work_is_refused(tmp_path, finished):
    good = finished[0].construction.model_dump()
    for change, message in (
        ({"screen": "nobody"}, "screen: unknown model 'nobody'"),
        ({"splits": {"train": 1, "easy": 1, "hard": 1, "real": 1}}, "needs an index of photographs"),
        ({"painter": {"model": "nobody", "size": "32x32"}}, "painter.model: unknown model"),
        ({"people": {"annotators": 1}}, "greater than or equal to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            Construction.model_validate(good | change)
