"""The sample browser: a static page to read a run's samples, pictures, answers and verdicts side by side.

`write_browser` makes a folder that opens from the file system, without a server and without a network: a browser
refuses to fetch JSON from a folder, so all data are .js files that the page loads when they are asked for.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from mis import layout
from mis.benchmarks import BY_ID
from mis.errors import MisError
from mis.report.browser.pages import Page, System, write_pages
from mis.settings import Settings
from mis.store import read_jsonl
from mis.suites import load_samples


def write_browser(settings: Settings) -> Path:
    """Writes `R/browser/` anew and returns its index.html; the old folder stays until the new one is whole.

    What was not answered or judged is shown as such, and named on standard error. Raises :class:`MisError` if nothing
    was answered, or if an answer has no sample.
    """
    systems = [System(model, arm, tuple(settings.seeds_of(model)))
               for model in settings.models for arm in settings.arms_of(model)]  # fmt: skip
    pages = {}
    read = 0
    for suite, names in settings.evaluation.suites.items():
        samples = load_samples(settings, names)
        by_benchmark = {name: [] for name in names}
        for sample in samples:
            by_benchmark[f"{sample.benchmark}/{sample.split}" if sample.split else sample.benchmark].append(sample)
        pages |= {name: Page(BY_ID[name], by_benchmark[name]) for name in names}
        for number, system in enumerate(systems):
            for seed in system.seeds:
                place = (settings, system.model, seed, system.arm, suite)
                read += _read(layout.responses(*place), pages, number, seed, "respond")
                _read(layout.verdicts(*place), pages, number, seed, "judge")
    if not read:
        raise MisError(f"{settings.paths.results}/responses: no answers of this run; run `mis respond` and `mis judge`")
    target = settings.paths.results / "browser"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pages.", dir=target.parent) as temporary:
        folder = Path(temporary) / "browser"
        write_pages(folder, settings.scale, systems, pages.values(), sensitive=settings.world is None)
        layout.publish_folder(folder, target)
    return target / "index.html"


def _read(path: Path, pages: dict[str, Page], system: int, seed: int, command: str) -> int:
    """Puts the rows of a file of responses or verdicts into their pages; returns their number."""
    if not path.exists():
        print(f"{path}: not there; its answers are shown as missing", file=sys.stderr)
        return 0
    line = 0
    for line, row in enumerate(read_jsonl(path), start=1):
        try:
            page = pages[f"{row['benchmark']}/{row['split']}" if row["split"] else row["benchmark"]]
            if command == "respond":
                page.answer(system, seed, row["sample_id"], row["text"], row["finish_reason"], row["error"])
            else:
                page.judge(system, seed, row["sample_id"], row["outcome"], row["reason"])
        except KeyError as error:
            raise MisError(f"{path}, line {line}: no sample or no key {error}; run `mis {command}` again") from None
    return line
