# The construction of MIS as a dataset of its own: the release of what was constructed, and, where the configuration has a
# section `construction`, the construction by real models and people. The miniature's own is in data.smk.


rule construct_with_models:
    input:
        construction_data(),
    output:
        published=f"{BUILD}/construction/published.json",
    log:
        f"{LOGS}/construct_with_models.log",
    benchmark:
        f"{BENCHMARKS}/construct_with_models.tsv"
    conda:
        "../envs/painting.yaml"
    threads: 4
    resources:
        mem_mb=64000,
        gpu=painter_gpus(),
    params:
        config=CONFIG,
        construction=values(settings.construction),
        library=library("mis.construction.full_size"),
    message:
        "Constructing MIS with models: it stops where people are to decide, and goes on with the same command"
    shell:
        "python -m mis construct --config {params.config} 2>&1 | tee {log}"


rule release_mis:
    input:
        constructed,
    output:
        card=f"{RELEASE}/README.md",
        croissant=f"{RELEASE}/croissant.json",
    log:
        f"{LOGS}/release_mis.log",
    benchmark:
        f"{BENCHMARKS}/release_mis.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=3000,
        gpu=0,
    params:
        config=CONFIG,
        library=library("mis.report.release", "mis.miniature.scenes"),
    message:
        "Making the constructed MIS a dataset that others can load"
    shell:
        "python -m mis release --config {params.config} 2>&1 | tee {log}"
