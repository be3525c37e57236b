"""Tables 1-19 of the paper and our own S1 to S4: the reported number with the run's number beside it.

Written are `<results>/tables/table<N>.csv` (one row a number, full precision), `.md`, `.tex` and `.html`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mis.mixtures import ARMS
from mis.report import missing, names, probe_tables, rendering, small_tables
from mis.report.html import to_html
from mis.report.missing import bounded, check_missing
from mis.report.rendering import Head, Line, Panel, Table, Text, text
from mis.report.reported import ReportError, Value
from mis.report.scores import Cell
from mis.report.sources import Sources
from mis.report.specs import SPECS, Column, Spec
from mis.settings import Settings
from mis.store import write_csv_atomic, write_text_atomic

MIS_TEST = ("easy", "hard", "real")
OURS = "Ours (not in the paper)"
_CLOSED = ("gpt_4o", "gemini_1_5_pro")
# The artifact of the paper's main model, whose counterpart has its numbers there (Tables 4 to 6) already.
_MAIN = "table5"
_PROMPTING = ("vanilla_cot", "customized_cot", "customized_safety_cot")
_GROUPS = ("", "Prompt-based", "Textual", "Multimodal")


@dataclass(frozen=True)
class Row:
    """One row, by reported ids or by those of the `run`. `block` is the rows among which the best is bold."""

    model: str
    method: str
    block: str
    group: str
    label: str
    ours: bool = False
    run: bool = False


def _group(method: str) -> str:
    if method == "base":
        return ""
    if method.startswith("textual"):
        return "Textual"
    return "Prompt-based" if method in _PROMPTING else "Multimodal"


def _rows(spec: Spec, sources: Sources) -> list[Row]:
    scores = sources.scores
    if spec.artifact is None:
        arms = [arm for arm in ARMS if arm in scores.methods]
        arms += [method for method in scores.methods if method not in arms]
        has = {(model, arm) for model in scores.models for arm in arms
               if any(scores.get(model, arm, c.benchmark, c.split, c.metric) for c in spec.columns)}  # fmt: skip
        ours = {arm for arm in arms if arm in ARMS and ARMS[arm].ours}
        return [
            Row(model, arm, model, OURS if arm in ours else "", names.method(arm), arm in ours, run=True)
            for model in scores.models
            for arm in sorted(arms, key=ours.__contains__)
            if (model, arm) in has
        ]
    pairs = sources.reported.rows(spec.artifact)
    if spec.ranking:
        rows = []
        for model, method in pairs:
            group = "Closed-source" if model in _CLOSED else "Open-source"
            tuned = method != "base"
            label = names.model(model) + (f" + {names.method(method)}" if tuned else "")
            rows.append(Row(model, method, "", "Fine-tuned" if tuned else group, label))
        return rows
    rows = []
    for model, block in groupby(pairs, key=lambda pair: pair[0]):
        for _, method in block:
            rows.append(Row(model, method, model, _group(method) if spec.grouped else "", names.method(method)))
        if spec.with_ours and scores.run_model(model) is not None:
            ours = [arm.name for arm in ARMS.values() if arm.ours and not arm.supplement]
            rows += [Row(model, name, model, OURS, names.method(name), ours=True)
                     for name in ours if name in scores.methods]  # fmt: skip
    return rows + (_more_models(spec, pairs, sources) if spec.with_models else [])


def _more_models(spec: Spec, pairs: list[tuple[str, str]], sources: Sources) -> list[Row]:
    """A block for each of the run's models that has no row here: the paper's methods, as far as they were run."""
    scores = sources.scores
    elsewhere = {scores.run_model(model) for model, _ in [*pairs, *sources.reported.rows(_MAIN)]}
    methods = [arm for arm in names.METHODS if arm in scores.methods and arm in ARMS and not ARMS[arm].ours]
    rows = [
        Row(model, arm, f"{names.model(model)} (not in this table of the paper)", _group(arm) if spec.grouped else "",
            names.method(arm), run=True)
        for model in scores.models if model not in elsewhere
        for arm in sorted(methods, key=lambda arm: _GROUPS.index(_group(arm)))
        if any(scores.get(model, arm, c.benchmark, c.split, c.metric) for c in spec.columns)
    ]  # fmt: skip
    return rows


@dataclass(frozen=True)
class Pair:
    """A reported number and the measured one beside it; each may be missing."""

    reported: Value | None
    cell: Cell | None
    direction: str


def _pairs(spec: Spec, rows: list[Row], sources: Sources) -> dict[tuple[Row, Column], Pair]:
    pairs = {}
    for column in spec.columns:
        where = (column.benchmark, column.split, column.metric)
        direction = ""
        if spec.artifact:
            direction = next((v.direction for v in sources.reported.of(spec.artifact)
                              if (v.benchmark, v.split, v.metric) == where), "")  # fmt: skip
        else:
            direction = names.DIRECTIONS[column.metric]
        for row in rows:
            if row.run:
                value, cell = None, sources.scores.get(row.model, row.method, *where)
            else:
                value = sources.reported.get(spec.artifact, row.model, row.method, *where)
                cell = sources.scores.beside(row.model, row.method, *where)
            pairs[row, column] = Pair(value, cell, direction)
    return pairs


_DECIMALS = {"seconds": 3}
NOT_APPLICABLE = (
    "n/a: not applicable. A skill that the method needs is not above chance in the model asked, by a check on the "
    "development split; the rates are in scores.csv."
)


def number(cell: Cell) -> str:
    """A measured number as tables show it: percent with one decimal (a hundred samples support no more)."""
    return f"{cell.value:.{_DECIMALS.get(cell.unit, 1)}f}"


def interval(cell: Cell) -> str:
    decimals = _DECIMALS.get(cell.unit, 1)
    return "" if cell.width is None else f"({cell.low:.{decimals}f}–{cell.high:.{decimals}f})"


def _best(values: dict[Row, str], direction: str) -> set[Row]:
    """The rows with the best number as shown; none where there is no choice or no arrow."""
    numbers = {row: float(value) for row, value in values.items()}
    if direction not in names.ARROWS or len(set(numbers.values())) < 2:
        return set()
    best = (min if direction == "lower" else max)(numbers.values())
    return {row for row, value in numbers.items() if value == best}


class _Marks:
    """Letters for remarks, in the order of their appearance: a, b, ... z, aa, ab, ..."""

    def __init__(self) -> None:
        self.letters: dict[str, str] = {}

    def __call__(self, note: str) -> str:
        if not note:
            return ""
        if note not in self.letters:
            i, letter = len(self.letters), ""
            while i >= 0:
                letter, i = chr(ord("a") + i % 26) + letter, i // 26 - 1
            self.letters[note] = letter
        return self.letters[note]

    def remarks(self) -> tuple[tuple[str, str], ...]:
        return tuple((letter, note) for note, letter in self.letters.items())


@dataclass(frozen=True)
class _Layout:
    """What the panels of a table share. `shown` are the kinds of number: "paper", the scale's name, or both."""

    rows: list[Row]
    pairs: dict[tuple[Row, Column], Pair]
    scale: str
    shown: tuple[str, ...]
    ranking: bool
    marks: _Marks
    bounds: bool

    def panel(self, title: str, columns: tuple[Column, ...]) -> Panel:
        cells: dict[Row, list[Text]] = {row: [] for row in self.rows}
        # What a panel's title or the table's caption says, its heads need not say again.
        leave_out: tuple[str, ...] = ()
        if title and len({(column.benchmark, column.split) for column in columns}) == 1:
            leave_out = ("split",)
        elif len({column.benchmark for column in columns}) == 1 and all(c.split not in MIS_TEST for c in columns):
            leave_out = ("benchmark",) if columns[0].split else ()
        heads = tuple(self._column(column, cells, leave_out) for column in columns)
        return Panel(title, "Model" if self.ranking else "Method", heads, tuple(self._lines(cells)))

    def _column(self, column: Column, cells: dict[Row, list[Text]], leave_out: tuple[str, ...]) -> Head:
        """Append the column's one or two cells to each row; return its head, with n where all rows share it."""
        mine = {row: self.pairs[row, column] for row in self.rows}
        sizes = {pair.cell.n for pair in mine.values() if pair.cell and pair.cell.n is not None and column.benchmark}
        common = sizes.pop() if len(sizes) == 1 else None
        direction = mine[self.rows[0]].direction
        best_printed, best_measured = set(), set()
        for _, block in groupby(self.rows, key=lambda row: row.block):
            block = list(block)
            best_printed |= _best({r: mine[r].reported.value for r in block if mine[r].reported}, direction)
            shown = {r: mine[r].cell for r in block if mine[r].cell and not mine[r].cell.not_applicable}
            best_measured |= _best({r: number(cell) for r, cell in shown.items()}, direction)
        for row, pair in mine.items():
            value, cell = pair.reported, pair.cell
            if "paper" in self.shown:
                mark = self.marks(value.note) if value else ""
                cells[row].append(Text(value.value, "", row in best_printed, mark) if value else Text())
            if self.scale in self.shown:
                cells[row].append(self._measured(cell, column, common, row in best_measured) if cell else Text())
        parts = tuple(f"{kind}, n = {common}" if kind == self.scale and common else kind for kind in self.shown)
        # The paper's numbers alone need no second head.
        parts = ("",) if self.shown == ("paper",) else parts
        return Head(names.column(column.benchmark, column.split, column.metric, direction, leave_out), parts)

    def _measured(self, cell: Cell, column: Column, common: int | None, bold: bool) -> Text:
        """`common` is the n that stands in the head; a share of a mixture (no benchmark) has no responses to count."""
        if cell.not_applicable:
            return Text("n/a", f"({cell.not_applicable})")
        extras = [interval(cell)]
        if column.benchmark and cell.n is not None and cell.n != common:
            extras.append(f"n = {cell.n}")
        if cell.failures:
            extras.append(f"{cell.failures} {'missing' if self.bounds else 'failed'}")
        if self.bounds and cell.bounds:
            extras[-1] += ": {:.1f}–{:.1f}".format(*cell.bounds)
        return Text(number(cell), ", ".join(extra for extra in extras if extra), bold)

    def _lines(self, cells: dict[Row, list[Text]]) -> Iterable[Line]:
        for model, block in groupby(self.rows, key=lambda row: row.block):
            if not self.ranking:
                yield Line(names.model(model))
            for group, members in groupby(block, key=lambda row: row.group):
                if group:
                    yield Line(group, level=0 if self.ranking else 1)
                for row in members:
                    yield Line(row.label, tuple(cells[row]))


def _records(name: str, spec: Spec, rows: list[Row], pairs, sources: Sources) -> Iterable[dict[str, str]]:
    for row in rows:
        for column in spec.columns:
            pair = pairs[row, column]
            cell, value = pair.cell, pair.reported
            shown = cell if cell and not cell.not_applicable else None
            bounds = {}
            if bounded(sources.settings):
                low, high = shown.bounds or (shown.value, shown.value) if shown else (None, None)
                bounds = {"missing_against": text(low), "missing_for": text(high)}
            yield {
                "table": name, "scale": sources.scale, "group": row.group, "model": row.model, "method": row.method,
                "ours": "yes" if row.ours else "no", "benchmark": column.benchmark, "split": column.split,
                "metric": column.metric, "unit": value.unit if value else cell.unit if cell else "",
                "direction": pair.direction, "reported": value.value if value else "",
                "reproduced": text(shown.value) if shown else "", "low": text(shown.low) if shown else "",
                "high": text(shown.high) if shown else "", "n": text(cell.n) if cell else "",
                "failures": text(cell.failures) if cell else "", "seed": cell.seed if cell else "",
                "run_model": cell.model if cell else "", "note": value.note if value else "",
                "run_note": cell.note if cell else "",
            } | bounds  # fmt: skip


def _rates(name: str, spec: Spec, sources: Sources) -> Table:
    rows = _rows(spec, sources)
    if not rows:
        note = f"No data: {sources.scores.path} has no scores, and the paper does not report this."
        empty = {"table": name, "scale": sources.scale, "note": note}
        return Table(name, spec.caption, sources.scale, (), (note,), (), (empty,))
    pairs = _pairs(spec, rows, sources)
    run_method = sources.analogues.run_method
    check_missing(
        name, sources.settings, sources.scores.path.with_suffix(".missing.csv"),
        ((pair.cell, row.method if row.run else run_method(row.method), column.benchmark, column.split)
         for (row, column), pair in pairs.items() if pair.cell),
    )  # fmt: skip
    measured = bool(sources.scores.models)
    shown = tuple(kind for kind, wanted in (("paper", spec.artifact), (sources.scale, measured)) if wanted)
    marks = _Marks()
    layout = _Layout(rows, pairs, sources.scale, shown, spec.ranking, marks, bounded(sources.settings))
    panels = tuple(layout.panel(title, columns) for title, columns in spec.panels)
    notes = ["paper: as printed. Empty: not run, or no analogue in the run."] if spec.artifact else []
    notes += sources.run_notes(row.model for row in rows)
    where = "of the table" if spec.ranking else "among the rows of one model"
    notes.append(f"Bold: the best number of a column {where}, paper and run apart.")
    notes += [spec.note] if spec.note else []
    if bounded(sources.settings) and any(pair.cell and pair.cell.bounds for pair in pairs.values()):
        notes.append(missing.NOTE)
    notes += [NOT_APPLICABLE] if any(pair.cell and pair.cell.not_applicable for pair in pairs.values()) else []
    records = tuple(_records(name, spec, rows, pairs, sources))
    return Table(name, spec.caption, sources.scale, panels, tuple(notes), marks.remarks(), records)


TABLES = tuple(str(n) for n in range(1, 20)) + ("S1", "S2", "S3", "S4")
BUILDERS = small_tables.BUILDERS | probe_tables.BUILDERS


def build_table(number: str, settings: Settings, root: Path | str | None = None) -> Table:
    """The content of a table ("1" ... "19", "S1" ... "S4"). Raises `ReportError` for another number.

    `settings` says where the run lies (`paths.results/scores.csv`, `paths.data/mis`, `paths.build/mixtures`); a file
    that is not there leaves its cells empty, and the paper's numbers still stand. `root` is the repository's root.
    """
    if number not in TABLES:
        raise ReportError(f"unknown table {number!r}; known: {', '.join(TABLES)}")
    sources = Sources(settings, root, artifact=f"table{number}")
    return _rates(number, SPECS[number], sources) if number in SPECS else BUILDERS[number](number, sources)


def write_table(number: str, settings: Settings, root: Path | str | None = None) -> list[Path]:
    """Write `<results>/tables/table<N>.csv`, `.md`, `.tex` and `.html`, stamped with the scale; returns their paths."""
    table = build_table(number, settings, root)
    paths = [settings.paths.results / "tables" / f"table{number}.{kind}" for kind in ("csv", "md", "tex", "html")]
    write_csv_atomic(paths[0], table.records, list(table.records[0]))
    write_text_atomic(paths[1], rendering.to_markdown(table))
    write_text_atomic(paths[2], rendering.to_latex(table))
    write_text_atomic(paths[3], to_html(table))
    return paths
