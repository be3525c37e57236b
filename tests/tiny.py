"""A tiny model of a family, some examples with pictures, and a run's folder around them, for tests of training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mis import layout
from mis import settings as configuration
from mis.models.families import FAMILIES
from mis.samples import Example, to_row
from mis.settings import Pretraining, Settings, Stage, TextModel, VisionTower
from mis.store import write_jsonl_atomic

ROOT = Path(__file__).resolve().parents[1]
OBJECTS = "axe rope bank lamp fish".split()
WORDS = [*OBJECTS, *"what is in the image images first shows a then . ? how many one two none".split()]
STAGE = Stage(steps=1, batch_size=1, learning_rate=1e-3)
PATCH = {"internvl": 8, "llava": 12, "qwen2_vl": 8}
MODEL, ARM = "internvl_mini", "mirage"


def network(name: str):
    """(network with random weights from seed 0, processor) of a family."""
    family, patch = FAMILIES[name], PATCH[name]
    shape = Pretraining(
        vision=VisionTower(hidden_size=32, layers=2, heads=2, patch_size=patch),
        text=TextModel(hidden_size=32, layers=2, heads=2),
        vision_stage=STAGE,
        assistant_stage=STAGE,
        threads=1,
    )
    processor = family.build_processor(WORDS, 48, patch)
    torch.manual_seed(0)
    return family.build(shape, processor, 48), processor


def examples(root: Path, count: int) -> list[Example]:
    """`count` examples, a third without a picture; the pictures lie in `root/general/images`, one colour an object."""
    folder = root / "general" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        shown = rng.choice(len(OBJECTS), size=number % 3, replace=False).tolist()
        images = []
        for place, which in enumerate(shown):
            colour = np.full((48, 48, 3), 40 * which + 20) + rng.integers(0, 20, (48, 48, 3))
            images.append(f"general/images/{number}_{place}.png")
            Image.fromarray(colour.astype(np.uint8)).save(root / images[-1])
        answer = " then ".join(f"the image shows a {OBJECTS[which]}" for which in shown) or "none"
        question = "what is in the images ?" if number % 2 else "how many ?"
        made.append(Example(str(number), "m4_instruct", "general", tuple(images), question, f"{answer} ."))
    return made


def run_folder(folder: Path, count: int, **training) -> Settings:
    """A run that only lacks its training: base, mixture of `count` examples, `config.yaml`; paths relative to it."""
    raw = configuration.load(ROOT / "config" / "smoke.yaml").model_dump(mode="json")
    raw["arms"] = ["base", ARM]
    raw["training"] |= {"features": "computed", "log_steps": 1} | training
    (folder / "config.yaml").write_text(json.dumps(raw), encoding="utf-8")  # JSON is YAML
    settings = configuration.load(folder / "config.yaml")
    model, processor = network("internvl")
    base = folder / layout.checkpoint(settings, MODEL, 0, "base")
    model.save_pretrained(base)
    processor.save_pretrained(base)
    made = examples(folder / settings.paths.data, count)
    write_jsonl_atomic(folder / layout.mixture(settings, ARM), [to_row(example) for example in made])
    return settings


def change(folder: Path, target: str, **training) -> None:
    """Write `target`, the configuration with changes under `training`."""
    raw = json.loads((folder / "config.yaml").read_text(encoding="utf-8"))
    raw["training"] |= training
    (folder / target).write_text(json.dumps(raw), encoding="utf-8")
