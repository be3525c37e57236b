"""Exact match, the metric of the general benchmarks."""

from __future__ import annotations

from mis.samples import Sample
from mis.taxonomy import CORRECT, INCORRECT

PUNCTUATION = ".,;:!?)"


def verdict(sample: Sample, text: str) -> tuple[str, str]:
    """(outcome, reason) of an answer to a question with one right answer.

    Case, runs of white space and a final period do not matter. The answer picks the option that it equals, or else the
    longest option that it begins with, if a punctuation mark follows ("red , because ..."). What picks no option, or
    another than the right one, is incorrect. Without options the answer is compared with `sample.answer` alone.
    """
    picked = _pick(_normal(text), sample.options or (sample.answer,))
    if picked is None:
        return INCORRECT, "names no option"
    if _normal(picked) == _normal(sample.answer):
        return CORRECT, ""
    return INCORRECT, f"picks {picked!r}, not {sample.answer!r}"


def _pick(text: str, options: tuple[str, ...]) -> str | None:
    begun = []
    for option in options:
        name = _normal(option)
        if text == name:
            return option
        rest = text.removeprefix(name).lstrip()
        if text.startswith(name) and rest[:1] in PUNCTUATION:
            begun.append(option)
    return max(begun, key=len, default=None)


def _normal(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".").rstrip()
