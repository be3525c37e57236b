"""Low-rank adapters: only they are trained, and what is published is a network like any other."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from isolated import mis
from peft import PeftModel
from safetensors.torch import load_file
from tiny import ARM, MODEL, examples, network, run_folder

from mis.errors import MisError
from mis.mixtures import ARMS
from mis.models.checkpoint import load_checkpoint
from mis.models.features import Pixels
from mis.settings import Lora
from mis.training.encoding import Collator, encode
from mis.training.fit import sample_loss
from mis.training.lora import add_adapters, merge
from mis.training.train import freeze, prefixes

OPTIONS = Lora(rank=4, alpha=8, targets=["q_proj", "down_proj", "linear_1"])

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("trains", sorted({arm.trains for arm in ARMS.values() if arm.trained}))
def test_only_adapters_train_and_only_where_the_arm_does(trains, tmp_path):
    model, processor = network("internvl")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    freeze(model, trains)
    adapters = add_adapters(model, OPTIONS, prefixes(model, trains))
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert trained and all(".lora_" in name for name in trained)
    places = {name.split(".")[1] for name in trained}
    assert places == {"language_model", *(["multi_modal_projector"] if "projector" in trains else [])}

    see = Pixels(processor)
    collate = Collator(processor, lambda names, views=(): see([tmp_path / name for name in names], views))
    batch = collate(encode(processor, examples(tmp_path, 6), 128))
    sample_loss(model, batch).backward()  # the second matrix of an adapter begins at zero and gets the first gradient
    with torch.no_grad():
        for value in trained.values():
            value.add_(torch.randn_like(value), alpha=0.1)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.no_grad():
        adapted = model(**inputs).logits
        whole = merge(adapters)
        assert whole is model and whole.state_dict().keys() == before.keys()
        torch.testing.assert_close(whole(**inputs).logits, adapted, rtol=0, atol=1e-5)
    changed = {name for name, value in whole.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name.partition(".lora_")[0] + ".weight" for name in trained}


def test_a_target_that_is_nowhere_is_named():
    model, _ = network("internvl")
    with pytest.raises(MisError, match="no linear layer is called linear_1 where it trains"):
        add_adapters(model, OPTIONS.model_copy(update={"targets": ["linear_1"]}), ("language_model",))


def test_the_published_checkpoint_is_merged_and_the_adapters_lie_beside_it(tmp_path):
    lora = OPTIONS.model_dump() | {"dropout": 0.1}
    arms = {ARM: {"learning_rate": 3e-3, "epochs": 1}}
    run_folder(tmp_path, 40, lora=lora, arms=arms, per_device_batch_size=8, save_steps=1)
    command = ("train", ARM, "--model", MODEL, "--seed", 0, "--config", "config.yaml")
    assert mis(tmp_path, *command, kill=("transformers:Trainer.training_step", 6)).code == -9
    ended = mis(tmp_path, *command)
    assert ended.code == 0 and "going on" in ended.text, ended.text
    folder = tmp_path / "build/smoke/models" / MODEL / "seed0"
    base, published = (load_file(folder / arm / "model.safetensors") for arm in ("base", ARM))
    assert base.keys() == published.keys()
    changed = {name for name in base if not torch.equal(base[name], published[name])}
    assert changed and all(name.split(".")[-2] in lora["targets"] for name in changed), changed
    model, processor = load_checkpoint(folder / ARM)
    inputs = processor.tokenizer(["what is in the images ?"], return_tensors="pt")
    inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    plain, _ = load_checkpoint(folder / "base")
    with torch.no_grad():
        logits = model(**inputs).logits
        assert (plain(**inputs).logits - logits).abs().max() > 1e-4
        adapted = PeftModel.from_pretrained(plain, folder / ARM / "adapter").eval()
        torch.testing.assert_close(adapted(**inputs).logits, logits, rtol=0, atol=1e-5)
    config = json.loads((folder / ARM / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    resumed = (folder / ARM / "model.safetensors").read_bytes()
    shutil.rmtree(folder / ARM)
    assert mis(tmp_path, *command).code == 0
    assert (folder / ARM / "model.safetensors").read_bytes() == resumed, "a resumed training ends as an undisturbed one"
