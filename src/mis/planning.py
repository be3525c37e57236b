"""What a run will cost before it is spent: GPU memory and hours, disk, API tokens and money, job by job.

The workflow says which jobs a target needs and which are done (`workflow/planning.py` reads them off Snakemake's
graph); here each job's cost is counted from the configuration and from `mis/sizes.yaml`. What is not known (a price,
the size of a model) is unknown in every sum that it is part of, never nothing.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from pathlib import Path

from mis import layout, sizes
from mis.benchmarks import BY_ID
from mis.errors import MisError
from mis.mixtures import ARMS, Arm, Part
from mis.settings import Planning, RubricJudge, Served, Settings

# Turns that a way of asking needs for a sample at most (`models.prompting`).
TURNS = {"": 1, "vanilla_cot": 1, "customized_cot": 2, "customized_safety_cot": 3, "ecso": 4}
HOUR, TERA = 3600, 1e12


@dataclass(frozen=True)
class Job:
    """A job of the workflow: what it runs, whose outputs it needs (ids of jobs), whether its own are there already."""

    id: int
    rule: str
    wildcards: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[int, ...] = ()
    gpus: int = 0
    cached: bool = False


@dataclass(frozen=True)
class Cost:
    """`gpus` and `memory` (bytes a GPU) are a job's; in a sum, the largest. The others add up.

    `scratch` (bytes) is what is removed again, `disk` what stays. `unknown` names the fields that hold less than the
    truth, `why` says what is missing, `keys` the environment's variables that must hold a key. `decisions` are
    people's.
    """

    gpus: int = 0
    memory: float = 0
    scratch: float = 0
    gpu_hours: float = 0
    disk: float = 0
    requests: float = 0
    input_tokens: float = 0
    output_tokens: float = 0
    money: float = 0
    decisions: float = 0
    unknown: frozenset[str] = frozenset()
    why: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def __add__(self, other: Cost) -> Cost:
        largest = {"gpus", "memory", "scratch"}
        joined = {"why", "keys"}
        values = {}
        for part in fields(Cost):
            mine, theirs = getattr(self, part.name), getattr(other, part.name)
            if part.name in joined:
                values[part.name] = tuple(dict.fromkeys((*mine, *theirs)))
            elif part.name == "unknown":
                values[part.name] = mine | theirs
            else:
                values[part.name] = max(mine, theirs) if part.name in largest else mine + theirs
        return Cost(**values)

    def lacking(self, why: str, *names: str) -> Cost:
        return replace(self, unknown=self.unknown | set(names), why=(*self.why, why))


def total(costs: Iterable[Cost]) -> Cost:
    return reduce(Cost.__add__, costs, Cost())


# Names a file that a dry run of the workflow writes its jobs to (workflow/planning.py).
REQUEST = "MIS_PLAN_JOBS"


def planned_jobs(config: Path, targets: Sequence[str]) -> list[Job]:
    """The jobs that the workflow plans for the targets, by a dry run of Snakemake in a process of its own.

    Raises :class:`MisError` with Snakemake's words where there is no such target, or outside the repository.
    """
    snakefile = Path(__file__).resolve().parents[2] / "Snakefile"
    if not snakefile.is_file():
        raise MisError(f"{snakefile}: not found; run from a checkout of the repository (pip install -e .)")
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "jobs.json"
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--dry-run", "--nolock"]
        done = subprocess.run(
            [*command, "--quiet", "all", "--configfile", str(config), "--", *targets],
            env={**os.environ, REQUEST: str(answer)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise MisError(f"nothing can be planned: {(done.stderr + done.stdout).strip()}")
        if not answer.is_file():
            return []
        rows = json.loads(answer.read_text(encoding="utf-8"))
    return [Job(**{**row, "needs": tuple(row["needs"])}) for row in rows]


# --- What one job costs


def cost(settings: Settings, job: Job) -> Cost:
    """The cost of a job that has not been done. A rule that needs neither GPU nor API costs nothing worth counting."""
    for prefix, count in _RULES.items():
        if job.rule.startswith(prefix):
            return count(settings, job)
    return Cost(gpus=job.gpus)


def parts(settings: Settings, job: Job) -> list[tuple[str, Cost]]:
    """A job's cost by what is shown as a row: (step and model, cost)."""
    if job.cached:
        return [(_step(job), Cost())]
    if job.rule == "construct_with_models":
        return _construction(settings)
    return [(_step(job), cost(settings, job))]


def _step(job: Job) -> str:
    model = job.wildcards.get("model") or job.wildcards.get("dataset", "")
    step = "judge" if job.rule.startswith("judge") and job.rule != "judge_claims" else job.rule
    return f"{step} {model}".strip()


def _of_model(settings: Settings, name: str) -> sizes.ModelSize:
    seed = (settings.seeds_of(name) or [0])[0]
    return sizes.model_size(name, layout.checkpoint(settings, name, seed, "base"))


def _plan(settings: Settings) -> Planning:
    return settings.planning or Planning()


def _gpu_hours(plan: Planning, flops: float, mfu: float) -> float:
    return flops / (plan.gpu_tflops * TERA * mfu) / HOUR


def _part_samples(part: Part) -> int | None:
    return part.count if part.count is not None else sizes.known()["training"].get(part.source, {}).get("samples")


def _mixed(settings: Settings, arm: str) -> dict[str, int]:
    """Samples of an arm's mixture by kind, once it has been mixed."""
    path = layout.datasheet(settings)
    if not path.is_file():
        return {}
    counts: dict[str, int] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["arm"] == arm:
                counts[row["source"]] = counts.get(row["source"], 0) + int(row["samples"])
    return counts


def samples_of(settings: Settings, arm: Arm) -> list[tuple[int | None, int]]:
    """(samples, pictures of a sample) of each part of an arm; None where the size of a dataset is not known."""
    mixed, training = _mixed(settings, arm.name), sizes.known()["training"]
    if mixed:
        return [(count, training.get(source, {}).get("images", 1)) for source, count in mixed.items()]
    return [(_part_samples(part), training.get(part.source, {}).get("images", 1)) for part in arm.parts]


def _training(settings: Settings, job: Job) -> Cost:
    model, arm, plan = job.wildcards["model"], ARMS[job.wildcards["arm"]], _plan(settings)
    size, training = _of_model(settings, model), settings.training
    shard = training.sharding
    gpus = shard.gpus * shard.nodes if shard else max(job.gpus, 1)
    bill = Cost(gpus=gpus)
    if arm.from_scratch:
        return bill.lacking(f"{arm.name} of {model} trains on instruction data of unknown size", "gpu_hours", "memory")
    if size.parameters is None:
        return bill.lacking(f"the size of {model}", "gpu_hours", "memory", "disk", "scratch")
    thought = plan.thought_tokens if settings.models[model].thinks else 0
    flops, longest = 0.0, 0
    for samples, images in samples_of(settings, arm):
        if size.image_tokens is None:
            bill = bill.lacking(f"the tokens of a picture of {model}", "gpu_hours", "memory")
        tokens = images * (size.image_tokens or 0) + plan.prompt_tokens + plan.answer_tokens + thought
        longest = max(longest, tokens)
        if samples is None:
            bill = bill.lacking(f"the samples of {arm.name}", "gpu_hours")
            continue
        flops += samples * (sizes.training_flops(size, training, tokens, images) or 0)
    flops *= settings.arm_training(model, arm.name).epochs
    memory = sizes.training_memory(
        size, arm.trains, training, min(longest, training.max_length), plan.answer_tokens + thought
    )
    if memory is None:
        bill = bill.lacking(f"the layers of {model}", "memory", "scratch")
    trained = (size.trained(arm.trains) or 0) if not training.lora else 0
    width = 2 if training.precision == "bf16" else 4
    return replace(
        bill,
        memory=memory.total if memory else 0,
        gpu_hours=_gpu_hours(plan, flops, plan.mfu_training),
        disk=width * size.parameters,
        scratch=(12 if width == 2 else 8) * trained + width * size.parameters,
    )


def _answering(settings: Settings, job: Job) -> Cost:
    """An arm's answers to a suite, or (lmms-eval) to the general benchmarks."""
    name, arm = job.wildcards["model"], ARMS[job.wildcards["arm"]]
    model, plan, size = settings.models[name], _plan(settings), _of_model(settings, name)
    answer = plan.answer_tokens + (plan.thought_tokens if model.thinks else 0)
    answer = min(answer, settings.max_new_tokens_of(name))
    suite = job.wildcards.get("suite")
    lmms = settings.evaluation.lmms_eval
    benchmarks = settings.evaluation.suites[suite] if suite else lmms.benchmarks
    bill = Cost()
    for benchmark in benchmarks:
        counted = sizes.benchmark_size(benchmark)
        samples = counted["samples"] if suite or lmms.limit is None else lmms.limit
        if samples is None:
            bill = bill.lacking(
                f"the samples of {benchmark}", *(("requests", "money") if model.served else ("gpu_hours",))
            )
            continue
        bill += _asking(settings, size, name, model.served, samples * TURNS[arm.asks], counted["images"],
                        plan.prompt_tokens, answer)  # fmt: skip
    if model.served is None:
        tokens = 2 * (size.image_tokens or 0) + plan.prompt_tokens + answer
        memory = sizes.answering_memory(size, settings.evaluation.batch_size, tokens)
        bill = replace(bill, memory=memory or 0, gpus=max(job.gpus, 1))
        if memory is None:
            bill = bill.lacking(f"the size of {name}", "memory")
    return bill


def _judging(settings: Settings, job: Job) -> Cost:
    """The verdicts of a suite by the judges that `benchmarks.py` names; exact match and phrases cost nothing."""
    if settings.judge.kind != "models" or "suite" not in job.wildcards:
        return Cost()
    plan, bill = _plan(settings), Cost(gpus=job.gpus)
    text = plan.judge_tokens + plan.prompt_tokens + plan.answer_tokens
    for benchmark in settings.evaluation.suites[job.wildcards["suite"]]:
        name = job.wildcards.get("judge", BY_ID[benchmark].judge)
        judge = settings.judges.get(name)
        if BY_ID[benchmark].task == "choice" or judge is None or judge.kind == "refusal":
            continue
        counted = sizes.benchmark_size(benchmark)
        served = judge.served if judge.service is None else None
        called = judge.served.name if judge.served else str(judge.source)
        if counted["samples"] is None:
            bill = bill.lacking(f"the samples of {benchmark}", *(("requests", "money") if served else ("gpu_hours",)))
            continue
        images = counted["images"] if judge.kind == "rubric" and _sees(judge, benchmark) else 0
        size = sizes.model_size(called)
        bill += _asking(settings, size, called, served, counted["samples"], images, text, plan.verdict_tokens)
        if served is None:
            memory = sizes.answering_memory(size, 1, text)
            bill = replace(bill, memory=max(bill.memory, memory or 0))
    return bill


def _sees(judge: RubricJudge, benchmark: str) -> bool:
    from mis.judges.rubric import RubricJudge as Forms

    form = Forms().rubric(BY_ID[benchmark])
    return judge.images if judge.images is not None else bool(form and form.images)


def _asking(
    settings: Settings, size: sizes.ModelSize, name: str, served: Served | None, requests: float, images: int,
    text: int, answer: int,
) -> Cost:  # fmt: skip
    """`requests` questions of `text` tokens and `images` pictures each, and answers of `answer` tokens.

    `served` says behind which endpoint; None: we run it. An endpoint that wants a key is somebody else's and costs
    money; one without is a server of the user's own, and costs GPU hours as what we run does.
    """
    plan, bill = _plan(settings), Cost()
    key = settings.endpoints[served.endpoint].key_env if served else None
    per_image = size.image_tokens
    if per_image is None and served:
        per_image = served.image_tokens
        bill = replace(
            bill,
            why=(f"the tokens of a picture of {name} (counted with {per_image}, its image_tokens)",) * bool(images),
        )
    if per_image is None and images:
        bill = bill.lacking(f"the tokens of a picture of {name}", "gpu_hours")
    prompt = images * (per_image or 0) + text
    if key is None:
        flops = sizes.answering_flops(size, prompt, answer, images)
        if flops is None:
            bill = bill.lacking(f"the size of {name}", "gpu_hours")
        else:
            bill = replace(bill, gpu_hours=requests * _gpu_hours(plan, flops, plan.mfu_answering))
    if served is None:
        return bill
    bill = replace(bill, requests=requests, input_tokens=requests * prompt, output_tokens=requests * answer)
    if key is None:
        return bill
    bill = replace(bill, keys=(key,))
    if served.price_input is None or served.price_output is None:
        return bill.lacking(f"the prices of {served.name}", "money")
    return replace(bill, money=requests * (prompt * served.price_input + answer * served.price_output) / 1e6)


def _labelling(settings: Settings, job: Job) -> Cost:
    """Labels that a model writes; an answer that is refused or malformed is asked for again, which is not foreseen."""
    variant = job.rule.removeprefix("label_").removesuffix("_anew")
    counted, labelling = sizes.known()["labels"].get(variant), settings.sources.labelling.get(variant)
    if counted is None or labelling is None:
        return Cost().lacking(f"who writes the labels {variant}", "requests", "money")
    served, plan = labelling.served, _plan(settings)
    size = sizes.model_size(served.name)
    answer = min(plan.answer_tokens, labelling.max_tokens)
    text = plan.prompt_tokens + plan.answer_tokens
    return _asking(settings, size, served.name, served, counted["samples"], counted["images"], text, answer)


def _fetching(settings: Settings, job: Job) -> Cost:
    """A dataset's download: as the lock says, or as it was read somewhere."""
    name = job.wildcards["dataset"]
    if settings.sources.lock.is_file():
        entry = json.loads(settings.sources.lock.read_text(encoding="utf-8")).get("datasets", {}).get(name)
        if entry:
            files = [file for origin in entry.get("origins", []) for file in origin["files"].values()]
            return Cost(disk=sum(file["size"] for file in [*files, *entry.get("by_hand", {}).values()]))
    known = sizes.known()["downloads"].get(name)
    return Cost(disk=known * 1e9) if known else Cost().lacking(f"the size of the download {name}", "disk")


def _construction(settings: Settings) -> list[tuple[str, Cost]]:
    """What the construction of MIS asks at most: everything that would be asked if no step dropped anything."""
    from mis.construction import costs

    plan, pairs = settings.construction, []
    for source in plan.sources:
        counted = sizes.benchmark_size(source.benchmark)
        pairs.append((min(source.samples or counted["samples"], counted["samples"]), counted["images"]))
    samples, with_pictures = sum(n for n, _ in pairs), sum(n for n, images in pairs if images)
    rows: dict[str, Cost] = {}
    for ask in costs.at_most(plan, samples, with_pictures):
        served = plan.models[ask.model]
        bill = _asking(settings, sizes.model_size(served.name), served.name, served, ask.requests, ask.images,
                       ask.prompt_tokens, ask.answer_tokens)  # fmt: skip
        label = f"construct: {ask.step} ({ask.model})"
        rows[label] = rows.get(label, Cost()) + bill
    drawn, decided = costs.pictures(plan, samples), costs.decisions(plan, samples)
    painted = Cost(gpus=1).lacking(f"the arithmetic of the painter's {drawn:,} pictures", "gpu_hours", "disk")
    return [*rows.items(), ("construct: pictures", painted), ("construct: people", Cost(decisions=decided))]


def _features(settings: Settings, job: Job) -> Cost:
    model = job.wildcards["model"]
    size, plan = _of_model(settings, model), _plan(settings)
    bill = Cost(gpus=max(job.gpus, 1))
    if size.vision is None or size.image_tokens is None:
        return bill.lacking(f"the vision tower of {model}", "gpu_hours", "disk")
    pictures = 0
    for benchmark in (name for suite in settings.evaluation.suites.values() for name in suite):
        counted = sizes.benchmark_size(benchmark)
        pictures += (counted["samples"] or 0) * counted["images"]
    tokens = 4 * size.image_tokens * pictures
    return replace(
        bill,
        memory=2 * size.vision.parameters,
        gpu_hours=_gpu_hours(plan, 2.0 * size.vision.parameters * tokens, plan.mfu_training),
        disk=2 * size.vision.hidden_size * tokens,
    )


def _base(settings: Settings, job: Job) -> Cost:
    """A base checkpoint: as it is downloaded, and beside it as it is converted."""
    model = job.wildcards["model"]
    parameters = _of_model(settings, model).parameters
    if parameters is None:
        return Cost().lacking(f"the size of {model}", "disk")
    return Cost(disk=2 * parameters)


_RULES: dict[str, Callable[[Settings, Job], Cost]] = {
    "train_arm": _training,
    "respond": _answering,
    "run_lmms_eval": _answering,
    "label_": _labelling,
    "fetch_data": _fetching,
    "judge_suite": _judging,
    "rejudge_suite": _judging,
    "cache_features": _features,
    "fetch_base": _base,
}


# --- What the jobs cost together


@dataclass(frozen=True)
class Row:
    """The jobs of one step for one model, or of a target. `cached` of `jobs` are done; `cost` is that of the others."""

    name: str
    jobs: int
    cached: int
    cost: Cost


@dataclass(frozen=True)
class Plan:
    steps: tuple[Row, ...]
    targets: tuple[Row, ...]
    total: Row


def make_plan(settings: Settings, jobs: Sequence[Job]) -> Plan:
    """The plan of a graph of jobs: by step and model, by target, and in total."""
    costs, steps = {}, {}
    for job in jobs:
        shown = parts(settings, job)
        costs[job.id] = total(bill for _, bill in shown)
        for name, bill in shown:
            before = steps.get(name, Row(name, 0, 0, Cost()))
            steps[name] = Row(name, before.jobs + 1, before.cached + job.cached, before.cost + bill)

    def row(name: str, chosen: Sequence[Job]) -> Row:
        done = sum(job.cached for job in chosen)
        return Row(name, len(chosen), done, total(costs[job.id] for job in chosen))

    return Plan(
        tuple(steps.values()),
        tuple(row(name, chosen) for name, chosen in _targets(jobs)),
        row("total", jobs),
    )


def _targets(jobs: Sequence[Job]) -> Iterator[tuple[str, list[Job]]]:
    """The pieces that were asked for, each with all jobs that it needs; of `all` its tables, figures and the like."""
    by_id = {job.id: job for job in jobs}
    needed = {other for job in jobs for other in job.needs}
    roots = [job for job in jobs if job.id not in needed]
    if len(roots) == 1 and roots[0].rule == "all":
        roots = [by_id[id] for id in roots[0].needs]
    for root in sorted(roots, key=lambda job: (_label(job).rstrip("0123456789"), len(_label(job)), _label(job))):
        found, new = {root.id}, [root.id]
        while new:
            new = [other for id in new for other in by_id[id].needs if other not in found]
            new = list(dict.fromkeys(new))
            found.update(new)
        yield _label(root), [job for job in jobs if job.id in found]


def _label(job: Job) -> str:
    if job.rule in ("make_table", "make_figure"):
        return f"{job.rule.removeprefix('make_')}{job.wildcards.get('number', '')}"
    return job.rule


# --- Shown


_COLUMNS = ("jobs", "done", "GPUs", "GiB/GPU", "GPU h", "disk GiB", "requests", "M tok in", "M tok out", "money")


def _cells(row: Row) -> list[str]:
    bill = row.cost

    def shown(name: str, value: float, digits: int = 1) -> str:
        text = f"{value:,.{digits}f}" if value else ""
        if name in bill.unknown:
            return f"≥ {text}" if value else "unknown"
        return text

    return [
        str(row.jobs),
        str(row.cached or ""),
        str(bill.gpus or ""),
        shown("memory", bill.memory / sizes.GIB, 0),
        shown("gpu_hours", bill.gpu_hours),
        shown("disk", bill.disk / sizes.GIB, 1 if bill.disk < 10 * sizes.GIB else 0),
        shown("requests", bill.requests, 0),
        shown("input_tokens", bill.input_tokens / 1e6),
        shown("output_tokens", bill.output_tokens / 1e6),
        shown("money", bill.money, 2),
    ]


def _costly(row: Row) -> bool:
    return any(getattr(row.cost, part.name) for part in fields(Cost))


def to_text(plan: Plan, settings: Settings) -> str:
    """The plan as a table, with what it assumes and what it lacks."""
    rest = [row for row in plan.steps if not _costly(row)]
    steps = [row for row in plan.steps if _costly(row)]
    if rest:
        steps.append(Row("everything else (a CPU)", sum(r.jobs for r in rest), sum(r.cached for r in rest), Cost()))
    parts = [_grid("What this run costs, by step", steps, plan.total)]
    if len(plan.targets) > 1:
        parts.append(_grid("By target; what two targets share is in both", plan.targets, None))
    assumed, bill = _plan(settings), plan.total.cost
    gpu = f"GPUs of {assumed.gpu_tflops:g} TFLOP/s and {assumed.gpu_memory_gib:g} GiB"
    share = f"{assumed.mfu_training:.0%} of that in training, {assumed.mfu_answering:.0%} in answering"
    tokens = f"{assumed.prompt_tokens} tokens of text a question, {assumed.answer_tokens} an answer"
    notes = [f"Assumed (`planning` in the configuration): {gpu}; {share}; {tokens}. Done jobs cost nothing."]
    if bill.scratch:
        notes.append(f"While it trains, checkpoints to go on from take up to {bill.scratch / sizes.GIB:,.0f} GiB more.")
    over = [row.name for row in steps if row.cost.memory > assumed.gpu_memory_gib * sizes.GIB]
    if over:
        notes.append(f"More memory than one GPU of {assumed.gpu_memory_gib:g} GiB has: {', '.join(over)}.")
    if bill.decisions:
        notes.append(f"People decide {bill.decisions:,.0f} times at most.")
    if bill.keys:
        notes.append(f"Keys wanted in the environment: {', '.join(bill.keys)}.")
    if bill.why:
        notes.append(f"Unknown, and so left out of the sums: {'; '.join(sorted(bill.why))}.")
    return "\n\n".join(parts + ["\n".join(notes)]) + "\n"


def _grid(title: str, rows: Sequence[Row], last: Row | None) -> str:
    lines = [["", *_COLUMNS], *([row.name, *_cells(row)] for row in rows)]
    if last:
        lines.append([last.name, *_cells(last)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    rule = "-" * max(map(len, texts))
    body = [texts[0], rule, *texts[1:]]
    if last:
        body.insert(len(body) - 1, rule)
    return "\n".join([title, *body])


def to_json(plan: Plan, settings: Settings) -> dict:
    """The plan as data. A number that is unknown is null; `at_least` then holds the part of it that is known."""

    def row(row: Row) -> dict:
        bill, numbers, at_least = row.cost, {}, {}
        names = {"memory": "memory_bytes_per_gpu", "disk": "disk_bytes", "scratch": "scratch_bytes"}
        for part in fields(Cost):
            if part.name in ("unknown", "why", "keys"):
                continue
            name, value = names.get(part.name, part.name), getattr(bill, part.name)
            value = round(value, 6)
            numbers[name] = None if part.name in bill.unknown else value
            if part.name in bill.unknown:
                at_least[name] = value
        return {
            "name": row.name, "jobs": row.jobs, "cached": row.cached, **numbers, "at_least": at_least,
            "unknown": sorted(bill.why), "keys": list(bill.keys),
        }  # fmt: skip

    return {
        "scale": settings.scale,
        "assumed": _plan(settings).model_dump(mode="json"),
        "steps": [row(step) for step in plan.steps],
        "targets": [row(target) for target in plan.targets],
        "total": row(plan.total),
    }
