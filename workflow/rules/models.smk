# Models that others have trained: base models from the hub or a folder, fetched at their commit, converted where need be,
# one for all seeds; and a pretrained language model that a base model is built on.


rule fetch_base:
    output:
        TAKEN_BASE,
    log:
        f"{LOGS}/fetch_base/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/fetch_base/{{model}}.tsv"
    wildcard_constraints:
        model="|".join(TAKEN) or "$.",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=weights_mb,
        gpu=0,
    params:
        config=CONFIG,
        model=lambda wildcards: settings.models[wildcards.model].model_dump(
            mode="json", include={"family", "source", "cutting"}
        ),
        library=library("mis.taking"),
    message:
        "Fetching {wildcards.model}"
    shell:
        "python -m mis model fetch {wildcards.model} --config {params.config} 2>&1 | tee {log}"


rule extract_backbone:
    output:
        BACKBONE,
    log:
        f"{LOGS}/extract_backbone.log",
    benchmark:
        f"{BENCHMARKS}/extract_backbone.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        gpu=0,
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        library=library("mis.models.smollm"),
    message:
        "Unpacking the pretrained language model"
    shell:
        "python -m mis backbone {params.folder} 2>&1 | tee {log}"
