"""Runs a notebook on a finished run, without a network, and keeps it as a page."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from mis.errors import MisError
from mis.store import write_text_atomic


def execute(path: Path, config: Path, out: Path) -> list[Path]:
    """Runs a notebook on the run of `config`; writes `out/<name>.ipynb` and `.html`, returns their paths.

    The kernel speaks over sockets in a temporary folder, so that it needs no network, and keeps no history; times are
    left out, so that the same run gives the same bytes. The page needs no network either. Raises :class:`MisError`
    that names the cell that failed.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
        from nbconvert import HTMLExporter
        from traitlets.config import Config
    except ImportError as error:
        raise MisError(f"{path}: notebooks need jupyter ({error}); pip install -r requirements.lock") from None
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="mis") as folder:
        place = {"ip": f"{folder}/socket", "connection_file": f"{folder}/kernel.json"}  # else kernels share sockets
        options = Config({"KernelManager": {"transport": "ipc", **place}})
        client = NotebookClient(
            notebook, config=options, kernel_name="python3", record_timing=False, timeout=None,
            resources={"metadata": {"path": str(Path.cwd())}},
        )  # fmt: skip
        try:
            client.execute(env={**os.environ, "MIS_CONFIG": str(config), "IPYTHONDIR": folder, "MPLBACKEND": "agg"})
        except CellExecutionError as error:
            raise MisError(
                f"{path}: a cell failed: {error.ename}: {error.evalue}; run it with `jupyter lab` to see where"
            ) from None
    exporter = HTMLExporter(template_name="lab", mathjax_url="", require_js_url="", jquery_url="")
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": path.stem}})
    page = re.sub(r'<script src=""> ?</script>', "", page)  # where the scripts left out above would be
    written = out / path.name, out / f"{path.stem}.html"
    write_text_atomic(written[0], nbformat.writes(notebook) + "\n")
    write_text_atomic(written[1], page)
    return list(written)
