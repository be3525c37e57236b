"""Step 4: filtering. Experts drop what is riskless or meaningless, near-duplicates go, the rest is classified.

A text that is still dangerous sends its sample to training; a neutral text with an explicitly unsafe picture is easy,
without one hard, unless the experts say otherwise. A sample that is reserved for one side never reaches the other.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from mis.construction.participants import Classifier, Expert, NoAnswer, Screen
from mis.construction.records import EASY, HARD, TRAINING, Candidate, Filtered, Record, Vote
from mis.construction.standing import Standing

Ballot = tuple[Vote | None, ...]


def judge(
    candidates: Sequence[Candidate],
    experts: Sequence[Expert],
    classifier: Classifier,
    screens: Sequence[Screen] = (),
) -> list[Record]:
    """A :class:`Filtered` or why there is none, one row a candidate, in their order.

    Each screen is asked about what the ones before it let through. A sample stays if more than half of all experts keep
    it; an expert without a usable answer does not. Without experts every sample that the screens let through stays.
    """
    standing = Standing(candidates)
    for screen in screens:
        for id, fault in standing.ask(screen.faults).items():
            if fault:
                standing.drop(id, fault)

    # Before the experts, who see where each sample would go.
    dangerous = standing.ask(lambda asked: classifier.dangerous([c.instruction for c in asked]))
    explicit = standing.ask(classifier.explicit)
    for candidate in standing:
        dangerous[candidate.id] |= bool(candidate.instruction.dangerous_terms)
    shown = [
        dataclasses.replace(c, proposed=_destination(c, dangerous[c.id], EASY if any(explicit[c.id]) else HARD))
        for c in standing
    ]

    votes = _votes(shown, experts)
    for candidate in standing:
        cast = votes[candidate.id]
        if experts and 2 * sum(vote is not None and vote.keep for vote in cast) <= len(experts):
            standing.drop(candidate.id, _reason(cast), votes=[vote and vote.model_dump() for vote in cast])

    seen: dict[tuple[str, ...], str] = {}
    for candidate in standing:
        text = " ".join(candidate.instruction.text.casefold().split())
        first = seen.setdefault((text, *map(classifier.fingerprint, candidate.pictures)), candidate.id)
        if first != candidate.id:
            standing.drop(candidate.id, "near-duplicate", first=first)

    corrected = {
        candidate.id: category
        for candidate in standing
        if (category := _most(vote.category for vote in votes[candidate.id] if vote))
        and category != candidate.element.category
    }
    sub_category = standing.ask(classifier.sub_category, corrected, among=corrected.keys()) if corrected else {}
    destinations = {}
    for candidate in standing:
        id = candidate.id
        difficulty = _most(vote.difficulty for vote in votes[id] if vote) or (EASY if any(explicit[id]) else HARD)
        if dangerous[id] and candidate.element.reserved == "test":
            standing.drop(id, "dangerous text on a pair reserved for tests")
        else:
            destinations[id] = _destination(candidate, dangerous[id], difficulty)

    return standing.rows(
        lambda candidate: Filtered(
            id=candidate.id,
            votes=votes[candidate.id],
            dangerous_text=dangerous[candidate.id],
            explicit=explicit[candidate.id],
            destination=destinations[candidate.id],
            category=corrected.get(candidate.id, ""),
            sub_category=sub_category.get(candidate.id, ""),
        )
    )


def _destination(candidate: Candidate, dangerous: bool, difficulty: str) -> str:
    return TRAINING if dangerous or candidate.element.reserved == "training" else difficulty


def _votes(candidates: Sequence[Candidate], experts: Sequence[Expert]) -> dict[str, Ballot]:
    """The experts' votes by id; they are asked apart and never see each other's."""
    ballots = [expert.vote(candidates) for expert in experts]
    for expert, ballot in zip(experts, ballots, strict=True):
        if len(ballot) != len(candidates):
            raise ValueError(f"{expert.version} was shown {len(candidates)} samples and gave {len(ballot)} votes")
    return {
        candidate.id: tuple(None if isinstance(ballot[i], NoAnswer) else ballot[i] for ballot in ballots)
        for i, candidate in enumerate(candidates)
    }


def _most(words) -> str:
    """The word that most say, "" said by nobody; of equals, the first."""
    said = Counter(word for word in words if word)
    return said.most_common(1)[0][0] if said else ""


def _reason(votes: Ballot) -> str:
    """What most of those who reject a sample say; of equals, the first."""
    rejecting = [vote for vote in votes if vote is None or not vote.keep]
    reasons = Counter("no usable vote" if vote is None else vote.reason for vote in rejecting)
    return f"experts: {reasons.most_common(1)[0][0]}"
