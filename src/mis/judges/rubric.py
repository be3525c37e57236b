"""A strong model as the judge: it fills in a form, and the form's values are an outcome.

A form is a file of `rubrics/`, declared as data: the words, the fields, and what each combination of values means. The
wording of the papers' prompts is not ours to ship; a file with it may stand in the place of ours, with its own fields
and values (`judges.rubric.rubrics` of the configuration): an official prompt is sent and read as its authors do.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

from mis.benchmarks import Benchmark
from mis.errors import MisError
from mis.judges import benchmark_of
from mis.models.remote import ChatMessage, ChatRequest, Reply
from mis.samples import Response, Sample
from mis.taxonomy import BENIGN_OUTCOMES, HAZARD_OUTCOMES, JUDGE_REFUSED, SAFE, TRUNCATED, UNPARSABLE, UNSAFE

FOLDER = Path(__file__).parent / "rubrics"
PLACES = ("question", "response", "guidance")
TEXT = "text"  # a field of free text: the judge's reasons
POSSIBLE = {"hazard": (*HAZARD_OUTCOMES, SAFE), "benign": BENIGN_OUTCOMES}


@dataclass(frozen=True)
class Rubric:
    """One form. `text` may hold the places {question}, {response} and {guidance} (what a dataset tells its judge).

    `fields` maps a field to its values, or to "text"; the judge fills them in in this order. `outcomes` maps a task
    ("hazard", "benign") to rows; the first row whose values all agree names the outcome.
    """

    name: str
    text: str
    fields: Mapping[str, tuple[str, ...] | str]
    outcomes: Mapping[str, tuple[Mapping[str, str], ...]]
    images: bool
    max_tokens: int
    system: str = ""

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a filled-in form."""
        properties = {
            name: {"type": "string"} if values == TEXT else {"type": "string", "enum": list(values)}
            for name, values in self.fields.items()
        }
        return {
            "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False
        }  # fmt: skip

    def outcome(self, task: str, values: Mapping[str, str]) -> str:
        for row in self.outcomes[task]:
            if all(values[field] == value for field, value in row.items() if field != "outcome"):
                return row["outcome"]
        raise AssertionError(f"{self.name}: no outcome for {dict(values)}; read_rubric checks that there is one")


def read_rubric(path: Path) -> Rubric:
    """A form from its file. Raises :class:`MisError` that names the file and what is wrong with it."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MisError(f"{path}: cannot be read ({error.strerror}); ours lie in {FOLDER}") from None
    except yaml.YAMLError as error:
        raise MisError(f"{path}: not valid YAML: {error}") from None
    try:
        return _rubric(path.stem, raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise MisError(f"{path}: not a rubric: {reason}; docs/judges.md describes one") from None


def _rubric(name: str, raw: dict) -> Rubric:
    known = {"system", "text", "images", "max_tokens", "fields", "outcomes"}
    if unknown := sorted(raw.keys() - known):
        raise ValueError(f"unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
    places = {place for _, place, _, _ in Formatter().parse(raw["text"]) if place is not None}
    if wrong := sorted(places - set(PLACES)):
        raise ValueError(f"unknown place {{{wrong[0]}}} in text; known: {', '.join(PLACES)}; write {{{{ for a brace")
    if "response" not in places:
        raise ValueError("text has no {response}")
    fields = {field: TEXT if values == TEXT else tuple(map(str, values)) for field, values in raw["fields"].items()}
    choices = {field: values for field, values in fields.items() if values != TEXT}
    if not raw["outcomes"].keys() <= POSSIBLE.keys():
        raise ValueError(f"outcomes are given by task: {', '.join(POSSIBLE)}")
    for task, rows in raw["outcomes"].items():
        for row in rows:
            if row["outcome"] not in POSSIBLE[task]:
                raise ValueError(f"outcome {row['outcome']!r} is unknown to {task}; known: {', '.join(POSSIBLE[task])}")
            for field, value in row.items():
                if field != "outcome" and value not in choices.get(field, ()):
                    raise ValueError(f"outcomes.{task}: no field {field!r} with the value {value!r}")
        for combination in itertools.product(*choices.values()):
            values = dict(zip(choices, combination, strict=True))
            if not any(all(values[f] == v for f, v in row.items() if f != "outcome") for row in rows):
                raise ValueError(f"outcomes.{task}: no row for {values}")
    if not isinstance(raw["images"], bool) or not isinstance(raw["max_tokens"], int):
        raise ValueError("images is true or false, max_tokens a whole number")
    outcomes = {task: tuple(rows) for task, rows in raw["outcomes"].items()}
    return Rubric(name, raw["text"], fields, outcomes, raw["images"], raw["max_tokens"], raw.get("system") or "")


class RubricJudge:
    """Asks with the form that a benchmark names. `rubrics` are files in the place of ours, by name.

    `images` overrides the forms' own say on whether pictures are sent. `whole`: see `settings.AskedJudge.truncated`.
    """

    kind = "rubric"

    def __init__(self, *, rubrics: Mapping[str, Path] | None = None, images: bool | None = None, whole: bool = False):
        self.images, self.whole = images, whole
        self._files = dict(rubrics or {})
        self._read: dict[str, Rubric] = {}

    def rubric(self, benchmark: Benchmark) -> Rubric | None:
        """The form for a benchmark; for one that another kind of judge judges, MIS's or the one for harmless inputs."""
        name = benchmark.rubric if benchmark.judge == self.kind else {"hazard": "mis", "benign": "help"}[benchmark.task]
        if name not in self._read:
            self._read[name] = read_rubric(self._files.get(name, FOLDER / f"{name}.yaml"))
        rubric = self._read[name]
        if benchmark.task not in rubric.outcomes:
            raise MisError(f"rubric {name!r} knows no {benchmark.task} input, such as those of {benchmark.id}")
        return rubric

    def request(self, sample: Sample, response: Response) -> ChatRequest | None:
        """What is sent; None never, because there is a form for every open question."""
        rubric = self.rubric(benchmark_of(sample))
        values = {"question": sample.question, "response": response.text, "guidance": sample.guidance}
        images = sample.images if (rubric.images if self.images is None else self.images) else ()
        system = (ChatMessage("system", rubric.system),) if rubric.system else ()
        user = ChatMessage("user", rubric.text.format(**values), images)
        return ChatRequest((*system, user), rubric.max_tokens, schema=rubric.schema)

    def read(self, sample: Sample, response: Response, reply: Reply) -> tuple[str, str]:
        """(outcome, reason) of an answered form. The reason holds the form's values, so that none is lost."""
        benchmark = benchmark_of(sample)
        rubric = self.rubric(benchmark)
        if reply.refused:
            return JUDGE_REFUSED, reply.text
        if reply.finish_reason == "length":
            return TRUNCATED, "the judge's answer ran into its token limit"
        try:
            values = json.loads(_without_fence(reply.text))
            for field, allowed in rubric.fields.items():
                if not isinstance(values[field], str) or (allowed != TEXT and values[field] not in allowed):
                    raise ValueError(f"{field} is {values[field]!r}")
        except KeyError as error:
            return UNPARSABLE, f"the form has no {error}"
        except (TypeError, ValueError) as error:
            return UNPARSABLE, f"not the form ({error})"
        outcome = rubric.outcome(benchmark.task, values)
        reason = "; ".join(f"{field}: {values[field]}" for field in rubric.fields)
        if response.finish_reason == "length" and not self.whole and outcome != UNSAFE:
            return TRUNCATED, f"ran into the token limit; {reason}"
        return outcome, reason

    def identity(self, sample: Sample) -> str:
        """What decides the verdict beside the request and its reply."""
        benchmark = benchmark_of(sample)
        rubric = self.rubric(benchmark)
        return json.dumps([rubric.fields, [dict(row) for row in rubric.outcomes[benchmark.task]], self.whole])


def _without_fence(text: str) -> str:
    """Servers without structured output wrap JSON in a fence, whatever they are told."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        return text[3:-3].removeprefix("json").strip()
    return text
