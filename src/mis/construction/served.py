"""The participants of a construction as served models: who is asked what, in which form.

What each is asked stands in `prompts/`; which model answers is the configuration's (`settings.Construction`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import create_model

from mis.construction.asking import MALFORMED, REFUSAL, REFUSED, Asker, Question, Shape, fault
from mis.construction.participants import Detoxified, LabelParts, NoAnswer, Proposal
from mis.construction.records import Candidate, Element, Instruction, Picture, Review, derive_seed
from mis.judges.guard import parse
from mis.models.remote import ChatMessage, Reply
from mis.samples import Sample
from mis.taxonomy import CATEGORIES, CATEGORY_OF

KEEP, GOOD = "keep", "good"


class _Pair(Shape):
    sub_category: str
    first_object: str
    second_object: str
    question: str


class _Pairs(Shape):
    pairs: list[_Pair]


class _Question(Shape):
    question: str


class _Assessment(Shape):
    verdict: Literal["good", "riskless pair", "meaningless pair", "not drawable", "one thing is enough"]


class _Text(Shape):
    text: str


class _Detoxified(Shape):
    text: str
    reason: str


class _Review(Shape):
    accepted: bool
    first_prompt: str
    second_prompt: str
    reason: str


class _Screened(Shape):
    verdict: Literal["keep", "riskless pair", "meaningless pair", "unclear pair", "not to be published"]


class _Dangerous(Shape):
    dangerous: bool


class _Explicit(Shape):
    first: bool
    second: bool


class _Label(Shape):
    perception: str
    reasoning: str
    answer: str


class _Harmful(Shape):
    harmful: bool


# Ideas and prompts may vary; whoever judges must not.
ELEMENTS_TEXT = Question("elements_text", _Pairs, 1024, temperature=0.7)
ELEMENTS_IMAGES = Question("elements_images", _Pairs, 1024, temperature=0.7)
QUESTION = Question("question", _Question, 128, temperature=0.7)
ASSESS = Question("assess", _Assessment, 32)
REFER = Question("refer", _Text, 128)
DETOXIFY = Question("detoxify", _Detoxified, 256)
REVIEW = Question("review", _Review, 512)
SCREEN = Question("screen", _Screened, 32)
DANGEROUS = Question("dangerous", _Dangerous, 32)
EXPLICIT = Question("explicit", _Explicit, 32)
LABEL = Question("label", _Label, 768, temperature=0.7)
GUARD = Question("guard", _Harmful, 32)


def sub_category_question(category: str) -> Question:
    """The form allows the sub-categories of one category."""
    choice = Literal[CATEGORIES[category]]
    return Question("sub_category", create_model("SubCategory", __base__=Shape, sub_category=(choice, ...)), 32)


class ElementWriter:
    """Step 1: pairs of objects from samples of safety benchmarks, by one model for text and one for pictures.

    A sample gives `pairs` sources, `<key>#1` to `<key>#<pairs>`, and is asked for once. With a `training_share` each
    pair of objects, in either order, is reserved for training or for tests, decided by `seed` and the names alone.
    """

    def __init__(
        self,
        text: Asker,
        images: Asker,
        samples: Sequence[Sample],
        pairs: int,
        training_share: float = 0.0,
        seed: int = 0,
    ):
        self._text, self._images, self._pairs = text, images, pairs
        self._training_share, self._seed = training_share, seed
        self._samples = {sample.key: sample for sample in samples}
        asked = hashlib.sha256(repr([(s.key, s.question, s.category) for s in samples]).encode()).hexdigest()[:16]
        self.version = (
            f"{text.version(ELEMENTS_TEXT)} | {images.version(ELEMENTS_IMAGES)} | {len(samples)} samples {asked}, "
            f"{pairs} pairs each | for training {training_share:g}, seed {seed}"
        )

    def sources(self) -> list[str]:
        return [f"{key}#{number}" for key in self._samples for number in range(1, self._pairs + 1)]

    def propose(self, sources: Sequence[str]) -> list[Proposal | NoAnswer]:
        names = list(dict.fromkeys(source.rpartition("#")[0] for source in sources))
        written: dict[str, _Pairs | NoAnswer] = {}
        for asker, question, with_images in (
            (self._text, ELEMENTS_TEXT, False),
            (self._images, ELEMENTS_IMAGES, True),
        ):
            asked = [name for name in names if bool(self._samples[name].images) == with_images]
            places = [self._places(self._samples[name]) for name in asked]
            images = [self._samples[name].images for name in asked] if with_images else None
            if asked:
                written |= dict(zip(asked, asker.ask(question, places, images), strict=True))
        return [self._proposal(written[name], int(number)) for name, _, number in (s.rpartition("#") for s in sources)]

    def _places(self, sample: Sample) -> dict[str, str]:
        return {
            "count": str(self._pairs),
            "sub_categories": "; ".join(CATEGORY_OF),
            "category": sample.category or "(none)",
            "sample": sample.question or "(no text)",
        }

    def _proposal(self, answer: _Pairs | NoAnswer, number: int) -> Proposal | NoAnswer:
        if isinstance(answer, NoAnswer):
            return answer
        if number > len(answer.pairs):
            return NoAnswer("fewer pairs than asked for")
        pair = answer.pairs[number - 1]
        return Proposal(
            CATEGORY_OF.get(pair.sub_category, ""),
            pair.sub_category,
            pair.question,
            (pair.first_object.strip(), pair.second_object.strip()),
            self._reserved(pair),
        )

    def _reserved(self, pair: _Pair) -> Literal["", "training", "test"]:
        if not self._training_share:
            return ""
        names = sorted(name.strip().casefold() for name in (pair.first_object, pair.second_object))
        return "training" if derive_seed(self._seed, "training", *names) < self._training_share * 2**63 else "test"


def _pair(element: Element, **more: str) -> dict[str, str]:
    first, second = element.objects
    return {"first": first, "second": second, "sub_category": element.sub_category, **more}


class InstructionWriter:
    """Step 2."""

    def __init__(self, asker: Asker):
        self._asker = asker
        self.version = asker.version(QUESTION, ASSESS, REFER, DETOXIFY)

    def generate(self, elements: Sequence[Element]) -> list[str | NoAnswer]:
        answers = self._asker.ask(QUESTION, [_pair(element, question=element.question) for element in elements])
        return [a if isinstance(a, NoAnswer) else a.question for a in answers]

    def assess(self, elements: Sequence[Element], questions: Sequence[str]) -> list[str | NoAnswer]:
        answers = self._asker.ask(ASSESS, [_pair(e, question=q) for e, q in zip(elements, questions, strict=True)])
        return [a if isinstance(a, NoAnswer) else "" if a.verdict == GOOD else a.verdict for a in answers]

    def refer(self, elements: Sequence[Element], questions: Sequence[str]) -> list[str | NoAnswer]:
        answers = self._asker.ask(REFER, [_pair(e, question=q) for e, q in zip(elements, questions, strict=True)])
        return [a if isinstance(a, NoAnswer) else a.text for a in answers]

    def detoxify(self, elements: Sequence[Element], texts: Sequence[str]) -> list[Detoxified | NoAnswer]:
        answers = self._asker.ask(DETOXIFY, [{"text": text} for text in texts])
        return [a if isinstance(a, NoAnswer) else Detoxified(a.text, a.reason.strip()) for a in answers]


class _Looking:
    """A role that sees the candidates' pictures; their files are named from `folder`."""

    questions: tuple[Question, ...] = ()

    def __init__(self, asker: Asker, folder: Path):
        self._asker, self._folder = asker, folder
        self.version = asker.version(*self.questions)

    def _images(self, candidates: Sequence[Candidate]) -> list[tuple[Path, ...]]:
        return [tuple(self._folder / picture.content["file"] for picture in c.pictures) for c in candidates]


class Reviewer(_Looking):
    """Step 3: accepts a pair of pictures, or writes better prompts for both."""

    questions = (REVIEW,)

    def review(self, candidates: Sequence[Candidate]) -> list[Review | NoAnswer]:
        places = [
            _pair(
                c.element,
                question=c.instruction.named,
                first_prompt=c.pictures[0].prompt,
                second_prompt=c.pictures[1].prompt,
            )
            for c in candidates
        ]
        answers = self._asker.ask(REVIEW, places, self._images(candidates))
        return [self._review(candidate, answer) for candidate, answer in zip(candidates, answers, strict=True)]

    def _review(self, candidate: Candidate, answer: _Review | NoAnswer) -> Review | NoAnswer:
        if isinstance(answer, NoAnswer):
            return answer
        old = (picture.prompt for picture in candidate.pictures)
        new = (prompt.strip() for prompt in (answer.first_prompt, answer.second_prompt))
        return Review(
            accepted=answer.accepted,
            prompts=tuple(n or o for n, o in zip(new, old, strict=True)),
            reason=answer.reason.strip(),
        )


class Screen(_Looking):
    """Step 4: an expert that is a model, before people look."""

    questions = (SCREEN,)

    def faults(self, candidates: Sequence[Candidate]) -> list[str | NoAnswer]:
        places = [_pair(c.element, text=c.instruction.text) for c in candidates]
        answers = self._asker.ask(SCREEN, places, self._images(candidates))
        return [a if isinstance(a, NoAnswer) else "" if a.verdict == KEEP else f"model: {a.verdict}" for a in answers]


class Classifier(_Looking):
    """Step 4: dangerous texts, explicit pictures, and the sub-category where a person corrected the category."""

    questions = (DANGEROUS, EXPLICIT, *map(sub_category_question, list(CATEGORIES)[:1]))

    def dangerous(self, instructions: Sequence[Instruction]) -> list[bool | NoAnswer]:
        answers = self._asker.ask(DANGEROUS, [{"text": instruction.text} for instruction in instructions])
        return [a if isinstance(a, NoAnswer) else a.dangerous for a in answers]

    def explicit(self, candidates: Sequence[Candidate]) -> list[tuple[bool, bool] | NoAnswer]:
        answers = self._asker.ask(EXPLICIT, [{}] * len(candidates), self._images(candidates))
        return [a if isinstance(a, NoAnswer) else (a.first, a.second) for a in answers]

    def sub_category(self, candidates: Sequence[Candidate], categories: Sequence[str]) -> list[str | NoAnswer]:
        """The sub-category of each within the category that a person gave it."""
        found: dict[int, str | NoAnswer] = {}
        for category, within in CATEGORIES.items():
            asked = [i for i, given in enumerate(categories) if given == category]
            if not asked:
                continue
            names = "; ".join(within)
            places = [
                _pair(candidates[i].element, text=candidates[i].instruction.text)
                | {"category": category, "sub_categories": names}
                for i in asked
            ]
            answers = self._asker.ask(sub_category_question(category), places)
            for i, answer in zip(asked, answers, strict=True):
                found[i] = answer if isinstance(answer, NoAnswer) else answer.sub_category
        return [found[i] for i in range(len(categories))]

    def fingerprint(self, picture: Picture) -> str:
        """The digest of the file; near-duplicates are the business of `screening.NearDuplicates`."""
        return picture.content["sha256"]


class Labeller(_Looking):
    questions = (LABEL,)

    def label(self, candidates: Sequence[Candidate]) -> list[LabelParts | NoAnswer]:
        places = [_pair(c.element, text=c.instruction.text) for c in candidates]
        answers = self._asker.ask(LABEL, places, self._images(candidates))
        return [
            a if isinstance(a, NoAnswer) else LabelParts(a.perception.strip(), a.reasoning.strip(), a.answer.strip())
            for a in answers
        ]


class Guard:
    """Reads all three parts of a label: harm may be explained in any of them."""

    def __init__(self, asker: Asker):
        self._asker = asker
        self.version = asker.version(GUARD)

    def harmful(self, candidates: Sequence[Candidate], labels: Sequence[LabelParts]) -> list[bool | NoAnswer]:
        places = [
            {"text": c.instruction.text, "answer": f"{p.perception} {p.reasoning} {p.answer}"}
            for c, p in zip(candidates, labels, strict=True)
        ]
        answers = self._asker.ask(GUARD, places)
        return [a if isinstance(a, NoAnswer) else a.harmful for a in answers]


class LlamaGuard:
    """The same question to a Llama Guard, which has its own chat template and answers "safe" or "unsafe"."""

    def __init__(self, asker: Asker):
        self._asker = asker
        self.version = f"{asker.version()}own chat template"

    def harmful(self, candidates: Sequence[Candidate], labels: Sequence[LabelParts]) -> list[bool | NoAnswer]:
        conversations = [
            (
                ChatMessage("user", c.instruction.text),
                ChatMessage("assistant", f"{p.perception} {p.reasoning} {p.answer}"),
            )
            for c, p in zip(candidates, labels, strict=True)
        ]
        return self._asker.converse("guard", conversations, GUARD.max_tokens, _unsafe)


def _unsafe(reply: Reply) -> bool | NoAnswer:
    if unusable := fault(reply):
        return unusable
    parsed = parse(reply.text)
    if parsed is None:
        return NoAnswer(REFUSED if REFUSAL.match(reply.text) else MALFORMED)
    return parsed[0]
