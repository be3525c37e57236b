"""How close each step of a construction comes to the throughput that its endpoint allows.

    python -m benchmarks.construction_throughput [--samples 500] [--concurrency 64] [--latency 1]

A server on loopback, in a process of its own, answers each request after `latency` seconds. A batch of n requests
then takes ceil(n / concurrency) x latency seconds at best; a step's ideal is the sum over its batches. One row a step:
requests, ideal and measured seconds, and their ratio.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

from mis.construction import asking, full_size, painters, pipeline
from tests.construction_server import configured

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=1.0)
    given = parser.parse_args()

    requests, ideal, measured = defaultdict(int), defaultdict(float), {}
    running = [""]

    def count(batch: int) -> None:
        requests[running[0]] += batch
        ideal[running[0]] += math.ceil(batch / given.concurrency) * given.latency

    def timed(method, size):
        def wrapped(self, *arguments):
            count(len(arguments[size]))
            return method(self, *arguments)

        return wrapped

    step = pipeline._Book.step

    def timed_step(self, name, kind, inputs, make):
        def made():
            running[0] = name
            start = time.monotonic()
            rows = make()
            measured[name] = time.monotonic() - start
            return rows

        return step(self, name, kind, inputs, made)

    import openai.resources.chat  # noqa: F401  the start of the process is no part of a step's throughput

    asking.Asker.ask = timed(asking.Asker.ask, 1)
    painters.EndpointPainter._draw = timed(painters.EndpointPainter._draw, 0)
    pipeline._Book.step = timed_step

    command = [sys.executable, "-m", "tests.construction_server", "--latency", str(given.latency)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            url = server.stdout.readline().strip()
            settings = configured(Path(folder), SimpleNamespace(url=url), given.samples, given.concurrency)
            full_size.construct(settings)
        finally:
            server.kill()

    print(f"{'step':<14}{'requests':>10}{'ideal s':>10}{'seconds':>10}{'of ideal':>10}")
    for name, seconds in measured.items():
        if requests[name]:
            row = f"{name:<14}{requests[name]:>10}{ideal[name]:>10.1f}{seconds:>10.1f}{ideal[name] / seconds:>10.0%}"
            print(row)


if __name__ == "__main__":
    main()
