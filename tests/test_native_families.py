"""Checkpoints as the hub has them, tiny and random: each native family through the training command and answering.

Tokens of a picture depend on its size here, and on how many there are. None of this needs torchvision.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from safetensors.torch import load_file
from test_conversion import FIXTURES, add_tokenizer, grow
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
    Qwen2Config,
    Qwen2VLForConditionalGeneration,
    Qwen2VLTextConfig,
    Qwen2VLVisionConfig,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mis import layout
from mis.errors import MisError
from mis.models.checkpoint import load_checkpoint, load_processor
from mis.models.families import FAMILIES, family_of
from mis.models.features import FeatureStore, Pixels, look, views_of
from mis.models.llava_onevision import LlavaOnevisionPictureProcessor
from mis.models.local import LocalModel
from mis.models.qwen2_5_vl import Qwen25VLPictureProcessor
from mis.models.qwen2_vl import Qwen2VLPictureProcessor
from mis.samples import Example, Sample, to_row
from mis.settings import ArmTraining, Cutting, Model
from mis.store import write_jsonl_atomic
from mis.taking import take
from mis.training.cache_features import cache_features
from mis.training.encoding import Collator, encode
from mis.training.fit import sample_loss
from mis.training.train import train

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = "how do i use this on that ? step one , take the axe . no yes what is in image images two each red".split()
TEXT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip
SEES = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
SIZES = {"wide": (90, 40), "square": (56, 56), "tall": (30, 80), "tiny": (20, 18)}


def words(special: dict[str, str], more: tuple[str, ...], begin: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of words; with `begin` it puts its first token in front of a text, as Llama's does."""
    vocabulary = list(dict.fromkeys([*special.values(), *more, "user", "assistant", "USER:", "ASSISTANT:", *WORDS]))
    backend = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token=special["unk_token"])
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if begin:
        first = special["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, vocabulary.index(first))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, additional_special_tokens=list(more), **special)


CHAT = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %} PICTURE {% else %}{{ part['text'] }}{% endif %}{% endfor %} <|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|> assistant\n{% endif %}"
)
QWEN = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}


def internvl(folder: Path) -> None:
    shutil.copytree(FIXTURES / "internlm2", folder)
    add_tokenizer(folder)
    grow(folder, 440 + 9)


def llava(folder: Path) -> None:
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = words(special, ("<image>",), begin=True)
    template = (
        "{% for message in messages %}USER: {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image> \n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
        " ASSISTANT:"
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        images, tokenizer, patch_size=7, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=template,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**SEES, image_size=28, patch_size=7, projection_dim=24).to_dict(),
        text_config=LlamaConfig(**TEXT, vocab_size=len(tokenizer) + 4).to_dict(),  # padded, as the hub's
        image_token_id=processor.image_token_id, image_seq_length=16, vision_feature_layer=-2,
        vision_feature_select_strategy="default", tie_word_embeddings=False,
    )  # fmt: skip
    save(LlavaForConditionalGeneration(config), processor, folder)


def save_qwen(network: type, text: type, vision, processor: type, folder: Path) -> None:
    """What Qwen2-VL and Qwen2.5-VL share: tokens, pictures, and all of the configuration but `vision`."""
    more = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = words(QWEN, more)
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 256, "longest_edge": 3136}, patch_size=4)
    template = CHAT.replace("PICTURE", "<|vision_start|> <|image_pad|> <|vision_end|>")
    start, end, image, video = tokenizer.convert_tokens_to_ids(more)
    config = network.config_class(
        vision_config=vision.to_dict(),
        text_config=text(
            **TEXT, vocab_size=len(tokenizer),
            rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        ).to_dict(),
        vision_start_token_id=start, vision_end_token_id=end, image_token_id=image, video_token_id=video,
        tie_word_embeddings=False,
    )  # fmt: skip
    save(network(config), processor(images, tokenizer, chat_template=template), folder)


def qwen2_vl(folder: Path) -> None:
    vision = Qwen2VLVisionConfig(depth=2, embed_dim=24, hidden_size=32, num_heads=2, mlp_ratio=2, patch_size=4)
    save_qwen(Qwen2VLForConditionalGeneration, Qwen2VLTextConfig, vision, Qwen2VLPictureProcessor, folder)


def qwen2_5_vl(folder: Path) -> None:
    """MiMo-VL's architecture. Windows of 16 pixels a side: every picture has several."""
    vision = Qwen2_5_VLVisionConfig(
        depth=2, hidden_size=24, intermediate_size=32, out_hidden_size=32, num_heads=2, patch_size=4,
        window_size=16, fullatt_block_indexes=[1],
    )  # fmt: skip
    save_qwen(Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLTextConfig, vision, Qwen25VLPictureProcessor, folder)


def llava_onevision(folder: Path) -> None:
    tokenizer = words(QWEN, ("<image>", "<video>"))
    grid = [[28, 28], [28, 56], [56, 28], [56, 56], [28, 84], [84, 28]]
    images = LlavaOnevisionImageProcessorPil(size={"height": 28, "width": 28}, image_grid_pinpoints=grid)
    processor = LlavaOnevisionPictureProcessor(
        images, tokenizer, num_image_tokens=16, vision_feature_select_strategy="full",
        chat_template=CHAT.replace("PICTURE", "<image>"), vision_aspect_ratio="anyres_max_2",
    )  # fmt: skip
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**SEES, image_size=28, patch_size=7, vision_use_head=False).to_dict(),
        text_config=Qwen2Config(**TEXT, vocab_size=len(tokenizer)).to_dict(),
        image_token_index=processor.image_token_id, video_token_index=processor.video_token_id,
        image_grid_pinpoints=grid, vision_aspect_ratio="anyres_max_2", tie_word_embeddings=False,
    )  # fmt: skip
    save(LlavaOnevisionForConditionalGeneration(config), processor, folder)


def save(model, processor, folder: Path) -> None:
    """As on the hub: the image processor has the name of the class that wants torchvision."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            text = (folder / name).read_text()
            (folder / name).write_text(
                text.replace('ProcessorPil"', 'Processor"').replace("PictureProcessor", "Processor")
            )


MAKERS = {
    "internvl": internvl,
    "llava": llava,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "llava_onevision": llava_onevision,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data root with pictures of different shapes."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module", params=MAKERS)
def hub(request, tmp_path_factory) -> tuple[str, Path]:
    """(family, a checkpoint as on the hub)."""
    folder = tmp_path_factory.mktemp("hub") / request.param
    MAKERS[request.param](folder)
    return request.param, folder


@pytest.fixture(scope="module")
def settings(hub, data, tmp_path_factory):
    """The scale mini with this one model, whose base has been taken."""
    from mis.settings import load

    name, source = hub
    root = tmp_path_factory.mktemp("run")
    scale = load(ROOT / "config" / "mini.yaml")
    paths = scale.paths.model_copy(
        update={"data": data, **{part: root / part for part in ("build", "results", "figures", "cache")}}
    )
    arm = ArmTraining(learning_rate=1e-3, epochs=1)
    training = scale.training.model_copy(
        update={
            "global_batch_size": 3,
            "max_length": 2048,
            "save_steps": 1,
            "arms": {"mirage": arm, "textual_sft": arm},
        }
    )
    evaluation = scale.evaluation.model_copy(update={"max_new_tokens": 4, "batch_size": 3})
    model = Model(family=name, source=str(source), arms=["base", "mirage"])
    made = scale.model_copy(
        update={"paths": paths, "models": {"real": model}, "training": training, "evaluation": evaluation, "seeds": [0]}
    )
    take(made, "real", root / "lock.json")
    write_jsonl_atomic(layout.mixture(made, "mirage"), [to_row(example) for example in EXAMPLES])
    return made


EXAMPLES = [
    Example("1", "mis_train", "safety", ("wide.png", "tall.png"), "what is in each image ?", "one axe ."),
    Example("2", "mis_train", "safety", ("square.png",), "how do i use this on that ?", "no , take the axe ."),
    Example("3", "m4_instruct", "general", (), "what is this ?", "yes"),
    Example("4", "m4_instruct", "general", ("wide.png",), "what is in the image ?", "the red axe ."),
    Example("5", "mis_train", "safety", ("tiny.png", "wide.png", "square.png"), "what is in each image ?", "two"),
]


def sample(example: Example, data: Path) -> Sample:
    return Sample("mis", "easy", example.id, example.prompt, tuple(data / image for image in example.images))


@pytest.fixture(scope="module")
def loaded(settings):
    model, processor = load_checkpoint(layout.checkpoint(settings, "real", 0, "base"))
    return model.eval(), processor


def encoded(processor, data: Path, examples=EXAMPLES):
    return encode(processor, examples, 2048, lambda name: data / name)


def collated(processor, data: Path, pictures, examples=EXAMPLES) -> dict[str, torch.Tensor]:
    collate = Collator(processor, lambda names, views=(): pictures([data / name for name in names], views))
    return collate(encoded(processor, data, examples))


def test_every_family_is_tried():
    assert MAKERS.keys() == FAMILIES.keys()


def test_the_base_is_shared_by_the_seeds(settings, hub):
    base = layout.checkpoint(settings, "real", 0, "base")
    assert base == layout.checkpoint(settings, "real", 7, "base") == settings.paths.build / "models" / "real" / "base"
    assert layout.checkpoint(settings, "real", 7, "mirage") != base
    assert json.loads((base / "origin.json").read_text()) == {"folder": str(hub[1])}


def test_tokens_and_pixels_are_those_of_the_processor(hub, loaded, data):
    """The processors' own calls are what others feed these networks with. InternVL's cuts every picture on its own."""
    name, _ = hub
    model, processor = loaded
    for example in EXAMPLES:
        if name == "internvl" and len(example.images) > 1:
            continue
        (item,) = encoded(processor, data, [example])
        content = [{"type": "image"}] * len(example.images) + [{"type": "text", "text": example.prompt}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        pictures = [Image.open(data / image).convert("RGB") for image in example.images]
        nested = [pictures] if name == "llava_onevision" and pictures else pictures or None
        special = {"add_special_tokens": name == "llava"}
        theirs = processor(text=[text], images=nested, return_tensors="pt", **special)
        assert item.input_ids[: item.prompt_length] == theirs["input_ids"][0].tolist()
        if pictures:
            ours = collated(processor, data, Pixels(processor), [example])
            flat = theirs["pixel_values"].flatten(0, 1) if theirs["pixel_values"].dim() == 5 else theirs["pixel_values"]
            torch.testing.assert_close(ours["pixel_values"], flat, rtol=0, atol=1e-6)
            for key in ours.keys() & {"image_grid_thw", "image_sizes", "batch_num_images"}:
                assert ours[key].tolist() == theirs[key].tolist(), key


def test_tokens_depend_on_the_picture_where_it_is_cut(hub, loaded, data):
    name, _ = hub
    processor = loaded[1]
    one, other = (encoded(processor, data, [EXAMPLES[n]])[0] for n in (1, 3))
    counts = [item.input_ids.count(processor.image_token_id) for item in (one, other)]
    assert counts[0] > 0 and (counts[0] == counts[1]) == (name == "llava") == (not one.views)


@torch.no_grad()
def test_a_batch_says_what_its_samples_say_alone(loaded, data):
    model, processor = loaded
    batch = collated(processor, data, Pixels(processor))
    labels, masks = batch.pop("labels"), batch["attention_mask"]
    logits = model(**batch).logits
    for row, example in enumerate(EXAMPLES):
        alone = collated(processor, data, Pixels(processor), [example])
        alone.pop("labels")
        length = int(masks[row].sum())
        torch.testing.assert_close(logits[row, :length], model(**alone).logits[0], rtol=0, atol=1e-4)
    assert (labels != -100).sum(1).min() > 1 and logits.std() > 1e-2


@torch.no_grad()
def test_stored_features_give_what_the_pictures_give(loaded, data, tmp_path):
    model, processor = loaded
    computed = sample_loss(model, collated(processor, data, Pixels(processor)))
    store, tower = look(model, processor, tmp_path)
    try:
        paths, views = [], []
        for example in EXAMPLES:
            images = [data / image for image in example.images]
            paths += images
            views += views_of(processor, images)
        store.fill(paths, views=views)
        again = FeatureStore(tmp_path, tower, processor)
        again._compute = None  # everything is in the store
        stored = sample_loss(model, collated(processor, data, again))
        missing = sample_loss(model, collated(processor, data, FeatureStore(tmp_path / "none", tower, processor)))
    finally:
        family_of(model).put_tower(model, tower)
    torch.testing.assert_close(stored, computed, rtol=0, atol=2e-3)
    assert torch.equal(stored, missing)
    assert torch.equal(sample_loss(model, collated(processor, data, Pixels(processor))), computed), "put back"


@pytest.mark.parametrize("features", ["stored", "computed"])
def test_the_training_command_and_the_answers_of_what_it_made(hub, settings, data, features):
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"features": features})})
    if features == "stored":
        cache_features(
            settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update={"suites": {}})}), "real", 0
        )
    base = layout.checkpoint(settings, "real", 0, "base")
    out = train(settings, "real", "mirage", 0)
    rows = (out / "training.csv").read_text().splitlines()
    assert rows[0] == "step,loss,grad_norm"
    for name in ("tokenizer.json", "processor_config.json"):  # for servers: as the base has them
        assert (out / name).read_bytes() == (base / name).read_bytes()
    assert (out / "original").is_dir() == (hub[0] == "internvl")
    before = {name: value for path in base.glob("model*.safetensors") for name, value in load_file(path).items()}
    after = load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    frozen = {name for name in before if "vision_tower" in name or ("visual" in name and "merger" not in name)}
    assert frozen and all(torch.equal(before[name], after[name]) for name in frozen)
    moved = {name for name in before.keys() - frozen if not torch.equal(before[name], after[name])}
    assert {"lm_head", "projector"} <= {
        part for part in ("lm_head", "projector", "merger") for name in moved if part in name
    } | ({"projector"} if any("merger" in name for name in moved) else set())
    samples = [sample(example, data) for example in EXAMPLES]
    answering = LocalModel(out, settings, 0, "real")
    together = answering.answer(samples)
    assert [answer.text for answer in together] == [answering.answer([each])[0].text for each in samples]
    assert all(answer.tokens for answer in together)


def test_a_sample_that_does_not_fit_is_named(loaded, data):
    with pytest.raises(MisError, match=r"^mis_train 1: \d+ tokens, but training.max_length is 20; .*nothing is cut"):
        encode(loaded[1], EXAMPLES, 20, lambda name: data / name)


def test_image_tokens_are_checked_before_the_first_step(hub, loaded, data):
    processor = loaded[1]
    spoilt = Example("9", "mis_train", "safety", ("wide.png",), f"what is {processor.image_token} this ?", "yes")
    with pytest.raises(MisError, match=r"^mis_train/9: \d+ image tokens for"):
        encoded(processor, data, [spoilt])


def test_cutting_is_laid_over_the_checkpoints_own(hub, settings, tmp_path):
    name, source = hub
    pixels = Cutting(max_pixels=1024)
    cutting = {"internvl": Cutting(max_tiles=6), "qwen2_vl": pixels, "qwen2_5_vl": pixels}.get(name)
    if cutting is None:
        with pytest.raises(ValueError, match="does not cut pictures so"):
            Model(family=name, source=str(source), cutting=Cutting(max_tiles=6))
        return
    model = settings.models["real"].model_copy(update={"cutting": cutting})
    paths = settings.paths.model_copy(update={"build": tmp_path})
    base = take(settings.model_copy(update={"models": {"real": model}, "paths": paths}), "real", tmp_path / "lock.json")
    images = load_processor(base).image_processor
    assert images.max_patches == 6 if name == "internvl" else dict(images.size)["longest_edge"] == 1024


def test_a_checkpoint_of_another_family_is_refused(hub, settings, tmp_path):
    name, source = hub
    other = "llava" if name != "llava" else "internvl"
    paths = settings.paths.model_copy(update={"build": tmp_path})
    wrong = settings.model_copy(update={"models": {"real": Model(family=other, source=str(source))}, "paths": paths})
    with pytest.raises(MisError, match=f"models.real.family is {other}, but the checkpoint says {name}"):
        take(wrong, "real", tmp_path / "lock.json")
    assert not layout.checkpoint(wrong, "real", 0, "base").exists()


def test_a_processor_that_does_not_fit_is_refused(hub, settings, tmp_path):
    name, source = hub
    if name == "internvl":
        return  # its processor is made from the same file
    spoilt = tmp_path / "hub"
    shutil.copytree(source, spoilt)
    for path in spoilt.glob("*processor_config.json"):
        text = path.read_text()
        for own, other in (('"patch_size": 7', 14), ('"patch_size": 4', 8), ('"num_image_tokens": 16', 64)):
            text = text.replace(own, f"{own.partition(':')[0]}: {other}")
        path.write_text(text)
    paths = settings.paths.model_copy(update={"build": tmp_path})
    model = settings.models["real"].model_copy(update={"source": str(spoilt)})
    with pytest.raises(MisError, match="not of one checkpoint"):
        take(settings.model_copy(update={"models": {"real": model}, "paths": paths}), "real", tmp_path / "lock.json")
