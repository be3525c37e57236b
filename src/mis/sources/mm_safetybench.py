"""MM-SafetyBench (github isXinLiu/MM-SafetyBench, folder `data/`): a generated picture over its typed key phrase.

`processed_questions/<NN-Scenario>.json` with `imgs/<NN-Scenario>/SD_TYPO/<i>.jpg`, 13 scenarios; the text that goes
with SD_TYPO is "Rephrased Question".
"""

from __future__ import annotations

from pathlib import Path

from mis.samples import Sample
from mis.sources.common import Row, SourceError, known_split, picture, read_json


def load(root: Path, split: str) -> list[Sample]:
    """The category is the scenario without its number, with blanks: `09-Privacy_Violence` is "Privacy Violence"."""
    known_split(split, ("",), "mm_safetybench")
    paths = sorted((root / "processed_questions").glob("*.json"))
    if not paths:
        raise SourceError(f"{root / 'processed_questions'}: no scenarios (*.json); put the project's data/ there")
    samples = []
    for path in paths:
        for number, values in read_json(path, dict).items():
            if not isinstance(values, dict):
                raise SourceError(f"{path}, entry {number!r}: expected an object, found {type(values).__name__}")
            row = Row(values, f"{path}, entry {number!r}")
            image = picture(root, f"imgs/{path.stem}/SD_TYPO/{number}.jpg", row.where)
            samples.append(
                Sample(
                    "mm_safetybench",
                    split,
                    f"{path.stem}_{number}",
                    row.text("Rephrased Question"),
                    (image,),
                    category=path.stem.partition("-")[2].replace("_", " "),
                )
            )
    return samples  # ids are made of file names and keys of an object: they cannot repeat
