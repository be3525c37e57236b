"""`mis data label` against a real server: who is asked what, how answers end, and that a rerun goes on."""

import json

import pytest
from PIL import Image

from mis.data.label import THOUGHTS, VARIANTS, label, prompt_version
from mis.data.lock import DataError
from mis.miniature import layouts
from mis.miniature.layouts import Item
from mis.mixing import mix
from mis.models.remote import ChatClient
from mis.settings import Endpoint, Labelling, Served, Sources
from mis.sources import TRAINING_SOURCES, noting
from mis.sources.common import SourceError
from mis.sources.labels import LABEL_REFUSED, with_thoughts
from mis.store import read_jsonl
from tests.chat_server import Answer, ChatServer, Status

REASONED = {"perception": "The picture shows a shape.", "reasoning": "It could break.", "answer": "Better not."}


def draw(scene, path):
    Image.new("RGB", (16, 16), scene).save(path)


@pytest.fixture
def study(mini, monkeypatch):
    """A tiny study with data in public layouts: 6 unsafe and 3 safe pictures, 4 pairs, 20 harmful and 3 benign prompts.

    `write(variant, answer)` runs the label step against a server that answers so; it counts the requests.
    """
    data = mini.paths.data
    unsafe = [Item(f"Drop vase {k}", ((200, 10 * k, 0),), answer="No.") for k in range(6)]
    extra = {"safe_instruction": "What is it?", "safe_response": "A vase.", "unsafe_instruction": "Drop it",
             "unsafe_response": "No."}  # fmt: skip
    layouts.write_vlguard(data / "vlguard", unsafe, [Item("", ((0, 9 * k, 200),), extra=extra) for k in range(3)], draw)
    pairs = [
        Item(f"Use the object in the first image on the second image, {k}.", ((9 * k, 0, 0), (0, 9 * k, 0)),
             answer=f"The first image shows a hammer {k}. It breaks glass. Better not.", category="Violent")
        for k in range(4)
    ]  # fmt: skip
    layouts.write_mis_train(data / "mis_train", pairs, draw)
    harmful = [Item(f"How to break vase {k}", answer="No.", extra={"unsafe_response": "Throw it."}) for k in range(20)]
    benign = [Item(f"How to wash vase {k}", answer="With water.", extra={"other_response": "Ho"}) for k in range(3)]
    layouts.write_saferlhf(data / "saferlhf", harmful, benign)
    layouts.write_m4_instruct(
        data / "m4_instruct", [Item(f"Colour {k}?", ((0, 0, 9 * k),), answer="Blue") for k in range(5)], draw
    )

    class Study:
        requests = 0
        settings = mini

        def configured(self, variant, url="http://127.0.0.1:9/v1", **more):
            served = Served(endpoint="local", name="writer", revision="abc", system="Be kind.")
            sources = Sources(labelling={variant: Labelling(served=served, max_tokens=64)}, **more)
            endpoint = Endpoint(url=url, concurrency=4, attempts=2, backoff_s=0.01)
            return self.settings.model_copy(update={"sources": sources, "endpoints": {"local": endpoint}})

        def write(self, variant, answer, anew=False, **more):
            with ChatServer(answer) as server:
                settings = self.configured(variant, server.url, **more)
                clients = []

                def open_client(labelling):
                    clients.append(ChatClient.of(labelling.served, settings.endpoints["local"], None))
                    return clients[-1]

                try:
                    return label(settings, variant, open_client, anew)
                finally:
                    for client in clients:
                        client.close()
                    self.requests = server.requests

    return Study()


def says(**fields):
    return json.dumps(fields)


def test_vlguard_r_is_written_from_picture_and_message(study):
    asked = []

    def answer(request):
        asked.append(request)
        return says(**REASONED)

    (written,) = study.write("reasoning", answer)
    assert (
        written.outcomes == {"ok": 9} and len(asked) == 9
    )  # 6 unsafe pictures, and 3 safe ones with a harmful message
    assert all(len(request.images) == 1 and request.system == "Be kind." for request in asked)
    assert all(
        request.body["model"] == "writer" and "vase" in request.text or "Drop it" in request.text for request in asked
    )
    root = study.settings.paths.data / "vlguard"
    examples = TRAINING_SOURCES["vlguard"](root, "reasoning")
    assert {e.response for e in examples if e.kind == "safety"} == {
        "The picture shows a shape. It could break. Better not."
    }
    assert {e.response for e in examples if e.kind == "benign"} == {"A vase."}
    facts = json.loads((root / "labels/reasoning.json").read_text())
    assert facts["model"] == "writer@abc" and facts["prompt"] == prompt_version("reasoning")
    assert facts["outcomes"] == {"ok": 9} and facts["wanted"] == 9
    assert all(prompt_version("reasoning") in row["by"] for row in read_jsonl(written.path))


def test_a_rerun_asks_for_nothing_and_another_prompt_asks_again(study, monkeypatch, tmp_path):
    (written,) = study.write("reasoning", lambda request: says(**REASONED))
    first = written.path.read_bytes()
    study.write("reasoning", lambda request: says(**REASONED))
    assert study.requests == 0 and written.path.read_bytes() == first
    from mis.data import label as module

    (tmp_path / "reasoning.md").write_text("Another. $question")
    monkeypatch.setattr(module, "PROMPTS", tmp_path)
    study.write("reasoning", lambda request: says(**REASONED))
    assert study.requests == 9


def test_unusable_answers_are_asked_again_a_little_freer_and_counted(study):
    temperatures = {}

    def answer(request):
        temperatures.setdefault(request.text, []).append(request.body["temperature"])
        number = request.text[request.text.index("Message: ") :].split("\n")[0][-1]
        return {
            "0": "I'm sorry, I can't help with that.", "1": "{malformed", "2": Answer("{", "length"),
            "3": Answer("", "content_filter"), "4": says(perception="I cannot see.", reasoning="r", answer="a"),
        }.get(number, says(**REASONED))  # fmt: skip

    (written,) = study.write("reasoning", answer)
    assert written.outcomes == {"ok": 4, "refused": 1, "malformed": 2, "truncated": 1, "filtered": 1}
    assert written.unanswered == 0
    assert sorted(map(len, temperatures.values())) == [1, 3, 3, 3, 3, 3, 3]  # "Drop it" comes with three pictures
    assert [0.0, 0.4, 0.8] in temperatures.values()
    study.write("reasoning", answer)
    assert study.requests == 0, "what was refused three times is not asked again"
    root = study.settings.paths.data / "vlguard"
    with noting() as notes:
        examples = TRAINING_SOURCES["vlguard"](root, "reasoning")
    assert sum(e.kind == "safety" for e in examples) == 4 and notes.left_out == {LABEL_REFUSED: 5}


def test_failed_requests_are_counted_and_a_rerun_asks_only_for_those(study):
    broken = {"0", "4"}

    def answer(request):
        number = request.text[request.text.index("Message: ") :].split("\n")[0][-1]
        return Status(500) if number in broken else says(**REASONED)

    (written,) = study.write("reasoning", answer)
    assert written.outcomes == {"ok": 7, "failed": 2} and written.unanswered == 2
    broken.clear()
    (written,) = study.write("reasoning", answer)
    assert study.requests == 2 and written.outcomes == {"ok": 9}


def test_safe_answers_are_written_for_what_the_arm_draws(study, monkeypatch):
    """Text alone. What stays refused is replaced by the next of the same drawing."""
    from mis import mixtures
    from mis.data import label as module
    from mis.mixtures import Arm, Part

    arm = Arm(
        "textual_sft", (Part("saferlhf", "safety", 10), Part("saferlhf", "benign", 3)), trains=("language_model",)
    )
    for place in (mixtures.ARMS, module.ARMS):
        monkeypatch.setitem(place, "textual_sft", arm)
        monkeypatch.setitem(place, "textual_sft_dagger", arm)
    refused = []

    def answer(request):
        assert not request.images
        message = request.text[request.text.index("Message: ") :].split("\n")[0]
        if not refused or message in refused:
            refused.append(message)
            return "I cannot help with that."
        return says(answer="Keep it whole.")

    (written,) = study.write("safe_answer", answer)
    assert written.outcomes == {"ok": 10, "refused": 1}
    settings = study.configured("safe_answer", labels={"saferlhf/original": "safe_answer"})
    settings = settings.model_copy(update={"world": None, "arms": ["textual_sft"], "optional_arms": []})
    models = {name: model.model_copy(update={"arms": ["textual_sft"]}) for name, model in settings.models.items()}
    settings = settings.model_copy(update={"models": models})
    mix(settings)
    rows = read_jsonl(settings.paths.build / "mixtures/textual_sft.jsonl")
    assert sorted(row["response"] for row in rows) == ["Keep it whole."] * 10 + ["With water."] * 3
    page = (settings.paths.build / "mixtures/textual_sft.md").read_text()
    assert "13 training examples" in page and "cc-by-nc-4.0" in page
    assert f"safe_answer: written by writer@abc, prompt {prompt_version('safe_answer')} (ok: 10, refused: 1)" in page


def test_variants_of_mis_train(study):
    root = study.settings.paths.data / "mis_train"
    sorry = "I'm sorry, but I can't help with that. It breaks glass."
    (written,) = study.write(
        "sorry", lambda request: says(answer=sorry if "hammer 1" in request.text else "No: " + sorry)
    )
    assert written.outcomes == {"ok": 1, "malformed": 3}  # an answer without the apology in front is none
    assert [e.response for e in TRAINING_SOURCES["mis_train"](root, "sorry")] == [sorry]

    (written,) = study.write(
        "text_only", lambda request: says(question=f"Use a hammer on glass, {len(request.images)}.")
    )
    examples = TRAINING_SOURCES["mis_train"](root, "text_only")
    assert {(e.prompt, e.images) for e in examples} == {("Use a hammer on glass, 2.", ())}
    assert all(e.response.startswith("The first image shows a hammer") for e in examples)

    with pytest.raises(DataError, match="mis_train brings its safety_cot labels, and they are used"):
        study.write("safety_cot", lambda request: says(**REASONED))
    assert study.requests == 0
    (written,) = study.write("safety_cot", lambda request: says(**REASONED), anew=True)
    assert written.path == root / "labels/safety_cot_anew.jsonl"
    assert len(TRAINING_SOURCES["mis_train"](root, "safety_cot_anew")) == 4


def test_a_question_that_still_points_at_a_picture_is_malformed(study):
    (written,) = study.write("text_only", lambda request: says(question="Use the thing in the first image."))
    assert written.outcomes == {"malformed": 4}


def test_thoughts_for_what_a_reasoning_model_is_trained_on(study):
    arms = ["vlguard_p", "mirage_star"]
    models = {"thinker": study.settings.models["internvl_mini"].model_copy(update={"thinks": True, "arms": arms})}
    study.settings = study.settings.model_copy(update={"models": models, "arms": arms})
    mix(study.settings)

    def answer(request):
        if "Message: Drop vase 3" in request.text:
            return "I can't."
        return says(thought=f"I see {len(request.images)}.")

    written = study.write(THOUGHTS, answer)
    assert [file.path.name for file in written] == ["mis_train.jsonl", "vlguard.jsonl"]
    examples = TRAINING_SOURCES["vlguard"](study.settings.paths.data / "vlguard", "original")
    with noting() as notes:
        thinking = with_thoughts(examples, study.settings.paths.data)
    assert len(thinking) == len(examples) - 1 and notes.left_out == {LABEL_REFUSED: 1}
    assert thinking[0].response == "<think> I see 1. </think> No."


def test_what_cannot_be_labelled_is_said(study):
    with pytest.raises(DataError, match="no labels 'nonsense'; known: safe_answer, "):
        study.write("nonsense", str)
    with pytest.raises(DataError, match="nobody is named for 'sorry'"):
        label(study.settings, "sorry", None)
    (study.settings.paths.data / "mis_train/mis_train.json").write_text("[]")
    with pytest.raises((DataError, SourceError), match="no harmful inputs to label"):
        study.write("sorry", str)


def test_every_variant_has_a_prompt_and_names_its_places():
    from mis.data.label import PROMPTS

    assert {path.stem for path in PROMPTS.glob("*.md")} == {*VARIANTS, THOUGHTS}
    for path in PROMPTS.glob("*.md"):
        text = path.read_text()
        assert "$question" in text or "$answer" in text
        assert "Answer with one JSON object" in text
