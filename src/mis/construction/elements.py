"""Step 1: unsafe elements. A writer proposes a category, a question and two concrete objects; the form is checked."""

from __future__ import annotations

from mis.construction.participants import ElementWriter, NoAnswer, Proposal
from mis.construction.records import Dropped, Element
from mis.taxonomy import CATEGORIES


def extract(writer: ElementWriter) -> list[Element | Dropped]:
    """One row a source of the writer, in its order; ids count from "00000"."""
    sources = writer.sources()
    answers = zip(sources, writer.propose(sources), strict=True)
    return [_element(f"{number:05d}", source, proposal) for number, (source, proposal) in enumerate(answers)]


def _element(id: str, source: str, proposal: Proposal | NoAnswer) -> Element | Dropped:
    if isinstance(proposal, NoAnswer):
        return Dropped(id=id, dropped=proposal.reason)
    if proposal.sub_category not in CATEGORIES.get(proposal.category, ()):
        return Dropped(id=id, dropped="unknown category")
    if not proposal.question.strip() or not all(name.strip() for name in proposal.objects):
        return Dropped(id=id, dropped="a question or an object is missing")
    return Element(
        id=id,
        source=source,
        category=proposal.category,
        sub_category=proposal.sub_category,
        question=proposal.question,
        objects=proposal.objects,
        reserved=proposal.reserved,
    )
