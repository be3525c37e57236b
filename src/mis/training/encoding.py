"""From examples to padded batches: chat template, image tokens, labels on the answer alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mis.errors import MisError
from mis.models.chat import answer_tokens, prompt_texts
from mis.models.families import family_of
from mis.models.family import View
from mis.models.features import views_of
from mis.samples import Example

IGNORED = -100  # a label that the loss leaves out


@dataclass(frozen=True)
class Encoded:
    """One conversation in tokens: `input_ids`, of which the first `prompt_length` carry no loss; `images` in order.

    `views` says how each picture is cut; it is empty where every picture is alike.
    """

    key: str
    input_ids: list[int]
    prompt_length: int
    images: tuple[str, ...]
    views: tuple[View, ...] = ()


def encode(
    processor, examples: Sequence[Example], max_length: int, locate: Callable[[str], Path] = Path
) -> list[Encoded]:
    """Tokens of each example. A sample longer than `max_length` is an error with its id: it is never cut.

    So is one whose image tokens do not fit its pictures. `locate` finds a picture's file; it is asked only where tokens
    depend on a picture's size.
    """
    cuts = family_of(processor).cuts(processor)
    views = [views_of(processor, [locate(image) for image in e.images]) if cuts else () for e in examples]
    texts = prompt_texts(processor, [e.prompt for e in examples], [len(e.images) for e in examples], views)
    tokenizer = processor.tokenizer
    prompts = tokenizer(texts, add_special_tokens=False)["input_ids"]
    answers = answer_tokens(tokenizer, texts, [e.response for e in examples])
    encoded = []
    for example, prompt, answer, view in zip(examples, prompts, answers, views, strict=True):
        ids = [*prompt, *answer, tokenizer.eos_token_id]
        if len(ids) > max_length:
            raise MisError(
                f"{example.source} {example.id}: {len(ids)} tokens, but training.max_length is {max_length}; raise it "
                "in the configuration or leave the sample out (nothing is cut)"
            )
        encoded.append(Encoded(f"{example.source}/{example.id}", ids, len(prompt), example.images, view))
        check_pictures(processor, encoded[-1])
    return encoded


def check_pictures(processor, item: Encoded) -> None:
    """The image tokens must be those of the pictures: an error with the sample's key."""
    family, found = family_of(processor), item.input_ids.count(processor.image_token_id)
    if item.views:
        wanted = [family.view_tokens(processor, view) for view in item.views]
        if found != sum(wanted):
            raise MisError(f"{item.key}: {found} image tokens for pictures of {', '.join(map(str, wanted))}")
    elif found != (each := family.image_tokens(processor)) * len(item.images):
        raise MisError(f"{item.key}: {found} image tokens for {len(item.images)} pictures of {each} each")


class Collator:
    """Pads a batch on the right. `pictures` gives the model's `pixel_values` for a list of paths, and of their views
    where pictures are cut.

    Returns `input_ids`, `attention_mask`, `labels`: (batch, length) int64; `pixel_values`: (pictures, ...), absent if
    there are none; and what else the family wants. The number of image tokens must fit the pictures; a mismatch is an
    error with the sample's key.
    """

    def __init__(self, processor, pictures):
        self.processor, self.family, self.pictures = processor, family_of(processor), pictures
        self.pad = processor.tokenizer.pad_token_id

    def __call__(self, batch: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        length = max(len(item.input_ids) for item in batch)
        ids = torch.full((len(batch), length), self.pad)
        labels = torch.full((len(batch), length), IGNORED)
        mask = torch.zeros((len(batch), length), dtype=torch.long)
        for row, item in enumerate(batch):
            tokens = torch.tensor(item.input_ids)
            check_pictures(self.processor, item)
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
            labels[row, item.prompt_length : len(tokens)] = tokens[item.prompt_length :]
        inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        paths = [path for item in batch for path in item.images]
        views = [view for item in batch for view in item.views]
        if paths:
            inputs["pixel_values"] = self.pictures(paths, views) if views else self.pictures(paths)
        return inputs | self.family.batch_inputs(self.processor, ids, len(paths), views)
