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
        library=library("mis.miniature"),
    message:
        "Constructing MIS: elements, instructions, pictures, filtering"
    shell:
        "python -m mis construct --config {params.config} 2>&1 | tee {log}"


# The miniature has a stand-in for the model that writes thoughts, and mixes all arms at once.
if settings.world is not None:

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


# --- The public datasets: fetched and checked against the lock, labels written, an arm mixed for itself.
if settings.world is None:

    rule label_thoughts:
        input:
            MIXTURES_OF_THINKERS,
        output:
            THOUGHTS,
        log:
            f"{LOGS}/label_thoughts.log",
        benchmark:
            f"{BENCHMARKS}/label_thoughts.tsv"
        conda:
            "../../environment.yml"
        threads: 2
        resources:
            mem_mb=4000,
            gpu=0,
        params:
            config=CONFIG,
            labelling=values(settings.sources.labelling.get("thoughts")),
            library=library("mis.data.label"),
        message:
            "A model writes thoughts"
        shell:
            "python -m mis data label thoughts --config {params.config} 2>&1 | tee {log}"

    rule mix_arms:
        input:
            arm_data,
        output:
            mixture=str(layout.mixture(settings, "{arm}")),
            page=str(layout.datasheet_page(settings, "{arm}")),
        log:
            f"{LOGS}/mix_arms/{{arm}}.log",
        benchmark:
            f"{BENCHMARKS}/mix_arms/{{arm}}.tsv"
        wildcard_constraints:
            arm="|".join(TRAINED) or "$.",
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=16000,
            gpu=0,
        params:
            config=CONFIG,
            sources=values(settings.sources) | {"labelling": None, "lock": None},
            library=library("mis.mixing"),
        message:
            "Mixing the training set of {wildcards.arm}"
        shell:
            "python -m mis mix --arm {wildcards.arm} --config {params.config} 2>&1 | tee {log}"

    rule count_mixtures:
        input:
            MIXTURES,
        output:
            DATASHEET,
        log:
            f"{LOGS}/count_mixtures.log",
        benchmark:
            f"{BENCHMARKS}/count_mixtures.tsv"
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
            "Counting the training sets of the arms"
        shell:
            "python -m mis mix --sheet --config {params.config} 2>&1 | tee {log}"


rule fetch_data:
    output:
        str(layout.fetched(settings, "{dataset}")),
    log:
        f"{LOGS}/fetch_data/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/fetch_data/{{dataset}}.tsv"
    wildcard_constraints:
        dataset="[a-z0-9_]+",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        gpu=0,
    params:
        config=CONFIG,
        lock=settings.sources.lock,
        library=library("mis.data.fetch"),
    message:
        "Fetching {wildcards.dataset}, or checking it against {params.lock}"
    shell:
        "python -m mis data fetch {wildcards.dataset} --for-run --config {params.config} --lock {params.lock}"
        " 2>&1 | tee {log}"


rule build_benign:
    input:
        [] if settings.world else data_of("m4_instruct", "muirbench"),
    output:
        f"{DATA}/benign_control/mis_benign.json",
        [f"{DATA}/benign_pairs/mis_train.json"] if benign_training() else [],
    log:
        f"{LOGS}/build_benign.log",
    benchmark:
        f"{BENCHMARKS}/build_benign.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=16000,
        gpu=0,
    params:
        config=CONFIG,
        training=benign_training(),
        library=library("mis.data.benign"),
    message:
        "Harmless pairs of pictures from M4-Instruct and MuirBench"
    shell:
        "python -m mis data benign --training {params.training} --config {params.config} 2>&1 | tee {log}"


for source, variant in LABELS:

    rule:
        name:
            f"label_{variant}"
        input:
            data_of(source),
        output:
            f"{DATA}/{source}/labels/{variant}.jsonl",
        log:
            f"{LOGS}/label_{variant}.log",
        benchmark:
            f"{BENCHMARKS}/label_{variant}.tsv"
        conda:
            "../../environment.yml"
        threads: 2
        resources:
            mem_mb=4000,
            gpu=0,
        params:
            config=CONFIG,
            variant=variant.removesuffix("_anew"),
            anew="--anew" if variant.endswith("_anew") else "",
            labelling=values(settings.sources.labelling.get(variant.removesuffix("_anew"))),
            library=library("mis.data.label"),
        message:
            f"A model writes labels: {variant}"
        shell:
            "python -m mis data label {params.variant} {params.anew} --config {params.config} 2>&1 | tee {log}"


rule find_leaks:
    input:
        str(layout.mixture(settings, "{arm}")),
        suite_data,
    output:
        LEAKS,
    log:
        f"{LOGS}/find_leaks/{{arm}}_{{suite}}.log",
    benchmark:
        f"{BENCHMARKS}/find_leaks/{{arm}}_{{suite}}.tsv"
    wildcard_constraints:
        arm="|".join(TRAINED) or "$.",
    conda:
        "../envs/leaks.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        gpu=0,
    params:
        config=CONFIG,
        benchmarks=lambda wildcards: settings.evaluation.suites[wildcards.suite],
        library=library("mis.data.leaks"),
    message:
        "Looking for samples of {wildcards.suite} in the training set of {wildcards.arm}"
    shell:
        "python -m mis data leaks {wildcards.suite} --arm {wildcards.arm} --report --config {params.config} 2>&1 | tee {log}"


# Apart from the search, so that its table outlives the failure.
rule check_leaks:
    input:
        LEAKS,
    output:
        touch(NO_LEAKS),
    log:
        f"{LOGS}/check_leaks/{{arm}}_{{suite}}.log",
    benchmark:
        f"{BENCHMARKS}/check_leaks/{{arm}}_{{suite}}.tsv"
    wildcard_constraints:
        arm="|".join(TRAINED) or "$.",
    priority: 10
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        gpu=0,
    params:
        config=CONFIG,
        library=library("mis.data.leaks"),
    message:
        "Is {wildcards.arm} trained on a sample of {wildcards.suite}?"
    shell:
        "python -m mis data leaks {wildcards.suite} --arm {wildcards.arm} --found --config {params.config} 2>&1 | tee {log}"


rule list_inputs:
    input:
        [] if settings.world else data_of(*INPUTS),
    output:
        INPUTS_LISTED,
    log:
        f"{LOGS}/list_inputs.log",
    benchmark:
        f"{BENCHMARKS}/list_inputs.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        gpu=0,
    params:
        config=CONFIG,
        library=library("mis.data.inputs"),
    message:
        "Listing the datasets that were read"
    shell:
        "python -m mis data inputs --config {params.config} 2>&1 | tee {log}"
