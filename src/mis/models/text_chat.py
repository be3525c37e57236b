"""A text model of transformers in this process, asked like one behind an endpoint: greedy, in batches, no pictures."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from mis.errors import MisError
from mis.models import checkpoint_identity
from mis.models.remote import ChatRequest, Reply


class LocalChat:
    """The checkpoint in `folder` (a causal language model with a chat template), on a GPU if there is one.

    A request's `extra["chat_template"]` stands in the place of the checkpoint's own. `name` is the folder's, `revision`
    its content. Raises :class:`MisError` if there is no checkpoint.
    """

    def __init__(self, folder: Path | str, *, batch_size: int = 8):
        self.folder, self.batch_size = Path(folder), batch_size
        self.name, self.revision = self.folder.name, checkpoint_identity(self.folder)

    @functools.cached_property
    def _loaded(self):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.folder, padding_side="left", local_files_only=True)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype="auto", use_safetensors=True, local_files_only=True
        )
        return tokenizer, model.to(device).eval()

    def map(self, requests: Iterable[tuple[str, ChatRequest]]) -> Iterator[tuple[str, Reply]]:
        """A reply a request, in order. A prompt that the model cannot take, or one with pictures, is a failed reply."""
        waiting = iter(requests)
        while batch := list(islice(waiting, self.batch_size)):
            yield from self._answer(batch)

    def prompt(self, request: ChatRequest) -> str:
        """The text that the model reads, special tokens included."""
        tokenizer, _ = self._loaded
        messages = [{"role": message.role, "content": message.text} for message in request.messages]
        template = (request.extra or {}).get("chat_template")
        if template is None and tokenizer.chat_template is None:
            raise MisError(f"{self.folder}: the tokenizer has no chat template")
        return tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        )

    def _answer(self, batch: list[tuple[str, ChatRequest]]) -> Iterator[tuple[str, Reply]]:
        import torch

        tokenizer, model = self._loaded
        longest = getattr(model.config, "max_position_embeddings", None)
        prompts, kept = [], []
        for key, request in batch:
            if any(message.images for message in request.messages):
                yield key, Reply("", "failed", f"{self.name} reads text alone")
                continue
            text = self.prompt(request)
            size = len(tokenizer(text, add_special_tokens=False).input_ids)
            if longest is not None and size + request.max_tokens > longest:
                error = f"{size} tokens and {request.max_tokens} to answer; {self.name} takes {longest}"
                yield key, Reply("", "failed", error)
                continue
            prompts.append(text)
            kept.append((key, request, size))
        if not kept:
            return
        inputs = tokenizer(prompts, add_special_tokens=False, padding=True, return_tensors="pt").to(model.device)
        inputs.pop("token_type_ids", None)
        most = max(request.max_tokens for _, request, _ in kept)
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=most, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        ends = model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        for (key, request, size), row in zip(kept, output[:, inputs.input_ids.shape[1] :].tolist(), strict=True):
            end = next((place for place, token in enumerate(row) if token in ends), None)
            stopped = end is not None and end < request.max_tokens
            tokens = row[:end] if stopped else row[: request.max_tokens]
            text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
            yield key, Reply(text, "stop" if stopped else "length", "", size, len(tokens) + stopped)
