"""The reproduction as a PDF: `paper/*.tex` with a run's tables, figures, verdicts and numbers, built by latexmk.

The build folder `<build>/paper` is complete: `latexmk -pdf main.tex` there makes the PDF again, and `numbers.tex` lists
every number of the prose. The same input gives the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from mis.report import latex
from mis.report.macros import Numbers, definitions, requests
from mis.report.rendering import escape_latex
from mis.report.reported import ReportError, repository_root
from mis.report.tables import TABLES
from mis.settings import Settings
from mis.store import replacing, write_text_atomic

CLAIM_FILES = ("claims.tex", "shape.tex")
# A section about the committed run of another scale: what it shows of results/reference and figures/reference.
SMALL = "small"
SMALL_RESULTS = ("config.yaml", "scores.csv", "claims.csv", "claims_by_scale.csv", "claims_by_scale.tex",
                 "tables/tableS3.tex", "tables/tableS4.tex")  # fmt: skip
SMALL_FIGURES = ("figureS3.pdf", "figureS4.pdf")


def build_paper(
    settings: Settings, tables: Sequence[str], figures: Sequence[str], root: Path | str | None = None
) -> Path:
    """Write `<results>/reproduction.pdf` and return its path.

    `tables` and `figures` are the numbers of those that were made ("4", "S1"). Raises :class:`ReportError` if LaTeX is
    not installed, a file of the run is missing, the prose asks for a number that does not exist, a reference is
    undefined, or LaTeX fails; the text names the place.
    """
    if not latex.installed():
        raise ReportError(latex.INSTALL)
    root = repository_root(root)
    source, folder = root / "paper", settings.paths.build / "paper"
    sections = sections_of(root)
    if not sections:
        raise ReportError(f"{source}: no LaTeX files; run from a checkout of the repository")
    asked = requests(sections)
    numbers = definitions(asked, Numbers(settings, tables, figures, root))
    shutil.rmtree(folder, ignore_errors=True)
    for path in [*sections, *source.glob("*.bib")]:
        _copy(path, folder / path.relative_to(source))
    missing = lacking(root)
    if missing:
        write_text_atomic(folder / "sections" / "small.tex", _left_out(missing))
    else:
        for path, name in small_files(root).items():
            _copy(path, folder / SMALL / name)
    for number in tables:
        _copy(settings.paths.results / "tables" / f"table{number}.tex", folder / "tables" / f"table{number}.tex")
    for number in (number for number in TABLES if number not in tables):
        write_text_atomic(folder / "tables" / f"absent{number}.tex", rf"\absenttable{{{number}}}" + "\n")
    for number in figures:
        _copy(settings.paths.figures / f"figure{number}.pdf", folder / "figures" / f"figure{number}.pdf")
    for name in CLAIM_FILES:
        _copy(settings.paths.results / name, folder / name)
    write_text_atomic(folder / "numbers.tex", numbers)
    shown = {(request.macro, *request.arguments) for request in asked}
    rest = [rf"\remainingfigure{{{number}}}" for number in figures if ("FigureFile", number) not in shown]
    rest += [rf"\remainingtable{{{number}}}" for number in tables if ("TableFile", number) not in shown]
    if not missing:
        rest += [r"\section{The claims at two scales}\label{sec:claims-by-scale}", r"\input{small/claims_by_scale}"]
    write_text_atomic(folder / "remaining.tex", "\n".join(["% Generated: what no section shows.", *rest]) + "\n")
    made = latex.run_latexmk(folder)
    out = settings.paths.results / "reproduction.pdf"
    with replacing(out, "wb") as file:
        file.write(made.read_bytes())
    return out


def sections_of(root: Path) -> list[Path]:
    """The LaTeX files; without the section about another scale's run where that is not committed."""
    found = sorted((root / "paper").glob("**/*.tex"))
    return [path for path in found if path.name != "small.tex"] if lacking(root) else found


def small_files(root: Path) -> dict[Path, str]:
    """What the section shows of that run -> its name in the build folder."""
    results, figures = (root / kind / "reference" / SMALL for kind in ("results", "figures"))
    shown = [*(results / name for name in SMALL_RESULTS), *(figures / name for name in SMALL_FIGURES)]
    return {path: path.name for path in shown}


def lacking(root: Path) -> list[str]:
    """Which of these files, or of the folder of probes, are not committed."""
    files = [*small_files(root), root / "results" / "reference" / SMALL / "probes"]
    return [str(path.relative_to(root)) for path in files if not path.exists()]


def _left_out(missing: list[str]) -> str:
    shown = ", ".join(rf"\file{{{escape_latex(name)}}}".replace("/", r"/\allowbreak{}") for name in missing[:2])
    more = " and others" if len(missing) > 2 else ""
    return (
        "\\section{A pretrained language model under the miniature's eyes}\n\\label{sec:small}\n\n"
        f"This section is left out: no finished run of the scale \\file{{{SMALL}}} is committed ({shown}{more} "
        "not there).\n"
    )


def _copy(path: Path, target: Path) -> None:
    if not path.is_file():
        raise ReportError(f"{path}: not there; run the steps before this one: snakemake --cores all paper")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
