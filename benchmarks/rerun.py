"""What a finished run costs to run again: with nothing to do, and with one table deleted. Seconds, whole process.

python benchmarks/rerun.py [--scale mini] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="mini")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--config", f"scale={options.scale}"]
    table = Path("results", options.scale, "tables", "table4.csv")
    if not table.is_file():
        sys.exit(f"{table} is not there: finish the run first")
    nothing, one = [], []
    for _ in range(options.rounds):
        nothing.append(seconds(command))
        table.unlink()
        one.append(seconds(command))
    print(f"nothing to do: {statistics.median(nothing):.1f} s; one table deleted: {statistics.median(one):.1f} s")


if __name__ == "__main__":
    main()
