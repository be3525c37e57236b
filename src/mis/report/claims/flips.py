"""Which claims turn when another judge has judged the same responses: what of a run's findings is the judge's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mis import layout
from mis.errors import MisError
from mis.report.claims.judging import OURS, PAPER, Claim, judge_run, read_claims
from mis.report.claims.paper import Paper
from mis.report.claims.run import FAILS, HOLDS, Run, Verdict
from mis.report.rendering import escape_markdown, text
from mis.report.reported import repository_root
from mis.report.sources import Sources
from mis.settings import Settings
from mis.store import write_csv_atomic, write_text_atomic

COLUMNS = (
    "id", "source", "place", "statement", "first", "second", "turned", "first_share", "second_share", "first_numbers",
    "second_numbers",
)  # fmt: skip
OPPOSITE = {HOLDS: FAILS, FAILS: HOLDS}


@dataclass(frozen=True)
class Flip:
    """One claim by the verdicts of the run's judge, and by those of another."""

    claim: Claim
    first: Verdict
    second: Verdict

    @property
    def turned(self) -> str:
        """ "no"; "yes": from holds to fails or back; "weakly": to or from a verdict that decides nothing."""
        if self.first.word == self.second.word:
            return "no"
        return "yes" if OPPOSITE.get(self.first.word) == self.second.word else "weakly"


def find_flips(settings: Settings, judge: str, root: Path | str | None = None, seed: int = 0) -> list[Flip]:
    """Every claim twice, with the same bootstrap draws. What neither judge has any part in is the same by construction.

    Raises :class:`MisError` where `judge` has judged nothing.
    """
    folder = layout.rejudged(settings, judge, "m", 0, "a", "s").parents[3]
    if not any(folder.glob("*/*/*/*.jsonl")):
        raise MisError(f"{folder}: no verdicts of {judge!r}; run `mis rejudge --judge {judge}`")
    data = repository_root(root) / "data"
    sources = Sources(settings, root)
    paper = Paper(sources.reported)
    claims = read_claims(data / "reported" / "claims.csv", PAPER, paper) + read_claims(data / "claims.csv", OURS, paper)
    runs = Run(sources, paper, seed), Run(sources, paper, seed, judge)
    return [Flip(claim, *(judge_run(claim, run) for run in runs)) for claim in claims]


def write_flips(settings: Settings, judge: str, root: Path | str | None = None, seed: int = 0) -> list[Path]:
    """Writes `flips.csv` (all claims) and `flips.md` (those that turn) to `layout.drift`; returns their paths."""
    found = find_flips(settings, judge, root, seed)
    folder = layout.drift(settings, judge)
    paths = [folder / "flips.csv", folder / "flips.md"]
    write_csv_atomic(paths[0], map(_row, found), COLUMNS)
    write_text_atomic(paths[1], _markdown(settings, judge, found))
    return paths


def _row(flip: Flip) -> dict[str, str]:
    claim, first, second = flip.claim, flip.first, flip.second
    return {
        "id": claim.id, "source": claim.source, "place": claim.place, "statement": claim.statement,
        "first": first.word, "second": second.word, "turned": flip.turned, "first_share": text(first.share),
        "second_share": text(second.share), "first_numbers": first.numbers, "second_numbers": second.numbers,
    }  # fmt: skip


def _markdown(settings: Settings, judge: str, found: list[Flip]) -> str:
    counts = Counter(flip.turned for flip in found)
    first = settings.judge.kind
    lines = [
        f"# Which claims does another judge turn? Scale {escape_markdown(settings.scale)}",
        f"By the verdicts of `{first}` and by those of `{judge}` on the same responses, with the same bootstrap draws. "
        f"Of {len(found)} claims {counts['no']} keep their verdict, {counts['yes']} turn from holds to fails or back, "
        f"and {counts['weakly']} gain or lose a decision. What a claim reads beside verdicts (texts, reasons, records "
        "of the construction) is the run's own in both.",
    ]
    for word, title in (("yes", "Turned"), ("weakly", "Decided by one of the two only")):
        rows = [flip for flip in found if flip.turned == word]
        if rows:
            body = [
                [f.claim.id, f.claim.statement, f.first.word, f.first.numbers, f.second.word, f.second.numbers]
                for f in rows
            ]
            head = ["Id", "Claim", first, "its numbers", judge, "its numbers"]
            table = [head, ["---"] * len(head), *([escape_markdown(cell) for cell in row] for row in body)]
            lines += [f"## {title}", "\n".join("| " + " | ".join(row) + " |" for row in table)]
    return "\n\n".join(lines) + "\n"
