"""Step 2: instructions. A question over the named objects, low quality rejected, objects referred to, words detoxified.

Three things are checked here and not left to the writer: that the objects are two, that the first question names both,
and whether the final text still names one of them or holds an explicit term.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from mis.construction.participants import InstructionWriter
from mis.construction.records import Element, Instruction, Record
from mis.construction.standing import Standing


def write(elements: Sequence[Element], writer: InstructionWriter, explicit_terms: Collection[str]) -> list[Record]:
    """An :class:`Instruction` or why there is none, one row an element, in their order."""
    standing = Standing(elements)
    for element in standing:
        if element.objects[0].casefold() == element.objects[1].casefold():
            standing.drop(element.id, "the same object twice")

    named = standing.ask(writer.generate)
    for element in standing:
        if len(mentioned(named[element.id], element.objects)) < 2:
            standing.drop(element.id, "the question does not name both objects")

    for id, reason in standing.ask(writer.assess, named).items():
        if reason:
            standing.drop(id, reason)

    referring = standing.ask(writer.refer, named)
    clean = standing.ask(writer.detoxify, referring)
    for element in standing:
        if not clean[element.id].text.strip():
            standing.drop(element.id, "nothing is left of the text")

    return standing.rows(
        lambda element: Instruction(
            id=element.id,
            named=named[element.id],
            referring=referring[element.id],
            text=clean[element.id].text,
            detoxified_because=clean[element.id].reason,
            dangerous_terms=mentioned(clean[element.id].text, (*element.objects, *sorted(explicit_terms))),
        )
    )


def mentioned(text: str, terms: Sequence[str]) -> tuple[str, ...]:
    """The terms that occur in a text as whole words, in any case, plural included."""
    text = text.casefold()
    candidates = (term for term in terms if term.casefold() in text)  # most terms are not there at all
    return tuple(t for t in candidates if re.search(rf"(?<!\w){re.escape(t.casefold())}(?:e?s)?(?!\w)", text))
