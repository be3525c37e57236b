"""Small LLaVA-1.5 networks of transformers' own classes: CLIP tower, two-layer MLP projector, Llama."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mis.errors import MisError
from mis.models.family import Family, FeatureTower
from mis.models.processing import word_tokenizer
from mis.settings import Pretraining

SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
# LLaVA-1.5's conversation format (Vicuna's, without a system turn): pictures come first.
CHAT_TEMPLATE = (
    "<s>{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {% else %}ASSISTANT: {% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'user' %} {% else %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)


class Llava(Family):
    """The tower's class token is dropped ("default" strategy); every patch is a token."""

    network = LlavaForConditionalGeneration
    processor = LlavaProcessor

    def build_processor(self, words: Iterable[str], image_size: int, patch_size: int) -> LlavaProcessor:
        square = {"height": image_size, "width": image_size}
        tokenizer = word_tokenizer(words, SPECIAL, {"image_token": "<image>"}, ("USER:", "ASSISTANT:"), CHAT_TEMPLATE)
        return LlavaProcessor(
            CLIPImageProcessorPil(size=square, crop_size=square),
            tokenizer,
            patch_size=patch_size,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,  # the class token
            chat_template=CHAT_TEMPLATE,
        )

    def build(
        self, pretraining: Pretraining, processor: LlavaProcessor, image_size: int
    ) -> LlavaForConditionalGeneration:
        vision, text, tokenizer = pretraining.vision, pretraining.text, processor.tokenizer
        config = LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=vision.hidden_size,
                num_hidden_layers=vision.layers,
                num_attention_heads=vision.heads,
                intermediate_size=4 * vision.hidden_size,
                projection_dim=vision.hidden_size,
                image_size=image_size,
                patch_size=vision.patch_size,
            ).to_dict(),
            text_config=LlamaConfig(**self.text_options(text, tokenizer), tie_word_embeddings=True).to_dict(),
            image_token_id=processor.image_token_id,
            image_seq_length=self.image_tokens(processor),
            # LLaVA-1.5 takes the layer before the last; a tower of three layers has none to spare.
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
            tie_word_embeddings=True,
        )
        return self.with_ends(LlavaForConditionalGeneration(config), tokenizer)

    def image_size(self, processor: LlavaProcessor) -> int:
        return processor.image_processor.crop_size["height"]

    def image_tokens(self, processor: LlavaProcessor) -> int:
        return (self.image_size(processor) // processor.patch_size) ** 2

    def expected_tokens(self, config, processor) -> int:
        return (config.vision_config.image_size // config.vision_config.patch_size) ** 2

    def project(self, model, processor, pixels: torch.Tensor) -> torch.Tensor:
        return torch.stack(super().project(model, processor, pixels))

    def take_tower(self, model) -> nn.Module:
        tower = super().take_tower(model)
        tower.shown_layer = model.config.vision_feature_layer
        return tower

    def stand_in(self, model) -> nn.Module:
        return FeatureTower(abs(_from_the_end(model.config)))

    def see(self, tower: nn.Module, processor, pixels: torch.Tensor) -> torch.Tensor:
        return tower(pixel_values=pixels, output_hidden_states=True).hidden_states[tower.shown_layer]


def _from_the_end(config) -> int:
    layer = config.vision_feature_layer
    if not isinstance(layer, int) or layer >= 0:
        raise MisError(f"vision_feature_layer {layer}: only a layer counted from the end is known here")
    return layer
