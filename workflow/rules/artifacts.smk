# What can be drawn, from what, and what is drawn by default.
import re
from os.path import relpath

import yaml

from mis.report import cases, latex, names
from mis.report.reported import Reported, read_analogues

TABLES = [*map(str, range(1, 20)), "S1", "S2", "S3", "S4"]
FIGURES = [*map(str, range(1, 17)), "S1", "S2", "S3", "S4"]
# Tables that show the data or the settings; the others show scores, if there is a model to be scored.
FROM_CONSTRUCTION = {"3"}
FROM_MIXTURES = {"7"}
FROM_PAPER = {"18", "19"}
FROM_PROBES = {"S3", "S4"}
# Figures that show the data or single answers; the others show scores.
FIGURES_FROM_CONSTRUCTION = {"2", "3", "7", "8"}
# Tables that any run draws; another is drawn if the run has a number to put beside the paper's, or into ours.
ALWAYS = {"3", "7"}
OF_TIMES = "10"
paper, analogues = Reported(ROOT), read_analogues(ROOT)
PROBED = [model for model in MODELS if probed(model)]
# The miniature's world in natural English.
NATURAL = settings.world is not None and settings.world.english == "natural"


def reproduced(number):
    """Does this table show a number of the run?"""
    if number in FROM_PROBES:
        return bool(PROBED)
    if number == OF_TIMES:
        beside = {(analogues.reported_model(model), arm) for model in MODELS for arm in timed(model)}
        return bool(beside & set(paper.rows(f"table{number}")))
    return bool(needed(settings, f"table{number}", ROOT))


def drawn(number):
    """Does this figure show anything of the run?"""
    if number in FROM_PROBES:
        return bool(PROBED)
    return number not in cases.CASES or bool(cases.files(settings, number))


if MODELS:
    COVERED_TABLES = [number for number in TABLES if number in ALWAYS or reproduced(number)]
    COVERED_FIGURES = [number for number in FIGURES if drawn(number)]
else:
    COVERED_TABLES, COVERED_FIGURES = TABLES[:19], ["4", "5", "7"]

HEADLINE = f"{RESULTS}/headline.md"
HEADLINE_PAGE = f"{RESULTS}/headline.html"
CLAIMS_PAGE = f"{RESULTS}/claims.html"
# Tables and figures that are drawn by default, by the names of their targets.
ARTIFACTS = [*(f"table{number}" for number in COVERED_TABLES), *(f"figure{number}" for number in COVERED_FIGURES)]
# The claims' verdicts; of a run also whether its arms stand in the paper's order.
CLAIMS = [
    f"{RESULTS}/{name}.{format}"
    for name in ["claims", *(["shape"] if MODELS else []), *(["claims_by_scale"] if settings.report.beside else [])]
    for format in ("csv", "md", "tex")
]
# The committed verdicts that stand beside the run's own, where the configuration names them.
BESIDE = [settings.report.beside] if settings.report.beside else []
CLAIMS_BESIDE = [relpath(ROOT / "results" / "reference" / scale / "claims.csv") for scale in BESIDE]
BROWSER = f"{RESULTS}/browser"
# The PDF. Where LaTeX is missing all else is made, and the end of the run says so.
REPRODUCTION = f"{RESULTS}/reproduction.pdf"
# What the PDF shows of the scale small.
COMMITTED = sorted(
    relpath(path)
    for kind in ("results", "figures")
    for path in (ROOT / kind / "reference" / "small").rglob("*")
    if path.is_file()
)
PROSE = sorted(relpath(path) for path in (ROOT / "paper").glob("**/*") if path.suffix in {".tex", ".bib"})
AUDIT = sorted(relpath(path) for path in (ROOT / "tests" / "audit" / "second").iterdir())
AUDITS = sorted(
    relpath(path) for answers in (ROOT / "tests" / "audit").glob("*/mini.jsonl") for path in answers.parent.iterdir()
)
if not MODELS or settings.world is None:
    NO_PDF = "the PDF reports a run of the miniature, and this is none"
elif NATURAL:
    NO_PDF = "the PDF reports a run of the miniature, and of this scale what is committed under results/reference"
else:
    NO_PDF = "" if latex.installed() else latex.INSTALL
# What two judges agree on, and the notebooks. The second judge knows the miniature only.
AGREEMENT = [f"{RESULTS}/{name}" for name in ("agreement.csv", "agreement.md", "disagreements.csv")]
# Another judge on the same answers: how far it agrees, and which claims it turns. At the paper's scale those judges of the
# configuration that are not the run's own.
OTHER_JUDGES = [name for name in settings.judges if name not in ("rubric", "guard", "refusal")]
DRIFT = [
    file
    for judge in (OTHER_JUDGES if settings.judge.kind == "models" else ["second"])
    for file in drift_files(judge, "agreement.csv", "agreement.md", "disagreements.csv", "flips.csv", "flips.md")
]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) if settings.world is not None else []
# The second judge reads the miniature's plain English alone.
OF_TWO_JUDGES = {"judge_agreement"}
if NATURAL:
    NOTEBOOKS = [name for name in NOTEBOOKS if name not in OF_TWO_JUDGES]
# Curves on the development split: of the optional arms, and those that are there.
DEVELOPMENT_CURVES = str(layout.development(settings) / "curves.csv")
CURVES = sorted(
    {
        *(str(path) for path in layout.development(settings).glob("*.csv")),
        *([DEVELOPMENT_CURVES] if settings.families == "all" and PROBED else []),
    }
)
COMPARISON = [f"{RESULTS}/comparison.csv", f"{RESULTS}/comparison.md"]
REFERENCE = relpath(ROOT / "results" / "reference" / settings.scale / "scores.csv")
PAPER = sorted(relpath(path) for path in ROOT.glob("data/**/*") if path.suffix in {".csv", ".yaml"})


def table_files(number, *formats):
    return [f"{RESULTS}/tables/table{number}.{format}" for format in formats or ("csv", "md", "tex", "html")]


def figure_files(number, *formats):
    return [f"{settings.paths.figures}/figure{number}.{format}" for format in formats or ("pdf", "png")]


def sources_of(wildcards):
    """What a table is drawn from, besides the paper's own numbers."""
    if not MODELS or wildcards.number in FROM_PAPER:
        return []
    if wildcards.number in FROM_CONSTRUCTION:
        return MIS_DATA
    if wildcards.number in FROM_MIXTURES:
        return DATASHEET
    scores = [scores_of(f"table{wildcards.number}")]
    return [*scores, *probes_of(*PROBED)] if wildcards.number in FROM_PROBES else scores


def figure_sources_of(wildcards):
    """What a figure is drawn from, besides the paper's own numbers."""
    if not MODELS:
        return []
    if wildcards.number in FIGURES_FROM_CONSTRUCTION:
        return MIS_DATA
    if wildcards.number in cases.CASES:
        return [str(path) for path in cases.files(settings, wildcards.number)]
    scores = [scores_of(f"figure{wildcards.number}"), *([DATASHEET] if settings.report.scores == "run" else [])]
    return [*scores, *probes_of(*PROBED), *CURVES] if wildcards.number in FROM_PROBES else scores


def scores_of(artifact):
    """The scores that a table or figure is drawn from."""
    return str(layout.scores(settings, artifact))


def scored_of(wildcards):
    """What the scores of one table or figure are counted from: its verdicts; for some, times or the mixtures' sizes."""
    beside = measured(wildcards.artifact)
    return [
        *of_artifact(VERDICTS, wildcards.artifact),
        *general_of(wildcards.artifact),
        *(measurements(TIMES) if "times" in beside else []),
        *([DATASHEET] if "shares" in beside else []),
    ]


def judged_twice(wildcards):
    return [*AGREEMENT, *of_all_models(REJUDGED)] if wildcards.notebook in OF_TWO_JUDGES else []


def notebook_files(name):
    return [f"{RESULTS}/notebooks/{name}.{format}" for format in ("ipynb", "html")]


def reproduction(wildcards):
    """The PDF, or why there can be none."""
    if NO_PDF:
        raise WorkflowError(f"scale {settings.scale}: {NO_PDF}")
    return REPRODUCTION


def refuse(wildcards):
    known = [*(f"table{number}" for number in TABLES), *(f"figure{number}" for number in FIGURES)]
    raise WorkflowError(f"unknown target {wildcards.artifact!r}; known: {', '.join(known)}")


def table_labels(wildcards, output):
    """What the report's list says of a table, from the head of its Markdown: "## Table 4: ASR on ..."."""
    with open(output[1], encoding="utf-8") as file:
        return {"No.": wildcards.number.zfill(2), "Shows": file.readline().partition(": ")[2].strip().rstrip(".")}


def figure_labels(wildcards):
    if wildcards.number in cases.CASES:
        shows = cases.CASES[wildcards.number].title
    else:
        from mis.report.figures import FIGURES  # late: it imports Matplotlib, and only the report asks

        shows = FIGURES[wildcards.number].__doc__.strip().splitlines()[0].replace("`", "")
    return {"No.": wildcards.number.zfill(2), "Shows": shows.rstrip(".")}


def description():
    """What the pages of workflow/report/ say of the run, escaped for reStructuredText."""

    def escaped(text):
        return re.sub(r"([^\w\s])", r"\\\1", text)

    return {
        "scale": escaped(settings.scale),
        "world": (
            "a made-up world of drawings" if settings.world else "public datasets" if MODELS else "the paper alone"
        ),
        "seeds": ", ".join(map(str, settings.seeds)),
        "models": [
            (escaped(names.model(model)), escaped(", ".join(map(names.method, settings.arms_of(model)))))
            for model in MODELS
        ],
        "configuration": yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    }


config["description"] = description()

COVERED = [
    *CLAIMS,
    *(file for number in COVERED_TABLES for file in table_files(number)),
    *(file for number in COVERED_FIGURES for file in figure_files(number)),
    *([SCORES, HEADLINE, BROWSER] if MODELS else []),
    *(INPUTS_LISTED if MODELS and settings.world is None else []),
    *(file for name in NOTEBOOKS for file in notebook_files(name)),
    *(COMPARISON if MODELS and Path(REFERENCE).is_file() else []),
    *([] if NO_PDF else [REPRODUCTION]),
]
