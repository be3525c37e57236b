# What can be drawn, from what, and what is drawn by default.
from os.path import relpath

TABLES = [*map(str, range(1, 20)), "S1", "S2"]
FIGURES = ["4", "5", "7", "9", "S1"]
# Tables that show the data or the settings; the others show scores, if there is a model to be scored.
FROM_CONSTRUCTION = {"3"}
FROM_MIXTURES = {"7"}
FROM_PAPER = {"18", "19"}
if MODELS:
    COVERED_TABLES, COVERED_FIGURES = ["1", "2", "3", "4", "5", "6", "7", "11", "12", "S1", "S2"], FIGURES
else:
    COVERED_TABLES, COVERED_FIGURES = TABLES[:19], ["4", "5", "7"]

HEADLINE = f"{RESULTS}/headline.md"
COMPARISON = [f"{RESULTS}/comparison.csv", f"{RESULTS}/comparison.md"]
REFERENCE = relpath(ROOT / "results" / "reference" / settings.scale / "scores.csv")
PAPER = sorted(relpath(path) for path in ROOT.glob("data/**/*") if path.suffix in {".csv", ".yaml"})


def table_files(number):
    return [f"{RESULTS}/tables/table{number}.{format}" for format in ("csv", "md", "tex")]


def figure_files(number):
    return [f"{settings.paths.figures}/figure{number}.{format}" for format in ("pdf", "png")]


def sources_of(wildcards):
    """What a table or figure is drawn from, besides the paper's own numbers."""
    if not MODELS or wildcards.number in FROM_PAPER:
        return []
    if wildcards.number in FROM_CONSTRUCTION:
        return rules.construct_mis.output
    if wildcards.number in FROM_MIXTURES:
        return rules.mix_arms.output.datasheet
    return SCORES


def refuse(wildcards):
    known = [*(f"table{number}" for number in TABLES), *(f"figure{number}" for number in FIGURES)]
    raise WorkflowError(f"unknown target {wildcards.artifact!r}; known: {', '.join(known)}")


COVERED = [
    *(file for number in COVERED_TABLES for file in table_files(number)),
    *(file for number in COVERED_FIGURES for file in figure_files(number)),
    *([SCORES, HEADLINE] if MODELS else []),
    *(COMPARISON if MODELS and Path(REFERENCE).is_file() else []),
]
