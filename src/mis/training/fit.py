"""One training loop for every stage after vision: transformers' Trainer with our collator, loss and batches."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch.utils.data import Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import SAFE_WEIGHTS_NAME

from mis.errors import MisError
from mis.training.encoding import IGNORED, Encoded


class Encodings(Dataset):
    def __init__(self, items: Sequence[Encoded]):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Encoded:
        return self.items[index]


class LengthGroups(Sampler[int]):
    """A seeded shuffle in which the samples of a batch are of like length, so that little is padded.

    Within windows of 32 batches samples are sorted by length; then the batches are shuffled. `set_epoch` changes the
    shuffle, so that a resumed run sees the order of an uninterrupted one.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed, self.epoch = np.asarray(lengths), batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        window = 32 * self.batch_size
        batches: list[np.ndarray] = []
        for start in range(0, len(order), window):
            part = order[start : start + window]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        # A short batch must come last, or the loader's cut would mix its neighbours.
        last = [batches.pop()] if len(batches[-1]) < self.batch_size else []
        rng.shuffle(batches)
        return iter(np.concatenate([*batches, *last]).tolist())


def sample_loss(model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy averaged over the tokens of each answer, then over the samples.

    Averaged per token over the batch instead, one-word answers would starve beside long ones. Only positions with a
    label reach the output matrix.
    """
    labels = inputs["labels"][:, 1:]
    arguments = {key: value for key, value in inputs.items() if key != "labels"}
    hidden = model.model(**arguments, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels != IGNORED
    losses = torch.nn.functional.cross_entropy(model.lm_head(hidden[wanted]).float(), labels[wanted], reduction="none")
    weights = (1.0 / wanted.sum(1, keepdim=True)).expand_as(labels)[wanted]
    return (losses * weights).sum() / len(labels)


class SampleTrainer(Trainer):
    """Trainer with per-sample loss and length-grouped batches."""

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        loss = sample_loss(self.accelerator.unwrap_model(model), inputs)
        return (loss, {}) if return_outputs else loss

    # `save_pretrained` writes weights under the hub's names. A resumed Trainer looks for the network's own, finds none
    # of them, and goes on from the base model with a mere warning: so checkpoints have the own names, and loading is
    # strict.
    def _save(self, output_dir=None, state_dict=None):
        self.model.save_pretrained(output_dir, state_dict=state_dict, save_original_format=False)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        try:
            load_model(self.model, Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise MisError(
                f"{resume_from_checkpoint}: not a checkpoint of this training ({error}); remove that folder and run "
                "the same command again"
            ) from error

    def _get_train_sampler(self, *_):
        lengths = [len(item.input_ids) for item in self.train_dataset.items]
        return LengthGroups(lengths, self.args.train_batch_size, self.args.seed)


class Lines(TrainerCallback):
    """Progress as lines that a person can follow."""

    def __init__(self, label: str):
        self.label = label

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            print(f"{self.label}: step {state.global_step} of {state.max_steps}, loss {logs['loss']:.4f}", flush=True)


def fit(
    model,
    items: Sequence[Encoded],
    collator,
    *,
    folder: Path,
    label: str,
    batch_size: int,
    learning_rate: float,
    warmup_ratio: float,
    weight_decay: float,
    seed: int,
    epochs: float = 1.0,
    max_steps: int = -1,
    save_steps: int = 0,
    log_steps: int = 50,
) -> list[dict]:
    """Train `model` in place and return the loss curve; goes on from the last checkpoint in `folder` if there is one.

    AdamW, cosine schedule with linear warm-up, gradient norm clipped at 1, float32. `epochs` counts passes over
    `items`; `max_steps` overrides it.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    steps = max_steps if max_steps > 0 else int(np.ceil(len(items) / batch_size) * epochs)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, round(warmup_ratio * steps)),
        weight_decay=weight_decay,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        max_steps=steps,
        seed=seed,
        data_seed=seed,
        save_strategy="steps" if save_steps else "no",
        save_steps=save_steps or 500,
        save_total_limit=1,
        logging_steps=log_steps,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = SampleTrainer(
        model=model, args=arguments, train_dataset=Encodings(items), data_collator=collator, callbacks=[Lines(label)]
    )
    trainer.pop_callback(PrinterCallback)
    last = _last_whole_checkpoint(folder) if save_steps else None
    if last:
        print(f"{label}: going on from {last}", flush=True)
        trainer.state = TrainerState.load_from_json(os.path.join(last, TRAINER_STATE_NAME))
    if last and trainer.state.global_step >= steps:  # killed after its last step: the trainer would take one more
        trainer._load_from_checkpoint(last)
    else:
        trainer.train(resume_from_checkpoint=last)
    return [
        {key: row.get(key) for key in ("step", "loss", "grad_norm")}
        for row in trainer.state.log_history
        if "loss" in row
    ]


def _last_whole_checkpoint(folder: Path) -> str | None:
    """The trainer writes a checkpoint's state last: one without it is what a killed run was writing, and is removed."""
    while folder.is_dir() and (last := get_last_checkpoint(str(folder))):
        try:
            json.loads((Path(last) / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(last)
        else:
            return last
    return None
