"""What training and answering need to know of a family of networks: the one place where families differ.

:class:`Family` is the interface and the common case (a tower at `model.vision_tower`, a projector behind it, pictures
as they are); the modules beside it describe what is different about theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

# How a picture is cut, where that depends on its size: numbers that mean something to its family.
View = tuple[int, ...]


class FeatureTower(nn.Module):
    """In the place of a vision tower: its input already is the tower's output, (pictures, tokens, width).

    Whichever of the tower's `layers` the network asks for, counted from the end, it gets that output.
    """

    def __init__(self, layers: int = 1):
        super().__init__()
        self.layers = layers

    def forward(self, pixel_values: torch.Tensor, **_) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(last_hidden_state=pixel_values, hidden_states=(pixel_values,) * self.layers)


class Family:
    """One family, without state. `network` and `processor` are its classes.

    `parts` says where the parts that `Arm.trains` names are in the network.
    """

    network: type
    processor: type
    parts = {"language_model": ("language_model", "lm_head"), "projector": ("multi_modal_projector",)}

    def build_processor(self, words: Iterable[str], image_size: int, patch_size: int, text: Path | None = None):
        """A processor for pictures of `image_size` pixels a side, whose tokenizer has the given words.

        With `text`, the folder of a pretrained language model, the tokenizer is that model's.
        """
        raise NotImplementedError

    def build(self, pretraining, processor, image_size: int):
        """A fresh network with random weights (the caller seeds torch), as the settings' `Pretraining` says."""
        raise NotImplementedError

    @staticmethod
    def text_options(text, tokenizer) -> dict:
        """A language model's sizes and tokens, by the names that transformers' configurations share."""
        return {
            "vocab_size": len(tokenizer),
            "hidden_size": text.hidden_size,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.heads,
            "intermediate_size": 3 * text.hidden_size,
            "max_position_embeddings": 1024,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }

    @staticmethod
    def with_ends(model, tokenizer):
        """`model`, whose generation begins, ends and is padded with the tokenizer's tokens."""
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.generation_config.bos_token_id = tokenizer.bos_token_id
        return model

    # --- Tokens

    def image_tokens(self, processor) -> int:
        """Tokens of a picture, as the processor writes them."""
        return processor.image_seq_length

    def expected_tokens(self, config, processor) -> int:
        """Tokens of a picture, as a network of this configuration wants them for the processor's pictures."""
        return config.image_seq_length

    def picture_text(self, processor, tokens: int | None = None) -> str:
        """What stands in a prompt for a picture, in the place of the chat template's one image token."""
        return processor.image_token * (self.image_tokens(processor) if tokens is None else tokens)

    def batch_inputs(
        self, processor, input_ids: torch.Tensor, pictures: int, views: Sequence[View] = ()
    ) -> dict[str, torch.Tensor]:
        """What the network wants for a batch besides tokens, mask and `pixel_values`; `pictures` may be 0."""
        return {}

    # --- Pictures whose number of tokens depends on their size

    def cuts(self, processor) -> bool:
        """Do a picture's tokens depend on its size? Where not, there are no views, and the five below are not asked."""
        return False

    def views(self, processor, sizes: Sequence[tuple[int, int]]) -> tuple[View, ...]:
        """How each picture of one sample is cut, from all their (width, height) in pixels."""
        raise NotImplementedError

    def view_tokens(self, processor, view: View) -> int:
        """Tokens of a picture that is cut so."""
        raise NotImplementedError

    def view_rows(self, processor, view: View) -> int:
        """Rows along the first axis of such a picture's `pixel_values`, and of what the tower makes of them."""
        raise NotImplementedError

    def cut(self, processor, images: list[Image.Image], views: Sequence[View]) -> torch.Tensor:
        """The network's `pixel_values` of these pictures, one behind the other."""
        raise NotImplementedError

    def see_cut(self, tower: nn.Module, processor, pixels: torch.Tensor, views: Sequence[View]) -> torch.Tensor:
        """What a tower that was taken out makes of :meth:`cut` pictures: (rows, ...)."""
        return self.see(tower, processor, pixels)

    # --- Pictures

    def image_size(self, processor) -> int:
        """The side of a picture in pixels."""
        return processor.image_processor.size["height"]

    def fit(self, processor, images: list[Image.Image]) -> list[Image.Image]:
        """The pictures as they are given to the image processor."""
        return images

    def pixel_values(self, processor, pixels: torch.Tensor) -> torch.Tensor:
        """The network's `pixel_values` of normalised pictures (pictures, 3, side, side)."""
        return pixels

    def project(self, model, processor, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pictures through tower and projector: (pictures, tokens, width of a word vector)."""
        return model.model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output

    # --- The frozen tower

    def eyes(self, model) -> dict[str, nn.Module]:
        """Tower and projector: what the vision stage trains besides the word vectors."""
        return {"tower": model.model.vision_tower, "projector": model.model.multi_modal_projector}

    def take_tower(self, model) -> nn.Module:
        """Take out the frozen tower: from now on the model's `pixel_values` are what :meth:`see` gives.

        The projector stays in the model, to be trained.
        """
        tower = model.model.vision_tower
        model.model.vision_tower = self.stand_in(model)
        return tower

    def stand_in(self, model) -> nn.Module:
        """What stands where the tower was."""
        return FeatureTower()

    def put_tower(self, model, tower: nn.Module) -> None:
        """Undo :meth:`take_tower`."""
        model.model.vision_tower = tower

    def see(self, tower: nn.Module, processor, pixels: torch.Tensor) -> torch.Tensor:
        """What a tower that was taken out makes of normalised pictures: (pictures, tokens, width)."""
        return tower(pixel_values=pixels).last_hidden_state
