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
        evaluation=values(settings.evaluation) | {"suites": None},
        benchmarks=lambda wildcards: settings.evaluation.suites[wildcards.suite],
        library=library("mis.responding", "mis.models", "mis.suites"),
    message:
        "Asking {wildcards.arm} of {wildcards.model}, seed {wildcards.seed}: suite {wildcards.suite}"
    shell:
        "python -m mis respond {wildcards.suite} --arm {wildcards.arm} --model {wildcards.model}"
        " --seed {wildcards.seed} --config {params.config} 2>&1 | tee {log}"


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


rule score:
    input:
        of_all_models(VERDICTS),
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
