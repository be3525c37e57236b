"""How large public models and datasets are, and what follows from it: parameters, FLOPs, memory of training.

`sizes.yaml` holds what was read, with its sources. Where a number is not known, neither is what depends on it: the
functions return None, never a guess.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mis.errors import MisError
from mis.settings import Training

GIB = 2**30
PATH = Path(__file__).with_name("sizes.yaml")


@dataclass(frozen=True)
class Text:
    """A language model with grouped-query attention and a gated MLP (Llama, Qwen2, InternLM2)."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False

    @property
    def kv_size(self) -> int:
        """Width of the keys, and of the values."""
        return self.hidden_size // self.heads * self.kv_heads

    @property
    def layer_parameters(self) -> int:
        h, f = self.hidden_size, self.intermediate_size
        return 2 * h * h + 2 * h * self.kv_size + 3 * h * f + 2 * h

    @property
    def parameters(self) -> int:
        """All of them, biases left out."""
        embeddings = (1 if self.tied else 2) * self.vocabulary * self.hidden_size
        return self.layers * self.layer_parameters + embeddings + self.hidden_size

    @property
    def multiplied(self) -> int:
        """Parameters that each token is multiplied with: the table of word vectors is looked up, not multiplied."""
        return self.layers * self.layer_parameters + self.vocabulary * self.hidden_size


@dataclass(frozen=True)
class Vision:
    """A vision transformer, its MLP without a gate. Four of its patches make an image token (in LLaVA's one)."""

    hidden_size: int
    intermediate_size: int
    layers: int

    @property
    def parameters(self) -> int:
        """Those of its layers, biases and norms left out."""
        return self.layers * (4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size)


@dataclass(frozen=True)
class ModelSize:
    """What is known of a model. `parameters_known` is the sum where the parts were not read."""

    text: Text | None = None
    vision: Vision | None = None
    projector: int = 0
    parameters_known: int | None = None
    image_tokens: int | None = None
    source: str = ""

    @property
    def parameters(self) -> int | None:
        if self.text is None:
            return self.parameters_known
        return self.text.parameters + self.projector + (self.vision.parameters if self.vision else 0)

    def trained(self, trains: tuple[str, ...]) -> int | None:
        """Parameters of the parts that an arm trains (`mixtures.Arm.trains`)."""
        if self.text is None:
            return None
        parts = {"language_model": self.text.parameters, "projector": self.projector}
        return sum(parts[part] for part in trains)


@cache
def known() -> dict[str, Any]:
    """`sizes.yaml`: the sections models, benchmarks, training, labels, downloads."""
    try:
        return yaml.safe_load(PATH.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise MisError(f"{PATH}: cannot be read ({error}); take it from the repository again") from None


def model_size(name: str, checkpoint: Path | None = None) -> ModelSize:
    """The sizes of a model by its id in the configuration; its checkpoint's own config.json counts first."""
    entry = known()["models"].get(name, {})
    size = ModelSize(
        text=Text(**entry["text"]) if "text" in entry else None,
        vision=Vision(**entry["vision"]) if "vision" in entry else None,
        projector=int(entry.get("projector", 0)),
        parameters_known=int(entry["parameters"]) if "parameters" in entry else None,
        image_tokens=entry.get("image_tokens"),
        source=entry.get("source", f"{name} is not in sizes.yaml"),
    )
    if checkpoint is None or not (checkpoint / "config.json").is_file():
        return size
    return read_config(checkpoint / "config.json", size)


_TEXT = {"intermediate_size": "intermediate_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
         "kv_heads": "num_key_value_heads", "vocabulary": "vocab_size", "hidden_size": "hidden_size"}  # fmt: skip


def read_config(path: Path, beside: ModelSize = ModelSize()) -> ModelSize:  # noqa: B008
    """The sizes in a checkpoint's config.json (transformers' or internvl_chat's); what it lacks comes from `beside`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MisError(
            f"{path}: no configuration of a model ({error}); convert or fetch the checkpoint again"
        ) from None
    text = config.get("text_config") or config.get("llm_config") or config
    vision = config.get("vision_config") or {}
    read = {field: text.get(name) for field, name in _TEXT.items()}
    read["kv_heads"] = read["kv_heads"] or read["heads"]
    tied = bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
    tower = {
        "hidden_size": vision.get("embed_dim") or vision.get("hidden_size"),
        "layers": vision.get("num_hidden_layers") or vision.get("depth"),
    }
    tower["intermediate_size"] = vision.get("intermediate_size") or (
        tower["hidden_size"] and int(tower["hidden_size"] * vision.get("mlp_ratio", 4))
    )
    return ModelSize(
        text=Text(**read, tied=tied) if all(read.values()) else beside.text,
        vision=Vision(**tower) if all(tower.values()) else beside.vision,
        projector=beside.projector,
        parameters_known=beside.parameters_known,
        image_tokens=beside.image_tokens,
        source=str(path),
    )


@dataclass(frozen=True)
class Memory:
    """Bytes that one process holds at its peak, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buffers: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


def _held(zero: int) -> int:
    """Weights that DeepSpeed holds in buckets beside a process's share: those that it reduces or has just gathered."""
    path = Path(__file__).resolve().parents[2] / "config" / "deepspeed" / f"zero{zero}.json"
    try:
        stage = json.loads(path.read_text(encoding="utf-8"))["zero_optimization"]
        if zero == 3:
            return stage["stage3_max_live_parameters"]
        return 2 * stage["reduce_bucket_size"] + stage["allgather_bucket_size"]  # communication overlaps: two of them
    except (OSError, ValueError, KeyError) as error:
        raise MisError(f"{path}: cannot be read ({error}); run from a whole checkout") from None


def training_memory(
    size: ModelSize,
    trains: tuple[str, ...],
    training: Training,
    tokens: int,
    answer_tokens: int,
    *,
    tower: bool = True,
    held: int | None = None,
) -> Memory | None:
    """The peak of one training process. A micro-batch's samples have `tokens` tokens, `answer_tokens` of them learnt.

    None where the model's parts are not known. `tower` is false where the vision tower is not in the process, `held`
    are weights in DeepSpeed's buckets, if not those of config/deepspeed/. Bytes a parameter that is trained: 4 for the
    weight, 4 for its gradient, 8 for two moments, and in bf16 the 2 of autocast's copy. With DeepSpeed in bf16: 2 for
    the weight, 2 for its gradient (ZeRO-2 adds them up in 4) and 4 more while a step is taken, 12 for a float32 copy
    and two moments; ZeRO-2 shares gradients and optimiser between the processes, ZeRO-3 the weights as well
    (Rajbhandari et al., arXiv 1910.02054, Section 3). With LoRA the adapters alone are trained, in float32, beside
    frozen weights in the configured precision.
    """
    if size.text is None:
        return None
    text, width, shard, lora = size.text, 2 if training.precision == "bf16" else 4, training.sharding, training.lora
    batch = training.per_device_batch_size or training.global_batch_size
    trained = lora_parameters(text, lora) if lora else size.trained(trains)
    frozen = text.parameters + size.projector - (0 if lora else trained)
    frozen += size.vision.parameters if tower and size.vision else 0
    kept = width if shard or lora else 4
    own = width if shard and not lora else 4
    weights, gradients = frozen * kept + trained * own, trained * own
    optimizer = trained * (12 if own == 2 else 8)
    buffers = trained * width if width < own and not lora else 0
    if shard:
        processes = shard.gpus * shard.nodes
        buffers = min(_held(shard.zero) if held is None else held, text.parameters) * width
        # The optimiser takes its share of them in float32, which it makes for each step.
        gradients = ((4 if shard.zero == 2 else 2) + 4) * trained // processes
        optimizer //= processes
        weights = weights // processes if shard.zero == 3 else weights
    seen = batch * tokens
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations(text, seen, width, training.gradient_checkpointing, frozen=bool(lora)),
        logits=logits(text, batch * answer_tokens, width),
        buffers=buffers,
    )


def layer_activations(text: Text, tokens: int, width: int, *, frozen: bool = False) -> int:
    """Bytes that one decoder layer keeps for the way back, as transformers writes it, with fused attention.

    A token leaves, of width h (hidden), k (keys or values) and f (inside the MLP): two norms, each its input, the
    normalised input (both float32) and its output; queries, keys, values and the output of attention; gate, up,
    activation and product of the MLP. With adapters beside `frozen` weights the products' inputs are kept for them, but
    what a norm has normalised is not.
    """
    h, k, f = text.hidden_size, text.kv_size, text.intermediate_size
    inputs = 2 * (4 * h + width * h) + width * (2 * h + 2 * k + 4 * f)
    return tokens * (inputs if frozen else inputs + (2 * 4 * h if width == 2 else 0) + width * h)


def activations(text: Text, tokens: int, width: int, checkpointing: bool, *, frozen: bool = False) -> int:
    """Bytes that a micro-batch of `tokens` keeps for the way back, and the gradients inside the layer that it is in.

    With checkpointing each layer's input is kept, and one layer that is computed again.
    """
    layer = layer_activations(text, tokens, width, frozen=frozen)
    inputs = tokens * text.hidden_size * width
    on_the_way = tokens * width * (2 * text.hidden_size + 3 * text.intermediate_size)
    kept = text.layers * inputs + layer if checkpointing else text.layers * layer
    return kept + 2 * inputs + on_the_way


def logits(text: Text, tokens: int, width: int) -> int:
    """Bytes of the output matrix's product with the tokens that are learnt: its float32 copy, logarithms, gradient."""
    return tokens * text.vocabulary * (4 + 4 + (2 * width if width == 2 else 4))


def lora_parameters(text: Text, lora: Any) -> int:
    """Parameters of the adapters: rank x (in + out) for each named linear layer of the language model."""
    h, k, f = text.hidden_size, text.kv_size, text.intermediate_size
    ends = {"q_proj": (h, h), "k_proj": (h, k), "v_proj": (h, k), "o_proj": (h, h), "gate_proj": (h, f),
            "up_proj": (h, f), "down_proj": (f, h)}  # fmt: skip
    return text.layers * sum(lora.rank * sum(ends[name]) for name in lora.targets if name in ends)


def training_flops(size: ModelSize, training: Training, tokens: int, images: int) -> float | None:
    """Floating-point operations of one sample's forward and backward pass; None where the sum of parameters is unknown.

    Two a parameter and token forward, two more to hand the gradient on, two for the gradient of a weight that is
    trained (Kaplan et al., arXiv 2001.08361, Section 2.1), two once more where activations are computed again; each of
    these passes also multiplies every token with those before it in each layer. The frozen tower runs forward alone.
    """
    if size.parameters is None:
        return None
    passes = 6 - 2 * bool(training.lora) + 2 * training.gradient_checkpointing
    if size.text is None:
        return float(passes * size.parameters * tokens)
    attention = passes * 2 * size.text.layers * size.text.hidden_size * tokens / 2
    flops = (passes * size.text.multiplied + attention) * tokens
    if size.vision and training.features == "computed":
        flops += 2 * size.vision.parameters * 4 * (size.image_tokens or 0) * images
    return float(flops)


def answering_flops(size: ModelSize, prompt_tokens: int, answer_tokens: int, images: int = 0) -> float | None:
    """Operations of one answer: two a parameter and token, of the question and of the answer, and the tower's."""
    if size.parameters is None:
        return None
    flops = 2.0 * (size.text.multiplied if size.text else size.parameters) * (prompt_tokens + answer_tokens)
    if size.vision:
        flops += 2 * size.vision.parameters * 4 * (size.image_tokens or 0) * images
    return flops


def answering_memory(size: ModelSize, batch: int, tokens: int) -> int | None:
    """Bytes of weights (bf16) and of keys and values for `batch` answers of `tokens` each."""
    if size.parameters is None:
        return None
    cache_bytes = 2 * size.text.layers * size.text.kv_size * 2 * batch * tokens if size.text else 0
    return 2 * size.parameters + cache_bytes


def benchmark_size(name: str) -> Mapping[str, int | None]:
    """`samples` and `images` (of a sample) of a benchmark; None where nobody counted."""
    return known()["benchmarks"].get(name, {"samples": None, "images": None})
