"""The arms' training sets at the paper's scale: sizes of the released datasets, shares, pages, missing labels."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mis import mixing
from mis.errors import MisError
from mis.mixing import mix, mixture
from mis.mixtures import ARMS, RELEASED, Part
from mis.samples import Example
from mis.settings import Sources
from mis.sources.common import leave_out
from mis.sources.labels import LABEL_REFUSED
from mis.store import read_jsonl

# What the released files hold: VLGuard's train.json (read: 2,000 and 977), MIS-train's 3,927 rows; more of the others
# than any arm takes.
RELEASED_SIZES = {
    ("saferlhf", "safety"): 2600, ("saferlhf", "benign"): 1200, ("vlguard", "safety"): 2000, ("vlguard", "benign"): 977,
    ("m4_instruct", "general"): 7000, ("mis_train", "safety"): 3927, ("benign_pairs", "benign"): 4000,
}  # fmt: skip
PAPER = {  # the paper's own numbers: samples, and general data in percent (Table 6)
    "textual_sft": (3000, 33.3), "textual_sft_dagger": (3500, 42.86), "vlguard_p": (3000, 33.3),
    "vlguard_r": (3000, 33.3), "vlguard_r_dagger": (3500, 42.86), "vlguard_r_ddagger": (8000, 75.0),
    "mirage": (4500, 11.1), "mirage_star": (4000, 0.0),
}  # fmt: skip
FROM_RELEASED = {  # ours, of the files as released: all 977, and 3,927
    "textual_sft": (3000, 33.33), "textual_sft_dagger": (3500, 42.86), "vlguard_p": (2977, 32.82),
    "vlguard_r": (2977, 32.82), "vlguard_r_dagger": (3477, 42.48), "vlguard_r_ddagger": (7977, 74.93),
    "mirage": (4427, 11.29), "mirage_star": (3927, 0.0),
}  # fmt: skip


@pytest.fixture
def hold(monkeypatch):
    """Stands in for the datasets: each source gives as many examples; `refused` of its harmful ones have no label."""

    def hold(sizes, refused=0, repeats=1):
        def loader(source):
            def load(root, labels):
                for _ in range(refused if source == "vlguard" and labels != "original" else 0):
                    leave_out(LABEL_REFUSED)
                return [
                    Example(f"{kind}{n}", source, kind, (), f"{source} {kind} {n // repeats}", labels)
                    for (name, kind), size in sizes.items()
                    if name == source
                    for n in range(
                        size - (refused if (name, kind) == ("vlguard", "safety") and labels != "original" else 0)
                    )
                ]

            return load

        monkeypatch.setattr(mixing, "TRAINING_SOURCES", {source: loader(source) for source, _ in sizes})

    return hold


def share(examples):
    return 100 * sum(example.kind != "safety" for example in examples) / len(examples)


@pytest.mark.parametrize("arm", PAPER)
def test_declared_counts_are_the_papers_shares(arm):
    sizes = {("vlguard", "benign"): 1000, ("mis_train", "safety"): 4000}
    counts = [(part.kind, part.count or sizes[part.source, part.kind]) for part in ARMS[arm].parts]
    total, general = sum(n for _, n in counts), sum(n for kind, n in counts if kind != "safety")
    count, wanted = PAPER[arm]
    assert total == count and round(100 * general / total, 2 if wanted == 42.86 else 1) == wanted


@pytest.mark.parametrize("arm", FROM_RELEASED)
def test_released_files_give_their_own(hold, arm):
    hold(RELEASED_SIZES)
    examples = mixture(ARMS[arm], Path("data"), full=True)
    assert (len(examples), round(share(examples), 2)) == FROM_RELEASED[arm]
    assert abs(share(examples) - PAPER[arm][1]) < 0.6


def test_vlguards_977_are_known_and_fewer_are_an_error(hold):
    assert RELEASED == {("vlguard", "benign"): 977}
    hold(RELEASED_SIZES | {("vlguard", "benign"): 976})
    with pytest.raises(
        MisError, match="vlguard: 976 benign examples, but arm vlguard_p takes 977; the dataset is incomplete"
    ):
        mixture(ARMS["vlguard_p"], Path("data"), full=True)
    hold(RELEASED_SIZES | {("vlguard", "safety"): 1999})
    with pytest.raises(MisError, match="1999 safety examples, but arm vlguard_p takes 2000"):
        mixture(ARMS["vlguard_p"], Path("data"), full=True)


def test_a_prompt_of_saferlhf_is_drawn_once(hold):
    hold(RELEASED_SIZES | {("saferlhf", "safety"): 5000, ("saferlhf", "benign"): 3000}, repeats=2)
    examples = mixture(ARMS["textual_sft"], Path("data"), full=True)
    assert len({example.prompt for example in examples}) == len(examples) == 3000
    again = mixture(ARMS["textual_sft"], Path("data"), full=True)
    assert again == examples


def test_refused_labels_count_against_a_limit(hold):
    hold(RELEASED_SIZES, refused=20)
    arm, data = ARMS["vlguard_r"], Path("data")
    with pytest.raises(
        MisError, match="1980 safety examples have a label, arm vlguard_r takes 2000, and 20 were refused"
    ):
        mixture(arm, data, full=True)
    with pytest.raises(MisError, match="raise sources.unlabelled_limit"):
        mixture(arm, data, full=True, sources=Sources(unlabelled_limit=0.009))
    assert len(mixture(arm, data, full=True, sources=Sources(unlabelled_limit=0.01))) == 2957
    assert len(mixture(ARMS["vlguard_p"], data, full=True)) == 2977


def test_excluded_examples_are_drawn_by_no_arm(hold):
    hold(RELEASED_SIZES)
    before = mixture(ARMS["mirage"], Path("data"), full=True)
    general = [example.id for example in before if example.kind == "general"]
    after = mixture(ARMS["mirage"], Path("data"), full=True, excluded={("m4_instruct", general[0])})
    assert len(after) == len(before) and general[0] not in {
        example.id for example in after if example.kind == "general"
    }


def test_other_labels_by_the_configuration(hold):
    hold(RELEASED_SIZES)
    sources = Sources(labels={"saferlhf/original": "safe_answer"})
    examples = mixture(ARMS["textual_sft"], Path("data"), full=True, sources=sources)
    assert {example.response for example in examples} == {"safe_answer"}
    assert mixing.labels_of(Part("vlguard", "safety", labels="original"), sources) == "original"


def test_every_arm_has_a_page(hold, mini):
    hold(RELEASED_SIZES)
    arms = ["vlguard_p", "mirage", "mirage_wo_privacy_selfharm"]
    models = {"m": mini.models["internvl_mini"].model_copy(update={"arms": ["base", *arms]})}
    settings = mini.model_copy(update={"models": models, "world": None})
    facts = settings.paths.data / "vlguard/labels/original.json"
    mix(settings)
    assert not facts.exists()
    page = (settings.paths.build / "mixtures/vlguard_p.md").read_text()
    assert page.startswith("# vlguard_p: 2,977 training examples\n\n32.8 % are no harmful inputs")
    assert "- vlguard: the released file has 977 of the paper's 1000; all are taken" in page
    mirage = (settings.paths.build / "mixtures/mirage.md").read_text()
    assert "| mis_train | harmful inputs | 3,927 | 88.7 % | all | apache-2.0 | the dataset's own |" in mirage
    assert "| m4_instruct | general instruction data | 500 | 11.3 % | 500 | cc-by-4.0" in mirage
    without = (settings.paths.build / "mixtures/mirage_wo_privacy_selfharm.md").read_text()
    assert "- mis_train: without Privacy and Self-Harm" in without
    rows = read_jsonl(settings.paths.build / "mixtures/mirage.jsonl")
    assert Counter(row["kind"] for row in rows) == {"safety": 3927, "general": 500}
    first = page
    mix(settings)
    assert (settings.paths.build / "mixtures/vlguard_p.md").read_text() == first


def test_labels_of_a_model_are_named_on_the_page(hold, mini):
    hold(RELEASED_SIZES, refused=4)
    models = {"m": mini.models["internvl_mini"].model_copy(update={"arms": ["vlguard_r"]})}
    settings = mini.model_copy(update={"models": models, "world": None, "sources": Sources(unlabelled_limit=0.01)})
    facts = settings.paths.data / "vlguard/labels/reasoning.json"
    facts.parent.mkdir(parents=True)
    facts.write_text(json.dumps({"model": "m@1", "prompt": "reasoning:ab", "outcomes": {"ok": 1996, "refused": 4}}))
    mix(settings)
    page = (settings.paths.build / "mixtures/vlguard_r.md").read_text()
    assert "reasoning: written by m@1, prompt reasoning:ab (ok: 1996, refused: 4)" in page
    assert f"- vlguard: 4 rows are not drawn from: {LABEL_REFUSED}" in page
    assert (
        "| vlguard | harmless inputs of a safety dataset | 977 | 32.9 % | 1000 | not read | the dataset's own |" in page
    )


def test_one_arm_at_a_time_gives_the_same_as_all(hold, mini):
    hold(RELEASED_SIZES)
    arms = ["vlguard_p", "mirage_star"]
    models = {"m": mini.models["internvl_mini"].model_copy(update={"arms": ["base", *arms]})}
    settings = mini.model_copy(update={"models": models, "world": None})
    mix(settings)
    folder = settings.paths.build / "mixtures"
    together = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    for arm in arms:
        mix(settings, [arm])
    assert not (folder / "datasheet.csv").exists()
    mixing.write_datasheet(settings)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == together
    with pytest.raises(MisError, match="arm base trains nothing; those that do: vlguard_p, mirage_star"):
        mix(settings, ["base"])
