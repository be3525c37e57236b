"""The conversation as a checkpoint reads it: its chat template, with the tokens of each picture."""

from __future__ import annotations

from collections.abc import Sequence

from mis.models.families import family_of
from mis.models.family import View


def prompt_texts(
    processor, prompts: Sequence[str], image_counts: Sequence[int], views: Sequence[Sequence[View]] | None = None
) -> list[str]:
    """The chat template around user turns, each picture expanded to its tokens.

    `views` says of each prompt how its pictures are cut, where they are. What the tokenizer puts in front of a text of
    its own accord stands there; the texts are to be cut into tokens without special ones.
    """
    family, beginning = family_of(processor), _beginning(processor.tokenizer)
    picture = "" if family.cuts(processor) else family.picture_text(processor)
    texts = []
    for prompt, count, cuts in zip(prompts, image_counts, views or [()] * len(prompts), strict=True):
        content = [{"type": "image"}] * count + [{"type": "text", "text": prompt}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        if beginning and not text.startswith(beginning):
            text = beginning + text
        if cuts:
            text = text.replace(processor.image_token, "\0")
            for view in cuts:
                text = text.replace("\0", family.picture_text(processor, family.view_tokens(processor, view)), 1)
            texts.append(text.replace("\0", processor.image_token))
        else:
            texts.append(text.replace(processor.image_token, picture) if picture else text)
    return texts


def _beginning(tokenizer) -> str:
    """The token that the tokenizer puts in front of every text, as LLaVA-1.5's does; empty where it puts none."""
    ids = tokenizer("")["input_ids"]
    return tokenizer.bos_token if ids and ids[0] == tokenizer.bos_token_id else ""


def answer_tokens(tokenizer, texts: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
    """The tokens of each answer behind its prompt, of which `texts` are the whole texts.

    Behind a prompt that ends its line the answer goes on from there: sentencepiece would begin a text of its own with a
    space, which stands nowhere when the model answers. Elsewhere ("ASSISTANT:") it is one, space included.
    """
    lines = [text[text[:-1].rfind("\n") + 1 :] if text.endswith("\n") else "" for text in texts]
    fronts = tokenizer(lines, add_special_tokens=False)["input_ids"]
    behind = [line + answer for line, answer in zip(lines, answers, strict=True)]
    wholes, alone = (tokenizer(each, add_special_tokens=False)["input_ids"] for each in (behind, list(answers)))
    return [
        whole[len(front) :] if whole[: len(front)] == front else own
        for front, whole, own in zip(fronts, wholes, alone, strict=True)
    ]
