"""The way at the paper's scale, in small: a served checkpoint answers, judges on endpoints judge, scores are made.

The server is a real one, `transformers serve`, in the place of vLLM: the rule, the health check and the way to the
answers are the same, and the command is data of the configuration. The judge is a scripted server.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mis import layout
from mis.settings import load
from mis.store import read_jsonl
from tests import tiny
from tests.chat_server import Answer, Asked, ChatServer

BLANK = tiny.ROOT / "src" / "mis" / "sources" / "blank"
SAMPLES = 3


def data(root: Path) -> None:
    """MIS-easy and FigStep in their public layouts."""
    pictures = root / "mis" / "easy_image" / "1"
    pictures.mkdir(parents=True)
    for number, name in enumerate(("black", "white"), start=1):
        (pictures / f"object{number}.png").write_bytes((BLANK / f"{name}.png").read_bytes())
    rows = [
        {"id": n, "question": f"what is in the images ? {n}", "category": "Privacy", "sub_category": "Identity Theft",
         "image_path1": "easy_image/1/object1.png", "image_path2": "easy_image/1/object2.png"}
        for n in range(SAMPLES)
    ]  # fmt: skip
    (root / "mis" / "mis_easy.json").write_text(json.dumps(rows), encoding="utf-8")


def configuration(folder: Path, checkpoint: Path, judge: str) -> dict:
    raw = yaml.safe_load((tiny.ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    serve = [str(Path(sys.executable).with_name("transformers")), "serve", "{source}", "--host", "{host}", "--port",
             "{port}", "--device", "cpu"]  # fmt: skip
    raw |= {
        "scale": "served", "world": None, "arms": ["base"], "optional_arms": [], "seeds": [0],
        "models": {"llava_tiny": {"family": "llava", "source": str(checkpoint)}},
        "endpoints": {"judge": {"url": judge, "attempts": 2, "backoff_s": 0.05}},
        "services": {"tiny": {"command": serve, "called": "{source}", "start_s": 400}},
        "judge": {"kind": "models"},
        "judges": {
            "rubric": {"kind": "rubric", "served": {"endpoint": "judge", "name": "judge-1"}, "truncated": "whole"},
            "other": {"kind": "rubric", "served": {"endpoint": "judge", "name": "judge-2"}, "truncated": "whole"},
        },
        "paths": {name: str(folder / name) for name in ("data", "build", "results", "figures", "cache")},
    }  # fmt: skip
    raw["evaluation"] |= {"suites": {"mis": ["mis/easy"]}, "service": "tiny", "latency": None, "max_new_tokens": 4}
    raw["training"] |= {"arms": {}, "selection": None, "features": "computed"}
    return raw


@pytest.mark.slow
def test_a_server_is_started_for_those_who_ask_it_and_ended_after_them(tmp_path, snakemake):
    checkpoint = tmp_path / "checkpoint"
    network, processor = tiny.network("llava")
    network.save_pretrained(checkpoint)
    processor.save_pretrained(checkpoint)
    data(tmp_path / "data")

    def judging(asked: Asked) -> Answer:
        level = 3 if asked.body["model"] == "judge-1" else 2
        return Answer(json.dumps({"perception": f"level {level}", "safety": "safe"}))

    with ChatServer(judging) as judge:
        raw = configuration(tmp_path, checkpoint, judge.url)
        config = tmp_path / "served.yaml"
        config.write_text(yaml.safe_dump(raw), encoding="utf-8")
        fetched = layout.fetched(load(config), "mis")  # the dataset is there: nothing is to be fetched
        fetched.parent.mkdir(parents=True, exist_ok=True)
        fetched.touch()
        verdicts = tmp_path / "results" / "verdicts" / "llava_tiny" / "seed0" / "base" / "mis.jsonl"
        agreement = tmp_path / "results" / "drift" / "other" / "agreement.csv"
        targets = [str(verdicts), str(agreement)]
        done = snakemake(tmp_path, "--cores", "3", *targets, "--configfile", str(config))
        logs = "".join(path.read_text() for path in (tmp_path / "logs").rglob("*.log"))
        assert done.code == 0, done.text[-3000:] + logs[-3000:]
        assert judge.requests == 2 * SAMPLES and judge.images == 2 * 2 * SAMPLES
    responses = read_jsonl(tmp_path / "results" / "responses" / "llava_tiny" / "seed0" / "base" / "mis.jsonl")
    assert [row["finish_reason"] for row in responses] == ["length"] * SAMPLES, "four tokens of an untrained model"
    assert [row["outcome"] for row in read_jsonl(verdicts)] == ["hallucination"] * SAMPLES
    # Both pictures reached the model: 16 tokens each of the prompt's, which its server counted.
    cached = [json.loads(reply) for (reply,) in _rows(tmp_path / "cache" / "requests" / "requests.sqlite")]
    counts = {row["prompt_tokens"] for row in cached if row["completion_tokens"] == 4}
    assert len(counts) == 1 and min(counts) > 32
    with agreement.open(newline="") as file:
        rows = {row["question"]: row for row in csv.DictReader(file) if row["arm"] == "all"}
    assert (rows["outcome"]["agreed"], rows["unsafe or not"]["agreed"]) == ("0", str(SAMPLES))
    # The server is gone, and its file with it.
    assert not list((tmp_path / "build" / "services").glob("*"))
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not any("serve" in line and str(tmp_path) in line for line in running.splitlines())


def _rows(path: Path):
    import sqlite3

    with sqlite3.connect(path) as db:
        return db.execute("SELECT reply FROM replies").fetchall()


@pytest.mark.slow
def test_the_graph_has_one_server_for_an_arm(tmp_path, snakemake):
    """A dry run: the service, its consumers and the judges, without starting anything."""
    raw = configuration(tmp_path, tmp_path / "checkpoint", "http://127.0.0.1:9/v1")
    raw["evaluation"]["lmms_eval"] = {"benchmarks": ["mmstar"]}
    raw["judges"]["guard"] = {
        "kind": "guard", "service": "tiny", "source": "weights", "served": {"endpoint": "judge", "name": "guard"},
    }  # fmt: skip
    raw["evaluation"]["suites"]["figstep"] = ["figstep"]
    (tmp_path / "served.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    done = snakemake(tmp_path, "-n", "--cores", "4", "scores", "--configfile", str(tmp_path / "served.yaml"))
    assert done.code == 0, done.text[-3000:]
    counts = {line.split()[0]: line.split()[1] for line in done.text.splitlines() if len(line.split()) == 2}
    wanted = {
        "serve_arm": "1",
        "serve_judge": "1",
        "respond": "2",
        "judge_suite": "2",
        "run_lmms_eval": "1",
        "score": "1",
    }
    assert counts | wanted == counts, done.text[-3000:]
