"""How the released `internvl_chat` layout and transformers' own InternVL name the same tensors and the same settings.

Every tensor has one home on the other side; InternViT's fused `qkv` and InternLM2's fused `wqkv` are cut into q, k
and v by rows. Facts as checked in `tests/fixtures/internvl_chat_tiny/mapping_facts.md` against OpenGVLab/InternVL,
commit 2410d1dbf208f0e799459aff9376e5747dbf41a2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mis.errors import MisError
from mis.models.conversion.tensors import Pieced, Rows, Stored

# The stem of a tensor's name (without ".weight" or ".bias"; N: a layer's number), original and native. The native names
# are those that `save_pretrained` writes.
VISION = {
    "vision_model.embeddings.class_embedding": "vision_tower.embeddings.cls_token",
    "vision_model.embeddings.position_embedding": "vision_tower.embeddings.position_embeddings",
    "vision_model.embeddings.patch_embedding": "vision_tower.embeddings.patch_embeddings.projection",
    "vision_model.encoder.layers.N.attn.proj": "vision_tower.encoder.layer.N.attention.projection_layer",
    "vision_model.encoder.layers.N.attn.q_norm": "vision_tower.encoder.layer.N.attention.q_norm",
    "vision_model.encoder.layers.N.attn.k_norm": "vision_tower.encoder.layer.N.attention.k_norm",
    "vision_model.encoder.layers.N.norm1": "vision_tower.encoder.layer.N.layernorm_before",
    "vision_model.encoder.layers.N.norm2": "vision_tower.encoder.layer.N.layernorm_after",
    "vision_model.encoder.layers.N.ls1": "vision_tower.encoder.layer.N.lambda_1",
    "vision_model.encoder.layers.N.ls2": "vision_tower.encoder.layer.N.lambda_2",
    "vision_model.encoder.layers.N.mlp.fc1": "vision_tower.encoder.layer.N.mlp.fc1",
    "vision_model.encoder.layers.N.mlp.fc2": "vision_tower.encoder.layer.N.mlp.fc2",
    "mlp1.0": "multi_modal_projector.layer_norm",
    "mlp1.1": "multi_modal_projector.linear_1",
    "mlp1.3": "multi_modal_projector.linear_2",
}
VISION_QKV = ("vision_model.encoder.layers.N.attn.qkv", "vision_tower.encoder.layer.N.attention.{}_proj")
LAYER = "language_model.model.layers.N"
INTERNLM2 = {
    "language_model.model.tok_embeddings": "language_model.model.embed_tokens",
    "language_model.model.norm": "language_model.model.norm",
    "language_model.output": "language_model.lm_head",
    f"{LAYER}.attention.wo": f"{LAYER}.self_attn.o_proj",
    f"{LAYER}.attention_norm": f"{LAYER}.input_layernorm",
    f"{LAYER}.ffn_norm": f"{LAYER}.post_attention_layernorm",
    f"{LAYER}.feed_forward.w1": f"{LAYER}.mlp.gate_proj",
    f"{LAYER}.feed_forward.w3": f"{LAYER}.mlp.up_proj",
    f"{LAYER}.feed_forward.w2": f"{LAYER}.mlp.down_proj",
}
INTERNLM2_QKV = (f"{LAYER}.attention.wqkv", LAYER + ".self_attn.{}_proj")
QWEN2 = {
    stem: stem
    for stem in (
        "language_model.model.embed_tokens",
        "language_model.model.norm",
        "language_model.lm_head",
        *(f"{LAYER}.self_attn.{part}_proj" for part in "qkvo"),
        *(f"{LAYER}.mlp.{part}_proj" for part in ("gate", "up", "down")),
        f"{LAYER}.input_layernorm",
        f"{LAYER}.post_attention_layernorm",
    )
}
ARCHITECTURES = {"InternLM2ForCausalLM": "internlm2", "Qwen2ForCausalLM": "qwen2"}
# The network's own names, as in `state_dict()` and in the checkpoints of a training; the hub's stand on the right.
OWN = (
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
)


def hub_name(name: str) -> str:
    """A native tensor's name as `save_pretrained` writes it; own names and those of ZeRO-3 are known too."""
    name = name.replace("language_model.model.model.", "language_model.model.")
    for own, hub in OWN:
        if name.startswith(own):
            return hub + name.removeprefix(own)
    return name


@dataclass(frozen=True)
class Fused:
    """A tensor that holds q, k and v: `groups` times so many rows of each. `native` has a place for the letter."""

    original: str
    native: str
    groups: int
    rows: tuple[int, int, int]

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """(0 for q, 1 for k, 2 for v; first row within it, rows), in the fused tensor's order."""
        for group in range(self.groups):
            for part, rows in enumerate(self.rows):
                yield part, group * rows, rows

    @property
    def total(self) -> int:
        return self.groups * sum(self.rows)


@dataclass(frozen=True)
class Layout:
    """The names of one checkpoint's tensors on both sides."""

    plain: Mapping[str, str]
    fused: tuple[Fused, ...]


def layout_of(text: str, vision_width: int, heads: int, kv_heads: int, head_dim: int) -> Layout:
    """`text` is "internlm2" or "qwen2"; the other numbers are the configuration's."""
    fused = [Fused(*VISION_QKV, groups=1, rows=(vision_width,) * 3)]
    if text == "internlm2":
        # Rows are grouped by KV head: its queries, then one key, then one value.
        grouped = (heads // kv_heads * head_dim, head_dim, head_dim)
        fused.append(Fused(*INTERNLM2_QKV, groups=kv_heads, rows=grouped))
    return Layout(VISION | (INTERNLM2 if text == "internlm2" else QWEN2), tuple(fused))


def _split_name(name: str) -> tuple[str, str, str]:
    """(stem with N, the layer's number, the rest: ".weight", ".bias" or nothing)."""
    stem, dot, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        stem, dot, kind = name, "", ""
    found = re.search(r"\.layers?\.(\d+)\.", stem + ".")
    if not found:
        return stem, "", dot + kind
    return f"{stem[: found.start(1)]}N{stem[found.end(1) :]}", found[1], dot + kind


def to_native(tensors: Mapping[str, Stored], layout: Layout) -> dict[str, Pieced]:
    """The native tensors that the original ones make, in their order. Raises :class:`MisError` for an unknown name."""
    fused = {each.original: each for each in layout.fused}
    made: dict[str, Pieced] = {}
    for name, tensor in tensors.items():
        stem, number, kind = _split_name(name)
        if stem in layout.plain:
            made[layout.plain[stem].replace("N", number) + kind] = Pieced((tensor.whole(),))
        elif stem in fused:
            made |= _cut(fused[stem], name, tensor, number, kind)
        else:
            raise MisError(
                f"{tensor.file}: {name} has no place in transformers' InternVL; adapters (LoRA) must be merged first, "
                "and other text models than InternLM2 and Qwen2 are not known"
            )
    return made


def _cut(fused: Fused, name: str, tensor: Stored, number: str, kind: str) -> dict[str, Pieced]:
    if tensor.rows != fused.total:
        raise MisError(
            f"{tensor.file}: {name} has {tensor.rows} rows, but config.json's heads make {fused.total}: "
            "they are not of one checkpoint"
        )
    parts: tuple[list[Rows], ...] = ([], [], [])
    row = 0
    for part, _, rows in fused.blocks():
        parts[part].append(Rows(tensor, row, row + rows))
        row += rows
    native = fused.native.replace("N", number)
    return {native.format(letter) + kind: Pieced(tuple(part)) for letter, part in zip("qkv", parts, strict=True)}


def to_original(tensors: Mapping[str, Stored], layout: Layout) -> dict[str, Pieced]:
    """The reverse of :func:`to_native`; a fused tensor stands where its q stood."""
    back = {native: original for original, native in layout.plain.items()}
    fused = {each.native.format(letter): (each, letter) for each in layout.fused for letter in "qkv"}
    by_name = {hub_name(name): tensor for name, tensor in tensors.items()}
    made: dict[str, Pieced] = {}
    for name, tensor in by_name.items():
        stem, number, kind = _split_name(name)
        if stem in fused:
            each, letter = fused[stem]
            if letter == "q":
                made[each.original.replace("N", number) + kind] = _join(each, by_name, number, kind, tensor)
        elif stem in back:
            made[back[stem].replace("N", number) + kind] = Pieced((tensor.whole(),))
        else:
            raise MisError(f"{tensor.file}: {name} has no place in internvl_chat; is this an InternVL checkpoint?")
    return made


def _join(fused: Fused, tensors: Mapping[str, Stored], number: str, kind: str, q: Stored) -> Pieced:
    names = [fused.native.replace("N", number).format(letter) + kind for letter in "qkv"]
    parts = []
    for name, rows in zip(names, fused.rows, strict=True):
        tensor = tensors.get(name)
        if tensor is None:
            raise MisError(f"{q.file.parent}: {name} is missing beside {names[0]}; the checkpoint is not whole")
        if tensor.rows != fused.groups * rows or tensor.dtype != q.dtype or tensor.shape[1:] != q.shape[1:]:
            raise MisError(f"{tensor.file}: {name} does not fit config.json and its neighbours (shape or type)")
        parts.append(tensor)
    return Pieced(tuple(Rows(parts[part], start, start + rows) for part, start, rows in fused.blocks()))


# --- Configuration

# Same name on both sides.
SAME_VISION = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "norm_type",
    "layer_norm_eps", "num_channels", "attention_dropout", "initializer_range",
)  # fmt: skip
SAME_TEXT = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_act",
    "rms_norm_eps", "max_position_embeddings", "vocab_size", "bos_token_id", "eos_token_id", "pad_token_id",
    "initializer_range",
)  # fmt: skip
QWEN2_ONLY = ("use_sliding_window", "sliding_window", "max_window_layers", "attention_dropout")


def _pick(raw: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: raw[name] for name in names if name in raw}


class Original:
    """The configuration of an `internvl_chat` checkpoint; `place` is the file, for errors.

    Construction raises :class:`MisError` for whatever has no counterpart in transformers' own class.
    """

    def __init__(self, raw: Mapping[str, Any], place: str):
        self.raw, self.place = raw, place
        if raw.get("model_type") != "internvl_chat":
            raise MisError(f"{place}: model_type is {raw.get('model_type')!r}, not internvl_chat")
        self.vision = self._part("vision_config")
        self.llm = self._part("llm_config")
        name = (self.llm.get("architectures") or [None])[0]
        if name not in ARCHITECTURES:
            raise MisError(f"{place}: the text model {name} is not known; known: {', '.join(ARCHITECTURES)}")
        self.text = ARCHITECTURES[name]
        eps, normed = self.vision.get("layer_norm_eps", 1e-6), self.vision.get("qk_normalization", False)
        refused = {
            "ps_version other than v2": raw.get("ps_version", "v1") != "v2",
            "use_llm_lora (merge the adapter first)": bool(raw.get("use_llm_lora")),
            "use_backbone_lora (merge the adapter first)": bool(raw.get("use_backbone_lora")),
            "pad2square": bool(raw.get("pad2square")),
            "use_mean_pooling false": self.vision.get("use_mean_pooling", True) is not True,
            "dropout in the vision tower": bool(self.vision.get("dropout")),
            "q and k norms of another eps than 1e-6": bool(normed) and eps != 1e-6,
        }
        if wrong := [what for what, found in refused.items() if found]:
            raise MisError(f"{place}: {', '.join(wrong)}: transformers' InternVL cannot do this")

    def _part(self, name: str) -> Mapping[str, Any]:
        part = self.raw.get(name)
        if not isinstance(part, Mapping):
            raise MisError(f"{self.place}: {name} is missing")
        return part

    def _get(self, part: Mapping[str, Any], name: str) -> Any:
        if name not in part:
            raise MisError(f"{self.place}: {name} is missing")
        return part[name]

    def layout(self) -> Layout:
        heads = self._get(self.llm, "num_attention_heads")
        return layout_of(
            self.text,
            self._get(self.vision, "hidden_size"),
            heads,
            self.llm.get("num_key_value_heads", heads),
            self._get(self.llm, "hidden_size") // heads,
        )

    @property
    def image_size(self) -> int:
        """The side of a tile in pixels."""
        return self.raw.get("force_image_size") or self._get(self.vision, "image_size")

    @property
    def image_seq_length(self) -> int:
        side = self.image_size // self._get(self.vision, "patch_size")
        return int(side**2 * self.raw.get("downsample_ratio", 0.5) ** 2)

    def native(self, image_token_id: int, dtype: str) -> dict[str, Any]:
        """The content of transformers' config.json; `dtype` as torch names it."""
        llm, vision = self.llm, self.vision
        rope = {"rope_type": "default", "rope_theta": float(llm.get("rope_theta", 10000.0))}
        if scaling := llm.get("rope_scaling"):
            rope |= {"rope_type": scaling.get("type", scaling.get("rope_type")), "factor": scaling["factor"]}
            if rope["rope_type"] not in ("dynamic", "linear"):
                raise MisError(f"{self.place}: rope_scaling of type {rope['rope_type']!r} is not known here")
        text = _pick(llm, SAME_TEXT) | {"rope_parameters": rope, "tie_word_embeddings": False, "dtype": dtype}
        if self.text == "internlm2":
            bias = llm.get("bias", True)
            text |= {"model_type": "llama", "attention_bias": bias, "mlp_bias": False}
        else:
            text |= {"model_type": "qwen2", **_pick(llm, QWEN2_ONLY)}
        return {
            "architectures": ["InternVLForConditionalGeneration"],
            "model_type": "internvl",
            "dtype": dtype,
            "downsample_ratio": self.raw.get("downsample_ratio", 0.5),
            "image_seq_length": self.image_seq_length,
            "image_token_id": image_token_id,
            "projector_hidden_act": "gelu",
            "tie_word_embeddings": False,  # of both, it is this one that counts; the original never ties
            "vision_feature_layer": self.raw.get("select_layer", -1),
            "vision_feature_select_strategy": "default",
            "text_config": text,
            "vision_config": _pick(vision, SAME_VISION)
            | {
                "model_type": "internvl_vision",
                "dtype": dtype,
                "attention_bias": vision.get("qkv_bias", False),
                "use_qk_norm": vision.get("qk_normalization", False),
                "image_size": [self._get(vision, "image_size")] * 2,
                "patch_size": [self._get(vision, "patch_size")] * 2,
                "use_mean_pooling": True,
            },
        }


def original_config(native: Mapping[str, Any], place: str, dtype: str, tiling: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `internvl_chat`'s config.json for a native one; `tiling` is the image processor's.

    What the native configuration says is written, in the fields that the original code and vLLM read; a file beside the
    original weights may say more (`auto_map`), see `conversion.convert`.
    """
    text, vision = native.get("text_config", {}), native.get("vision_config", {})
    kind = {"llama": "internlm2", "qwen2": "qwen2"}.get(text.get("model_type"))
    if native.get("model_type") != "internvl" or kind is None:
        raise MisError(f"{place}: not an InternVL of transformers' classes with a Llama or Qwen2 text model")
    if native.get("tie_word_embeddings", True):
        raise MisError(f"{place}: tied word embeddings, which internvl_chat does not have")
    if kind == "internlm2" and (text.get("mlp_bias") or text.get("head_dim") not in (None, _head_dim(text))):
        raise MisError(f"{place}: a Llama that InternLM2 cannot be (mlp_bias or head_dim)")
    rope = text.get("rope_parameters") or {}
    scaling = None
    if rope.get("rope_type", "default") != "default":
        scaling = {"type": rope["rope_type"], "factor": rope["factor"]}
    sides = [
        value[0] if isinstance(value, Sequence) else value for value in (vision["image_size"], vision["patch_size"])
    ]
    side = _tile_side(native, sides)
    llm = _pick(text, SAME_TEXT) | {
        "architectures": [{name: key for key, name in ARCHITECTURES.items()}[kind]],
        "model_type": kind,
        "rope_theta": rope.get("rope_theta", 10000.0),
        "rope_scaling": scaling,
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
    }
    if kind == "internlm2":
        llm["bias"] = bool(text.get("attention_bias", False))
    else:
        llm |= _pick(text, QWEN2_ONLY)
    return {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "downsample_ratio": native.get("downsample_ratio", 0.5),
        "dynamic_image_size": bool(tiling.get("crop_to_patches", True)),
        "force_image_size": side,
        "hidden_size": text["hidden_size"],
        "max_dynamic_patch": tiling.get("max_patches", 12),
        "min_dynamic_patch": tiling.get("min_patches", 1),
        "pad2square": False,
        "ps_version": "v2",
        "select_layer": native.get("vision_feature_layer", -1),
        "template": "internvl2_5",
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "use_thumbnail": True,
        "llm_config": llm,
        "vision_config": _pick(vision, SAME_VISION)
        | {
            "architectures": ["InternVisionModel"],
            "model_type": "intern_vit_6b",  # the original's name for the 300M tower too
            "image_size": sides[0],
            "patch_size": sides[1],
            "qkv_bias": vision.get("attention_bias", False),
            "qk_normalization": vision.get("use_qk_norm", False),
            "dropout": 0.0,
            "drop_path_rate": 0.0,
            "torch_dtype": dtype,
        },
    }


def _head_dim(text: Mapping[str, Any]) -> int:
    return text["hidden_size"] // text["num_attention_heads"]


def _tile_side(native: Mapping[str, Any], sides: Sequence[int]) -> int:
    """The side in pixels that gives `image_seq_length` tokens: `force_image_size`."""
    tokens, ratio = native.get("image_seq_length", 256), native.get("downsample_ratio", 0.5)
    return round(tokens**0.5 / ratio) * sides[1]


def native_layout(native: Mapping[str, Any]) -> Layout:
    """The layout of a native checkpoint, from its configuration."""
    text, vision = native["text_config"], native["vision_config"]
    heads = text["num_attention_heads"]
    kind = "internlm2" if text["model_type"] == "llama" else "qwen2"
    return layout_of(kind, vision["hidden_size"], heads, text.get("num_key_value_heads") or heads, _head_dim(text))
