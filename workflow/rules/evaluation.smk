# Asking every arm every question, judging the answers, and counting.


rule respond:
    input:
        checkpoint=weights,
        features=stored_features,
        service=arm_service,
        data=suite_data,
        unleaked=unleaked,
    output:
        RESPONSES,
    log:
        f"{LOGS}/respond/{{model}}_seed{{seed}}_{{arm}}_{{suite}}.log",
    benchmark:
        f"{BENCHMARKS}/respond/{{model}}_seed{{seed}}_{{arm}}_{{suite}}.tsv"
    conda:
        "../../environment.yml"
    threads: asking_threads
    resources:
        mem_mb=weights_mb,
        gpu=answering_gpus,
        runtime=minutes("respond"),
    params:
        config=CONFIG,
        evaluation=answering,
        benchmarks=lambda wildcards: settings.evaluation.suites[wildcards.suite],
        library=library("mis.answering", "mis.models", "mis.suites"),
    message:
        "Asking {wildcards.arm} of {wildcards.model}, seed {wildcards.seed}: suite {wildcards.suite}"
    shell:
        "python -m mis respond {wildcards.suite} --arm {wildcards.arm} --model {wildcards.model}"
        " --seed {wildcards.seed} --config {params.config} 2>&1 | tee {log}"


rule measure_skills:
    input:
        rules.construct_mis.output,
        base,
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
        evaluation=values(settings.evaluation) | {"suites": None, "latency": None, "probes": None},
        confidence=settings.report.confidence,
        library=library("mis.skills", "mis.models"),
    message:
        "Checking the skills that ways of asking need: {wildcards.model}, seed {wildcards.seed}"
    shell:
        "python -m mis skills {wildcards.model} --seed {wildcards.seed} --config {params.config} 2>&1 | tee {log}"


# All cores, so that no other job of this run is beside it; a cluster's profile asks for a machine of its own instead.
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
    threads: ALL_CORES
    resources:
        mem_mb=weights_mb,
        gpu=answering_gpus,
        runtime=240,
    params:
        config=CONFIG,
        evaluation=values(settings.evaluation) | {"suites": None, "prompts": None, "probes": None},
        library=library("mis.latency", "mis.models"),
    message:
        "Timing single answers: {wildcards.model}, seed {wildcards.seed}"
    shell:
        "python -m mis latency {wildcards.model} --seed {wildcards.seed} --config {params.config} 2>&1 | tee {log}"


# By likelihood: what an arm knows, how far it separates hazardous pairs, what is left of its ability in text.
rule probe_arm:
    input:
        checkpoint=weights,
        features=stored_features,
        data=MIS_DATA,
    output:
        expand(f"{PROBES}/{{file}}", file=[*PROBED_IN_TEXT, *PROBED_BEHIND_PICTURES], allow_missing=True),
    log:
        f"{LOGS}/probe_arm/{{model}}_seed{{seed}}_{{arm}}.log",
    benchmark:
        f"{BENCHMARKS}/probe_arm/{{model}}_seed{{seed}}_{{arm}}.tsv"
    conda:
        "../../environment.yml"
    threads: settings.evaluation.threads
    resources:
        mem_mb=3000,
        gpu=0,
    params:
        config=CONFIG,
        probes=values(settings.evaluation.probes),
        precision=settings.evaluation.precision,
        confidence=settings.report.confidence,
        library=library("mis.probes.measuring", "mis.models", "mis.suites", "mis.miniature.wordings"),
    message:
        "Measuring {wildcards.arm} of {wildcards.model}, seed {wildcards.seed}, by likelihood"
    shell:
        "python -m mis probe {wildcards.model} {wildcards.arm} --seed {wildcards.seed} --config {params.config}"
        " 2>&1 | tee {log}"


rule probe_bare:
    input:
        backbone,
    output:
        expand(f"{PROBES_OF_BARE}/{{file}}", file=PROBED_IN_TEXT, allow_missing=True),
    log:
        f"{LOGS}/probe_bare/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/probe_bare/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: settings.evaluation.threads
    resources:
        mem_mb=3000,
        gpu=0,
    params:
        config=CONFIG,
        probes=values(settings.evaluation.probes),
        precision=settings.evaluation.precision,
        confidence=settings.report.confidence,
        library=library("mis.probes.measuring", "mis.models", "mis.miniature.wordings"),
    message:
        "Measuring the bare language model of {wildcards.model} by likelihood"
    shell:
        "python -m mis probe {wildcards.model} bare --seed 0 --config {params.config} 2>&1 | tee {log}"


rule probe_development:
    input:
        checkpoint=weights,
        features=stored_features,
        data=MIS_DATA,
    output:
        f"{PROBES}/development/separation.csv",
        f"{PROBES}/development/separation_summary.csv",
        f"{PROBES}/development/outcomes.csv",
    log:
        f"{LOGS}/probe_development/{{model}}_seed{{seed}}_{{arm}}.log",
    benchmark:
        f"{BENCHMARKS}/probe_development/{{model}}_seed{{seed}}_{{arm}}.tsv"
    conda:
        "../../environment.yml"
    threads: settings.evaluation.threads
    resources:
        mem_mb=3000,
        gpu=0,
    params:
        config=CONFIG,
        probes=values(settings.evaluation.probes),
        precision=settings.evaluation.precision,
        answers=settings.evaluation.max_new_tokens,
        confidence=settings.report.confidence,
        library=library("mis.probes.measuring", "mis.models", "mis.judges", "mis.miniature.wordings"),
    message:
        "Measuring how {wildcards.arm} of {wildcards.model}, seed {wildcards.seed}, separates, on the development split"
    shell:
        "python -m mis probe {wildcards.model} {wildcards.arm} --seed {wildcards.seed} --development"
        " --config {params.config} 2>&1 | tee {log}"


rule development_curves:
    input:
        DATASHEET,
        development_probes,
    output:
        DEVELOPMENT_CURVES,
    log:
        f"{LOGS}/development_curves.log",
    benchmark:
        f"{BENCHMARKS}/development_curves.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        gpu=0,
    params:
        config=CONFIG,
        training=values(settings.training)["arms"],
        library=library("mis.probes.curves"),
    message:
        "Collecting the curves on the development split"
    shell:
        "python -m mis curves --config {params.config} 2>&1 | tee {log}"


# A server of an arm's checkpoint, for all that ask it: it is started for them and ended after the last. Its file is there at
# once, because Snakemake waits for it a few seconds only; who asks waits until it says that the server is ready.
rule serve_arm:
    input:
        checkpoint=weights,
    output:
        service(SERVED_ARM),
    log:
        f"{LOGS}/serve_arm/{{model}}_seed{{seed}}_{{arm}}.log",
    conda:
        "../envs/vllm.yaml"
    threads: WAITING
    resources:
        cpus_per_task=8,
        mem_mb=16000,
        gpu=service_gpus(settings.evaluation.service),
    params:
        config=CONFIG,
        service=lambda wildcards: values(settings.service_of(wildcards.model)),
        library=library("mis.serving"),
    message:
        "Serving {wildcards.arm} of {wildcards.model}, seed {wildcards.seed}"
    shell:
        ": > {output} && exec python -m mis serve --arm {wildcards.arm} --model {wildcards.model}"
        " --seed {wildcards.seed} --config {params.config} > {log} 2>&1"


rule serve_judge:
    output:
        service(SERVED_JUDGE),
    log:
        f"{LOGS}/serve_judge/{{judge}}.log",
    conda:
        "../envs/vllm.yaml"
    threads: WAITING
    resources:
        cpus_per_task=8,
        mem_mb=16000,
        gpu=lambda wildcards: service_gpus(settings.judges[wildcards.judge].service),
    params:
        config=CONFIG,
        service=lambda wildcards: values(settings.services[settings.judges[wildcards.judge].service]),
        library=library("mis.serving"),
    message:
        "Serving the judge {wildcards.judge}"
    shell:
        ": > {output} && exec python -m mis serve --judge {wildcards.judge} --config {params.config} > {log} 2>&1"


rule run_lmms_eval:
    input:
        checkpoint=weights,
        service=arm_service,
    output:
        GENERAL,
    log:
        f"{LOGS}/run_lmms_eval/{{model}}_seed{{seed}}_{{arm}}.log",
    benchmark:
        f"{BENCHMARKS}/run_lmms_eval/{{model}}_seed{{seed}}_{{arm}}.tsv"
    conda:
        "../envs/lmms_eval.yaml"
    threads: asking_threads
    resources:
        mem_mb=8000,
        gpu=0,
        runtime=1440,
    params:
        config=CONFIG,
        lmms_eval=values(settings.evaluation.lmms_eval),
        library=library("mis.lmms_eval"),
    message:
        "General benchmarks by lmms-eval: {wildcards.arm} of {wildcards.model}, seed {wildcards.seed}"
    shell:
        "python -m mis general --arm {wildcards.arm} --model {wildcards.model} --seed {wildcards.seed}"
        " --config {params.config} 2>&1 | tee {log}"


if settings.judge.kind == "models":

    # Each file by itself: what is paid for and takes long is not waited for by what is not.
    rule judge_suite:
        input:
            responses=RESPONSES,
            services=judge_services,
        output:
            VERDICTS,
        log:
            f"{LOGS}/judge_suite/{{model}}_seed{{seed}}_{{arm}}_{{suite}}.log",
        benchmark:
            f"{BENCHMARKS}/judge_suite/{{model}}_seed{{seed}}_{{arm}}_{{suite}}.tsv"
        conda:
            "../../environment.yml"
        threads: judging_threads
        resources:
            mem_mb=4000,
            gpu=judging_gpus,
            runtime=minutes("judge_suite"),
        params:
            config=CONFIG,
            judges=judging,
            library=library("mis.judges", "mis.suites"),
        message:
            "Judging {wildcards.arm} of {wildcards.model}, seed {wildcards.seed}: suite {wildcards.suite}"
        shell:
            "python -m mis judge --model {wildcards.model} --seed {wildcards.seed} --arm {wildcards.arm}"
            " --suite {wildcards.suite} --config {params.config} 2>&1 | tee {log}"

    # The same responses by another judge of the configuration; the verdicts stay as they are.
    rule rejudge_suite:
        input:
            responses=RESPONSES,
            services=judge_services,
        output:
            REJUDGED_BY,
        log:
            f"{LOGS}/rejudge_suite/{{judge}}/{{model}}_seed{{seed}}_{{arm}}_{{suite}}.log",
        benchmark:
            f"{BENCHMARKS}/rejudge_suite/{{judge}}/{{model}}_seed{{seed}}_{{arm}}_{{suite}}.tsv"
        conda:
            "../../environment.yml"
        threads: judging_threads
        resources:
            mem_mb=4000,
            gpu=judging_gpus,
        params:
            config=CONFIG,
            judges=judging,
            library=library("mis.judges", "mis.suites"),
        message:
            "{wildcards.judge} judges {wildcards.arm} of {wildcards.model}, seed {wildcards.seed}: {wildcards.suite}"
        shell:
            "python -m mis rejudge --judge {wildcards.judge} --model {wildcards.model} --seed {wildcards.seed}"
            " --arm {wildcards.arm} --suite {wildcards.suite} --config {params.config} 2>&1 | tee {log}"

    rule agree_with:
        input:
            of_all_models(VERDICTS),
            rejudged_by,
        output:
            drift_files("{judge}", "agreement.csv", "agreement.md", "disagreements.csv"),
        log:
            f"{LOGS}/agree_with/{{judge}}.log",
        benchmark:
            f"{BENCHMARKS}/agree_with/{{judge}}.tsv"
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
            "How far {wildcards.judge} agrees with the run's judges"
        shell:
            "python -m mis agree --judge {wildcards.judge} --config {params.config} 2>&1 | tee {log}"

    rule find_flips:
        input:
            of_all_models(VERDICTS),
            rejudged_by,
            PAPER,
        output:
            drift_files("{judge}", "flips.csv", "flips.md"),
        log:
            f"{LOGS}/find_flips/{{judge}}.log",
        benchmark:
            f"{BENCHMARKS}/find_flips/{{judge}}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=4000,
            gpu=0,
        params:
            config=CONFIG,
            report=values(settings.report),
            library=library("mis.report.claims"),
        message:
            "Which claims {wildcards.judge} turns"
        shell:
            "python -m mis flips --judge {wildcards.judge} --config {params.config} 2>&1 | tee {log}"

else:

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

    rule find_flips:
        input:
            of_all_models(VERDICTS),
            of_all_models(REJUDGED),
            PAPER,
        output:
            drift_files("second", "flips.csv", "flips.md"),
        log:
            f"{LOGS}/find_flips.log",
        benchmark:
            f"{BENCHMARKS}/find_flips.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=4000,
            gpu=0,
        params:
            config=CONFIG,
            report=values(settings.report),
            library=library("mis.report.claims"),
        message:
            "Which claims the second judge turns"
        shell:
            "python -m mis flips --judge second --config {params.config} 2>&1 | tee {log}"


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
        general_of(),
        measurements(),
        labels_of_judge(),
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


# The same for one table or figure alone, where the configuration says so: not everything has to be run for it.
rule score_artifact:
    input:
        scored_of,
    output:
        f"{RESULTS}/scores/{{artifact}}.csv",
    log:
        f"{LOGS}/score/{{artifact}}.log",
    benchmark:
        f"{BENCHMARKS}/score/{{artifact}}.tsv"
    wildcard_constraints:
        artifact="(table|figure)[A-Z0-9]+",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=0,
    params:
        config=CONFIG,
        report=values(settings.report),
        library=library("mis.scoring", "mis.report.needs"),
    message:
        "Scoring what {wildcards.artifact} shows"
    shell:
        "python -m mis score --artifact {wildcards.artifact} --config {params.config} 2>&1 | tee {log}"
