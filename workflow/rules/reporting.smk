# Tables, figures, the headline and the comparison with the committed run. Drawn from files alone, in seconds.


wildcard_constraints:
    number="|".join(TABLES + FIGURES),


rule unknown_table_or_figure:
    input:
        refuse,
    output:
        "{artifact,(table|figure)[^/]*}",


rule make_table:
    input:
        sources_of,
        PAPER,
    output:
        table_files("{number}"),
    log:
        f"{LOGS}/make_table/{{number}}.log",
    benchmark:
        f"{BENCHMARKS}/make_table/{{number}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        gpu=0,
    params:
        config=CONFIG,
        values=values(settings),
        library=library("mis.report.tables"),
    message:
        "Table {wildcards.number}"
    shell:
        "python -m mis table {wildcards.number} --config {params.config} 2>&1 | tee {log}"


rule make_figure:
    input:
        sources_of,
        PAPER,
    output:
        figure_files("{number}"),
    log:
        f"{LOGS}/make_figure/{{number}}.log",
    benchmark:
        f"{BENCHMARKS}/make_figure/{{number}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        gpu=0,
    params:
        config=CONFIG,
        values=values(settings),
        library=library("mis.report.figures"),
    message:
        "Figure {wildcards.number}"
    shell:
        "python -m mis figure {wildcards.number} --config {params.config} 2>&1 | tee {log}"


rule make_headline:
    input:
        SCORES,
        PAPER,
    output:
        HEADLINE,
    log:
        f"{LOGS}/make_headline.log",
    benchmark:
        f"{BENCHMARKS}/make_headline.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        gpu=0,
    params:
        config=CONFIG,
        library=library("mis.report.headline"),
    message:
        "The headline numbers"
    shell:
        "python -m mis headline --config {params.config} &> {log}"


rule compare:
    input:
        SCORES,
        REFERENCE,
    output:
        COMPARISON,
    log:
        f"{LOGS}/compare.log",
    benchmark:
        f"{BENCHMARKS}/compare.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        gpu=0,
    params:
        config=CONFIG,
        library=library("mis.report.compare"),
    message:
        "Comparing with the committed run"
    shell:
        "python -m mis compare --config {params.config} &> {log}"
