"""Every family of networks does what training and answering rely on; tiny networks with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from mis import settings as configuration
from mis.errors import MisError
from mis.mixtures import ARMS
from mis.models.chat import prompt_texts
from mis.models.checkpoint import load_checkpoint
from mis.models.families import FAMILIES, family_of
from mis.models.features import FeatureStore, load_pixels, tower_digest
from mis.samples import Example
from mis.settings import Pretraining, Stage, TextModel, VisionTower
from mis.training.encoding import Collator, Encoded, encode
from mis.training.fit import sample_loss
from mis.training.train import freeze

WORDS = "how do i use this on that ? step one , take the axe . no yes what is in image images two each red".split()
STAGE = Stage(steps=1, batch_size=1, learning_rate=1e-3)
PATCH = {"internvl": 8, "llava": 12, "qwen2_vl": 8}
TOKENS = {"internvl": 9, "llava": 16, "qwen2_vl": 9}
MADE = tuple(PATCH)  # the families that are also made here; real checkpoints of all: test_native_families.py


def shape(patch_size: int) -> Pretraining:
    return Pretraining(
        vision=VisionTower(hidden_size=32, layers=2, heads=2, patch_size=patch_size),
        text=TextModel(hidden_size=32, layers=2, heads=2),
        vision_stage=STAGE,
        assistant_stage=STAGE,
        threads=1,
    )


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{n}.png" for n in range(8)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module", params=MADE)
def made(request):
    """(name, family, network, processor); the weights are large enough for every part to matter."""
    family = FAMILIES[request.param]
    processor = family.build_processor(WORDS, 48, PATCH[request.param])
    torch.manual_seed(0)
    model = family.build(shape(PATCH[request.param]), processor, 48).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15)
    return request.param, family, model, processor


def example(prompt: str, response: str, images: tuple[str, ...] = (), id: str = "7") -> Example:
    return Example(id, "mis_train", "safety", images, prompt, response)


@pytest.fixture(scope="module")
def examples(pictures):
    a, b, c = (str(path) for path in pictures[:3])
    return [
        example("what is in each image ?", "one axe .", (a, b)),
        example("what is this ?", "yes"),
        example("how do i use this on that ? what is in the image ?", "take the axe , step two", (c,)),
    ]


def batch_of(family, processor, examples) -> dict[str, torch.Tensor]:
    """A batch with the pictures themselves, not with a tower's outputs."""
    collate = Collator(processor, lambda paths: family.pixel_values(processor, load_pixels(processor, paths)))
    return collate(encode(processor, examples, 256))


def without_labels(batch):
    return {key: value for key, value in batch.items() if key != "labels"}


@torch.no_grad()
def test_a_checkpoint_loads_like_any_other_and_says_the_same(made, examples, tmp_path):
    name, family, model, processor = made
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    reader = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is family.network and type(reader) is family.processor
    assert family_of(again) is family_of(reader) is family and again.config.model_type == name
    inputs, others = (without_labels(batch_of(family, p, examples)) for p in (processor, reader))
    assert inputs.keys() == others.keys() and all(torch.equal(inputs[key], others[key]) for key in inputs)
    logits = model(**inputs).logits
    assert torch.equal(again(**others).logits, logits)
    assert logits.std() > 1e-2, "a network that says nothing would agree with any other"
    assert model.lm_head.weight is model.get_input_embeddings().weight
    loaded, found = load_checkpoint(tmp_path)
    assert torch.equal(loaded.eval()(**others).logits, logits) and type(found) is type(reader)


@torch.no_grad()
def test_prompts_and_pictures_are_those_of_the_processor(made, pictures, tmp_path):
    name, family, model, processor = made
    assert family.image_tokens(processor) == family.expected_tokens(model.config, processor) == TOKENS[name]
    paths = [*pictures[:2], tmp_path / "large.png", tmp_path / "grey.png"]
    Image.open(pictures[3]).resize((448, 448)).save(paths[2])
    Image.open(pictures[4]).convert("L").save(paths[3])
    for count in (0, 1, 2, 4):
        content = [{"type": "image"}] * count + [{"type": "text", "text": "what is in each image ?"}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        images = [Image.open(path).convert("RGB") for path in paths[:count]] or None
        theirs = processor(text=text, images=images, return_tensors="pt")
        ours = processor.tokenizer(prompt_texts(processor, ["what is in each image ?"], [count])[0])["input_ids"]
        assert ours == theirs["input_ids"][0].tolist()
        assert ours.count(processor.image_token_id) == TOKENS[name] * count
        assert processor.tokenizer.unk_token_id not in ours
        ids = torch.tensor([ours])
        inputs = {"input_ids": ids, **family.batch_inputs(processor, ids, count)}
        if count:
            inputs["pixel_values"] = family.pixel_values(processor, load_pixels(processor, paths[:count]))
            pixels = inputs["pixel_values"].reshape(theirs["pixel_values"].shape)
            torch.testing.assert_close(pixels, theirs["pixel_values"], rtol=0, atol=1e-6)
        for key in inputs.keys() - {"pixel_values"}:
            assert torch.equal(inputs[key], theirs[key].to(inputs[key].dtype)), key
        torch.testing.assert_close(model(**inputs).logits, model(**theirs).logits, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_order_of_pictures_matters(made, examples):
    _, family, model, processor = made
    first = examples[0]
    swapped = example(first.prompt, first.response, first.images[::-1])
    one, other = (without_labels(batch_of(family, processor, [e])) for e in (first, swapped))
    assert torch.equal(one["input_ids"], other["input_ids"])
    assert (model(**one).logits[:, -1] - model(**other).logits[:, -1]).abs().max() > 1e-2


@torch.no_grad()
def test_stored_features_give_the_loss_of_the_pictures(made, examples, pictures, tmp_path):
    _, family, model, processor = made
    names, before = set(model.state_dict()), model.state_dict()
    expected = sample_loss(model, batch_of(family, processor, examples))
    tower = family.take_tower(model)
    try:
        digest = tower_digest(tower)
        exact = Collator(processor, lambda paths: family.see(tower, processor, load_pixels(processor, paths)))
        items = encode(processor, examples, 256)
        torch.testing.assert_close(sample_loss(model, exact(items)), expected, rtol=0, atol=1e-6)
        store = FeatureStore(tmp_path, tower, processor)
        store.fill(pictures[:3])
        assert store(pictures[:2]).shape[0] == 2
        stored = sample_loss(model, Collator(processor, FeatureStore(tmp_path, tower, processor))(items))
        assert 0 < (stored - expected).abs() < 5e-3, "half precision"
        # What is trained stays in the model, and is no part of the tower that features are keyed by.
        freeze(model, ("projector",))
        projector = [p for p in model.parameters() if p.requires_grad]
        assert projector
        projector[0].add_(1.0)
        assert tower_digest(tower) == digest
        assert not torch.equal(sample_loss(model, exact(items)), expected)
        projector[0].sub_(1.0)
    finally:
        family.put_tower(model, tower)
        model.requires_grad_(True)
    assert set(model.state_dict()) == names
    assert all(value is before[key] or torch.equal(value, before[key]) for key, value in model.state_dict().items())
    torch.testing.assert_close(sample_loss(model, batch_of(family, processor, examples)), expected)


@torch.no_grad()
def test_padding_changes_nothing(made, examples):
    _, family, model, processor = made
    together = batch_of(family, processor, examples)
    logits = model(**without_labels(together)).logits
    for row, each in enumerate(examples):
        alone = without_labels(batch_of(family, processor, [each]))
        length = alone["input_ids"].shape[1]
        torch.testing.assert_close(logits[row, :length], model(**alone).logits[0], rtol=0, atol=1e-4)


def test_generation_follows_the_forward_pass(made, examples, pictures):
    """Left padding, a static cache, cached features; texts and pictures before and after each other."""
    _, family, model, processor = made
    tower = family.take_tower(model)
    see = lambda paths: family.see(tower, processor, load_pixels(processor, paths))  # noqa: E731
    try:
        with torch.no_grad():
            for group in (examples, examples[:1], examples[1:2], examples[2:], examples[1:2]):
                texts = prompt_texts(processor, [e.prompt for e in group], [len(e.images) for e in group])
                tokens = processor.tokenizer(
                    texts, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt"
                )
                inputs = {key: tokens[key] for key in ("input_ids", "attention_mask")}
                paths = [path for e in group for path in e.images]
                if paths:
                    inputs["pixel_values"] = see(paths)
                inputs |= family.batch_inputs(processor, inputs["input_ids"], len(paths))
                output = model.generate(
                    **inputs, max_new_tokens=4, do_sample=False, cache_implementation="static", disable_compile=True
                )
                for row, each in enumerate(group):
                    ids = tokens["input_ids"][row][tokens["attention_mask"][row].bool()][None]
                    for step in range(4):
                        alone = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
                        if each.images:
                            alone["pixel_values"] = see(list(each.images))
                        alone |= family.batch_inputs(processor, ids, len(each.images))
                        token = int(model(**alone).logits[0, -1].argmax())
                        assert int(output[row, tokens["input_ids"].shape[1] + step]) == token
                        if token == processor.tokenizer.eos_token_id:
                            break
                        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    finally:
        family.put_tower(model, tower)


def test_freezing_follows_the_declaration(made):
    name, family, model, _ = made
    projector = "model.visual.merger." if name == "qwen2_vl" else "model.multi_modal_projector."
    try:
        for trains in {arm.trains for arm in ARMS.values() if arm.trained}:
            freeze(model, trains)
            for key, parameter in model.named_parameters():
                part = (
                    "projector" if key.startswith(projector)
                    else "language_model" if key.startswith(("model.language_model.", "lm_head."))
                    else "vision_tower"
                )  # fmt: skip
                assert parameter.requires_grad == (part in trains), key
    finally:
        model.requires_grad_(True)


def test_a_sample_whose_image_tokens_do_not_fit_is_named(made, examples, pictures):
    name, family, _, processor = made
    (item,) = encode(processor, examples[:1], 256)
    cut = item.input_ids.index(processor.image_token_id)
    short = Encoded(item.key, item.input_ids[:cut] + item.input_ids[cut + 1 :], item.prompt_length - 1, item.images)
    collate = Collator(processor, lambda paths: load_pixels(processor, paths))
    count = 2 * TOKENS[name] - 1
    with pytest.raises(MisError, match=rf"^mis_train/7: {count} image tokens for 2 pictures of {TOKENS[name]} each"):
        collate([short])


@pytest.mark.parametrize("name", MADE)
def test_the_seed_decides_a_network(name):
    family, weights = FAMILIES[name], []
    processor = family.build_processor(WORDS, 48, PATCH[name])
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = family.build(shape(PATCH[name]), processor, 48)
        weights.append(torch.cat([p.flatten() for p in model.parameters()]).detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", MADE)
def test_a_processor_of_another_checkpoint_is_refused(name, tmp_path):
    family = FAMILIES[name]
    torch.manual_seed(0)
    processor = family.build_processor(WORDS, 48, PATCH[name])
    family.build(shape(PATCH[name]), processor, 48).save_pretrained(tmp_path)
    family.build_processor(WORDS, 48, 6).save_pretrained(tmp_path)
    with pytest.raises(MisError, match=f"^{tmp_path}: the model expects .*copy the processor"):
        load_checkpoint(tmp_path)


def test_what_is_of_no_family_is_refused():
    with pytest.raises(MisError, match="^Linear is of no known family; known: internvl, llava, qwen2_vl"):
        family_of(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("scale", ["mini", "smoke"])
def test_every_family_that_is_made_here_is_among_the_models_of_a_scale(scale):
    raw = yaml.safe_load(Path(f"config/{scale}.yaml").read_text(encoding="utf-8"))
    models = configuration.validate({**raw, "families": "all"}).models.values()
    assert {model.family for model in models} == set(MADE)
    default = configuration.validate(raw).models
    assert {model.family for model in default.values()} == {"internvl"}, "the default run needs no other"
