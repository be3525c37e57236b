"""The configuration of a run: one complete YAML file a scale, validated here; nothing is read from anywhere else.

`load("config/mini.yaml")` returns :class:`Settings`; an unknown key or an impossible value raises
:class:`ConfigurationError` that names the file, the key and the remedy.
"""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mis.errors import MisError

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


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


class Pretraining(Section):
    vision: VisionTower
    text: TextModel | TextFolder = Field(description="Sizes, for one from scratch; or a folder, for a pretrained one.")
    vision_stage: Stage = Field(description="Vision tower, projector and word embeddings learn to name what is shown.")
    assistant_stage: Stage = Field(description="Projector and language model learn to answer; the tower is frozen.")
    threads: Positive = Field(description="Fixed, because the number of threads decides the last bits of a sum.")


class Model(Section):
    """A base model. `family` names transformers' classes; `source` is "pretrain" (make it here) or a folder."""

    family: Literal["internvl", "llava", "qwen2_vl"]
    source: str
    pretraining: Pretraining | None = None
    thinks: bool = Field(default=False, description="Every answer that it learns has a thought in <think> in front.")
    optional: bool = Field(default=False, description="Run under `families: all` only.")
    arms: list[str] | None = Field(default=None, description="The arms of this model; absent: those of the study.")
    seeds: list[int] | None = Field(default=None, description="Of the run's seeds only these; absent: all of them.")
    max_new_tokens: Positive | None = Field(default=None, description="Absent: `evaluation.max_new_tokens`.")

    @model_validator(mode="after")
    def _complete(self) -> Model:
        if (self.source == "pretrain") != (self.pretraining is not None):
            raise ValueError("give `pretraining` exactly where `source: pretrain` stands")
        if self.pretraining and isinstance(self.pretraining.text, TextFolder) and self.family != "internvl":
            raise ValueError("a pretrained language model (`text.folder`) is known for the family internvl alone")
        return self


class ArmTraining(Section):
    learning_rate: float = Field(gt=0)
    epochs: float = Field(gt=0)


class Selection(Section):
    """What `mis select` tries: every rate for each of a few arms that stand for all of them."""

    learning_rates: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    arms: Annotated[list[str], Field(min_length=1)]


class Training(Section):
    global_batch_size: Positive
    warmup_ratio: Fraction
    weight_decay: float = Field(ge=0)
    max_length: Positive = Field(description="Tokens; a longer sample is an error, never cut.")
    save_steps: Positive = Field(description="Optimiser steps between checkpoints.")
    threads: Positive
    selection: Selection | None = None
    arms: dict[str, ArmTraining]


def _with(*places: str) -> AfterValidator:
    """A text may hold these places in braces; they are filled with what the sample asks or the model has said."""

    def check(text: str) -> str:
        try:
            found = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
        except ValueError as error:
            raise ValueError(f"braces that do not match ({error}); write {{{{ for a brace itself") from None
        if wrong := sorted(found - set(places)):
            known = ", ".join(f"{{{place}}}" for place in places) or "none"
            raise ValueError(f"unknown place {{{wrong[0]}}}; known here: {known}")
        return text

    return AfterValidator(check)


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


class Evaluation(Section):
    max_new_tokens: Positive
    batch_size: Positive
    threads: Positive
    prompts: Prompts | None = Field(default=None, description="Needed where an arm is a way of asking.")
    latency: Latency | None = Field(default=None, description="Absent: no time is measured.")
    suites: dict[str, list[str]] = Field(description="Benchmarks that one job answers; the name is the file's.")


class Judge(Section):
    kind: Literal["oracle"]


class Report(Section):
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    bootstrap_samples: Positive = 2000


class Settings(Section):
    scale: str
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    families: Literal["default", "all"] = Field(
        default="default", description='"all" also runs the models and arms that are marked optional.'
    )
    paths: Paths
    world: World | None
    models: dict[str, Model]
    arms: list[str]
    optional_arms: list[str] = []
    training: Training
    evaluation: Evaluation
    judge: Judge
    report: Report

    def arms_of(self, model: str) -> list[str]:
        """The arms of a model, in the order of the study."""
        own = self.models[model].arms
        if own is not None:
            return own
        return [*self.arms, *(self.optional_arms if self.families == "all" else [])]

    def seeds_of(self, model: str) -> list[int]:
        own = self.models[model].seeds
        return [seed for seed in self.seeds if own is None or seed in own]

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
