"""What asking a model over HTTP costs beside the ideal, beside a bare loop over the same client, and in memory.

python benchmarks/remote_asking.py throughput [--latency 1 0.2] [--concurrency 64] [--waves 30] [--rounds 3]
python benchmarks/remote_asking.py cpu [--samples 2000] [--rounds 3]
python benchmarks/remote_asking.py memory [--samples 1000 100000]

The server (tests/chat_server.py) is a process of its own; what is compared is run alternately in the same call.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE_BYTES = 100_000
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


@contextmanager
def server(latency: float) -> Iterator[str]:
    """The URL of a server that answers after so many seconds."""
    command = [sys.executable, str(ROOT / "tests" / "chat_server.py"), "--latency", str(latency), "--no-parse"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def picture() -> bytes:
    """A JPEG of noise, a little below PICTURE_BYTES."""
    import numpy as np
    from PIL import Image

    content = b""
    for side in range(100, 1000, 4):
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "JPEG", quality=85)
        if len(file.getvalue()) > PICTURE_BYTES:
            return content
        content = file.getvalue()
    raise AssertionError


def dataset(folder: Path, count: int) -> Path:
    """SIUO's layout: one question and one picture a sample, no two alike (the number stands in a JPEG comment)."""
    content, rows = picture(), []
    (folder / "data" / "images").mkdir(parents=True)
    for number in range(count):
        comment = str(number).encode()
        marked = content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]
        (folder / "data" / "images" / f"{number}.jpg").write_bytes(marked)
        rows.append({
            "question_id": number, "image": f"{number}.jpg", "question": f"What is in picture {number}?",
            "category": "made up", "safety_warning": "", "reference_answer": "",
        })  # fmt: skip
    (folder / "data" / "siuo_gen.json").write_text(json.dumps(rows))
    return folder


def run(command: list[str]) -> tuple[float, float, float, str]:
    """Seconds, CPU seconds and peak MiB of a process, and what it printed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} ended with status {status}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text


def respond(url: str, root: Path, out: Path, concurrency: int) -> list[str]:
    return [
        sys.executable, "-m", "mis", "respond", "siuo", "--root", str(root), "--endpoint", url, "--model", "m",
        "--out", str(out), "--concurrency", str(concurrency),
    ]  # fmt: skip


def itself(*words: object) -> list[str]:
    return [sys.executable, __file__, *map(str, words)]


def spread(values: list[float], form: str = "{:.1f}") -> str:
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def throughput(options: argparse.Namespace) -> None:
    for latency in options.latency:
        count = options.concurrency * options.waves
        ideal = options.concurrency / latency
        shares, whole, alone = [], [], []
        with tempfile.TemporaryDirectory() as folder, server(latency) as url:
            root = dataset(Path(folder, "siuo"), count)
            for number in range(options.rounds):
                command = respond(url, root, Path(folder, str(number), "all.jsonl"), options.concurrency)
                seconds, _, _, text = run(command)
                asking = float(re.search(r"asked in ([\d.]+) s", text)[1])
                shares.append(100 * count / asking / ideal)
                whole.append(100 * count / seconds / ideal)
                few = min(count, max(5, round(20 / latency / 10)))
                alone.append(few / float(run(itself("alone", url, root, few))[3]))
        ratio = statistics.median(shares) / 100 * ideal / statistics.median(alone)
        print(
            f"latency {latency:g} s, {options.concurrency} in flight, {count} samples, {options.rounds} rounds: ideal "
            f"{ideal:.0f}/s; asked, journalled and published at {spread(shares)} % of it (with the process's start and "
            f"the reading of the data {spread(whole)} %); one sample at a time {spread(alone, '{:.2f}')}/s: "
            f"{ratio:.0f} times slower"
        )


def cpu(options: argparse.Namespace) -> None:
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder, server(0.05) as url:
        root = dataset(Path(folder, "siuo"), options.samples)
        for number in range(options.rounds):
            command = respond(url, root, Path(folder, str(number), "all.jsonl"), 64)
            ours.append(1000 * run(command)[1] / options.samples)
            bare.append(1000 * run(itself("bare", url, root))[1] / options.samples)
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    print(
        f"CPU of the whole process, {options.samples} samples with a picture of 100 kB, {options.rounds} rounds: "
        f"mis respond {spread(ours, '{:.2f}')} ms a sample, bare loop {spread(bare, '{:.2f}')} ms: "
        f"{spread(ratios, '{:.2f}')} times"
    )


def memory(options: argparse.Namespace) -> None:
    found = {}
    with tempfile.TemporaryDirectory() as folder, server(0.0) as url:
        root = dataset(Path(folder, "siuo"), 300)
        for count in options.samples:
            seconds, used, peak, text = run(itself("many", url, root, count, Path(folder, str(count), "all.jsonl")))
            found[count] = peak
            print(
                f"{count} samples: peak {peak:.0f} MiB, {seconds:.0f} s, {used:.0f} CPU s; {text.strip()}", flush=True
            )
    first, last = options.samples[0], options.samples[-1]
    print(f"{last} samples take {found[last] / found[first]:.2f} times the memory of {first}")


def rows(root: str) -> list[dict]:
    return json.loads(Path(root, "data", "siuo_gen.json").read_text())


def message(root: str, row: dict) -> list[dict]:
    content = base64.b64encode(Path(root, "data", "images", row["image"]).read_bytes()).decode()
    url = {"url": f"data:image/jpeg;base64,{content}"}
    return [{"role": "user", "content": [{"type": "image_url", "image_url": url},
                                         {"type": "text", "text": row["question"]}]}]  # fmt: skip


def bare(url: str, root: str) -> None:
    """The least that asking can be: the official client, 64 at once, answers kept in a list."""
    import asyncio

    from openai import AsyncOpenAI

    async def go() -> list[str]:
        client, slots = AsyncOpenAI(base_url=url, api_key="none", max_retries=0), asyncio.Semaphore(64)

        async def one(row: dict) -> str:
            async with slots:
                reply = await client.chat.completions.create(
                    model="m", messages=message(root, row), max_tokens=1024, temperature=0.0
                )
                return reply.choices[0].message.content

        return await asyncio.gather(*map(one, rows(root)))

    print(len(asyncio.run(go())))


def alone(url: str, root: str, count: str) -> None:
    """As the official script asks: one sample after the other. Prints the seconds."""
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="none")
    start = time.perf_counter()
    for row in rows(root)[: int(count)]:
        client.chat.completions.create(model="m", messages=message(root, row), max_tokens=1024, temperature=0.0)
    print(time.perf_counter() - start)


def many(url: str, root: str, count: str, out: str) -> None:
    """`respond` over samples that are made as they are taken, so that what it keeps itself is what is measured."""
    from mis.answering import remote
    from mis.responding import respond
    from mis.samples import Sample
    from mis.settings import Endpoint, Served

    pictures = sorted(Path(root, "data", "images").iterdir())

    class Samples:
        def __len__(self) -> int:
            return int(count)

        def __iter__(self) -> Iterator[Sample]:
            for number in range(int(count)):
                yield Sample("siuo", "", str(number), f"question {number} ?", (pictures[number % len(pictures)],))

    path = Path(out)
    with remote(Served(endpoint="e", name="m"), Endpoint(url=url), path.parent / "cache", 1024) as found:
        print(respond(
            Samples(), found.model, path, model_name="m", arm="base", seed=0, identity=found.identity,
            concurrency=found.concurrency, progress=False,
        ))  # fmt: skip


def main() -> None:
    if sys.argv[1:2] in (["bare"], ["alone"], ["many"]):
        globals()[sys.argv[1]](*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="what", required=True)
    part = parts.add_parser("throughput")
    part.add_argument("--latency", type=float, nargs="+", default=[1.0, 0.2])
    part.add_argument("--concurrency", type=int, default=64)
    part.add_argument("--waves", type=int, default=30, help="samples over concurrency")
    part.add_argument("--rounds", type=int, default=3)
    part = parts.add_parser("cpu")
    part.add_argument("--samples", type=int, default=2000)
    part.add_argument("--rounds", type=int, default=3)
    part = parts.add_parser("memory")
    part.add_argument("--samples", type=int, nargs="+", default=[1000, 100_000])
    options = parser.parse_args()
    {"throughput": throughput, "cpu": cpu, "memory": memory}[options.what](options)


if __name__ == "__main__":
    main()
