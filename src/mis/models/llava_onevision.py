"""LLaVA-OneVision, in transformers' own classes, and the processor without its video half.

A single picture is shown whole and in crops of its best resolution; each of several is shown whole, padded to a square.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
)
from transformers.image_processing_utils import select_best_resolution

from mis.errors import MisError
from mis.models.family import FeatureTower, View
from mis.models.llava import Llava


class LlavaOnevisionPictureProcessor(LlavaOnevisionProcessor):
    """`LlavaOnevisionProcessor` for pictures only: the video half wants torchvision (see `processing`)."""

    # What this names is what a saved processor is asked for: no `**kwargs` alone.
    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        num_image_tokens=None,
        vision_feature_select_strategy=None,
        chat_template=None,
        image_token="<image>",
        video_token="<video>",
        vision_aspect_ratio="anyres_max_9",
        **kwargs,
    ):
        super().__init__(
            image_processor, tokenizer, None, num_image_tokens, vision_feature_select_strategy, chat_template,
            image_token, video_token, vision_aspect_ratio,
        )  # fmt: skip

    @classmethod
    def get_attributes(cls):
        return ["image_processor", "tokenizer"]


AutoProcessor.register(LlavaOnevisionConfig, LlavaOnevisionPictureProcessor, exist_ok=True)


class CropTower(FeatureTower):
    """A :class:`FeatureTower` for features of shape (crops, 1, tokens, width), which the network takes for pixels."""

    def forward(self, pixel_values: torch.Tensor, **options):
        return super().forward(pixel_values.flatten(0, 1), **options)


class LlavaOnevision(Llava):
    """A view is (height, width, pictures of the sample). Checkpoints come from the hub; none is made here."""

    network = LlavaOnevisionForConditionalGeneration
    processor = LlavaOnevisionPictureProcessor
    parts = {
        "language_model": ("language_model", "lm_head"),
        "projector": ("multi_modal_projector", "model.image_newline"),
    }

    def image_size(self, processor) -> int:
        size = processor.image_processor.size
        return size["height"] or size["shortest_edge"]

    def image_tokens(self, processor) -> int:
        """Of one crop."""
        return processor.num_image_tokens

    def expected_tokens(self, config, processor) -> int:
        for what, own in (
            ("vision_aspect_ratio", processor.vision_aspect_ratio),
            ("vision_feature_select_strategy", processor.vision_feature_select_strategy),
            ("image_grid_pinpoints", processor.image_processor.image_grid_pinpoints),
        ):
            if _plain(getattr(config, what)) != _plain(own):
                raise MisError(
                    f"{what} is {getattr(config, what)} in the model and {own} in the processor: they are not of one "
                    "checkpoint; copy the processor's files from where the weights came from"
                )
        return super().expected_tokens(config, processor)

    def cuts(self, processor) -> bool:
        return True

    def views(self, processor, sizes: Sequence[tuple[int, int]]) -> tuple[View, ...]:
        return tuple((height, width, len(sizes)) for width, height in sizes)

    def view_tokens(self, processor, view: View) -> int:
        height, width, pictures = view
        cls = processor.vision_feature_select_strategy == "default"
        if pictures > 1:
            return processor.num_image_tokens + 1 - cls  # and the end of a line
        side = self.image_size(processor)
        return processor._get_number_of_features(height, width, side, side) - cls

    def view_rows(self, processor, view: View) -> int:
        height, width, pictures = view
        if pictures > 1:
            return 1
        side = self.image_size(processor)
        rows, columns = select_best_resolution((height, width), processor.image_processor.image_grid_pinpoints)
        return 1 + (rows // side) * (columns // side)

    def _crops(self, processor, image: Image.Image, view: View) -> torch.Tensor:
        """(crops, 3, side, side)."""
        shown = [[image]] if view[2] == 1 else [[image, image]]  # of several pictures none is cut
        return processor.image_processor(shown, return_tensors="pt")["pixel_values"][0]

    def cut(self, processor, images: list[Image.Image], views: Sequence[View]) -> torch.Tensor:
        """(crops of all, 3, side, side)."""
        return torch.cat([self._crops(processor, image, view) for image, view in zip(images, views, strict=True)])

    def batch_inputs(
        self, processor, input_ids: torch.Tensor, pictures: int, views: Sequence[View] = ()
    ) -> dict[str, torch.Tensor]:
        if not pictures:
            return {}
        counts, place = [], 0
        while place < len(views):
            counts.append(views[place][2])
            place += views[place][2]
        return {
            "image_sizes": torch.tensor([view[:2] for view in views]),
            "batch_num_images": torch.tensor(counts),
        }

    def stand_in(self, model) -> nn.Module:
        return CropTower(super().stand_in(model).layers)

    def see(self, tower: nn.Module, processor, pixels: torch.Tensor) -> torch.Tensor:
        return super().see(tower, processor, pixels).unsqueeze(1)


def _plain(value):
    return [list(each) for each in value] if isinstance(value, (list, tuple)) else value
