"""Qwen2.5-VL, in transformers' own classes; MiMo-VL is of this architecture too.

Its tower looks at windows of a picture, and so keeps the patches in the windows' order until the merger is through.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import AutoProcessor, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.vision_utils import get_vision_window_index

from mis.models.family import View
from mis.models.qwen2_vl import Qwen2VL


class Qwen25VLPictureProcessor(Qwen2_5_VLProcessor):
    """`Qwen2_5_VLProcessor` for pictures only: the video half wants torchvision (see `processing`)."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        kwargs.pop("video_processor", None)
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    @classmethod
    def get_attributes(cls):
        return ["image_processor", "tokenizer"]


AutoProcessor.register(Qwen2_5_VLConfig, Qwen25VLPictureProcessor, exist_ok=True)


class Qwen25VL(Qwen2VL):
    """As Qwen2-VL outside the tower. Checkpoints come from the hub; none is made here."""

    network = Qwen2_5_VLForConditionalGeneration
    processor = Qwen25VLPictureProcessor

    def see_cut(self, tower: nn.Module, processor, pixels: torch.Tensor, views: Sequence[View]) -> torch.Tensor:
        """In the pictures' own order, so that each can be kept by itself and merged later."""
        grid = torch.tensor(views, device=pixels.device)
        states = tower(pixels, grid_thw=grid).last_hidden_state
        order, _ = get_vision_window_index(
            grid,
            spatial_merge_size=tower.spatial_merge_size,
            window_size=tower.window_size,
            patch_size=tower.patch_size,
        )
        groups = states.unflatten(0, (-1, tower.spatial_merge_size**2))
        in_order = torch.empty_like(groups)
        in_order[order.to(groups.device)] = groups
        return in_order.flatten(0, 1)
