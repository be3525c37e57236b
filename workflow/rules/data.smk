# The data: the miniature's datasets in public layouts, the construction of MIS, and the arms' training sets.


rule write_world:
    output:
        manifest=f"{DATA}/manifest.json",
    log:
        f"{LOGS}/write_world.log",
    benchmark:
        f"{BENCHMARKS}/write_world.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=3000,
        gpu=0,
    params:
        config=CONFIG,
        world=values(settings.world),
        library=library("mis.miniature"),
    message:
        "Writing the miniature world"
    shell:
        "python -m mis world --config {params.config} 2>&1 | tee {log}"


rule construct_mis:
    input:
        rules.write_world.output,
    output:
        funnel=f"{BUILD}/construction/funnel.csv",
    log:
        f"{LOGS}/construct_mis.log",
    benchmark:
        f"{BENCHMARKS}/construct_mis.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=3000,
        gpu=0,
    params:
        config=CONFIG,
        library=library("mis.construction", "mis.miniature"),
    message:
        "Constructing MIS: elements, instructions, pictures, filtering"
    shell:
        "python -m mis construct --config {params.config} 2>&1 | tee {log}"


rule write_thoughts:
    input:
        rules.write_world.output,
    output:
        THOUGHTS,
    log:
        f"{LOGS}/write_thoughts.log",
    benchmark:
        f"{BENCHMARKS}/write_thoughts.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=0,
    params:
        config=CONFIG,
        library=library("mis.miniature.thoughts"),
    message:
        "Writing thoughts for a reasoning model"
    shell:
        "python -m mis think --config {params.config} 2>&1 | tee {log}"


rule mix_arms:
    input:
        rules.construct_mis.output,
    output:
        datasheet=DATASHEET,
        mixtures=[f"{BUILD}/mixtures/{arm}.jsonl" for arm in TRAINED],
    log:
        f"{LOGS}/mix_arms.log",
    benchmark:
        f"{BENCHMARKS}/mix_arms.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=0,
    params:
        config=CONFIG,
        library=library("mis.mixing"),
    message:
        "Mixing the training sets of the arms"
    shell:
        "python -m mis mix --config {params.config} 2>&1 | tee {log}"
