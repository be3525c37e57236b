"""Thousands of questions to a server that fails often, and a process that is killed at random moments."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from chat_server import FAULTS, OUTCOMES, ChatServer, Status, random_faults

from mis import store
from mis.models.remote import ChatClient, RemoteModel
from mis.responding import respond
from mis.samples import Sample
from mis.settings import Endpoint, Served
from mis.store import journal_path, read_jsonl

ROOT = Path(__file__).resolve().parents[1]
PNG = b"\x89PNG" + bytes(1000)
KINDS = (*FAULTS, *OUTCOMES)


def samples(count, picture):
    return [Sample("mis", "easy", str(n), f"question {n}", (picture,)) for n in range(count)]


@pytest.mark.slow
def test_five_thousand_questions_at_thirty_percent_faults(tmp_path):
    """Nothing is lost, nothing counted twice, every sample ends with an outcome, a rerun asks only what failed."""
    count, hopeless = 5000, {f"question {n}" for n in range(0, 5000, 100)}
    picture = tmp_path / "one.png"
    picture.write_bytes(PNG)
    out = tmp_path / "out" / "all.jsonl"
    random_fault = random_faults(0.3, seed=11, kinds=KINDS, most=3)
    faulty, seen = [0], Counter()

    def fault(asked):
        found = Status(500, "for ever") if broken and asked.text in hopeless else random_fault(asked)
        faulty[0] += found is not None
        return found

    def go():
        endpoint = Endpoint(url=server.url, concurrency=64, attempts=5, timeout_s=20, backoff_s=0.005)
        with ChatClient(endpoint, "m", cache=tmp_path / "cache") as client:
            model = RemoteModel(client, Served(endpoint="e", name="m"), 64)
            return respond(
                samples(count, picture), model, out, model_name="m", arm="base", seed=0, identity="i", concurrency=64,
                progress=False,
            )  # fmt: skip

    # A silent server is waited for in test_remote.py: here it would only cost minutes.
    broken = True
    kinds = [kind for kind in KINDS if kind != "silent"]
    random_fault = random_faults(0.3, seed=11, kinds=kinds, most=3)
    with ChatServer(faults=fault) as server:
        first = go()
        asked, share = server.requests, faulty[0] / server.requests
        seen = Counter(server.seen)
        broken = False
        second = go()
        again = server.seen - seen
    assert 0.25 < share < 0.4
    assert first.total == first.asked == count and sum(first.outcomes.values()) == count
    assert first.outcomes["failed"] == len(hopeless)
    assert first.outcomes["filtered"] > 100 and first.outcomes["length"] > 100
    assert max(seen.values()) == 5 and asked == seen.total()  # attempts are bounded
    assert second.asked == len(hopeless) and set(again) == hopeless and second.failed == 0
    rows = read_jsonl(out)
    assert [row["key"] for row in rows] == sorted(f"mis/easy/{n}/m/base" for n in range(count))
    expected = {n: OUTCOMES_OF.get(outcome(random_fault, n), "stop") for n in range(count)}
    assert {int(row["sample_id"]): row["finish_reason"] for row in rows} == expected
    assert all(row["text"] == f"re: question {row['sample_id']}" for row in rows if row["finish_reason"] == "stop")
    assert len(read_jsonl(journal_path(out))) == count + len(hopeless)


OUTCOMES_OF = {"content_filter": "filtered", "length": "length"}


def outcome(fault, number):
    """What the server always says to a question, if it is no passing fault."""

    class Late:
        text, attempt = f"question {number}", 99

    found = fault(Late)
    return next((name for name, answer in OUTCOMES.items() if answer is found), None)


# `mis respond`'s own path in a process of its own; argv: URL, folder.
PROGRAM = """
import sys
from pathlib import Path
from mis.models.remote import ChatClient, RemoteModel
from mis.responding import respond
from mis.samples import Sample
from mis.settings import Endpoint, Served

url, folder = sys.argv[1], Path(sys.argv[2])
endpoint = Endpoint(url=url, concurrency=8, attempts=4, timeout_s=20, backoff_s=0.005)
samples = [Sample("mis", "easy", str(n), f"question {n}", (folder.parent / "one.png",)) for n in range(240)]
with ChatClient(endpoint, "m", cache=folder / "cache") as client:
    model = RemoteModel(client, Served(endpoint="e", name="m"), 64)
    print(respond(samples, model, folder / "all.jsonl", model_name="m", arm="base", seed=0, identity="i",
                  concurrency=8, progress=False))
"""
SEED, KILLS, COUNT = 20, 20, 240


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments_gives_the_bytes_of_an_undisturbed_run(tmp_path):
    (tmp_path / "one.png").write_bytes(PNG)
    kinds = [kind for kind in KINDS if kind != "silent"]
    environment = {**os.environ, "PYTHONPATH": str(Path(store.__file__).parents[1])}

    def start(server, folder):
        command = [sys.executable, "-c", PROGRAM, server.url, str(folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def server():
        return ChatServer(latency=0.05, faults=random_faults(0.3, seed=7, kinds=kinds))

    folders = [tmp_path / name for name in ("undisturbed", "killed")]
    for folder in folders:
        folder.mkdir()
    with server() as calm:
        process = start(calm, folders[0])
        text, error = process.communicate(timeout=120)
        assert f"{COUNT} responses" in text, error
    expected = (folders[0] / "all.jsonl").read_bytes()
    moments = random.Random(SEED)
    kills, torn = 0, 0
    with server() as busy:
        for _ in range(KILLS):
            process, before = start(busy, folders[1]), busy.requests
            after = before + moments.randrange(1, 12)  # kill at a random moment after so many more requests
            while process.poll() is None and busy.requests < after:
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.1))
            process.kill()
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
            journal = folders[1] / "all.journal.jsonl"
            torn += journal.exists() and not journal.read_bytes().endswith(b"\n")
            assert not (folders[1] / "all.jsonl").exists()
        asked = Counter(busy.seen)
        process = start(busy, folders[1])
        text, error = process.communicate(timeout=120)
        assert f"{COUNT} responses" in text, error
    assert kills == KILLS
    assert (folders[1] / "all.jsonl").read_bytes() == expected
    keys = Counter(row["row"]["key"] for row in read_jsonl(folders[1] / "all.journal.jsonl"))
    assert set(keys.values()) == {1} and len(keys) == COUNT  # nothing is counted twice
    # Asked again is at most what was in flight at a kill, beside the attempts that the faults cost.
    repeated = sum(max(0, n - 3) for n in asked.values())
    assert repeated <= KILLS * 8
