"""Networks, their processor, training examples and the training loop, with the tiny network of the smoke scale."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from isolated import CONFIG, Command, mis
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, InternVLForConditionalGeneration

from mis import layout, mixing
from mis import settings as configuration
from mis.errors import MisError
from mis.mixing import mixture, read_mixture
from mis.mixtures import ARMS
from mis.models.chat import prompt_texts
from mis.models.checkpoint import load_checkpoint
from mis.models.families import FAMILIES, family_of
from mis.models.features import BATCH, FeatureStore, load_pixels
from mis.models.processing import InternVLImageProcessor
from mis.samples import Example
from mis.taking import take
from mis.training.encoding import IGNORED, Collator, Encoded, encode
from mis.training.fit import LengthGroups, sample_loss
from mis.training.train import freeze, locate, tune

MODEL = "internvl_mini"
WHERE = ("--model", MODEL, "--seed", 0)
WORDS = "how do i use this on that ? step one , take the axe . no".split()


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(smoke_run, tmp_path, monkeypatch) -> Path:
    """A copy of a finished run of the smoke scale, and the current folder: its paths are relative."""
    for part in ("build", "results"):
        shutil.copytree(smoke_run / part, tmp_path / part)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def base(smoke_run) -> Path:
    return smoke_run / "build" / "smoke" / "models" / MODEL / "seed0" / "base"


@pytest.fixture(scope="module")
def loaded(base):
    model, processor = load_checkpoint(base)
    return model.eval(), processor


@pytest.fixture(scope="module")
def pictures(smoke_run) -> list[Path]:
    return sorted((smoke_run / "build" / "smoke" / "data" / "general" / "images").iterdir())[:40]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def arm_folder(run: Path, arm: str) -> Path:
    return run / "build" / "smoke" / "models" / MODEL / "seed0" / arm


def inputs_of(processor, prompts, paths) -> dict[str, torch.Tensor]:
    """Tokens of prompts with two pictures each, padded on the left."""
    texts = prompt_texts(processor, prompts, [2] * len(prompts))
    tokens = processor.tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
    return {
        "input_ids": tokens["input_ids"],
        "attention_mask": tokens["attention_mask"],
        "pixel_values": load_pixels(processor, paths),
    }


# --- Network and processor --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_checkpoint_loads_like_any_other_and_says_the_same(loaded, pictures, tmp_path):
    model, processor = loaded
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    reader = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is InternVLForConditionalGeneration and type(reader) is InternVLImageProcessor
    assert reader.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert reader.chat_template == processor.chat_template
    assert reader.image_processor.to_dict() == processor.image_processor.to_dict()
    prompts = ["what is in each image ?", "how do i use this ?"]
    inputs, others = (inputs_of(p, prompts, pictures[:4]) for p in (processor, reader))
    assert all(torch.equal(inputs[name], others[name]) for name in inputs)
    logits = model(**inputs).logits
    assert torch.equal(again(**others).logits, logits)
    assert logits.std() > 1e-3, "a network that says nothing would agree with any other"
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_pixels_are_those_of_the_image_processor(loaded, pictures, tmp_path):
    _, processor = loaded
    other = tmp_path / "wide.png"
    Image.open(pictures[0]).resize((80, 30)).save(other)
    grey = tmp_path / "grey.png"
    Image.open(pictures[0]).convert("L").save(grey)
    for paths in (pictures[:8], [grey], [*pictures[:2], other]):
        images = [Image.open(path).convert("RGB") for path in paths]
        expected = processor.image_processor(images, return_tensors="pt")["pixel_values"]
        assert expected.shape == (len(paths), 3, 48, 48), "one tile a picture"
        torch.testing.assert_close(load_pixels(processor, paths), expected, rtol=0, atol=1e-6)


def test_prompts_are_those_of_the_processor(loaded, pictures):
    _, processor = loaded
    assert processor.image_seq_length == 9
    for count in (0, 1, 2):
        content = [{"type": "image"}] * count + [{"type": "text", "text": "what is in the image ?"}]
        turn = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        images = [Image.open(path) for path in pictures[:count]] or None
        theirs = processor(text=text, images=images)["input_ids"][0]
        ours = processor.tokenizer(prompt_texts(processor, ["what is in the image ?"], [count])[0])["input_ids"]
        assert ours == theirs
        assert ours.count(processor.image_token_id) == 9 * count
        assert processor.tokenizer.unk_token_id not in ours


@torch.no_grad()
def test_stored_features_give_what_the_pictures_give(loaded, pictures, tmp_path):
    model, processor = loaded
    tower = model.model.vision_tower
    store = FeatureStore(tmp_path, tower, processor)
    store.fill(pictures[:6])
    inputs = inputs_of(processor, ["what is in each image ?"] * 3, pictures[:6])
    direct = model(**inputs).logits
    features = store(pictures[:6])
    assert torch.equal(features, tower(pixel_values=inputs["pixel_values"]).last_hidden_state.half().float())
    # A second process finds them; a picture that is not there is computed.
    for paths in (pictures[:6], pictures[:7]):
        found = FeatureStore(tmp_path, tower, processor)(paths)
        torch.testing.assert_close(found[:6], features, rtol=0, atol=0)
        assert found.shape == (len(paths), 37, 32)
    family = family_of(model)
    family.take_tower(model)
    try:
        logits = model(**{**inputs, "pixel_values": features}).logits
    finally:
        family.put_tower(model, tower)
    scale = direct.abs().max()
    assert 0 < (logits - direct).abs().max() < 4e-3 * scale, "half precision: eleven bits, and some rounding behind"
    assert (logits.argmax(-1) == direct.argmax(-1)).float().mean() > 0.97


def test_features_follow_the_pictures_and_the_tower(loaded, pictures, tmp_path):
    model, processor = loaded
    tower = model.model.vision_tower
    mine = [Path(shutil.copy(path, tmp_path / f"{n}.png")) for n, path in enumerate(pictures[:3])]
    folder = tmp_path / "features"
    store = FeatureStore(folder, tower, processor)
    store.fill([*mine, mine[0]])
    before = store(mine)
    mine[0].write_bytes(pictures[9].read_bytes() + b"")
    again = FeatureStore(folder, tower, processor)(mine)
    assert not torch.equal(again[0], before[0]) and torch.equal(again[1:], before[1:])
    changed = [p.clone() for p in tower.parameters()]
    try:
        with torch.no_grad():
            next(tower.parameters()).add_(1.0)
        other = FeatureStore(folder, tower, processor)
        assert other.rows == {}, "another tower's outputs are never taken"
        other.fill(mine)
    finally:
        with torch.no_grad():
            for parameter, value in zip(tower.parameters(), changed, strict=True):
                parameter.copy_(value)
    assert len(list(folder.glob("*.npy"))) == 1, "what is stale goes"


def test_a_network_s_own_seed_decides_it():
    family = FAMILIES["internvl"]
    pretraining = configuration.load("config/smoke.yaml").models[MODEL].pretraining
    processor = family.build_processor(WORDS, 48, 8)
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = family.build(pretraining, processor, 48)
        weights.append(torch.cat([p.flatten() for p in model.parameters()]).detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert model.config.image_token_id == processor.image_token_id


def spoil_words(folder: Path) -> None:
    FAMILIES["internvl"].build_processor([str(n) for n in range(5000)], 48, 8).save_pretrained(folder)


def spoil_tokens(folder: Path) -> None:
    path = folder / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_seq_length": 4}))


def spoil_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[sorted(weights)[3]]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def spoil_length(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def spoil_processor(folder: Path) -> None:
    (folder / "processor_config.json").unlink()


def spoil_tokenizer(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_words, "the tokenizer knows 50.. tokens, the model .*not of one checkpoint; copy the processor"),
        (spoil_tokens, "the model expects 9 image tokens of id 6, the processor writes 4 of id 6.*copy the processor"),
        (spoil_weights, "the weights do not fit config.json .1 names.*remove it and run"),
        (spoil_length, "not a whole checkpoint.*remove it and run"),
        (spoil_processor, "not a whole checkpoint.*remove it and run"),
        (spoil_tokenizer, "not a whole checkpoint.*remove it and run"),
    ],
)
def test_files_that_are_not_of_one_checkpoint_are_refused(base, tmp_path, spoil, words):
    folder = tmp_path / "checkpoint"
    shutil.copytree(base, folder)
    load_checkpoint(folder)
    spoil(folder)
    with pytest.raises(MisError, match=f"^{folder}: {words}"):
        load_checkpoint(folder)


# --- Examples ---------------------------------------------------------------------------------------------------------


def example(response: str, images: tuple[str, ...] = (), id: str = "7", prompt: str = "what is it ?") -> Example:
    return Example(id, "mis_train", "safety", images, prompt, response)


def test_only_the_answer_and_its_end_carry_loss(loaded, pictures):
    _, processor = loaded
    tokenizer = processor.tokenizer
    long, short = "the image shows a bank .", "yes"
    items = encode(processor, [example(long, ("a", "b")), example(short)], 256)
    asked = []
    batch = Collator(processor, lambda names: asked.append(names) or load_pixels(processor, pictures[:2]))(items)
    assert asked == [["a", "b"]] and batch["pixel_values"].shape[0] == 2
    for row, answer in enumerate((long, short)):
        labels, ids = batch["labels"][row], batch["input_ids"][row]
        wanted = labels != IGNORED
        assert tokenizer.decode(labels[wanted]) == f"{answer} <|im_end|>"
        assert torch.equal(labels[wanted], ids[wanted])
        prompt = tokenizer.decode(ids[: int(wanted.nonzero()[0])])
        assert prompt.endswith("what is it ? <|im_end|> <|im_start|> assistant")
        assert int(batch["attention_mask"][row].sum()) == len(items[row].input_ids)
        assert set(ids[len(items[row].input_ids) :].tolist()) <= {tokenizer.pad_token_id}
    assert "pixel_values" not in Collator(processor, None)(items[1:])


def test_the_loss_is_averaged_over_tokens_then_over_samples(loaded, pictures):
    model, processor = loaded
    examples = [example("the image shows a bank . the image shows a bank .", ("a", "b")), example("yes", ("c", "d"))]
    items = encode(processor, examples, 256)
    names = dict(zip("abcd", pictures, strict=False))
    collate = Collator(processor, lambda paths: load_pixels(processor, [names[path] for path in paths]))
    batch = collate(items)
    with torch.no_grad():
        loss = sample_loss(model, batch)
        labels = batch.pop("labels")
        logits = model(**batch).logits
        each = [
            torch.nn.functional.cross_entropy(logits[row, :-1], labels[row, 1:], ignore_index=IGNORED)
            for row in range(2)
        ]
        alone = [sample_loss(model, collate([item])) for item in items]
    torch.testing.assert_close(loss, sum(each) / 2)
    torch.testing.assert_close(torch.stack(alone), torch.stack(each), msg="padding changes nothing")
    by_token = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert abs(by_token - loss) > 1e-4, "else this test cannot tell the two averages apart"


def test_a_sample_that_is_too_long_or_lacks_its_pictures_is_named(loaded, pictures):
    _, processor = loaded
    fitting = len(encode(processor, [example("yes")], 256)[0].input_ids)
    assert encode(processor, [example("yes")], fitting)
    with pytest.raises(
        MisError, match=rf"^mis_train 7: {fitting} tokens, but training.max_length is {fitting - 1}; ra"
    ):
        encode(processor, [example("yes", id="6", prompt="what ?"), example("yes")], fitting - 1)
    (item,) = encode(processor, [example("yes", ("a", "b"))], 256)
    cut = Encoded(item.key, item.input_ids[:6] + item.input_ids[16:], item.prompt_length - 10, item.images)
    with pytest.raises(MisError, match=r"^mis_train/7: \d+ image tokens for 2 pictures of 9 each"):
        Collator(processor, lambda names: load_pixels(processor, pictures[:2]))([cut])


@pytest.mark.parametrize(("count", "batch"), [(1, 4), (7, 4), (8, 4), (1000, 16), (1023, 16), (5, 8)])
def test_length_groups_show_every_sample_once_in_batches_of_like_length(count, batch):
    lengths = np.random.default_rng(0).integers(10, 120, count)
    groups = LengthGroups(lengths, batch, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        groups.set_epoch(epoch)
        orders.append(list(groups))
        assert sorted(orders[-1]) == list(range(count)) and len(groups) == count
    assert orders[0] == orders[2] == list(LengthGroups(lengths, batch, seed=3))
    if count > 100:
        assert orders[0] != orders[1] != list(LengthGroups(lengths, batch, seed=4))

        def padding(order):
            cut = [lengths[order[i : i + batch]] for i in range(0, count, batch)]
            return sum(int(part.max() * len(part) - part.sum()) for part in cut)

        assert padding(orders[0]) < 0.2 * padding(list(np.random.default_rng(1).permutation(count)))
        spread = [int(np.ptp(lengths[orders[0][i : i + batch]])) for i in range(0, count - batch, batch)]
        assert max(spread) < 20, "a short batch stands last, or its neighbours would be mixed"
        means = [lengths[orders[0][i : i + batch]].mean() for i in range(0, count, batch)]
        assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.5, "batches come in no order of length"


def test_a_path_that_leaves_the_data_is_refused(run):
    settings = configuration.load(CONFIG)
    assert locate(settings, "general/images/1_1.png") == settings.paths.data / "general/images/1_1.png"
    assert locate(settings, str(mixing_blank())) == mixing_blank()
    for path in ("/etc/passwd", "../secret.png", "general/../../secret.png"):
        with pytest.raises(MisError, match="does not stay inside .*run `mis mix` again"):
            locate(settings, path)


def mixing_blank() -> Path:
    from mis.sources.common import BLANK

    return BLANK["black"]


# --- Mixtures ---------------------------------------------------------------------------------------------------------

# What the sources hold at full size (the paper's Section 2 and Appendix; VLGuard's file gives 977 benign samples).
FULL = {
    ("saferlhf", "safety"): 3000, ("saferlhf", "benign"): 2000, ("vlguard", "safety"): 2000,
    ("vlguard", "benign"): 1000, ("m4_instruct", "general"): 6000, ("mis_train", "safety"): 4000,
    ("benign_pairs", "benign"): 4000,
}  # fmt: skip
CATEGORIES = ("Illegal Activity", "Violent", "Hate", "Self-Harm", "Privacy", "Erotic", "Violent", "Hate")


@pytest.fixture
def sources(monkeypatch):
    """Stands in for the datasets: `hold(sizes)` decides how many examples each source gives."""

    def hold(sizes):
        def loader(source):
            def load(root, labels):
                return [
                    Example(f"{kind}{n}", source, kind, (), f"{source} {n}", labels, CATEGORIES[n % len(CATEGORIES)])
                    for (name, kind), size in sizes.items()
                    if name == source
                    for n in range(size)
                ]

            return load

        monkeypatch.setattr(mixing, "TRAINING_SOURCES", {source: loader(source) for source, _ in sizes})

    return hold


SHARES = {
    "textual_sft": (3000, 33.33), "textual_sft_dagger": (3500, 42.86), "vlguard_p": (3000, 33.33),
    "vlguard_r": (3000, 33.33), "vlguard_r_dagger": (3500, 42.86), "vlguard_r_ddagger": (8000, 75.0),
    "mirage": (4500, 11.11), "mirage_star": (4000, 0.0), "mirage_sorry": (4500, 11.11),
    "mirage_text_only": (4500, 11.11), "mirage_wo_privacy_selfharm": (3500, 14.29), "mirage_balanced": (6500, 38.46),
    "mirage_direct": (4500, 11.11), "vlguard_m": (3000, 33.33), "mirage_benign_250": (4750, 15.79),
    "mirage_benign_500": (5000, 20.0), "mirage_benign_1000": (5500, 27.27), "mirage_benign_4000": (8500, 52.94),
}  # fmt: skip


@pytest.mark.parametrize("arm", SHARES)
def test_an_arm_has_the_samples_and_the_general_share_of_the_paper(sources, arm):
    """Table 6 counts as general all that is no harmful input."""
    sources(FULL)
    examples = mixture(ARMS[arm], Path("data"), full=True)
    count, share = SHARES[arm]
    assert len(examples) == count
    assert len({(e.source, e.id) for e in examples}) == count, "no example twice"
    general = sum(example.kind != "safety" for example in examples)
    assert round(100 * general / count, 2) == share
    variants = {
        "vlguard_p": "original", "vlguard_m": "original", "vlguard_r": "reasoning", "vlguard_r_dagger": "reasoning",
        "vlguard_r_ddagger": "reasoning", "textual_sft": "original", "textual_sft_dagger": "original",
        "mirage_sorry": "sorry", "mirage_text_only": "text_only", "mirage_direct": "direct",
    }  # fmt: skip
    assert {e.response for e in examples if e.kind == "safety"} == {variants.get(arm, "safety_cot")}
    left_out = {"Privacy", "Self-Harm"} & {e.category for e in examples if e.kind == "safety"}
    assert left_out == (set() if arm == "mirage_wo_privacy_selfharm" else {"Privacy", "Self-Harm"})


def test_every_arm_is_counted_above():
    assert set(SHARES) == {name for name, arm in ARMS.items() if arm.trained}


def test_mixtures_are_shuffled_once_and_for_all(sources):
    sources(FULL)
    first, again = (mixture(ARMS["mirage"], Path("data")) for _ in range(2))
    assert first == again
    kinds = [e.kind for e in first]
    assert 30 < sum(kind == "general" for kind in kinds[:500]) < 90, "general samples are spread evenly"
    star = {e.id for e in mixture(ARMS["mirage_star"], Path("data"))}
    assert {e.id for e in first if e.kind == "safety"} == star
    general = [{e.id for e in mixture(ARMS[arm], Path("data")) if e.kind == "general"} for arm in
               ("mirage", "mirage_sorry", "textual_sft_dagger", "vlguard_r_ddagger")]  # fmt: skip
    assert general[0] == general[1] == general[2] < general[3], "arms share their general samples"


def test_a_smaller_world_gives_all_that_it_has_and_public_data_may_not_lack_any(sources):
    small = {part: size // 50 for part, size in FULL.items()}
    sources(small)
    for arm in SHARES:
        counts = Counter((e.source, e.kind) for e in mixture(ARMS[arm], Path("data")))
        for part in ARMS[arm].parts:
            if not part.without_categories:
                assert counts[part.source, part.kind] == small[part.source, part.kind]
    with pytest.raises(
        MisError, match="^data/m4_instruct: 120 general examples, but arm mirage takes 500; the dataset"
    ):
        mixture(ARMS["mirage"], Path("data"), full=True)
    sources({**FULL, ("vlguard", "benign"): 977})
    assert len(mixture(ARMS["vlguard_r"], Path("data"), full=True)) == 2977, "the released file has 977"


# --- What is trained --------------------------------------------------------------------------------------------------


def parts(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    found = {"vision_tower": {}, "projector": {}, "language_model": {}}
    names = {"vision_tower": "vision_tower", "multi_modal_projector": "projector", "mlp1": "projector"}
    for name, tensor in load_file(folder / "model.safetensors").items():
        part = next((names[key] for key in names if key in name), "language_model")
        found[part][name] = tensor
    assert all(found.values())
    return found


@pytest.mark.parametrize("arm", ["textual_sft", "vlguard_r", "mirage", "mirage_balanced"])
def test_training_changes_what_the_arm_trains_and_nothing_else(smoke_run, base, arm):
    before, after = parts(base), parts(arm_folder(smoke_run, arm))
    for part, tensors in before.items():
        assert tensors.keys() == after[part].keys()
        same = {name: torch.equal(tensor, after[part][name]) for name, tensor in tensors.items()}
        assert set(same.values()) == {part not in ARMS[arm].trains}, (part, same)


def test_freezing_follows_the_declaration(loaded):
    model, _ = loaded
    kept = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        for arm in ARMS.values():
            freeze(model, arm.trains)
            trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
            groups = {name.split(".")[1] for name in trained}
            assert groups == ({"language_model"} if arm.trains == ("language_model",) else
                              {"language_model", "multi_modal_projector"})  # fmt: skip
            untrained = {name for name, _ in model.named_parameters()} - trained
            assert all("vision_tower" in name or "multi_modal_projector" in name for name in untrained)
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(kept[name])


def trained(run: Path, name: str, **changes) -> dict[str, torch.Tensor]:
    settings = configuration.load(CONFIG)
    options = settings.training.arms["mirage"].model_copy(update=changes.pop("options", {}))
    seed = changes.pop("seed", 0)
    model, _, curve = tune(
        settings, layout.checkpoint(settings, MODEL, 0, "base"), read_mixture(layout.mixture(settings, "mirage")),
        ARMS["mirage"].trains, options, seed=seed, scratch=run / name,
        features=layout.features(settings, MODEL, 0), label=name,
    )  # fmt: skip
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(tensor, right[key]) for key, tensor in left.items())


def test_the_seed_decides_the_weights_bit_for_bit(run):
    first = trained(run, "first")
    assert same(first, trained(run, "second"))
    assert not same(first, trained(run, "other", seed=1))
    assert not same(first, trained(run, "faster", options={"learning_rate": 0.002}))


# --- Kills ------------------------------------------------------------------------------------------------------------

STEP = "mis.training.fit:sample_loss"


def test_a_killed_fine_tuning_ends_with_the_weights_of_an_undisturbed_one(run):
    """Two epochs, so that the order of the second is resumed too; a checkpoint every 3 of the 26 steps."""
    settings = configuration.load(CONFIG)
    steps = 2 * -(-len(read_mixture(layout.mixture(settings, "mirage"))) // settings.training.global_batch_size)
    raw = settings.model_dump(mode="json")
    raw["training"]["arms"]["mirage"]["epochs"] = 2
    config = run / "two_epochs.yaml"
    config.write_text(json.dumps(raw))  # JSON is YAML
    command = ("train", "mirage", *WHERE, "--config", config)
    assert mis(run, *command).code == 0
    expected = contents(arm_folder(run, "mirage"))
    shutil.rmtree(arm_folder(run, "mirage"))

    moments = random.Random(11)
    done = 0  # steps that a checkpoint holds
    for kind in ("early", "step", "step", "weights", "state"):
        if kind == "early":  # before the first checkpoint
            where, count = STEP, 2
        elif kind == "step":
            ahead = moments.randint(4, 8)
            where, count, done = STEP, ahead + 1, done + 3 * (ahead // 3)
        elif kind == "weights":  # within a checkpoint: its weights are there, its state is not
            where, count = "transformers:Trainer._save_rng_state", 1
        else:
            where, count = "transformers:TrainerState.save_to_json", 1
        killed = mis(run, *command, kill=(where, count))
        assert killed.code == -9, killed.text
        assert not arm_folder(run, "mirage").exists()
    assert 0 < done < steps - 6
    finished = mis(run, *command)
    assert finished.code == 0, finished.text
    assert f"going on from build/smoke/scratch/{MODEL}/seed0/mirage/" in finished.text
    assert f"checkpoint-{done}\n" in finished.text
    assert contents(arm_folder(run, "mirage")) == expected
    assert not (run / "build" / "smoke" / "scratch" / MODEL / "seed0" / "mirage").exists()


@pytest.mark.parametrize(
    "kill", [("mis.training.train:write_csv_atomic", 1), ("shutil:copytree", 1), ("pathlib:Path.rename", 1)]
)
def test_a_kill_after_the_last_step_trains_nothing_twice(smoke_run, run, kill):
    killed = mis(run, "train", "mirage", *WHERE, kill=kill)
    assert killed.code == -9, killed.text
    finished = mis(run, "train", "mirage", *WHERE, kill=(STEP, 1))  # a single further step would end it
    assert finished.code == 0, finished.text
    assert contents(arm_folder(run, "mirage")) == contents(arm_folder(smoke_run, "mirage"))
    assert not list(arm_folder(run, "mirage").parent.glob(".*")), "what the killed run left is gone"


def test_the_steps_of_another_training_are_not_taken_up(smoke_run, run):
    settings = configuration.load(CONFIG)
    raw = settings.model_dump(mode="json")
    raw["training"]["arms"]["mirage"]["learning_rate"] = 0.01
    config = run / "other.yaml"
    config.write_text(json.dumps(raw))
    assert mis(run, "train", "mirage", *WHERE, "--config", config, kill=(STEP, 9)).code == -9
    finished = mis(run, "train", "mirage", *WHERE)
    assert finished.code == 0 and "going on" not in finished.text
    assert contents(arm_folder(run, "mirage")) == contents(arm_folder(smoke_run, "mirage"))


PRETRAIN = ("pretrain", MODEL, "--seed")


def test_a_killed_pre_training_ends_with_the_weights_of_an_undisturbed_one(smoke_run, run):
    expected = contents(arm_folder(smoke_run, "base"))
    shutil.rmtree(run / "build" / "smoke" / "cache")
    shutil.rmtree(arm_folder(run, "base"))
    for where, count in (
        ("torch.nn.utils:clip_grad_norm_", 3),  # the vision stage
        ("mis.training.pretrain:save_file", 1),  # its end
        ("shutil:copytree", 1),  # the eyes into the cache
        ("mis.models.features:FeatureStore._compute", 2),  # the pictures of the assistant stage
        (STEP, 4),  # the assistant stage
        ("transformers:Trainer._save_rng_state", 1),  # within its checkpoint
        ("shutil:copytree", 1),  # into the cache
        ("shutil:copytree", 2),  # to its place
    ):
        killed = mis(run, *PRETRAIN, 0, kill=(where, count))
        assert killed.code == -9, (where, killed.text)
        assert not (arm_folder(run, "base") / "model.safetensors").exists()
    finished = mis(run, *PRETRAIN, 0)
    assert finished.code == 0 and "taken from the cache" in finished.text, finished.text
    assert contents(arm_folder(run, "base")) == expected
    assert not [p for p in (run / "build" / "smoke").rglob(".*") if p.is_dir() and p.name != ".images"]


def test_the_cache_serves_the_same_base_and_no_other(smoke_run, run):
    shutil.rmtree(arm_folder(run, "base"))
    served = mis(run, *PRETRAIN, 0, kill=("torch.nn.utils:clip_grad_norm_", 1))  # a single step would end it
    assert served.code == 0, served.text
    assert contents(arm_folder(run, "base")) == contents(arm_folder(smoke_run, "base"))
    other = mis(run, *PRETRAIN, 1)
    assert other.code == 0 and "not in build/smoke/cache/base/" in other.text
    folder = run / "build" / "smoke" / "models" / MODEL / "seed1" / "base"
    assert contents(folder)["model.safetensors"] != contents(arm_folder(run, "base"))["model.safetensors"]
    assert contents(folder)["tokenizer.json"] == contents(arm_folder(run, "base"))["tokenizer.json"]
    # A picture drawn anew makes another base.
    picture = next((run / "build" / "smoke" / "data" / "captions" / "images").iterdir())
    Image.new("RGB", (48, 48)).save(picture)
    assert mis(run, *PRETRAIN, 0, kill=("torch.nn.utils:clip_grad_norm_", 1)).code == -9


def test_a_killed_feature_store_is_the_old_one_and_a_rerun_completes(smoke_run, run):
    folder = run / "build" / "smoke" / "features" / MODEL / "seed0"
    expected = contents(folder)
    assert len(json.loads(expected["index.json"])["rows"]) > BATCH
    shutil.rmtree(folder)
    for where, count in (("mis.models.features:FeatureStore._compute", 2), ("os:replace", 1), ("os:replace", 2)):
        assert mis(run, "features", MODEL, "--seed", 0, kill=(where, count)).code == -9
        assert not (folder / "index.json").exists()
    assert mis(run, "features", MODEL, "--seed", 0).code == 0
    assert contents(folder) == expected and len(expected) == 2, "and nothing of the killed runs is left"


def test_a_base_can_be_taken_from_a_folder(smoke_run, tmp_path):
    settings = configuration.load(smoke_run / "results" / "smoke" / "config.yaml")
    source = smoke_run / "build" / "smoke" / "models" / "internvl_mini" / "seed0" / "base"
    raw = settings.model_dump(mode="json")
    raw["models"]["internvl_mini"] |= {"source": str(source), "pretraining": None}
    raw["paths"]["build"] = str(tmp_path / "build")
    out = take(configuration.validate(raw), "internvl_mini", tmp_path / "lock.json")
    assert out.is_relative_to(tmp_path)
    assert (out / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    raw["models"]["internvl_mini"]["source"] = str(tmp_path / "nowhere")
    with pytest.raises(MisError, match="nowhere is not a folder"):
        take(configuration.validate(raw), "internvl_mini", tmp_path / "lock.json")


def test_two_models_of_the_same_making_are_made_once(smoke_run, run):
    """Begun side by side, as a run with free cores begins them: the second waits for the first one's weights."""
    raw = configuration.load(CONFIG).model_dump(mode="json")
    raw["models"]["twin"] = raw["models"][MODEL]
    config = run / "twins.yaml"
    config.write_text(json.dumps(raw))
    shutil.rmtree(run / "build" / "smoke" / "cache")
    both = [Command(run, "pretrain", name, "--seed", 0, "--config", config) for name in (MODEL, "twin")]
    ended = [command.end() for command in both]
    assert [each.code for each in ended] == [0, 0], [each.text for each in ended]
    said = [each.text for each in ended]
    assert sum("pre-training (not in" in text for text in said) == 1, said
    assert sum("is being made by another process" in text and "taken from the cache" in text for text in said) == 1
    assert contents(arm_folder(run, "base")) == contents(arm_folder(smoke_run, "base"))
    twin = run / "build" / "smoke" / "models" / "twin" / "seed0" / "base"
    assert contents(twin) == contents(arm_folder(run, "base"))
