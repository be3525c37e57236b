"""What is left of the language model's ability in text: how well it reads prose, and what it knows at large.

The prose is the interpreter's own: paragraphs of Python's language reference (`pydoc_data.topics`), there on every
machine and in none of the training sets. It differs between versions of Python, so `run.json` has its SHA-256; nats
are compared between models on one machine. The questions are `questions.yaml`: one right option of four, and the model
takes the one whose words it finds likeliest (log-likelihood summed over its tokens). Chance is a quarter.
"""

from __future__ import annotations

import hashlib
import platform
import re
from pathlib import Path

import numpy as np
import yaml

from mis.errors import MisError
from mis.statistics import cluster_bootstrap, wilson
from mis.store import write_csv_atomic

TOPICS = (
    "objects", "execmodel", "exceptions", "attribute-access", "import", "try", "debugger", "comparisons", "assignment",
)  # fmt: skip
WORDS = 25  # shorter paragraphs are often no prose
BEGUN = "The answer is"

TEXT_COLUMNS = ("text", "window", "tokens", "bytes", "nats")
QUESTION_COLUMNS = ("question", "chosen", "right", "margin")
COLUMNS = ("measure", "n", "value", "low", "high")


def prose(topic: str) -> str:
    """The paragraphs of plain prose of a topic, a line each: no code, no grammar, no lists."""
    from pydoc_data.topics import topics

    try:
        blocks = re.split(r"\n\s*\n", topics[topic])
    except KeyError:
        raise MisError(f"pydoc_data has no topic {topic!r} here; take the Python of environment.yml") from None
    kept = []
    for block in blocks:
        lines = block.splitlines()
        text = " ".join(block.split())
        code = any(line.startswith((" ", "**", "--")) or "::=" in line or "~~" in line for line in lines)
        if not code and len(text.split()) >= WORDS and text.endswith("."):
            kept.append(text)
    return "\n".join(kept)


def questions() -> list[dict]:
    """`question` and `options`, of which the first is right."""
    return yaml.safe_load(Path(__file__).with_name("questions.yaml").read_text(encoding="utf-8"))


def measure(model, out: Path, confidence: float = 0.95) -> dict:
    """Measure a `mis.models.likelihood.TextModel` and write into `out`; returns what `run.json` says of it.

    texts.csv: a row a window of a text, with the tokens that were counted, their bytes, and minus their log-likelihood
    in nats. questions.csv: a row a question, with the option taken, `right` (1 or 0) and by how many nats the right one
    is likelier than the likeliest wrong one. ability.csv: `nats_per_token` and `nats_per_byte` (n texts; the interval
    is over texts), `accuracy` (n questions; a fraction, Wilson's interval).
    """
    texts = [prose(topic) for topic in TOPICS]
    windows = [
        {"text": topic, "window": number, "tokens": read.tokens, "bytes": size, "nats": round(-read.total, 4)}
        for topic, found in zip(TOPICS, model.texts(texts), strict=True)
        for number, (read, size) in enumerate(found)
    ]  # fmt: skip
    sums = {key: np.array([sum(w[key] for w in windows if w["text"] == topic) for topic in TOPICS])
            for key in ("tokens", "bytes", "nats")}  # fmt: skip
    asked = _ask(model)
    right = sum(row["right"] for row in asked)
    summary = [
        ("nats_per_token", len(TOPICS), cluster_bootstrap(sums["nats"], sums["tokens"], confidence)),
        ("nats_per_byte", len(TOPICS), cluster_bootstrap(sums["nats"], sums["bytes"], confidence)),
        ("accuracy", len(asked), wilson(right, len(asked), confidence)),
    ]
    write_csv_atomic(out / "texts.csv", windows, TEXT_COLUMNS)
    write_csv_atomic(out / "questions.csv", asked, QUESTION_COLUMNS)
    rows = [{"measure": m, "n": n} | {k: round(v, 4) for k, v in e._asdict().items()} for m, n, e in summary]
    write_csv_atomic(out / "ability.csv", rows, COLUMNS)
    return {"prose": {"python": platform.python_version(), "topics": list(TOPICS),
                      "sha256": hashlib.sha256("\n\n".join(texts).encode()).hexdigest()}}  # fmt: skip


def _ask(model) -> list[dict]:
    asked = questions()
    prompts = [model.prompt(each["question"]) + BEGUN for each in asked]
    endings = [[f" {option}." for option in each["options"]] for each in asked]
    rows = []
    for each, found in zip(asked, model.continuations(prompts, endings), strict=True):
        totals = [likelihood.total for likelihood in found]
        best = totals.index(max(totals))
        rows.append({"question": each["question"], "chosen": each["options"][best], "right": int(best == 0),
                     "margin": round(totals[0] - max(totals[1:]), 4)})  # fmt: skip
    return rows
