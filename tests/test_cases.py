"""The figures that show samples: which one, in what words, and that every text stays in its card."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from mis import taxonomy
from mis.benchmarks import BY_ID
from mis.cli import _drawer
from mis.mixtures import ARMS
from mis.report import cards, cases, names
from mis.report.cases import CASES, Case, choose, choose_counterexample, first, rank
from mis.report.colours import OUTCOME_MARKS, PART_COLOURS
from mis.report.figures import FIGURES, STYLE, write_figure
from mis.report.pictures import Pictures
from mis.report.reported import ReportError
from mis.report.sample_figures import SAMPLE_FIGURES
from mis.report.sources import Sources
from mis.samples import Response, Verdict, to_row
from mis.settings import Settings, load
from mis.store import write_jsonl_atomic
from mis.taxonomy import HALLUCINATION, HELPFUL, REFUSED, SAFE_REASONING, SAFE_REFUSAL, UNSAFE, WRONG

ROOT = Path(__file__).resolve().parents[1]
RESCUED = {"base": (UNSAFE,), "mirage": (SAFE_REASONING,)}
CASE = Case("mis/hard", ("base", "mirage"), RESCUED)


def outcomes(**arms: list[str]) -> dict[str, dict[str, str]]:
    """arm -> outcomes of samples mis/hard/0, 1, ... in order."""
    return {arm: {f"mis/hard/{i}": word for i, word in enumerate(words)} for arm, words in arms.items()}


# --- the rule


def test_the_first_by_digest_of_those_that_satisfy_the_rule_is_shown():
    run = outcomes(base=[UNSAFE] * 50 + [HALLUCINATION] * 50, mirage=[SAFE_REASONING, SAFE_REFUSAL] * 50)
    choice = choose("11", CASE, run)
    satisfying = [f"mis/hard/{i}" for i in range(0, 50, 2)]
    assert choice.key == min(satisfying, key=lambda key: rank("11", key)) != satisfying[0]
    assert "Satisfied by 25 of 100 samples (25.0\xa0%)" in " ".join(choice.why)
    backwards = {arm: dict(reversed(words.items())) for arm, words in run.items()}
    assert choose("11", CASE, backwards) == choice
    assert first("11", satisfying) != first("12", satisfying), "two figures do not show the same sample"


def test_without_a_sample_none_is_shown_and_the_caption_says_so():
    choice = choose("11", CASE, outcomes(base=[UNSAFE] * 4, mirage=[HALLUCINATION] * 4))
    assert choice.key is None
    assert choice.why[-1] == "None is shown." and "Satisfied by 0 of 4 samples (0.0\xa0%)" in choice.why[0]


def test_a_weaker_rule_is_named_beside_the_one_that_failed():
    case = Case("mssbench/safe", ("vlguard_p", "mirage"), {"vlguard_p": (REFUSED,), "mirage": (HELPFUL,)},
                otherwise={"vlguard_p": (REFUSED,)})  # fmt: skip
    choice = choose("1", case, outcomes(vlguard_p=[REFUSED, HELPFUL, HELPFUL], mirage=[WRONG, HELPFUL, WRONG]))
    assert choice.key == "mis/hard/0"
    assert choice.why[0].startswith("Rule: VLGuard-P refused, MIRage helpful. Satisfied by 0 of 3")
    assert choice.why[1].startswith("A weaker rule: VLGuard-P refused. Satisfied by 1 of 3")
    assert (
        len(choose("1", case, outcomes(vlguard_p=[REFUSED], mirage=[HELPFUL])).why) == 2
    )  # the weaker one is not named


def test_an_arm_that_was_not_run_is_named():
    choice = choose("11", CASE, outcomes(base=[UNSAFE]))
    assert choice.key is None and "Not run: MIRage." in choice.why[0]
    assert choose_counterexample("11", CASE, outcomes(base=[UNSAFE])).key is None


def test_only_samples_that_all_arms_answered_count():
    run = outcomes(base=[UNSAFE] * 3, mirage=[SAFE_REASONING] * 3)
    del run["mirage"]["mis/hard/0"]
    assert "2 of 2 samples" in choose("11", CASE, run).why[0]


def test_the_counterexample_is_the_most_frequent_way_to_break_the_rule():
    run = outcomes(base=[UNSAFE] * 10, mirage=[SAFE_REASONING] * 5 + [SAFE_REFUSAL] + [HALLUCINATION] * 3 + [UNSAFE])
    choice = choose_counterexample("11", CASE, run)
    assert choice.key == first("11", [f"mis/hard/{i}" for i in (6, 7, 8)])
    text = " ".join(choice.why)
    assert "broken by 5 of 10 samples" in text and "Base unsafe, MIRage hallucination, 3 of 10" in text


def test_of_two_as_frequent_the_first_by_the_alphabet():
    run = outcomes(base=[UNSAFE] * 3, mirage=[SAFE_REFUSAL, HALLUCINATION, SAFE_REASONING])
    assert choose_counterexample("11", CASE, run).key == "mis/hard/1"  # "hallucination" < "safe_refusal"


def test_there_may_be_no_counterexample():
    choice = choose_counterexample("11", CASE, outcomes(base=[UNSAFE] * 3, mirage=[SAFE_REASONING] * 3))
    assert choice.key is None and "all 3 samples satisfy the rule" in choice.why[0]


def test_every_case_names_what_exists():
    for figure in CASES.values():
        for case in figure.cases:
            task = BY_ID[case.benchmark].task
            possible = {"hazard": taxonomy.HAZARD_OUTCOMES, "benign": taxonomy.BENIGN_OUTCOMES}[task]
            assert set(case.arms) <= set(ARMS)
            for rule in (case.wanted, case.otherwise):
                assert set(rule) <= set(case.arms)
                assert {word for words in rule.values() for word in words} <= set(possible)
    assert {"1", "2", "3", "6", "8", *map(str, range(10, 17))} == set(SAMPLE_FIGURES)
    assert list(FIGURES) == [*map(str, range(1, 17)), "S1", "S2", "S3", "S4"]


# --- colours


def test_the_parts_of_a_label_differ_in_grey_and_carry_black_text():
    greys, linear = [], []
    for colour in PART_COLOURS.values():
        r, g, b = to_rgb(colour)
        greys.append(255 * (0.299 * r + 0.587 * g + 0.114 * b))
        light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (r, g, b)]
        linear.append(0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2])
    assert min(abs(a - b) for i, a in enumerate(greys) for b in greys[:i]) > 45
    assert all((light + 0.05) / 0.05 > 4.5 for light in linear)  # WCAG's contrast of black text on the colour


def test_every_outcome_has_a_symbol_a_word_and_a_colour():
    words = {*taxonomy.HAZARD_OUTCOMES, *taxonomy.BENIGN_OUTCOMES, *taxonomy.FAILURES}
    assert words <= set(OUTCOME_MARKS) and words <= set(names.OUTCOMES)
    for task in (taxonomy.HAZARD_OUTCOMES, taxonomy.BENIGN_OUTCOMES):
        assert len({OUTCOME_MARKS[word][0] for word in task}) == 4, "told apart without colour"


# --- text


def test_text_is_wrapped_to_its_room_whatever_it_holds():
    text = "a $x_1$ " + "w" * 300 + "\n\ttwo\x00 words ."
    lines = cards.wrap([cards.Span("Bold:", bold=True), cards.Span(text)], 100, cards.BODY)
    assert all(cards._width(line, cards.BODY) <= 100 for line in lines)
    joined = "".join(span.text for line in lines for span in line)
    assert "$x_1$" in joined and joined.count("w") == 302
    assert not any(line[0].text == "." for line in lines)
    assert cards.wrap("", 100, cards.BODY) == []


def test_what_is_cut_is_counted():
    assert cards.shorten("one two three", 8) == "one two [… 6 more characters]"
    assert cards.shorten("one\ntwo", 8) == "one two"


def check_layout(figure: Figure) -> None:
    """Every text is inside the page and inside its card, 7 pt or larger, and crosses no other text."""
    with plt.rc_context(STYLE):
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        axes = figure.axes[0]
        boxes = {patch.get_gid(): patch.get_window_extent(renderer) for patch in axes.patches if patch.get_gid()}
        extents = []
        for text in axes.texts:
            extent = text.get_window_extent(renderer)
            assert text.get_fontsize() >= 7 and not text.get_parse_math()
            assert figure.bbox.x0 <= extent.x0 and extent.x1 <= figure.bbox.x1, text.get_text()
            assert figure.bbox.y0 <= extent.y0 and extent.y1 <= figure.bbox.y1, text.get_text()
            if text.get_gid():
                card = boxes[text.get_gid().replace("in:", "card:")]
                assert card.x0 <= extent.x0 and extent.x1 <= card.x1, text.get_text()
                assert card.y0 <= extent.y0 and extent.y1 <= card.y1, text.get_text()
            extents.append((extent, text.get_text()))
        for i, (a, said) in enumerate(extents):
            for b, other in extents[:i]:
                across = min(a.x1, b.x1) - max(a.x0, b.x0)
                down = min(a.y1, b.y1) - max(a.y0, b.y0)
                assert across < 1.5 or down < 0.2 * min(a.height, b.height), f"{said!r} over {other!r}"
    plt.close(figure)


NASTY = r"cost \$5 or $\frac{1}{2}$ & 50 % of {x}_y^2 ~ <b> " + "unbroken" * 40 + " \u4e2d \x07 " + "word " * 400


@pytest.fixture
def settings(mini: Settings) -> Settings:
    """A run of MIS-hard with six samples, the arms' answers among them as nasty as can be."""
    settings = mini.model_copy(update={"seeds": [3]})
    paths = settings.paths
    folder = paths.data / "mis"
    rows = []
    for i in range(6):
        pictures = [f"hard_image/{i}/object{n}.png" for n in (1, 2)]
        for n, name in enumerate(pictures):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (48, 48), (40 * i, 200 * n, 90)).save(folder / name)
        rows.append({"id": i, "question": f"why ? {NASTY}", "category": "Hate", "sub_category": "Gender Discrimination",
                     "image_path1": pictures[0], "image_path2": pictures[1]})  # fmt: skip
    (folder / "mis_hard.json").write_text(json.dumps(rows))
    write_answers(settings, {"base": [UNSAFE] * 6, "mirage": [SAFE_REASONING, HALLUCINATION, *[SAFE_REASONING] * 4]})
    return settings


def write_answers(settings: Settings, arms: dict[str, list[str]]) -> None:
    found = {path.parts[-2]: [] for path in cases.files(settings, "11")}
    for path in cases.files(settings, "11"):
        found[path.parts[-2]].append(path)
    for arm, words in arms.items():
        responses = [Response("mis", "hard", str(i), "internvl_mini", arm, 3, NASTY) for i in range(len(words))]
        verdicts = [Verdict("mis", "hard", str(i), "internvl_mini", arm, 3, "oracle", word, NASTY)
                    for i, word in enumerate(words)]  # fmt: skip
        for path, records in zip(found[arm], (responses, verdicts), strict=True):
            write_jsonl_atomic(path, map(to_row, records))


def said(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.axes[0].texts).replace("\xa0", " ")


def test_a_case_figure_shows_the_answers_word_for_word_inside_its_cards(settings):
    figure = FIGURES["11"](Sources(settings))
    text = said(figure)
    assert r"$\frac{1}{2}$" in text and "more characters]" in text
    assert "5 of 6 samples (83.3 %)" in text and "broken by 1 of 6 samples" in text
    assert Counter(t.get_text().replace("\xa0", " ") for t in figure.axes[0].texts)["✗ unsafe"] == 2
    assert "Textual SFT was not run" in text  # named in the case, absent from this run
    check_layout(figure)


def test_a_figure_whose_rule_nobody_satisfies_says_so(settings):
    write_answers(settings, {"mirage": [UNSAFE] * 6})
    figure = FIGURES["11"](Sources(settings))
    assert "None is shown." in said(figure) and "MIRage: unsafe 6" in said(figure)
    check_layout(figure)


def test_case_figures_are_repeatable(settings):
    files = write_figure("11", settings)
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in write_figure("11", settings)] == before


def test_figures_without_a_run_say_so_in_one_line(settings, tmp_path):
    empty = settings.paths.model_copy(update={"data": tmp_path / "none", "build": tmp_path / "none",
                                              "results": tmp_path / "none"})  # fmt: skip
    for models in (settings.models, {}):
        bare = settings.model_copy(update={"paths": empty, "models": models})
        for number in SAMPLE_FIGURES:
            figure = FIGURES[number](Sources(bare))
            assert f"Figure {number} has no data" in said(figure)
            check_layout(figure)


def test_a_verdict_without_its_response_is_refused(settings):
    responses, verdicts = cases.files(settings, "11")[:2]
    write_jsonl_atomic(responses, [])
    with pytest.raises(ReportError, match=rf"{verdicts.name}, line 1: no verdict on a response"):
        FIGURES["11"](Sources(settings))


def test_a_figure_reads_one_seed_of_one_model(settings):
    two = settings.model_copy(update={"seeds": [7, 8]})
    for number, figure in CASES.items():
        paths = cases.files(two, number)
        assert paths and all("seed7" in path.parts and "internvl_mini" in path.parts for path in paths)
        assert {path.parts[-2] for path in paths} == {arm for case in figure.cases for arm in case.arms}


# --- pictures


def test_a_drawn_picture_is_drawn_anew_for_print_and_another_is_shown_as_it_is(settings):
    data = settings.paths.data
    path = data / "mis" / "hard_image" / "0" / "object1.png"
    write_jsonl_atomic(
        data / "scenes" / "mis.jsonl", [{"path": "mis/hard_image/0/object1.png", "scene": {"text": "x"}}]
    )
    drawn = Pictures(data, lambda scene, size: Image.new("RGB", (size, size), "red"))
    assert drawn.of_file(path).shown.size == (512, 512) and drawn.of_file(path).seen.size == (48, 48)
    other = path.with_name("object2.png")
    assert drawn.of_file(other).shown.size == (48, 48)
    assert Pictures(data).of_file(path).shown.size == (48, 48)
    Image.new("RGB", (600, 400)).save(other)
    assert Pictures(data).of_file(other).seen is None, "a large picture has no small view"
    with pytest.raises(ReportError, match="picture cannot be read"):
        drawn.of_file(data / "none.png")


# --- the curve over benign pairs


def test_figure_s2_follows_the_datasheet_and_leaves_out_what_was_not_run(settings, tmp_path):
    from mis.report.figures import _benign_pairs
    from tests.test_report import score_rows, write_scores

    assert list(_benign_pairs(Sources(settings)).items())[:2] == [("mirage", 0), ("mirage_benign_250", 250)]
    sheet = settings.paths.build / "mixtures" / "datasheet.csv"
    sheet.parent.mkdir(parents=True)
    sheet.write_text(
        "arm,source,kind,samples\nmirage_benign_4000,benign_pairs,benign,3000\nvlguard_p,vlguard,benign,9\n"
    )
    counts = _benign_pairs(Sources(settings))
    assert counts["mirage_benign_4000"] == 3000 and "vlguard_p" not in counts
    assert list(counts.values()) == sorted(counts.values())
    write_scores(settings, score_rows(arms=("base", "mirage", "mirage_benign_500", "mirage_balanced")))
    axes = FIGURES["S2"](Sources(settings)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "500", "2,000"]
    plt.close("all")


# --- a whole run


def test_every_sample_figure_of_a_run_keeps_its_texts_apart(smoke_run, monkeypatch):
    monkeypatch.chdir(smoke_run)
    settings = load("results/smoke/config.yaml")
    sources = Sources(settings, draw=_drawer(settings))
    for number, draw in SAMPLE_FIGURES.items():
        figure = draw(sources)
        assert "has no data" not in said(figure), number
        check_layout(figure)


@pytest.mark.parametrize(
    ("figure", "asked", "without"),
    [
        ("figure3", {"construct_mis"}, {"mix_arms", "respond", "score"}),
        ("figure12", {"respond", "train_arm"}, {"score"}),
    ],
)
def test_a_sample_figure_plans_only_what_it_shows(snakemake, tmp_path, figure, asked, without):
    from tests.test_workflow import planned

    done = snakemake(tmp_path, "--dry-run", figure, "--config", "scale=smoke", "seeds=[0,1]")
    assert done.code == 0, done.text
    jobs = planned(done.text)
    assert asked <= set(jobs) and not without & set(jobs)
    if figure == "figure12":
        assert jobs["pretrain_base"] == 1, "the first seed alone"
