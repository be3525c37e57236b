"""A run's verdicts beside those of another scale's committed run: `claims_by_scale.{csv,md,tex}`, a row a claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mis.report.claims.output import WORDS
from mis.report.rendering import escape_latex, escape_markdown, grid
from mis.report.reported import ReportError, read_csv
from mis.settings import Settings
from mis.store import write_csv_atomic, write_text_atomic

READ = ("id", "source", "place", "statement", "reported", "run", "run_numbers")
Row = dict[str, str]


def write_beside(settings: Settings, root: Path) -> list[Path]:
    """Write `<results>/claims_by_scale.csv`, `.md`, `.tex`; returns their paths.

    The rows are those of the run's own `claims.csv`. Raises :class:`ReportError` for a claim that the other scale's run
    does not have.
    """
    other, own = settings.report.beside, settings.scale
    if other == own:
        raise ReportError(f"report.beside is {other!r}, the run's own scale; name another of results/reference")
    path = root / "results" / "reference" / other / "claims.csv"
    beside = {row["id"]: row for row in read_csv(path, READ)}
    rows = []
    for row in read_csv(settings.paths.results / "claims.csv", READ):
        if row["id"] not in beside:
            raise ReportError(f"{path}: no claim {row['id']}; make that reference again, or judge both by one list")
        rows.append({
            **{name: row[name] for name in READ[:5]}, other: beside[row["id"]]["run"], own: row["run"],
            f"{other}_numbers": beside[row["id"]]["run_numbers"], f"{own}_numbers": row["run_numbers"],
        })  # fmt: skip
    stem = settings.paths.results / "claims_by_scale"
    paths = [stem.with_suffix(f".{kind}") for kind in ("csv", "md", "tex")]
    write_csv_atomic(paths[0], rows, list(rows[0]))
    write_text_atomic(paths[1], to_markdown(rows, other, own))
    write_text_atomic(paths[2], to_latex(rows, other, own))
    return paths


def counts(rows: Sequence[Row], other: str, own: str) -> list[list[str]]:
    """Verdicts of the one scale (rows) by those of the other (columns)."""
    found = Counter((row[other], row[own]) for row in rows)
    words = [word for word in WORDS if any(word in pair for pair in found)]
    return [
        [f"{other} \\ {own}", *words, "all"],
        *([word, *(str(found[word, each]) for each in words), str(sum(row[other] == word for row in rows))]
          for word in words),
        ["all", *(str(sum(row[own] == each for row in rows)) for each in words), str(len(rows))],
    ]  # fmt: skip


def _cells(row: Row, other: str, own: str) -> list[str]:
    return [row["id"], row["statement"], row["reported"] if row["source"] == "paper" else "", row[other], row[own]]


def to_markdown(rows: Sequence[Row], other: str, own: str) -> str:
    heads = ["Id", "Claim", "Paper", other, own]
    lines = [[escape_markdown(cell) for cell in _cells(row, other, own)] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        if row[other] != row[own]:
            line[-1] = f"**{line[-1]}**"
    blocks = [
        "## Claims at two scales",
        f"Each claim's verdict on the paper's own numbers, in the committed run of {escape_markdown(other)}, and in "
        f"this run of {escape_markdown(own)}; bold where the two runs differ.",
        grid([[escape_markdown(cell) for cell in row] for row in counts(rows, other, own)]),
        "\n".join("| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *lines]),
    ]
    return "\n\n".join(blocks) + "\n"


def to_latex(rows: Sequence[Row], other: str, own: str) -> str:
    """A long table for a portrait page; needs array, booktabs and longtable."""
    head = " & ".join(rf"\textbf{{{escape_latex(each)}}}" for each in ("Id", "Claim", "Paper", other, own)) + r" \\"
    column = r">{\raggedright\arraybackslash}p{%s}"
    columns = "@{}p{0.8cm}" + column % "8.6cm" + 3 * (column % "1.9cm") + "@{}"
    counted = [" & ".join(map(escape_latex, row)) + r" \\" for row in counts(rows, other, own)]
    body = []
    for row in rows:
        cells = [escape_latex(cell) for cell in _cells(row, other, own)]
        if row[other] != row[own]:
            cells[-1] = rf"\textbf{{{cells[-1]}}}"
        body.append(" & ".join(cells) + r" \\ \addlinespace[2pt]")
    return "\n".join([
        f"% Claims at two scales, {other} and {own}. Generated; needs array, booktabs, longtable.".replace("\n", " "),
        r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\noindent Verdicts at the scale {escape_latex(other)} and {escape_latex(own)} (columns), then by claim.",
        r"\par\medskip\begin{center}",
        rf"\begin{{tabular}}{{l{'r' * counted[0].count('&')}}}",
        r"\toprule", counted[0], r"\midrule", *counted[1:], r"\bottomrule",
        r"\end{tabular}\end{center}\scriptsize",
        rf"\begin{{longtable}}{{{columns}}}",
        r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endlastfoot",
        *body,
        r"\end{longtable}", r"\endgroup",
    ]) + "\n"  # fmt: skip
