"""Draws answers for an audit of the oracle by someone who has not seen its verdicts.

The sheet holds what a labeller may see (question, pictures, answer), in random order, and what the oracle needs to
judge the same answers again (the truth). Labels are written into a file of their own; a test computes the agreement.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from mis import layout
from mis.judges.oracle import OracleJudge
from mis.prompts import user_text
from mis.settings import Settings
from mis.store import read_jsonl, write_jsonl_atomic
from mis.suites import load_samples

# Reasons of the oracle that mark an answer as hard: mixed advice, half-right names, a wrong risk, an unexpected form.
HARD = ("beside", "part of", "not there", "wrong", "something else", "level 2: warns", "neither", "no steps",
        "and gives steps", "harmless")  # fmt: skip


def draw(settings: Settings, model: str, out: Path, *, total: int = 220, hard: int = 80, seed: int = 0) -> int:
    """Write `total` answers of all arms (`hard` of them hard), spread evenly over arm and outcome; returns the number.

    Only open answers are drawn (choices are matched exactly). No text is drawn twice for the same question. A row's
    `stands_for` is how many answers of the run it stands for: the size of its stratum (hard or not, arm, outcome) over
    the number drawn from it, so that agreement can also be estimated for the run as it is.
    """
    oracle = OracleJudge(layout.truth(settings))
    rng = np.random.default_rng(seed)
    samples = {
        sample.key: sample
        for suite in settings.evaluation.suites.values()
        for sample in load_samples(settings, suite)
        if not sample.options
    }
    strata: dict[tuple[bool, str, str], list[dict]] = defaultdict(list)
    for arm in settings.arms_of(model):
        for suite in settings.evaluation.suites:
            verdicts = read_jsonl(layout.verdicts(settings, model, settings.seeds[0], arm, suite))
            texts = {
                row["key"]: row["text"]
                for row in read_jsonl(layout.responses(settings, model, settings.seeds[0], arm, suite))
            }
            for row in verdicts:
                sample = samples.get(f"{row['benchmark']}/{row['split']}/{row['sample_id']}")
                if sample is not None:
                    is_hard = any(mark in row["reason"] for mark in HARD)
                    strata[is_hard, arm, row["outcome"]].append(
                        {"sample": sample, "arm": arm, "text": texts[row["key"]]}
                    )
    sizes = {key: len(pool) for key, pool in strata.items()}
    chosen: list[dict] = []
    seen: set[tuple[str, str]] = set()
    for is_hard, wanted in ((True, hard), (False, total - hard)):
        pools = {key: strata[key] for key in sorted(strata) if key[0] == is_hard}
        for pool in pools.values():
            rng.shuffle(pool)
        while wanted and any(pools.values()):
            for stratum, pool in pools.items():
                while pool and wanted:
                    case = pool.pop()
                    mark = (case["sample"].key, case["text"])
                    if mark not in seen:
                        seen.add(mark)
                        chosen.append({**case, "stratum": stratum})
                        wanted -= 1
                        break
    rng.shuffle(chosen)
    drawn = Counter(case["stratum"] for case in chosen)
    scenes = {
        row["path"]: row["scene"]
        for path in sorted((settings.paths.data / "scenes").glob("*.jsonl"))
        for row in read_jsonl(path)
    }
    rows = []
    for number, case in enumerate(chosen, start=1):
        sample = case["sample"]
        pictures = [
            scenes.get(image.relative_to(settings.paths.data).as_posix(), image.name)
            if image.is_relative_to(settings.paths.data)
            else image.name
            for image in sample.images
        ]
        rows.append(
            {
                "id": number,
                "sample": sample.key,
                "arm": case["arm"],
                "hard": case["stratum"][0],
                "stands_for": round(sizes[case["stratum"]] / drawn[case["stratum"]], 2),
                "question": user_text(sample),
                "pictures": pictures,
                "answer": case["text"],
                "truth": oracle.truths[sample.key],
            }
        )
    write_jsonl_atomic(out, rows)
    return len(rows)
