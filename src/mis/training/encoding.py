"""From examples to padded batches: chat template, image tokens, labels on the answer alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mis.errors import MisError
from mis.models.chat import prompt_texts
from mis.models.families import family_of
from mis.samples import Example

IGNORED = -100  # a label that the loss leaves out


@dataclass(frozen=True)
class Encoded:
    """One conversation in tokens: `input_ids`, of which the first `prompt_length` carry no loss; `images` in order."""

    key: str
    input_ids: list[int]
    prompt_length: int
    images: tuple[str, ...]


def encode(processor, examples: Sequence[Example], max_length: int) -> list[Encoded]:
    """Tokens of each example. A sample longer than `max_length` is an error with its id: it is never cut."""
    texts = prompt_texts(processor, [e.prompt for e in examples], [len(e.images) for e in examples])
    tokenizer = processor.tokenizer
    prompts = tokenizer(texts, add_special_tokens=False)["input_ids"]
    answers = tokenizer([e.response for e in examples], add_special_tokens=False)["input_ids"]
    encoded = []
    for example, prompt, answer in zip(examples, prompts, answers, strict=True):
        ids = [*prompt, *answer, tokenizer.eos_token_id]
        if len(ids) > max_length:
            raise MisError(
                f"{example.source} {example.id}: {len(ids)} tokens, but training.max_length is {max_length}; raise it "
                "in the configuration or leave the sample out (nothing is cut)"
            )
        encoded.append(Encoded(f"{example.source}/{example.id}", ids, len(prompt), example.images))
    return encoded


class Collator:
    """Pads a batch on the right. `pictures` gives the model's `pixel_values` for a list of paths.

    Returns `input_ids`, `attention_mask`, `labels`: (batch, length) int64; `pixel_values`: (pictures, ...), absent if
    there are none; and what else the family wants. The number of image tokens must fit the pictures; a mismatch is an
    error with the sample's key.
    """

    def __init__(self, processor, pictures):
        self.processor, self.family, self.pictures = processor, family_of(processor), pictures
        self.pad, self.image = processor.tokenizer.pad_token_id, processor.image_token_id
        self.per_image = self.family.image_tokens(processor)

    def __call__(self, batch: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        length = max(len(item.input_ids) for item in batch)
        ids = torch.full((len(batch), length), self.pad)
        labels = torch.full((len(batch), length), IGNORED)
        mask = torch.zeros((len(batch), length), dtype=torch.long)
        for row, item in enumerate(batch):
            tokens = torch.tensor(item.input_ids)
            found = int((tokens == self.image).sum())
            if found != self.per_image * len(item.images):
                raise MisError(
                    f"{item.key}: {found} image tokens for {len(item.images)} pictures of {self.per_image} each"
                )
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
            labels[row, item.prompt_length : len(tokens)] = tokens[item.prompt_length :]
        inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        paths = [path for item in batch for path in item.images]
        if paths:
            inputs["pixel_values"] = self.pictures(paths)
        return inputs | self.family.batch_inputs(self.processor, ids, len(paths))
