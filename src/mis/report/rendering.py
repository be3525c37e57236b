"""A table as CSV (one row a number), Markdown and LaTeX. Every text is escaped here and nowhere else.

The LaTeX needs the packages booktabs and graphicx.
"""

from __future__ import annotations

from dataclasses import dataclass, field


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
})  # fmt: skip


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands. Brackets are braced: after `\\\\` a bare one would be an argument."""
    return text.translate(_LATEX)


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


def _latex_cell(cell: Text) -> str:
    value = escape_latex(cell.value)
    if cell.bold:
        value = rf"\textbf{{{value}}}"
    if cell.mark:
        value += rf"\textsuperscript{{{cell.mark}}}"
    if cell.small:
        return rf"\begin{{tabular}}[c]{{@{{}}r@{{}}}}{value}\\[-3pt]{{\tiny {escape_latex(cell.small)}}}\end{{tabular}}"
    return value


def _latex_panel(panel: Panel) -> str:
    """The paper's look: rules of booktabs, two lines of heads where a column has parts, groups set in italics."""
    width = 1 + sum(len(head.parts) for head in panel.heads)
    tops, rules, parts, start = [escape_latex(panel.corner)], [], [""], 2
    for head in panel.heads:
        span = len(head.parts)
        tops.append(rf"\multicolumn{{{span}}}{{c}}{{{escape_latex(head.title)}}}")
        if any(head.parts):
            rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
        parts += [escape_latex(part) for part in head.parts]
        start += span
    body = [rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}", r"\toprule"]
    body.append(" & ".join(tops) + r" \\")
    if rules:
        body += [" ".join(rules), " & ".join(parts) + r" \\"]
    body.append(r"\midrule")
    for i, line in enumerate(panel.lines):
        if line.cells:
            body.append(" & ".join([r"\quad " + escape_latex(line.label), *map(_latex_cell, line.cells)]) + r" \\")
        else:
            if line.level == 0 and i:
                body.append(r"\midrule")
            style = r"\textbf" if line.level == 0 else r"\textit"
            body.append(rf"\multicolumn{{{width}}}{{l}}{{{style}{{{escape_latex(line.label)}}}}} \\")
    body += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(body)


def _latex_float(table: Table, panel: Panel, label: str) -> str:
    """A float of its own; the table keeps the paper's number, and is shrunk where it is wider than the line."""
    marks = {cell.mark for line in panel.lines for cell in line.cells}
    notes = [escape_latex(note) for note in table.notes]
    notes += [rf"\textsuperscript{{{mark}}}{escape_latex(note)}." for mark, note in table.remarks if mark in marks]
    caption = escape_latex(f"{table.caption} {panel.title}.".strip() if panel.title else table.caption)
    return "\n".join([
        r"\begin{table}[p]",
        rf"\renewcommand{{\thetable}}{{{escape_latex(table.number)}}}",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{caption} Scale: \textbf{{{escape_latex(table.scale)}}}.}}",
        *([rf"\label{{{label}}}"] if label else []),
        r"\sbox0{%",
        _latex_panel(panel) + "}",
        r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
        r"\par\smallskip\begin{minipage}{\linewidth}\scriptsize",
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
