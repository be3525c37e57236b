"""What follows from the decisions of all annotators: results, disagreements for the adjudicator, a summary.

A pair is settled where all annotators say the same; where they differ, the adjudicator's word counts, as long as it was
given on the decisions that stand now. The reasons of a rejection may differ.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mis.review.agreement import Agreement, measure
from mis.review.ledger import Act, History, digest, request_of
from mis.review.records import ACCEPT, REASONS, REJECT, Decision, Judgement, Result, ReviewError, ReviewItem, to_row
from mis.store import write_jsonl_atomic, write_text_atomic
from mis.taxonomy import CATEGORIES

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")  # of a person: it stands in file names and addresses
OPEN, AGREED, DISPUTED, ADJUDICATED = "open", "agreed", "disputed", "adjudicated"


def journal(record: Path, annotator: str) -> Path:
    return record / "annotators" / f"{annotator}.journal.jsonl"


def adjudication(record: Path) -> Path:
    return record / "adjudication.journal.jsonl"


def check_names(names: Sequence[str]) -> None:
    """Raises :class:`ReviewError` unless names are plain and differ by more than capitals (they name files)."""
    for name in names:
        if not NAME.fullmatch(name):
            raise ReviewError(f"{name!r} is no name: up to 32 letters, digits, - and _, first a letter or digit")
    if len({name.casefold() for name in names}) < len(names):
        raise ReviewError(f"a name twice in {', '.join(names)}; each person needs their own")


@dataclass(frozen=True)
class Case:
    """Where one pair stands. `request` digests what an adjudicator of it is shown; `votes` are the standing acts."""

    item: ReviewItem
    votes: Mapping[str, Act]
    state: str
    request: str = ""
    judgement: Judgement | None = None

    @property
    def differ(self) -> tuple[str, ...]:
        """The questions on which the votes differ."""
        return _differ([act.judgement for act in self.votes.values()])


def _differ(judgements: Sequence[Judgement]) -> tuple[str, ...]:
    if len({judgement.decision for judgement in judgements}) > 1:
        return ("decision",)
    return tuple(name for name in ("category", "difficulty") if len({getattr(j, name) for j in judgements}) > 1)


class Review:
    """Items and what everyone decided about them. `annotators` and `adjudicator` may be ledgers or read histories."""

    def __init__(self, items: Sequence[ReviewItem], annotators: Mapping[str, History], adjudicator: History):
        self.items = items
        self.annotators = annotators
        self.adjudicator = adjudicator
        self.requests = {item.id: request_of(item) for item in items}

    @classmethod
    def read(cls, items: Sequence[ReviewItem], record: Path, names: Sequence[str] = ()) -> Review:
        """From the journals of a record; `names` absent: all annotators that have one. ReviewError without any."""
        names = names or sorted(p.name.partition(".")[0] for p in (record / "annotators").glob("*.journal.jsonl"))
        if not names:
            raise ReviewError(f"{record}: nobody has reviewed anything yet; run `mis review serve`")
        for name in names:
            if not journal(record, name).exists():
                raise ReviewError(f"{journal(record, name)}: no such journal; nobody of this name has reviewed")
        return cls(items, {name: History.read(journal(record, name)) for name in names},
                   History.read(adjudication(record)))  # fmt: skip

    def case(self, item: ReviewItem) -> Case:
        request = self.requests[item.id]
        given = {name: history.standing(item.id, request) for name, history in self.annotators.items()}
        votes = {name: act for name, act in given.items() if act is not None}
        if len(votes) < len(self.annotators):
            return Case(item, votes, OPEN)
        judgements = [act.judgement for act in votes.values()]
        if not _differ(judgements):
            return Case(item, votes, AGREED, judgement=judgements[0])
        # No names in it, and no order that would tell them.
        shown = digest(request, sorted(json.dumps(to_row(judgement)) for judgement in judgements))
        act = self.adjudicator.standing(item.id, shown)
        return Case(item, votes, ADJUDICATED if act else DISPUTED, shown, act and act.judgement)

    def cases(self) -> list[Case]:
        return [self.case(item) for item in self.items]

    def agreement(self, cases: Iterable[Case] | None = None) -> list[Agreement]:
        votes = [{name: act.judgement for name, act in case.votes.items()} for case in cases or self.cases()]
        return measure(votes, list(self.annotators))


def export(review: Review, folder: Path) -> tuple[list[Path], Counter[str]]:
    """Writes decisions, results, a summary as JSON and one to read; returns their paths, and how many pairs stand how.

    The same journals give the same bytes. A pair that is not settled has no result and is counted.
    """
    cases = review.cases()
    paths = [folder / name for name in ("decisions.jsonl", "results.jsonl", "summary.json", "summary.md")]
    names = tuple(sorted(review.annotators))
    write_jsonl_atomic(paths[0], (
        to_row(Decision(case.item.id, name, **to_row(case.votes[name].judgement), time=case.votes[name].time))
        for case in cases for name in names if name in case.votes
    ))  # fmt: skip
    write_jsonl_atomic(paths[1], (
        to_row(Result(case.item.id, case.judgement.decision, case.judgement.category, case.judgement.difficulty,
                      names, case.state == ADJUDICATED))
        for case in cases if case.judgement
    ))  # fmt: skip
    summary = summarise(review, cases)
    write_text_atomic(paths[2], json.dumps(summary, indent=1) + "\n")
    write_text_atomic(paths[3], markdown(summary))
    return paths, Counter(case.state for case in cases)


def summarise(review: Review, cases: Sequence[Case]) -> dict:
    """Counts, results and agreement; kappa is null where it is not defined."""
    states = Counter(case.state for case in cases)
    final = [case for case in cases if case.judgement]
    accepted = [case for case in final if case.judgement.decision == ACCEPT]
    rejections = Counter(
        act.judgement.reason for case in cases for act in case.votes.values() if act.judgement.decision == REJECT
    )
    people = {}
    for name in sorted(review.annotators):
        acts = [case.votes[name] for case in cases if name in case.votes]
        people[name] = {
            "decided": len(acts),
            "accepted": sum(act.judgement.decision == ACCEPT for act in acts),
            "not_looked_at_both": sum(not all(act.looked) for act in acts),
        }
    return {
        "pairs": len(cases),
        **{state: states[state] for state in (AGREED, ADJUDICATED, DISPUTED, OPEN)},
        "annotators": people,
        "accepted": len(accepted),
        "rejected": len(final) - len(accepted),
        "as_proposed": {
            "category": _as_proposed(accepted, "category", "proposed_category"),
            "difficulty": _as_proposed(accepted, "difficulty", "proposed_split"),
        },
        "categories": {
            category: {
                difficulty: sum(
                    (case.judgement.category, case.judgement.difficulty) == (category, difficulty) for case in accepted
                )
                for difficulty in ("easy", "hard")
            }
            for category in CATEGORIES
        },
        "reasons": {reason: rejections[reason] for reason in REASONS},
        "agreement": [found.to_row() for found in review.agreement(cases)],
    }


def _as_proposed(accepted: Sequence[Case], answer: str, proposal: str) -> dict[str, int]:
    """How many of the accepted pairs with a proposal that can be compared got what was proposed."""
    proposed = [case for case in accepted if getattr(case.item, proposal) not in ("", "training")]
    same = sum(getattr(case.judgement, answer) == getattr(case.item, proposal) for case in proposed)
    return {"proposed": len(proposed), "same": same}


def markdown(summary: Mapping) -> str:
    """A summary to read."""
    parts = ["# Review of pairs"]
    parts.append(
        f"{summary['pairs']} pairs: {summary[AGREED]} decided by all alike, {summary[ADJUDICATED]} adjudicated, "
        f"{summary[DISPUTED]} waiting for the adjudicator, {summary[OPEN]} not yet decided by everyone. "
        f"Results: {summary['accepted']} accepted, {summary['rejected']} rejected."
    )
    parts.append(agreement_table(summary["agreement"]))
    parts.append(
        "Fleiss' kappa with its 95 % interval (pairs drawn with replacement). Category and difficulty are compared on "
        "pairs that everyone accepted. A dash: not defined, because there is nothing to compare or everyone always "
        "gave the same answer."
    )
    body = [(name, *(of[column] for column in ("decided", "accepted", "not_looked_at_both")))
            for name, of in summary["annotators"].items()]  # fmt: skip
    parts.append(_table(("annotator", "decided", "accepted", "without looking at both pictures"), body))
    body = [(category, of["easy"], of["hard"]) for category, of in summary["categories"].items()]
    parts.append(_table(("accepted", "easy", "hard"), body))
    parts.append(_table(("annotators' reasons for rejecting", "times"), summary["reasons"].items()))
    same = summary["as_proposed"]
    parts.append(
        "As the construction proposed: "
        + ", ".join(f"{name} of {of['same']} of {of['proposed']}" for name, of in same.items())
        + " accepted pairs that have a proposal."
    )
    return "\n\n".join(parts) + "\n"


def agreement_table(rows: Sequence[Mapping]) -> str:
    """The rows of a summary's `agreement` as a table in Markdown."""
    body = []
    for row in rows:
        share = f"{100 * row['agreed'] / row['pairs']:.1f}" if row["pairs"] else "–"
        kappa = "–" if row["kappa"] is None else f"{row['kappa']:.3f}"
        bounds = "–" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        body.append((row["question"], row["raters"], row["pairs"], row["left_out"], share, kappa, bounds))
    head = ("question", "annotators", "pairs", "left out", "all alike, %", "kappa", "95 % interval")
    return _table(head, body)


def _table(head: Sequence[str], body: Iterable[Sequence]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
