"""Records twenty steps of training of a tiny network of each family: loss and norm of the gradient.

    python tests/trajectories/record.py

Run it only after a change that is meant to change what training does, and say in the commit why the numbers moved;
`tests/test_trajectories.py` compares every run with these files.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE.parent)]

from tiny import PATCH, examples, network  # noqa: E402

from mis.models.checkpoint import load_checkpoint  # noqa: E402
from mis.models.families import FAMILIES  # noqa: E402
from mis.models.features import Pixels  # noqa: E402
from mis.store import write_csv_atomic  # noqa: E402
from mis.training.encoding import Collator, encode  # noqa: E402
from mis.training.fit import fit  # noqa: E402
from mis.training.train import freeze  # noqa: E402

COLUMNS = ("step", "loss", "grad_norm")
COUNT, BATCH, STEPS = 75, 8, 20


def taken(name: str, folder: Path):
    """(network, processor) of a tiny checkpoint as the hub has it, of a family that is not made here."""
    from test_native_families import MAKERS

    MAKERS[name](folder)
    return load_checkpoint(folder)


def trajectory(name: str, folder: Path, model=None, **options) -> list[dict]:
    """The rows of a family's training in `folder`: vision tower frozen, a short last batch, more than one epoch."""
    torch.set_num_threads(1)
    made, processor = network(name) if name in PATCH else taken(name, folder / "hub")
    if model is None:
        model = made
        freeze(model, ("language_model", "projector"))
    see = Pixels(processor)
    _, curve = fit(
        model,
        encode(processor, examples(folder, COUNT), 512, lambda image: folder / image),
        Collator(processor, lambda names, views=(): see([folder / image for image in names], views)),
        folder=folder / "checkpoints",
        label=name,
        batch_size=BATCH,
        learning_rate=3e-3,
        warmup_ratio=0.1,
        weight_decay=0.01,
        seed=0,
        max_steps=STEPS,
        log_steps=1,
        **options,
    )
    return curve


if __name__ == "__main__":
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as place:
            write_csv_atomic(HERE / f"{family}.csv", trajectory(family, Path(place)), COLUMNS)
        print(HERE / f"{family}.csv")
