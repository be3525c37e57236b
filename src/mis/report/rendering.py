"""A table as CSV (one row a number), Markdown and LaTeX. Every text is escaped here and nowhere else.

The LaTeX needs the packages booktabs and graphicx.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Text:
    """A cell: what it says, a smaller second line (an interval), whether it is the best, and its remark's letter."""

    value: str = ""
    small: str = ""
    bold: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Head:
    """A column head over `parts` sub-columns; a single empty part is a head of its own."""

    title: str
    parts: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Line:
    """A row: its label and cells, or, without cells, the title of the group below it (`level` 0 above 1)."""

    label: str
    cells: tuple[Text, ...] = ()
    level: int = 0


@dataclass(frozen=True)
class Panel:
    """A grid; a table has one, or one a split where it would be too wide."""

    title: str
    corner: str
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """Everything that the three files of a table hold. `records` are the CSV's rows, with equal keys."""

    number: str
    caption: str
    scale: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()
    records: tuple[dict[str, str], ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        return f"Table {self.number}" if self.number[-1].isdigit() else self.number.capitalize()


def text(number: float | int | None) -> str:
    """A number in full precision for a CSV cell; nothing where it is unknown."""
    return "" if number is None else repr(number)


# Characters that would start markup in GitHub's Markdown. An underscore inside a word does not.
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\|*`<[]"} | {"\n": " "})


def escape_markdown(text: str) -> str:
    return text.translate(_MARKDOWN)


_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "\n": " ",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "–": "--", "−": "$-$",
    "±": r"$\pm$", "·": r"$\cdot$", "×": r"$\times$", "“": "``", "”": "''", "[": "{[}", "]": "{]}", '"': "''",
    "‘": "`", "’": "'",
})  # fmt: skip


_OPENING = re.compile(r"(?<![^\s(\[])(\"|')(?=\w)")


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands. Brackets are braced: after `\\\\` a bare one would be an argument."""
    return _OPENING.sub(lambda quote: "“" if quote[0] == '"' else "‘", text).translate(_LATEX)


def grid(rows: list[list[str]]) -> str:
    """Cells as an aligned Markdown table with `rows[0]` as its head; all columns but the first are right aligned."""
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]

    def line(row: list[str]) -> str:
        return "| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ":" if i else ":" + "-" * (w + 1) for i, w in enumerate(widths)) + "|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def _markdown_cell(cell: Text) -> str:
    value = escape_markdown(cell.value)
    if cell.bold:
        value = f"**{value}**"
    if cell.small:
        value += f" {escape_markdown(cell.small)}"
    return value + (f"[^{cell.mark}]" if cell.mark else "")


def _markdown_panel(panel: Panel) -> str:
    heads = [panel.corner]
    for head in panel.heads:
        for i, part in enumerate(head.parts):
            heads.append(f"{head.title}, {part}" if i == 0 and part else part or head.title)
    rows = [[escape_markdown(head) for head in heads]]
    for line in panel.lines:
        if line.cells:
            rows.append([escape_markdown(line.label), *map(_markdown_cell, line.cells)])
        else:
            label = escape_markdown(line.label)
            rows.append([f"**{label}**" if line.level == 0 else f"_{label}_"] + [""] * (len(heads) - 1))
    return (f"### {escape_markdown(panel.title)}\n\n" if panel.title else "") + grid(rows)


def to_markdown(table: Table) -> str:
    """A page for GitHub that can also be read raw: stamp, grid, notes, then remarks on doubtful printed numbers."""
    blocks = [f"## {table.name}: {escape_markdown(table.caption)}", f"Scale: **{escape_markdown(table.scale)}**"]
    blocks += [_markdown_panel(panel) for panel in table.panels]
    blocks.append("\n".join(f"- {escape_markdown(note)}" for note in table.notes))
    blocks.append("\n".join(f"[^{mark}]: {escape_markdown(note)}" for mark, note in table.remarks))
    return "\n\n".join(filter(None, blocks)) + "\n"


# The width that a table may take, in points: a line of A4 paper with margins of 22 mm. A panel that is wider is split
# into grids of fewer columns, each of which may be shrunk a little; sizes are absolute, whatever the document's are.
LINE = 468.0
SHRINK = 0.9
_SIZE, _SMALL = 8.0, 6.0
_INNER, _OUTER = 5.0, 10.0  # points between the parts of a head, and between heads
# Widths of Times in ems, by kind of character; enough to decide where to break, not where a letter goes.
_NARROW = dict.fromkeys("ijlt.,:;'()[]/|! ", 0.28) | dict.fromkeys("frs-I", 0.36) | {"†": 0.5, "‡": 0.5, "%": 0.83}
_WIDE = dict.fromkeys("mwMWQODGHNU@↑↓", 0.76) | dict.fromkeys("ABCEFKLPRSTVXYZ", 0.64)


def _points(text: str, size: float = _SIZE, bold: bool = False) -> float:
    """The estimated width of `text` in points."""
    ems = sum(_NARROW.get(character, _WIDE.get(character, 0.5)) for character in text)
    return size * ems * (1.06 if bold else 1)


def _stack(lines: list[str], column: str = "r", place: str = "t", gap: str = "-1pt") -> str:
    """Escaped lines above each other in one cell."""
    if len(lines) == 1:
        return lines[0]
    body = rf"\\[{gap}]".join(lines)
    return rf"\begin{{tabular}}[{place}]{{@{{}}{column}@{{}}}}{body}\end{{tabular}}"


def _gap(points: float) -> str:
    return rf"@{{\hspace{{{points:g}pt}}}}"


def _small(text: str) -> str:
    return rf"{{\fontsize{{6}}{{7}}\selectfont {escape_latex(text)}}}"


def _latex_cell(cell: Text) -> str:
    """The value, and below it, smaller, its interval and whatever else is to be said of it, a line each."""
    value = escape_latex(cell.value)
    if cell.bold:
        value = rf"\textbf{{{value}}}"
    if cell.mark:
        value += rf"\textsuperscript{{{cell.mark}}}"
    return _stack([value, *map(_small, filter(None, cell.small.split(", ")))])


def _cell_points(cell: Text) -> float:
    value = _points(cell.value, bold=cell.bold) + _points(cell.mark, _SMALL)
    return max([value, *(_points(part, _SMALL) for part in cell.small.split(", "))])


def _head_points(panel: Panel) -> list[list[float]]:
    """The estimated width of every sub-column, by head."""
    widths, start = [], 0
    for head in panel.heads:
        own = []
        for part in head.parts:
            name, _, size = part.partition(", ")
            cells = [line.cells[start + len(own)] for line in panel.lines if line.cells]
            own.append(max([_points(name), _points(size, _SMALL), *map(_cell_points, cells)]))
        start += len(own)
        word = max(map(_points, _words(head.title)))
        spare = word - sum(own) - _INNER * (len(own) - 1)
        widths.append([width + max(0, spare) / len(own) for width in own])
    return widths


def _words(title: str) -> list[str]:
    """What a head may be broken into; an arrow stays with the word before it."""
    words: list[str] = []
    for word in title.split():
        if word in "↑↓" and words:
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words or [""]


def _wrapped(title: str, width: float) -> list[str]:
    """`title` in lines of at most `width` points, where its words allow."""
    lines: list[str] = []
    for word in _words(title):
        if lines and _points(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _split(panel: Panel) -> list[Panel]:
    """The panel in as few grids as fit a line, with about as many columns each."""
    label = max([_points(panel.corner), *(10 + _points(line.label) for line in panel.lines if line.cells)], default=0)
    widths = [sum(own) + _INNER * (len(own) - 1) + _OUTER for own in _head_points(panel)]
    room = LINE / SHRINK - label
    number = max(1, len(panel.heads))
    for grids in range(1, number + 1):
        size = -(-number // grids)
        starts = range(0, number, size)
        if all(sum(widths[start : start + size]) <= room for start in starts):
            break
    grids = []
    for start in starts:
        first = sum(len(head.parts) for head in panel.heads[:start])
        heads = panel.heads[start : start + size]
        last = first + sum(len(head.parts) for head in heads)
        lines = tuple(replace(line, cells=line.cells[first:last]) for line in panel.lines)
        grids.append(replace(panel, heads=heads, lines=lines))
    return grids


def _latex_grid(panel: Panel) -> str:
    """The paper's look: rules of booktabs, two lines of heads where a column has parts, groups set in italics."""
    width = 1 + sum(len(head.parts) for head in panel.heads)
    columns = f"@{{}}l{_gap(_OUTER)}"
    tops, rules, parts, start = [escape_latex(panel.corner)], [], [""], 2
    for i, (head, points) in enumerate(zip(panel.heads, _head_points(panel), strict=True)):
        span, last = len(head.parts), i == len(panel.heads) - 1
        after = "@{}" if last else _gap(_OUTER)
        columns += _gap(_INNER).join("r" * span) + after
        lines = _wrapped(head.title, sum(points) + _INNER * (span - 1) + 2)
        title = _stack([escape_latex(line) for line in lines], "c", "b", "0pt")
        tops.append(rf"\multicolumn{{{span}}}{{c{after}}}{{{title}}}")
        if any(head.parts):
            rules.append(rf"\cmidrule(r{{{0 if last else _OUTER:g}pt}}){{{start}-{start + span - 1}}}")
        for part in head.parts:
            name, _, size = part.partition(", ")
            parts.append(_stack([escape_latex(name), *([_small(size)] if size else [])]))
        start += span
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    body.append(" & ".join(tops) + r" \\")
    if rules:
        body += [" ".join(rules), " & ".join(parts) + r" \\"]
    body.append(r"\midrule")
    for i, line in enumerate(panel.lines):
        if line.cells:
            gap = r" \\[1pt]" if any(cell.small for cell in line.cells) else r" \\"
            body.append(" & ".join([r"\quad " + escape_latex(line.label), *map(_latex_cell, line.cells)]) + gap)
        else:
            if line.level == 0 and i:
                body.append(r"\midrule")
            style = r"\textbf" if line.level == 0 else r"\textit"
            body.append(rf"\multicolumn{{{width}}}{{@{{}}l}}{{{style}{{{escape_latex(line.label)}}}}} \\")
    body += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(body)


def _latex_float(table: Table, panel: Panel, label: str) -> str:
    """A float of its own; the table keeps the paper's number, and a grid is shrunk where it is wider than the line."""
    marks = {cell.mark for line in panel.lines for cell in line.cells}
    notes = [escape_latex(note) for note in table.notes]
    notes += [rf"\textsuperscript{{{mark}}}{escape_latex(note)}." for mark, note in table.remarks if mark in marks]
    caption = escape_latex(f"{table.caption} {panel.title}.".strip() if panel.title else table.caption)
    name = escape_latex(table.number)
    grids = []
    for grid in _split(panel):
        warning = rf"\PackageWarning{{mis}}{{Table {name} is hard to read: shrunk by more than a fifth}}"
        grids.append("\n".join([
            r"\sbox0{%",
            _latex_grid(grid) + "}%",
            rf"\ifdim0.8\wd0>\linewidth{warning}\fi",
            r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
        ]))  # fmt: skip
    return "\n".join([
        r"\begin{table}[!tbp]",
        rf"\renewcommand{{\thetable}}{{{name}}}",
        r"\centering\fontsize{8}{9.5}\selectfont",
        rf"\caption{{{caption} Scale: \textbf{{{escape_latex(table.scale)}}}.}}",
        *([rf"\label{{{label}}}"] if label else []),
        "\\par\\medskip\n".join(grids),
        r"\par\smallskip\begin{minipage}{\linewidth}\fontsize{7}{8.4}\selectfont",
        " ".join(notes),
        r"\end{minipage}",
        r"\end{table}",
    ])  # fmt: skip


def to_latex(table: Table) -> str:
    """One float a panel, to be read with \\input; a table without data is one line of text."""
    head = f"% {table.name}, scale: {table.scale}. Generated; needs booktabs and graphicx.".replace("\n", " ")
    labels = [f"tab:reproduced-{table.number}" if i == 0 else "" for i in range(len(table.panels))]
    floats = [_latex_float(table, panel, label) for panel, label in zip(table.panels, labels, strict=True)]
    return "\n".join([head, *(floats or [escape_latex(note) for note in table.notes])]) + "\n"
