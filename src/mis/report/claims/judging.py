"""Each claim with its verdict on the paper's own numbers and, where there is one, in a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mis.report.claims.expressions import Expression
from mis.report.claims.paper import Paper
from mis.report.claims.records import EXPRESSIONS, RECORDS
from mis.report.claims.run import FAILS, HOLDS, NOT_APPLICABLE, NOT_COMPARABLE, UNDECIDED, Run, Verdict
from mis.report.reported import ReportError, read_csv

PAPER, OURS = "paper", "ours"
_SHARED = ("id", "place", "kind", "group", "statement", "expression", "note")
_COLUMNS = {PAPER: (*_SHARED, "reported_numbers", "mini_applicable"), OURS: _SHARED}
_KINDS = ("direction", "quantity", "ordering", "count")


@dataclass(frozen=True)
class Claim:
    """One statement. `where` names its file, line and id for errors; `expression` is None where the paper has none."""

    id: str
    source: str
    place: str
    kind: str
    group: str
    statement: str
    expression: Expression | None
    note: str
    reported_numbers: str = ""
    in_miniature: bool = True
    where: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim, the word for it on the paper's numbers, and a run's verdict (None without a run)."""

    claim: Claim
    reported: str
    run: Verdict | None = None


def read_claims(path: Path, source: str, paper: Paper) -> list[Claim]:
    """The claims of a file, their expressions checked. Raises `ReportError` naming the file, the line and the claim."""
    claims: dict[str, Claim] = {}
    for row in read_csv(path, _COLUMNS[source]):
        name = row["id"]
        where = f"{path}, line {row['line']}: claim {name}"
        if not name or name in claims:
            raise ReportError(f"{where}: the id stands twice or is empty")
        if row["kind"] not in _KINDS:
            raise ReportError(f"{where}: kind is {row['kind']!r}; known: {', '.join(_KINDS)}")
        claims[name] = Claim(
            id=name,
            source=source,
            **{key: row[key] for key in ("place", "kind", "group", "statement", "note")},
            expression=Expression(row["expression"], where, paper.models) if row["expression"] else None,
            reported_numbers=row.get("reported_numbers", ""),
            in_miniature=row.get("mini_applicable", "yes") == "yes",
            where=where,
        )
    return list(claims.values())


def judge_reported(claim: Claim, paper: Paper) -> str:
    """On the paper's printed numbers; a claim of ours has none."""
    if claim.source == OURS:
        return NOT_APPLICABLE
    if claim.expression is None:
        return UNDECIDED
    return HOLDS if paper.holds(claim.expression) else FAILS


def judge_run(claim: Claim, run: Run) -> Verdict:
    """In a run. In the miniature sizes are shown but not judged, and some claims cannot be asked at all."""
    if run.miniature and not claim.in_miniature:
        return Verdict(NOT_APPLICABLE, remark=_why_not(claim))
    if claim.id in RECORDS:
        return RECORDS[claim.id](run)
    expression, remark = claim.expression, ""
    if claim.id in EXPRESSIONS:
        source, remark = EXPRESSIONS[claim.id]
        expression = Expression(source, claim.where, run.paper.models)
    if expression is None:
        return Verdict(UNDECIDED, missing="a measure: the paper gives no number and a run keeps no record of it")
    verdict = run.judge(expression)
    if run.miniature and claim.kind == "quantity":
        return Verdict(NOT_COMPARABLE, None, verdict.numbers, verdict.missing)
    return replace(verdict, remark=" ".join(filter(None, [verdict.remark, remark])))


def _why_not(claim: Claim) -> str:
    if claim.expression is None or claim.kind == "count" or claim.expression.called & {"t3", "t7", "t18", "t19"}:
        return "About the published data, tables or models."
    if "general_data_share" in claim.expression.literals:
        return "About the sizes of the paper's mixtures."
    if claim.expression.literals & {"gpt_4o", "gemini_1_5_pro", "phi_3_5_vision"}:
        return "About models by name."
    return "About an exact printed number."


def judge(claims: Iterable[Claim], paper: Paper, run: Run | None) -> list[Judged]:
    return [
        Judged(claim, judge_reported(claim, paper), judge_run(claim, run) if run is not None else None)
        for claim in claims
    ]
