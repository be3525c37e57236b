"""`mis`: one command a step. Each imports its implementation only when it runs, so that help comes at once."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mis.errors import MisError

if TYPE_CHECKING:
    from mis.judges import Judge
    from mis.report.pictures import Draw
    from mis.settings import Settings

EPILOG = """\b
The steps in their order (`make reproduce` runs them all):
  mis world                                   the miniature's datasets (miniature scales only)
  mis construct, mis mix                      the MIS dataset, the arms' training mixtures
  mis pretrain MODEL --seed S                 a base model
  mis train ARM --model MODEL --seed S        a fine-tuned arm
  mis respond SUITE --arm ARM --model MODEL --seed S
  mis judge --model MODEL --seed S
  mis score                                   scores.csv
  mis table N, mis figure N                   what the paper shows
  mis claims                                  what it says, judged
  mis headline, mis compare                   the main numbers; against the reference run
  mis rejudge, mis agree                      a second judge, and how far the two agree
  mis notebook NOTEBOOK                       a notebook with its outputs
  mis paper                                   the reproduction as a PDF
  mis browser                                 a page to look at samples and answers

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
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, epilog=EPILOG, rich_markup_mode=None, pretty_exceptions_enable=False,
    add_completion=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)  # fmt: skip

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
def construct(config: Config = DEFAULT) -> None:
    """Build the MIS dataset in the paper's four steps.

    Every step's records are kept beside it, with the funnel that counts them.
    """
    settings = _settings(config)
    from mis.miniature.stand_ins import construct as run

    run(settings)


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
def mix(config: Config = DEFAULT) -> None:
    """Mix each arm's training examples.

    Writes a file an arm, and the datasheet that counts its examples by source and kind.
    """
    settings = _settings(config)
    from mis import mixing

    mixing.mix(settings)


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


@app.command()
def train(arm: str, model: ModelName, seed: Seed, config: Config = DEFAULT) -> None:
    """Fine-tune an arm from the base model.

    Goes on from the last checkpoint if it was stopped.
    """
    settings = _settings(config, model=model, arm=arm)
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
    suite: str,
    arm: Annotated[str, typer.Option("--arm", help="An arm of the configuration; base is the untuned model.")],
    model: ModelName,
    seed: Seed,
    config: Config = DEFAULT,
    allow_failures: Annotated[
        bool, typer.Option("--allow-failures", help="Exit with 0 even if responses failed; they stay counted.")
    ] = False,
) -> None:
    """Answer a suite's benchmarks.

    Writes the responses, one a sample, and beside them the journal of all attempts. A rerun asks only for what is
    missing or failed.
    """
    settings = _settings(config, model=model, arm=arm, suite=suite)
    from mis import layout
    from mis.mixtures import ARMS
    from mis.models import checkpoint_identity, prompting
    from mis.responding import respond as run
    from mis.suites import load_samples

    folder = layout.checkpoint(settings, model, seed, arm)
    identity = f"{checkpoint_identity(folder)} greedy max_new_tokens={settings.max_new_tokens_of(model)}"
    way, prompts = ARMS[arm].asks, settings.evaluation.prompts
    if way:
        identity += f" {prompting.identity(way, prompts)}"
    samples = load_samples(settings, settings.evaluation.suites[suite])
    out = layout.responses(settings, model, seed, arm, suite)
    from mis.models.local import LocalModel

    answering = LocalModel(folder, settings, seed, model)
    summary = run(
        samples, prompting.asking(way, answering, prompts) if way else answering, out,
        model_name=model, arm=arm, seed=seed, batch_size=settings.evaluation.batch_size, identity=identity,
    )  # fmt: skip
    typer.echo(f"{out}: {summary}")
    if summary.failed and not allow_failures:
        typer.echo("Some responses failed; run the same command again to ask only for those.", err=True)
        raise typer.Exit(1)


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
def judge(model: ModelName, seed: Seed, config: Config = DEFAULT) -> None:
    """Judge the responses of all arms of a model.

    Files that would not change are left alone; arms that were not run are named and left out.
    """
    settings = _settings(config, model=model)
    from mis import layout
    from mis.judges import read_responses
    from mis.judges.oracle import OracleJudge

    oracle = OracleJudge(layout.truth(settings))
    _judge_arms(settings, model, seed, oracle, settings.judge.kind, read_responses, partial(layout.verdicts, settings))


@app.command()
def rejudge(
    model: ModelName,
    seed: Seed,
    config: Config = DEFAULT,
    judge: Annotated[str, typer.Option("--judge", help="Another judge than the run's own: second.")] = "second",
) -> None:
    """Judge the open answers once more, by another judge.

    Writes R/rejudged/JUDGE/ and leaves the verdicts alone; `mis agree` compares the two.
    """
    settings = _settings(config, model=model)
    if judge != "second":
        raise MisError(f"no judge {judge!r} to judge again; there is: second")
    from mis import layout
    from mis.judges import open_responses
    from mis.judges.second import SecondJudge

    second = SecondJudge(layout.truth(settings))
    _judge_arms(settings, model, seed, second, judge, open_responses, partial(layout.rejudged, settings, judge))


def _judge_arms(
    settings: Settings, model: str, seed: int, judge: Judge, name: str, read: Callable, place: Callable[..., Path]
) -> None:
    """Judge every arm's responses that are there: `read` takes them from a file, `place` says where verdicts go."""
    from mis import layout
    from mis.judges import judge_responses
    from mis.suites import load_samples

    judged = 0
    for suite, benchmarks in settings.evaluation.suites.items():
        samples = load_samples(settings, benchmarks)
        for arm in settings.arms_of(model):
            source = layout.responses(settings, model, seed, arm, suite)
            if not source.exists():
                typer.echo(f"{source}: not there; {arm} is left out", err=True)
                continue
            out = place(model, seed, arm, suite)
            counts = judge_responses(samples, read(source), judge, out, name=name)
            judged += 1
            typer.echo(f"{out}: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    if not judged:
        raise MisError(f"{model}, seed {seed}: no responses to judge; run `mis respond` first")


@app.command()
def agree(
    config: Config = DEFAULT,
    judge: Annotated[str, typer.Option("--judge", help="The judge of `mis rejudge`.")] = "second",
) -> None:
    """Compare the verdicts with another judge's.

    Writes agreement.csv, agreement.md and disagreements.csv.
    """
    settings = _settings(config)
    from mis.judges.agreement import agree as run

    for path in run(settings, judge):
        typer.echo(path)


@app.command()
def audit(
    model: ModelName,
    output: Annotated[Path, typer.Option("--output", help="Where the sheet of answers is written.")],
    config: Config = DEFAULT,
) -> None:
    """Draw answers for someone to label blindly.

    Stratified by arm and outcome; tests/audit/README.md says how the labels are used.
    """
    settings = _settings(config, model=model)
    from mis.judges.audit import draw

    typer.echo(f"{output}: {draw(settings, model, output)} answers")


@app.command()
def score(config: Config = DEFAULT) -> None:
    """Turn all verdicts into scores.csv.

    One row a rate: percent of all responses, with n, failures and the interval of the configured confidence.
    """
    settings = _settings(config)
    from mis.scoring import score as run

    typer.echo(run(settings))


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
    if settings.world is None:
        return None
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
