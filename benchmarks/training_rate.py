"""How close training comes to the machine: its floating-point rate beside that of plain matrix products, same run.

    python benchmarks/training_rate.py [--config config/mini.yaml] [--threads 1] [--rounds 5]

Needs a finished `mis pretrain` and `mis mix`. Prints one row a round: the rate of a large square product, of the
products that the language model is made of, and of training steps (forward, backward, AdamW), and their ratio.
Operations of a step are counted by torch's own counter.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from mis import layout
from mis.mixing import read_mixture
from mis.models.checkpoint import load_checkpoint
from mis.models.features import look
from mis.settings import load
from mis.training.encoding import Collator, encode
from mis.training.fit import LengthGroups, sample_loss
from mis.training.train import freeze, locate


def product_rate(rows: int, inner: int, columns: int, seconds: float = 0.5) -> float:
    """GFLOP/s of (rows x inner) by (inner x columns), float32."""
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    left @ right
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        left @ right
        count += 1
    return 2 * rows * inner * columns * count / (time.perf_counter() - start) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("config/mini.yaml"))
    parser.add_argument("--model", default="internvl_mini")
    parser.add_argument("--arm", default="mirage")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = load(options.config)
    model, processor = load_checkpoint(layout.checkpoint(settings, options.model, settings.seeds[0], "base"))
    store, _ = look(model, processor, layout.features(settings, options.model, settings.seeds[0]))
    freeze(model, ("language_model", "projector"))
    examples = read_mixture(layout.mixture(settings, options.arm))
    items = encode(processor, examples, settings.training.max_length)
    size = settings.training.global_batch_size
    order = list(LengthGroups([len(item.input_ids) for item in items], size, 0))
    collate = Collator(processor, lambda names, views=(): store([locate(settings, name) for name in names], views))
    batches = [collate([items[i] for i in order[start : start + size]]) for start in range(0, 20 * size, size)]
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step(batch: dict[str, torch.Tensor]) -> None:
        optimiser.zero_grad()
        sample_loss(model, batch).backward()
        optimiser.step()

    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            step(batch)
    operations = counter.get_total_flops()
    tokens = statistics.mean(batch["input_ids"].numel() for batch in batches)
    text = settings.models[options.model].pretraining.text
    print(
        f"threads {options.threads}; batch {size}, {tokens:.0f} tokens; "
        f"{operations / len(batches) / 1e9:.2f} GFLOP a step"
    )
    print("square_gflops model_products_gflops training_gflops samples_per_s share_of_square_percent")
    rows = []
    for _ in range(options.rounds):
        square = product_rate(1024, 1024, 1024)
        shaped = product_rate(round(tokens), text.hidden_size, 3 * text.hidden_size)
        start = time.perf_counter()
        for batch in batches:
            step(batch)
        seconds = time.perf_counter() - start
        rate = operations / seconds / 1e9
        rows.append((square, shaped, rate, len(batches) * size / seconds, 100 * rate / square))
        print(" ".join(f"{value:.1f}" for value in rows[-1]))
    print("median " + " ".join(f"{statistics.median(column):.1f}" for column in zip(*rows, strict=True)))


if __name__ == "__main__":
    main()
