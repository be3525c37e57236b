"""InternVL, in transformers' own classes: small ones made from the configuration, and converted checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, LlamaConfig
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from mis.models.backbone import load_text, load_tokenizer, put_text, text_config
from mis.models.family import Family, View
from mis.models.processing import CHAT_TEMPLATE, IMAGE_TOKENS, SPECIAL, InternVLImageProcessor, word_tokenizer
from mis.settings import Pretraining, TextFolder


class InternVL(Family):
    """InternViT, pixel shuffle, MLP projector, Llama; the place of a picture is marked by tokens around it.

    InternLM2, the text half of InternVL2.5-8B, is a Llama with fused weights. A pretrained language model may stand in
    the place of a fresh one.
    """

    network = InternVLForConditionalGeneration
    processor = InternVLImageProcessor

    def build_processor(
        self, words: Iterable[str], image_size: int, patch_size: int, text: Path | None = None
    ) -> InternVLImageProcessor:
        images = GotOcr2ImageProcessorPil(
            size={"height": image_size, "width": image_size},
            crop_to_patches=False,
            min_patches=1,
            max_patches=1,
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.5, 0.5, 0.5],
        )
        tokenizer = load_tokenizer(text, SPECIAL, IMAGE_TOKENS, CHAT_TEMPLATE) if text else word_tokenizer(words)
        image_tokens = (image_size // patch_size // 2) ** 2  # pixel shuffle makes four tokens one
        return InternVLImageProcessor(
            images, tokenizer, image_seq_length=image_tokens, chat_template=tokenizer.chat_template
        )

    def build(
        self, pretraining: Pretraining, processor: InternVLImageProcessor, image_size: int
    ) -> InternVLForConditionalGeneration:
        vision, text, tokenizer = pretraining.vision, pretraining.text, processor.tokenizer
        pretrained = load_text(text.folder) if isinstance(text, TextFolder) else None
        if pretrained:
            language, tied = text_config(pretrained, tokenizer), pretrained.config.tie_word_embeddings
        else:
            language, tied = LlamaConfig(**self.text_options(text, tokenizer), tie_word_embeddings=True), True
        config = InternVLConfig(
            vision_config=InternVLVisionConfig(
                hidden_size=vision.hidden_size,
                num_hidden_layers=vision.layers,
                num_attention_heads=vision.heads,
                intermediate_size=4 * vision.hidden_size,
                image_size=image_size,
                patch_size=vision.patch_size,
            ).to_dict(),
            text_config=language.to_dict(),
            image_token_id=processor.image_token_id,
            image_seq_length=processor.image_seq_length,
            tie_word_embeddings=tied,
        )
        model = InternVLForConditionalGeneration(config)
        if pretrained:
            put_text(model, pretrained)
        return self.with_ends(model, tokenizer)

    def picture_text(self, processor, tokens: int | None = None) -> str:
        return f"{processor.start_image_token}{super().picture_text(processor, tokens)}{processor.end_image_token}"

    # A picture of a real checkpoint is cut into tiles, with a thumbnail of it all behind them if there are several. The
    # pictures of a sample share the tiles, as in the original's training (OpenGVLab/InternVL, commit 2410d1d,
    # internvl_chat/internvl/train/internvl_chat_finetune.py). A view is (most tiles, tiles with the thumbnail).

    def cuts(self, processor) -> bool:
        return processor.image_processor.crop_to_patches and processor.image_processor.max_patches > 1

    def views(self, processor, sizes: Sequence[tuple[int, int]]) -> tuple[View, ...]:
        images = processor.image_processor
        most = max(1, images.max_patches // max(1, len(sizes)))
        options = {"max_patches": most, "min_patches": min(images.min_patches, most)}
        return tuple(
            (most, images.get_number_of_image_patches(height, width, options) if most > 1 else 1)
            for width, height in sizes
        )

    def view_tokens(self, processor, view: View) -> int:
        return processor.image_seq_length * view[1]

    def view_rows(self, processor, view: View) -> int:
        return view[1]

    def cut(self, processor, images: list[Image.Image], views: Sequence[View]) -> torch.Tensor:
        settings = processor.image_processor
        tiles = [
            settings([image], max_patches=most, min_patches=min(settings.min_patches, most), return_tensors="pt")
            for image, (most, _) in zip(images, views, strict=True)
        ]
        return torch.cat([each["pixel_values"] for each in tiles])
