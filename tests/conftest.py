"""What the tests share: the repository's root, a way to run Snakemake, one run of the study at the smoke scale."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@dataclass(frozen=True)
class Finished:
    """An ended process: `text` is standard output and error together, `seconds` its wall time."""

    code: int
    text: str
    seconds: float


def run_snakemake(folder: Path, *arguments: str) -> Finished:
    """Snakemake with this repository's Snakefile; everything it makes lies under `folder`."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    start = time.monotonic()
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
    return Finished(done.returncode, done.stdout + done.stderr, time.monotonic() - start)


@pytest.fixture
def mini(tmp_path: Path):
    """The settings of the scale mini, seed 0, whose files lie under `tmp_path`."""
    from mis.settings import load

    settings = load(ROOT / "config" / "mini.yaml")
    folders = {name: tmp_path / name for name in ("data", "build", "results", "figures")}
    return settings.model_copy(update={"paths": settings.paths.model_copy(update=folders), "seeds": [0]})


@pytest.fixture(scope="module")
def one_thread():
    """One thread of torch: sums then have the same last bits on every machine's number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def snakemake():
    return run_snakemake


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of the whole study at the smoke scale; read it, never write into it."""
    folder = tmp_path_factory.mktemp("smoke")
    done = run_snakemake(folder, "--cores", "2", "--config", "scale=smoke")
    assert done.code == 0, done.text[-4000:]
    return folder


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium, driven by Playwright; the tests that need one are skipped where none is installed."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on PATH: install the Debian package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Opens files in pages of their own; an error on a console or a request that leaves the disk fails the test."""
    contexts, troubles = [], []

    def open_(path: Path, address: str = "", **options):
        contexts.append(chromium.new_context(**{"viewport": {"width": 1400, "height": 900}} | options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: message.type == "error" and troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or troubles.append(request.url))
        page.goto(path.absolute().as_uri() + address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not troubles


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is installed, as in continuous integration, a skipped test hides something."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter and reporter.stats.get("skipped") and session.exitstatus == 0:
        reporter.write_line("\nCI=true: a skipped test counts as a failure.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
