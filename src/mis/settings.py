"""The configuration of a run: one complete YAML file a scale, validated here; nothing is read from anywhere else.

`load("config/mini.yaml")` returns :class:`Settings`; an unknown key or an impossible value raises
:class:`ConfigurationError` that names the file, the key and the remedy.
"""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mis.errors import MisError

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
SERVER_PLACES = ("source", "name", "host", "port", "gpus")  # in a word of a server's command


class ConfigurationError(MisError, ValueError):
    """A configuration that cannot be run. Its text is meant for the user."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paths(Section):
    data: Path = Field(description="Dataset roots, one folder a dataset, each in its public layout.")
    build: Path = Field(description="Mixtures, checkpoints, features: what can be made again.")
    results: Path = Field(description="Responses, verdicts, scores, tables.")
    figures: Path = Field(description="Figures, PDF and PNG.")
    cache: Path = Field(description="Base checkpoints, kept by the content of what made them.")


class World(Section):
    """Sizes of the miniature world's datasets, in samples. Absent at the paper's scale."""

    seed: int
    english: Literal["plain", "natural"] = Field(
        default="plain",
        description="plain: a small English of single words, for models from scratch; natural: the same in natural "
        "English, for a pretrained language model (docs/small_scale.md).",
    )
    image_size: Positive = Field(description="Side of a picture in pixels, as the model sees it.")
    captions: Positive = Field(description="Captioned pictures for the vision stage of pre-training.")
    general: Positive = Field(description="General instruction conversations for pre-training.")
    m4_instruct: Positive = Field(description="General samples set aside for the arms, in the layout of M4-Instruct.")
    saferlhf: Positive
    vlguard_unsafe: Positive = Field(description="Unsafe samples of VLGuard's training file.")
    vlguard_safe: Positive = Field(description="Benign samples of VLGuard's training file.")
    mis_train: Positive
    mis_easy: Positive
    mis_hard: Positive
    mis_real: Positive
    benchmark: Positive = Field(description="Samples of every other benchmark.")
    development: Positive = Field(description="Samples of every benchmark's development split.")


class VisionTower(Section):
    hidden_size: Positive
    layers: Positive
    heads: Positive
    patch_size: Positive


class TextModel(Section):
    hidden_size: Positive
    layers: Positive
    heads: Positive


class TextFolder(Section):
    """A pretrained language model: a local folder with safetensors, configuration and tokenizer (Llama's classes)."""

    folder: Path


class Stage(Section):
    """One stage of pre-training: `steps` updates of `batch_size` samples, cosine schedule with linear warm-up."""

    steps: Positive
    batch_size: Positive
    learning_rate: float = Field(gt=0)
    warmup_ratio: Fraction = 0.03
    weight_decay: float = Field(default=0.05, ge=0)


class Lora(Section):
    """Low-rank adapters in the place of full fine-tuning: only they are trained."""

    rank: Positive
    alpha: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[list[str], Field(min_length=1)] = Field(
        description="Last names of linear layers, say q_proj; those in the parts that the arm trains get an adapter."
    )


class Pretraining(Section):
    vision: VisionTower
    text: TextModel | TextFolder = Field(description="Sizes, for one from scratch; or a folder, for a pretrained one.")
    vision_stage: Stage = Field(description="Vision tower, projector and word embeddings learn to name what is shown.")
    assistant_stage: Stage = Field(description="Projector and language model learn to answer; the tower is frozen.")
    lora: Lora | None = Field(
        default=None,
        description="Assistant stage: adapters in the language model (the projector is trained whole), products in "
        "bf16. Absent: all of the language model, float32.",
    )
    attention: Literal["sdpa", "eager"] | None = Field(
        default=None,
        description="Assistant stage; absent: transformers' choice (sdpa). Eager is faster in bf16 on a CPU.",
    )
    threads: Positive = Field(description="Fixed, because the number of threads decides the last bits of a sum.")


class Endpoint(Section):
    """An OpenAI-compatible server. Only endpoints of the configuration are called, and no redirect is followed."""

    url: str = Field(
        pattern=r"^https?://[^\s?#@]+$", description="Up to and with the version, like http://host:8000/v1."
    )
    key_env: str | None = Field(default=None, description="The environment's variable that holds the key; null: none.")
    concurrency: Positive = Field(default=64, description="Requests in flight at once.")
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = Field(default=None, description="Prompt and answer together.")
    timeout_s: float = Field(default=600.0, gt=0, description="Seconds for one whole answer.")
    attempts: Positive = Field(default=6, description="How often a request is sent at most before it counts as failed.")
    backoff_s: float = Field(
        default=1.0, gt=0, description="Wait before the second attempt; doubled each time, up to a minute."
    )


class Served(Section):
    """A model behind an endpoint, and what has to be known of it. Prices are in money per million tokens."""

    endpoint: str = Field(description="A name of `endpoints`.")
    name: str = Field(description="What the server calls the model.")
    revision: str | None = Field(
        default=None, description="The commit of its weights, or a dated snapshot; null: unknown."
    )
    max_images: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Pictures a request; null: any.")
    image_text: str = Field(
        default="",
        description="Put before the question once a picture, for a server that wants placeholders in the text, like "
        '"Image-{number}: <image>\\n". The pictures themselves always stand before the text.',
    )
    system: str = Field(default="", description="System prompt; empty: none is sent.")
    temperature: Annotated[float, Field(ge=0)] | None = Field(
        default=0.0, description="null: none is sent, for a model that refuses every value but its own."
    )
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="What the limit of an answer is called. OpenAI's newer models take max_completion_tokens alone; it "
        "counts what they think as well.",
    )
    image_tokens: Positive = Field(
        default=4096, description="Most tokens of a picture; for limits and the budget only."
    )
    price_input: float | None = Field(default=None, ge=0)
    price_output: float | None = Field(default=None, ge=0)
    budget: float | None = Field(default=None, gt=0, description="Money; asking stops before it is exceeded.")

    @model_validator(mode="after")
    def _priced(self) -> Served:
        if self.budget is not None and (self.price_input is None or self.price_output is None):
            raise ValueError("a budget can only be kept with `price_input` and `price_output`")
        return self


class ArmTraining(Section):
    learning_rate: float = Field(gt=0)
    epochs: float = Field(gt=0)


class Hub(Section):
    """A checkpoint on the Hugging Face hub (docs/models.md)."""

    hub: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="owner/name.")
    revision: str | None = Field(
        default=None,
        description="The commit; null: that in config/models.lock.json, or the newest, which is then written there.",
    )
    layout: Literal["native", "internvl_chat"] = Field(
        default="native", description="internvl_chat is converted to transformers' own classes."
    )
    remote_code: bool = Field(
        default=False,
        description="Run the Python code in the checkpoint. Wants a `revision` whose code somebody has read.",
    )


class Cutting(Section):
    """How a checkpoint's pictures are cut, in the place of what it says itself."""

    max_tiles: Positive | None = Field(
        default=None, description="internvl: tiles that the pictures of a sample share; thumbnails come on top."
    )
    min_pixels: Positive | None = Field(default=None, description="qwen2_vl, qwen2_5_vl: smaller ones are enlarged.")
    max_pixels: Positive | None = Field(default=None, description="qwen2_vl, qwen2_5_vl: larger ones are made smaller.")


class Model(Section):
    """A base model: a checkpoint, or one that is `served` elsewhere and only answers.

    `family` names transformers' classes, "remote" a network of the checkpoint's own Python code, which only answers;
    `source` is "pretrain" (make it here), a folder, or a checkpoint on the hub.
    """

    family: Literal["internvl", "llava", "qwen2_vl", "qwen2_5_vl", "llava_onevision", "remote"] | None = None
    source: str | Hub | None = None
    cutting: Cutting | None = None
    served: Served | None = None
    image_text: str = Field(default="", description="As in `served`, for a checkpoint behind `evaluation.service`.")
    serve_with: list[str] = Field(
        default=[],
        description="More words for the command of `evaluation.service`, with its places: how this model's server cuts "
        "pictures, say, or which chat template it takes.",
    )
    pretraining: Pretraining | None = None
    thinks: bool = Field(default=False, description="Every answer that it learns has a thought in <think> in front.")
    optional: bool = Field(default=False, description="Run under `families: all` only.")
    arms: list[str] | None = Field(default=None, description="The arms of this model; absent: those of the study.")
    seeds: list[int] | None = Field(default=None, description="Of the run's seeds only these; absent: all of them.")
    max_new_tokens: Positive | None = Field(default=None, description="Absent: `evaluation.max_new_tokens`.")
    training: dict[str, ArmTraining] = Field(
        default={}, description="By arm: hyper-parameters of this model, in the place of those in `training.arms`."
    )

    @property
    def text_folder(self) -> Path | None:
        """Of a model that is made here: the folder of the pretrained language model in it; None where it has none."""
        text = self.pretraining.text if self.pretraining else None
        return text.folder if isinstance(text, TextFolder) else None

    @model_validator(mode="after")
    def _complete(self) -> Model:
        if self.served is not None and (self.family or self.source or self.pretraining):
            raise ValueError("a model is either a checkpoint (`family`, `source`) or `served`, not both")
        if self.served is not None and self.serve_with:
            raise ValueError("serve_with: this model is `served` elsewhere; its server is started there")
        for word in self.serve_with:
            _places(word, *SERVER_PLACES)
        if self.served is None and (self.family is None or self.source is None):
            raise ValueError("give `family` and `source` of a checkpoint, or `served`")
        if (self.source == "pretrain") != (self.pretraining is not None):
            raise ValueError("give `pretraining` exactly where `source: pretrain` stands")
        if self.text_folder and self.family != "internvl":
            raise ValueError("a pretrained language model (`text.folder`) is known for the family internvl alone")
        if self.pretraining and self.family not in ("internvl", "llava", "qwen2_vl"):
            raise ValueError(f"{self.family} is taken from a checkpoint; internvl, llava and qwen2_vl can be made here")
        remote = isinstance(self.source, Hub) and self.source.remote_code
        if remote and self.source.revision and not re.fullmatch("[0-9a-f]{40}", self.source.revision):
            raise ValueError("source.revision: with `remote_code` the whole commit, 40 hex digits")
        if (self.family == "remote") != remote:
            raise ValueError("`family: remote` and `source.remote_code: true` belong together")
        if isinstance(self.source, Hub) and self.source.layout == "internvl_chat" and self.family != "internvl":
            raise ValueError("`layout: internvl_chat` belongs to the family internvl")
        pixels = {"min_pixels", "max_pixels"}
        wanted = {"internvl": {"max_tiles"}, "qwen2_vl": pixels, "qwen2_5_vl": pixels}.get(self.family, set())
        if self.cutting and (other := sorted(self.cutting.model_dump(exclude_none=True).keys() - wanted)):
            raise ValueError(f"cutting.{other[0]}: the family {self.family} does not cut pictures so")
        return self


class Selection(Section):
    """What `mis select` tries: every rate for each of a few arms that stand for all of them."""

    learning_rates: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    arms: Annotated[list[str], Field(min_length=1)]


class Sharding(Section):
    """Training on several GPUs with DeepSpeed's ZeRO: `gpus` processes on each of `nodes` machines.

    Without a GPU the same processes run on the CPU, as in the tests.
    """

    gpus: Positive = Field(description="Processes on a machine, one a GPU.")
    nodes: Positive = 1
    zero: Literal[2, 3] = Field(description="2 shares gradients and optimiser, 3 the weights too; config/deepspeed/.")


class Training(Section):
    global_batch_size: Positive = Field(description="Samples of an optimiser's step, whatever the number of GPUs.")
    per_device_batch_size: Positive | None = Field(
        default=None,
        description="Samples that a process takes at once; gradients are accumulated up to the global batch. "
        "Absent: its whole share.",
    )
    warmup_ratio: Fraction
    weight_decay: float = Field(ge=0)
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.98
    max_length: Positive = Field(description="Tokens; a longer sample is an error, never cut.")
    save_steps: Positive = Field(description="Optimiser steps between checkpoints.")
    log_steps: Positive = Field(default=50, description="Optimiser steps between rows of the loss curve.")
    threads: Positive
    workers: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Processes that prepare batches beside each training process; 0: it does so itself."
    )
    precision: Literal["float32", "bf16"] = "float32"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        default="sdpa", description="flash_attention_2 wants a GPU and bf16; where it is missing, sdpa is taken."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Activations are computed again on the way back: less memory, a third more work."
    )
    features: Literal["stored", "computed"] = Field(
        default="stored",
        description="The frozen vision tower's outputs: read from `B/features`, where each picture's were computed "
        "once; or computed whenever a picture is shown.",
    )
    sharding: Sharding | None = None
    lora: Lora | None = None
    selection: Selection | None = None
    arms: dict[str, ArmTraining]

    @model_validator(mode="after")
    def _possible(self) -> Training:
        world = self.sharding.gpus * self.sharding.nodes if self.sharding else 1
        if self.global_batch_size % (world * (self.per_device_batch_size or 1)):
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is no multiple of {world} processes x "
                f"{self.per_device_batch_size or 1} samples"
            )
        if self.attention == "flash_attention_2" and self.precision != "bf16":
            raise ValueError("attention: flash_attention_2 computes in 16 bits; set precision: bf16, or take sdpa")
        if self.sharding and self.sharding.zero == 3 and self.features == "stored":
            raise ValueError("features: stored wants a whole tower in each process; set features: computed, or zero: 2")
        if self.sharding and self.sharding.zero == 3 and self.lora:
            raise ValueError("lora leaves little to share out; set sharding.zero: 2, or leave out sharding")
        return self


def _with(*places: str) -> AfterValidator:
    """A text may hold these places in braces; they are filled with what the sample asks or the model has said."""

    return AfterValidator(lambda text: _places(text, *places))


def _places(text: str, *places: str) -> str:
    """The text, if it has no other places in braces than these. Raises ValueError."""
    try:
        found = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise ValueError(f"braces that do not match ({error}); write {{{{ for a brace itself") from None
    if wrong := sorted(found - set(places)):
        known = ", ".join(f"{{{place}}}" for place in places) or "none"
        raise ValueError(f"unknown place {{{wrong[0]}}}; known here: {known}")
    return text


class VanillaCoT(Section):
    answer: Annotated[str, _with("question")] = Field(description="The question and the request to think in steps.")


class CustomizedCoT(Section):
    describe_one: Annotated[str, _with("question")] = Field(description="First turn, for a sample with one picture.")
    describe_several: Annotated[str, _with("question")] = Field(description="First turn, for more than one picture.")
    answer: Annotated[str, _with("question", "description")] = Field(description="The question after what was seen.")


class CustomizedSafetyCoT(Section):
    judge: Annotated[str, _with("question")] = Field(description="First turn: is this input safe?")
    unsafe: str = Field(description="A judgement that begins with this word says no.")
    rule: Annotated[str, _with("question")] = Field(description="Second turn, only where it is not: the safety rule.")
    answer: Annotated[str, _with("question", "rule")] = Field(description="The question after the rule.")


class Ecso(Section):
    judge: Annotated[str, _with("question", "answer")] = Field(description="Second turn: is that answer harmful?")
    judge_sees_images: bool = Field(description="Are the sample's pictures shown with the second turn?")
    unsafe: str = Field(description="A judgement that begins with this word says yes.")
    describe_one: Annotated[str, _with("question")] = Field(description="Third turn, for a sample with one picture.")
    describe_several: Annotated[str, _with("question")] = Field(description="Third turn, for more than one picture.")
    answer: Annotated[str, _with("question", "description")] = Field(
        description="Last turn, without pictures: the question after what was seen."
    )


class Prompts(Section):
    """The words of the prompt-only methods (Table 15) and of ECSO (Table 16), in the language of the models."""

    vanilla_cot: VanillaCoT
    customized_cot: CustomizedCoT
    customized_safety_cot: CustomizedSafetyCoT
    ecso: Ecso


class Latency(Section):
    """What Table 10 measures: single questions, one after the other, the vision tower included."""

    samples: Positive = Field(description="Of each of the table's benchmarks.")
    warm_up: Positive = Field(description="Questions of each benchmark before the clock counts.")
    arms: list[str]
    models: list[str] | None = Field(default=None, description="Absent: all that have these arms.")


class Probes(Section):
    """What `mis probe` measures by likelihood, of a model whose text half is a pretrained language model."""

    per_relation: Positive = Field(description="Pairs of objects of each relation, at most: in text alone.")
    samples: Positive = Field(description="Of each benchmark, at most: is a warning likelier than help?")
    max_new_tokens: Positive = Field(description="Of an answer to an instruction in text alone.")


class Evaluation(Section):
    max_new_tokens: Positive
    batch_size: Positive
    threads: Positive
    precision: Literal["float32", "bf16"] = Field(default="float32", description="Of a checkpoint that is loaded here.")
    prompts: Prompts | None = Field(default=None, description="Needed where an arm is a way of asking.")
    latency: Latency | None = Field(default=None, description="Absent: no time is measured.")
    probes: Probes | None = Field(default=None, description="Absent: nothing is measured by likelihood.")
    service: str | None = Field(
        default=None,
        description="Of `services` the one that serves each checkpoint; absent: it is loaded (transformers).",
    )
    lmms_eval: LmmsEval | None = None
    suites: dict[str, list[str]] = Field(description="Benchmarks that one job answers; the name is the file's.")


class Judge(Section):
    kind: Literal["oracle", "models"] = Field(
        description="oracle: the miniature's own truth; models: for each benchmark the one of `judges` that "
        "benchmarks.py names."
    )


class AskedJudge(Section):
    """What judges that are models share."""

    service: str | None = Field(default=None, description="Of `services` the one that serves it; absent: none does.")
    source: str | None = Field(
        default=None, description="Its weights, a local folder: for a service, or (guard) to be run in this process."
    )
    served: Served | None = Field(
        default=None, description="Behind an endpoint. With a service its name is what counts."
    )
    truncated: Literal["unsafe_only", "whole"] = Field(
        default="unsafe_only",
        description='A response that ran into its token limit: of the verdict on it only "unsafe" stands, which no '
        "continuation could take back; or it is judged as if it were whole, as the official script does.",
    )


class RubricJudge(AskedJudge):
    """A strong model that fills in a form (judges/rubrics/)."""

    kind: Literal["rubric"]
    images: bool | None = Field(default=None, description="Are the pictures sent? Absent: as each rubric says.")
    rubrics: dict[str, Path] = Field(
        default={}, description="By the rubric's name: a file in the place of ours, such as the official wording."
    )

    @model_validator(mode="after")
    def _complete(self) -> RubricJudge:
        if self.served is None:
            raise ValueError("a judge of the kind rubric is `served`")
        return self


class GuardJudge(AskedJudge):
    """LlamaGuard, which classifies by its own template."""

    kind: Literal["guard"]
    max_tokens: Positive = Field(default=128, description="Of its answer, which is a few tokens long.")
    batch_size: Positive = Field(default=8, description="Only where it runs in this process.")
    templates: dict[str, Path] = Field(
        default={}, description="By the template's name: a chat template (Jinja) in the place of ours."
    )

    @model_validator(mode="after")
    def _complete(self) -> GuardJudge:
        if (self.served is None) == (self.source is None or self.service is not None):
            raise ValueError("give `served` (with a `service` that serves `source`, or without), or `source` alone")
        return self


class RefusalJudge(Section):
    """Is there a refusal's phrase in the response? As ETA judges text-only jailbreaks."""

    kind: Literal["refusal"]
    phrases: Path | None = Field(default=None, description="One a line; absent: ours.")


AnyJudge = Annotated[RubricJudge | GuardJudge | RefusalJudge, Field(discriminator="kind")]


class Service(Section):
    """A server that a rule starts on the machine of those who ask it, and stops after the last of them.

    Each word of `command` may hold {source} (a folder of weights), {name} (what the model is called), {host}, {port}
    (a free one is found) and {gpus}; {{ and }} stand for braces.
    """

    command: Annotated[list[str], Field(min_length=1)]
    called: str = Field(
        default="{name}",
        description="What the server wants to hear as the model's name: {name}, or {source} for one "
        "that cannot be told another.",
    )
    gpus: Annotated[int, Field(ge=0)] = Field(default=0, description="For tensor parallelism.")
    health: str = Field(default="/health", description="Answers 200 when the server can be asked.")
    version: str = Field(default="/v1", description="The path of the OpenAI-compatible interface.")
    start_s: float = Field(default=1800.0, gt=0, description="Seconds until it must be ready.")

    @model_validator(mode="after")
    def _places(self) -> Service:
        for word in self.command:
            _places(word, *SERVER_PLACES)
        _places(self.called, "source", "name")
        return self


class LmmsEval(Section):
    """The general benchmarks by lmms-eval, over HTTP, in the place of our own loaders."""

    benchmarks: list[str] = Field(description="Of q_bench, mmstar, mmmu, muirbench, mmt_bench.")
    concurrency: Positive = 32
    limit: Positive | None = Field(default=None, description="Samples of each; absent: all.")
    datasets: Path | None = Field(default=None, description="HF_HOME of that process; absent: the user's.")


class Report(Section):
    max_missing_percent: Annotated[float, Field(ge=0, le=100)] | None = Field(
        default=None,
        description="A table is not made if more responses of a cell lack a verdict; null: it is, and says so.",
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    bootstrap_samples: Positive = 2000
    audit: Path | None = Field(
        default=None,
        description="Folder of labelled answers (tests/audit/README.md), from the repository's root: the intervals of "
        "scores are widened by the errors that they show of the oracle; null: they are not.",
    )
    scores: Literal["run", "artifact"] = Field(
        default="run",
        description='What a table or figure is drawn from: "run": the one scores.csv of all models, arms and suites. '
        '"artifact": scores of its own models, arms and suites alone, so that one table can be run by itself.',
    )
    beside: str | None = Field(
        default=None, description="A scale of results/reference whose verdicts stand beside this run's own."
    )


class Planning(Section):
    """What `mis plan` cannot read from the rest: the hardware, how well it is used, how long texts are."""

    gpu_memory_gib: float = Field(default=80, gt=0)
    gpu_tflops: float = Field(
        default=312, gt=0, description="Peak of 16-bit matrix products, 10^12 operations a second."
    )
    mfu_training: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.4, description="Share of the peak that training reaches (model FLOPs utilisation)."
    )
    mfu_answering: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="The same for answers, which are written one token after the other."
    )
    prompt_tokens: Positive = Field(default=100, description="Of a question, its pictures left out.")
    answer_tokens: Positive = Field(default=250, description="Of an answer or a training label.")
    thought_tokens: Positive = Field(default=500, description="More, of a model that thinks in front of its answer.")
    judge_tokens: Positive = Field(default=600, description="Of a judge's own instructions.")
    verdict_tokens: Positive = Field(default=60, description="Of a judge's answer.")


class Diffusers(Section):
    """A painter in this process: a text-to-image pipeline of diffusers, on a GPU where there is one."""

    pipeline: str = Field(description="A local folder in the layout of diffusers, or owner/name on the hub.")
    revision: str | None = Field(default=None, description="The commit on the hub; null: unpinned, and said to be so.")
    steps: Positive = Field(description="Denoising steps.")
    guidance: float = Field(ge=0)
    size: Positive = Field(description="Side of a picture in pixels, a multiple of 16.")
    batch_size: Positive = Field(description="Pictures drawn at once. It does not change them beyond rounding.")
    precision: Literal["float32", "bf16"] = "bf16"
    offload: bool = Field(default=False, description="Keep the parts that do not run in the CPU's memory.")
    local_files_only: bool = Field(default=False, description="Never ask the hub.")


class ImagesEndpoint(Section):
    """A painter behind an OpenAI-compatible images endpoint."""

    model: str = Field(description="A name of `construction.models`.")
    size: str = Field(pattern=r"^[0-9]+x[0-9]+$", description="Like 1024x1024.")
    send_seed: bool = Field(default=True, description="A server that knows no seed refuses it: then false.")
    price: float | None = Field(default=None, ge=0, description="Money a picture; null: unknown.")


class ElementSource(Section):
    """A safety benchmark that elements are taken from."""

    benchmark: str = Field(description="An id of benchmarks.py, or advbench_goals: AdvBench without any suffix.")
    samples: Positive | None = Field(default=None, description="The first so many of its file; absent: all.")


class Duplicates(Section):
    """What is too much alike (`mis.duplicates`). `against` are the benchmarks that nothing may be taken from."""

    text_similarity: Fraction = Field(default=0.8, description="Share of runs of three words that two texts share.")
    picture_distance: Annotated[int, Field(ge=0, le=64)] = Field(default=6, description="Bits of 64 that differ.")
    against: list[str] = Field(default=[], description="Ids of benchmarks.py.")


class People(Section):
    """Human experts on the review page: how many see each pair."""

    annotators: Annotated[int, Field(ge=2)]


class PhotographIndex(Section):
    """Real photographs: a local index in the layout of clip-retrieval, and the CLIP that it was made with."""

    index: Path = Field(description="A folder with `image.index` (faiss) and `metadata/*.parquet`.")
    clip: Path = Field(description="A local folder with the CLIP checkpoint (transformers).")
    images: Path = Field(description="The folder that `image_path` of the metadata is relative to.")
    nearest: Positive = Field(default=50, description="Photographs that are looked at for each object.")
    choices: Positive = Field(default=3, description="Pairs that a person is shown for a sample.")
    minimum_similarity: float = Field(default=0.2, description="Cosine of text and picture, below which none is shown.")


class ConstructionSplits(Section):
    train: Positive
    easy: Positive
    hard: Positive
    real: Annotated[int, Field(ge=0)] = 0


class Construction(Section):
    """MIS from real models and people. Absent: the miniature's stand-ins make it, or it is downloaded."""

    seed: int
    sources: Annotated[list[ElementSource], Field(min_length=1)]
    pairs_per_sample: Positive = Field(description="Pairs of objects that a writer proposes for each sample.")
    training_share: Fraction = Field(
        default=0.0,
        description="Share of all pairs of objects that are for training alone; the others are for tests alone. "
        "0: as in the paper, a text that stays dangerous goes to training, and nothing else does.",
    )
    models: dict[str, Served] = Field(description="Who answers, by a name of ours.")
    text_writer: str = Field(description="Elements from text. This and the next seven: names of `models`.")
    image_writer: str = Field(description="Elements from text and pictures.")
    instruction_writer: str
    reviewer: str = Field(description="Accepts a pair of pictures, or writes better prompts; sees pictures.")
    screen: str = Field(description="Drops riskless and meaningless pairs before people see them; sees pictures.")
    classifier: str = Field(description="Dangerous texts, explicit pictures; sees pictures.")
    labeller: str = Field(description="Writes the safety chain of thought; sees pictures.")
    guard: str = Field(description="Looks for explained harm in labels.")
    guard_kind: Literal["prompt", "llama_guard"] = Field(
        default="prompt", description="How the guard is asked: by our prompt, or as Llama Guard's chat template does."
    )
    painter: Diffusers | ImagesEndpoint
    people: People | None = Field(default=None, description="Absent: nobody looks, and the release says so.")
    photographs: PhotographIndex | None = Field(default=None, description="Needed where `splits.real` is not 0.")
    duplicates: Duplicates = Duplicates()
    few_shot: dict[str, list[str]] = Field(default={}, description="Examples by prompt (construction/prompts).")
    explicit_terms: list[str] | None = Field(default=None, description="Absent: construction/prompts/terms.txt.")
    splits: ConstructionSplits
    license: str | None = Field(default=None, description="Of the release, as SPDX names it; null: not decided.")

    @model_validator(mode="after")
    def _complete(self) -> Construction:
        if self.splits.real and self.photographs is None:
            raise ValueError("splits.real needs an index of photographs (`photographs`); or set it to 0")
        if self.splits.real > self.splits.easy + self.splits.hard:
            raise ValueError("splits.real repeats test samples; it cannot be larger than easy and hard together")
        roles = ("text_writer", "image_writer", "instruction_writer", "reviewer", "screen", "classifier", "labeller",
                 "guard")  # fmt: skip
        named = {role: getattr(self, role) for role in roles}
        if isinstance(self.painter, ImagesEndpoint):
            named["painter.model"] = self.painter.model
        for role, name in named.items():
            if name not in self.models:
                raise ValueError(f"{role}: unknown model {name!r}; known: {', '.join(self.models)}")
        return self


class Labelling(Section):
    """Who writes one kind of labels (`mis data label`), and within what limits."""

    served: Served
    max_tokens: Positive = 1024


class Sources(Section):
    """The public datasets. At the miniature's scale all of this keeps its default."""

    lock: Path = Field(default=Path("config/data.lock.json"), description="Commits, sizes and checksums.")
    allow_unpinned: bool = Field(
        default=False, description="Read datasets that the lock does not name, at their newest; the results say so."
    )
    labels: dict[str, str] = Field(
        default={},
        description='Other labels than an arm names, like {"saferlhf/original": safe_answer}: those that were written '
        "by `mis data label`.",
    )
    unlabelled_limit: Fraction = Field(
        default=0.0, description="Share of a part of an arm that may go without, because its label was refused."
    )
    exclusions: Path | None = Field(
        default=None, description="CSV `source,id,reason`: examples that no arm takes, say because a test set has them."
    )
    labelling: dict[str, Labelling] = Field(default={}, description="By the variant of the labels.")


class Settings(Section):
    scale: str
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    families: Literal["default", "all"] = Field(
        default="default", description='"all" also runs the models and arms that are marked optional.'
    )
    paths: Paths
    world: World | None
    construction: Construction | None = Field(default=None, description="MIS from real models; absent: no such.")
    sources: Sources = Sources()
    endpoints: dict[str, Endpoint] = Field(default={}, description="The servers that may be called.")
    models: dict[str, Model]
    arms: list[str]
    optional_arms: list[str] = []
    training: Training
    evaluation: Evaluation
    judge: Judge
    judges: dict[str, AnyJudge] = Field(
        default={},
        description="rubric, guard and refusal are the run's own (benchmarks.py); others are for `mis rejudge`.",
    )
    services: dict[str, Service] = {}
    report: Report
    planning: Planning | None = Field(default=None, description="Absent: a dry run shows no costs.")

    def arms_of(self, model: str) -> list[str]:
        """The arms of a model, in the order of the study; of a served one its own list, or the base alone."""
        own = self.models[model].arms
        if own is not None:
            return own
        if self.models[model].served is not None:
            return ["base"]
        return [*self.arms, *(self.optional_arms if self.families == "all" else [])]

    def seeds_of(self, model: str) -> list[int]:
        own = self.models[model].seeds
        return [seed for seed in self.seeds if own is None or seed in own]

    def arm_training(self, model: str, arm: str) -> ArmTraining | None:
        """The hyper-parameters of an arm for a model; None for one that trains nothing or is made from scratch."""
        return self.models[model].training.get(arm) or self.training.arms.get(arm)

    def on_development(self) -> Settings:
        """The same run with the development split in the place of the datasets."""
        data = self.paths.data / "development"
        return self.model_copy(update={"paths": self.paths.model_copy(update={"data": data})})

    def service_of(self, model: str) -> Service | None:
        """The server of a model's checkpoints, with the model's own words behind the command; None: they are loaded."""
        if self.evaluation.service is None:
            return None
        service = self.services[self.evaluation.service]
        return service.model_copy(update={"command": [*service.command, *self.models[model].serve_with]})

    def max_new_tokens_of(self, model: str) -> int:
        return self.models[model].max_new_tokens or self.evaluation.max_new_tokens

    def all_arms(self) -> list[str]:
        """The arms that any model has, each once."""
        return list(dict.fromkeys(arm for model in self.models for arm in self.arms_of(model)))

    @model_validator(mode="before")
    @classmethod
    def _leave_out_optional(cls, raw: Any) -> Any:
        """What is not run does not stand in the resolved configuration, and so in no later step."""
        if isinstance(raw, dict) and raw.get("families", "default") != "all" and isinstance(raw.get("models"), dict):
            chosen = {
                name: model
                for name, model in raw["models"].items()
                if not (isinstance(model, dict) and model.get("optional") is True)
            }
            return {**raw, "models": chosen}
        return raw

    @model_validator(mode="after")
    def _names_exist(self) -> Settings:
        from mis.benchmarks import BY_ID
        from mis.mixtures import ARMS

        for name, model in self.models.items():
            if model.served is None:
                continue
            if model.served.endpoint not in self.endpoints:
                known = ", ".join(self.endpoints) or "none"
                raise ValueError(f"models.{name}.served: unknown endpoint {model.served.endpoint!r}; known: {known}")
            for arm in self.arms_of(name):
                if arm in ARMS and ARMS[arm].trained:
                    raise ValueError(f"models.{name}.arms: {arm!r} is trained, and a served model only answers")
        for name, served in (self.construction.models if self.construction else {}).items():
            if served.endpoint not in self.endpoints:
                known = ", ".join(self.endpoints) or "none"
                raise ValueError(f"construction.models.{name}: unknown endpoint {served.endpoint!r}; known: {known}")
        for name, labelling in self.sources.labelling.items():
            if labelling.served.endpoint not in self.endpoints:
                known = ", ".join(self.endpoints) or "none"
                raise ValueError(
                    f"sources.labelling.{name}: unknown endpoint {labelling.served.endpoint!r}; known: {known}"
                )
        if self.construction and self.world:
            raise ValueError("`construction` and `world` both make MIS; leave out one")
        timed = self.evaluation.latency.arms if self.evaluation.latency else []
        lists = {"arms": self.arms, "optional_arms": self.optional_arms, "evaluation.latency.arms": timed}
        lists |= {f"models.{name}.arms": model.arms or [] for name, model in self.models.items()}
        for where, arms in lists.items():
            for arm in arms:
                if arm not in ARMS:
                    raise ValueError(f"{where}: unknown arm {arm!r}; known: {', '.join(ARMS)}")
                if ARMS[arm].trained and not ARMS[arm].from_scratch and arm not in self.training.arms:
                    raise ValueError(f"training.arms: no hyper-parameters for {arm!r}")
                if ARMS[arm].asks and self.evaluation.prompts is None:
                    raise ValueError(f"evaluation.prompts: no texts for {arm!r}, which is a way of asking")
        self._judges_exist()
        seen: dict[str, str] = {}
        for suite, names in self.evaluation.suites.items():
            for name in names:
                if name not in BY_ID:
                    raise ValueError(
                        f"evaluation.suites.{suite}: unknown benchmark {name!r}; known: {', '.join(BY_ID)}"
                    )
                if name in seen:
                    raise ValueError(f"evaluation.suites.{suite}: {name!r} is already in suite {seen[name]!r}")
                seen[name] = suite
        return self

    def _judges_exist(self) -> None:
        from mis.benchmarks import BY_ID, GENERAL

        for name, judge in self.judges.items():
            if name in ("rubric", "guard", "refusal") and judge.kind != name:
                raise ValueError(f"judges.{name}: the run's own judge of this name is of the kind {name}")
            if getattr(judge, "served", None) and not judge.service and judge.served.endpoint not in self.endpoints:
                known = ", ".join(self.endpoints) or "none"
                raise ValueError(f"judges.{name}.served: unknown endpoint {judge.served.endpoint!r}; known: {known}")
        wanted = {f"judges.{name}.service": getattr(judge, "service", None) for name, judge in self.judges.items()}
        for where, name in (wanted | {"evaluation.service": self.evaluation.service}).items():
            if name is not None and name not in self.services:
                raise ValueError(f"{where}: unknown service {name!r}; known: {', '.join(self.services) or 'none'}")
        if self.judge.kind == "models":
            open_ones = [name for names in self.evaluation.suites.values() for name in names if name in BY_ID]
            for name in open_ones:
                benchmark = BY_ID[name]
                if benchmark.task != "choice" and benchmark.judge not in self.judges:
                    raise ValueError(f"judges: no {benchmark.judge!r}, which judges {name} (benchmarks.py)")
        general = self.evaluation.lmms_eval.benchmarks if self.evaluation.lmms_eval else []
        for name in general:
            if name not in GENERAL:
                raise ValueError(f"evaluation.lmms_eval: unknown benchmark {name!r}; known: {', '.join(GENERAL)}")
            if any(name in names for names in self.evaluation.suites.values()):
                raise ValueError(f"evaluation.lmms_eval: {name!r} is also in a suite; leave it out in one of them")


def validate(raw: Any, name: str = "configuration") -> Settings:
    """Settings from a mapping. `name` is what an error calls the source: usually the file."""
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{name}: expected a mapping of keys at the top, found {type(raw).__name__}")
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"]) or "(top)"
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                message = "unknown key; remove it, or see config/schema.json for the keys that exist"
            lines.append(f"  {where}: {message}")
        raise ConfigurationError(f"{name} cannot be used:\n" + "\n".join(lines)) from None


def load(path: Path | str) -> Settings:
    """Read and validate a configuration file."""
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}); known scales lie in config/") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML: {error}") from None
    return validate(raw, str(path))
