"""What the browser's page reads: an index, a file of columns a benchmark, and packs of its pictures.

A text (question, answer, reason) is kept once a benchmark and named by its number, an outcome by one letter; the
columns of 28 runs over 800 samples are then smaller than the text in them. Pictures are packed as data URIs, some
hundred a file: twelve thousand small files would be slow to copy.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from PIL import Image

from mis import taxonomy
from mis.benchmarks import Benchmark
from mis.errors import MisError
from mis.report import names
from mis.samples import Sample
from mis.store import write_text_atomic

OUTCOMES = (
    *taxonomy.HAZARD_OUTCOMES, *taxonomy.BENIGN_OUTCOMES, *taxonomy.CHOICE_OUTCOMES, *taxonomy.FAILURES, taxonomy.SAFE
)  # fmt: skip
LETTERS = {outcome: chr(ord("a") + number) for number, outcome in enumerate(OUTCOMES)}
MISSING = "-"  # not answered, or not judged
TASKS = {"hazard": "Hazardous inputs", "benign": "Harmless inputs", "choice": "Multiple choice"}
LARGEST = 320  # pixels: a larger picture is shown as a thumbnail of at most this side
PACK = 400_000  # characters of a pack of pictures, about
ASSETS = ("index.html", "browser.css", "data.js", "list.js", "sample.js", "browser.js")


@dataclass(frozen=True)
class System:
    """What answers: an arm of a model, once a seed."""

    model: str
    arm: str
    seeds: tuple[int, ...]


class Page:
    """One benchmark's samples with the answers of all systems, in columns. Texts are named by number; 0 is empty."""

    def __init__(self, benchmark: Benchmark, samples: Sequence[Sample]):
        self.benchmark = benchmark
        self.samples = samples
        self.texts: dict[str, int] = {"": 0}
        self.position = {sample.id: number for number, sample in enumerate(samples)}
        self.runs: dict[str, dict] = {}

    def text(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts))

    def answer(self, system: int, seed: int, sample_id: str, text: str, finish: str, error: str = "") -> None:
        """`KeyError` if the benchmark has no such sample; so in :meth:`judge`."""
        run, at = self._run(system, seed), self.position[sample_id]
        run["text"][at] = self.text(text)
        if finish != "stop":
            note = {"length": "cut off at the limit of tokens", "filtered": "filtered", "failed": "failed"}[finish]
            run["note"][at] = self.text(f"{note}: {error}" if error else note)

    def judge(self, system: int, seed: int, sample_id: str, outcome: str, reason: str) -> None:
        run, at = self._run(system, seed), self.position[sample_id]
        run["outcome"][at] = LETTERS[outcome]
        run["reason"][at] = self.text(reason)

    def _run(self, system: int, seed: int) -> dict:
        name, size = f"{system}.{seed}", len(self.samples)
        if name not in self.runs:
            empty = {"text": -1, "outcome": MISSING, "reason": 0, "note": 0}
            self.runs[name] = {column: [value] * size for column, value in empty.items()}
        return self.runs[name]

    def columns(self, pictures: Pictures) -> dict:
        """The benchmark's file as an object of JSON; the pictures of its samples are added to `pictures`."""
        samples = {
            "id": [sample.id for sample in self.samples],
            "question": [self.text(sample.question) for sample in self.samples],
            "category": [self.text(sample.category) for sample in self.samples],
            "sub_category": [self.text(sample.sub_category) for sample in self.samples],
            "options": [[self.text(option) for option in sample.options] for sample in self.samples],
            "answer": [self.text(sample.answer) for sample in self.samples],
            "pictures": [[pictures.number(path) for path in sample.images] for sample in self.samples],
        }
        runs = {
            name: {
                column: "".join(values) if column == "outcome" else values if any(values) else []
                for column, values in run.items()
            }
            for name, run in sorted(self.runs.items())
        }
        return {"texts": list(self.texts), "samples": samples, "runs": runs, "packs": pictures.starts}


class Pictures:
    """A benchmark's pictures as data URIs, each content once, in packs of about `PACK` characters."""

    def __init__(self):
        self.packs: list[list[str]] = []
        self.starts: list[int] = []
        self._numbers: dict[bytes, int] = {}
        self._by_path: dict[Path, int] = {}
        self._room = 0

    def number(self, path: Path) -> int:
        if path not in self._by_path:
            self._by_path[path] = self._add(path)
        return self._by_path[path]

    def _add(self, path: Path) -> int:
        content, form = shown(path)
        digest = hashlib.sha256(content).digest()
        if digest not in self._numbers:
            uri = f"data:image/{form};base64,{base64.b64encode(content).decode()}"
            if self._room <= 0:
                self.starts.append(len(self._numbers))
                self.packs.append([])
                self._room = PACK
            self._room -= len(uri)
            self.packs[-1].append(uri)
            self._numbers[digest] = len(self._numbers)
        return self._numbers[digest]


def shown(path: Path) -> tuple[bytes, str]:
    """A picture's bytes and format as the page shows it: a small PNG, JPEG or WebP as it is, else a thumbnail."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            form = (image.format or "").lower()
            if max(image.size) <= LARGEST and form in ("png", "jpeg", "webp"):
                return content, form
            small = image.convert("RGB")
            small.thumbnail((LARGEST, LARGEST))
    except (OSError, Image.DecompressionBombError) as error:
        raise MisError(f"{path}: not a readable picture ({error}); restore the file and run the step again") from None
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return out.getvalue(), "jpeg"


def write_pages(
    folder: Path, scale: str, systems: Sequence[System], pages: Iterable[Page], *, sensitive: bool = False
) -> None:
    """Writes the page, its index, and the data of every benchmark into `folder`.

    `sensitive`: answers may hold real harm, so that those judged unsafe, or not judged, are covered until asked for
    (pictures always are).
    """
    benchmarks = []
    for page in pages:
        pictures = Pictures()
        name = page.benchmark.id
        file = name.replace("/", ".")
        _write_script(folder / "data" / f"{file}.js", "receiveBenchmark", name, page.columns(pictures))
        for number, pack in enumerate(pictures.packs):
            _write_script(folder / "pictures" / f"{file}.{number}.js", "receivePictures", name, number, pack)
        benchmarks.append({
            "id": name, "label": names.split(page.benchmark.name, page.benchmark.split), "file": file,
            "task": TASKS[page.benchmark.task], "samples": len(page.samples),
            "categories": sorted({sample.category for sample in page.samples} - {""}),
        })  # fmt: skip
    arms = [system.arm for system in systems]
    covered, drawn = "answers that may be harmful are covered until asked for", "a made-up world of drawings"
    index = {
        "scale": scale,
        "sensitive": sensitive,
        "note": covered if sensitive else drawn,
        "benchmarks": benchmarks,
        "systems": [
            {"id": f"{system.model}/{system.arm}", "model": names.model(system.model), "arm": names.method(system.arm),
             "seeds": list(system.seeds)}
            for system in systems
        ],
        "start": arms.index("mirage") if "mirage" in arms else 0,
        "outcomes": [{"id": outcome, "letter": letter, "label": outcome.replace("_", " "), "failure": outcome in
                      taxonomy.FAILURES} for outcome, letter in LETTERS.items()],
    }  # fmt: skip
    _write_script(folder / "data" / "index.js", "receiveIndex", index)
    for asset in ASSETS:
        text = resources.files("mis.report.browser").joinpath("assets", asset).read_text(encoding="utf-8")
        write_text_atomic(folder / asset, text)


def _write_script(path: Path, function: str, *arguments: object) -> None:
    """A call in ASCII, and without any character that HTML reads as markup."""
    values = ",".join(json.dumps(argument, separators=(",", ":"), allow_nan=False) for argument in arguments)
    for character in "<>&":
        values = values.replace(character, f"\\u{ord(character):04x}")
    write_text_atomic(path, f"{function}({values});\n")
