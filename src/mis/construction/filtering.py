"""Step 4: filtering. Experts drop what is riskless or meaningless, near-duplicates go, the rest is classified.

A text that is still dangerous sends its sample to training; a neutral text with an explicitly unsafe picture is easy,
without one hard. A sample that is reserved for one side never reaches the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mis.construction.participants import Classifier, Expert, NoAnswer
from mis.construction.records import EASY, HARD, TRAINING, Candidate, Filtered, Record, Vote
from mis.construction.standing import Standing


def judge(candidates: Sequence[Candidate], experts: Sequence[Expert], classifier: Classifier) -> list[Record]:
    """A :class:`Filtered` or why there is none, one row a candidate, in their order.

    A sample stays if more than half of all experts keep it; an expert without a usable answer does not.
    """
    standing = Standing(candidates)
    votes = _votes(candidates, experts)
    for candidate in standing:
        cast = votes[candidate.id]
        if 2 * sum(vote is not None and vote.keep for vote in cast) <= len(experts):
            standing.drop(candidate.id, _reason(cast), votes=[vote and vote.model_dump() for vote in cast])

    seen: dict[tuple[str, ...], str] = {}
    for candidate in standing:
        text = " ".join(candidate.instruction.text.casefold().split())
        first = seen.setdefault((text, *map(classifier.fingerprint, candidate.pictures)), candidate.id)
        if first != candidate.id:
            standing.drop(candidate.id, "near-duplicate", first=first)

    dangerous = standing.ask(lambda asked: classifier.dangerous([c.instruction for c in asked]))
    explicit = standing.ask(classifier.explicit)
    destinations = {}
    for candidate in standing:
        id = candidate.id
        dangerous[id] = dangerous[id] or bool(candidate.instruction.dangerous_terms)
        if dangerous[id] and candidate.element.reserved == "test":
            standing.drop(id, "dangerous text on a pair reserved for tests")
        elif dangerous[id] or candidate.element.reserved == "training":
            destinations[id] = TRAINING
        else:
            destinations[id] = EASY if any(explicit[id]) else HARD

    return standing.rows(
        lambda candidate: Filtered(
            id=candidate.id,
            votes=votes[candidate.id],
            dangerous_text=dangerous[candidate.id],
            explicit=explicit[candidate.id],
            destination=destinations[candidate.id],
        )
    )


def _votes(candidates: Sequence[Candidate], experts: Sequence[Expert]) -> dict[str, tuple[Vote | None, ...]]:
    """The experts' votes by id; they are asked apart and never see each other's."""
    ballots = [expert.vote(candidates) for expert in experts]
    for expert, ballot in zip(experts, ballots, strict=True):
        if len(ballot) != len(candidates):
            raise ValueError(f"{expert.version} was shown {len(candidates)} samples and gave {len(ballot)} votes")
    return {
        candidate.id: tuple(None if isinstance(ballot[i], NoAnswer) else ballot[i] for ballot in ballots)
        for i, candidate in enumerate(candidates)
    }


def _reason(votes: Sequence[Vote | None]) -> str:
    """What most of those who reject a sample say; of equals, the first."""
    rejecting = [vote for vote in votes if vote is None or not vote.keep]
    reasons = Counter("no usable vote" if vote is None else vote.reason for vote in rejecting)
    return f"experts: {reasons.most_common(1)[0][0]}"
