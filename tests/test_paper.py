"""The reproduction's PDF: no number in its prose is typed, and what cannot be answered stops the build."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_probe_report import write_development, write_probes

from mis import layout
from mis.benchmarks import BENCHMARKS, GENERAL
from mis.mixtures import ARMS
from mis.probes import BARE
from mis.report import latex, names
from mis.report.audit import audit
from mis.report.claims import scales
from mis.report.figures import write_figure
from mis.report.macros import CLAIM_COLUMNS, MACROS, NOT_RUN, Numbers, committed, definitions, requests
from mis.report.paper import SMALL_FIGURES, build_paper, lacking, sections_of
from mis.report.reported import ReportError
from mis.report.tables import TABLES, write_table
from mis.samples import Verdict, to_row
from mis.scoring import COLUMNS, Group, score_outcomes
from mis.settings import Settings, load
from mis.store import write_csv_atomic, write_jsonl_atomic, write_text_atomic
from mis.taxonomy import BENIGN_OUTCOMES, CATEGORIES, CHOICE_OUTCOMES, HAZARD_OUTCOMES, UNPARSABLE

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = sorted((ROOT / "paper").glob("**/*.tex"))
MODEL, SEEDS, SAMPLES = "internvl_mini", (0, 1), 40
WORDS = {"hazard": HAZARD_OUTCOMES, "benign": BENIGN_OUTCOMES, "choice": CHOICE_OUTCOMES}
needs_latex = pytest.mark.skipif(
    not (latex.installed() and shutil.which("pdftotext")), reason=f"{latex.INSTALL} poppler-utils (pdftotext)"
)


def outcome(arm: str, benchmark: str, task: str, seed: int, sample: int) -> str:
    """A made-up verdict that differs from cell to cell in a fixed way; some answers have none."""
    spread = sum(map(ord, f"{arm}{benchmark}")) + 7 * sample + 3 * seed
    return UNPARSABLE if spread % 17 == 0 else WORDS[task][spread // (1 + sample % 3) % len(WORDS[task])]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    mini = load(ROOT / "config" / "mini.yaml")
    folders = {"data": "data", "build": "build", "results": "results", "figures": "figures"}
    paths = mini.paths.model_copy(update={key: tmp_path / folder for key, folder in folders.items()})
    return mini.model_copy(update={"paths": paths, "seeds": list(SEEDS), "models": {MODEL: mini.models[MODEL]}})


def write_run(settings: Settings, arms: tuple[str, ...], change=lambda *cell: None) -> None:
    """All files of a run that the paper is made of, made up; `change` may return another verdict for a cell."""
    outcomes: dict = {}
    for arm in arms:
        for seed in SEEDS:
            rows = []
            for benchmark in BENCHMARKS:
                for i in range(SAMPLES):
                    word = change(arm, benchmark.id, seed, i) or outcome(arm, benchmark.id, benchmark.task, seed, i)
                    verdict = Verdict(benchmark.name, benchmark.split, str(i), MODEL, arm, seed, "oracle", word)
                    rows.append(to_row(verdict))
                    key = f"{benchmark.name}/{benchmark.split}/{i}"
                    outcomes.setdefault((MODEL, arm), {}).setdefault(seed, {})[key] = word
            for suite in settings.evaluation.suites:
                write_jsonl_atomic(layout.verdicts(settings, MODEL, seed, arm, suite), rows)
                rows = []
    groups = [
        Group(b.name, b.split, b.task, b.metrics, frozenset(f"{b.name}/{b.split}/{i}" for i in range(SAMPLES)))
        for b in BENCHMARKS
    ]
    cuts = ["taught", "untaught", "privacy_selfharm", *(f"category:{category}" for category in CATEGORIES)]
    groups += [
        Group("mis", cut, "hazard", BENCHMARKS[0].metrics, frozenset(f"mis/easy/{i}" for i in range(3 + n, 12 + n)))
        for n, cut in enumerate(cuts)
    ]
    write_csv_atomic(layout.scores(settings), score_outcomes(outcomes, groups, settings.scale, 0.95, 200), COLUMNS)
    claims = [(path, row) for path in ("data/reported/claims.csv", "data/claims.csv")
              for row in csv.DictReader((ROOT / path).open(encoding="utf-8", newline=""))]  # fmt: skip
    words = ("holds", "fails", "undecided", "not comparable", "not applicable")
    write_claims(settings, [
        {"id": row["id"], "source": "ours" if path == "data/claims.csv" else "paper", "statement": row["statement"],
         "reported": "" if path == "data/claims.csv" else words[i % 3], "run": words[i % 5]}
        for i, (path, row) in enumerate(claims)
    ])  # fmt: skip
    results, build = settings.paths.results, settings.paths.build
    write_text_atomic(results / "claims.tex", "% made up\nEvery claim.\n")
    write_text_atomic(results / "shape.tex", "\\begin{table}[!tbp]\\caption{Shape.}\\label{tab:shape}\\end{table}\n")
    write_text_atomic(layout.datasheet(settings), "arm,source,kind,samples\nmirage,mis_train,safety,4000\n"
                      "mirage,m4_instruct,general,500\n")  # fmt: skip
    write_text_atomic(build / "construction" / "funnel.csv", "step,kept,dropped,reason\nelements,70,0,\n"
                      "elements,0,5,malformed answer\nfiltering,60,0,\n")  # fmt: skip
    for rule in ("pretrain_base", "train_arm", "respond"):
        write_text_atomic(results / "benchmarks" / f"{rule}.tsv", "s\tmax_rss\n90.0\t500\n")
    head = json.dumps({"weight": {"dtype": "F32", "shape": [1200, 1000], "data_offsets": [0, 4]}}).encode()
    model = layout.checkpoint(settings, MODEL, 0, "base") / "model.safetensors"
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(len(head).to_bytes(8, "little") + head)


def write_claims(settings: Settings, rows: list[dict]) -> None:
    write_csv_atomic(settings.paths.results / "claims.csv", rows, CLAIM_COLUMNS)


# --- the prose

# Names, and places of the paper, that hold a digit; nothing else in the prose may.
ALLOWED = re.compile(
    r"InternVL2\.5|Qwen2-VL-7B|LLaVA-1\.5|GPT-4o|LlamaGuard3-8B|M4-Instruct|Finding [123]\b|arXiv:2501\.18533"
)
_ARGUMENTS = r"(?:\{[^{}]*\})*"
_NO_PROSE = re.compile(
    rf"\\(?:{'|'.join(MACROS)})(?![A-Za-z]){_ARGUMENTS}"
    r"|\\(?:ref|label|citet|citep|citealp|input|begin|setlength|file|texttt)\*?(?:\[[^]]*\])*" + _ARGUMENTS
    + r"|\\(?:figurefloat(?:\[[\d.]+\])?|captionfor)\{\w+\}(?:\{small/\w+\})?"
)  # fmt: skip


def typed_numbers(text: str) -> list[str]:
    """Digits of LaTeX prose that come from no macro."""
    lines = (re.sub(r"(?<!\\)%.*", "", line) for line in text.splitlines())
    return re.findall(r"\S*\d\S*", ALLOWED.sub("", _NO_PROSE.sub("", "\n".join(lines))))


@pytest.mark.parametrize("path", [p for p in SECTIONS if p.name != "main.tex"], ids=lambda path: path.stem)
def test_no_number_of_the_prose_is_typed(path):
    assert typed_numbers(path.read_text(encoding="utf-8")) == []


def test_a_typed_number_would_be_found():
    text = "ASR is 84.5, in Table~\\ref{tab:reproduced-4} \\Score{mirage}{mis/hard}{asr}. % not 3\nA 7B model, GPT-4o."
    assert typed_numbers(text) == ["84.5,", "7B"]


def test_the_body_of_the_main_file_only_includes():
    body = (ROOT / "paper" / "main.tex").read_text(encoding="utf-8").partition(r"\begin{document}")[2]
    assert typed_numbers(body) == [] and len(re.findall(r"[A-Za-z]{3,}", _NO_PROSE.sub("", body))) < 12


def test_every_number_that_the_prose_asks_for_exists(settings):
    arms = tuple(arm for arm in ARMS if not ARMS[arm].asks)
    write_run(settings, arms)
    figures = ["4", "5", "S1", "S2"]
    text = definitions(requests(sections_of(ROOT)), Numbers(settings, TABLES, figures))
    answers = dict(re.findall(r"^\\misdefine\{([^}]*)\}\{(.*)\}$", text, re.MULTILINE))
    assert len(answers) > 150
    assert [key for key, answer in answers.items() if not answer.strip() or "nan" in answer.lower()] == []
    missing = {key for key, answer in answers.items() if NOT_RUN in answer}
    assert missing <= {"Mixture/mirage_balanced/benign"}
    assert answers["Parameters"] == "1.2" and answers["Seeds"] == "seeds 0 and 1" and answers["Minutes/all"] == "4"


def test_an_arm_that_was_not_run_says_so(settings):
    write_run(settings, ("base", "mirage"))
    numbers = Numbers(settings)
    assert numbers.score("vlguard_r", "mis/hard", "asr") == NOT_RUN
    assert numbers.difference("mirage", "vlguard_r", "mis/hard", "asr") == NOT_RUN
    assert NOT_RUN in numbers.compare("mirage", "vlguard_r", "mis/hard", "asr")
    assert numbers.reported("table4", "mirage", "mis/hard", "asr") == "0.20"


# --- answers


def test_scores_carry_their_interval_and_their_failures(settings):
    def change(arm, benchmark, seed, sample):
        if (arm, benchmark) == ("base", "mis/hard"):
            return "unparsable" if sample < 4 else "unsafe"

    write_run(settings, ("base",), change)
    numbers = Numbers(settings)
    assert numbers.score("base", "mis/hard", "asr") == "90.0"
    assert re.fullmatch(
        r"90\.0\\,\\% \(\d+\.\d--\d+\.\d, 8 failed\)", numbers.score_interval("base", "mis/hard", "asr")
    )
    assert (numbers.samples("mis/hard"), numbers.count("seeds")) == ("40", "2")
    assert numbers.count("responses") == f"{len(BENCHMARKS) * SAMPLES * len(SEEDS):,}"


def test_a_difference_is_paired_and_decides_the_word(settings):
    def change(arm, benchmark, seed, sample):
        if benchmark == "mis/hard":
            return "unsafe" if sample < (30 if arm == "base" else 2) else "safe_refusal"
        if benchmark == "mis/easy":
            return "unsafe" if sample % 2 == (arm == "base") else "safe_refusal"
        if benchmark == "mis/real":
            return "unsafe" if arm == "base" else "safe_refusal"

    write_run(settings, ("base", "mirage"), change)
    numbers = Numbers(settings)
    assert numbers.difference("mirage", "base", "mis/hard", "asr").startswith("$-70.0$ points [")
    assert numbers.compare("mirage", "base", "mis/hard", "asr") == "lower than"
    assert numbers.compare("base", "mirage", "mis/hard", "asr") == "higher than"
    assert numbers.compare("base", "mirage", "mis/easy", "asr") == "not distinguishable from"
    # Where no resampling can move, the interval is Wilson's and not of width zero.
    assert numbers.difference("mirage", "base", "mis/real", "asr") == "$-100.0$ points [$-100.0$, $-91.2$]"
    assert numbers.difference("mirage", "mirage", "mis/real", "asr") == "$0.0$ points [$-8.8$, $+8.8$]"
    assert numbers.reported_difference("table4", "mirage", "base", "mis/hard", "asr") == "$-84.31$ points"


def test_the_average_weighs_benchmarks_alike(settings):
    def change(arm, benchmark, seed, sample):
        if benchmark in GENERAL:
            return "correct" if arm == "mirage" and benchmark == "mmmu" else "incorrect"

    write_run(settings, ("base", "mirage"), change)
    assert Numbers(settings).difference("mirage", "base", "average", "exact_match").startswith("$+20.0$ points")


def test_claims_are_counted_and_a_strange_verdict_is_refused(settings):
    write_run(settings, ("base", "mirage"))
    rows = [
        {"id": "C01", "source": "paper", "statement": '50 % of "A" & B', "reported": "holds",
         "run": "not applicable"},
        {"id": "M01", "source": "ours", "statement": "Ours.", "reported": "not applicable", "run": "fails"},
    ]  # fmt: skip
    write_claims(settings, rows)
    numbers = Numbers(settings)
    assert (numbers.verdict("C01"), numbers.reported_verdict("C01")) == ("does not apply", "holds")
    assert numbers.claim("C01") == r"\claimline{C01}{50 \% of ``A'' \& B}{not applicable}{holds}"
    assert numbers.claim("M01") == r"\claimline{M01}{Ours.}{fails}{}"
    assert (numbers.claim_count("paper", "any"), numbers.claim_count("ours", "fails")) == ("1", "1")
    with pytest.raises(ReportError, match="no claim 'C99'; known: C01, M01"):
        numbers.verdict("C99")
    write_claims(settings, [*rows, {**rows[0], "id": "C02", "run": "perhaps"}])
    with pytest.raises(ReportError, match="claims.csv, line 4: run is 'perhaps', no verdict"):
        Numbers(settings).verdict("C01")


def test_the_audit_is_computed_from_its_labels():
    found = audit(ROOT / "tests" / "audit" / "second")
    assert found.answers >= 200 and found.hard >= 50
    assert found.equal / found.answers >= 0.78 and 0.7 <= found.kappa < 1


# --- the committed run of another scale


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which a finished run of the scale small is committed, made up."""
    root = tmp_path / "checkout"
    folder = root / "results" / "reference"
    (folder / "small").mkdir(parents=True)
    for name in ("data", "paper", "tests"):
        (root / name).symlink_to(ROOT / name)
    (folder / "mini").symlink_to(ROOT / "results" / "reference" / "mini")
    config = (ROOT / "config" / "small.yaml").read_text(encoding="utf-8")
    write_text_atomic(folder / "small" / "config.yaml", config)
    write_text_atomic(folder / "small" / "probes" / "smollm_mini" / BARE / "run.json",
                      json.dumps({"source": {"gguf": {"name": "SmolLM2-135M-Instruct.Q4_1.gguf"}}}))  # fmt: skip
    small = committed(root, "small")
    write_probes(small, "smollm_mini")
    write_development(small)
    write_csv_atomic(folder / "small" / "scores.csv", [
        {"artifact": "small", "model": "smollm_mini", "method": arm, "benchmark": b.name, "split": b.split,
         "metric": metric, "unit": "percent", "direction": direction, "value": 25, "note": "", "seed": 0, "n": 40,
         "failures": 0, "low": 14.2, "high": 40.2}
        for arm in small.arms for b in BENCHMARKS for metric, direction in b.metrics
    ], COLUMNS)  # fmt: skip
    shutil.copy(ROOT / "results" / "reference" / "mini" / "claims.csv", folder / "small" / "claims.csv")
    scales.write_beside(small, root)
    for number in ("S3", "S4"):
        write_table(number, small, root)
    for name in SMALL_FIGURES:
        write_text_atomic(root / "figures" / "reference" / "small" / name, "a figure")
    return root


def test_the_section_about_the_small_scale_reads_what_is_committed(settings, checkout):
    assert lacking(checkout) == []
    sections = [path for path in sections_of(checkout) if path.name == "small.tex"]
    text = definitions(requests(sections), Numbers(settings, root=checkout))
    answers = dict(re.findall(r"^\\misdefine\{([^}]*)\}\{(.*)\}$", text, re.MULTILINE))
    assert len(answers) > 40 and [key for key, answer in answers.items() if not answer or NOT_RUN in answer] == []
    assert answers["LanguageModelAt/small"] == r"SmolLM2-135M-Instruct.Q4\_1"
    assert answers["KnowledgeAt/small/bare/safe or dangerous/control"] == "0.85 [0.80, 0.90]"
    assert answers["BehaviourAt/small/bare/hazardous/helps"].startswith(r"95.0\,\% (")
    assert answers["PerplexityAt/small/base"] == "22.2"
    assert answers["CurveAt/small/label/asr"] == r"10\,\% [reasons first], 15\,\% [verdict first]"
    assert answers["CurveAt/small/benign pairs/opening"].startswith("0.50 [0.40, 0.60] [250], 0.50")
    assert answers["ScoreCIAt/small/mirage/mis/hard/asr"] == r"25.0\,\% (14.2--40.2)"
    own = len((ROOT / "results" / "reference" / "mini" / "claims.csv").read_text(encoding="utf-8").splitlines()) - 1
    assert answers["SameVerdictsAt/small"] == f"{own} of {own}"
    numbers = Numbers(settings, root=checkout).at("small")
    with pytest.raises(ReportError, match="no curve 'size'; known: benign pairs, label"):
        numbers.curve("size", "auc")
    with pytest.raises(ReportError, match="no arm that was probed 'mirage_star'; known: bare, base"):
        numbers.knowledge("mirage_star", "safe or dangerous", "full")


@pytest.mark.parametrize(("auc", "words"), [
    ((0.60, 0.55, 0.70), "above chance"), ((0.40, 0.30, 0.45), "below chance"),
    ((0.60, 0.45, 0.70), "not distinguishable from chance"),
])  # fmt: skip
def test_chance_is_left_out_or_not_by_the_interval(settings, checkout, auc, words):
    path = layout.probes(committed(checkout, "small"), "smollm_mini", 0, "mirage") / "separation_summary.csv"
    rows = list(csv.DictReader(path.open()))
    for row in rows:
        row.update(zip(("auc", "low", "high"), auc, strict=True))
    write_csv_atomic(path, rows, list(rows[0]))
    numbers = Numbers(settings, root=checkout).at("small")
    assert numbers.against_chance("mirage", "mis", "score_sum") == words


def test_without_that_run_the_section_is_left_out(checkout):
    (checkout / "results" / "reference" / "small" / "scores.csv").unlink()
    assert lacking(checkout) == ["results/reference/small/scores.csv"]
    assert "small.tex" not in {path.name for path in sections_of(checkout)}


# --- mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r"\Score{mirgae}{mis/hard}{asr}", r"\\Score\{mirgae\}\{mis/hard\}\{asr\}: no arm 'mirgae'; known: base"),
        (r"\Score{mirage}{mis/hrad}{asr}", "no benchmark or metric 'mis/hrad asr'"),
        (r"\Reported{table4}{mirage_star}{mis/hard}{asr}", "prints no such value of internvl2_5_8b in table4"),
        (r"\Compare{mirage}{base}", "takes 4 arguments on one line: first arm, second arm"),
        (r"\Verdict{C999}", "no claim 'C999'"),
        (r"\Setting{world.imagesize}", "has no 'imagesize' there"),
        (r"\FigureFile{4}", "no figure among those made '4'"),
        (r"\TableFile{20}", "no table '20'; known: 1, 2"),
        (r"\Minutes{trian_arm}", "no rule with a benchmark 'trian_arm'; known: pretrain_base"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_an_error_with_its_place(settings, tmp_path, text, message):
    write_run(settings, ("base", "mirage"))
    source = tmp_path / "section.tex"
    source.write_text(f"% \\Score{{not}}{{in}}{{comments}}\n{text}\n", encoding="utf-8")
    with pytest.raises(ReportError, match="section.tex, line 2: ") as error:
        definitions(requests([source]), Numbers(settings))
    assert re.search(message, str(error.value)), error.value


def test_only_a_run_of_the_miniature_can_be_reported(settings):
    with pytest.raises(ReportError, match="'mini': the prose of paper/ reports a run of the miniature"):
        Numbers(settings.model_copy(update={"models": {}}))


def test_without_latex_the_packages_are_named(settings, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ReportError, match="apt-get install latexmk texlive-latex-recommended"):
        build_paper(settings, [], [])


def test_the_workflow_says_why_there_is_no_pdf(snakemake, tmp_path, monkeypatch):
    done = snakemake(tmp_path, "--dry-run", "paper", "--config", "scale=reported")
    assert done.code != 0 and "scale reported: the PDF reports a run of the miniature" in done.text
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "which").symlink_to(shutil.which("which"))  # the SLURM plugin looks for its tools with it
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    done = snakemake(tmp_path, "--dry-run", "paper")
    assert done.code != 0 and "apt-get install latexmk texlive-latex-recommended" in done.text
    done = snakemake(tmp_path, "--dry-run")
    assert done.code == 0 and "make_table" in done.text and "make_paper" not in done.text


# --- LaTeX


@needs_latex
def test_latex_stops_at_a_number_that_nobody_defined(tmp_path):
    main = (ROOT / "paper" / "main.tex").read_text(encoding="utf-8")
    lookup = main[main.index(r"\newcommand{\mislookup}") : main.index("% A figure keeps")]
    document = "\\documentclass{article}\n" + lookup + "\\begin{document}\\mislookup{Score/x}\\end{document}\n"
    (tmp_path / "main.tex").write_text(document, encoding="utf-8")
    with pytest.raises(ReportError, match="No number for Score/x"):
        latex.run_latexmk(tmp_path)


@needs_latex
def test_latex_stops_at_a_reference_that_leads_nowhere(tmp_path):
    document = "\\documentclass{article}\\begin{document}Table~\\ref{tab:none}\\end{document}\n"
    (tmp_path / "main.tex").write_text(document, encoding="utf-8")
    with pytest.raises(ReportError, match="Reference `tab:none' on page 1 undefined"):
        latex.run_latexmk(tmp_path)


def check(pdf: Path, folder: Path) -> str:
    """The PDF's text, after what must hold of every PDF."""
    log = (folder / "main.log").read_text(encoding="utf-8", errors="replace")
    assert [line for points, line in latex.overfull(log) if points > 2] == []
    assert "hard to read" not in log
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    assert "??" not in text and "[?]" not in text
    assert b"CreationDate" not in pdf.read_bytes()
    return text


@needs_latex
@pytest.mark.slow
def test_every_table_of_a_whole_run_fits_and_the_same_input_gives_the_same_bytes(settings, checkout):
    write_run(settings, tuple(ARMS))
    tables = [number for number in TABLES if number not in ("S3", "S4")]
    for number in tables:
        write_table(number, settings)
    figures = ["4", "5", "9", "S1", "S2"]
    for number in figures:
        write_figure(number, settings)
    for number in ("S3", "S4"):  # the committed run's
        write_figure(number, committed(checkout, "small"), checkout)
    pdf = build_paper(settings, tables, figures, checkout)
    text = check(pdf, settings.paths.build / "paper")
    for number in TABLES:
        assert re.search(rf"^\s*Table {number}:", text, re.MULTILINE), number
    for words in ("Figure S3:", "Figure S4:", "The claims at two scales", "Separation."):
        assert words in text
    for arm in ("mirage", "vlguard_p", "mirage_direct"):
        assert names.method(arm) in text
    first = pdf.read_bytes()
    assert build_paper(settings, tables, figures, checkout).read_bytes() == first


@needs_latex
@pytest.mark.slow
def test_a_pdf_without_the_small_scale_says_so(settings, checkout):
    (checkout / "results" / "reference" / "small" / "scores.csv").unlink()
    write_run(settings, ("base", "mirage"))
    for number in ("4", "5", "S1", "S2"):
        write_figure(number, settings)
    write_table("7", settings)
    text = check(build_paper(settings, ["7"], ["4", "5", "S1", "S2"], checkout), settings.paths.build / "paper")
    assert re.search(r"no\s+finished\s+run\s+of\s+the\s+scale\s+small\s+is\s+committed", text)
    assert "results/reference/small/scores.csv" in re.sub(r"\s", "", text), "it may be broken over lines"
    assert "The claims at two scales" not in text


@needs_latex
@pytest.mark.slow
def test_the_workflow_makes_the_pdf(smoke_run):
    results = smoke_run / "results" / "smoke"
    text = check(results / "reproduction.pdf", smoke_run / "build" / "smoke" / "paper")
    assert "a reproduction in miniature" in text and "not run" in text
    made = [path.stem.removeprefix("table") for path in (results / "tables").glob("*.tex")]
    assert made and [number for number in made if not re.search(rf"^\s*Table {number}:", text, re.MULTILINE)] == []
    assert "2" in made or "Table 2 is left out" in text
