# Asking every arm every question, judging the answers, and counting.


rule respond:
    input:
        checkpoint=weights,
        features=FEATURES,
    output:
        RESPONSES,
    log:
        f"{LOGS}/respond/{{model}}_seed{{seed}}_{{arm}}_{{suite}}.log",
    benchmark:
        f"{BENCHMARKS}/respond/{{model}}_seed{{seed}}_{{arm}}_{{suite}}.tsv"
    conda:
        "../../environment.yml"
    threads: settings.evaluation.threads
    resources:
        mem_mb=3000,
        gpu=0,
    params:
        config=CONFIG,
        evaluation=answering,
        benchmarks=lambda wildcards: settings.evaluation.suites[wildcards.suite],
        library=library("mis.responding", "mis.models", "mis.suites"),
    message:
        "Asking {wildcards.arm} of {wildcards.model}, seed {wildcards.seed}: suite {wildcards.suite}"
    shell:
        "python -m mis respond {wildcards.suite} --arm {wildcards.arm} --model {wildcards.model}"
        " --seed {wildcards.seed} --config {params.config} 2>&1 | tee {log}"


rule measure_skills:
    input:
        rules.construct_mis.output,
        BASE,
    output:
        SKILLS,
    log:
        f"{LOGS}/measure_skills/{{model}}_seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/measure_skills/{{model}}_seed{{seed}}.tsv"
    conda:
        "../../environment.yml"
    threads: settings.evaluation.threads
    resources:
        mem_mb=3000,
        gpu=0,
    params:
        config=CONFIG,
        arms=lambda wildcards: asks(wildcards.model),
        evaluation=values(settings.evaluation) | {"suites": None, "latency": None},
        confidence=settings.report.confidence,
        library=library("mis.skills", "mis.models"),
    message:
        "Checking the skills that ways of asking need: {wildcards.model}, seed {wildcards.seed}"
    shell:
        "python -m mis skills {wildcards.model} --seed {wildcards.seed} --config {params.config} 2>&1 | tee {log}"


# All cores, so that no other job of this run is beside it.
rule measure_latency:
    input:
        timed_checkpoints,
    output:
        TIMES,
    log:
        f"{LOGS}/measure_latency/{{model}}_seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/measure_latency/{{model}}_seed{{seed}}.tsv"
    conda:
        "../../environment.yml"
    threads: workflow.cores
    resources:
        mem_mb=3000,
        gpu=0,
    params:
        config=CONFIG,
        evaluation=values(settings.evaluation) | {"suites": None, "prompts": None},
        library=library("mis.latency", "mis.models"),
    message:
        "Timing single answers: {wildcards.model}, seed {wildcards.seed}"
    shell:
        "python -m mis latency {wildcards.model} --seed {wildcards.seed} --config {params.config} 2>&1 | tee {log}"


# A rule a model, because models may have different arms: one job judges them all, for imports cost more than judging.
for model in MODELS:

    rule:
        name:
            f"judge_{model}"
        input:
            of_model(RESPONSES, model),
        output:
            of_model(VERDICTS, model),
        log:
            f"{LOGS}/judge/{model}_seed{{seed}}.log",
        benchmark:
            f"{BENCHMARKS}/judge/{model}_seed{{seed}}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=2000,
            gpu=0,
        params:
            config=CONFIG,
            model=model,
            judge=values(settings.judge),
            library=library("mis.judges", "mis.suites"),
        message:
            "Judging the answers of {params.model}, seed {wildcards.seed}"
        shell:
            "python -m mis judge --model {params.model} --seed {wildcards.seed} --config {params.config} 2>&1 | tee {log}"


# The same answers by a judge that was written without sight of the first; the verdicts stay as they are.
for model in MODELS:

    rule:
        name:
            f"rejudge_{model}"
        input:
            of_model(RESPONSES, model),
        output:
            of_model(REJUDGED, model),
        log:
            f"{LOGS}/rejudge/{model}_seed{{seed}}.log",
        benchmark:
            f"{BENCHMARKS}/rejudge/{model}_seed{{seed}}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=2000,
            gpu=0,
        params:
            config=CONFIG,
            model=model,
            library=library("mis.judges", "mis.suites"),
        message:
            "Judging the answers of {params.model}, seed {wildcards.seed}, once more"
        shell:
            "python -m mis rejudge --judge second --model {params.model} --seed {wildcards.seed}"
            " --config {params.config} 2>&1 | tee {log}"


rule agree:
    input:
        of_all_models(VERDICTS),
        of_all_models(REJUDGED),
    output:
        AGREEMENT,
    log:
        f"{LOGS}/agree.log",
    benchmark:
        f"{BENCHMARKS}/agree.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=0,
    params:
        config=CONFIG,
        report=values(settings.report),
        library=library("mis.judges.agreement"),
    message:
        "How far the two judges agree"
    shell:
        "python -m mis agree --judge second --config {params.config} 2>&1 | tee {log}"


rule score:
    input:
        of_all_models(VERDICTS),
        measurements(),
        DATASHEET,
    output:
        SCORES,
    log:
        f"{LOGS}/score.log",
    benchmark:
        f"{BENCHMARKS}/score.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=0,
    params:
        config=CONFIG,
        report=values(settings.report),
        library=library("mis.scoring"),
    message:
        "Scoring"
    shell:
        "python -m mis score --config {params.config} 2>&1 | tee {log}"
