"""Small InternVL networks of transformers' own classes, made from the configuration."""

from __future__ import annotations

from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, LlamaConfig

from mis.models.processing import InternVLImageProcessor
from mis.settings import Pretraining


def image_tokens(image_size: int, patch_size: int) -> int:
    """Tokens a tile after pixel shuffle: (size / patch / 2) squared."""
    return (image_size // patch_size // 2) ** 2


def build(
    pretraining: Pretraining, processor: InternVLImageProcessor, image_size: int
) -> InternVLForConditionalGeneration:
    """A fresh network with random weights (the caller seeds torch): InternViT, pixel shuffle, MLP projector, Llama.

    InternLM2, the text half of InternVL2.5-8B, is a Llama with fused weights.
    """
    vision, text, tokenizer = pretraining.vision, pretraining.text, processor.tokenizer
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=vision.hidden_size,
            num_hidden_layers=vision.layers,
            num_attention_heads=vision.heads,
            intermediate_size=4 * vision.hidden_size,
            image_size=image_size,
            patch_size=vision.patch_size,
        ).to_dict(),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=text.hidden_size,
            num_hidden_layers=text.layers,
            num_attention_heads=text.heads,
            num_key_value_heads=text.heads,
            intermediate_size=3 * text.hidden_size,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ).to_dict(),
        image_token_id=processor.image_token_id,
        image_seq_length=processor.image_seq_length,
        tie_word_embeddings=True,
    )
    model = InternVLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    return model
