"""`mis convert`: the released InternVL checkpoints in transformers' own classes, and back.

Fixtures: tiny checkpoints with what the original code computes on them (tests/fixtures/internvl_chat_tiny/README.md).
"""

from __future__ import annotations

import io
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForImageTextToText, AutoProcessor
from typer.testing import CliRunner

from mis.cli import app
from mis.errors import MisError
from mis.models.chat import answer_tokens, prompt_texts
from mis.models.checkpoint import load_checkpoint
from mis.models.conversion import convert, is_internvl_chat, tensors
from mis.models.conversion.sentencepiece import read_sentencepiece, tokenizer_of
from mis.models.families import family_of
from mis.models.features import Pixels, views_of

FIXTURES = ROOT / "tests" / "fixtures" / "internvl_chat_tiny"
IMAGE_TOKEN = {"internlm2": 117, "qwen2": 106}  # their README
CASES = [
    (family, case)
    for family in IMAGE_TOKEN
    for case in ("single", "left", "right", "flagged", "long")
    if (family, case) != ("qwen2", "long")
]
pytestmark = pytest.mark.usefixtures("one_thread")


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module", params=IMAGE_TOKEN)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def native(tmp_path_factory) -> dict[str, Path]:
    """The fixtures, converted."""
    folder = tmp_path_factory.mktemp("native")
    for name, token in IMAGE_TOKEN.items():
        convert(FIXTURES / name, folder / name, image_token_id=token, say=quiet)
    return {name: folder / name for name in IMAGE_TOKEN}


@pytest.fixture
def copy(tmp_path):
    """A copy of a fixture that may be spoilt."""

    def made(name: str) -> Path:
        shutil.copytree(FIXTURES / name, tmp_path / name)
        return tmp_path / name

    return made


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in folder.glob("model*.safetensors") for name, value in load_file(path).items()}


def edit(path: Path, **changes) -> None:
    content = json.loads(path.read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        part = content
        for parent in parents:
            part = part[parent]
        part[last] = value
    path.write_text(json.dumps(content))


# --- Weights and configuration ----------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("family, case", CASES)
def test_the_converted_model_computes_what_the_original_computed(native, family, case):
    model, found = AutoModelForImageTextToText.from_pretrained(
        native[family], dtype=torch.float32, output_loading_info=True
    )
    assert not found["missing_keys"] and not found["unexpected_keys"]
    recorded = load_file(FIXTURES / family / "expected.safetensors")
    expected = {key.removeprefix(f"{case}."): value for key, value in recorded.items() if key.startswith(f"{case}.")}
    real = expected["image_flags"].bool()
    features = model.eval().model.get_image_features(pixel_values=expected["pixel_values"], return_dict=True)
    inputs = {name: expected[name] for name in ("input_ids", "attention_mask")}
    inputs["pixel_values"] = expected["pixel_values"][real]
    hidden = model.model(**inputs).last_hidden_state
    counts = inputs["attention_mask"].bool()
    limit = {"rtol": 0, "atol": 1e-4}
    torch.testing.assert_close(features.pooler_output, expected["image_features"], **limit)
    torch.testing.assert_close(hidden[counts], expected["last_hidden_state"][counts], **limit)
    torch.testing.assert_close(model.lm_head(hidden)[counts], expected["logits"][counts], **limit)
    if "generated_ids" in expected:
        output = model.generate(**inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False)
        assert torch.equal(output[:, inputs["input_ids"].shape[1] :], expected["generated_ids"])


def test_the_way_back_gives_the_same_bytes(native, family, tmp_path):
    convert(native[family], tmp_path / "back", to="internvl_chat", say=quiet)
    # A fine-tuned model has other names for its tensors, one file, and no folder of original files.
    AutoModelForImageTextToText.from_pretrained(native[family]).save_pretrained(tmp_path / "saved")
    convert(tmp_path / "saved", tmp_path / "back_of_saved", to="internvl_chat", say=quiet)
    model = AutoModelForImageTextToText.from_pretrained(native[family])
    (tmp_path / "own").mkdir()
    save_file({k: v.clone() for k, v in model.state_dict().items()}, tmp_path / "own" / "model.safetensors")
    shutil.copy(native[family] / "config.json", tmp_path / "own")
    convert(tmp_path / "own", tmp_path / "back_of_own", to="internvl_chat", say=quiet)
    original = weights(FIXTURES / family)
    for name in ("back", "back_of_saved", "back_of_own"):
        found = weights(tmp_path / name)
        assert found.keys() == original.keys()
        for key, value in original.items():
            assert found[key].dtype == value.dtype and found[key].numpy().tobytes() == value.numpy().tobytes(), key
    before = json.loads((FIXTURES / family / "config.json").read_text())
    exact, derived = (json.loads((tmp_path / n / "config.json").read_text()) for n in ("back", "back_of_saved"))
    for part in ("llm_config", "vision_config"):
        for name in before[part].keys() - {"torch_dtype"}:
            assert exact[part][name] == before[part][name], name
        for name in derived[part].keys() - {"torch_dtype"}:
            assert derived[part][name] == before[part].get(name), name
    same = before.keys() - {"llm_config", "vision_config"}
    assert {key: exact[key] for key in same} == {key: before[key] for key in same}
    assert all(before[key] == derived[key] for key in derived.keys() & same)


def test_bfloat16_passes_through_unchanged(copy, tmp_path):
    source = copy("internlm2")
    half = {name: value.bfloat16() for name, value in weights(source).items()}
    save_file(half, source / "model.safetensors")
    convert(source, tmp_path / "native", image_token_id=117, say=quiet)
    assert json.loads((tmp_path / "native" / "config.json").read_text())["dtype"] == "bfloat16"
    convert(tmp_path / "native", tmp_path / "back", to="internvl_chat", say=quiet)
    found = weights(tmp_path / "back")
    assert all(torch.equal(found[name].view(torch.int16), value.view(torch.int16)) for name, value in half.items())
    assert json.loads((tmp_path / "back" / "config.json").read_text())["torch_dtype"] == "bfloat16"


@torch.no_grad()
def test_biases_of_the_fused_weights_are_cut_alike(copy, tmp_path):
    """With `bias: true`: a model whose biases stand in for its weights' rows tells whether both are cut in one way."""
    source = copy("internlm2")
    edit(source / "config.json", llm_config__bias=True)
    given = weights(source)
    for n in range(3):
        name = f"language_model.model.layers.{n}.attention.{{}}.{{}}"
        given[name.format("wqkv", "bias")] = given[name.format("wqkv", "weight")][:, 0].clone()
        given[name.format("wo", "bias")] = given[name.format("wo", "weight")][:, 0].clone()
    save_file(given, source / "model.safetensors")
    convert(source, tmp_path / "native", image_token_id=117, say=quiet)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "native")
    for layer in model.model.language_model.layers:
        for part in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj, layer.self_attn.o_proj):
            assert torch.equal(part.bias, part.weight[:, 0])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"ps_version": "v1"}, "ps_version other than v2"),
        ({"use_llm_lora": 16}, "merge the adapter first"),
        ({"pad2square": True}, "pad2square"),
        ({"vision_config__use_mean_pooling": False}, "use_mean_pooling"),
        ({"vision_config__qk_normalization": True}, "another eps than 1e-6"),
        (
            {"llm_config__architectures": ["Phi3ForCausalLM"]},
            "Phi3ForCausalLM is not known; known: InternLM2",
        ),
        ({"llm_config__rope_scaling": {"type": "yarn", "factor": 2.0}}, "yarn"),
        ({"llm_config__num_key_value_heads": 3}, "not of one checkpoint"),
        ({"llm_config__num_hidden_layers": 4}, "weights are missing, the first is language_model.model.layers.3"),
        ({"llm_config__num_hidden_layers": 2}, "weights that config.json knows nothing of"),
        ({"llm_config__vocab_size": 121}, "but config.json says"),
        ({"model_type": "internvl"}, "not internvl_chat"),
    ],
)
def test_what_the_other_side_cannot_hold_is_refused(copy, tmp_path, changes, message):
    source = copy("internlm2")
    edit(source / "config.json", **changes)
    with pytest.raises(MisError, match=message):
        convert(source, tmp_path / "native", image_token_id=117, say=quiet)
    assert not (tmp_path / "native").exists()


def test_unknown_and_damaged_weights_are_named(copy, tmp_path):
    source = copy("internlm2")
    given = weights(source)
    save_file({**given, "language_model.base_model.model.lora_A.weight": torch.ones(1)}, source / "model.safetensors")
    with pytest.raises(MisError, match="lora_A.weight has no place .* merged first"):
        convert(source, tmp_path / "native", image_token_id=117, say=quiet)
    shards = copy("qwen2")
    last = shards / "model-00003-of-00003.safetensors"
    whole = last.read_bytes()
    for content, message in ((whole[:-4], "it ends after"), (whole[:20], "not a whole"), (b"x" * 64, "not a whole")):
        last.write_bytes(content)
        with pytest.raises(MisError, match=f"{last.name}.*{message}"):
            convert(shards, tmp_path / "native", image_token_id=106, say=quiet)
    last.unlink()
    with pytest.raises(MisError, match=f"{last.name}: cannot be read"):
        convert(shards, tmp_path / "native", image_token_id=106, say=quiet)
    for path in shards.glob("*.safetensors*"):
        path.unlink()
    (shards / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(MisError, match="pytorch_model.bin is a pickle"):
        convert(shards, tmp_path / "native", image_token_id=106, say=quiet)


def test_no_tokenizer_and_no_number_is_an_error(tmp_path):
    with pytest.raises(MisError, match="no tokenizer.*--image-token-id"):
        convert(FIXTURES / "qwen2", tmp_path / "native", say=quiet)


def test_a_killed_conversion_goes_on_behind_its_last_whole_shard(tmp_path, monkeypatch):
    written, write = [], tensors.write_tensors

    def stop_at(number: int):
        def stopped(path: Path, content) -> None:
            if len(written) == number:
                raise KeyboardInterrupt
            write(path, content)
            written.append(path.name)

        return stopped

    target = tmp_path / "native"
    monkeypatch.setattr("mis.models.conversion.write_tensors", stop_at(2))
    with pytest.raises(KeyboardInterrupt):
        convert(FIXTURES / "qwen2", target, image_token_id=106, say=quiet)
    assert not target.exists() and len(written) == 2
    monkeypatch.setattr("mis.models.conversion.write_tensors", stop_at(9))
    convert(FIXTURES / "qwen2", target, image_token_id=106, say=quiet)
    assert written == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    said: list[str] = []
    convert(FIXTURES / "qwen2", target, image_token_id=106, say=said.append)
    assert said == [f"{target}: already there"] and len(written) == 3
    with pytest.raises(MisError, match="not empty and not this conversion's"):
        convert(FIXTURES / "internlm2", target, image_token_id=117, say=quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["native"], "nothing is left lying about"


def test_the_command(tmp_path):
    run = CliRunner().invoke(
        app, ["convert", str(FIXTURES / "qwen2"), str(tmp_path / "native"), "--image-token-id", "106"]
    )
    assert run.exit_code == 0, run.output
    assert "no processor is written" in run.output and "shard 3 of 3" in run.output
    with pytest.raises(MisError, match="mis convert .* makes it native"):
        load_checkpoint(FIXTURES / "qwen2")
    run = CliRunner().invoke(
        app, ["convert", str(tmp_path / "native"), str(tmp_path / "back"), "--to", "internvl_chat"]
    )
    assert run.exit_code == 0, run.output
    assert is_internvl_chat(tmp_path / "back") and not is_internvl_chat(tmp_path / "native")
    run = CliRunner().invoke(app, ["convert", str(tmp_path / "nowhere"), str(tmp_path / "x")])
    assert run.exit_code == 2 and "nowhere" in run.output


# Both families' checkpoints in five shards of 48 MiB, of which a conversion must never hold more than a little.
PEAK = """
import sys
from pathlib import Path
def peak():  # of this program; ru_maxrss would begin with that of the process that started it
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
from mis.models.conversion import convert
import torch, transformers.models.internvl.modeling_internvl, transformers.models.llama.modeling_llama
source, target, to = sys.argv[1:]
before = peak()
convert(Path(source), Path(target), to=to, image_token_id=117 if to == "native" else None)
print((peak() - before) / 1024)
"""


def test_memory_does_not_grow_with_the_checkpoint(copy, tmp_path):
    source = copy("internlm2")
    given = weights(source)
    rows = 2**20
    for name in ("language_model.model.tok_embeddings.weight", "language_model.output.weight"):
        given[name] = torch.zeros(rows, 48)  # 192 MiB
    edit(source / "config.json", llm_config__vocab_size=rows)
    names = sorted(given)
    big = [names.index(name) for name in names if given[name].shape[0] == rows]
    cuts = [0, big[0] + 1, big[1] + 1, len(names)]
    parts = [names[a:b] for a, b in itertools.pairwise(cuts)]
    (source / "model.safetensors").unlink()
    places = {}
    for number, part in enumerate(parts, start=1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        save_file({name: given[name] for name in part}, source / file)
        places |= dict.fromkeys(part, file)
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))

    def peak(source: Path, target: Path, to: str) -> float:
        command = [sys.executable, "-c", PEAK, str(source), str(target), to]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "src")
        return float(done.stdout.splitlines()[-1])

    # The checkpoint has 384 MiB, its largest shard 192; what is held at a time is tensors.CHUNK.
    assert peak(source, tmp_path / "native", "native") < 96
    assert peak(tmp_path / "native", tmp_path / "back", "internvl_chat") < 96


# --- Tokenizer --------------------------------------------------------------------------------------------------------

WORDS = (
    "the axe is in picture one and two , do not use this on that : step what can lead to harm ? warm water house 火 水 "
    "naïve café 123 4567 don't describe both images ."
).split()
CHAT_TOKENS = ("<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>")
ADDED = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
ALPHABET = [
    "the",
    "ax",
    "e",
    " ",
    "  ",
    "\n",
    "a",
    "火",
    "水",
    "é",
    "☃",
    "😀",
    "1",
    "23",
    " what",
    " the picture",
    "\t",
    "(",
]


def sentencepiece_model(*, dummy: bool = True, extra: bool = False) -> bytes:
    import sentencepiece

    rng, model = random.Random(0), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(rng.choices(WORDS, k=12)) for _ in range(500)]),
        model_writer=model,
        vocab_size=440,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=dummy,
        remove_extra_whitespaces=extra,
        normalization_rule_name="identity",
        # InternLM2 keeps pieces free at its vocabulary's end; its chat tokens stand on them.
        user_defined_symbols=[f"[UNUSED_TOKEN_{n}]" for n in range(len(CHAT_TOKENS))],
        pad_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


def add_tokenizer(folder: Path) -> list[str]:
    """What an InternLM2 checkpoint's folder holds for its tokenizer; returns the special tokens, longest first."""
    import sentencepiece

    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    at = {f"[UNUSED_TOKEN_{n}]": token for n, token in enumerate(CHAT_TOKENS)}
    decoder = {str(pieces.piece_to_id(piece)): token for piece, token in at.items()}
    decoder |= {"0": "<unk>", "1": "<s>", "2": "</s>"}
    decoder |= {str(len(pieces) + n): token for n, token in enumerate(ADDED)}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    config = {
        "added_tokens_decoder": {number: {"content": token, **flags} for number, token in decoder.items()},
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False, "model_max_length": 8192, "tokenizer_class": "InternLM2Tokenizer",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tokenization_internlm2.py").write_text("raise SystemExit('the checkpoint's code was run')\n")
    (folder / "modeling_internvl_chat.py").write_text("raise SystemExit('the checkpoint's code was run')\n")
    return sorted(decoder.values(), key=len, reverse=True)


def grow(folder: Path, vocabulary: int) -> None:
    """Random word vectors for a larger vocabulary, as a checkpoint has them whose tokenizer has so many tokens."""
    given = weights(folder)
    torch.manual_seed(0)
    for name in ("language_model.model.tok_embeddings.weight", "language_model.output.weight"):
        given[name] = torch.randn(vocabulary, given[name].shape[1])
    save_file(given, folder / "model.safetensors")
    edit(folder / "config.json", llm_config__vocab_size=vocabulary)


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> tuple[Path, Path, list[str]]:
    """(an InternLM2 checkpoint with a tokenizer, the same converted, its special tokens)."""
    folder = tmp_path_factory.mktemp("complete")
    source = folder / "source"
    shutil.copytree(FIXTURES / "internlm2", source)
    special = add_tokenizer(source)
    grow(source, 440 + len(ADDED))
    edit(source / "config.json", auto_map={"AutoModel": "modeling_internvl_chat.InternVLChatModel"})
    convert(source, folder / "native", say=quiet)
    return source, folder / "native", special


@pytest.mark.parametrize("extra", [True, False])
@pytest.mark.parametrize("dummy", [True, False])
def test_text_is_cut_as_sentencepiece_cuts_it(tmp_path, dummy, extra):
    import sentencepiece

    path = tmp_path / "tokenizer.model"
    path.write_bytes(sentencepiece_model(dummy=dummy, extra=extra))
    theirs, pieces = sentencepiece.SentencePieceProcessor(model_file=str(path)), read_sentencepiece(path)
    assert [(p.text, p.score) for p in pieces.pieces] == [
        (theirs.id_to_piece(n), theirs.get_score(n)) for n in range(len(theirs))
    ]
    ours, rng = tokenizer_of(pieces, {}), random.Random(1)
    for _ in range(500):
        text = "".join(rng.choices(ALPHABET, k=rng.randint(1, 25)))
        assert ours.encode(text).ids == theirs.encode(text), text


def test_the_tokenizer_is_the_originals_slow_one(complete):
    """Which is used upstream: special tokens are cut out first, sentencepiece cuts each stretch between them."""
    import sentencepiece

    source, native, special = complete
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
    decoder = json.loads((source / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    ids = {entry["content"]: int(number) for number, entry in decoder.items()}
    pattern = re.compile("|".join(re.escape(token) for token in special))

    def slow(text: str) -> list[int]:
        found, place = [], 0
        for match in pattern.finditer(text):
            found += [*theirs.encode(text[place : match.start()]), ids[match[0]]]
            place = match.end()
        return [*found, *theirs.encode(text[place:])]

    processor = AutoProcessor.from_pretrained(native, trust_remote_code=False)
    tokenizer, rng = processor.tokenizer, random.Random(2)
    assert all(tokenizer.convert_tokens_to_ids(token) == number for token, number in ids.items())
    assert (processor.image_token_id, len(tokenizer)) == (ids["<IMG_CONTEXT>"], 440 + len(ADDED))
    for _ in range(500):
        text = "".join(rng.choices([*ALPHABET, *special], k=rng.randint(1, 20)))
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == slow(text), text
    text = "describe both images . 火 naïve  café"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == ("<|im_end|>", "</s>", "<s>")


def test_an_answer_goes_on_where_its_prompt_ends(complete):
    tokenizer = AutoProcessor.from_pretrained(complete[1]).tokenizer
    prompt = "<s><|im_start|>user\nuse this<|im_end|>\n<|im_start|>assistant\n"
    (answer,) = answer_tokens(tokenizer, [prompt], ["the axe is in picture one"])
    together = tokenizer(f"{prompt}the axe is in picture one", add_special_tokens=False)["input_ids"]
    assert together[-len(answer) :] == answer
    assert answer != tokenizer("the axe is in picture one", add_special_tokens=False)["input_ids"], "no leading space"


def test_byte_level_tokenizers_keep_their_ids(copy, tmp_path):
    """Qwen2's: `vocab.json` and `merges.txt`, or `tokenizer.json`, and added tokens behind."""
    source = copy("qwen2")
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer, trained.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trained.train_from_iterator(
        [" ".join(WORDS)] * 5,
        trainers.BpeTrainer(vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    trained.model.save(str(source))
    size = trained.get_vocab_size()
    tokens = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *ADDED)
    (source / "added_tokens.json").write_text(json.dumps({token: size + n for n, token in enumerate(tokens)}))
    config = {"bos_token": None, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "add_bos_token": False}
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    given = weights(source)
    for path in source.glob("model*"):
        path.unlink()
    for name in ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"):
        given[name] = torch.randn(size + len(tokens) + 5, 40)  # the table may be larger than the vocabulary
    save_file(given, source / "model.safetensors")
    edit(source / "config.json", llm_config__vocab_size=size + len(tokens) + 5)
    convert(source, tmp_path / "native", say=quiet)
    model, processor = load_checkpoint(tmp_path / "native")
    assert model.config.image_token_id == processor.image_token_id == size + 3 + ADDED.index("<IMG_CONTEXT>")
    for text in ("describe both images . 火", "  naïve\n\ncafé😀 4567"):
        assert processor.tokenizer.decode(processor.tokenizer(text)["input_ids"]) == text
    assert prompt_texts(processor, ["one"], [0])[0].startswith("<|im_start|>system\n"), "Qwen2 has no first token"
    edit(source / "added_tokens.json", **{"<box>": size + 99})
    with pytest.raises(MisError, match="the added token '</box>' gets id .* ids between are missing"):
        convert(source, tmp_path / "other", say=quiet)


def test_the_image_token_must_be_the_tokenizers(complete, tmp_path):
    with pytest.raises(MisError, match="its tokenizer says that <IMG_CONTEXT> is 442, not 117"):
        convert(complete[0], tmp_path / "native", image_token_id=117, say=quiet)


def test_the_way_back_has_the_originals_files(complete, tmp_path):
    source, native, _ = complete
    convert(native, tmp_path / "back", to="internvl_chat", say=quiet)
    for name in ("tokenizer.model", "tokenizer_config.json", "tokenization_internlm2.py", "modeling_internvl_chat.py"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
    assert "auto_map" in json.loads((tmp_path / "back" / "config.json").read_text())


# --- Conversation and tiles -------------------------------------------------------------------------------------------


def test_the_conversation_is_the_originals(complete):
    """`internvl2_5` of internvl_chat/internvl/conversation.py (OpenGVLab/InternVL, commit 2410d1d): a system turn, then
    the user's behind the pictures; InternLM2's tokenizer puts <s> in front of all. Several pictures are numbered, as
    internvl_chat/README.md of that commit does.
    """
    processor = AutoProcessor.from_pretrained(complete[1])
    system = (
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
    )
    one, several, none = prompt_texts(
        processor, ["use this", "what leads to harm ?", "use this"], [1, 2, 0], [[(12, 1)], [(6, 1), (6, 3)], []]
    )
    head = f"<s><|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
    tail = "<|im_end|>\n<|im_start|>assistant\n"
    tile = "<IMG_CONTEXT>" * 4
    assert one == f"{head}<img>{tile}</img>\nuse this{tail}"
    numbered = f"Image-1: <img>{tile}</img>\nImage-2: <img>{tile * 3}</img>\n"
    assert several == f"{head}{numbered}what leads to harm ?{tail}"
    assert none == f"{head}use this{tail}"
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
    assert processor.apply_chat_template(turns, tokenize=False) == (
        "<s><|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    )


# Width, height, most tiles -> columns and rows, as `dynamic_preprocess` of internvl_chat/internvl/train/dataset.py
# chooses them (same commit): the nearest aspect ratio; of equal ones the grid with more tiles, while the picture has
# more than half of its pixels at 448 a side.
GRIDS = [
    (448, 448, 12, (1, 1)),
    (100, 90, 12, (1, 1)),
    (1024, 1024, 12, (3, 3)),
    (1024, 1024, 6, (2, 2)),  # Stable Diffusion's pictures in a pair, as MIS shows them
    (760, 760, 12, (2, 2)),
    (633, 634, 12, (1, 1)),  # 401,322 pixels: not more than half of four tiles
    (634, 634, 12, (2, 2)),
    (1920, 1080, 12, (4, 2)),
    (1920, 1080, 6, (2, 1)),
    (1080, 1920, 12, (2, 4)),
    (800, 600, 12, (4, 3)),
    (800, 600, 6, (3, 2)),
    (600, 800, 4, (2, 2)),  # as near to 1 as to 1 : 2; more tiles of equal shapes
    (100, 1000, 12, (1, 10)),
    (1000, 100, 4, (4, 1)),
    (3000, 200, 12, (12, 1)),
]


@pytest.mark.parametrize("width, height, most, grid", GRIDS)
def test_pictures_are_cut_as_the_original_cuts_them(complete, tmp_path, width, height, most, grid):
    """Tiles row by row from the picture at their size, a thumbnail behind more than one, ImageNet's colours."""
    processor = AutoProcessor.from_pretrained(complete[1])
    images = processor.image_processor
    side = 448
    images.size, images.max_patches = {"height": side, "width": side}, most
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (view,) = views_of(processor, [tmp_path / "a.png"])
    columns, rows = grid
    count = columns * rows + (columns * rows > 1)
    assert family_of(processor).view_rows(processor, view) == count
    assert family_of(processor).view_tokens(processor, view) == count * processor.image_seq_length
    picture = Image.open(tmp_path / "a.png")
    whole = picture.resize((columns * side, rows * side), Image.Resampling.BICUBIC)
    tiles = [
        whole.crop((column * side, row * side, (column + 1) * side, (row + 1) * side))
        for row in range(rows)
        for column in range(columns)
    ]
    if count > 1:
        tiles.append(picture.resize((side, side), Image.Resampling.BICUBIC))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = np.stack([(np.asarray(tile) / 255 - mean) / deviation for tile in tiles]).transpose(0, 3, 1, 2)
    found = Pixels(processor)([tmp_path / "a.png"], [view])
    assert found.shape == (count, 3, side, side)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


def test_the_pictures_of_a_sample_share_the_tiles(complete, tmp_path):
    """As in `multi_modal_multi_image_get_item` of internvl_chat_finetune.py (same commit): 12 for all, at least one."""
    processor = AutoProcessor.from_pretrained(complete[1])
    processor.image_processor.size = {"height": 448, "width": 448}
    paths = []
    for n in range(14):
        paths.append(tmp_path / f"{n}.png")
        Image.new("RGB", (1024, 1024)).save(paths[-1])
    for count, tiles in ((1, 10), (2, 5), (3, 5), (4, 1), (12, 1), (14, 1)):
        assert {view[1] for view in views_of(processor, paths[:count])} == {tiles}, count
