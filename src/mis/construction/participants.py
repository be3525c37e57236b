"""Who takes part in a construction: models, people, or the miniature's stand-ins.

Every method takes a batch and answers in its order, so that an implementation may ask a server concurrently or draw on
a GPU in batches. An answer that cannot be used (empty, malformed, refused) is a :class:`NoAnswer`: the step drops the
sample and counts the reason. `version` names everything that decides the answers (model, revision, digests of prompts
and code, seeds): the records of a step are made again when it changes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mis.construction.records import Candidate, Element, Instruction, Picture, Review, Vote

Photos = tuple[Picture, Picture]


@dataclass(frozen=True)
class NoAnswer:
    """An answer that cannot be used, and why: one of few reasons, never the text of the answer."""

    reason: str


@dataclass(frozen=True)
class Proposal:
    """A writer's idea of an unsafe pair. `objects` in image order; `reserved` as in :class:`Element`."""

    category: str
    sub_category: str
    question: str
    objects: tuple[str, str]
    reserved: Literal["", "training", "test"] = ""


@dataclass(frozen=True)
class Detoxified:
    """A text whose explicit words were made neutral, and which they were; no reason where nothing was changed."""

    text: str
    reason: str = ""


@dataclass(frozen=True)
class PaintRequest:
    """One picture to draw. The same request gives the same picture. `round` is 1 or 2."""

    object: str
    prompt: str
    seed: int
    round: int


@dataclass(frozen=True)
class LabelParts:
    perception: str
    reasoning: str
    answer: str


class ElementWriter(Protocol):
    """Step 1 (Qwen2.5-72B and InternVL2.5-78B in the paper)."""

    version: str

    def sources(self) -> Sequence[str]:
        """What it reads, one id a proposal: samples of safety benchmarks."""
        ...

    def propose(self, sources: Sequence[str]) -> Sequence[Proposal | NoAnswer]: ...


class InstructionWriter(Protocol):
    """Step 2. `assess` says why a question is of low quality, "" where it is good."""

    version: str

    def generate(self, elements: Sequence[Element]) -> Sequence[str | NoAnswer]:
        """A question that names both objects."""
        ...

    def assess(self, elements: Sequence[Element], questions: Sequence[str]) -> Sequence[str | NoAnswer]: ...

    def refer(self, elements: Sequence[Element], questions: Sequence[str]) -> Sequence[str | NoAnswer]:
        """The question with each object replaced by a phrase that points to its image."""
        ...

    def detoxify(self, elements: Sequence[Element], texts: Sequence[str]) -> Sequence[Detoxified | NoAnswer]: ...


class Painter(Protocol):
    """Step 3 (Stable Diffusion 3.5 Large in the paper)."""

    version: str

    def prompt(self, object: str) -> str:
        """The first prompt for an object; the reviewer may write a better one."""
        ...

    def paint(self, requests: Sequence[PaintRequest]) -> Sequence[Picture | NoAnswer]: ...


class Reviewer(Protocol):
    """Step 3 (InternVL2.5-78B in the paper): do the two pictures show what the question needs?"""

    version: str

    def review(self, candidates: Sequence[Candidate]) -> Sequence[Review | NoAnswer]: ...


class Screen(Protocol):
    """Step 4, before experts look: takes out what they need not see (near-duplicates, a model's clear cases)."""

    version: str

    def faults(self, candidates: Sequence[Candidate]) -> Sequence[str | NoAnswer]:
        """Why each has no place in MIS, one of few reasons; "" where it may have one."""
        ...


class Expert(Protocol):
    """Step 4 (people and GPT-4o in the paper). `Candidate.proposed` says where each would go."""

    version: str

    def vote(self, candidates: Sequence[Candidate]) -> Sequence[Vote | NoAnswer]: ...


class Classifier(Protocol):
    """Step 4: what decides between training, easy and hard, and what makes two pictures near-duplicates."""

    version: str

    def dangerous(self, instructions: Sequence[Instruction]) -> Sequence[bool | NoAnswer]:
        """Is a text dangerous by itself? Either this or a term that is left in the text makes it so."""
        ...

    def explicit(self, candidates: Sequence[Candidate]) -> Sequence[tuple[bool, bool] | NoAnswer]:
        """Which of the two pictures shows an explicitly unsafe element?"""
        ...

    def fingerprint(self, picture: Picture) -> str:
        """Equal for pictures that are too much alike to be two samples."""
        ...

    def sub_category(self, candidates: Sequence[Candidate], categories: Sequence[str]) -> Sequence[str | NoAnswer]:
        """The sub-category of each within the category that an expert gave it; asked only where one differs."""
        ...


class Labeller(Protocol):
    """Labels for training (InternVL2.5-78B with the safety CoT prompt in the paper)."""

    version: str

    def label(self, candidates: Sequence[Candidate]) -> Sequence[LabelParts | NoAnswer]: ...


class Guard(Protocol):
    """Does a label explain something harmful?"""

    version: str

    def harmful(self, candidates: Sequence[Candidate], labels: Sequence[LabelParts]) -> Sequence[bool | NoAnswer]: ...


class PhotoSource(Protocol):
    """MIS-real: retrieval of real photographs (LAION-2B-en-research-safe in the paper)."""

    version: str

    def find(self, candidates: Sequence[Candidate], seeds: Sequence[int]) -> Sequence[Photos | NoAnswer]:
        """A photograph of each of the two objects; `seeds` choose among several that would do."""
        ...


@dataclass(frozen=True)
class Cast:
    """All who take part. `explicit_terms` are words that no neutral text may hold. Without experts nobody votes."""

    element_writer: ElementWriter
    instruction_writer: InstructionWriter
    painter: Painter
    reviewer: Reviewer
    experts: Sequence[Expert]
    classifier: Classifier
    labeller: Labeller
    guard: Guard
    photo_source: PhotoSource | None
    explicit_terms: Collection[str]
    screens: Sequence[Screen] = ()
