"""Qwen2-VL, in transformers' own classes, and the processor without its video half.

Rotary tower, 2 x 2 patch merger, and a Qwen2 language model whose rotary positions have three axes (M-RoPE: time,
height, width).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen2VLTextConfig,
    Qwen2VLVisionConfig,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from mis.errors import MisError
from mis.models.family import Family, View
from mis.models.processing import word_tokenizer
from mis.settings import Pretraining

SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
IMAGE_TOKENS = {
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
}
# Qwen2-VL's conversation format, without a system turn.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPORAL = 2  # a still picture is two equal frames, as upstream
MERGE = 2


class Qwen2VLPictureProcessor(Qwen2VLProcessor):
    """`Qwen2VLProcessor` for pictures only: the video half wants torchvision (see `processing`)."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        kwargs.pop("video_processor", None)
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    @classmethod
    def get_attributes(cls):
        return ["image_processor", "tokenizer"]


AutoProcessor.register(Qwen2VLConfig, Qwen2VLPictureProcessor, exist_ok=True)


class MergerTower(nn.Module):
    """In the place of the tower: its input already is the output of the blocks; the merger is left to be trained."""

    def __init__(self, merger: nn.Module, merge_size: int):
        super().__init__()
        self.merger, self.spatial_merge_size = merger, merge_size

    @property
    def dtype(self) -> torch.dtype:
        return next(self.merger.parameters()).dtype

    def forward(self, hidden_states: torch.Tensor, grid_thw=None, **_) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=self.merger(hidden_states))


class Qwen2VL(Family):
    """The tower ends in the merger, which is this family's projector: it is trained while the blocks are frozen.

    A picture of a real checkpoint keeps its shape, and its tokens depend on its size; a view is its patches along time,
    height and width. A miniature's processor has one area for all: each picture is stretched to that square, so that
    one grid serves all.
    """

    network = Qwen2VLForConditionalGeneration
    processor = Qwen2VLPictureProcessor
    parts = {"language_model": ("language_model", "lm_head"), "projector": ("visual.merger",)}

    def build_processor(self, words: Iterable[str], image_size: int, patch_size: int) -> Qwen2VLPictureProcessor:
        images = Qwen2VLImageProcessorPil(
            size={"shortest_edge": image_size**2, "longest_edge": image_size**2},  # areas, by these names
            patch_size=patch_size,
            temporal_patch_size=TEMPORAL,
            merge_size=MERGE,
        )
        tokenizer = word_tokenizer(words, SPECIAL, IMAGE_TOKENS, ("user", "assistant"), CHAT_TEMPLATE)
        return Qwen2VLPictureProcessor(images, tokenizer, chat_template=CHAT_TEMPLATE)

    def build(
        self, pretraining: Pretraining, processor: Qwen2VLPictureProcessor, image_size: int
    ) -> Qwen2VLForConditionalGeneration:
        vision, text, tokenizer = pretraining.vision, pretraining.text, processor.tokenizer
        half = text.hidden_size // text.heads // 2  # rotary frequencies a head
        side = 3 * half // 8
        config = Qwen2VLConfig(
            vision_config=Qwen2VLVisionConfig(
                depth=vision.layers,
                embed_dim=vision.hidden_size,
                hidden_size=text.hidden_size,
                num_heads=vision.heads,
                mlp_ratio=4,
                patch_size=vision.patch_size,
                spatial_merge_size=MERGE,
                temporal_patch_size=TEMPORAL,
            ).to_dict(),
            text_config=Qwen2VLTextConfig(
                **self.text_options(text, tokenizer),
                # Time, height and width share a head's frequencies as 2 : 3 : 3, as upstream (16, 24, 24).
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "mrope_section": [half - 2 * side, side, side],
                },
            ).to_dict(),
            image_token_id=processor.image_token_id,
            video_token_id=processor.video_token_id,
            vision_start_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKENS["vision_bos_token"]),
            vision_end_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKENS["vision_eos_token"]),
            tie_word_embeddings=True,
        )
        return self.with_ends(Qwen2VLForConditionalGeneration(config), tokenizer)

    def cuts(self, processor) -> bool:
        size = processor.image_processor.size
        return size["shortest_edge"] != size["longest_edge"]

    def views(self, processor, sizes: Sequence[tuple[int, int]]) -> tuple[View, ...]:
        images, made = processor.image_processor, []
        for width, height in sizes:
            if max(width, height) > 200 * min(width, height):
                raise MisError(f"a picture of {width} x {height} pixels is too narrow for Qwen2-VL; leave it out")
            rows, columns = smart_resize(
                height,
                width,
                factor=images.patch_size * images.merge_size,
                min_pixels=images.size["shortest_edge"],
                max_pixels=images.size["longest_edge"],
            )
            made.append((1, rows // images.patch_size, columns // images.patch_size))
        return tuple(made)

    def view_tokens(self, processor, view: View) -> int:
        return self.view_rows(processor, view) // processor.image_processor.merge_size**2

    def view_rows(self, processor, view: View) -> int:
        return view[0] * view[1] * view[2]

    def cut(self, processor, images: list[Image.Image], views: Sequence[View]) -> torch.Tensor:
        return processor.image_processor(images, return_tensors="pt")["pixel_values"]

    def see_cut(self, tower: nn.Module, processor, pixels: torch.Tensor, views: Sequence[View]) -> torch.Tensor:
        return tower(pixels, grid_thw=torch.tensor(views, device=pixels.device)).last_hidden_state

    def image_size(self, processor) -> int:
        return round(processor.image_processor.size["longest_edge"] ** 0.5)

    def fit(self, processor, images: list[Image.Image]) -> list[Image.Image]:
        square = (self.image_size(processor),) * 2
        return [image if image.size == square else image.resize(square, Image.Resampling.BICUBIC) for image in images]

    def _grid(self, processor, pictures: int) -> torch.Tensor:
        """Patches of each picture along time, height and width: (pictures, 3)."""
        side = self.image_size(processor) // processor.image_processor.patch_size
        return torch.tensor([[1, side, side]]).expand(pictures, 3)

    def image_tokens(self, processor) -> int:
        """Of the largest picture, where tokens depend on the size."""
        images = processor.image_processor
        return (self.image_size(processor) // images.patch_size // images.merge_size) ** 2

    def expected_tokens(self, config, processor) -> int:
        vision = config.vision_config
        return (self.image_size(processor) // vision.patch_size // vision.spatial_merge_size) ** 2

    def pixel_values(self, processor, pixels: torch.Tensor) -> torch.Tensor:
        """(pictures, patches, values): the image processor's order of patches, merged neighbours side by side."""
        images = processor.image_processor
        size, merge = images.patch_size, images.merge_size
        pictures, channels, height, _ = pixels.shape
        blocks = height // size // merge
        patches = pixels.reshape(pictures, channels, blocks, merge, size, blocks, merge, size)
        patches = patches.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
        patches = patches.expand(*patches.shape[:6], images.temporal_patch_size, size, size)
        return patches.reshape(pictures, (blocks * merge) ** 2, -1)

    def batch_inputs(
        self, processor, input_ids: torch.Tensor, pictures: int, views: Sequence[View] = ()
    ) -> dict[str, torch.Tensor]:
        kinds = (input_ids == processor.image_token_id).int()
        if not pictures:
            return {"mm_token_type_ids": kinds}
        grid = torch.tensor(views) if views else self._grid(processor, pictures)
        return {"mm_token_type_ids": kinds, "image_grid_thw": grid}

    def eyes(self, model) -> dict[str, nn.Module]:
        return {"tower": model.model.visual}

    def take_tower(self, model) -> nn.Module:
        tower = model.model.visual
        model.model.visual = MergerTower(tower.merger, tower.spatial_merge_size)
        tower.merger = nn.Identity()
        return tower

    def put_tower(self, model, tower: nn.Module) -> None:
        tower.merger = model.model.visual.merger
        model.model.visual = tower

    def see(self, tower: nn.Module, processor, pixels: torch.Tensor) -> torch.Tensor:
        states = tower(self.pixel_values(processor, pixels), grid_thw=self._grid(processor, len(pixels)))
        return states.last_hidden_state.unflatten(0, (len(pixels), -1))

    def project(self, model, processor, pixels: torch.Tensor) -> torch.Tensor:
        features = model.model.get_image_features(
            self.pixel_values(processor, pixels), self._grid(processor, len(pixels)), return_dict=True
        )
        return torch.stack(features.pooler_output)
