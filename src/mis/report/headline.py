"""The end of a run: where its tables and figures are, and the few numbers that carry the argument."""

from __future__ import annotations

from pathlib import Path

from mis.report import names
from mis.report.html import to_html
from mis.report.rendering import Head, Line, Panel, Table, Text, to_markdown
from mis.report.sources import Sources
from mis.report.tables import interval, number
from mis.settings import Settings
from mis.store import write_text_atomic

METHODS = ("base", "textual_sft", "vlguard_r", "mirage", "mirage_balanced")
COLUMNS = (
    ("mis", "hard", "asr"),
    ("mis", "hard", "rsr"),
    ("mssbench", "safe", "accuracy"),
    ("benign_control", "", "over_flagging_rate"),
    ("average", "", "exact_match"),
)


def build_headline(settings: Settings, root: Path | str | None = None) -> Table:
    """The headline numbers of the run's models; without scores a table without rows whose note says so."""
    sources = Sources(settings, root)
    scores = sources.scores
    lines = []
    for model in scores.models:
        lines.append(Line(names.model(model)))
        for method in METHODS:
            cells = [scores.get(model, method, *where) for where in COLUMNS]
            if any(cells):
                lines.append(Line(names.method(method), tuple(_cell(cell) for cell in cells)))
    heads = [names.column(*where, names.DIRECTIONS[where[2]]).replace("Average", "General avg.") for where in COLUMNS]
    notes = sources.run_notes(()) or [f"Nothing is reproduced at this scale: {scores.path} is not there."]
    panels = (Panel("", "Method", tuple(Head(head) for head in heads), tuple(lines)),) if lines else ()
    return Table("headline", "the headline numbers, in percent", settings.scale, panels, tuple(notes))


def _cell(cell) -> Text:
    if cell is None:
        return Text()
    failed = f", {cell.failures} failed" if cell.failures else ""
    return Text(number(cell), interval(cell) + failed)


def _terminal(table: Table) -> str:
    """The table in plain text, columns aligned."""
    out = []
    for panel in table.panels:
        rows = [[panel.corner, *(head.title for head in panel.heads)]]
        rows += [[line.label, *(f"{cell.value} {cell.small}".strip() for cell in line.cells)] for line in panel.lines]
        widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
        out += ["  ".join(c.ljust(w) for c, w in zip(row, widths[: len(row)], strict=True)).rstrip() for row in rows]
    return "\n".join([*out, *table.notes])


def headline(settings: Settings, root: Path | str | None = None) -> str:
    """Write `<results>/headline.md` and `.html`; returns what a terminal should show: the places, then the table."""
    table = build_headline(settings, root)
    paths = settings.paths
    write_text_atomic(paths.results / "headline.md", to_markdown(table))
    write_text_atomic(paths.results / "headline.html", to_html(table))
    places = [
        f"tables:   {paths.results / 'tables'} ({len(list((paths.results / 'tables').glob('table*.md')))})",
        f"figures:  {paths.figures} ({len(list(paths.figures.glob('figure*.pdf')))})",
        f"scores:   {paths.results / 'scores.csv'}",
        f"headline: {paths.results / 'headline.md'}",
    ]
    return "\n".join([f"Scale {settings.scale}", *places, "", _terminal(table)])
