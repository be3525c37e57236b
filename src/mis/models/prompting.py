"""Ways of asking: the paper's prompt-only methods (Table 15) and ECSO (Table 16), for any model that answers.

A method is a short conversation, held as requests of a single turn each: what was said before stands in the text of
the next one, so that a model needs no training in several turns. The words come from the configuration
(`evaluation.prompts`). The answer's text is what the user would see; the turns that led to it are in its trace.
A multiple-choice sample keeps its options behind the question of the turn that answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mis.errors import MisError
from mis.models import Answer, AnsweringModel
from mis.prompts import user_text, without_thought
from mis.samples import Sample, Turn
from mis.settings import Prompts, Section


@dataclass(eq=False)
class Conversation:
    """One sample on its way to an answer. `said` fills the places of the texts.

    `last` is the last answer; one that failed or was filtered ends the conversation.
    """

    sample: Sample
    said: dict[str, str]
    turns: list[Turn] = field(default_factory=list)
    last: Answer | None = None

    @property
    def open(self) -> bool:
        return self.last is None or self.last.finish_reason in ("stop", "length")


class Asking:
    """A model behind a method; itself an :class:`AnsweringModel`. Subclasses say how they `converse`."""

    def __init__(self, model: AnsweringModel, texts: Section):
        self.model, self.texts = model, texts

    def answer(self, samples: Sequence[Sample]) -> list[Answer]:
        conversations = self.start(samples)
        self.converse(conversations)
        return [replace(each.last, trace=tuple(each.turns)) for each in conversations]

    def start(self, samples: Sequence[Sample]) -> list[Conversation]:
        return [Conversation(sample, {"question": sample.question}) for sample in samples]

    def converse(self, conversations: list[Conversation]) -> None:
        """Turn by turn to the answer, which is left in `last`."""
        raise NotImplementedError

    def turn(
        self,
        conversations: Sequence[Conversation],
        text: str,
        says: str = "",
        *,
        images: bool = True,
        options: bool = False,
    ) -> None:
        """Ask all that are open at once; the answer is known as `says` afterwards.

        Only a turn that answers the user's question shows the `options`.
        """
        asked = [each for each in conversations if each.open]
        requests = [
            replace(
                each.sample,
                question=text.format(**each.said).lstrip(),  # where there is no description
                images=each.sample.images if images else (),
                options=each.sample.options if options else (),
            )
            for each in asked
        ]
        answers = self.model.answer(requests) if requests else []
        for each, request, answer in zip(asked, requests, answers, strict=True):
            each.turns.append(Turn(user_text(request), len(request.images), answer.text))
            each.said[says] = without_thought(answer.text)
            each.last = answer

    def final(self, conversations: Sequence[Conversation], text: str, *, images: bool = True) -> None:
        self.turn(conversations, text, "answer", images=images, options=True)

    def describe(self, conversations: Sequence[Conversation]) -> None:
        """The turn that puts pictures into words; without pictures there is nothing to be described."""
        for each in conversations:
            each.said["description"] = ""
        one = [each for each in conversations if len(each.sample.images) == 1]
        several = [each for each in conversations if len(each.sample.images) > 1]
        self.turn(one, self.texts.describe_one, "description")
        self.turn(several, self.texts.describe_several, "description")

    def judge(self, conversations: Sequence[Conversation], *, images: bool = True) -> set[Conversation]:
        """The turn that judges; returns those that are found unsafe. What cannot be read as that counts as safe."""
        self.turn(conversations, self.texts.judge, "judgement", images=images)
        unsafe = re.compile(rf"\W*{re.escape(self.texts.unsafe)}\b", re.IGNORECASE)
        return {each for each in conversations if each.open and unsafe.match(each.said["judgement"])}


class VanillaCoT(Asking):
    """A request to think step by step behind the question."""

    def converse(self, conversations: list[Conversation]) -> None:
        self.final(conversations, self.texts.answer)


class CustomizedCoT(Asking):
    """First recognise what the pictures show, then answer with that in front of the question."""

    def converse(self, conversations: list[Conversation]) -> None:
        self.describe(conversations)
        self.final(conversations, self.texts.answer)


class CustomizedSafetyCoT(Asking):
    """First judge whether the input is safe; if it is not, write a safety rule and answer with that in front."""

    def converse(self, conversations: list[Conversation]) -> None:
        found = self.judge(conversations)
        unsafe = [each for each in conversations if each in found]
        self.turn(unsafe, self.texts.rule, "rule")
        self.final(unsafe, self.texts.answer)
        self.final([each for each in conversations if each not in found], "{question}")


class EyesClosed(Asking):
    """ECSO (Gou et al., ECCV 2024): answer; judge the answer; if it is harmful, describe the pictures and answer again
    from the description, without pictures.
    """

    def converse(self, conversations: list[Conversation]) -> None:
        self.final(conversations, "{question}")
        first = {each: each.last for each in conversations}
        found = self.judge(conversations)
        unsafe = [each for each in conversations if each in found]
        self.describe(unsafe)
        self.final(unsafe, self.texts.answer, images=False)
        for each in conversations:
            if each.open and each not in found:  # the first answer stands
                each.last = first[each]

    def judge(self, conversations: Sequence[Conversation], **_) -> set[Conversation]:
        return super().judge(conversations, images=self.texts.judge_sees_images)


METHODS: dict[str, type[Asking]] = {
    "vanilla_cot": VanillaCoT,
    "customized_cot": CustomizedCoT,
    "customized_safety_cot": CustomizedSafetyCoT,
    "ecso": EyesClosed,
}


def asking(name: str, model: AnsweringModel, prompts: Prompts | None) -> Asking:
    """`model` asked in the way `name` (`mixtures.Arm.asks`); raises :class:`MisError` for another or without texts."""
    if name not in METHODS:
        raise MisError(f"unknown way of asking {name!r}; known: {', '.join(METHODS)}")
    if prompts is None:
        raise MisError(f"evaluation.prompts: no texts for {name}; see config/mini.yaml")
    return METHODS[name](model, getattr(prompts, name))


def identity(name: str, prompts: Prompts) -> str:
    """What of a way of asking decides an answer: its name and its words."""
    return f"{name} {getattr(prompts, name).model_dump_json()}"
