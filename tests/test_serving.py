"""A server for a run: it comes up, is asked, and nothing of it is left afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mis import answering, serving
from mis.cli import app
from mis.models.processing import word_tokenizer
from mis.serving import ServiceError, State
from mis.settings import ConfigurationError, Endpoint, Service, load, validate

# Answers /health 200 after DELAY seconds, and starts a child of its own, as servers with workers do.
SERVER = """
import http.server, subprocess, sys, time
port, delay, pids = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(pids, "w").write(f"{child.pid} ")
start = time.monotonic()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if time.monotonic() - start > delay else 503)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def service(tmp_path: Path, delay: float = 0.0, **more) -> Service:
    words = [sys.executable, "-c", SERVER, "{port}", str(delay), str(tmp_path / "pids")]
    words[2] = SERVER.replace("{", "{{").replace("}", "}}")
    return Service(command=words, **more)


def begin(tmp_path: Path, given: Service, file: Path) -> subprocess.Popen:
    """`serve` in a process of its own, as `mis serve` runs it."""
    code = (
        "import sys, json; from pathlib import Path; from mis.settings import Service; from mis import serving;"
        "serving.serve(Service(**json.loads(sys.argv[1])), 'weights', 'm', Path(sys.argv[2]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(serving.__file__).parents[1])}
    words = [sys.executable, "-c", code, given.model_dump_json(), str(file)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"


def test_it_is_ready_when_it_is_healthy_and_nothing_is_left_when_it_is_told_to_end(tmp_path, mini):
    file, given = tmp_path / "server.json", service(tmp_path, delay=0.5)
    settings = mini.model_copy(update={"services": {"s": given}})
    process = begin(tmp_path, given, file)
    try:
        endpoint, name = serving.wait_for(settings, file, "s")
        url = endpoint.url
        assert name == "m"
        assert url.startswith("http://127.0.0.1:") and url.endswith("/v1")
        assert urllib.request.urlopen(url.removesuffix("/v1") + "/health").status == 200
        (child,) = map(int, (tmp_path / "pids").read_text().split())
        assert alive(child)
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, process.stdout.read()
    wait_for(lambda: not alive(child))
    with pytest.raises(OSError):
        urllib.request.urlopen(url.removesuffix("/v1") + "/health")


def test_who_waits_is_told_why_there_is_no_server(tmp_path, mini):
    for given, says in (
        (Service(command=[sys.executable, "-c", "raise SystemExit(3)"]), "ended before it was ready (exit status 3)"),
        (Service(command=["no-such-server", "{port}"]), "no-such-server cannot be started"),
        (service(tmp_path, delay=600, start_s=0.5), "was not ready within 0.5 s"),
    ):
        file = tmp_path / "server.json"
        settings = mini.model_copy(update={"services": {"s": given}})
        process = begin(tmp_path, given, file)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 1 and says in output
        with pytest.raises(ServiceError, match="its log says more") as error:
            serving.wait_for(settings, file, "s")
        assert says in str(error.value)


def test_who_waits_for_nothing_does_not_wait_for_ever(tmp_path, mini, monkeypatch):
    monkeypatch.setattr(serving, "APPEAR_WITHIN_S", 0.3)
    settings = mini.model_copy(update={"services": {"s": service(tmp_path, start_s=0.2)}})
    with pytest.raises(ServiceError, match="nobody starts this server"):
        serving.wait_for(settings, tmp_path / "server.json", "s")
    (tmp_path / "server.json").write_text("")  # the rule has begun, and got no further
    with pytest.raises(ServiceError, match="nobody starts this server"):
        serving.wait_for(settings, tmp_path / "server.json", "s")
    State().write(tmp_path / "server.json")
    with pytest.raises(ServiceError, match="not ready within 0.2 s"):
        serving.wait_for(settings, tmp_path / "server.json", "s")
    (tmp_path / "server.json").write_text(json.dumps({"where": "here"}))
    with pytest.raises(ServiceError, match="not the file of a server"):
        serving.wait_for(settings, tmp_path / "server.json", "s")


def test_two_servers_do_not_take_the_same_gpu(tmp_path, mini, monkeypatch):
    """The command says which it got; the third finds none free, and says so."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    seen = "import os, sys; open(sys.argv[3] + '.gpu', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    processes, files = [], [tmp_path / f"{n}.json" for n in range(3)]
    try:
        for number, file in enumerate(files):
            words = [sys.executable, "-c", (seen + SERVER).replace("{", "{{").replace("}", "}}"), "{port}", "0"]
            given = Service(command=[*words, str(tmp_path / str(number))], gpus=1)
            settings = mini.model_copy(update={"services": {"s": given}})
            processes.append(begin(tmp_path, given, file))
            if number < 2:
                serving.wait_for(settings, file, "s")
        with pytest.raises(ServiceError, match="1 GPUs are wanted, and 0 are free"):
            serving.wait_for(settings, files[2], "s")
        assert processes.pop().wait(60) == 1
        assert {(tmp_path / f"{n}.gpu").read_text() for n in range(2)} == {"3", "5"}
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
    assert [process.wait(60) for process in processes] == [0, 0]


# --- A model's own words for its server -------------------------------------------------------------------------------

OFFICIAL = Path(__file__).parents[1] / "config" / "chat_templates" / "internvl2_5_mis.jinja"


def served_with(mini, words: list[str]):
    """The miniature with its model's checkpoints behind a service."""
    raw = mini.model_dump(mode="json")
    raw["services"] = {"s": {"command": ["serve", "{source}"]}}
    raw["evaluation"] |= {"service": "s"}
    raw["models"]["internvl_mini"]["serve_with"] = words
    return validate(raw)


def test_a_models_words_stand_behind_the_command_and_decide_its_answers(mini, monkeypatch):
    monkeypatch.setattr(serving, "wait_for", lambda *_: (Endpoint(url="http://127.0.0.1:9/v1"), "m"))
    monkeypatch.setattr(answering, "checkpoint_identity", lambda _: "abc")
    identities = set()
    for words in ([], ["--cut", '{{"max_patches": 4}}'], ["--cut", '{{"max_patches": 12}}']):
        settings = served_with(mini, words)
        assert settings.service_of("internvl_mini").command == ["serve", "{source}", *words]
        with answering.answerer(settings, "internvl_mini", "base", 0) as found:
            identities.add(found.identity)
    assert len(identities) == 3
    assert mini.service_of("internvl_mini") is None
    with pytest.raises(ConfigurationError, match="unknown place {max_patches}"):
        served_with(mini, ["--cut", "{max_patches}"])


def test_the_command_line_serves_with_them(mini, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(serving, "serve", lambda service, *_: begun.append(service.command))
    config = tmp_path / "config.yaml"
    config.write_text(served_with(mini, ["--cut"]).model_dump_json(), encoding="utf-8")
    words = ["serve", "--model", "internvl_mini", "--arm", "base", "--seed", "0", "--config", str(config)]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert begun == [["serve", "{source}", "--cut"]]


def test_the_official_template_asks_as_the_official_evaluation_does():
    """The text that its `prepare_inputs` makes for two pictures, worked out by hand; no system turn."""
    tokenizer = word_tokenizer(["why"])
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "why ?"}]
    template = OFFICIAL.read_text(encoding="utf-8")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], chat_template=template, tokenize=False, add_generation_prompt=True
    )
    pictures = "Image-1: <IMG_CONTEXT>\n\nImage-2: <IMG_CONTEXT>\n\n"
    assert text == f"{tokenizer.bos_token or ''}<|im_start|>user\n{pictures}why ?<|im_end|>\n<|im_start|>assistant\n"
    paper = load(OFFICIAL.parents[1] / "paper.yaml")
    assert str(OFFICIAL.relative_to(OFFICIAL.parents[2])) in paper.service_of("internvl2_5_8b").command
    assert paper.service_of("qwen2_vl_7b").command == paper.services["vllm"].command
