"""`mis data label`: the labels that the paper has large models write, from any OpenAI-compatible endpoint.

A variant is an entry of `VARIANTS`: a training source, our own prompt (`prompts/<variant>.md`), the form of the
answer. What is written lies where `sources.labels` reads it: `<data>/<source>/labels/<variant>.jsonl`, thoughts in
`<data>/thoughts/<source>.jsonl`; a journal of all attempts beside it, and `<variant>.json` with who wrote it and how
the requests ended. A rerun asks only for what failed or was not asked yet; what was refused or malformed in all its
attempts stays so until the prompt or the model is another.

Nothing that a dataset, a prompt or a model says is ever printed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Annotated

from pydantic import AfterValidator

from mis import layout
from mis.construction.asking import CUT_OFF, FAILED, FILTERED, REFUSAL, REFUSED, Client, Shape, read
from mis.construction.participants import NoAnswer
from mis.data.lock import DataError
from mis.mixing import drawing, exclusions, pool, read_mixture
from mis.mixtures import ARMS, Part
from mis.models.remote import ChatMessage, ChatRequest, Reply
from mis.progress import track
from mis.samples import Example
from mis.settings import Labelling, Settings
from mis.sources.labels import BARE
from mis.store import Attempt, Journal, journal_path, publish, write_text_atomic

PROMPTS = Path(__file__).parent / "prompts"
ATTEMPTS = 3  # of an answer that is refused or malformed, each a little freer than the one before
FREER = 0.4  # temperature added each time
SPARE = 0.2  # share of a drawing that is asked in the place of what stays refused or malformed
OK = "ok"
SHORT = {CUT_OFF: "truncated", FILTERED: "filtered", FAILED: "failed", REFUSED: "refused"}  # others are malformed
APOLOGY = re.compile(r"i['’]m sorry\b", re.IGNORECASE)
POINTING = re.compile(r"\b(image|picture|photo)s?\b", re.IGNORECASE)


def _apology(text: str) -> str:
    if not APOLOGY.match(text.strip()):
        raise ValueError("no apology in front")
    return text


def _no_refusal(text: str) -> str:
    if REFUSAL.match(text):
        raise ValueError("a refusal in the place of what is seen")
    return text


def _no_picture(text: str) -> str:
    if POINTING.search(text):
        raise ValueError("still points at a picture")
    return text


class _Label(Shape):
    """What a model fills in."""

    def text(self) -> str:
        """All fields in their order; "" where one of them is blank."""
        parts = [part.strip() for part in self.model_dump().values()]
        return " ".join(parts) if all(parts) else ""


class _Answer(_Label):
    answer: str


class _Sorry(_Label):
    answer: Annotated[str, AfterValidator(_apology)]


class _Reasoned(_Label):
    perception: Annotated[str, AfterValidator(_no_refusal)]
    reasoning: str
    answer: str


class _Question(_Label):
    question: Annotated[str, AfterValidator(_no_picture)]


class _Thought(_Label):
    thought: str


@dataclass(frozen=True)
class Variant:
    """`shows`: are the pictures sent? `released`: the dataset brings this variant; it is written only if told to.

    `question`: the text that comes back is a prompt without pictures, and the answer stays.
    """

    source: str
    shape: type[_Label]
    shows: bool
    released: bool = False
    question: bool = False


VARIANTS: dict[str, Variant] = {
    "safe_answer": Variant("saferlhf", _Answer, shows=False),
    "reasoning": Variant("vlguard", _Reasoned, shows=True),
    "safety_cot": Variant("mis_train", _Reasoned, shows=True, released=True),
    "sorry": Variant("mis_train", _Sorry, shows=False),
    "direct": Variant("mis_train", _Answer, shows=False),
    "text_only": Variant("mis_train", _Question, shows=True, question=True),
}
THOUGHTS = "thoughts"  # of a reasoning base: every source of its mixtures


@dataclass(frozen=True)
class Written:
    """One file of labels, and how its requests ended."""

    path: Path
    outcomes: Counter[str]

    @property
    def unanswered(self) -> int:
        return self.outcomes["failed"]

    def __str__(self) -> str:
        return f"{self.path}: " + ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(self.outcomes.items()))


def label(
    settings: Settings, variant: str, open_client: Callable[[Labelling], Client], anew: bool = False
) -> list[Written]:
    """Writes the labels of a variant, or all thoughts; `open_client` gives who answers (closed by its owner).

    `anew` also writes a variant that the dataset brings, as `<variant>_anew`. Raises :class:`DataError`.
    """
    labelling = settings.sources.labelling.get(variant)
    if variant != THOUGHTS and variant not in VARIANTS:
        raise DataError(f"no labels {variant!r}; known: {', '.join([*VARIANTS, THOUGHTS])}")
    if labelling is None:
        raise DataError(f"sources.labelling: nobody is named for {variant!r}; name an endpoint and a model")
    data = settings.paths.data
    if variant == THOUGHTS:
        client = open_client(labelling)
        return [
            _write(
                client, labelling, THOUGHTS, examples, len(examples), data,
                data / THOUGHTS / f"{source}.jsonl", Variant(source, _Thought, shows=True),
            )
            for source, examples in sorted(_of_thinking_models(settings).items())
        ]  # fmt: skip
    kind = VARIANTS[variant]
    if kind.released and not anew:
        raise DataError(
            f"{kind.source} brings its {variant} labels, and they are used; to write other ones give --anew, and name "
            f"them in the configuration: sources.labels: {{{kind.source}/{variant}: {variant}_anew}}"
        )
    examples, count = wanted(settings, variant)
    path = data / kind.source / "labels" / f"{variant}{'_anew' if kind.released else ''}.jsonl"
    return [_write(open_client(labelling), labelling, variant, examples, count, data, path, kind)]


def wanted(settings: Settings, variant: str) -> tuple[list[Example], int]:
    """The examples that may be labelled, in the order in which arms draw them, and how many labels are needed.

    That is the largest number that an arm takes of this source (all of it, where the dataset is not larger).
    """
    source = VARIANTS[variant].source
    counts = [
        part.count for arm in ARMS.values() for part in arm.parts if part.source == source and part.kind == "safety"
    ]
    part = Part(source, "safety", None if None in counts else max(counts))
    excluded = exclusions(settings.sources.exclusions)
    examples, _ = pool(
        part, settings.paths.data, {}, settings.sources, excluded, full=settings.world is None, labels=BARE
    )
    if not examples:
        raise DataError(f"{settings.paths.data / source}: no harmful inputs to label; the dataset is incomplete")
    ordered = [examples[i] for i in drawing(part, len(examples))]
    return ordered, min(part.count or len(ordered), len(ordered))


def _of_thinking_models(settings: Settings) -> dict[str, list[Example]]:
    """By source: every example that a reasoning model is trained on, each once."""
    arms = {arm for name, model in settings.models.items() if model.thinks for arm in settings.arms_of(name)}
    examples: dict[str, dict[str, Example]] = {}
    for arm in sorted(arm for arm in arms if ARMS[arm].trained):
        for example in read_mixture(layout.mixture(settings, arm)):
            examples.setdefault(example.source, {})[example.id] = example
    if not examples:
        raise DataError(
            "no model of the configuration thinks (`thinks: true`) and is trained; there is nothing to write"
        )
    return {source: list(found.values()) for source, found in examples.items()}


def prompt_version(variant: str) -> str:
    """`<variant>:<digest>` of the prompt's file."""
    content = (PROMPTS / f"{variant}.md").read_bytes()
    return f"{variant}:{hashlib.sha256(content).hexdigest()[:16]}"


def _write(
    client: Client, labelling: Labelling, variant: str, examples: list[Example], count: int, data: Path, path: Path,
    kind: Variant,
) -> Written:  # fmt: skip
    """Asks until `count` examples have a label, or those that may take the place of others are used up."""
    served, version = labelling.served, prompt_version(variant)
    by = f"{served.name}@{served.revision or 'unpinned'} {version} max_tokens={labelling.max_tokens}"
    digests = {example.id: _digest(example, by) for example in examples}
    asking, spare = examples[:count], iter(examples[count : count + int(SPARE * count)])
    requests = {example.id: digests[example.id] for example in asking}
    with Journal(journal_path(path), every=16) as journal:
        tried = Counter(a.key for a in journal.attempts if digests.get(a.key) == a.request and _is_answer(a))
        with track(count, f"label {path.parent.parent.name} {variant}") as advance:
            while asking:
                standing = journal.standing({example.id: digests[example.id] for example in asking})
                pending = [e for e in asking if e.id not in standing or not standing[e.id].ok]
                advance(len(asking) - len(pending))
                askable = [example for example in pending if tried[example.id] < ATTEMPTS]
                failed = _ask(client, labelling, variant, kind, askable, by, data, journal, digests, tried, advance)
                # An unusable answer is asked for again while it may; what failed waits for a rerun.
                standing = journal.standing({example.id: digests[example.id] for example in pending})
                again = [e for e in pending if not standing[e.id].ok and e.id not in failed and tried[e.id] < ATTEMPTS]
                given_up = sum(not standing[e.id].ok and e.id not in failed for e in pending) - len(again)
                more = [example for _, example in zip(range(given_up), spare, strict=False)]
                requests |= {example.id: digests[example.id] for example in more}
                asking = again + more
        rows = publish(journal, path, requests)
    outcomes = Counter(row["outcome"] for row in rows)
    facts = {
        "variant": variant, "model": f"{served.name}@{served.revision or 'unpinned'}", "prompt": version,
        "wanted": count, "outcomes": dict(sorted(outcomes.items())),
    }  # fmt: skip
    write_text_atomic(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    return Written(path, outcomes)


def _ask(
    client: Client, labelling: Labelling, variant: str, kind: Variant, examples: list[Example], by: str, data: Path,
    journal: Journal, digests: Mapping[str, str], tried: Counter[str], advance: Callable[[int], None],
) -> set[str]:  # fmt: skip
    """One attempt at each example; returns the ids whose request failed. Attempts are journalled as they come."""
    by_id = {example.id: example for example in examples}
    failed = set()
    asked = ((e.id, _request(labelling, variant, kind, e, data, tried[e.id])) for e in examples)
    for identity, reply in client.map(asked):
        row = _row(by_id[identity], reply, kind, by)
        journal.append([Attempt(digests[identity], row["outcome"] == OK, row)])
        if row["outcome"] == "failed":
            failed.add(identity)
        else:
            tried[identity] += 1
        advance(row["outcome"] == OK)
    return failed


def _request(
    labelling: Labelling, variant: str, kind: Variant, example: Example, data: Path, tried: int
) -> ChatRequest:
    served = labelling.served
    images = tuple(data / image for image in example.images) if kind.shows else ()
    text = Template((PROMPTS / f"{variant}.md").read_text(encoding="utf-8")).substitute(
        question=example.prompt, answer=example.response
    )
    before = "".join(served.image_text.format(number=k) for k in range(1, len(images) + 1))
    system = (ChatMessage("system", served.system),) if served.system else ()
    return ChatRequest(
        (*system, ChatMessage("user", before + text, images)),
        labelling.max_tokens,
        None if served.temperature is None else round(served.temperature + FREER * tried, 3),
        kind.shape.model_json_schema(),
    )


def _row(example: Example, reply: Reply, kind: Variant, by: str) -> dict:
    """A row of the file of labels."""
    found = read(reply, kind.shape)
    text = "" if isinstance(found, NoAnswer) else found.text()
    outcome = SHORT.get(found.reason, "malformed") if isinstance(found, NoAnswer) else OK if text else "malformed"
    row = {"key": example.id, "id": example.id, "response": text, "outcome": outcome, "by": by}
    if kind.question and outcome == OK:
        row |= {"response": example.response, "prompt": text, "images": []}
    return row


def _digest(example: Example, by: str) -> str:
    """What was asked. Pictures count by name: the lock pins what is in them."""
    content = json.dumps([by, example.id, list(example.images), example.prompt, example.response])
    return hashlib.sha256(content.encode()).hexdigest()


def _is_answer(attempt: Attempt) -> bool:
    return attempt.row.get("outcome") != "failed"
