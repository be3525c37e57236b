"""Every claim of the paper, and ours, judged: on the paper's own numbers and in a run. See docs/claims.md."""

from __future__ import annotations

from pathlib import Path

from mis.report.claims import output, scales
from mis.report.claims.judging import OURS, PAPER, judge, read_claims
from mis.report.claims.paper import Paper
from mis.report.claims.run import Run
from mis.report.claims.shape import agreements
from mis.report.html import to_html
from mis.report.reported import repository_root
from mis.report.sources import Sources
from mis.settings import Settings
from mis.store import write_csv_atomic, write_text_atomic


def write_claims(settings: Settings, root: Path | str | None = None, seed: int = 0) -> list[Path]:
    """Write `<results>/claims.csv`, `.md`, `.tex`, `.html`; of a run `shape.csv`, `.md`, `.tex`. Returns their paths.

    Where the configuration names a scale `beside`, also `claims_by_scale.csv`, `.md`, `.tex`.
    At the scale `reported` there is no run, and no claim of ours. `seed` seeds the bootstrap. Raises `ReportError` for
    a claim that cannot be read or evaluated, and `MisError` for a run without verdicts.
    """
    data = repository_root(root) / "data"
    sources = Sources(settings, root)
    paper = Paper(sources.reported)
    claims = read_claims(data / "reported" / "claims.csv", PAPER, paper)
    run = None
    if settings.models:
        claims += read_claims(data / "claims.csv", OURS, paper)
        run = Run(sources, paper, seed)
    judged = judge(claims, paper, run)
    models = run.run_model if run is not None else {}
    paths = _write(
        settings.paths.results / "claims",
        output.records(judged),
        output.COLUMNS,
        output.claims_markdown(judged, settings, models),
        output.claims_latex(judged, settings, models),
    )
    paths.append(settings.paths.results / "claims.html")
    write_text_atomic(paths[-1], to_html(output.claims_table(judged, settings, models)))
    if run is not None:
        found = agreements(run)
        paths += _write(
            settings.paths.results / "shape",
            output.shape_records(found),
            output.SHAPE_COLUMNS,
            output.shape_markdown(found, settings.scale),
            output.shape_latex(found, settings.scale),
        )
        if settings.report.beside:
            paths += scales.write_beside(settings, repository_root(root))
    return paths


def _write(stem: Path, rows: list[dict[str, str]], columns: tuple[str, ...], markdown: str, latex: str) -> list[Path]:
    paths = [stem.with_suffix(f".{kind}") for kind in ("csv", "md", "tex")]
    write_csv_atomic(paths[0], rows, columns)
    write_text_atomic(paths[1], markdown)
    write_text_atomic(paths[2], latex)
    return paths
