"""How likely a language model finds texts and answers, in text alone or behind a sample's pictures.

The network computes in the precision that it was loaded in; logits are float32, so that a sum over the tokens of an
answer is not made of numbers rounded to 8 bits.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mis.errors import MisError
from mis.samples import Sample, Wording

ROWS = 32  # continuations that are read at once


class Likelihood(NamedTuple):
    """Log-likelihood of a text in nats, summed over its `tokens`; `opening` is that of its opening, if it has one."""

    total: float
    tokens: int
    opening: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.tokens


class TextModel:
    """A causal language model of transformers with its tokenizer, asked in text alone.

    `template` is the chat template to ask in; None is the tokenizer's own.
    """

    def __init__(self, network, tokenizer, template: str | None = None):
        import torch

        self.torch = torch
        self.network, self.tokenizer, self.template = network.eval(), tokenizer, template
        self.words = network.lm_head.weight.detach().float()  # a margin of two logits is not rounded to 8 bits
        if (template or tokenizer.chat_template) is None:
            raise MisError("the tokenizer has no chat template; an instructed model is needed")

    @classmethod
    def load(cls, folder: Path, *, precision: str = "bf16", threads: int = 1) -> TextModel:
        """A bare language model in a folder, or the text half of an InternVL checkpoint; on the GPU if there is one."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        import torch
        from transformers import AutoTokenizer

        from mis.models.backbone import load_text
        from mis.models.checkpoint import load_checkpoint

        torch.set_num_threads(threads)
        if _is_internvl(folder):
            whole, processor = load_checkpoint(folder)
            network, tokenizer = text_half(whole), processor.tokenizer
        else:
            network, tokenizer = load_text(folder), AutoTokenizer.from_pretrained(folder, padding_side="left")
        if tokenizer.chat_template is None:
            raise MisError(f"{folder}: its tokenizer has no chat template; an instructed model is needed")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(network.to(device, torch.bfloat16 if precision == "bf16" else torch.float32), tokenizer)

    def under(self, template: str) -> TextModel:
        """The same model, asked in another chat template."""
        other = copy(self)
        other.template = template
        return other

    def prompt(self, question: str) -> str:
        turn = [{"role": "user", "content": question}]
        return self.tokenizer.apply_chat_template(
            turn, chat_template=self.template, tokenize=False, add_generation_prompt=True
        )

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _bytes(self, ids: list[int]) -> int:
        return len(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False).encode())

    def margins(self, prompts: Sequence[tuple[str, str, str]], batch_size: int = 32) -> list[float]:
        """For each (text, first, second): log of how much likelier the text goes on with `first` than with `second`.

        They are compared at the first token in which they differ. The tokens that all texts begin with are read once.
        """
        rows = []
        for text, first, second in prompts:
            one, other = self._ids(text + first), self._ids(text + second)
            shared = _shared([one, other])
            if shared in (len(one), len(other)):
                raise MisError(f"{first!r} and {second!r} do not differ for this tokenizer; choose other words")
            rows.append((one[:shared], one[shared], other[shared]))
        start = min(_shared([ids for ids, _, _ in rows]), *(len(ids) - 1 for ids, _, _ in rows))
        by_length = defaultdict(list)
        for index, (ids, _, _) in enumerate(rows):
            by_length[len(ids)].append(index)
        result = [0.0] * len(rows)
        torch, device = self.torch, self.network.device
        with torch.inference_mode():
            cache = self.network(torch.tensor([rows[0][0][:start]], device=device)).past_key_values if start else None
            for indices in by_length.values():
                for chunk in (indices[i : i + batch_size] for i in range(0, len(indices), batch_size)):
                    ids = torch.tensor([rows[i][0][start:] for i in chunk], device=device)
                    past = deepcopy(cache)
                    if past is not None:
                        past.batch_repeat_interleave(len(chunk))
                    hidden = self.network.model(ids, past_key_values=past).last_hidden_state[:, -1].float()
                    for i, state in zip(chunk, hidden, strict=True):
                        result[i] = float(state @ (self.words[rows[i][1]] - self.words[rows[i][2]]))
        return result

    def answers(self, prompts: Sequence[str], max_new_tokens: int, batch_size: int = 32) -> list[tuple[str, bool]]:
        """Greedy answers and whether each was cut off, in the prompts' order."""
        torch, end, found = self.torch, self.tokenizer.eos_token_id, []
        for i in range(0, len(prompts), batch_size):
            inputs = self.tokenizer(
                list(prompts[i : i + batch_size]), padding=True, add_special_tokens=False, return_tensors="pt"
            ).to(self.network.device)
            inputs.pop("token_type_ids", None)
            with torch.inference_mode():
                output = self.network.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
            for row in output[:, inputs["input_ids"].shape[1] :].tolist():
                ended = end in row
                kept = row[: row.index(end)] if ended else row
                found.append((self.tokenizer.decode(kept, skip_special_tokens=True), not ended))
        return found

    def continuations(
        self, prompts: Sequence[str], endings: Sequence[Sequence[str]], batch_size: int = 16
    ) -> list[list[Likelihood]]:
        """For each prompt: how likely it goes on with each of its endings. A prompt is read once for all of them.

        A prompt and its ending are cut into tokens together; what they share is the prompt. Raises :class:`MisError`
        where an ending is lost in that.
        """
        torch, found = self.torch, []
        pad = self.tokenizer.pad_token_id or 0
        for i in range(0, len(prompts), batch_size):
            heads, tails = [], []
            for prompt, ends in zip(prompts[i : i + batch_size], endings[i : i + batch_size], strict=True):
                wholes = [self._ids(prompt + end) for end in ends]
                shared = min(_shared(wholes), len(self._ids(prompt)), *(len(ids) - 1 for ids in wholes))
                if not shared:
                    raise MisError(f"{prompt!r} shares no token with its endings; give it more words")
                heads.append(wholes[0][:shared])
                tails.append([ids[shared:] for ids in wholes])
            length = max(map(len, heads))
            mask = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in heads])
            ids = torch.tensor([[pad] * (length - len(ids)) + ids for ids in heads])
            ids, mask = ids.to(self.network.device), mask.to(self.network.device)
            with torch.inference_mode():
                read = self.network.model(ids, attention_mask=mask, position_ids=positions(mask), use_cache=True)
                found += follow(self.network.model, self.words, read, mask, tails)
        return found

    def texts(self, texts: Sequence[str], window: int = 512) -> list[list[tuple[Likelihood, int]]]:
        """For each text, of each window of so many tokens: its likelihood, and the bytes of what it is of.

        A window begins anew; its first token is read but not counted. A window of one token is left out.
        """
        torch, found = self.torch, []
        with torch.inference_mode():
            for text in texts:
                ids = self._ids(text)
                windows = [ids[i : i + window] for i in range(0, len(ids), window)]
                found.append([])
                for part in (part for part in windows if len(part) > 1):
                    given = torch.tensor([part], device=self.network.device)
                    states = self.network.model(given, use_cache=False).last_hidden_state[0, :-1]
                    values = log_probabilities(states, given[0, 1:], self.words)
                    size = self._bytes(part) - self._bytes(part[:1])
                    found[-1].append((Likelihood(float(values.double().sum()), len(part) - 1), size))
        return found


def _is_internvl(folder: Path) -> bool:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") == "internvl"
    except (OSError, ValueError):
        return False  # what reads it next says what is wrong


def text_half(whole):
    """The language model of a loaded InternVL, as a causal one of its own; the two share their weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        half = AutoModelForCausalLM.from_config(whole.config.text_config)
    half.model, half.lm_head = whole.model.language_model, whole.lm_head
    half.generation_config = whole.generation_config
    return half


def behind_pictures(
    model, samples: Sequence[Sample], answers: Sequence[Sequence[Wording]], batch_size: int = 16
) -> list[list[Likelihood]]:
    """How likely `model`, a `mis.models.local.LocalModel`, gives each of a sample's answers; the end token included.

    The pictures and the question of a sample are read once for all its answers. Of an answer's opening those tokens
    count that the whole answer begins with.
    """
    import torch

    from mis.models.chat import answer_tokens

    network, tokenizer, found = model.model, model.processor.tokenizer, []
    words = network.lm_head.weight.detach().float()
    with torch.inference_mode():
        for i in range(0, len(samples), batch_size):
            batch, given = samples[i : i + batch_size], answers[i : i + batch_size]
            texts, inputs = model.inputs(batch)
            mask = inputs["attention_mask"]
            read = network.model(**inputs, position_ids=positions(mask), use_cache=True)
            tails, openings = [], []
            for text, each in zip(texts, given, strict=True):
                wholes, begun = (
                    answer_tokens(tokenizer, [text] * len(each), [getattr(answer, part) for answer in each])
                    for part in Wording._fields
                )
                tails.append([[*ids, tokenizer.eos_token_id] for ids in wholes])
                openings.append([_shared(pair) for pair in zip(wholes, begun, strict=True)])
            found += follow(network.model.language_model, words, read, mask, tails, openings)
    return found


def positions(mask):
    """Places in a text that is padded on the left: (batch, length) of 0, 1, 2, ... where `mask` is 1."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def follow(
    decoder,
    words,
    read,
    mask,
    tails: Sequence[Sequence[Sequence[int]]],
    openings: Sequence[Sequence[int]] | None = None,
) -> list[list[Likelihood]]:
    """How likely each text goes on with each of its `tails`, ids of tokens, of which `openings` are the openings.

    `read` is what the network made of the texts, padded on the left as `mask` (texts, length) says: last hidden state
    and cache. `decoder` is the language model without its head, `words` (vocabulary, width) the head in float32.
    """
    import torch

    flat = sorted(
        ((len(ids), text, place) for text, each in enumerate(tails) for place, ids in enumerate(each)), reverse=True
    )  # of like length beside each other: less is padded
    found = [[Likelihood(0.0, 0)] * len(each) for each in tails]
    device, last = mask.device, read.last_hidden_state[:, -1]
    for chunk in (flat[i : i + ROWS] for i in range(0, len(flat), ROWS)):
        owner = torch.tensor([text for _, text, _ in chunk], device=device)
        rows = [list(tails[text][place]) for _, text, place in chunk]
        longest = len(rows[0])
        ids = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in rows], device=device)
        real = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in rows], device=device)
        states = last[owner, None]
        if longest > 1:
            past = deepcopy(read.past_key_values)
            past.batch_select_indices(owner)
            whole = torch.cat([mask[owner], real[:, :-1]], dim=1)
            more = decoder(
                input_ids=ids[:, :-1], past_key_values=past, attention_mask=whole,
                position_ids=positions(whole)[:, mask.shape[1] :],
            ).last_hidden_state  # fmt: skip
            states = torch.cat([states, more], dim=1)
        kept = real.bool()
        values = torch.zeros(ids.shape, dtype=torch.float64, device=device)
        values[kept] = log_probabilities(states[kept], ids[kept], words).double()
        for (length, text, place), total, each in zip(chunk, values.sum(dim=1).tolist(), values, strict=True):
            opening = float(each[: openings[text][place]].sum()) if openings else 0.0
            found[text][place] = Likelihood(total, length, opening)
    return found


def log_probabilities(states, targets, words, rows: int = 128):
    """log p(target) of each hidden state: (n, width), (n,) -> (n,) float32."""
    import torch

    values = []
    with _exact_products(states.dtype == torch.bfloat16):
        for i in range(0, len(states), rows):
            logits = states[i : i + rows].float() @ words.T
            chosen = logits.gather(1, targets[i : i + rows, None])[:, 0]
            values.append(chosen - logits.logsumexp(dim=1))
    return torch.cat(values)


@contextmanager
def _exact_products(bf16: bool) -> Iterator[None]:
    """Where both factors are numbers of 16 bits, the processor's own instructions for those: sums are float32."""
    import torch

    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    if bf16:
        setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """With how many equal tokens all rows begin."""
    for position, column in enumerate(zip(*rows, strict=False)):
        if len(set(column)) > 1:
            return position
    return min(map(len, rows))


def log_sum(values: Sequence[float]) -> float:
    """Log of the sum of what `values` are the logs of."""
    return float(np.logaddexp.reduce(np.asarray(values, float)))
