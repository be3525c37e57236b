"""How much a construction asks of whom: requests, pictures and people's decisions, before it is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mis.construction import served
from mis.construction.asking import Question, filled
from mis.settings import Construction
from mis.taxonomy import CATEGORIES

TOKENS_A_CHARACTER = 0.25  # of English prose
SAMPLE_TOKENS = 100  # of a question, an instruction or a picture's prompt that is filled in
LABEL_TOKENS = 250


@dataclass(frozen=True)
class Ask:
    """`requests` to the model `model` (a name of the configuration's `construction.models`) in one step and role.

    `images` and `prompt_tokens` a request; `answer_tokens` at most. Tokens are estimated from characters.
    """

    step: str
    role: str
    model: str
    requests: int
    images: int
    prompt_tokens: int
    answer_tokens: int


def at_most(plan: Construction, samples: int, with_pictures: int) -> list[Ask]:
    """Everything that can be asked if no step drops anything; what is dropped is not asked for later.

    `samples` come from the sources, `with_pictures` of them with a picture. Pictures to draw: :func:`pictures`.
    """
    return list(_asks(plan, samples, with_pictures))


def pictures(plan: Construction, samples: int) -> int:
    """Pictures that are drawn at most: two of each pair, in both rounds."""
    return 4 * samples * plan.pairs_per_sample


def decisions(plan: Construction, samples: int) -> int:
    """Decisions of people at most: each pair by each annotator, and the photographs that are shown."""
    if plan.people is None:
        return 0
    shown = plan.splits.real * plan.photographs.choices if plan.photographs else 0
    return plan.people.annotators * (samples * plan.pairs_per_sample + shown)


def _asks(plan: Construction, samples: int, with_pictures: int) -> Iterator[Ask]:
    pairs = samples * plan.pairs_per_sample
    training = round(pairs * (plan.training_share or 1))

    def ask(step: str, role: str, question: Question, requests: int, images: int = 0, more: int = 0) -> Ask:
        examples = plan.few_shot.get(question.prompt, ())
        text = len(_empty(question.prompt, examples)) * TOKENS_A_CHARACTER
        return Ask(
            step, role, getattr(plan, role), requests, images, round(text) + SAMPLE_TOKENS + more, question.max_tokens
        )

    yield ask("elements", "text_writer", served.ELEMENTS_TEXT, samples - with_pictures)
    yield ask("elements", "image_writer", served.ELEMENTS_IMAGES, with_pictures, 1)
    for question in (served.QUESTION, served.ASSESS, served.REFER, served.DETOXIFY):
        yield ask("instructions", "instruction_writer", question, pairs)
    yield ask("images", "reviewer", served.REVIEW, 2 * pairs, 2)
    yield ask("filtering", "screen", served.SCREEN, pairs, 2)
    yield ask("filtering", "classifier", served.DANGEROUS, pairs)
    yield ask("filtering", "classifier", served.EXPLICIT, pairs, 2)
    if plan.people:  # where they correct the category
        yield ask("filtering", "classifier", served.sub_category_question(next(iter(CATEGORIES))), pairs)
    yield ask("labels", "labeller", served.LABEL, training, 2)
    yield ask("labels", "guard", served.GUARD, training, more=LABEL_TOKENS)


def _empty(prompt: str, examples) -> str:
    class Nothing(dict):
        def __missing__(self, place: str) -> str:
            return ""

    return filled(prompt, examples, Nothing())
