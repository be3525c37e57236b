"""InternVL's processor without its video half, which needs torchvision.

`InternVLProcessor` cannot be built on a machine without torchvision, because its video processor is required. This
subclass drops it and is registered for `InternVLConfig`, so that `AutoProcessor` returns it for a checkpoint saved
with it; an unregistered one would make `AutoProcessor` return a bare tokenizer without a word. Importing this module
registers it.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoProcessor, InternVLConfig, InternVLProcessor, PreTrainedTokenizerFast

SPECIAL = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
}
IMAGE_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
# InternVL2.5's conversation format, without a system turn; pictures come first, as InternVL counts them.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<IMG_CONTEXT>\n"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class InternVLImageProcessor(InternVLProcessor):
    """`InternVLProcessor` for pictures only. Whether pictures are cut into tiles is the image processor's own word."""

    # The parent forces crop_to_patches=True over the saved configuration, which turns one tile into up to forty.
    images_kwargs: dict = {}

    def __init__(self, image_processor=None, tokenizer=None, image_seq_length: int = 256, chat_template=None, **kwargs):
        kwargs.pop("video_processor", None)
        super().__init__(
            image_processor, tokenizer, None, image_seq_length=image_seq_length, chat_template=chat_template, **kwargs
        )

    @classmethod
    def get_attributes(cls):
        return ["image_processor", "tokenizer"]


AutoProcessor.register(InternVLConfig, InternVLImageProcessor, exist_ok=True)


def word_tokenizer(
    words: Iterable[str],
    special: dict[str, str] = SPECIAL,
    image_tokens: dict[str, str] = IMAGE_TOKENS,
    roles: tuple[str, ...] = ("user", "assistant"),
    chat_template: str = CHAT_TEMPLATE,
) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the words given, split at white space; special tokens and roles stand in front.

    A family has its own `special` and `image_tokens`, by transformers' names, and its own conversation format; those
    of InternVL are the default.
    """
    vocabulary = [*special.values(), *image_tokens.values(), *roles, *sorted(set(words) - set(roles))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        extra_special_tokens=image_tokens,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        **special,
    )
    fast.chat_template = chat_template
    return fast
