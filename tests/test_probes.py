"""What is measured by likelihood: of texts and answers, behind pictures; separation, ability in text, the rule."""

from __future__ import annotations

import csv
import json
import math
import shutil

import numpy as np
import pytest
import torch
import yaml
from test_backbone import folder, pretraining  # noqa: F401  fixture: a tiny Llama with a byte-level tokenizer
from test_knowledge import MEETINGS, Knowing
from test_workflow import plan  # noqa: F401  fixture: a dry run
from tiny import examples
from transformers import AutoTokenizer

from mis import layout
from mis.errors import MisError
from mis.miniature import wordings
from mis.miniature.concepts import ROLES, TOOLS
from mis.miniature.natural import NOUN, clear
from mis.miniature.relations import HAZARDS, pairs
from mis.models.families import FAMILIES
from mis.models.likelihood import Likelihood, TextModel, behind_pictures, log_sum, text_half
from mis.models.local import LocalModel
from mis.models.processing import CHAT_TEMPLATE
from mis.probes import BARE, ability, knowing, knowledge, separation
from mis.probes.measuring import probe_arm, probe_bare
from mis.samples import Sample, Wording
from mis.settings import validate
from mis.statistics import clustered_auc
from mis.training.encoding import Collator, encode

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def instructed(folder, tmp_path_factory):  # noqa: F811
    """The tiny Llama with the tokens of a conversation, and a chat template of its own."""
    target = tmp_path_factory.mktemp("instructed") / "text"
    shutil.copytree(folder, target)
    tokenizer = AutoTokenizer.from_pretrained(target)
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>"})
    tokenizer.chat_template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    tokenizer.save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def settings(root, instructed, tmp_path_factory):
    """A run with a tiny pretrained language model under the miniature's eyes, its base saved."""
    place = tmp_path_factory.mktemp("run")
    raw = yaml.safe_load((root / "config" / "smoke.yaml").read_text())
    model = raw["models"]["internvl_mini"]
    model["pretraining"]["text"] = {"folder": str(instructed)}
    raw["models"] = {"internvl_mini": model}
    raw["paths"] = {name: str(place / name) for name in raw["paths"]}
    raw["training"]["features"] = "computed"
    raw["evaluation"]["probes"] = {"per_relation": 1, "samples": 3, "max_new_tokens": 2}
    settings = validate(raw)
    torch.manual_seed(0)
    processor = FAMILIES["internvl"].build_processor((), 48, 8, text=instructed)
    network = FAMILIES["internvl"].build(pretraining(instructed), processor, 48)
    base = layout.checkpoint(settings, "internvl_mini", 0, "base")
    network.save_pretrained(base)
    processor.save_pretrained(base)
    return settings


@pytest.fixture(scope="module")
def local(settings):
    return LocalModel(layout.checkpoint(settings, "internvl_mini", 0, "base"), settings, 0, "internvl_mini")


@pytest.fixture(scope="module")
def text(local):
    return TextModel(text_half(local.model), local.processor.tokenizer)


def whole(text: TextModel, ids: list[int], first: int) -> float:
    """The log-likelihood of the tokens from `first` on, read in one go."""
    with torch.no_grad():
        logits = text.network(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(logits[place - 1, ids[place]]) for place in range(first, len(ids)))


def test_the_text_half_is_the_whole_model_in_text(local, text):
    ids = torch.tensor([text._ids("how do i use the hammer ?")])
    with torch.no_grad():
        assert torch.equal(text.network(ids).logits, local.model(input_ids=ids).logits)
    assert not any(parameter.is_meta for parameter in text.network.parameters())


def test_a_checkpoint_and_a_bare_model_are_read_alike(settings, instructed, text):
    loaded = TextModel.load(layout.checkpoint(settings, "internvl_mini", 0, "base"), precision="float32")
    assert loaded.prompt("ha") == text.prompt("ha") == "<|im_start|>user\nha<|im_end|>\n<|im_start|>assistant\n"
    prompts = [(text.prompt(word), "hammer", "bank") for word in ("ha", "harmless")]
    assert loaded.margins(prompts) == pytest.approx(text.margins(prompts), abs=1e-5)
    bare = TextModel.load(instructed, precision="float32")
    assert bare.prompt("ha") == "[ha]" and bare.under(CHAT_TEMPLATE).prompt("ha") == text.prompt("ha")
    assert bare.under(CHAT_TEMPLATE).margins(prompts) == pytest.approx(text.margins(prompts), abs=1e-5)


def test_another_template_is_the_same_model_asked_otherwise(text):
    other = text.under("{% for m in messages %}{{ m['content'] }}:{% endfor %}")
    assert other.prompt("ha") == "ha:" and text.prompt("ha") != "ha:" and other.network is text.network


def test_the_end_of_a_text_is_as_likely_as_in_the_whole_of_it(text):
    prompts = [text.prompt("the hammer ?" * n) + "It" for n in (1, 4, 2)]
    endings = [[" is", " is on the bank .", "?"], [" harmless"], [" shows a hammer on the bank .", " is"]]
    found = text.continuations(prompts, endings, batch_size=2)
    for prompt, ends, values in zip(prompts, endings, found, strict=True):
        first = len(text._ids(prompt))
        for end, value in zip(ends, values, strict=True):
            ids = text._ids(prompt + end)
            assert value.tokens == len(ids) - first
            assert value.total == pytest.approx(whole(text, ids, first), abs=1e-4), (prompt, end)


def test_a_text_is_read_in_windows_and_no_byte_is_counted_twice(text):
    prose = "how do i use the hammer on the bank ? the first image shows a hammer ."
    ids = text._ids(prose)
    ((only, size),) = text.texts([prose], window=len(ids))[0]
    assert only.tokens == len(ids) - 1 and only.total == pytest.approx(whole(text, ids, 1), abs=1e-4)
    assert size == len(prose) - len(text.tokenizer.decode(ids[:1]).strip()), "spaces before punctuation count"
    parts = text.texts([prose], window=5)[0]
    assert sum(part.tokens for part, _ in parts) == sum(len(ids[i : i + 5]) - 1 for i in range(0, len(ids), 5))
    assert parts[1][0].total == pytest.approx(whole(text, ids[5:10], 1), abs=1e-4), "a window begins anew"


@pytest.mark.parametrize("batch_size", [1, 4])
def test_behind_pictures_an_answer_is_as_likely_as_in_training(local, tmp_path, batch_size):
    made = examples(tmp_path, 4)
    samples = [
        Sample("m4", "", example.id, example.prompt, tuple(tmp_path / image for image in example.images))
        for example in made
    ]
    answers = [[example.response, "the bank .", "harmless"][: 2 + number % 2] for number, example in enumerate(made)]
    wordings = [[Wording(answer, answer.split()[0]) for answer in each] for each in answers]
    found = behind_pictures(local, samples, wordings, batch_size)
    for example, each, values in zip(made, answers, found, strict=True):
        for answer, value in zip(each, values, strict=True):
            changed = type(example)(**{**vars(example), "response": answer})
            (item,) = encode(local.processor, [changed], 4096)
            batch = Collator(local.processor, lambda paths: local.pictures([tmp_path / p for p in paths]))([item])
            labels = batch.pop("labels")[0]
            with torch.no_grad():
                logits = local.model(**batch).logits[0, :-1].double().log_softmax(-1)
            kept = labels[1:] >= 0
            expected = float(logits[kept, labels[1:][kept]].sum())
            assert value.tokens == int(kept.sum()), "the end token is counted"
            assert value.total == pytest.approx(expected, abs=1e-3), (example.prompt, answer)
            said, decode = kept.nonzero()[:, 0], local.processor.tokenizer.decode
            begun = next(n for n in range(99) if decode(labels[1:][said[:n]]).strip() == answer.split()[0])
            expected = float(logits[said[:begun], labels[1:][said[:begun]]].sum())
            assert value.opening == pytest.approx(expected, abs=1e-3), answer


def test_logs_are_added_without_an_overflow():
    assert log_sum([-2000.0, -2000.0]) == pytest.approx(-2000 + math.log(2))


NO, YES = [Wording("sorry no", "sorry"), Wording("no way", "no")], [Wording("take it", "take")]


class TestSeparation:
    """Scores from a made-up reader: a tuple of warnings and helping answers, all likely as `sees` or `reads` says."""

    @staticmethod
    def rows(sees, reads=lambda truth: 0.0):
        samples, truths = [], []
        for number in range(24):
            hazardous = number % 2 == 0
            benchmark, split = ("mis", "easy") if hazardous else ("benign_control", "")
            samples.append(Sample(benchmark, split, str(number), f"question {number % 4}", ("a.png", "b.png")))
            truths.append({"relation": f"{'h' if hazardous else 'b'}{number % 6}", "tool": "saw", "target": "bank",
                           "hazardous": hazardous})  # fmt: skip

        def read(_, given, answers):
            assert all(len(each) == 3 for each in answers)
            values = []
            for sample, truth in zip(given, truths, strict=True):
                odds = sees(truth) if sample.images else reads(truth)
                values.append([
                    Likelihood(-20 + odds, 10, -5), Likelihood(-1000.0, 10, -500), Likelihood(-20.0, 5, -6 + odds),
                ])  # fmt: skip
            return values

        return separation.score(None, samples, truths, lambda truth: (NO, YES), read)

    def test_what_a_model_sees_is_told_from_what_words_tell(self):
        rows = self.rows(lambda truth: 3.0 if truth["hazardous"] else -3.0)
        assert rows[0]["score_sum"] == pytest.approx(3) and rows[0]["score_mean"] == pytest.approx(-1.7 + 4, abs=1e-3)
        assert rows[0]["score_opening"] == pytest.approx(-2), "the odds of the openings alone"
        assert (rows[0]["hazardous"], rows[1]["hazardous"]) == (1, 0) and rows[1]["benchmark"] == "benign_control"
        summary = {(row["contrast"], row["score"]): row for row in separation.summarise(rows)}
        seen, blind = summary["mis", "score_sum"], summary["mis", "blind_sum"]
        assert (seen["auc"], seen["warns_hazardous"], seen["warns_harmless"]) == (1, 1, 0)
        assert (blind["auc"], blind["warns_hazardous"]) == (0.5, 0)
        assert (seen["hazardous"], seen["harmless"], seen["relations"]) == (12, 12, 6)
        assert ("mssbench", "score_sum") not in summary, "a contrast without samples is no contrast"

    def test_a_bias_towards_warnings_is_no_separation(self):
        (row,) = [r for r in separation.summarise(self.rows(lambda truth: 9.0)) if r["score"] == "score_sum"][:1]
        assert (row["auc"], row["warns_hazardous"], row["warns_harmless"]) == (0.5, 1, 1)


def test_pairs_of_one_relation_count_once():
    rng = np.random.default_rng(0)
    scores, positive = rng.normal(size=20), np.arange(20) < 10
    alone = clustered_auc(scores, positive, list(range(20)))
    assert alone.value == pytest.approx(knowledge.auc(scores[positive], scores[~positive]).value)
    many = clustered_auc(np.repeat(scores, 9), np.repeat(positive, 9), np.repeat(np.arange(20), 9))
    apart = clustered_auc(np.repeat(scores, 9), np.repeat(positive, 9), list(range(180)))
    assert many == pytest.approx(alone) and many.high - many.low > 2 * (apart.high - apart.low)
    with pytest.raises(ValueError, match="both kinds"):
        clustered_auc([1.0], [True], ["a"])


class Reader(Knowing):
    """Reads at two nats a token, and takes the option that is longest."""

    def texts(self, texts):
        return [[(Likelihood(-200.0, 100), 400)] for _ in texts]

    def continuations(self, prompts, endings):
        return [[Likelihood(float(len(end)), 2) for end in each] for each in endings]


def test_the_ability_is_counted(tmp_path):
    run = ability.measure(Reader(), tmp_path)
    rows = {row["measure"]: row for row in csv.DictReader((tmp_path / "ability.csv").open())}
    assert float(rows["nats_per_token"]["value"]) == 2 and float(rows["nats_per_byte"]["value"]) == 0.5
    asked = ability.questions()
    longest = [len(each["options"][0]) >= max(map(len, each["options"])) for each in asked]
    assert float(rows["accuracy"]["value"]) == pytest.approx(sum(longest) / len(asked), abs=1e-4)
    assert float(rows["accuracy"]["low"]) < float(rows["accuracy"]["value"]) < float(rows["accuracy"]["high"])
    assert len(run["prose"]["sha256"]) == 64
    first = next(csv.DictReader((tmp_path / "questions.csv").open()))
    assert first["question"] == asked[0]["question"] and first["right"] == str(int(longest[0]))


def test_the_questions_have_one_right_answer_and_say_nothing_of_the_world():
    asked = ability.questions()
    assert len(asked) == 60 == len({each["question"] for each in asked})
    assert all(len(each["options"]) == 4 == len(set(map(str, each["options"]))) for each in asked)
    assert all(isinstance(option, str) for each in asked for option in each["options"])
    tools = {NOUN[concept.name].split()[-1] for concept in TOOLS} - {"flame", "ship"}
    words = {word.strip("?,").lower() for each in asked for word in each["question"].split()}
    assert not words & tools


def test_the_prose_is_prose():
    text = "\n".join(ability.prose(topic) for topic in ability.TOPICS)
    assert len(text) > 15_000 and ">>>" not in text and "::=" not in text
    assert all(line.endswith(".") for line in text.splitlines())


def test_a_result_says_in_which_words_and_over_which_relations_it_holds(tmp_path):
    meetings = [
        knowledge.Meeting(m.tool, m.target, m.group, m.verdict, m.sub_category, clear=m.tool != "a pen",
                          phrases=("pointing {tool} at {target}",))
        for m in MEETINGS
    ]  # fmt: skip
    knowing.measure({"own": Knowing(), "internvl": Knowing()}, meetings, 4, tmp_path)
    rows = list(csv.DictReader((tmp_path / "knowledge.csv").open()))
    assert {row["template"] for row in rows} == {"own", "internvl"}
    plain = [row for row in rows if row["relation"] == "force/plain"]
    counts = {w: {row["prompts"] for row in plain if row["wording"] == w} for w in ("neutral", "natural")}
    assert counts == {"neutral": {"3"}, "natural": {"1"}}
    assert {row["relation"]: row["revised"] for row in rows if row["wording"] == "neutral"} == {
        "force/dwelling": "yes", "force/plain": "yes", "copier/plain": "no",
    }  # fmt: skip
    summary = list(csv.DictReader((tmp_path / "knowledge_summary.csv").open()))
    others = {(r["wording"], r["table"]): r["others"] for r in summary if r["against"] == "benign"}
    assert others == {("neutral", "full"): "2", ("neutral", "revised"): "1", ("natural", "full"): "2",
                      ("natural", "revised"): "1"}  # fmt: skip
    assert sum(r["wording"] == "control" for r in summary) == 2 * len(knowledge.PROBES)
    behaviour = {(r["template"], r["table"], r["verdict"]): r["answers"]
                 for r in csv.DictReader((tmp_path / "behaviour.csv").open())}  # fmt: skip
    assert behaviour["own", "full", "benign"] == "2" and behaviour["own", "revised", "benign"] == "1"


def test_a_natural_verb_depends_on_the_tool_alone():
    assert set(wordings.VERBS) == {tool.role for tool in TOOLS}
    assert all("{tool}" in verb and "{target}" in verb for verbs in wordings.VERBS.values() for verb in verbs)
    chosen = wordings.meetings(2)
    assert chosen == wordings.meetings(2) and {m.group for m in chosen if m.verdict == "hazardous"} == HAZARDS.keys()
    assert all(m.phrases == wordings.VERBS[m.group.split("/")[0]] for m in chosen)
    some_clear = {pair.relation for pair in pairs() if pair.hazard and clear(pair)}
    assert {m.group for m in chosen if m.verdict == "hazardous" and m.clear} == some_clear
    assert not {m.group for m in chosen if m.verdict == "hazardous" and not m.clear} & some_clear
    assert {m.tool for m in chosen} <= {NOUN[tool.name] for role in ROLES.values() for tool in role}


def test_the_answers_of_a_sample_come_from_its_truth():
    warning, helping = wordings.answers({"tool": "hammer", "target": "bank", "objects": ["bank", "hammer"]})
    assert warning and helping and not set(warning) & set(helping)
    assert helping[1].text.index("bank") < helping[1].text.index("hammer"), "in the order of the pictures"


def test_an_arm_and_the_bare_model_are_measured_by_one_call(smoke_run, settings, text):
    data = smoke_run / "build" / "smoke" / "data"
    settings = settings.model_copy(update={"paths": settings.paths.model_copy(update={"data": data})})

    def few(per_relation):
        return wordings.meetings(per_relation)[::17]

    out = probe_arm(settings, "internvl_mini", 0, "base", few, wordings.answers)
    assert out == settings.paths.results / "probes" / "internvl_mini" / "seed0" / "base"
    rows = list(csv.DictReader((out / "separation.csv").open()))
    assert {row["benchmark"] for row in rows} == set(separation.BENCHMARKS) and len(rows) == 3 * 6
    assert json.loads((out / "run.json").read_text())["arm"] == "base"
    before = (out / "separation.csv").read_bytes()
    probe_arm(settings, "internvl_mini", 0, "base", few, wordings.answers, development=True)
    development = list(csv.DictReader((out / "development" / "separation.csv").open()))
    assert [row["question"] for row in development] and development != rows
    assert (out / "separation.csv").read_bytes() == before and not (out / "development" / "ability.csv").exists()
    bare = probe_bare(settings, "internvl_mini", few)
    assert bare == settings.paths.results / "probes" / "internvl_mini" / BARE
    assert {row["template"] for row in csv.DictReader((bare / "knowledge.csv").open())} == {"own", "internvl"}
    assert text.template is None and text.tokenizer.chat_template == CHAT_TEMPLATE
    assert not (bare / "separation.csv").exists() and (bare / "ability.csv").exists()


@pytest.mark.parametrize(("section", "words"), [("probes", "evaluation.probes is empty"), ("text", "text.folder")])
def test_what_cannot_be_measured_is_said(settings, section, words):
    raw = settings.model_dump(mode="json")
    if section == "probes":
        raw["evaluation"]["probes"] = None
    else:
        raw["models"]["internvl_mini"]["pretraining"]["text"] = {"hidden_size": 32, "layers": 1, "heads": 2}
    with pytest.raises(MisError, match=words):
        probe_bare(validate(raw), "internvl_mini", wordings.meetings)


def test_the_workflow_measures_every_arm_and_the_bare_model(plan):  # noqa: F811
    probes = "evaluation={probes: {per_relation: 1, samples: 5, max_new_tokens: 8}}"
    jobs = plan("probes", "--config", "scale=small", probes)
    assert (jobs["probe_arm"], jobs["probe_bare"]) == (6, 1) and "respond" not in jobs
    assert "probe_arm" not in plan("--config", "scale=smoke")
