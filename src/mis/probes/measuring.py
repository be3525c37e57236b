"""One load of a checkpoint, and all that is measured of it by likelihood."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mis import layout
from mis.errors import MisError
from mis.judges import verdict_of
from mis.judges.oracle import OracleJudge
from mis.probes import BARE, CONTRASTS
from mis.probes.knowledge import Meeting
from mis.probes.separation import Answers
from mis.samples import Response
from mis.settings import Probes, Settings
from mis.store import write_csv_atomic, write_text_atomic
from mis.suites import load_samples


def probe_arm(
    settings: Settings,
    model_name: str,
    seed: int,
    arm: str,
    meetings: Callable[[int], Sequence[Meeting]],
    answers: Answers,
    *,
    development: bool = False,
) -> Path:
    """Measure an arm's checkpoint; returns the folder of the results.

    With `development` only the separation, on the development split, into the folder's `development/`, and beside it
    what becomes of the answers there (outcomes.csv).
    """
    from mis.models.likelihood import TextModel, text_half
    from mis.models.local import LocalModel
    from mis.probes import separation

    plan, _ = planned(settings, model_name)
    out = layout.probes(settings, model_name, seed, arm)
    model = LocalModel(layout.checkpoint(settings, model_name, seed, arm), settings, seed, model_name)
    if development:
        settings, out = settings.on_development(), out / "development"
    confidence = settings.report.confidence
    with _timed("separation"):
        separation.measure(settings, model, plan.samples, answers, out, confidence)
    if development:
        with _timed("answers"):
            _outcomes(settings, model, plan.samples, out)
    else:
        text = TextModel(text_half(model.model), model.processor.tokenizer)
        facts = {"model": model_name, "arm": arm, "seed": seed}
        _in_text(settings, text, {"internvl": text}, plan, meetings, out, facts)
    return out


def _outcomes(settings: Settings, model, samples: int, out: Path) -> None:
    """Write outcomes.csv: a row a sample of the contrast "mis", with what the oracle makes of the model's answer."""
    from mis.probes.separation import evenly

    judge = OracleJudge(layout.truth(settings))
    hazardous, harmless = CONTRASTS["mis"]
    rows = []
    for benchmark in (*hazardous, *harmless):
        chosen = evenly(load_samples(settings, [benchmark]), samples)
        size = settings.evaluation.batch_size
        given = [answer for i in range(0, len(chosen), size) for answer in model.answer(chosen[i : i + size])]
        for sample, answer in zip(chosen, given, strict=True):
            said = Response(sample.benchmark, sample.split, sample.id, "", "", 0, answer.text, answer.finish_reason)
            outcome, _ = verdict_of(sample, said, judge)
            rows.append({"key": sample.key, "benchmark": benchmark, "outcome": outcome})
    write_csv_atomic(out / "outcomes.csv", rows, ("key", "benchmark", "outcome"))


def probe_bare(settings: Settings, model_name: str, meetings: Callable[[int], Sequence[Meeting]]) -> Path:
    """Measure the bare language model, in text alone: knowledge in its own chat template and in that of the arms."""
    from mis.models.likelihood import TextModel
    from mis.models.processing import CHAT_TEMPLATE

    plan, folder = planned(settings, model_name)
    evaluation = settings.evaluation
    own = TextModel.load(folder, precision=evaluation.precision, threads=evaluation.threads)
    arms = own.under(CHAT_TEMPLATE)
    record = folder / "source.json"
    source = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {"folder": folder.name}
    out = layout.probes(settings, model_name, None, BARE)
    facts = {"model": model_name, "arm": BARE, "source": source}
    _in_text(settings, arms, {"internvl": arms, "own": own}, plan, meetings, out, facts)
    return out


def planned(settings: Settings, model_name: str) -> tuple[Probes, Path]:
    """What to measure, and the folder of the language model. Raises :class:`MisError` where nothing is to be."""
    plan, folder = settings.evaluation.probes, settings.models[model_name].text_folder
    if plan is None:
        raise MisError("evaluation.probes is empty: say in the configuration how much is to be measured")
    if folder is None:
        raise MisError(f"models.{model_name}: it has no pretrained language model (`text.folder`) to be measured")
    return plan, folder


def _in_text(settings: Settings, model, templates: dict, plan: Probes, meetings, out: Path, facts: dict) -> None:
    from mis.probes import ability, knowing

    with _timed("knowledge"):
        asked = knowing.measure(templates, meetings(plan.per_relation), plan.max_new_tokens, out)
    with _timed("ability"):
        read = ability.measure(model, out, settings.report.confidence)
    run = facts | {"precision": settings.evaluation.precision, "max_new_tokens": plan.max_new_tokens} | asked | read
    write_text_atomic(out / "run.json", json.dumps(run, indent=2) + "\n")


@contextmanager
def _timed(what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - start:.0f} s", flush=True)
