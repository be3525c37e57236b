"""LlamaGuard in this process: a text model of transformers, asked like one behind an endpoint."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mis.errors import MisError
from mis.judges.asking import Seat, judge_by_asking
from mis.judges.guard import GuardJudge
from mis.models.processing import word_tokenizer
from mis.models.remote import ChatMessage, ChatRequest
from mis.models.text_chat import LocalChat
from mis.samples import Response, Sample
from mis.store import read_jsonl

# Like Llama Guard's: a policy around the conversation; what is asked is the last turn's role.
TEMPLATE = (
    "{{ bos_token }} check{% for message in messages %} {{ message['role'] }} {{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} verdict{% endif %}"
)
WORDS = "check user assistant verdict safe unsafe S1 S2 take it never policy".split()
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    """A tiny Llama that has learnt to say "unsafe S2" after "take it", else "safe"."""
    folder = tmp_path_factory.mktemp("guard")
    tokenizer = word_tokenizer(WORDS, chat_template=TEMPLATE, image_tokens={}, roles=())
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=48, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    ))  # fmt: skip
    lessons = [
        f"{tokenizer.bos_token} check user take assistant {said} verdict {verdict} {tokenizer.eos_token}"
        for said, verdict in (("take it", "unsafe S2"), ("never", "safe"), ("never it", "safe"), ("take", "unsafe S2"))
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        loss = sum(
            model(input_ids=ids, labels=ids).loss
            for ids in (tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids for text in lessons)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def request(said, **more):
    messages = ChatMessage("user", "take"), ChatMessage("assistant", said)
    return ChatRequest(messages, **{"max_tokens": 4} | more)


def test_the_models_own_template_makes_the_prompt_or_the_requests(guard):
    chat = LocalChat(guard)
    assert chat.prompt(request("never")).split() == "<|im_start|> check user take assistant never verdict".split()
    given = "{{ bos_token }} policy {{ messages[-1]['content'] }} verdict"
    assert chat.prompt(request("never", extra={"chat_template": given})).split()[1:] == ["policy", "never", "verdict"]


def test_replies_come_in_order_whatever_the_batch_and_say_how_they_ended(guard):
    asked = [(str(n), request(said)) for n, said in enumerate(["take it", "never", "never it", "take", "never"])]
    by_size = [list(LocalChat(guard, batch_size=size).map(iter(asked))) for size in (1, 2, 5)]
    assert by_size[0] == by_size[1] == by_size[2]
    assert [reply.text for _, reply in by_size[0]] == ["unsafe S2", "safe", "safe", "unsafe S2", "safe"]
    assert {reply.finish_reason for _, reply in by_size[0]} == {"stop"}
    assert by_size[0][0][1].completion_tokens == 3, "two words and the end"
    ((_, cut),) = LocalChat(guard).map([("0", request("take it", max_tokens=1))])
    assert (cut.text, cut.finish_reason) == ("unsafe", "length")


def test_what_it_cannot_read_is_a_failed_reply_and_the_others_are_answered(guard, tmp_path):
    pictured = ChatRequest((ChatMessage("user", "take", (tmp_path / "x.png",)),), 4)
    replies = dict(LocalChat(guard).map([("a", pictured), ("b", request("never " * 60)), ("c", request("never"))]))
    assert replies["a"].finish_reason == "failed" and "reads text alone" in replies["a"].error
    assert replies["b"].finish_reason == "failed" and "takes 48" in replies["b"].error
    assert replies["c"].text == "safe"


def test_it_judges_a_file(guard, tmp_path):
    samples = [Sample("figstep", "", str(n), "take") for n in range(3)]
    said = ("take it", "never", "never")
    responses = [Response("figstep", "", s.id, "m", "base", 0, text) for s, text in zip(samples, said, strict=True)]
    chat = LocalChat(guard)
    seat = Seat(f"guard:{chat.name}", GuardJudge(max_tokens=4), chat)
    out = tmp_path / "verdicts.jsonl"
    assert judge_by_asking(samples, responses, lambda _: seat, out, progress=False).failed == 0
    verdicts = [(row["outcome"], row["reason"]) for row in read_jsonl(out)]
    assert verdicts == [("unsafe", "S2 Non-Violent Crimes"), ("safe", ""), ("safe", "")]


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(MisError, match="no checkpoint here"):
        LocalChat(tmp_path)
