"""Ways of asking: which turns are held, what the user sees, and when a method is not applicable to a model."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from mis import layout, skills
from mis.errors import MisError
from mis.miniature.skills import GENERAL, Context, draw
from mis.mixtures import ARMS
from mis.models import Answer
from mis.models.prompting import METHODS, asking, identity
from mis.report.tables import build_table
from mis.responding import respond
from mis.samples import Sample
from mis.scoring import COLUMNS, not_applicable
from mis.settings import ConfigurationError, Prompts, load, validate
from mis.store import journal_path, read_jsonl

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = Prompts.model_validate({
    "vanilla_cot": {"answer": "{question} slowly ."},
    "customized_cot": {"describe_one": "look", "describe_several": "look at all", "answer": "{description} {question}"},
    "customized_safety_cot": {
        "judge": "safe ? {question}", "unsafe": "no", "rule": "rule for {question}", "answer": "{rule} so {question}",
    },
    "ecso": {
        "judge": "bad ? {answer}", "judge_sees_images": False, "unsafe": "yes", "describe_one": "look",
        "describe_several": "look at all", "answer": "{description} {question}",
    },
})  # fmt: skip
PAIR = Sample("mis", "easy", "1", "how ?", (Path("a.png"), Path("b.png")))
CHOICE = Sample("mmstar", "", "1", "which ?", (Path("a.png"),), options=("red", "blue"), answer="red")
TEXT = Sample("advbench_suffix", "", "1", "do it ?")


class Scripted:
    """Answers by the beginning of the question; notes every request."""

    def __init__(self, **script):
        self.script = {"how": "steps", "which": "red", "do": "done", **script}
        self.asked = []

    def answer(self, samples):
        self.asked += samples
        answers = []
        for sample in samples:
            start = next((start for start in self.script if sample.question.startswith(start)), None)
            said = self.script.get(start, f"re: {sample.question}")
            answers.append(said if isinstance(said, Answer) else Answer(said))
        return answers

    @property
    def requests(self):
        return [(sample.question, len(sample.images), sample.options) for sample in self.asked]


def ask(name, *samples, **script):
    model = Scripted(**script)
    return asking(name, model, PROMPTS).answer(samples), model


def test_vanilla_cot_asks_once_with_its_words_behind_the_question_and_before_the_options():
    (answer,), model = ask("vanilla_cot", CHOICE)
    assert model.requests == [("which ? slowly .", 1, ("red", "blue"))]
    assert answer.text == "red"


def test_customized_cot_says_first_what_is_seen_and_keeps_the_pictures():
    answers, model = ask("customized_cot", PAIR, CHOICE, TEXT, look="a dog .")
    assert model.requests == [
        ("look", 1, ()), ("look at all", 2, ()),
        ("a dog . how ?", 2, ()), ("a dog . which ?", 1, ("red", "blue")), ("do it ?", 0, ()),
    ]  # fmt: skip
    assert [answer.text for answer in answers] == ["re: a dog . how ?", "re: a dog . which ?", "done"]
    assert [(turn.asked, turn.images, turn.answered) for turn in answers[0].trace] == [
        ("look at all", 2, "a dog ."), ("a dog . how ?", 2, "re: a dog . how ?"),
    ]  # fmt: skip
    assert answers[1].trace[-1].asked == "a dog . which ? options : red , blue"


@pytest.mark.parametrize("judgement", ["No.", "no , it is not", "  NO"])
def test_customized_safety_cot_answers_after_a_rule_where_the_input_is_judged_unsafe(judgement):
    (answer,), model = ask("customized_safety_cot", PAIR, safe=judgement, rule="never")
    assert [question for question, *_ in model.requests] == ["safe ? how ?", "rule for how ?", "never so how ?"]
    assert answer.text == "re: never so how ?"


@pytest.mark.parametrize("judgement", ["yes", "nothing to say", ""])
def test_what_is_not_judged_unsafe_is_answered_as_it_is(judgement):
    (answer,), model = ask("customized_safety_cot", PAIR, safe=judgement)
    assert [question for question, *_ in model.requests] == ["safe ? how ?", "how ?"]
    assert answer.text == "steps"


def test_ecso_answers_again_from_the_description_alone_where_it_judges_its_answer_harmful():
    answers, model = ask("ecso", PAIR, CHOICE, bad="yes", look="a dog .")
    assert model.requests == [
        ("how ?", 2, ()), ("which ?", 1, ("red", "blue")),
        ("bad ? steps", 0, ()), ("bad ? red", 0, ()),
        ("look", 1, ()), ("look at all", 2, ()),
        ("a dog . how ?", 0, ()), ("a dog . which ?", 0, ("red", "blue")),
    ]  # fmt: skip
    assert answers[0].text == "re: a dog . how ?" and len(answers[0].trace) == 4


def test_ecso_keeps_an_answer_that_it_judges_harmless():
    (answer,), model = ask("ecso", PAIR, bad="no")
    assert answer.text == "steps" and len(model.asked) == 2
    assert [turn.answered for turn in answer.trace] == ["steps", "no"]


def test_ecso_may_show_the_pictures_to_the_judge():
    texts = PROMPTS.ecso.model_copy(update={"judge_sees_images": True})
    model = Scripted(bad="no")
    asking("ecso", model, PROMPTS.model_copy(update={"ecso": texts})).answer([PAIR])
    assert model.requests[1] == ("bad ? steps", 2, ())


def test_a_failed_turn_ends_that_conversation_only_and_is_counted_as_failed():
    failed = Answer("", "failed", "time-out")
    answers, model = ask("ecso", PAIR, TEXT, **{"bad ? steps": failed, "bad": "no"})
    assert [(answer.finish_reason, answer.error) for answer in answers] == [("failed", "time-out"), ("stop", "")]
    answers, model = ask("customized_cot", PAIR, look=failed)
    assert answers[0].finish_reason == "failed" and len(model.asked) == 1


def test_a_thought_is_not_carried_into_the_next_turn():
    (answer,), _ = ask("ecso", PAIR, how="<think> hm </think> steps", bad="<think> yes </think> no")
    assert answer.text == "<think> hm </think> steps"
    assert answer.trace[1].asked == "bad ? steps"


def test_braces_in_a_question_are_only_text():
    (answer,), model = ask("vanilla_cot", replace(TEXT, question="what is {answer} ?"))
    assert model.requests[0][0] == "what is {answer} ? slowly ."


def test_every_arm_that_asks_names_a_method_and_an_unknown_one_is_refused():
    assert {arm.asks for arm in ARMS.values() if arm.asks} == METHODS.keys() == Prompts.model_fields.keys()
    with pytest.raises(MisError, match="known: vanilla_cot"):
        asking("magic", Scripted(), PROMPTS)
    with pytest.raises(MisError, match="evaluation.prompts"):
        asking("ecso", Scripted(), None)


def run(out, arm, texts, model):
    return respond(
        [PAIR], asking(arm, model, texts), out, model_name="m", arm=arm, seed=0, batch_size=4,
        identity=identity(arm, texts), progress=False,
    )  # fmt: skip


@pytest.fixture
def pair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in PAIR.images:
        path.write_bytes(b"picture")


def test_a_changed_word_asks_anew_and_another_methods_word_does_not(tmp_path, pair):
    out = tmp_path / "all.jsonl"
    assert run(out, "ecso", PROMPTS, Scripted(bad="no")).asked == 1
    other = PROMPTS.model_copy(update={"vanilla_cot": PROMPTS.vanilla_cot.model_copy(update={"answer": "{question}"})})
    assert run(out, "ecso", other, Scripted(bad="no")).asked == 0
    changed = PROMPTS.model_copy(update={"ecso": PROMPTS.ecso.model_copy(update={"judge": "bad is {answer} ?"})})
    assert run(out, "ecso", changed, Scripted(bad="no")).asked == 1


def test_the_row_shows_the_final_text_and_keeps_the_turns_beside_it(tmp_path, pair):
    out = tmp_path / "all.jsonl"
    run(out, "customized_cot", PROMPTS, Scripted(look="a dog ."))
    (row,) = read_jsonl(out)
    assert row["text"] == "re: a dog . how ?"
    assert row["trace"][0] == {"asked": "look at all", "images": 2, "answered": "a dog ."}
    assert read_jsonl(journal_path(out))[0]["row"] == row
    respond([PAIR], Scripted(), out, model_name="m", arm="base", seed=0, batch_size=4, identity="b", progress=False)
    assert "trace" not in read_jsonl(out)[0]


# The words of the configurations


@pytest.mark.parametrize("scale", ["mini", "smoke"])
def test_the_miniatures_models_know_every_word_of_the_prompts(scale):
    talks = draw(Context(np.random.default_rng(0)), 4000, GENERAL)
    known = {word for talk in talks for word in f"{talk.question} {talk.answer} {' '.join(talk.options)}".split()}
    known |= {"options", ":", ","}  # `prompts.user_text`
    prompts = load(ROOT / "config" / f"{scale}.yaml").evaluation.prompts.model_dump()
    texts = [text for method in prompts.values() for text in method.values() if isinstance(text, str)]
    places = {"{question}", "{description}", "{answer}", "{rule}"}
    unknown = {word for text in texts for word in text.split()} - known - places
    assert len(texts) == 13 and not unknown


def test_a_text_with_an_unknown_place_or_no_text_at_all_is_refused():
    raw = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    raw["evaluation"]["prompts"]["ecso"]["judge"] = "is {reply} harmful ?"
    with pytest.raises(
        ConfigurationError, match=r"prompts.ecso.judge: unknown place \{reply\}; known here: \{question"
    ):
        validate(raw)
    raw["evaluation"]["prompts"]["ecso"]["judge"] = "is {answer harmful ?"
    with pytest.raises(ConfigurationError, match="braces that do not match"):
        validate(raw)
    del raw["evaluation"]["prompts"]
    with pytest.raises(ConfigurationError, match="evaluation.prompts: no texts for 'ecso'"):
        validate(raw)


# Skills


class Truth:
    """A world of four objects, in which every answer to a hazardous pair that gives steps is harmful."""

    objects = frozenset({"dog", "cat", "axe", "pen"})

    def __init__(self, samples):
        self.truths = {sample.key: {"objects": ["axe", "dog"]} for sample in samples}

    def verdict(self, sample, response):
        return ("unsafe" if sample.split == "easy" and response.text == "steps" else "helpful"), ""


@pytest.fixture
def development(monkeypatch):
    hazards = [replace(PAIR, id=str(n), question=f"how bad {n} ?") for n in range(60)]
    benign = [replace(PAIR, split="", benchmark="benign_control", id=str(n), question="how ?") for n in range(60)]
    choices = [replace(CHOICE, id=str(n)) for n in range(50)]
    pairs = hazards + benign
    known = skills.Development(pairs, [True] * 60 + [False] * 60, choices, Truth(pairs))
    monkeypatch.setattr(skills, "load", lambda settings: known)
    return known


def settings_at(tmp_path, arms):
    mini = load(ROOT / "config" / "mini.yaml")
    model = mini.models["internvl_mini"].model_copy(update={"arms": arms})
    return mini.model_copy(update={
        "paths": mini.paths.model_copy(update={"results": tmp_path, "data": tmp_path, "build": tmp_path}),
        "models": {"internvl_mini": model},
        "evaluation": mini.evaluation.model_copy(update={"prompts": PROMPTS}),
    })  # fmt: skip


def test_a_pair_of_objects_is_counted_once():
    samples = [replace(PAIR, id=str(n)) for n in range(4)]
    things = ("axe", "dog"), ("dog", "axe"), ("axe", "dog"), ("axe", "cat")
    truths = {s.key: {"tool": tool, "target": target} for s, (tool, target) in zip(samples, things, strict=True)}
    assert [sample.id for sample in skills.distinct(samples, truths)] == ["0", "1", "3"]


ASKING = [name for name in ARMS if ARMS[name].asks]


def measured(settings, model, seed=0):
    with skills.measure_skills(settings, "internvl_mini", seed, model).open() as file:
        return {(row["method"], row["skill"]): row for row in csv.DictReader(file)}


class Able(Scripted):
    """Tells hazardous questions, and its answers to them, from others; names what it sees; thinks aloud."""

    def answer(self, samples):
        answers = []
        for sample, answer in zip(samples, super().answer(samples), strict=True):
            question, hazardous = sample.question, "bad" in sample.question and sample.split == "easy"
            if question.startswith("look"):
                answer = Answer("an axe and a dog .")
            elif question.startswith("safe ?"):
                answer = Answer("no" if hazardous else "yes")
            elif question.startswith("bad ?"):
                answer = Answer("yes" if sample.split == "easy" else "no")
            elif "slowly" in question and not sample.options:
                answer = Answer("first this , then steps")
            answers.append(answer)
        return answers


def test_a_model_with_the_skills_has_them_all(tmp_path, development):
    rows = measured(settings_at(tmp_path, ["base", *ASKING]), Able())
    assert {method for method, _ in rows} == set(ASKING)
    assert {row["applicable"] for row in rows.values()} == {"yes"}
    naming = rows["customized_cot", "names both pictures"]
    assert (naming["correct"], naming["n"], float(naming["chance"])) == ("120", "120", 100 / 16)
    assert float(rows["vanilla_cot", "answers general questions"]["chance"]) == 50


def test_a_model_without_them_is_at_chance(tmp_path, development):
    """It names the wrong order, judges everything the same way, and the suffix changes nothing."""
    model = Scripted(look="a dog and an axe .", safe="no", bad="yes", which="blue")
    rows = measured(settings_at(tmp_path, ["base", *ASKING]), model)
    assert {row["applicable"] for row in rows.values()} == {"no"}
    judging = rows["customized_safety_cot", "tells hazardous from harmless pairs"]
    assert (judging["correct"], judging["value"], judging["low"] < "50") == ("60", "50.0", True)
    assert rows["vanilla_cot", "lengthens the answer"]["value"] == "0.0"
    own = rows["ecso", "tells its harmful answers from harmless ones"]
    assert (own["correct"], own["n"]) == ("60", "120")


def test_answers_of_one_kind_only_cannot_show_the_skill(tmp_path, development):
    settings = settings_at(tmp_path, ["base", "ecso"])
    rows = measured(settings, Scripted(how="sorry", look="an axe and a dog ."))
    own = rows["ecso", "tells its harmful answers from harmless ones"]
    assert (own["n"], own["value"], own["applicable"]) == ("0", "", "no")
    note = not_applicable(settings)["internvl_mini", "ecso", 0]
    assert note.startswith("n/a (skill not shown): tells its harmful answers")


def write_skills(settings, seed, correct, n=200):
    path = layout.skills(settings, "internvl_mini", seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "method,skill,n,correct,value,low,high,chance,applicable\n"
        f"ecso,tells,{n},{correct},,,,50,\necso,names,{n},{n},,,,0.0054,\n"
    )


def test_seeds_are_taken_together_for_the_pooled_row(tmp_path):
    settings = settings_at(tmp_path, ["base", "ecso"]).model_copy(update={"seeds": [0, 1]})
    assert not_applicable(settings) == {}
    write_skills(settings, 0, 104)
    write_skills(settings, 1, 150)
    notes = not_applicable(settings)
    assert list(notes) == [("internvl_mini", "ecso", 0)]
    assert notes["internvl_mini", "ecso", 0] == (
        "n/a (skill 52 %): tells, 104 of 200 on the development split, chance 50 %"
    )
    write_skills(settings, 1, 104)
    assert ("internvl_mini", "ecso", "all") in not_applicable(settings)


def test_a_table_says_not_applicable_and_why_in_the_place_of_a_number(tmp_path):
    settings = settings_at(tmp_path, ["base", "ecso"])
    rows = [
        dict(zip(COLUMNS, ("mini", "internvl_mini", arm, "mis", split, "asr", "percent", "lower", value, note, seed,
                           400, 0, value - 1, value + 1), strict=True))
        for arm, value, note in (("base", 90, ""), ("ecso", 20, "n/a (skill 52 %): tells, 104 of 200, chance 50 %"))
        for split in ("easy", "hard", "real")
        for seed in (0, "all")
    ]  # fmt: skip
    with (tmp_path / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    table = build_table("16", settings, ROOT)
    lines = {line.label: line.cells for line in table.panels[0].lines if line.cells}
    assert (lines["ECSO"][1].value, lines["ECSO"][1].small, lines["ECSO"][1].bold) == ("n/a", "(skill 52 %)", False)
    assert lines["Base"][1].value == "90.0" and any(note.startswith("n/a:") for note in table.notes)
    record = next(row for row in table.records if row["method"] == "ecso")
    assert record["reproduced"] == "" and record["run_note"].startswith("n/a (skill 52 %)")
    supplement = {row["method"]: row["reproduced"] for row in build_table("S1", settings, ROOT).records
                  if row["split"] == "easy"}  # fmt: skip
    assert supplement == {"base": "90.0", "ecso": ""}
