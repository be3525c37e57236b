"""A pretrained language model from a local folder under the miniature's eyes."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mis.errors import MisError
from mis.models.checkpoint import load_checkpoint
from mis.models.families import FAMILIES
from mis.models.processing import IMAGE_TOKENS
from mis.settings import ConfigurationError, Pretraining, validate
from mis.training.pretrain import word_vectors

TEXTS = ["how do i use the hammer on the bank ?", "the first image shows a hammer .", "together they are harmless ."]
STAGE = {"steps": 1, "batch_size": 1, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama with a byte-level BPE tokenizer that has never heard of pictures, saved as a hub's folder is."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(fast) + 5, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                         num_key_value_heads=1, intermediate_size=48, tie_word_embeddings=True)  # fmt: skip
    folder = tmp_path_factory.mktemp("text")
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def pretraining(folder) -> Pretraining:
    return Pretraining.model_validate({
        "vision": {"hidden_size": 32, "layers": 1, "heads": 2, "patch_size": 8}, "text": {"folder": folder},
        "vision_stage": STAGE, "assistant_stage": STAGE, "threads": 1,
    })  # fmt: skip


def test_its_weights_and_words_are_kept_and_pictures_get_tokens_of_their_own(folder, tmp_path):
    family = FAMILIES["internvl"]
    processor = family.build_processor((), 48, 8, text=folder)
    network = family.build(pretraining(folder), processor, 48)
    text = LlamaForCausalLM.from_pretrained(folder)
    ids = torch.tensor([processor.tokenizer(TEXTS[0])["input_ids"]])
    with torch.no_grad():
        there = text(input_ids=ids).logits
        here = network(input_ids=ids).logits
    assert torch.equal(here[..., : there.shape[-1]], there), "without a picture it is the model that it was"
    assert processor.tokenizer.decode(ids[0]).strip() == TEXTS[0]
    added = [processor.tokenizer.convert_tokens_to_ids(token) for token in IMAGE_TOKENS.values()]
    assert len(set(added)) == len(added) and min(added) >= 290
    assert processor.tokenizer.pad_token_id != processor.tokenizer.eos_token_id
    network.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, reader = load_checkpoint(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, here)
    assert reader.tokenizer(TEXTS[0])["input_ids"] == ids[0].tolist()


def test_a_words_vector_is_the_mean_of_its_tokens():
    embedding = torch.nn.Embedding(9, 4)
    single = word_vectors(embedding, [[3], [5]])
    assert torch.equal(single, embedding.weight[[3, 5]])
    mixed = word_vectors(embedding, [[3], [1, 2, 6]])
    assert torch.allclose(mixed[0], embedding.weight[3]) and torch.allclose(
        mixed[1], embedding.weight[[1, 2, 6]].mean(0)
    )


def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path):
    with pytest.raises(MisError, match=f"^{tmp_path}: no tokenizer can be read there .*mend `text.folder`$"):
        FAMILIES["internvl"].build_processor((), 48, 8, text=tmp_path)


def test_other_families_refuse_it(root, folder):
    raw = yaml.safe_load((root / "config" / "smoke.yaml").read_text())
    raw["families"] = "all"
    raw["models"]["llava_mini"]["pretraining"]["text"] = {"folder": str(folder)}
    with pytest.raises(ConfigurationError, match="known for the family internvl alone"):
        validate(raw)


@pytest.fixture
def study(smoke_run, folder, tmp_path):
    """The smoke run's configuration with the pretrained language model, as plain values to be changed."""
    raw = yaml.safe_load((smoke_run / "results" / "smoke" / "config.yaml").read_text())
    raw["models"] = {"internvl_mini": raw["models"]["internvl_mini"]}
    raw["models"]["internvl_mini"]["pretraining"]["text"] = {"folder": str(folder)}
    raw["training"]["max_length"] = 1024  # a tokenizer that knows few words spells the others
    raw["paths"] |= {
        "data": str(smoke_run / raw["paths"]["data"]),
        "build": str(tmp_path),
        "cache": str(tmp_path / "cache"),
    }
    return json.loads(json.dumps(raw))


def test_it_learns_and_answers_through_the_same_commands(study, folder):
    """The whole path at smoke size: both stages of pre-training, and a checkpoint that loads by itself."""
    from mis.training.pretrain import pretrain

    out = pretrain(validate(study), "internvl_mini", 0)
    network, processor = load_checkpoint(out)
    trained, before = network.model.language_model.layers[0], LlamaForCausalLM.from_pretrained(folder).model.layers[0]
    assert not torch.equal(trained.mlp.up_proj.weight, before.mlp.up_proj.weight), "the assistant stage trains it"
    assert processor.image_token_id == processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKENS["context_image_token"])


def test_with_adapters_the_projector_is_trained_whole_and_the_rest_where_they_are(study, folder, tmp_path):
    from mis.training.pretrain import pretrain

    study["models"]["internvl_mini"]["pretraining"]["lora"] = {"rank": 2, "alpha": 4, "targets": ["q_proj"]}
    study["models"]["internvl_mini"]["pretraining"]["assistant_stage"]["learning_rate"] = 0.05
    out = pretrain(validate(study), "internvl_mini", 0)
    (eyes,) = (tmp_path / "cache" / "eyes").glob("*/")  # a lock lies beside it
    seen = load_file(eyes / "eyes.safetensors")
    weights = load_file(out / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    network, _ = load_checkpoint(out)
    layer, before = network.model.language_model.layers[0], LlamaForCausalLM.from_pretrained(folder).model.layers[0]
    assert torch.equal(layer.mlp.up_proj.weight, before.mlp.up_proj.weight.bfloat16().float())
    assert not torch.equal(layer.self_attn.q_proj.weight, before.self_attn.q_proj.weight.bfloat16().float())
    projector = network.model.multi_modal_projector.state_dict()
    assert not any(
        torch.equal(v, seen[f"projector.{k}"].bfloat16().float()) for k, v in projector.items() if "linear" in k
    )
    tower = network.model.vision_tower.state_dict()
    assert all(torch.equal(value, seen[f"tower.{name}"].bfloat16().float()) for name, value in tower.items())


def test_pictures_speak_as_loud_as_words(study, tmp_path):
    """A language model adds to what it is given: an image token must not drown the words beside it."""
    from mis.models.families import family_of
    from mis.models.features import load_pixels
    from mis.training.pretrain import _eyes, _fresh, _spelling, corpus, open_eyes

    settings = validate(study)
    network, processor = _fresh(settings, "internvl_mini", 0, thinks=False)
    open_eyes(network, processor, _eyes(settings, "internvl_mini", 0))
    captions = corpus(settings, "captions")[:100]
    words = sorted({word for example in captions for word in example.response.split()})
    with torch.no_grad():
        pixels = load_pixels(processor, [settings.paths.data / example.images[0] for example in captions])
        tokens = family_of(network).project(network, processor, pixels).norm(dim=-1).mean()
        vectors = word_vectors(network.get_input_embeddings(), _spelling(processor.tokenizer, words))
    assert 0.5 < tokens / vectors.norm(dim=-1).mean() < 2


def test_the_cache_knows_a_language_model_by_its_content(study, folder, tmp_path):
    from mis.training.pretrain import cache_key, eyes_key

    def keys(text):
        study["models"]["internvl_mini"]["pretraining"]["text"] = {"folder": str(text)}
        settings = validate(study)
        return cache_key(settings, "internvl_mini", 0), eyes_key(settings, "internvl_mini", 0)

    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert keys(folder) == keys(moved)
    before = keys(moved)
    LlamaForCausalLM(LlamaForCausalLM.from_pretrained(moved).config).save_pretrained(moved)
    assert all(one != other for one, other in zip(before, keys(moved), strict=True))
