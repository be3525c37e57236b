# Pre-training a base model and fine-tuning the arms on it. What training keeps while it runs lies outside the outputs,
# because a failed job's outputs are removed: a killed run goes on from its last checkpoint.


rule pretrain_base:
    input:
        rules.construct_mis.output,
        thoughts,
        backbone,
    output:
        BASE,
    log:
        f"{LOGS}/pretrain_base/{{model}}_seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/pretrain_base/{{model}}_seed{{seed}}.tsv"
    conda:
        "../../environment.yml"
    threads: base_threads
    resources:
        mem_mb=6000,
        gpu=0,
    params:
        config=CONFIG,
        model=lambda wildcards: values(settings.models[wildcards.model]),
        library=library("mis.training.pretrain"),
    message:
        "Pre-training {wildcards.model}, seed {wildcards.seed}"
    shell:
        "python -m mis pretrain {wildcards.model} --seed {wildcards.seed} --config {params.config} 2>&1 | tee {log}"


rule cache_features:
    input:
        base=base,
        mixtures=[DATASHEET, *MIXTURES],
    output:
        FEATURES,
    log:
        f"{LOGS}/cache_features/{{model}}_seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/cache_features/{{model}}_seed{{seed}}.tsv"
    conda:
        "../../environment.yml"
    threads: base_threads
    resources:
        mem_mb=weights_mb,
        gpu=answering_gpus,
        runtime=minutes("cache_features"),
    params:
        config=CONFIG,
        library=library("mis.training.cache_features"),
    message:
        "Looking at every picture once: {wildcards.model}, seed {wildcards.seed}"
    shell:
        "python -m mis features {wildcards.model} --seed {wildcards.seed} --config {params.config} 2>&1 | tee {log}"


rule train_arm:
    input:
        base=base,
        features=stored_features,
        mixture=f"{BUILD}/mixtures/{{arm}}.jsonl",
        thoughts=thoughts,
    output:
        CHECKPOINT,
    log:
        f"{LOGS}/train_arm/{{model}}_seed{{seed}}_{{arm}}.log",
    benchmark:
        f"{BENCHMARKS}/train_arm/{{model}}_seed{{seed}}_{{arm}}.tsv"
    wildcard_constraints:
        arm="|".join(TRAINED) or "$.",
    conda:
        "../../environment.yml" if settings.world else "../envs/gpu.yaml"
    threads: arm_threads
    resources:
        mem_mb=arm_memory,
        gpu=lambda wildcards: arm_gpus(wildcards) * ARM_NODES,
        nodes=ARM_NODES,
        runtime=minutes("train_arm"),
    params:
        config=CONFIG,
        # On several machines the command runs once on each: SLURM starts it there.
        launch=f"srun --overlap --nodes={ARM_NODES} --ntasks={ARM_NODES} --ntasks-per-node=1" if ARM_NODES > 1 else "",
        nodes=ARM_NODES,
        training=values(settings.training) | {"arms": None},
        arm=lambda wildcards: values(settings.arm_training(wildcards.model, wildcards.arm)),
        library=library("mis.training.train"),
    message:
        "Fine-tuning {wildcards.arm} on {wildcards.model}, seed {wildcards.seed}"
    shell:
        "{params.launch} python -m mis train {wildcards.arm} --model {wildcards.model} --seed {wildcards.seed}"
        " --config {params.config} --gpus $(({resources.gpu} / {params.nodes})) 2>&1 | tee {log}"
