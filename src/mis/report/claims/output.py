"""The verdicts as CSV, Markdown and LaTeX. The LaTeX needs the packages booktabs and longtable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mis.report import names
from mis.report.claims.judging import OURS, PAPER, Judged
from mis.report.claims.run import FAILS, HOLDS, NOT_APPLICABLE, NOT_COMPARABLE, UNDECIDED
from mis.report.claims.shape import Agreement
from mis.report.rendering import Head, Line, Panel, Table, Text, escape_latex, escape_markdown, grid, text
from mis.settings import Settings

COLUMNS = (
    "id", "source", "place", "kind", "group", "statement", "reported", "reported_numbers", "run", "run_numbers",
    "share_true", "missing", "note",
)  # fmt: skip
SHAPE_COLUMNS = ("table", "model", "arms", "columns", "spearman", "low", "high", "note")
WORDS = (HOLDS, FAILS, UNDECIDED, NOT_COMPARABLE, NOT_APPLICABLE)


def records(judged: Iterable[Judged]) -> list[dict[str, str]]:
    """The rows of `claims.csv`. Without a run its columns are empty."""
    rows = []
    for item in judged:
        claim, run = item.claim, item.run
        rows.append({
            "id": claim.id, "source": claim.source, "place": claim.place, "kind": claim.kind, "group": claim.group,
            "statement": claim.statement, "reported": item.reported, "reported_numbers": claim.reported_numbers,
            "run": run.word if run else "", "run_numbers": run.numbers if run else "",
            "share_true": text(run.share) if run else "", "missing": run.missing if run else "",
            "note": " ".join(filter(None, [run.remark if run else "", claim.note])),
        })  # fmt: skip
    return rows


def counts(judged: Sequence[Judged]) -> list[list[str]]:
    """The table at the head: verdicts on the paper's numbers (rows) by verdicts in the run (columns)."""
    paper = [item for item in judged if item.claim.source == PAPER]
    ours = [item for item in judged if item.claim.source == OURS]
    shown = [word for word in WORDS if any(item.run and item.run.word == word for item in judged)]
    rows = [["On the paper's numbers", *(f"run: {word}" for word in shown), "all"]]
    for word in (HOLDS, FAILS, UNDECIDED):
        rows.append(_row(word, [item for item in paper if item.reported == word], shown))
    rows.append(_row("all claims of the paper", paper, shown))
    if ours:
        rows.append(_row("claims of ours", ours, shown))
    return rows


def _row(label: str, items: list[Judged], shown: list[str]) -> list[str]:
    found = Counter(item.run.word for item in items if item.run)
    return [label, *(str(found[word]) for word in shown), str(len(items))]


def _introduction(settings: Settings, models: Mapping[str, str]) -> list[str]:
    lines = ["Each claim of the paper's text on the paper's own numbers: an audit of the paper against itself."]
    if models:
        tail = 100 * (1 - settings.report.confidence) / 2
        beside = "; ".join(f"{run} beside {names.model(reported)}" for reported, run in models.items())
        lines.append(
            f"Beside it the verdict of the run (scale {settings.scale}: {beside}). It holds where it is true in at "
            f"least {100 - tail:g} % of the bootstrap replicates, fails where in at most {tail:g} % even if ties count "
            "for it, and is undecided otherwise, or where something was not run. In the miniature a size is not "
            "comparable: its numbers are shown, and it is judged at the paper's scale only. A claim about several "
            "models is judged over those that the run has."
        )
    return lines


def _share(item: Judged) -> str:
    return "" if item.run is None or item.run.share is None else f"{100 * item.run.share:.1f} %"


def _explained(item: Judged) -> str:
    """What stands beside a run's verdict: its numbers, what is missing, why it was not asked."""
    run = item.run
    if run is None:
        return ""
    missing = run.missing[:1].upper() + run.missing[1:]
    if missing and not missing.startswith("Not in the run"):
        missing = f"Missing: {run.missing}"
    parts = [run.numbers, missing, run.remark]
    return " ".join(part if part.endswith(".") else f"{part}." for part in parts if part)


def claims_markdown(judged: Sequence[Judged], settings: Settings, models: Mapping[str, str]) -> str:
    has_run = bool(models)
    scale = escape_markdown(settings.scale)
    blocks = ["## Claims and their verdicts", f"Scale: **{scale}**", *_introduction(settings, models)]
    blocks.append(grid([[escape_markdown(cell) for cell in row] for row in counts(judged)]))
    for source, title in ((PAPER, "Claims of the paper"), (OURS, "Claims of ours")):
        items = [item for item in judged if item.claim.source == source]
        if not items:
            continue
        heads = _heads(source, has_run)
        lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for item in items:
            cells = [f"**{cell}**" if cell == FAILS else escape_markdown(cell) for cell in _cells(item)]
            lines.append("| " + " | ".join(cells) + " |")
        blocks += [f"### {title}", "\n".join(lines)]
    return "\n\n".join(blocks) + "\n"


def _heads(source: str, has_run: bool) -> list[str]:
    heads = ["Id", "Claim", "Place"]
    heads += ["Paper", "The paper's numbers"] if source == PAPER else []
    return heads + (["Run", "true in", "The run's numbers"] if has_run else [])


def _cells(item: Judged) -> list[str]:
    cells = [item.claim.id, item.claim.statement, item.claim.place]
    cells += [item.reported, item.claim.reported_numbers] if item.claim.source == PAPER else []
    return cells + ([item.run.word, _share(item), _explained(item)] if item.run else [])


def claims_table(judged: Sequence[Judged], settings: Settings, models: Mapping[str, str]) -> Table:
    """The same as :func:`claims_markdown`, for a page of HTML."""
    panels = [_panel("", *counts(judged))]
    for source, title in ((PAPER, "Claims of the paper"), (OURS, "Claims of ours")):
        rows = [_cells(item) for item in judged if item.claim.source == source]
        if rows:
            panels.append(_panel(title, _heads(source, bool(models)), *rows))
    caption = "each claim of the paper and its verdict"
    return Table("claims", caption, settings.scale, tuple(panels), tuple(_introduction(settings, models)))


def _panel(title: str, heads: list[str], *rows: list[str]) -> Panel:
    lines = [Line(label, tuple(Text(cell, bold=cell == FAILS) for cell in cells)) for label, *cells in rows]
    return Panel(title, heads[0], tuple(map(Head, heads[1:])), tuple(lines))


def _latex_rows(judged: Sequence[Judged], has_run: bool) -> Iterable[str]:
    for item in judged:
        claim = item.claim
        small = [f"Paper: {claim.reported_numbers}." if claim.reported_numbers and claim.source == PAPER else ""]
        if has_run and (explained := _explained(item)):
            small.append(f"Run: {explained}")
        statement = escape_latex(claim.statement)
        below = r"\newline ".join(escape_latex(part) for part in small if part)
        if below:
            statement += rf"\newline {{\scriptsize\color{{black!60}}{below}}}"
        cells = [claim.id, statement, _latex_word(item.reported if claim.source == PAPER else "–")]
        if has_run:
            share = _share(item)
            run = _latex_word(item.run.word) + (rf"\newline {{\scriptsize {escape_latex(share)}}}" if share else "")
            cells.append(run)
        yield " & ".join(cells) + r" \\ \addlinespace[3pt]"


def _latex_word(word: str) -> str:
    return rf"\textbf{{{word}}}" if word == FAILS else escape_latex(word)


def claims_latex(judged: Sequence[Judged], settings: Settings, models: Mapping[str, str]) -> str:
    """The table of counts, then a long table of all claims: for a portrait A4 page with margins of 2.5 cm."""
    has_run = bool(models)
    rows = counts(judged)
    width = 4 if has_run else 3
    heads = ["Id", "Claim", "Paper", *(["Run"] if has_run else [])]
    columns = r"@{}>{\raggedright\arraybackslash}p{0.8cm}"
    columns += rf">{{\raggedright\arraybackslash}}p{{{'10.9cm' if has_run else '12.9cm'}}}"
    columns += r">{\raggedright\arraybackslash}p{1.6cm}" + (
        r">{\raggedright\arraybackslash}p{1.9cm}" if has_run else ""
    )
    columns += "@{}"
    head = " & ".join(rf"\textbf{{{title}}}" for title in heads) + r" \\"
    body = [
        f"% Claims, scale: {settings.scale}. Generated; needs array, booktabs, longtable, xcolor.".replace("\n", " "),
        r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}",
        r"\noindent " + " ".join(map(escape_latex, _introduction(settings, models))),
        r"\par\medskip\begin{center}",
        rf"\begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}",
        r"\toprule",
        " & ".join(escape_latex(cell) for cell in rows[0]) + r" \\",
        r"\midrule",
        *(" & ".join(escape_latex(cell) for cell in row) + r" \\" for row in rows[1:4]),
        r"\midrule",
        *(" & ".join(escape_latex(cell) for cell in row) + r" \\" for row in rows[4:]),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{center}",
        rf"\begin{{longtable}}{{{columns}}}",
        r"\toprule", head, r"\midrule", r"\endhead",
        r"\bottomrule", r"\endlastfoot",
    ]  # fmt: skip
    for source, title in ((PAPER, "Claims of the paper"), (OURS, "Claims of ours, beyond the paper")):
        items = [item for item in judged if item.claim.source == source]
        if items:
            body.append(rf"\multicolumn{{{width}}}{{@{{}}l}}{{\textit{{{title}}}}} \\*[2pt]")
            body += _latex_rows(items, has_run)
    body += [r"\end{longtable}", r"\endgroup"]
    return "\n".join(body) + "\n"


def shape_records(found: Iterable[Agreement]) -> list[dict[str, str]]:
    return [
        {"table": item.table, "model": item.model, "arms": str(item.arms), "columns": str(item.columns),
         "spearman": text(item.value), "low": text(item.low), "high": text(item.high), "note": item.note}
        for item in found
    ]  # fmt: skip


_SHAPE_HEADS = ["Table", "Model", "Arms", "Columns", "Rank correlation", "95 % interval"]
_SHAPE_CAPTION = (
    "Agreement of the arms' order with the paper's: Spearman's rank correlation of reported and reproduced numbers "
    "over the arms, by column, averaged over the columns of a table"
)
_SHAPE_NOTE = (
    "The interval comes from resampling the run alone; the paper's numbers are taken as printed. With few arms a "
    "correlation has few values: of three arms only 1, 0.5, -0.5 and -1 without ties."
)


def _shape_rows(found: Iterable[Agreement]) -> list[list[str]]:
    rows = []
    for item in found:
        shown = [item.note, ""] if item.value is None else [f"{item.value:.2f}", f"{item.low:.2f} to {item.high:.2f}"]
        rows.append([item.table, item.model, str(item.arms), str(item.columns) if item.columns else "", *shown])
    return rows


def shape_markdown(found: Sequence[Agreement], scale: str) -> str:
    rows = [[escape_markdown(cell) for cell in row] for row in [_SHAPE_HEADS, *_shape_rows(found)]]
    blocks = ["## Agreement of shape", f"Scale: **{escape_markdown(scale)}**", f"{_SHAPE_CAPTION}.", grid(rows)]
    return "\n\n".join([*blocks, _SHAPE_NOTE]) + "\n"


def shape_latex(found: Sequence[Agreement], scale: str) -> str:
    lines = [" & ".join(map(escape_latex, row)) + r" \\" for row in [_SHAPE_HEADS, *_shape_rows(found)]]
    return "\n".join([
        f"% Agreement of shape, scale: {scale}. Generated; needs booktabs.".replace("\n", " "),
        r"\begin{table}[!tbp]",
        r"\centering\footnotesize",
        rf"\caption{{{escape_latex(_SHAPE_CAPTION)}. Scale: \textbf{{{escape_latex(scale)}}}.}}",
        r"\label{tab:shape}\vspace{4pt}",
        r"\begin{tabular}{llrrrr}",
        r"\toprule",
        lines[0],
        r"\midrule",
        *lines[1:],
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip\begin{minipage}{\linewidth}\scriptsize",
        escape_latex(_SHAPE_NOTE),
        r"\end{minipage}",
        r"\end{table}",
    ]) + "\n"  # fmt: skip
