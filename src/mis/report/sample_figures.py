"""Figures 1, 2, 3, 6, 8 and 10-16 of the paper: samples of the run, its construction's records, its models' answers.

Which sample is shown follows from a rule that the figure states (`cases`); where none satisfies it, the figure says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from mis.benchmarks import BY_ID
from mis.construction.pipeline import STEPS
from mis.construction.records import TRAINING, Drawing, Element, Filtered, Instruction, Label, Placement
from mis.report import names
from mis.report.cards import BODY, GREY, HEADING, LEADING, SMALL, WIDTH, Page, Span, height, shorten, tint, width, wrap
from mis.report.cases import (
    CASES,
    Answer,
    CaseFigure,
    Choice,
    asked,
    choose,
    choose_counterexample,
    count_outcomes,
    files,
    first,
    read_answers,
    share,
)
from mis.report.colours import CATEGORY_COLOURS, COLOURS, OUTCOME_MARKS, PART_COLOURS
from mis.report.pictures import Picture
from mis.report.sources import Sources
from mis.samples import Sample
from mis.sources import TRAINING_SOURCES
from mis.store import read_jsonl
from mis.suites import load_samples
from mis.taxonomy import CATEGORIES

ANSWER_CHARACTERS, REASON_CHARACTERS, QUESTION_CHARACTERS = 700, 160, 500
BUBBLE, PALE = "#E8EEF4", "#F7F7F7"
GAP = 6.0
LEFT = 160.0  # the column of pictures
COLUMN_GAP = 14.0


def _no_data(number: str, sources: Sources, reason: str) -> Figure:
    page = Page()
    y = page.text(0, 14, [Span(f"Figure {number} has no data: {reason}", GREY)], WIDTH, BODY, align="center")
    page.text(0, y + 14, [Span(f"Scale: {sources.scale}.", GREY)], WIDTH, SMALL)
    return page.figure()


def _title(page: Page, text: str) -> float:
    return page.text(0, 2, [Span(text, bold=True)], WIDTH, HEADING) + 3


def _footer(page: Page, text: str) -> None:
    page.text(0, page.bottom + 5, [Span(text, GREY)], WIDTH, SMALL)


def _pictures_note(pictures: Sequence[Picture]) -> str:
    seen = next((picture.seen for picture in pictures if picture.seen is not None), None)
    if seen is None:
        return ""
    view = f"the model's view, {seen.width}\xa0×\xa0{seen.height} pixels"
    return f" Small: {view}. Drawings: OpenMoji, CC\xa0BY-SA\xa04.0."


def _show_pictures(page: Page, x: float, y: float, room: float, pictures: Sequence[Picture], most: float = 78) -> float:
    """Pictures side by side in `room` points; returns the y below them."""
    if not pictures:
        return page.text(x, y, [Span("(no picture)", GREY)], room, SMALL)
    if len(pictures) == 1:
        page.picture(x, y, 100, *pictures[0], beside=True)
        return y + 100
    side = min(most, (room - GAP * (len(pictures) - 1)) / len(pictures))
    for number, picture in enumerate(pictures):
        page.picture(x + number * (side + GAP), y, side, *picture)
    return y + side


def _bubble(page: Page, x: float, y: float, room: float, title: str, text: str) -> float:
    """A question in its box; returns the y below it."""
    spans = [Span(f"{title}:", bold=True), Span(shorten(text, QUESTION_CHARACTERS))]
    h = height(wrap(spans, room - 12, BODY), BODY) + 6
    card = page.card(x, y, room, h, fill=BUBBLE, edge="#9FB4C8")
    page.text(x + 6, y + 2.5, spans, room - 12, BODY, card=card)
    return y + h


def _answer(page: Page, x: float, y: float, room: float, arm: str, answer: Answer | None) -> float:
    """An arm's answer in its card, with its outcome; returns the y below it."""
    left, inner = x + 9, room - 15
    head = BODY * LEADING + 4
    if answer is None:
        card = page.card(x, y, room, head + 2, fill="white", bar=COLOURS.get(arm, "#999999"), dashed=True)
        page.text(left, y + 3, [Span(names.method(arm), bold=True), Span("was not run", GREY)], inner, card=card)
        return y + head + 2
    said = shorten(answer.response.text, ANSWER_CHARACTERS)
    text = [Span(said) if said else Span("(no text)", GREY)]
    judged = shorten(answer.verdict.reason, REASON_CHARACTERS)
    reason = [Span(f"Judge: {judged}", GREY)] if judged else []
    h = head + height(wrap(text, inner, BODY), BODY) + height(wrap(reason, inner, SMALL), SMALL) + 5
    card = page.card(x, y, room, h, fill="white", bar=COLOURS.get(arm, "#999999"))
    page.text(left, y + 3, [Span(names.method(arm), bold=True)], inner, card=card)
    symbol, colour = OUTCOME_MARKS.get(answer.verdict.outcome, ("–", "#999999"))
    page.badge(x + room - 4, y + 2.5, symbol, names.OUTCOMES[answer.verdict.outcome], colour, card)
    below = page.text(left, y + head, text, inner, card=card)
    page.text(left, below, reason, inner, SMALL, card=card)
    return y + h


def _sample_line(sample: Sample) -> str:
    category = sample.category if sample.category == sample.sub_category or not sample.sub_category else (
        f"{sample.category}, {sample.sub_category}")  # fmt: skip
    return f"{names.split(sample.benchmark, sample.split)}, sample {sample.id}" + (f" ({category})" if category else "")


def _case(
    page: Page, y: float, title: str, choice: Choice, sample: Sample | None, pictures: Sequence[Picture],
    answers: Mapping[str, Answer | None], counts: Sequence[str],
) -> float:  # fmt: skip
    """One case: pictures and the rule on the left, question and answers on the right; returns the y below it."""
    y = page.text(0, y, [Span(title, bold=True)], WIDTH, BODY) + 3
    if sample is None:
        text = [[Span(" ".join(choice.why))], *([Span(line, GREY)] for line in counts)]
        h = sum(height(wrap(part, WIDTH - 20, BODY), BODY) for part in text) + 12
        card = page.card(0, y, WIDTH, h, fill=PALE, dashed=True)
        top = y + 6
        for part in text:
            top = page.text(10, top, part, WIDTH - 20, BODY, card=card)
        return y + h
    left = _show_pictures(page, 0, y, LEFT, pictures) + 4
    left = page.text(0, left, [Span(_sample_line(sample), bold=True)], LEFT, SMALL)
    for sentence in choice.why:
        left = page.text(0, left + 2, [Span(sentence, GREY)], LEFT, SMALL)
    x, room = LEFT + 2 * GAP, WIDTH - LEFT - 2 * GAP
    right = _bubble(page, x, y, room, "Question", sample.question) + GAP
    for arm, answer in answers.items():
        right = _answer(page, x, right, room, arm, answer) + 4
    return max(left, right)


def _case_figure(figure: CaseFigure) -> Callable[[Sources], Figure]:
    def draw(sources: Sources) -> Figure:
        """The cases of a figure, each with its rule and how many samples satisfy it."""
        settings = sources.settings
        run = [read_answers(settings, case) for case in figure.cases]
        if not any(run):
            wanted = files(settings, figure.number)
            where = wanted[-1] if wanted else settings.paths.results / "verdicts"
            return _no_data(figure.number, sources, f"{where}: no verdicts of a run are there.")
        model, seed = asked(settings)
        page = Page()
        y = _title(page, figure.title)
        parts = [
            (case, answers, pick, name)
            for case, answers in zip(figure.cases, run, strict=True)
            for pick, name in ((choose, ""), (choose_counterexample, ", where the rule is broken"))
            if pick is choose or case.counterexample
        ]
        shown: list[Picture] = []
        for letter, (case, answers, pick, name) in zip("abcdefgh", parts, strict=False):
            outcomes = {arm: {key: a.verdict.outcome for key, a in mine.items()} for arm, mine in answers.items()}
            choice = pick(figure.number, case, outcomes)
            sample, pictures = None, []
            if choice.key is not None:
                sample = next(s for s in load_samples(settings, [case.benchmark]) if s.key == choice.key)
                pictures = [sources.pictures.of_file(path) for path in sample.images]
            benchmark = BY_ID[case.benchmark]
            title = f"({letter}) " * (len(parts) > 1) + f"{names.split(benchmark.name, benchmark.split)}{name}"
            mine = {arm: answers[arm].get(choice.key) if arm in answers else None for arm in case.arms}
            y = _case(page, y + 4, title, choice, sample, pictures, mine, count_outcomes(case, outcomes)) + 4
            shown += pictures
        _footer(
            page,
            f"Scale: {sources.scale}, {names.model(model)}, seed {seed}; answers word for word. "
            f"“First”: by the SHA-256 of “figure{figure.number}/<sample>”.{_pictures_note(shown)}",
        )
        return page.figure()

    return draw


# --- MIS itself


def _mis(sources: Sources, *splits: str) -> dict[str, Sample] | None:
    """The samples of MIS's test splits by key; None where there is no MIS data."""
    if not (sources.settings.paths.data / "mis").is_dir():
        return None
    samples = load_samples(sources.settings, [f"mis/{split}" for split in splits])
    return {sample.key: sample for sample in samples}


def _no_mis(number: str, sources: Sources) -> Figure:
    return _no_data(number, sources, f"{sources.settings.paths.data / 'mis'}: no MIS data is there.")


def _column(
    page: Page, x: float, y: float, room: float, title: str, under: str, colour: str, sample: Sample | None,
    pictures: Sequence[Picture], last: str,
) -> float:  # fmt: skip
    """A sample in a narrow column below its title on a coloured bar; returns the y below it."""
    card = page.card(x, y, room, 14, fill=tint(colour), edge=colour, bar=colour)
    page.text(x + 9, y + 1.8, [Span(title, bold=True)], room - 10, 8, card=card)
    y = page.text(x, y + 15.5, [Span(under, GREY)], room, SMALL) + 2
    if sample is None:
        return y
    y = _show_pictures(page, x, y, room, pictures) + GAP
    y = _bubble(page, x, y, room, "Question", sample.question) + 2
    return page.text(x, y, [Span(last, GREY)], room, SMALL)


def _figure2(sources: Sources) -> Figure:
    """One sample of each category."""
    samples = _mis(sources, "easy", "hard")
    if samples is None:
        return _no_mis("2", sources)
    page = Page()
    top = _title(page, "MIS: one sample of each category") + 4
    room, shown = (WIDTH - 2 * COLUMN_GAP) / 3, []
    for row in range(2):
        below = top
        for column, category in enumerate(list(CATEGORIES)[3 * row : 3 * row + 3]):
            members = [key for key, sample in samples.items() if sample.category == category]
            sample = samples.get(first("2", members))
            pictures = [sources.pictures.of_file(path) for path in sample.images] if sample else []
            under = sample.sub_category if sample else "no sample of this category: none is shown"
            last = f"{names.split('mis', sample.split)}, sample {sample.id}; {len(members):,} in all" if sample else ""
            x = column * (room + COLUMN_GAP)
            y = _column(page, x, top, room, category, under, CATEGORY_COLOURS[category], sample, pictures, last)
            below, shown = max(below, y), shown + pictures
        top = below + 10
    _footer(
        page,
        f"Scale: {sources.scale}. Of each category the first sample of MIS-easy and MIS-hard ({len(samples):,} in all) "
        f"by the SHA-256 of “figure2/<sample>”; in all: how many the category has.{_pictures_note(shown)}",
    )
    return page.figure()


# --- the construction


def _parts(label: Mapping[str, Any]) -> list[Span]:
    """A label's three parts, each on its colour and with its number in the legend."""
    texts = (label["perception"], label["reasoning"], label["answer"])
    pairs = zip(texts, PART_COLOURS.values(), strict=True)
    return [Span(f"{number}\xa0{text}", fill=colour) for number, (text, colour) in enumerate(pairs, start=1)]


def _parts_legend(page: Page, x: float, y: float) -> float:
    spans = [
        Span(f"{number} {name}", fill=colour) for number, (name, colour) in enumerate(PART_COLOURS.items(), start=1)
    ]
    for span in spans:
        page.text(x, y, [span], WIDTH, SMALL)
        x += width(span.text, SMALL) + 12
    return y + SMALL * LEADING


def _label_card(page: Page, x: float, y: float, room: float, label: Mapping[str, Any]) -> float:
    """A label in its three colours; returns the y below its card."""
    lines = wrap(_parts(label), room - 12, BODY)
    h = height(lines, BODY) + 8
    card = page.card(x, y, room, h, fill="white")
    page.text(x + 6, y + 4, _parts(label), room - 12, BODY, card=card)
    return y + h


_KINDS = {"elements": Element, "instructions": Instruction, "images": Drawing, "filtering": Filtered, "labels": Label,
          "splits": Placement}  # fmt: skip


def _construction(sources: Sources) -> dict[str, dict[str, dict[str, Any]]] | None:
    """Rows by step and id; None where nothing was constructed."""
    folder = sources.settings.paths.build / "construction"
    if not (folder / f"1_{STEPS[0]}.jsonl").exists():
        return None
    return {
        step: {row["id"]: row for row in read_jsonl(folder / f"{STEPS.index(step) + 1}_{step}.jsonl")}
        for step in _KINDS
    }


def _kept(rows: Mapping[str, Mapping[str, Any]]) -> str:
    dropped = Counter("dropped" in row for row in rows.values())
    return f"{dropped[False]:,}\xa0kept, {dropped[True]:,}\xa0dropped"


def _changed(text: str, other: str, colour: str) -> list[Span]:
    """A text with the words marked that `other` has not."""
    others = set(other.split())
    return [Span(word, fill=None if word in others else colour) for word in text.split()]


class _Steps:
    """Figure 3's rail of numbered steps; the content stands to the right of it."""

    x, room = 100.0, WIDTH - 100.0

    def __init__(self, page: Page, top: float):
        self.page, self.y, self._last = page, top, 0.0

    def begin(self, number: str, name: str, remark: str) -> float:
        """A step's number, name and counts; returns the y where its content begins."""
        top = self.y
        if self._last:
            self.page.arrow(9, self._last, 9, top - 1)
        self.page.disc(9, top + 9, 8.5, number, "#0072B2")
        y = self.page.text(23, top + 2, [Span(name, bold=True)], self.x - 30, 8)
        self._last = self.page.text(23, y, [Span(remark, GREY)], self.x - 30, SMALL)
        self._last = top + 19
        self._floor = y + 3 * SMALL * LEADING
        return top

    def end(self, y: float) -> None:
        self.y = max(y, self._floor) + 12


def _figure3(sources: Sources) -> Figure:
    """The construction of one training sample, from the element to its label."""
    steps = _construction(sources)
    if steps is None:
        where = sources.settings.paths.build / "construction"
        return _no_data("3", sources, f"{where}: nothing was constructed there.")
    rounds = {id: len(row["rounds"]) for id, row in steps["images"].items() if "dropped" not in row}
    training = [id for id, row in steps["splits"].items() if row.get("split") == "train"]
    twice = [id for id in training if rounds[id] > 1]
    rule = (
        f"Rule: a training sample that was drawn in two rounds, as {share(len(twice), len(training))} were; the first "
        "by the SHA-256 of “figure3/<record>”."
    )
    id = first("3", twice)
    if id is None:
        return _no_data("3", sources, f"no training sample was drawn in two rounds, so none is shown. {rule}")
    element, instruction, drawing, filtered, label, placement = (
        kind.model_validate(steps[step][id]) for step, kind in _KINDS.items()
    )
    page = Page()
    rail = _Steps(page, _title(page, f"The construction of MIS on one training sample (record {id})") + 4)
    x, room = rail.x, rail.room

    y = rail.begin("1", "Elements", _kept(steps["elements"]))
    y = page.text(
        x, y, [Span(f"Drawn from {element.source}: {element.category}, {element.sub_category}", GREY)], room, SMALL
    )
    y = page.text(x, y, [Span("Objects:"), Span(element.objects[0], bold=True), Span("and"),
                         Span(element.objects[1], bold=True)], room) + 2  # fmt: skip
    rail.end(_bubble(page, x, y, room, "Question over both", element.question))

    y = rail.begin("2", "Instruction", _kept(steps["instructions"]))
    because = f"Detoxified ({instruction.detoxified_because})" if instruction.detoxified_because else "Already neutral"
    for title, text, other in (
        ("Written", instruction.named, instruction.referring),
        ("Pointing to the images", instruction.referring, instruction.text),
        (because, instruction.text, instruction.text),
    ):
        spans = [Span(f"{title}:", bold=True), *_changed(text, other, "#F6C7A9")]
        h = height(wrap(spans, room - 12, BODY), BODY) + 6
        card = page.card(x, y, room, h, fill=BUBBLE, edge="#9FB4C8")
        page.text(x + 6, y + 2.5, spans, room - 12, BODY, card=card)
        y += h + 3
    rail.end(page.text(x, y, [Span("what the next line does without", fill="#F6C7A9")], room, SMALL))

    y = rail.begin("3", "Images", _kept(steps["images"]))
    shown, below = [], y
    side, between = 83.0, 19.0
    half = 2 * side + GAP
    for number, round in enumerate(drawing.rounds):
        left = x + number * (half + between)
        top = page.text(left, y, [Span(f"Round {number + 1}", bold=True)], half) + 2
        prompts = top
        for place, picture in enumerate(round.pictures):
            at = left + place * (side + GAP)
            drawn = sources.pictures.of_record(picture.content, _model_size(sources))
            if drawn is None:
                page.card(at, top, side, side, fill=PALE, dashed=True)
            else:
                page.picture(at, top, side, *drawn)
                shown.append(drawn)
            prompts = max(prompts, page.text(at, top + side + 1, [Span(f"“{picture.prompt}”", GREY)], side, SMALL))
        review = round.review
        page.badge(left + half, y, "✓" if review.accepted else "✗", "accepted" if review.accepted else "redraw",
                   "#009E73" if review.accepted else "#D55E00")  # fmt: skip
        if review.reason:
            said = [Span("Reviewer:", bold=True), Span(f"{review.reason}; better prompts")]
            prompts = page.text(left, prompts + 2, said, half, SMALL)
        below = max(below, prompts)
        if number + 1 < len(drawing.rounds):
            page.arrow(left + half + 4, top + side / 2, left + half + between - 4, top + side / 2)
    rail.end(below)

    y = rail.begin("4", "Filtering", _kept(steps["filtering"]))
    votes = [f"expert {n}: " + ("no usable vote" if vote is None else "keep" if vote.keep else f"drop ({vote.reason})")
             for n, vote in enumerate(filtered.votes, start=1)]  # fmt: skip
    y = page.text(x, y, "; ".join(votes), room)
    yes = {True: "yes", False: "no"}
    y = page.text(x, y, f"Dangerous text: {yes[filtered.dangerous_text]}. Explicitly unsafe picture: first "
                  f"{yes[filtered.explicit[0]]}, second {yes[filtered.explicit[1]]}.", room)  # fmt: skip
    goes = "MIS-train" if filtered.destination == TRAINING else f"MIS-{filtered.destination}"
    goes += (
        " (the pair is reserved for training)" if element.reserved == "training" and not filtered.dangerous_text else ""
    )
    rail.end(page.text(x, y, [Span("Goes to"), Span(goes, bold=True),
                              Span(f"as sample {placement.position + 1}.")], room))  # fmt: skip

    y = rail.begin("5", "Label", _kept(steps["labels"]))
    y = _label_card(page, x, y, room, label.model_dump()) + 3
    rail.end(_parts_legend(page, x + 2, y))
    _footer(
        page,
        f"Scale: {sources.scale}. {rule} Beside each step: how many of all samples it kept.{_pictures_note(shown)}",
    )
    return page.figure()


def _model_size(sources: Sources) -> int:
    """Side in pixels of what the model sees; large at scales without a miniature world."""
    world = sources.settings.world
    return world.image_size if world else 448


def _figure8(sources: Sources) -> Figure:
    """Training samples with the three parts of their labels, and test samples, which have none."""
    tests = _mis(sources, "easy", "hard", "real")
    folder = sources.settings.paths.build / "construction"
    if tests is None or not (folder / "labels.jsonl").exists():
        return (
            _no_mis("8", sources) if tests is None else _no_data("8", sources, f"{folder / 'labels.jsonl'}: not there.")
        )
    labels = {row["id"]: row for row in read_jsonl(folder / "labels.jsonl")}
    data = sources.settings.paths.data
    examples = {example.id: example for example in TRAINING_SOURCES["mis_train"](data / "mis_train", "safety_cot")}
    chosen = []  # two of different categories
    while len(chosen) < 2:
        taken = {examples[id].category for id in chosen}
        id = first("8", (id for id in labels if id in examples and examples[id].category not in taken))
        if id is None:
            break
        chosen.append(id)
    page = Page()
    y = _title(page, "Training samples with the three parts of their labels, and test samples") + 2
    y = _parts_legend(page, 2, y) + GAP
    x, room, shown = LEFT + 2 * GAP, WIDTH - LEFT - 2 * GAP, []
    for id in chosen:
        example = examples[id]
        pictures = [sources.pictures.of_file(data / path) for path in example.images]
        left = _show_pictures(page, 0, y, LEFT, pictures)
        where = f"({example.category}, {example.sub_category})"
        right = page.text(x, y, [Span(f"MIS-train, sample {id}", bold=True), Span(where, GREY)], room) + 3
        right = _bubble(page, x, right, room, "Question", example.prompt) + 4
        right = _label_card(page, x, right, room, labels[id])
        y = max(left, right) + 10
        shown += pictures
    counts = Counter(sample.split for sample in tests.values())
    room, below = (WIDTH - 2 * COLUMN_GAP) / 3, y
    for column, split in enumerate(counts):
        sample = tests[first("8", (key for key, sample in tests.items() if sample.split == split))]
        pictures = [sources.pictures.of_file(path) for path in sample.images]
        title, under = f"{names.split('mis', split)}, sample {sample.id}", f"{sample.category}, {sample.sub_category}"
        x = column * (room + COLUMN_GAP)
        below = max(
            below, _column(page, x, y, room, title, under, "#999999", sample, pictures, "no label: a test asks")
        )
        shown += pictures
    sizes = ", ".join(f"{names.split('mis', split)} {n:,}" for split, n in counts.items())
    _footer(
        page,
        f"Scale: {sources.scale}. By the SHA-256 of “figure8/<sample>”: the first training sample, the first of another"
        f" category ({len(labels):,} labels), and the first of each test split ({sizes}).{_pictures_note(shown)}",
    )
    return page.figure()


SAMPLE_FIGURES: dict[str, Callable[[Sources], Figure]] = {
    "2": _figure2,
    "3": _figure3,
    "8": _figure8,
    **{number: _case_figure(figure) for number, figure in CASES.items()},
}
