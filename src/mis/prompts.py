"""The words around a question, and around a thought. Every model at every scale gets its text from here."""

from mis.samples import Sample


def user_text(sample: Sample) -> str:
    """The text of the user's turn. A multiple-choice question lists its options by name, not by letter.

    The miniature's language is lower-case words with spaces around punctuation; a small model trained from scratch
    learns to answer with an option's name but stays at chance with letters.
    """
    if not sample.options:
        return sample.question
    return f"{sample.question} options : {' , '.join(sample.options)}"


THINK = "<think>", "</think>"  # the tags of reasoning models


def thoughtful(thought: str, answer: str) -> str:
    """An answer with a thought in front."""
    return f"{THINK[0]} {thought} {THINK[1]} {answer}"


def without_thought(text: str) -> str:
    """What a reasoning model says after its thought; all of it where no thought ends."""
    return text.rpartition(THINK[1])[2].strip()
