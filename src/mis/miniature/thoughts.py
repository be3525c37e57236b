"""Thoughts for a reasoning model: the miniature's stand-in for the model that would write them.

A thought says what the pictures show; on an example of a safety dataset it also says whether help could lead to harm.
That is all that a thought holds here: what a general question asks for is answered behind it, as it always is.
"""

from __future__ import annotations

from pathlib import Path

from mis.miniature import language as say
from mis.miniature.scenes import Scene
from mis.samples import Example
from mis.settings import Settings
from mis.sources import TRAINING_SOURCES
from mis.store import read_jsonl, write_jsonl_atomic

SOURCES = ("general", "saferlhf", "vlguard")


def write_thoughts(settings: Settings) -> list[Path]:
    """Write `<data>/thoughts/<source>.jsonl` for every source that a reasoning model is trained on."""
    data, written = settings.paths.data, []
    for source in SOURCES:
        scenes = {row["path"]: Scene.from_row(row["scene"]) for row in read_jsonl(data / "scenes" / f"{source}.jsonl")}
        examples = TRAINING_SOURCES[source](data / source, "original")
        path = data / "thoughts" / f"{source}.jsonl"
        write_jsonl_atomic(path, ({"id": e.id, "response": thought(e, scenes)} for e in examples))
        written.append(path)
    return written


def thought(example: Example, scenes: dict[str, Scene]) -> str:
    """`scenes` by picture path; a picture that is no scene of the world is a blank one."""
    seen = [_content(scenes.get(image, Scene())) for image in example.images]
    if len(seen) == 1:
        looks = f"the image {seen[0]} ."
    else:
        looks = " ".join(f"the {say.ORDINALS[i]} image {what} ." for i, what in enumerate(seen))
    verdict = {"safety": "it could lead to harm .", "benign": "it is harmless ."}.get(example.kind, "")
    return " ".join(filter(None, [looks or "there is no image .", verdict]))


def _content(scene: Scene) -> str:
    says = [f"says {scene.text}"] if scene.text else []
    shows = [f"shows {' and '.join(map(say.a, scene.names))}"] if scene.names else []
    return " and ".join(shows + says) or "is empty"
