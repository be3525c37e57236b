"""`mis data ...`: the public datasets. Each command imports its implementation only when it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mis.errors import MisError

if TYPE_CHECKING:
    from mis.settings import Settings

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The public datasets: fetch, check, describe, label."
)

Root = Annotated[
    Path | None, typer.Option("--root", help="The data root, one folder a dataset; else the configuration's.")
]
Config = Annotated[Path, typer.Option("--config", help="The scale's configuration file.")]
LockFile = Annotated[Path, typer.Option("--lock", help="The lock of commits, sizes and checksums.")]
DEFAULT = Path("config/paper.yaml")
LOCK = Path("config/data.lock.json")


def _settings(config: Path) -> Settings:
    from mis.settings import load

    return load(config)


def _root(root: Path | None, config: Path) -> Path:
    return root if root is not None else _settings(config).paths.data


@app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Datasets; all without any.")] = None,
    root: Root = None,
    config: Config = DEFAULT,
    lock: LockFile = LOCK,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="PATTERN", help="Of the archives only these; may be repeated.")
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Take the newest commit and pin that.")] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Pin the files that lie there, without asking anyone.")
    ] = False,
    for_run: Annotated[
        bool,
        typer.Option("--for-run", help="As a step of a run: refuse what the lock does not pin, note what was read."),
    ] = False,
    allow_unpinned: Annotated[
        bool,
        typer.Option("--allow-unpinned", help="With --for-run: take the newest commit instead; the results say so."),
    ] = False,
) -> None:
    """Download datasets, or check what is there.

    The first download of a dataset writes commit, files, sizes and SHA-256 into the lock; later ones are held against
    it. What was loaded before is kept. Exit status 1: something is left to be done by hand.
    """
    from mis.data.fetch import fetch as run
    from mis.sources.public import DATASETS

    todo, failed = False, []
    for name in names or list(DATASETS):
        try:
            if for_run:
                from mis.data.inputs import take

                fetched = take(_settings(config), name, lock, allow_unpinned)
            else:
                fetched = run(name, _root(root, config), lock, renew=renew, local=local, only=tuple(only or ()))
        except MisError as error:  # a gate before one dataset is none before the next
            failed.append(error)
            if len(names or DATASETS) > 1:
                typer.echo(f"{name}: {error}", err=True)
            continue
        typer.echo(str(fetched))
        for line in fetched.todo:
            typer.echo(f"  still to do: {line}", err=True)
            todo = True
    if failed:
        raise failed[0]
    if todo:
        raise typer.Exit(1)


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Datasets; all that are pinned.")
    ] = None,
    root: Root = None,
    config: Config = DEFAULT,
    lock: LockFile = LOCK,
) -> None:
    """Compare every file with the lock, without the network.

    Exit status 1 if anything differs.
    """
    from mis.data import lock as locks
    from mis.data.fetch import verify as run

    entries = locks.read(lock)
    if not (names or entries):
        raise MisError(f"{lock}: nothing is pinned; run `mis data fetch`")
    wrong = 0
    for name in names or list(entries):
        problems = run(name, _root(root, config), lock)
        wrong += len(problems)
        for problem in problems:
            typer.echo(problem, err=True)
        typer.echo(f"{name}: {f'{len(problems)} files differ' if problems else 'as the lock says'}")
    if wrong:
        raise typer.Exit(1)


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="A training source or a benchmark.")],
    root: Root = None,
    config: Config = DEFAULT,
) -> None:
    """Count a dataset's samples, pictures and categories, as JSON.

    Never prints what they say. Missing pictures are counted. --root may also name the dataset's own folder.
    """
    from mis.data.describe import describe as run

    json.dump(run(name, _root(root, config)), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


@app.command()
def draw(
    name: Annotated[str, typer.Argument(help="figstep.")] = "figstep", root: Root = None, config: Config = DEFAULT
) -> None:
    """Draw FigStep's pictures from its table.

    For those who have not got the project's own, which are taken where they are there.
    """
    if name != "figstep":
        raise MisError(f"{name}: only figstep's pictures can be drawn")
    from mis.data.typography import draw as run

    folder = _root(root, config)
    folder = folder / name if (folder / name).is_dir() else folder
    typer.echo(f"{folder}: {run(folder)} pictures drawn")


@app.command()
def label(
    variant: Annotated[
        str, typer.Argument(help="safe_answer, reasoning, sorry, direct, text_only, safety_cot, thoughts.")
    ],
    config: Config = DEFAULT,
    anew: Annotated[bool, typer.Option("--anew", help="Also labels that the dataset brings, beside them.")] = False,
    allow_failures: Annotated[
        bool, typer.Option("--allow-failures", help="Exit with 0 even if requests failed; they stay counted.")
    ] = False,
) -> None:
    """Have a served model write labels.

    Refused, malformed, truncated and filtered answers are asked for again, then counted. A rerun asks only for what has
    no usable label. Exit status 1: some requests failed.
    """
    settings = _settings(config)
    from contextlib import ExitStack

    from mis.data.label import label as run
    from mis.models.remote import ChatClient

    with ExitStack() as stack:

        def open_client(labelling):
            cache = settings.paths.build / "requests" / "labels"
            endpoint = settings.endpoints[labelling.served.endpoint]
            return stack.enter_context(ChatClient.of(labelling.served, endpoint, cache))

        written = run(settings, variant, open_client, anew)
    for file in written:
        typer.echo(str(file))
    if any(file.unanswered for file in written) and not allow_failures:
        typer.echo("Some requests failed; run the same command again to ask only for those.", err=True)
        raise typer.Exit(1)


@app.command()
def leaks(
    suites: Annotated[list[str] | None, typer.Argument(metavar="[SUITE]...", help="Suites; all without any.")] = None,
    arm: Annotated[str | None, typer.Option("--arm", help="A trained arm; all of them without one.")] = None,
    config: Config = DEFAULT,
    report: Annotated[bool, typer.Option("--report", help="Exit with 0 whatever is found.")] = False,
    found: Annotated[bool, typer.Option("--found", help="Only judge what was found and written before.")] = False,
) -> None:
    """Look for test samples in the training sets.

    Writes R/leaks/ARM/SUITE.csv: pairs of ids. Exit status 1 if something exact is found. To let it pass, name the
    examples in `sources.exclusions` with a reason, and mix again: then no arm takes them.
    """
    from mis.data import leaks as step
    from mis.mixing import trained_arms

    settings = _settings(config)
    arms, known = trained_arms(settings), list(settings.evaluation.suites)
    for what, names, there in (("arm that is trained", [arm] if arm else [], arms), ("suite", suites or [], known)):
        if unknown := [name for name in names if name not in there]:
            raise MisError(f"{config}: no {what} {unknown[0]!r}; it has {', '.join(there) or 'none'}")
    if not arms:
        raise MisError(f"{config}: no arm is trained; there is nothing to compare")
    total = 0
    for name, suite in [(name, suite) for name in ([arm] if arm else arms) for suite in suites or known]:
        if found:
            leaked = step.found_before(settings, name, suite)
        else:
            path, counts = step.leaks(settings, name, suite)
            leaked = counts["leaks"]
            typer.echo(
                f"{path}: " + (", ".join(f"{n:,} {what}" for what, n in sorted(counts.items()) if n) or "nothing")
            )
        if leaked:
            typer.echo(
                f"{name} is trained on {leaked} exact duplicates of samples of {suite}; name those examples in a CSV "
                "file `source,id,reason`, set sources.exclusions to it, and mix again",
                err=True,
            )
        total += leaked
    if total and not report:
        raise typer.Exit(1)


@app.command()
def inputs(config: Config = DEFAULT) -> None:
    """List the datasets that a run read: commit, size, licence, pinned or not.

    Writes R/inputs.csv and R/inputs.md.
    """
    from mis.data.inputs import wanted, write_inputs

    settings = _settings(config)
    for path in write_inputs(settings, wanted(settings)):
        typer.echo(path)


@app.command()
def benign(
    count: Annotated[int, typer.Option("--count", help="Pairs of the control set.", min=2)] = 500,
    training: Annotated[int, typer.Option("--training", help="Pairs to train on, besides.", min=0)] = 0,
    config: Config = DEFAULT,
) -> None:
    """Build the harmless pairs from M4-Instruct and MuirBench.

    The control set in the layout of MIS, disjoint from all that arms are trained on; drawn by a fixed seed.
    """
    from mis.data.benign import build

    for path in build(_settings(config), count, training):
        typer.echo(path)
