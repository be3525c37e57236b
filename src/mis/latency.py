"""Table 10: how long a user waits for an answer, and how fast it comes. A property of the machine as of the model.

Questions are asked one at a time; the clock runs from the files of the pictures to the text, the vision tower included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mis import layout
from mis.errors import MisError
from mis.models import AnsweringModel
from mis.progress import track
from mis.samples import Sample
from mis.settings import Settings
from mis.store import write_csv_atomic
from mis.suites import load_samples

BENCHMARKS = ("mmstar", "mis/hard", "mssbench/safe")  # Table 10
COLUMNS = ("method", "benchmark", "split", "sample_id", "seconds", "tokens", "finish_reason")


def measure_latency(settings: Settings, model_name: str, seed: int, load: Callable[[str], AnsweringModel]) -> Path:
    """Write `R/latency/<model>_seed<S>.csv`: a row an arm and sample.

    `load` gives the model of an arm; arms of `evaluation.latency` that this model lacks are left out. `tokens` counts
    what was generated, the end token included. Raises :class:`MisError` where the configuration asks for no times.
    """
    plan = settings.evaluation.latency
    if plan is None:
        raise MisError("evaluation.latency is empty: say in the configuration how many samples of which arms to time")
    samples = {name: load_samples(settings, [name]) for name in BENCHMARKS}
    rows = []
    for arm in (arm for arm in plan.arms if arm in settings.arms_of(model_name)):
        model = load(arm)
        for name, known in samples.items():
            count = min(plan.samples, len(known))
            chosen = [known[i * len(known) // count] for i in range(count)]
            rows += [{"method": arm, **row} for row in timed(model, chosen, plan.warm_up, f"{model_name} {arm} {name}")]
    path = layout.latency(settings, model_name, seed)
    write_csv_atomic(path, rows, COLUMNS)
    return path


def timed(
    model: AnsweringModel, samples: Sequence[Sample], warm_up: int, label: str = "", clock=time.perf_counter
) -> list[dict]:
    """Rows of seconds and tokens, one a sample; the first `warm_up` samples are asked once before without the clock."""
    rows = []
    with track(len(samples), label, enabled=bool(label)) as advance:
        for sample in samples[:warm_up]:
            model.answer([sample])
        for sample in samples:
            start = clock()
            (answer,) = model.answer([sample])
            seconds = clock() - start
            rows.append({
                "benchmark": sample.benchmark, "split": sample.split, "sample_id": sample.id,
                "seconds": round(seconds, 6), "tokens": answer.tokens, "finish_reason": answer.finish_reason,
            })  # fmt: skip
            advance(1)
    return rows
