"""What the notebooks show, one call a cell: they hold words and calls, and no logic of their own.

A notebook reads the run that `MIS_CONFIG` names (default results/mini/config.yaml) and nothing else of it than
`results/<scale>/`. Every sentence about an outcome is computed here from the numbers beside it.
"""

from __future__ import annotations

import io
import os
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from mis import layout
from mis.benchmarks import BY_ID
from mis.errors import MisError
from mis.judges import agreement as judges
from mis.report import names
from mis.report.audit import Labelled, read_audit
from mis.report.colours import COLOURS
from mis.report.rendering import escape_markdown, grid, to_markdown
from mis.report.reported import read_csv, repository_root
from mis.report.scores import Cell
from mis.report.sources import Sources
from mis.report.statistics import align, paired_difference
from mis.report.tables import build_table, interval, number
from mis.scoring import COUNTED, read_outcomes
from mis.settings import Settings, load
from mis.statistics import wilson
from mis.store import read_jsonl
from mis.taxonomy import FAILURES, UNSAFE

NOTEBOOKS = ("ablations", "safety_gap", "judge_agreement")
SECOND = "second"
_DPI = 110  # the pictures are stored at twice that, for sharp screens


class Text(str):
    """Markdown that a notebook renders."""

    def _repr_markdown_(self) -> str:
        return str(self)


class Picture:
    """A figure as the PNG that a notebook shows, with words for those who do not see it.

    The same figure gives the same bytes.
    """

    def __init__(self, figure, words: str):
        import matplotlib.pyplot as plt

        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=2 * _DPI, metadata={"Software": None})
        self._png = buffer.getvalue()
        self._width = round(figure.get_figwidth() * _DPI)
        plt.close(figure)
        self._words = words

    def __repr__(self) -> str:
        return self._words

    def _repr_png_(self) -> tuple[bytes, dict]:
        return self._png, {"width": self._width, "alt": self._words}


class Run:
    """A finished run and what it is compared with, each file read when first asked for."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.sources = Sources(settings)

    @cached_property
    def outcomes(self):
        """The run's verdicts, as `scoring.read_outcomes` gives them."""
        return read_outcomes(self.settings)

    @cached_property
    def pairs(self) -> list[judges.Pair]:
        return judges.read_pairs(self.settings, SECOND)

    def arms(self, *wanted: str) -> list[str]:
        """Those of the wanted arms that were scored, in that order; all that were scored if none is named."""
        scored = self.sources.scores.methods
        return [arm for arm in wanted if arm in scored] if wanted else list(scored)

    def about(self) -> Text:
        """Which run this is."""
        scores = self.sources.scores
        if not scores.models:
            raise MisError(f"{scores.path}: no scores; finish the run first (`snakemake --cores all`)")
        models = ", ".join(f"{names.model(m)} (beside {names.model(self._reported(m))})" for m in scores.models)
        return Text(f"Scale **{escape_markdown(self.settings.scale)}**: {escape_markdown(models)}; "
                    f"{self.sources.seeds_text}; {len(scores.methods)} arms. In brackets the "
                    f"{self.sources.interval_name}.")  # fmt: skip

    def _reported(self, model: str) -> str:
        return self.sources.analogues.reported_model(model)


def open_run() -> Run:
    """The run of `MIS_CONFIG`. Opened in `notebooks/`, it goes to the folder above, where the paths start."""
    config = Path(os.environ.get("MIS_CONFIG", "results/mini/config.yaml"))
    if not config.exists() and (Path("..") / config).exists():
        os.chdir("..")
    return Run(load(config))


def _column(text: str) -> tuple[str, str, str]:
    """ "mis/hard asr" -> ("mis", "hard", "asr"); "- metric" is a rate without a benchmark."""
    where, metric = text.split()
    benchmark, _, split = where.partition("/")
    return benchmark.strip("-"), split, metric


def _head(column: str) -> str:
    benchmark, split, metric = _column(column)
    return names.column(benchmark, split, metric, names.DIRECTIONS.get(metric, ""))


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "not run"
    failed = f", {cell.failures} failed" if cell.failures else ""
    return f"{number(cell)} {interval(cell)}{failed}".strip()


def _table(rows: list[list[str]], words: Sequence[str] = ()) -> Text:
    """Rows under the head `rows[0]`; columns of numbers are right aligned, those whose head is in `words` are not."""
    lines = grid([[escape_markdown(cell) for cell in row] for row in rows]).split("\n")
    rule = lines[1].strip("|").split("|")
    rule = [part.rstrip(":") + "-" if head in words else part for part, head in zip(rule, rows[0], strict=True)]
    return Text("\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[2:]]))


def _lines(run: Run, arms: Sequence[str]) -> list[tuple[str, str, str]]:
    """(model, arm, label) of every row; the label names the model only where there are several."""
    models = run.sources.scores.models
    several = len(models) > 1
    return [
        (model, arm, names.method(arm) + (f", {names.model(model)}" if several else ""))
        for model in models
        for arm in run.arms(*arms)
        if arm in run.settings.arms_of(model)
    ]


def rates(run: Run, arms: Sequence[str], columns: Sequence[str]) -> Text:
    """A table of arms by rates ("mis/hard asr"), each with its interval and the responses without a verdict."""
    rows = [["", *map(_head, columns)]]
    for model, arm, label in _lines(run, arms):
        rows.append([label, *(_cell(run.sources.scores.get(model, arm, *_column(column))) for column in columns)])
    absent = [names.method(arm) for arm in arms if arm not in run.arms()]
    note = f"\n\nNot in this run: {escape_markdown(', '.join(absent))}." if absent else ""
    return Text(_table(rows) + note)


def dots(run: Run, arms: Sequence[str], columns: Sequence[str]) -> Picture:
    """The same rates as dots with their intervals, a panel a rate, an arm a row."""
    import matplotlib.pyplot as plt

    from mis.report.figures import STYLE

    lines = _lines(run, arms)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(columns), figsize=(1.7 + 1.75 * len(columns), 0.9 + 0.27 * len(lines)), sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for axes, column in zip(panels[0], columns, strict=True):
            for row, (model, arm, _) in enumerate(lines):
                cell = run.sources.scores.get(model, arm, *_column(column))
                if cell is None:
                    axes.text(50, row, "not run", ha="center", va="center", color="#777777", fontsize=6.5)
                    continue
                low, high = (cell.value, cell.value) if cell.low is None else (cell.low, cell.high)
                axes.plot([low, high], [row, row], color="#777777", linewidth=1.2, zorder=1)
                axes.plot(cell.value, row, "o", color=COLOURS.get(arm, "#999999"), markersize=6,
                          markeredgecolor="black", markeredgewidth=0.4, zorder=2)  # fmt: skip
            axes.set_xlim(-4, 104)
            axes.set_xticks([0, 50, 100])
            axes.set_title(textwrap.fill(re.sub(" (?=[↑↓])", "\u00a0", _head(column)), 17), fontsize=8)
            axes.grid(axis="x", linewidth=0.4, color="#DDDDDD")
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.tick_params(axis="y", length=0)
        panels[0][0].set_yticks(range(len(lines)), [label for *_, label in lines])
        panels[0][0].set_ylim(len(lines) - 0.5, -0.5)
        figure.supxlabel("Percent of all responses", fontsize=7.5)
    return Picture(
        figure, f"Dots with intervals: {', '.join(map(_head, columns))}, by arm; the same numbers as in the table."
    )


def figure(run: Run, which: str) -> Picture:
    """A figure of the report, drawn from this run."""
    import matplotlib.pyplot as plt

    from mis.report.figures import FIGURES, STYLE

    with plt.rc_context(STYLE):
        return Picture(FIGURES[which](run.sources), f"Figure {which}: {FIGURES[which].__doc__.strip().splitlines()[0]}")


def table(run: Run, which: str) -> Text:
    """A table of the report: the paper's numbers and this run's."""
    page = to_markdown(build_table(which, run.settings)).partition("\n\n")[2]
    return Text(re.sub(r"\[\^(\w+)\]:?", r"<sup>\1</sup>", page))  # notebooks know no footnotes


def differences(run: Run, pairs: Sequence[tuple[str, str]], columns: Sequence[str], artifact: str = "") -> Text:
    """For each (arm, other arm) and rate: the difference on the same questions, and what its interval says.

    With `artifact` (a table of the paper) the difference of the printed numbers stands beside it.
    """
    head = ["", "rate", f"{run.settings.scale}: difference", "so"]
    rows = [head + (["paper: difference", "same direction?"] if artifact else [])]
    for model in run.sources.scores.models:
        for arm, other in pairs:
            for column in columns:
                rows.append(_difference(run, model, arm, other, column, artifact))
    unit = f"Percentage points; {run.sources.interval_name} of the paired difference."
    return Text(_table(rows, ("rate", "so", "same direction?")) + f"\n\n{unit}")


def _difference(run: Run, model: str, arm: str, other: str, column: str, artifact: str) -> list[str]:
    benchmark, split, metric = _column(column)
    several = len(run.sources.scores.models) > 1
    label = f"{names.method(arm)} against {names.method(other)}" + (f", {names.model(model)}" if several else "")
    row, sign = [label, _head(column)], 0
    hits = [_hits(run, model, name, benchmark, split, metric) for name in (arm, other)]
    if any(hit is None for hit in hits):
        row += ["not run", ""]
    else:
        value, low, high = paired_difference(
            *_aligned(*hits),
            confidence=run.settings.report.confidence,
            replicates=run.settings.report.bootstrap_samples,
        )
        sign = int(low > 0) - int(high < 0)
        row.append(f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
        equal = value == low == high == 0
        row.append({1: "higher", -1: "lower", 0: "equal throughout" if equal else "no difference shown"}[sign])
    if artifact:
        reported = run.sources.reported
        printed = [
            reported.get(artifact, run._reported(model), name, benchmark, split, metric) for name in (arm, other)
        ]
        if any(value is None for value in printed):
            row += ["not printed", ""]
        else:
            difference = float(printed[0].value) - float(printed[1].value)
            same = "" if row[-1] == "" else "open" if not sign else "yes" if sign * difference > 0 else "no"
            row += [f"{difference:+.1f}", same]
    return row


def _hits(
    run: Run, model: str, arm: str, benchmark: str, split: str, metric: str
) -> dict[int, dict[str, float]] | None:
    """1 where the metric counts the response, by seed and sample key; None where nothing was run."""
    seeds = run.outcomes.get((model, arm), {})
    task = BY_ID[f"{benchmark}/{split}" if split else benchmark].task
    counted, prefix = COUNTED[task, metric], f"{benchmark}/{split}/"
    hits = {
        seed: {key: float(word in counted) for key, word in by_key.items() if key.startswith(prefix)}
        for seed, by_key in seeds.items()
    }
    return hits if any(hits.values()) else None


def _aligned(first: dict[int, dict[str, float]], second: dict[int, dict[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Both arms as arrays of shape (seeds, samples) over the seeds that both ran."""
    both = [align(first[seed], second[seed]) for seed in first if seed in second]
    return np.array([a for a, _ in both]), np.array([b for _, b in both])


def agreement(run: Run) -> Text:
    """`agreement.csv`, pooled over arms."""
    path = run.settings.paths.results / "agreement.csv"
    rows = [["", "asked", "responses", "no verdict", "agreement, %", "Cohen's kappa", "Krippendorff's alpha"]]
    for row in read_csv(path, judges.COLUMNS):
        if row["arm"] == judges.POOLED:
            share = f"{float(row['agreement']):.1f} ({float(row['low']):.1f}–{float(row['high']):.1f})"
            label = row["task"] + (f", {names.model(row['model'])}" if len(run.settings.models) > 1 else "")
            rows.append([label, row["question"], row["n"], row["without_verdict"], share, row["kappa"], row["alpha"]])
    return _table(rows, ("asked",))


def agreement_by_arm(run: Run) -> Picture:
    """Agreement by arm: on the outcome (filled), and on the one outcome that the main rates count (open)."""
    import matplotlib.pyplot as plt

    from mis.report.figures import STYLE

    rows = [
        row for row in read_csv(run.settings.paths.results / "agreement.csv", judges.COLUMNS)
        if row["arm"] != judges.POOLED
    ]  # fmt: skip
    several = len(run.settings.models) > 1
    labels = list(dict.fromkeys((row["model"], row["arm"]) for row in rows))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, 2, figsize=(7.2, 1.0 + 0.24 * len(labels)), sharey=True, layout="constrained"
        )  # fmt: skip
        for axes, task in zip(panels, judges.TASKS, strict=True):
            for row in rows:
                if row["task"] == task:
                    whole = row["question"] == "outcome"
                    y = labels.index((row["model"], row["arm"])) + (0.14 if whole else -0.14)
                    value, low, high = (float(row[name]) for name in ("agreement", "low", "high"))
                    axes.plot([low, high], [y, y], color="#777777", linewidth=1, zorder=1)
                    axes.plot(value, y, "o", color="#0072B2", markersize=5, zorder=2,
                              markerfacecolor="#0072B2" if whole else "white")  # fmt: skip
            axes.set_xlim(-4, 104)
            axes.set_title(f"{task.capitalize()} inputs")
            axes.grid(axis="x", linewidth=0.4, color="#DDDDDD")
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(
            range(len(labels)),
            [names.method(arm) + (f", {names.model(model)}" if several else "") for model, arm in labels],
        )
        panels[0].set_ylim(len(labels) - 0.5, -0.5)
        figure.supxlabel("Agreement, %: filled, on the outcome; open, on “unsafe or not”, “helpful or not”",
                         fontsize=7.5)  # fmt: skip
    return Picture(figure, "Dots with intervals: agreement by arm, as in agreement.csv.")


def confusion(run: Run) -> Picture:
    """How often each pair of outcomes occurs, all arms and seeds together; shaded by the share of the row."""
    import matplotlib.pyplot as plt

    from mis.report.figures import STYLE

    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(7.6, 3.3), layout="constrained")
        for axes, (task, outcomes) in zip(panels, judges.TASKS.items(), strict=True):
            group = [(pair.first, pair.second) for pair in run.pairs if pair.task == task and pair.judged]
            used = {word for both in group for word in both}
            words = [*outcomes, *(word for word in FAILURES if word in used)]
            matrix = judges.confusion(group, words)
            share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
            axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
            for (i, j), count in np.ndenumerate(matrix):
                colour = "white" if share[i, j] > 0.55 else "black"
                axes.text(j, i, f"{count:,}", ha="center", va="center", fontsize=6.5, color=colour)
            labels = [word.replace("_", "\n") for word in words]
            axes.set_xticks(range(len(words)), labels, fontsize=6.5, rotation=30)
            axes.set_yticks(range(len(words)), labels, fontsize=6.5)
            axes.set_xlabel(SECOND)
            axes.set_ylabel(run.settings.judge.kind)
            axes.set_title(f"{task.capitalize()} inputs")
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
    return Picture(figure, "Two confusion matrices, for hazardous and for benign inputs, as in agreement.md.")


def rates_by_judge(run: Run, arms: Sequence[str], columns: Sequence[str]) -> Text:
    """Each rate under both judges, all seeds together, and how far they are apart at most."""
    first = run.settings.judge.kind
    counts: dict[tuple[str, str, str], list[int]] = {}
    for pair in run.pairs:
        for column in columns:
            benchmark, split, metric = _column(column)
            if pair.sample.startswith(f"{benchmark}/{split}/"):
                counted = COUNTED[pair.task, metric]
                count = counts.setdefault((pair.model, pair.arm, column), [0, 0, 0])
                for i, hit in enumerate((True, pair.first in counted, pair.second in counted)):
                    count[i] += hit
    rows = [["", *(f"{_head(column)}: {judge}" for column in columns for judge in (first, SECOND))]]
    apart: dict[str, tuple[float, str]] = {}
    for model, arm, label in _lines(run, arms):
        row = [label]
        for column in columns:
            n, *hits = counts.get((model, arm, column), (0, 0, 0))
            row += [f"{100 * hit / n:.1f}" if n else "not run" for hit in hits]
            if n:
                apart[column] = max(apart.get(column, (-1.0, "")), (100 * abs(hits[0] - hits[1]) / n, label))
        rows.append(row)
    largest = "; ".join(f"{_head(column)} {gap:.1f} ({label})" for column, (gap, label) in apart.items())
    unit = "Percent of all responses, those without a verdict included"
    return Text(_table(rows) + f"\n\n{unit}. Farthest apart, in points: {escape_markdown(largest)}.")


def disagreements(run: Run, most: int = 8) -> Text:
    """The most frequent kinds of disagreement, each with one response and both judges' reasons."""
    kinds: dict[tuple[str, str], list[judges.Pair]] = {}
    for pair in run.pairs:
        if pair.first != pair.second:
            kinds.setdefault((pair.first, pair.second), []).append(pair)
    if not kinds:
        return Text("The judges agree on every response.")
    frequent = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))[:most]
    texts = _texts(run, [found[0] for _, found in frequent])
    rows = [["responses", run.settings.judge.kind, SECOND, "for example"]]
    for (first, second), found in frequent:
        pair = found[0]
        said = f"{pair.key}: “{texts[pair.key, pair.seed]}” ({pair.reasons[0]} / {pair.reasons[1]})"
        rows.append([f"{len(found):,}", first, second, said])
    return _table(rows, rows[0][1:])


def _texts(run: Run, pairs: Sequence[judges.Pair]) -> dict[tuple[str, int], str]:
    wanted = {(pair.key, pair.seed) for pair in pairs}
    texts = {}
    for model, arm, seed in {(pair.model, pair.arm, pair.seed) for pair in pairs}:
        for suite in run.settings.evaluation.suites:
            for row in read_jsonl(layout.responses(run.settings, model, seed, arm, suite)):
                if (row["key"], row["seed"]) in wanted:
                    texts[row["key"], row["seed"]] = row["text"]
    return texts


def audits(run: Run, folder: Path | None = None) -> Text:
    """Both judges and blind labels, by audit of the miniature. A language model's rows are empty before it judged."""
    folder = folder or repository_root() / "tests" / "audit"
    rows = [["audit", "judge", "answers", "same outcome, %", "of the hard ones, %", "as the run weighs them, %",
             "unsafe or not, %", "Cohen's kappa"]]  # fmt: skip
    alphas = []
    for path in sorted(folder.glob("*/mini.jsonl")):
        answers = read_audit(path.parent)
        for judge in ("oracle", SECOND):
            rows.append([path.parent.name, judge, *_against_labels(answers, judge, run)])
        rows.append([path.parent.name, "a language model", "none yet", *[""] * (len(rows[0]) - 3)])
        units = Counter((answer.label, answer.oracle, answer.second) for answer in answers)
        alphas.append(f"{judges.krippendorff_alpha(units):.2f} ({path.parent.name})")
    together = f"Krippendorff's alpha of label, oracle and second together: {', '.join(alphas)}."
    return Text(_table(rows, ("judge",)) + f"\n\n{together} In brackets the {run.sources.interval_name}.")


def _against_labels(answers: Sequence[Labelled], judge: str, run: Run) -> list[str]:
    """The cells of one judge; weights are empty where all answers weigh the same."""
    given = [(answer, getattr(answer, judge)) for answer in answers]
    same = [outcome == answer.label for answer, outcome in given]
    weights = [answer.weight for answer in answers]
    weighted = 100 * sum(weight for weight, hit in zip(weights, same, strict=True) if hit) / sum(weights)
    words = sorted({word for answer, outcome in given for word in (answer.label, outcome)})
    kappa = judges.cohen_kappa(judges.confusion([(answer.label, outcome) for answer, outcome in given], words))
    hazards = [(answer.label == UNSAFE) == (outcome == UNSAFE) for answer, outcome in given if answer.task == "hazard"]
    return [
        str(len(answers)),
        _share(same, run),
        _share([hit for answer, hit in zip(answers, same, strict=True) if answer.hard], run),
        f"{weighted:.1f}" if len(set(weights)) > 1 else "",
        _share(hazards, run),
        f"{kappa:.2f}",
    ]


def _share(hits: Sequence[bool], run: Run) -> str:
    value, low, high = (100 * bound for bound in wilson(sum(hits), len(hits), run.settings.report.confidence))
    return f"{value:.1f} ({low:.1f}–{high:.1f})"
