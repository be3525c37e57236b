"""One training loop for every stage after vision: transformers' Trainer with our collator, loss and batches.

One process or many, the samples of a step and their loss are the same. A step's samples are dealt out in passes, of
`size` samples for each process in turn.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
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
from mis.training import sharding
from mis.training.encoding import IGNORED, Encoded

FILLER = -1  # the index of a sample that fills a place and carries no loss


class Encodings(Dataset):
    def __init__(self, items: Sequence[Encoded]):
        self.items, self.filler = items, filler(items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Encoded:
        return self.filler if index == FILLER else self.items[index]


def filler(items: Sequence[Encoded]) -> Encoded:
    """The shortest sample, with pictures if any has some, and a label nowhere."""
    item = min([item for item in items if item.images] or items, key=lambda item: len(item.input_ids))
    return replace(item, prompt_length=len(item.input_ids))


class SamePath:
    """A collator whose every batch goes through the same parts of the network: one without a picture gets the filler.

    Processes that share weights or gradients wait for each other in every part, and one without pictures would leave
    the others waiting in the vision tower for ever. And AdamW leaves weights alone that got no gradient at all, but
    moves those that got zeros, as all do behind DeepSpeed: a step without pictures would depend on how it is dealt out.
    """

    def __init__(self, collator: Callable, filler: Encoded):
        self.collator, self.filler = collator, filler

    def __call__(self, batch: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        lacks = self.filler.images and not any(item.images for item in batch)
        return self.collator([*batch, self.filler] if lacks else batch)


class LengthGroups(Sampler[int]):
    """A seeded shuffle in which the samples of a batch are of like length, so that little is padded.

    Within windows of 32 batches samples are sorted by length; then the batches are shuffled. `set_epoch` changes the
    shuffle, so that a resumed run sees the order of an uninterrupted one. With `full` the last batch is filled up with
    FILLER, so that it can be dealt out like the others.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, *, full: bool = False):
        self.lengths, self.batch_size, self.seed, self.epoch = np.asarray(lengths), batch_size, seed, 0
        self.fillers = -len(lengths) % batch_size if full else 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) + self.fillers

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
        return iter([*np.concatenate([*batches, *last]).tolist(), *[FILLER] * self.fillers])


def sample_loss(model, inputs: dict[str, torch.Tensor], samples: int | None = None) -> torch.Tensor:
    """Cross-entropy averaged over the tokens of each answer, then over the samples.

    Averaged per token over the batch instead, one-word answers would starve beside long ones. Only positions with a
    label reach the output matrix. `samples` is what the sum is divided by where the batch is a part of a larger one.
    """
    labels = inputs["labels"][:, 1:]
    arguments = {key: value for key, value in inputs.items() if key != "labels"}
    hidden = model.model(**arguments, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels != IGNORED
    losses = torch.nn.functional.cross_entropy(model.lm_head(hidden[wanted]).float(), labels[wanted], reduction="none")
    weights = (1.0 / wanted.sum(1, keepdim=True)).expand_as(labels)[wanted]
    return (losses * weights).sum() / (samples or len(labels))


class SampleTrainer(Trainer):
    """Trainer with per-sample loss and length-grouped batches; `global_batch_size` samples a step."""

    def __init__(self, *arguments, global_batch_size: int, **options):
        super().__init__(*arguments, **options)
        self.global_batch_size, self.world = global_batch_size, self.args.world_size
        self.loss_is_scaled_for_ga = True  # by the samples of the step
        if self.is_deepspeed_enabled:
            # The loss within the network's own call, the output matrix included: DeepSpeed counts on that.
            self.model.forward = partial(_loss_of_call, self.model)

    def _get_num_items_in_batch(self, batch_samples, device) -> int:
        """The samples of a step, fillers left out, in all passes and processes."""
        count = sum(int((batch["labels"] != IGNORED).any(1).sum()) for batch in batch_samples)
        if self.world > 1:
            total = torch.tensor(count, device=device)
            torch.distributed.all_reduce(total)
            count = int(total)
        return count

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.is_deepspeed_enabled:
            loss = model(**inputs, samples=num_items_in_batch) * self.world  # gradients are averaged over processes
        else:
            with self.accelerator.autocast():  # the network's parts are called, not the wrapped network
                loss = sample_loss(self.accelerator.unwrap_model(model), inputs, num_items_in_batch)
        return (loss, {}) if return_outputs else loss

    # DeepSpeed's checkpoint holds the weights, in the shards of each process.
    def save_model(self, output_dir=None, _internal_call=False):
        if not self.is_deepspeed_enabled:
            super().save_model(output_dir, _internal_call)

    # The trainer's state, which is written next by the first process, says that a checkpoint is whole.
    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        if self.world > 1:
            torch.distributed.barrier()

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
        parts = self.global_batch_size > self.args.train_batch_size
        self.groups = LengthGroups(lengths, self.global_batch_size, self.args.seed, full=parts)
        return self.groups

    # Told here, because of several processes that go on within a later epoch the loader does not tell it.
    def _run_epoch(self, *, epoch, **options):
        self.groups.set_epoch(epoch)
        super()._run_epoch(epoch=epoch, **options)


def _loss_of_call(model, samples: int, **inputs: torch.Tensor) -> torch.Tensor:
    return sample_loss(model, inputs, samples)


class Lines(TrainerCallback):
    """Progress as lines that a person can follow."""

    def __init__(self, label: str):
        self.label = label

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs and state.is_world_process_zero:
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
    adam_beta2: float = 0.98,
    size: int | None = None,
    world: int = 1,
    bf16: bool = False,
    gradient_checkpointing: bool = False,
    workers: int = 0,
    deepspeed: dict | None = None,
) -> tuple[torch.nn.Module | None, list[dict]]:
    """Train `model` in place; goes on from the last checkpoint in `folder` if there is one.

    AdamW, cosine schedule with linear warm-up, gradient norm clipped at 1. `epochs` counts passes over `items`;
    `max_steps` overrides it. A step takes `batch_size` samples, in passes of `size` by each of `world` processes; None
    is the miniature's way, all at once and pictures only where a batch has some. Returns (model, loss curve); with
    `deepspeed` (its configuration) the model is whole in the first process and None in the others.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    dataset = Encodings(items)
    collator = SamePath(collator, dataset.filler) if size else collator
    size = size or batch_size
    if batch_size % (size * world):
        raise MisError(f"a step of {batch_size} samples is no multiple of {world} processes x {size} samples")
    steps = max_steps if max_steps > 0 else int(np.ceil(len(items) / batch_size) * epochs)
    gpu = torch.cuda.is_available()
    sharded = {"deepspeed": deepspeed, "ddp_backend": "nccl" if gpu else "gloo"} if deepspeed else {}
    # Weights that DeepSpeed shares out have other shapes when they are asked for again; only the reentrant kind of
    # checkpointing bears that.
    shared_out = bool(deepspeed) and deepspeed["zero_optimization"]["stage"] == 3
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=batch_size // (size * world),
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, round(warmup_ratio * steps)),
        weight_decay=weight_decay,
        adam_beta2=adam_beta2,
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
        use_cpu=not gpu,
        bf16=bf16,
        activation_checkpointing=gradient_checkpointing,  # transformers' other name for it
        activation_checkpointing_kwargs={"use_reentrant": shared_out},
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_pin_memory=gpu,
        **sharded,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one process takes one GPU, however many it sees
    trainer = SampleTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=collator,
        callbacks=[Lines(label)],
        global_batch_size=batch_size,
    )
    trainer.pop_callback(PrinterCallback)
    taken = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    if taken != batch_size:
        raise MisError(f"a step would take {taken} samples, not {batch_size}, with {arguments.world_size} processes")
    last = _agreed(_last_whole_checkpoint, folder, world) if save_steps else None
    if last:
        sharding.say(f"{label}: going on from {last}")
        trainer.state = TrainerState.load_from_json(os.path.join(last, TRAINER_STATE_NAME))
    if last and trainer.state.global_step >= steps:  # killed after its last step: the trainer would take one more
        if deepspeed:
            trainer._prepare_for_training(steps, trainer.get_train_dataloader(), last)
        else:
            trainer._load_from_checkpoint(last)
    else:
        trainer.train(resume_from_checkpoint=last)
    curve = [
        {key: row.get(key) for key in ("step", "loss", "grad_norm")}
        for row in trainer.state.log_history
        if "loss" in row
    ]
    if deepspeed:
        del model.forward
        model = sharding.whole_network(trainer.deepspeed)
    return model, curve


def _agreed(look: Callable[[Path], str | None], folder: Path, world: int) -> str | None:
    """What the first process finds; the others neither look nor clear away while it does."""
    found = [look(folder) if sharding.is_first() else None]
    if world > 1:
        torch.distributed.broadcast_object_list(found)
    return found[0]


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
