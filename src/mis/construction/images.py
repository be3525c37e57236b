"""Step 3: images. A painter draws each object; a reviewer accepts the pair or writes better prompts; one redraw.

There are exactly two rounds and never a third: a pair that the reviewer does not accept in the second is dropped, with
both rounds in its row. A pair accepted in the first round keeps those pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mis.construction.participants import NoAnswer, Painter, PaintRequest, Photos, Reviewer
from mis.construction.records import Candidate, Drawing, Record, Round, derive_seed
from mis.construction.standing import Standing

ROUNDS = (1, 2)


def draw(candidates: Sequence[Candidate], painter: Painter, reviewer: Reviewer, seed: int) -> list[Record]:
    """A :class:`Drawing` or why there is none, one row a candidate, in their order.

    A picture's seed follows from what it is made for (source, question, object, place, round), not from the order of
    the samples: the same proposal made twice gives the same pictures, and filtering finds the duplicate.
    """
    standing = Standing(candidates)
    prompts = {c.id: tuple(painter.prompt(name) for name in c.element.objects) for c in candidates}
    rounds: dict[str, list[Round]] = {c.id: [] for c in candidates}

    def accepted(id: str) -> bool:
        return bool(rounds[id]) and rounds[id][-1].review.accepted

    def review(shown: Sequence[Candidate], pictures: Sequence[Photos]):
        return reviewer.review([dataclasses.replace(c, pictures=p) for c, p in zip(shown, pictures, strict=True)])

    for number in ROUNDS:
        waiting = {candidate.id for candidate in standing if not accepted(candidate.id)}
        drawn = standing.ask(lambda c, p, number=number: _paint(c, p, painter, seed, number), prompts, among=waiting)
        for id, answer in standing.ask(review, drawn, among=drawn.keys()).items():
            rounds[id].append(Round(pictures=drawn[id], review=answer))
            prompts[id] = answer.prompts

    for candidate in standing:
        if not accepted(candidate.id):
            tried = [one.model_dump(mode="json") for one in rounds[candidate.id]]
            standing.drop(candidate.id, "not accepted in two rounds", rounds=tried)
    return standing.rows(lambda candidate: Drawing(id=candidate.id, rounds=tuple(rounds[candidate.id])))


def _paint(
    candidates: Sequence[Candidate], prompts: Sequence[tuple[str, str]], painter: Painter, seed: int, number: int
) -> list[Photos | NoAnswer]:
    """Both pictures of each candidate in one batch; a candidate without one of them has none."""
    requests = [
        PaintRequest(name, prompt, _seed(seed, candidate, name, place, number), number)
        for candidate, pair in zip(candidates, prompts, strict=True)
        for place, (name, prompt) in enumerate(zip(candidate.element.objects, pair, strict=True))
    ]
    pictures = painter.paint(requests)
    if len(pictures) != len(requests):
        raise ValueError(f"the painter was asked for {len(requests)} pictures and gave {len(pictures)}")
    pairs = zip(pictures[::2], pictures[1::2], strict=True)
    return [next((p for p in pair if isinstance(p, NoAnswer)), pair) for pair in pairs]


def _seed(seed: int, candidate: Candidate, name: str, place: int, number: int) -> int:
    element = candidate.element
    return derive_seed(seed, "images", element.source, element.question, name, str(place), str(number))
