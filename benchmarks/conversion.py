"""Memory and time of `mis convert`, both ways, on a checkpoint of a chosen size.

    python benchmarks/conversion.py [--gigabytes 2] [--folder DIR]

Makes an `internvl_chat` checkpoint in two shards (the InternLM2 fixture, its vocabulary grown), converts it there and
back, each in a process of its own, and removes it. Prints for each direction the size, the largest shard, the process's
peak memory in all and beyond what importing torch and transformers takes, and the rate. Wants three times the size in
`DIR`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mis.models.conversion.tensors import CHUNK, Pieced, read_checkpoint, write_tensors

ROOT = Path(__file__).resolve().parents[1]
FIXTURE = ROOT / "tests" / "fixtures" / "internvl_chat_tiny" / "internlm2"
RUN = """
import sys
from pathlib import Path
def peak():  # of this program; ru_maxrss would begin with that of the process that started it
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
import torch, transformers.models.internvl.modeling_internvl, transformers.models.llama.modeling_llama
before = peak()
from mis.models.conversion import convert
source, target, to = sys.argv[1:]
convert(Path(source), Path(target), to=to, image_token_id=117 if to == "native" else None, say=lambda line: None)
print(peak() / 1024, (peak() - before) / 1024)
"""
WIDTH = 48  # of the fixture's word vectors


def make(folder: Path, size: int) -> None:
    """Two tables of `size` bytes together, a shard each; the rest of the fixture stands before the first."""
    rows = size // 2 // (4 * WIDTH)
    tables = ("language_model.model.tok_embeddings.weight", "language_model.output.weight")
    (tensors,) = read_checkpoint(FIXTURE).values()
    folder.mkdir(parents=True)
    small = {name: tensor for name, tensor in tensors.items() if name not in tables}
    write_tensors(folder / "model-00001-of-00003.safetensors", {n: Pieced((t.whole(),)) for n, t in small.items()})
    places = dict.fromkeys(small, "model-00001-of-00003.safetensors")
    for number, name in enumerate(tables, start=2):
        path = folder / f"model-{number:05d}-of-00003.safetensors"
        entry = {name: {"dtype": "F32", "shape": [rows, WIDTH], "data_offsets": [0, rows * WIDTH * 4]}}
        header = json.dumps(entry).encode()
        with open(path, "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            left = rows * WIDTH * 4
            while left:  # written, not left as a hole: a hole costs no reading
                left -= file.write(bytes(min(left, CHUNK)))
        places[name] = path.name
    config = json.loads((FIXTURE / "config.json").read_text())
    config["llm_config"]["vocab_size"] = rows
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        source, native, back = (Path(place) / name for name in ("source", "native", "back"))
        make(source, int(options.gigabytes * 2**30))
        shards = [path.stat().st_size for path in source.glob("*.safetensors")]
        for start, end, to in ((source, native, "native"), (native, back, "internvl_chat")):
            begun = time.perf_counter()
            command = [sys.executable, "-c", RUN, str(start), str(end), to]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT / "src")
            peak, beyond = map(float, done.stdout.split())
            seconds = time.perf_counter() - begun
            print(
                f"to {to}: {sum(shards) / 2**30:.2f} GiB, largest shard {max(shards) / 2**30:.2f} GiB, peak "
                f"{peak / 1024:.2f} GiB, {beyond:.0f} MiB of it beyond the imports; {seconds:.1f} s, "
                f"{sum(shards) / seconds / 2**20:.0f} MiB/s"
            )


if __name__ == "__main__":
    main()
