"""The conversation as a checkpoint reads it: its chat template, with the tokens of each picture."""

from __future__ import annotations

from collections.abc import Sequence

from mis.models.families import family_of


def prompt_texts(processor, prompts: Sequence[str], image_counts: Sequence[int]) -> list[str]:
    """The chat template around user turns, each picture expanded to its tokens (one tile a picture)."""
    picture = family_of(processor).picture_text(processor)
    texts = []
    for prompt, count in zip(prompts, image_counts, strict=True):
        content = [{"type": "image"}] * count + [{"type": "text", "text": prompt}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        texts.append(text.replace(processor.image_token, picture))
    return texts
