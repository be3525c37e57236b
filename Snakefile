# The study as a graph of files; docs/architecture.md names each step, what it calls and what it writes.
#
#   snakemake --cores all                              everything, in miniature (config/mini.yaml)
#   snakemake --cores all table4                       one piece; `snakemake --list-target-rules` names them
#   snakemake --cores all --config seeds=[0,1,2]       laid over the scale's file
#   snakemake --cores all --config scale=smoke         short for --configfile config/smoke.yaml


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/artifacts.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/construction.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/reporting.smk"


rule all:
    default_target: True
    input:
        COVERED,
    message:
        "Everything is there"


rule construction:
    input:
        rules.release_mis.output,


rule development:
    input:
        rules.development_curves.output,


rule scores:
    input:
        SCORES,


rule claims:
    input:
        CLAIMS,


rule drift:
    input:
        DRIFT,


rule leaks:
    input:
        expand(LEAKS, arm=TRAINED, suite=SUITES),


rule probes:
    input:
        probes_of(*MODELS),


rule headline:
    input:
        HEADLINE,


rule browser:
    input:
        BROWSER,


rule paper:
    input:
        reproduction,


rule notebooks:
    input:
        [notebook_files(name) for name in NOTEBOOKS],


for number in TABLES:

    rule:
        name:
            f"table{number}"
        input:
            table_files(number),


for number in FIGURES:

    rule:
        name:
            f"figure{number}"
        input:
            figure_files(number),


onstart:
    write_if_changed(settings, Path(CONFIG))


# A dry run of a scale that costs something says what.
if settings.planning:
    logger.addHandler(CostTable(workflow, settings))


onsuccess:
    print(f"Done. Tables are in {settings.paths.results}/tables, figures in {settings.paths.figures}.")
    if NO_PDF and MODELS:
        print(f"{REPRODUCTION} was not made: {NO_PDF}.")
