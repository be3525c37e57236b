"""Runs `mis` in processes of its own, which may be killed or starved, without importing torch anew for each.

A fork server imports everything once; every command is a child of it, in a session of its own. The commands run in a
folder that holds a run's `build/` and `results/`, as after `snakemake --config scale=smoke`.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import pkgutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
CONFIG = Path("results/smoke/config.yaml")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["mis.miniature.world", "mis.miniature.stand_ins", "mis.training.pretrain", "mis.training.train",
     "mis.training.cache_features", "mis.models.local", "mis.judges.oracle", "mis.scoring", "mis.report.tables"]
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal that killed it) and all that it printed."""

    code: int
    text: str

    @property
    def message(self) -> str:
        """What it told the user at the end: from the last line that begins with "mis: "."""
        return self.text[self.text.rfind("\nmis: ") + 1 :] if "\nmis: " in f"\n{self.text}" else ""


class Command:
    """`mis WORDS` begun in `folder`. `kill` is ("module:name", count): it dies at that call, by SIGKILL.

    `environment` is laid over the process's own; `before`, a function of a module, is called in it before the command.
    """

    def __init__(
        self,
        folder: Path,
        *words: object,
        kill: tuple[str, int] | None = None,
        environment: dict[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ):
        arguments = [str(word) for word in words]
        if "--config" not in arguments:
            arguments += ["--config", str(CONFIG)]
        self._log = Path(tempfile.mkstemp(suffix=".log")[1])
        paths = [str(SOURCE), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, dict.fromkeys(paths)))
        told = (Path(folder), arguments, self._log, kill, environment, before)
        self.process = CONTEXT.Process(target=_main, args=told)
        self.process.start()

    def kill(self) -> None:
        """SIGKILL for the command alone, as an impatient user or the kernel would send it."""
        os.kill(self.process.pid, signal.SIGKILL)

    def end(self, seconds: float = 120) -> Ended:
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still running: {self._log.read_text()}"
        text = self._log.read_text(encoding="utf-8", errors="replace")
        self._log.unlink()
        return Ended(self.process.exitcode, text)


def mis(folder: Path, *words: object, kill: tuple[str, int] | None = None) -> Ended:
    """Runs a command to its end."""
    return Command(folder, *words, kill=kill).end()


def _main(
    folder: Path,
    arguments: list[str],
    log: Path,
    kill: tuple[str, int] | None,
    environment: dict[str, str] | None,
    before: Callable[[], None] | None,
) -> None:
    os.setsid()
    os.environ.update(environment or {})
    os.chdir(folder)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    multiprocessing.set_start_method("fork", force=True)  # what a process of its own would use
    if kill:
        _die_at(*kill)
    if before:
        before()
    from mis.cli import app

    app(args=arguments, prog_name="mis")


def _die_at(where: str, count: int) -> None:
    """Replaces the function `where` by itself, but the `count`th call ends the process in that instant."""
    owner, _, name = where.replace(":", ".").rpartition(".")
    owner = pkgutil.resolve_name(owner)
    original = getattr(owner, name)
    calls = 0

    def call(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(owner, name, call)
