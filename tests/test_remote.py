"""The client of OpenAI-compatible endpoints, over real HTTP on loopback."""

import asyncio
import base64
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from chat_server import (
    CUT_OFF,
    EMPTY,
    FAULTS,
    FILTERED,
    MALFORMED,
    Answer,
    ChatServer,
    Raw,
    Status,
)
from test_prompting import PROMPTS
from typer.testing import CliRunner

from mis import answering, layout
from mis.cli import app
from mis.errors import MisError
from mis.models import prompting, remote
from mis.models.limits import BudgetReached, Pace
from mis.models.remote import (
    ChatClient,
    ChatMessage,
    ChatRequest,
    EndpointError,
    RemoteModel,
    chat_messages,
    request_digest,
)
from mis.models.request_cache import RequestCache
from mis.responding import respond
from mis.samples import Sample
from mis.settings import ConfigurationError, Endpoint, Served, load, validate
from mis.store import read_jsonl

ROOT = Path(__file__).resolve().parents[1]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CANARY = "sk-canary-3f9a71c2"


def request(text="why ?", images=(), **options):
    return ChatRequest((ChatMessage("user", text, tuple(images)),), 64, **options)


def client(server, **options):
    facts = {name: options.pop(name) for name in tuple(options) if name not in Endpoint.model_fields}
    endpoint = {"timeout_s": 20, "backoff_s": 0.01, "attempts": 4, **options}
    return ChatClient(Endpoint(url=server.url, **endpoint), "m", **facts)


@pytest.fixture
def pictures(tmp_path):
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(PNG + bytes([number]))
    return paths


# What is sent


def sent(served, sample):
    """The messages with each picture's URL cut to its file's last byte."""
    messages = chat_messages(RemoteModel(None, served, 64).request(sample))
    for message in messages:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] == "image_url":
                head, _, content = part["image_url"]["url"].partition(";base64,")
                part["image_url"]["url"] = f"{head} {base64.b64decode(content)[-1]}"
    return messages


def part(number):
    return {"type": "image_url", "image_url": {"url": f"data:image/png {number}"}}


# As the paper's scripts put it: the pictures in their order before the question; InternVL2.5 and Idefics3 number them.
FAMILIES = {
    "plain": ({}, [{"role": "user", "content": [part(0), part(1), {"type": "text", "text": "why ?"}]}]),
    "internvl": (
        {"image_text": "Image-{number}: <image>\n\n"},
        [{"role": "user", "content": [part(0), part(1), {
            "type": "text", "text": "Image-1: <image>\n\nImage-2: <image>\n\nwhy ?",
        }]}],
    ),
    "system": (
        {"system": "Be brief."},
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [part(0), part(1), {"type": "text", "text": "why ?"}]},
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_messages_of_each_family(pictures, family):
    facts, expected = FAMILIES[family]
    served = Served(endpoint="e", name="m", **facts)
    assert sent(served, Sample("mis", "easy", "1", "why ?", tuple(pictures[:2]))) == expected


def test_a_text_alone_is_a_string_and_options_stand_behind_the_question():
    served = Served(endpoint="e", name="m", image_text="Image-{number}: <image>\n")
    assert sent(served, Sample("advbench_suffix", "", "1", "do it")) == [{"role": "user", "content": "do it"}]
    sample = Sample("mmstar", "", "1", "which ?", options=("red", "blue"))
    assert sent(served, sample) == [{"role": "user", "content": "which ? options : red , blue"}]


def test_the_body_holds_the_parameters_of_the_paper_and_the_pictures_unchanged(pictures):
    bodies = []
    with ChatServer(lambda asked: bodies.append(asked.body) or "fine") as server, client(server) as asking:
        asking.ask(request("a", pictures[:2]))
        schema = {"type": "object", "properties": {"safe": {"type": "boolean"}}}
        asking.ask(request("b", schema=schema, extra={"chat_template": "x"}))
    assert {name: bodies[0][name] for name in ("model", "max_tokens", "temperature")} == {
        "model": "m", "max_tokens": 64, "temperature": 0.0,
    }  # fmt: skip
    urls = [part["image_url"]["url"] for part in bodies[0]["messages"][0]["content"][:2]]
    assert [base64.b64decode(url.split(",")[1]) for url in urls] == [path.read_bytes() for path in pictures[:2]]
    assert bodies[1]["response_format"]["json_schema"]["schema"] == schema
    assert bodies[1]["chat_template"] == "x" and "response_format" not in bodies[0]


def newer_openai(asked):
    """As OpenAI's reasoning models refuse what they do not take."""
    if "max_tokens" in asked.body:
        return Status(400, "Use 'max_completion_tokens' instead.", error_code="unsupported_parameter")
    if "temperature" in asked.body:
        return Status(400, "Only the default (1) value is supported.", error_code="unsupported_value")
    return f"{asked.body['max_completion_tokens']} tokens"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, "HTTP 400: Use 'max_completion_tokens' instead."),
        ({"max_tokens_parameter": "max_completion_tokens"}, "HTTP 400: Only the default (1) value is supported."),
        ({"max_tokens_parameter": "max_completion_tokens", "temperature": None}, "64 tokens"),
    ],
)
def test_a_model_that_takes_neither_max_tokens_nor_a_temperature_can_be_asked(facts, expected):
    served = Served(endpoint="e", name="m", **facts)
    with ChatServer(newer_openai) as server, ChatClient.of(served, Endpoint(url=server.url), None) as asking:
        (answer,) = RemoteModel(asking, served, 64).answer([Sample("mis", "easy", "1", "why ?")])
        judged = asking.ask(request("as a judge asks, with a temperature of its own", temperature=0.7))
    assert [answer.text or answer.error, judged.text or judged.error] == [expected, expected]


def test_how_the_parameters_are_sent_is_part_of_a_request_and_what_was_paid_for_keeps_its_key():
    known = "3518b0914606461cd69d3ac5d681bab3f364881258bfceb1b9448acafdfc43ba"
    digests = [
        request_digest("m", None, request(**options))
        for options in ({}, {"limit": "max_completion_tokens"}, {"temperature": None}, {"temperature": 0.5})
    ]
    assert digests[0] == known and len(set(digests)) == 4


def test_a_picture_that_no_server_takes_fails_and_one_that_is_gone_ends_the_run(tmp_path):
    (tmp_path / "a.bmp").write_bytes(b"BM....")
    with ChatServer() as server, client(server) as asking:
        reply = asking.ask(request(images=[tmp_path / "a.bmp"]))
        assert (reply.finish_reason, reply.error) == ("failed", "picture a.bmp is not PNG, JPEG, GIF or WebP")
        with pytest.raises(MisError, match="gone.png: picture cannot be read"):
            asking.ask(request(images=[tmp_path / "gone.png"]))
    assert server.requests == 0


def test_pictures_are_read_when_they_are_sent(pictures, monkeypatch):
    held = Counter()
    real = remote.data_url
    monkeypatch.setattr(remote, "data_url", lambda path: held.update(["read"]) or real(path))
    with ChatServer(latency=0.02) as server, client(server, concurrency=4) as asking:
        for _ in asking.map((str(number), request(str(number), pictures[:1])) for number in range(40)):
            held.update(["answered"])
            assert held["read"] <= held["answered"] + 3 * 4  # in flight, answered and not yet taken
    assert held["read"] == held["answered"] == server.images == 40


# What comes back


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("yes", ("yes", "stop", "")),
        (CUT_OFF, ("and so", "length", "")),
        (Answer("and", "MAX_TOKENS"), ("and", "length", "")),
        (Answer(None, "length"), ("", "length", "")),
        (FILTERED, ("", "filtered", "content_filter")),
        (Answer(None, "SAFETY"), ("", "filtered", "safety")),
        (Raw('{"choices": [], "usage": null}'), ("", "filtered", "no choices")),
        (Status(400, "flagged", error_code="content_filter"), ("", "filtered", "flagged")),
        (Answer(None, refusal="I won't"), ("I won't", "stop", "")),
        (Status(400, "too long"), ("", "failed", "HTTP 400: too long")),
    ],
)
def test_outcomes_that_stand_are_asked_once(outcome, expected):
    with ChatServer(lambda asked: outcome) as server, client(server) as asking:
        reply = asking.ask(request())
    assert (reply.text, reply.finish_reason, reply.error) == expected
    assert reply.refused == (expected[0] == "I won't")
    assert server.requests == 1


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_that_passes_is_asked_again_and_leaves_no_trace(kind):
    with ChatServer(faults=lambda asked: FAULTS[kind] if asked.attempt < 3 else None) as server:
        with client(server, timeout_s=2 if kind == "silent" else 20) as asking:
            reply = asking.ask(request())
    assert (reply.text, reply.finish_reason, reply.error) == ("re: why ?", "stop", "")
    assert server.requests == 3


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("500", "HTTP 500: oops (4 attempts)"),
        ("429", "HTTP 429: slow down (4 attempts)"),
        ("dropped", "connection failed (RemoteProtocolError) (4 attempts)"),
        ("silent", "no answer within 0.5 s (4 attempts)"),
        ("empty", "the answer was empty (4 attempts)"),
        ("malformed", "the answer was not a chat completion (4 attempts)"),
    ],
)
def test_attempts_are_bounded_and_the_last_reason_is_kept(kind, error):
    with ChatServer(lambda asked: FAULTS[kind]) as server:
        with client(server, timeout_s=0.5 if kind == "silent" else 20) as asking:
            reply = asking.ask(request())
    assert (reply.finish_reason, reply.error) == ("failed", error)
    assert server.requests == 4 or kind == "silent"  # a slow machine may not even have sent it


@pytest.mark.parametrize(
    "body", ["[]", '"text"', "null", '{"choices": "x"}', '{"choices": [{"message": null}]}', "<html>", '{"a": 1}']
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_any_other_body_is_a_fault(body, kind):
    with ChatServer(lambda asked: Raw(body, kind)) as server, client(server, attempts=1) as asking:
        assert asking.ask(request()).finish_reason == "failed"


def test_a_server_that_is_not_there_fails_after_the_attempts():
    with ChatServer() as server:
        pass
    with client(server, attempts=2) as asking:
        reply = asking.ask(request())
    assert reply.finish_reason == "failed" and "connection failed (ConnectError) (2 attempts)" in reply.error


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status(401, "who are you"), "refuses the key .*HTTP 401.*who are you"),
        (Status(404, "no such model"), "does not know this model"),
        (Status(429, "no credit", error_code="insufficient_quota"), "wants to be paid first"),
    ],
)
def test_what_no_request_can_mend_ends_the_run_after_what_is_in_flight(status, words):
    with ChatServer(lambda asked: status if asked.text == "3" else "fine", latency=0.01) as server:
        with client(server, concurrency=2) as asking:
            came = []
            with pytest.raises(EndpointError, match=words):
                came.extend(asking.map((str(number), request(str(number))) for number in range(100)))
    assert 3 <= len(came) < 15 and server.requests < 15


def test_a_retry_waits_as_long_as_the_server_asks_and_longer_each_time():
    faults = {1: Status(429, "slow", {"retry-after": "0.4"}), 2: Status(503, "busy"), 3: Status(503, "busy")}
    with ChatServer(faults=lambda asked: faults.get(asked.attempt)) as server, client(server, backoff_s=0.1) as asking:
        assert asking.ask(request()).text == "re: why ?"
    waits = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert waits[0] >= 0.4 and waits[1] >= 0.1 and waits[2] >= 0.2


def test_a_server_that_asks_to_wait_for_an_hour_is_not_waited_for():
    with ChatServer(lambda asked: Status(429, "later", {"retry-after": "3600"})) as server, client(server) as asking:
        assert asking.ask(request()).error == "HTTP 429: later (asks to wait 3600 s)"
    assert server.requests == 1


def test_retry_after_may_be_a_date():
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 25 < remote._retry_after({"retry-after": later}) <= 30
    assert remote._retry_after({"retry-after": "soon"}) is None and remote._retry_after({}) is None


# Who is called, with what


def test_no_redirect_is_followed(tmp_path):
    with ChatServer() as elsewhere:
        moved = Status(307, "moved", {"location": f"{elsewhere.url}/chat/completions"})
        with ChatServer(lambda asked: moved) as server, client(server, attempts=1) as asking:
            assert asking.ask(request()).finish_reason == "failed"
        assert (server.requests, elsewhere.requests) == (1, 0)


def test_nothing_of_the_official_client_s_environment_reaches_an_endpoint(monkeypatch):
    for name in ("API_KEY", "ORG_ID", "PROJECT_ID", "ADMIN_KEY", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", CANARY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"x-key: {CANARY}")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    headers = []
    with ChatServer(lambda asked: headers.append(asked.headers) or "fine") as server, client(server) as asking:
        assert asking.ask(request()).text == "fine"
    assert CANARY not in json.dumps(headers) and headers[0]["authorization"] == "Bearer none"
    assert os.environ["OPENAI_API_KEY"] == CANARY


def test_the_key_comes_from_its_variable_and_must_be_there(monkeypatch):
    keys = []
    with ChatServer(lambda asked: keys.append(asked.headers["authorization"]) or "fine") as server:
        with pytest.raises(EndpointError, match="no key in the environment variable MY_KEY; set it"):
            client(server, key_env="MY_KEY")
        monkeypatch.setenv("MY_KEY", CANARY)
        with client(server, key_env="MY_KEY") as asking:
            asking.ask(request())
    assert keys == [f"Bearer {CANARY}"]


def test_certificates_are_verified(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    reached = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            reached.append(self.path)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = Endpoint(url=f"https://localhost:{server.server_address[1]}/v1", attempts=1, timeout_s=20)
    with ChatClient(endpoint, "m") as asking:
        assert asking.ask(request()).error == "connection failed (ConnectError) (1 attempts)"
    server.shutdown()
    server.server_close()
    assert reached == []


# The cache


def test_an_unchanged_request_is_never_asked_again_and_a_changed_one_always(tmp_path, pictures):
    def asked_again(asking_request, **facts):
        with ChatServer() as server, client(server, cache=tmp_path / "cache", **facts) as asking:
            asking.ask(asking_request)
        return server.requests == 1

    first = request("why ?", pictures[:2])
    assert asked_again(first) and not asked_again(first)
    moved = tmp_path / "moved.png"
    moved.write_bytes(pictures[0].read_bytes())
    assert not asked_again(request("why ?", [moved, pictures[1]]))  # the content counts, not the place
    changed = [
        request("why", pictures[:2]),
        request("why ?", pictures[:1]),
        request("why ?", [pictures[1], pictures[0]]),
        request("why ?", [pictures[0], pictures[2]]),
        replace(first, max_tokens=65),
        replace(first, temperature=0.5),
        replace(first, schema={"type": "object"}),
        replace(first, extra={"top_k": 1}),
        ChatRequest((ChatMessage("system", "so"), *first.messages), 64),
    ]
    assert all(asked_again(each) for each in changed)
    assert not any(asked_again(each) for each in changed)
    assert asked_again(first, revision="r1") and not asked_again(first, revision="r1")


def test_outcomes_are_cached_and_failures_are_not(tmp_path):
    script = {"ok": "fine", "filtered": FILTERED, "cut": CUT_OFF, "bad": Status(400, "no"), "empty": EMPTY}
    texts = list(script)

    def ask():
        with ChatServer(lambda asked: script[asked.text]) as server, client(server, cache=tmp_path, attempts=1) as one:
            return [one.ask(request(text)).finish_reason for text in texts], dict(server.seen)

    assert ask()[0] == ask()[0] == ["stop", "filtered", "length", "failed", "failed"]
    assert ask()[1] == {"bad": 1, "empty": 1}


def test_two_samples_with_the_same_request_have_two_rows_and_one_question(tmp_path):
    samples = [Sample("mis", "easy", str(number), "why ?") for number in range(20)]
    with ChatServer(latency=0.05) as server, client(server, cache=tmp_path) as asking:
        model = RemoteModel(asking, Served(endpoint="e", name="m"), 64)
        run(samples, model, tmp_path / "all.jsonl")
    assert server.requests == 1  # the first four are asked at once
    rows = read_jsonl(tmp_path / "all.jsonl")
    assert sorted(int(row["sample_id"]) for row in rows) == list(range(20))
    assert {row["text"] for row in rows} == {"re: why ?"}


def test_a_cache_that_is_none_says_so(tmp_path):
    (tmp_path / "requests.sqlite").write_bytes(b"something else" * 100)
    with ChatServer() as server, client(server, cache=tmp_path) as asking:
        with pytest.raises(MisError, match="requests.sqlite: the request cache cannot be used"):
            asking.ask(request())


# Rates and money


def test_a_pace_spreads_what_it_is_asked_for():
    now = [0.0]
    pace = Pace(60, clock=lambda: now[0])  # one a second
    assert [pace.take(1) for _ in range(3)] == [0, 1, 2]
    now[0] = 10.0
    assert [pace.take(2), pace.take(1)] == [0, 2]  # idle time is not saved up
    pace.give_back(1.5)
    assert pace.take(1) == 1.5


def test_no_minute_holds_more_requests_or_tokens_than_the_configuration_says():
    with ChatServer() as server, client(server, requests_per_minute=1200) as asking:
        list(asking.map((str(number), request(str(number))) for number in range(12)))
    # Half of it: a slow machine may take its time with the first. Without a pace all come at once.
    assert len(server.times) == 12 and server.times[-1] - server.times[0] >= 11 * 0.05 / 2
    # 15 tokens are used by each: 600 a second let 40 requests begin, whatever was reserved for them before.
    with ChatServer() as server, client(server, tokens_per_minute=9000, concurrency=1) as asking:
        list(asking.map((str(number), request(str(number))) for number in range(8)))
    assert server.times[-1] - server.times[0] >= 7 * 15 / 150 / 2


@pytest.mark.parametrize(("wait", "count", "sizes"), [(60, 16, [2] * 8), (0.02, 17, None)])
def test_replies_leave_the_event_loop_in_groups_and_the_last_is_not_kept_back(monkeypatch, wait, count, sizes):
    monkeypatch.setattr(remote, "HAND_OVER_S", wait)
    found, real = [], remote._Exchange._hand_over

    def seen(exchange):
        found.append(len(exchange._group))
        real(exchange)

    monkeypatch.setattr(remote._Exchange, "_hand_over", seen)
    with ChatServer() as server, client(server, concurrency=8) as asking:
        came = dict(asking.map((str(number), request(str(number))) for number in range(count)))
    assert came.keys() == {str(number) for number in range(count)} and sum(found) == count
    assert sizes is None or found == sizes


def test_who_waits_for_replies_of_a_client_that_is_closed_does_not_wait_for_ever():
    ended = []

    def wait(asking):
        try:
            list(asking.map([("0", request())]))
        except asyncio.CancelledError:
            ended.append(True)

    with ChatServer(latency=60) as server, client(server, concurrency=8) as asking:
        waiting = threading.Thread(target=wait, args=(asking,), daemon=True)
        waiting.start()
        while not server.in_flight:
            time.sleep(0.01)
        asking.close()
        waiting.join(20)
    assert ended == [True]


def test_concurrency_is_used_and_never_exceeded():
    with ChatServer(latency=0.03) as server, client(server, concurrency=7) as asking:
        list(asking.map((str(number), request(str(number))) for number in range(60)))
    assert server.most_in_flight == 7


PRICES = {"price_input": 1e5, "price_output": 2e5, "image_tokens": 100}  # money per million: an answer costs 2


def test_a_budget_stops_before_it_is_exceeded_and_goes_on_when_it_is_raised(tmp_path):
    samples = [Sample("mis", "easy", str(number), f"q{number}") for number in range(30)]
    out = tmp_path / "all.jsonl"

    def go(budget):
        served = Served(endpoint="e", name="m", budget=budget, **PRICES)
        with ChatClient.of(served, Endpoint(url=server.url), tmp_path) as asking:
            try:
                return run(samples, RemoteModel(asking, served, 8), out)
            except BudgetReached as stop:
                return str(stop)

    with ChatServer(latency=0.01) as server:
        # 8 tokens of an answer and 30 of the prompt are reserved, 4.6 of money: after 7 answers no room is left.
        assert "the budget of 17 is used up: 14.0000 spent" in go(17)
        assert server.requests == 7 and not out.exists()
        assert "the budget of 40 is used up: 36.0000 spent" in go(40)
        assert server.requests == 18
        assert "36.0000 spent" in go(40) and server.requests == 18
        assert go(1000).outcomes == {"stop": 30}
        assert server.requests == 30


def test_what_may_have_been_charged_counts_and_a_killed_process_forgets_nothing(tmp_path):
    cache = RequestCache(tmp_path)
    cache.reserve("a", 3.0)  # and the process is killed
    entry = cache.reserve("a", 5.0)
    cache.settle(entry, 1.5)
    cache.reserve("b", 7.0)
    cache.close()
    assert RequestCache(tmp_path).spent("a") == 4.5
    script = {"1": FAULTS["dropped"], "2": Status(500), "3": MALFORMED}
    with ChatServer(faults=lambda asked: script.get(asked.text)) as server:
        with client(server, attempts=1, cache=tmp_path / "other", budget=1000, **PRICES) as asking:
            for text, charged in (("1", True), ("2", False), ("3", True), ("4", True)):
                before = asking._purse.spent if asking._loop else 0
                asking.ask(request(text))
                assert (asking._purse.spent > before) == charged
        assert asking._purse.reserved == 0


def test_a_budget_without_prices_or_cache_is_refused(tmp_path):
    with ChatServer() as server, pytest.raises(EndpointError, match="with both prices and a request cache"):
        client(server, budget=1)


def test_two_processes_do_not_share_a_limit_without_knowing(tmp_path, capsys):
    with ChatServer() as server:
        first, second = (client(server, cache=tmp_path, requests_per_minute=60000) for _ in range(2))
        first.ask(request("a"))
        waiting = threading.Thread(target=second.ask, args=(request("b"),))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive() and server.requests == 1
        first.close()
        waiting.join(20)
        second.close()
    assert server.requests == 2
    assert "another process asks it; waiting" in capsys.readouterr().err


# Samples


def run(samples, model, out, **options):
    options = {"concurrency": 4, "progress": False, **options}
    return respond(samples, model, out, model_name="m", arm="base", seed=0, identity="i", **options)


def test_answers_come_in_the_order_of_the_samples_and_too_many_pictures_are_not_sent(pictures):
    samples = [Sample("mis", "easy", str(n), f"q{n}", tuple(pictures[:n])) for n in range(4)]
    with ChatServer(lambda asked: f"{asked.text} {len(asked.images)}") as server, client(server) as asking:
        answers = RemoteModel(asking, Served(endpoint="e", name="m", max_images=2), 64).answer(samples)
    assert [answer.text for answer in answers] == ["q0 0", "q1 1", "q2 2", ""]
    assert (answers[3].finish_reason, answers[3].error) == ("failed", "3 pictures; m takes 2")
    assert server.requests == 3 and answers[0].tokens == 5


@pytest.mark.parametrize("way", prompting.METHODS)
def test_ways_of_asking_give_the_same_rows_in_batches_and_as_they_come(tmp_path, pictures, way):
    def script(asked):
        if asked.text.startswith(("safe", "bad")):
            return "yes" if int(asked.text[-1]) % 2 else "no"
        return f"{'seen' if asked.text.startswith('look') else 're'}: {asked.text} {len(asked.images)}"

    samples = [Sample("mis", "easy", str(n), f"q{n}", tuple(pictures[: 1 + n % 3])) for n in range(12)]
    with ChatServer(script, latency=0.02) as server, client(server, concurrency=5) as asking:
        model = prompting.asking(way, RemoteModel(asking, Served(endpoint="e", name="m"), 64), PROMPTS)
        run(samples, model, tmp_path / "stream.jsonl")
        run(samples, model, tmp_path / "batches.jsonl", concurrency=0, batch_size=5)
    assert (tmp_path / "stream.jsonl").read_bytes() == (tmp_path / "batches.jsonl").read_bytes()
    assert {row["finish_reason"] for row in read_jsonl(tmp_path / "stream.jsonl")} == {"stop"}
    assert 1 < server.most_in_flight <= 5


def test_an_error_in_the_middle_keeps_what_came_and_a_rerun_asks_the_rest(tmp_path):
    samples = [Sample("mis", "easy", str(n), f"q{n}") for n in range(40)]
    out = tmp_path / "all.jsonl"
    with ChatServer(lambda asked: Status(401, "no") if asked.text == "q20" else "fine", latency=0.01) as server:
        with client(server, concurrency=4) as asking, pytest.raises(EndpointError):
            run(samples, RemoteModel(asking, Served(endpoint="e", name="m"), 64), out)
    assert not out.exists() and server.requests < 40
    with ChatServer(lambda asked: "fine") as again, client(again) as asking:
        assert run(samples, RemoteModel(asking, Served(endpoint="e", name="m"), 64), out).outcomes == {"stop": 40}
    assert again.requests == 40 - (server.requests - 1)


def test_no_memory_is_kept_of_answers(tmp_path):
    """What the main thread may hold: nothing grows with the samples but files."""
    import tracemalloc

    class Samples:
        def __init__(self, count):
            self.count = count

        def __len__(self):
            return self.count

        def __iter__(self):
            return (Sample("mis", "easy", str(n), f"q{n}") for n in range(self.count))

    class Instant:
        def answer(self, samples):
            return [remote.Answer("x" * 2000) for _ in samples]

    tracemalloc.start()
    run(Samples(1500), Instant(), tmp_path / "all.jsonl", concurrency=32)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_500_000 < (tmp_path / "all.jsonl").stat().st_size / 2


# The configuration


def raw_settings(**changes):
    raw = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text())
    raw["endpoints"] = {"here": {"url": "http://127.0.0.1:1/v1"}}
    raw["models"]["gpt"] = {"served": {"endpoint": "here", "name": "gpt"}, **changes}
    return raw


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"served": {"endpoint": "there", "name": "gpt"}}, "unknown endpoint 'there'; known: here"),
        ({"arms": ["base", "mirage"]}, "'mirage' is trained, and a served model only answers"),
        ({"family": "internvl", "source": "pretrain"}, "either a checkpoint .* or `served`, not both"),
        ({"served": None}, "give `family` and `source` of a checkpoint, or `served`"),
        ({"served": {"endpoint": "here", "name": "gpt", "budget": 3}}, "a budget can only be kept with `price_input`"),
    ],
)
def test_a_served_model_that_cannot_be_asked_is_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        validate(raw_settings(**changes))


def test_a_served_model_has_the_arms_that_need_no_weights():
    assert validate(raw_settings()).arms_of("gpt") == ["base"]
    assert validate(raw_settings(arms=["base", "ecso"])).arms_of("gpt") == ["base", "ecso"]


# The command


@pytest.fixture
def benchmark(tmp_path):
    """MIS-easy in its public layout, four samples; the folder."""
    root, rows = tmp_path / "data" / "mis", []
    for number in range(4):
        names = [f"easy_image/{number}/object{k}.png" for k in (1, 2)]
        for k, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(png(number * 2 + k))
        rows.append({
            "id": number, "question": f"why {number} ?", "category": "Violence", "sub_category": "Physical Harm",
            "image_path1": names[0], "image_path2": names[1],
        })  # fmt: skip
    (root / "mis_easy.json").write_text(json.dumps(rows))
    return root


def png(shade):
    from io import BytesIO

    from PIL import Image

    content = BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(content, "PNG")
    return content.getvalue()


def mis(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def respond_by_server(server, root, out, *more):
    return mis("respond", "mis/easy", "--root", root, "--endpoint", server.url, "--model", "m", "--out", out, *more)


def test_respond_by_any_server(tmp_path, benchmark):
    out = tmp_path / "responses.jsonl"
    with ChatServer(lambda asked: f"{asked.system} {asked.text} {len(asked.images)}") as server:
        result = respond_by_server(server, benchmark, out, "--limit", 3, "--concurrency", 2, "--system", "hm")
        assert result.exit_code == 0, result.output
        assert "3 responses (3 stop); 3 asked" in result.stdout
        assert "3/3" in result.stderr  # a line and no bar: this is no terminal
        assert "3 from the journal" in respond_by_server(server, benchmark, out, "--limit", 3, "--system", "hm").stdout
        assert server.requests == 3
        result = respond_by_server(server, benchmark.parent, out, "--system", "hm")  # the folder above will do
        assert "4 responses (4 stop); 1 asked" in result.stdout
    rows = read_jsonl(out)
    assert rows[0]["key"] == "mis/easy/0/m/base" and rows[0]["text"] == "hm why 0 ? 2"


def test_respond_says_what_failed_and_a_rerun_asks_for_that_alone(tmp_path, benchmark):
    out, broken = tmp_path / "responses.jsonl", [True]
    script = lambda asked: Status(400, "too long") if broken and asked.text == "why 2 ?" else "fine"  # noqa: E731
    with ChatServer(script) as server:
        result = respond_by_server(server, benchmark, out)
        assert result.exit_code == 1
        assert "4 responses (1 failed, 3 stop)" in result.stdout and "Some responses failed" in result.stderr
        assert respond_by_server(server, benchmark, out, "--allow-failures").exit_code == 0
        broken.clear()
        assert "4 responses (4 stop); 1 asked" in respond_by_server(server, benchmark, out).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("all", "without --endpoint, --arm and --seed must be given"),
        ("all --arm base --seed 0 --limit 3", "without --endpoint, --limit must not be given"),
        ("mis/easy --endpoint http://x/v1 --out o", "with --endpoint, --root must be given"),
        ("mis/easy --endpoint http://x/v1 --out o --root r --seed 0", "with --endpoint, --seed must not be given"),
        ("mis/easy --endpoint x --out o --root r", "--endpoint x: not a URL like http://host:8000/v1"),
        ("mis --endpoint http://x/v1 --out o --root r", "unknown benchmark 'mis'; known: mis/easy, mis/hard"),
        ("figstep --endpoint http://x/v1 --out o --root r --key-env NO_SUCH", "no such file|NO_SUCH"),
    ],
)
def test_the_two_forms_of_respond_are_not_mixed(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(ROOT / "config")
    result = mis("respond", *words.split(), "--model", "internvl_mini")
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert re.search(message, result.stderr), result.stderr


def test_a_served_model_of_the_configuration_answers_a_suite(tmp_path, benchmark, monkeypatch):
    with ChatServer(lambda asked: "fine", latency=0.01) as server:
        raw = raw_settings(arms=["base", "ecso"])
        raw["paths"] = {name: str(tmp_path / name) for name in raw["paths"]}
        raw["evaluation"]["suites"] = {"all": ["mis/easy"]}
        raw["endpoints"]["here"] |= {"url": server.url, "key_env": "MY_KEY"}
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(raw))
        where = ("--model", "gpt", "--seed", 0, "--config", config)
        monkeypatch.setenv("MY_KEY", CANARY)
        assert "4 responses (4 stop); 4 asked" in mis("respond", "all", "--arm", "base", *where).stdout
        assert "4 responses (4 stop); 4 asked" in mis("respond", "all", "--arm", "ecso", *where).stdout
    settings = load(config)
    rows = read_jsonl(layout.responses(settings, "gpt", 0, "ecso", "all"))
    assert len(rows[0]["trace"]) == 2
    assert server.seen["why 0 ?"] == 1  # ECSO's first turn is the base's question, known by its content
    assert CANARY not in everything_below(tmp_path)


def test_a_reached_budget_ends_the_command_with_status_1(tmp_path, benchmark):
    with ChatServer() as server:
        raw = raw_settings(served={"endpoint": "here", "name": "gpt", "budget": 0.001, **PRICES})
        raw["paths"] = {name: str(tmp_path / name) for name in raw["paths"]}
        raw["evaluation"]["suites"] = {"all": ["mis/easy"]}
        raw["endpoints"]["here"]["url"] = server.url
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(raw))
        result = mis("respond", "all", "--arm", "base", "--model", "gpt", "--seed", 0, "--config", config)
    assert result.exit_code == 1 and "the budget of 0.001 is used up" in result.stderr and server.requests == 0


def test_in_the_graph_a_served_model_needs_the_data_and_no_checkpoint(tmp_path, snakemake):
    raw = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    raw["endpoints"] = {"here": {"url": "http://127.0.0.1:1/v1"}}
    raw["models"] = {"gpt": {"served": {"endpoint": "here", "name": "gpt"}, "arms": ["base", "ecso"]}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    wanted = f"{raw['paths']['results']}/responses/gpt/seed0/ecso/all.jsonl"
    done = snakemake(tmp_path, "-n", "-q", "rules", "--configfile", str(tmp_path / "config.yaml"), "--", wanted)
    assert done.code == 0, done.text
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.text, re.MULTILINE))
    assert jobs == {"write_world": "1", "construct_mis": "1", "respond": "1", "total": "3"}


def everything_below(folder):
    return "".join(path.read_bytes().decode("latin-1") for path in sorted(folder.rglob("*")) if path.is_file())


def test_the_key_is_written_nowhere(tmp_path, benchmark):
    """A server that repeats the key in its messages, every kind of end, and a traceback that is asked for."""
    script = {
        "why 0 ?": Status(500, f"your key is {CANARY}", {"retry-after": "400"}),
        "why 1 ?": Status(400, f"Bearer {CANARY} is bad"),
        "why 2 ?": "fine", "why 3 ?": "fine",
    }  # fmt: skip
    work = tmp_path / "work"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MY_KEY": CANARY, "OPENAI_LOG": "debug"}
    with ChatServer(lambda asked: script[asked.text]) as server:

        def call(*more):
            command = [sys.executable, "-m", "mis", "--debug", "respond", "mis/easy", "--root", benchmark, "--model"]
            command += ["m", "--endpoint", server.url, "--out", work / "out.jsonl", "--key-env", "MY_KEY", *more]
            return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

        done = call()
        assert done.returncode == 1
        script["why 0 ?"] = Status(401, f"{CANARY} is not known")
        ended = call()
        assert "refuses the key" in ended.stderr and "Traceback" in ended.stderr
    written = everything_below(work)
    assert '"HTTP 400: Bearer *** is bad"' in written and "HTTP 500: your key is ***" in written
    for text in (written, done.stdout, done.stderr, ended.stdout, ended.stderr):
        assert CANARY not in text


def test_answering_knows_the_paper_s_length():
    assert answering.MAX_TOKENS == 1024
