"""Running LaTeX so that the same input gives the same bytes, and reading its log."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from mis.report.reported import ReportError

INSTALL = (
    "the PDF needs LaTeX (latexmk, pdflatex); on Debian: apt-get install latexmk texlive-latex-recommended "
    "texlive-fonts-recommended texlive-pictures"
)


def installed() -> bool:
    return all(shutil.which(program) for program in ("latexmk", "pdflatex", "bibtex"))


def run_latexmk(folder: Path) -> Path:
    """Make `folder/main.pdf` of `folder/main.tex`; returns its path.

    Raises :class:`ReportError` with the log's complaints if LaTeX fails or a reference or citation is undefined.
    """
    if not installed():
        raise ReportError(INSTALL)
    # The epoch stands in for every date; the lines of a log are not to be broken inside a name.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "TZ": "UTC",
                   "max_print_line": "1000"}  # fmt: skip
    command = ["latexmk", "-norc", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "-file-line-error", "main.tex"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace",
                          check=False)  # fmt: skip
    log = folder / "main.log"
    problems = complaints(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else []
    if done.returncode or problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:10]) or (done.stdout + done.stderr)[-2000:]
        raise ReportError(f"{log}: LaTeX did not make the PDF as it should:\n{shown}")
    return folder / "main.pdf"


_ERROR = re.compile(r"^(?:\S+\.\w+:\d+: |! )(.+)$", re.MULTILINE)
_UNDEFINED = re.compile(r"^(?:LaTeX|Package natbib) Warning: ((?:Reference|Citation) .+? undefined)", re.MULTILINE)
_OVERFULL = re.compile(r"^Overfull \\[hv]box \(([\d.]+)pt too (?:wide|high)\).*$", re.MULTILINE)


def complaints(log: str) -> list[str]:
    """What makes a document unfit, from the log of its last run: errors, and references that lead nowhere."""
    return [match[0].strip() for match in _ERROR.finditer(log)] + [match[1] for match in _UNDEFINED.finditer(log)]


def overfull(log: str) -> list[tuple[float, str]]:
    """By how many points which line or page overflows."""
    return [(float(match[1]), match[0]) for match in _OVERFULL.finditer(log)]
