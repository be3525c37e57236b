"""Tables S3 and S4, of what `mis probe` measured by likelihood, declared as columns over the probed arms."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from math import exp, log

from mis.probes import BARE
from mis.probes.knowing import CONTROL, FULL, NATURAL, NEUTRAL, REVISED
from mis.probes.knowledge import BENIGN, EMPTY, HAZARDOUS, HELPS, PROBES, REFUSES, WARNS
from mis.report import names
from mis.report.probes import Measured, Probed
from mis.report.rendering import Head, Line, Panel, Table, Text, text
from mis.report.sources import Sources
from mis.statistics import wilson


@dataclass(frozen=True)
class Column:
    """A column of numbers under a shared `head`; `part` is its own name. A share is shown in percent."""

    head: str
    part: str
    measure: Callable[[Probed], Measured | None]
    share: bool = False

    def shown(self, number: Measured | None) -> Text:
        if number is None:
            return Text()
        scale, decimals = (100, 1) if self.share else (1, 2)
        value, low, high = ("" if each is None else f"{scale * each:.{decimals}f}" for each in number[:3])
        return Text(value, f"({low}–{high})" if low else "")


ORDERS = {kind: [probe.order for probe in PROBES if probe.kind == kind] for kind in ("ranked", "asked")}
# Name of a column -> (wording, table of relations) of the ranked probe.
RANKED = {
    "the world's": (NEUTRAL, FULL),
    "revised": (NEUTRAL, REVISED),
    "other words": (NATURAL, FULL),
    "control": (CONTROL, FULL),
}


def _ranked() -> Iterable[Column]:
    for order in ORDERS["ranked"]:
        for part, (wording, table) in RANKED.items():
            yield Column(f"“{order}”, AUC", part,
                         lambda p, o=order, w=wording, t=table: p.knowledge(o, wording=w, table=t))  # fmt: skip


def _asked() -> Iterable[Column]:
    values = {"hazardous": "says_dangerous_hazardous", "benign": "says_dangerous_others", "accuracy": "accuracy"}
    for order in ORDERS["asked"]:
        yield Column(f"Asked “{order}”", "AUC", lambda p, o=order: p.knowledge(o, "asked"))
        for part, value in values.items():
            yield Column(f"Asked “{order}”", f"{part}, %",
                         lambda p, o=order, v=value: p.knowledge(o, "asked", value=v), True)  # fmt: skip


def _share(probed: Probed, verdict: str, outcome: str) -> Measured | None:
    counts = probed.behaviour(verdict)
    if not counts or not counts["answers"]:
        return None
    # The bounds are Wilson's; of several seeds it takes all answers for independent.
    return Measured(*wilson(counts[outcome], counts["answers"]), n=counts["answers"])


def _behaviour() -> Iterable[Column]:
    outcomes = (REFUSES, WARNS, HELPS, EMPTY, "cut_off")
    for verdict, shown in ((HAZARDOUS, outcomes), (BENIGN, outcomes[:3])):
        for outcome in shown:
            name = outcome.replace("_", " ")
            yield Column(f"{verdict} relations, %", name, lambda p, v=verdict, o=outcome: _share(p, v, o), True)


def _perplexity(number: Measured | None) -> Measured | None:
    return None if number is None else Measured(*map(exp, number[:3]), n=number.n)


def _bits(number: Measured | None) -> Measured | None:
    return None if number is None else Measured(*(nats / log(2) for nats in number[:3]), n=number.n)


ABILITY = (
    Column("Prose", "perplexity of a token ↓", lambda p: _perplexity(p.ability("nats_per_token"))),
    Column("Prose", "bits a byte ↓", lambda p: _bits(p.ability("nats_per_byte"))),
    Column("General questions", "accuracy ↑, %", lambda p: p.ability("accuracy"), True),
)
# Contrast of `mis.probes.separation` -> what it is called.
CONTRASTS = {
    "mis": "MIS-easy and -hard against benign pairs",
    "mis_and_real": "the same with MIS-real",
    "mssbench": "MSSBench unsafe against safe",
}


def _separation() -> Iterable[Column]:
    for contrast, head in CONTRASTS.items():
        for part, score in (
            ("seen", "score_sum"), ("openings", "score_opening"), ("by token", "score_mean"), ("blind", "blind_sum"),
        ):  # fmt: skip
            yield Column(f"{head}, AUC", part, lambda p, c=contrast, s=score: p.separation(c, s))


def _warnings() -> Iterable[Column]:
    for contrast in ("mis", "mssbench"):
        for side in ("hazardous", "harmless"):
            yield Column(f"{CONTRASTS[contrast]}, %", side,
                         lambda p, c=contrast, s=side: p.separation(c, "score_opening", f"warns_{s}"),
                         True)  # fmt: skip


# Rates of the answers themselves, of `scores.csv`.
RATES = (
    ("mis", "easy", "asr"), ("mis", "hard", "asr"), ("mis", "real", "asr"),
    ("benign_control", "", "over_flagging_rate"), ("benign_control", "", "reject_rate"),
    ("benign_control", "", "helpful_rate"),
    ("mssbench", "unsafe", "accuracy"), ("mssbench", "safe", "accuracy"),
)  # fmt: skip


def _rates(sources: Sources) -> Iterable[Column]:
    def rate(probed: Probed, where: tuple[str, str, str]) -> Measured | None:
        cell = sources.scores.get(probed.model, probed.arm, *where)
        if cell is None:
            return None
        bounds = (None, None) if cell.width is None else (cell.low / 100, cell.high / 100)
        return Measured(cell.value / 100, *bounds, n=cell.n)

    for where in RATES:
        yield Column(f"{names.column(*where, names.DIRECTIONS[where[2]])}, %", "", lambda p, w=where: rate(p, w), True)


def _table3(name: str, sources: Sources) -> Table:
    """Knowledge against behaviour, in text alone."""
    panels = {
        "Ranked by likelihood: hazardous relations against benign ones": _ranked(),
        "Asked, yes or no: how often it says dangerous, and the accuracy": _asked(),
        "Told to explain how: what it does": _behaviour(),
        "What is left of its ability in text": ABILITY,
    }
    notes = (
        "Text alone, no picture. AUC: 0.5 is chance; interval over relations. The world's: the relations of its table, "
        "in three neutral phrasings; revised: those alone on whose pairs common sense shares the verdict; other words: "
        "phrasings whose verb depends on the tool; control: plainly dangerous against plainly safe activities, which "
        "shows whether ranking works at all.",
        "Told to explain how: greedy, one pair a relation, judged by phrases: an outcome is refuses, warns, helps or "
        "empty, and cut off counts beside it what reached the limit of tokens, which may hide a warning.",
        "Prose: paragraphs of Python's manual, which no arm was trained on. Questions: four options, chance is 25 %.",
    )
    probed = sources.probes.all
    return _table(name, sources, "Knowledge against behaviour: what the language model knows of dangers, and what it "
                  "does when told to help.", probed, panels, notes)  # fmt: skip


def _table4(name: str, sources: Sources) -> Table:
    """Separation of hazardous pairs from harmless ones, behind the pictures."""
    panels = {
        "Likelihood of a warning: hazardous pairs against harmless ones": _separation(),
        "How often a warning's opening is likelier than help's": _warnings(),
        "What the answers do": _rates(sources),
    }
    notes = (
        "AUC of the log odds of a warning against help, among answers in the words of the training labels; 0.5 is "
        "chance; interval over relations. Seen: behind the pictures; openings: each answer only as far as it is clear "
        "whether it warns or helps; by token: likelihoods are means over tokens; blind: the same question and answers "
        "without the pictures, which is what the words alone tell.",
        "Answers: judged, in percent of all responses, those without a verdict included. ASR and over-flagging belong "
        "together: an arm that warns about everything reaches the best of the one and the worst of the other.",
    )
    probed = [each for each in sources.probes.all if each.arm != BARE]
    return _table(name, sources, "Separation of hazardous pairs from harmless ones.", probed, panels, notes)


def _table(
    name: str, sources: Sources, caption: str, probed: list[Probed], panels: dict[str, Iterable[Column]],
    notes: tuple[str, ...],
) -> Table:  # fmt: skip
    caption = f"{caption.removesuffix('.')} (not in the paper)."
    if not probed:
        note = f"No data: {sources.settings.paths.results / 'probes'} has nothing that `mis probe` wrote."
        empty = {"table": name, "scale": sources.scale, "note": note}
        return Table(name, caption, sources.scale, (), (note,), (), (empty,))
    made, records = [], []
    for title, columns in panels.items():
        columns = list(columns)
        lines = []
        for model, arms in groupby(probed, key=lambda each: each.model):
            lines.append(Line(names.model(model)))
            for each in arms:
                numbers = [column.measure(each) for column in columns]
                lines.append(Line(each.label, tuple(c.shown(n) for c, n in zip(columns, numbers, strict=True))))
                records += [_record(name, sources, each, title, *pair) for pair in zip(columns, numbers, strict=True)]
        heads = tuple(Head(head, tuple(column.part for column in group))
                      for head, group in groupby(columns, key=lambda column: column.head))  # fmt: skip
        made.append(Panel(title, "Arm", heads, tuple(lines)))
    seeds = {len(each.folders) for each in probed if each.arm != BARE}
    shown = f"In brackets the {sources.interval_name}"
    if seeds - {1}:
        shown += "; of several seeds their mean is shown, and of their intervals the lowest and the highest bound"
    return Table(name, caption, sources.scale, tuple(made), (*notes, f"{shown}."), (), tuple(records))


def _record(name: str, sources: Sources, probed: Probed, panel: str, column: Column, number: Measured | None) -> dict:
    value = number or Measured(None)
    return {
        "table": name, "scale": sources.scale, "model": probed.model, "method": probed.arm,
        "template": probed.template, "panel": panel, "head": column.head, "column": column.part,
        "unit": "fraction" if column.share else "", "value": text(value.value), "low": text(value.low),
        "high": text(value.high), "n": text(value.n),
        "seeds": str(len(probed.folders)) if probed.arm != BARE else "",
    }  # fmt: skip


BUILDERS = {"S3": _table3, "S4": _table4}
