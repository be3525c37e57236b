"""A table as a page of HTML, for the report of Snakemake and for a reader without Markdown. Needs no other file."""

from __future__ import annotations

from html import escape

from mis.report.rendering import Line, Panel, Table, Text

LONG = 30  # characters: a column with a longer cell is given some width
_STYLE = """\
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --muted: #5b6470; --line: #d8dce2; --pane: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16191d; --ink: #e7eaee; --muted: #a2abb6; --line: #363c45; --pane: #1e2228; }
}
body {
  margin: 0 auto; padding: 1rem 1.5rem 2rem; background: var(--paper); color: var(--ink); width: fit-content;
  max-width: calc(100vw - 3rem);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
h1 { font-size: 1.25rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 1.5rem 0 0; }
p, ul { color: var(--muted); max-width: 60rem; margin: .3rem 0; }
ul { padding-left: 1.2rem; }
.grid { overflow-x: auto; margin: .8rem 0 1rem; }
table { border-collapse: collapse; border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
thead { border-bottom: 1px solid var(--ink); }
th, td { padding: .3rem .7rem; text-align: right; vertical-align: top; font-variant-numeric: tabular-nums; }
th { font-weight: 600; }
thead th { vertical-align: bottom; text-align: center; }
thead tr + tr th { font-weight: 400; color: var(--muted); text-align: right; }
tbody th { font-weight: 400; text-align: left; white-space: nowrap; }
thead th:first-child, tbody th { position: sticky; left: 0; background: var(--paper); text-align: left; }
tbody tr:hover td, tbody tr:hover th { background: var(--pane); }
.words, thead tr + tr th.words { text-align: left; }
td.long { min-width: 12rem; }
sup { line-height: 0; }
tr.group th { font-weight: 600; padding-top: .7rem; border-top: 1px solid var(--line); }
tr.part th { font-style: italic; }
tbody tr:first-child th { border-top: 0; }
small { display: block; color: var(--muted); font-size: .78rem; white-space: nowrap; }
"""


def to_html(table: Table) -> str:
    """The whole page: number, caption and scale, the grids, notes, and remarks on doubtful printed numbers."""
    title = f"{table.name}: {escape(table.caption)}"
    blocks = [f"<h1>{title}</h1>", f"<p>Scale: <strong>{escape(table.scale)}</strong></p>", *map(_panel, table.panels)]
    notes = [escape(note) for note in table.notes]
    notes += [f"<sup>{escape(mark)}</sup> {escape(note)}" for mark, note in table.remarks]
    if notes:
        blocks.append("<ul>\n" + "\n".join(f"<li>{note}</li>" for note in notes) + "\n</ul>")
    head = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">'
    return "\n".join([
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n<title>{title}</title>',
        f"<style>\n{_STYLE}</style>\n</head>\n<body>",
        *blocks,
        "</body>\n</html>\n",
    ])  # fmt: skip


def _panel(panel: Panel) -> str:
    title = [f"<h2>{escape(panel.title)}</h2>"] if panel.title else []
    width = 1 + sum(len(head.parts) for head in panel.heads)
    kinds = [_kind([line.cells[at].value for line in panel.lines if line.cells]) for at in range(width - 1)]
    body = [_line(line, width, kinds) for line in panel.lines]
    grid = ['<div class="grid"><table>', "<thead>", *_heads(panel, kinds), "</thead>", "<tbody>", *body, "</tbody>"]
    return "\n".join([*title, *grid, "</table></div>"])


def _kind(values: list[str]) -> str:
    """A column's attribute: words stand on the left, numbers on the right."""
    words = ["words"] if any(value[:1].isalpha() for value in values) else []
    long = ["long"] if any(len(value) > LONG for value in values) else []
    return f' class="{" ".join(words + long)}"' if words or long else ""


def _heads(panel: Panel, kinds: list[str]) -> list[str]:
    """One row, or two where a column has parts; a head without parts then spans both."""
    two = any(any(head.parts) for head in panel.heads)
    down = ' rowspan="2"' if two else ""
    tops, parts, at = f'<th scope="col"{down}>{escape(panel.corner)}</th>', "", 0
    for head in panel.heads:
        own = kinds[at : at + len(head.parts)]
        at += len(head.parts)
        if any(head.parts):
            tops += f'<th scope="colgroup" colspan="{len(head.parts)}">{escape(head.title)}</th>'
            for part, kind in zip(head.parts, own, strict=True):
                parts += f'<th scope="col"{kind}>{escape(part)}</th>'
        else:
            tops += f'<th scope="col"{down}{own[0]}>{escape(head.title)}</th>'
    return [f"<tr>{tops}</tr>", *([f"<tr>{parts}</tr>"] if two else [])]


def _line(line: Line, width: int, kinds: list[str]) -> str:
    if line.cells:
        cells = "".join(_cell(cell, kind) for cell, kind in zip(line.cells, kinds, strict=True))
        return f'<tr><th scope="row">{escape(line.label)}</th>{cells}</tr>'
    kind = "part" if line.level else "group"
    return f'<tr class="{kind}"><th colspan="{width}" scope="colgroup">{escape(line.label)}</th></tr>'


def _cell(cell: Text, kind: str) -> str:
    value = escape(cell.value)
    if cell.bold:
        value = f"<strong>{value}</strong>"
    if cell.mark:
        value += f"<sup>{escape(cell.mark)}</sup>"
    return f"<td{kind}>{value}{f'<small>{escape(cell.small)}</small>' if cell.small else ''}</td>"
