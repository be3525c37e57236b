# Tables, figures, the headline and the comparison with the committed run. Drawn from files alone, in seconds.


wildcard_constraints:
    notebook="|".join(NOTEBOOKS) or "$.",
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
        table_files("{number}", "csv", "md", "tex"),
        report(
            table_files("{number}", "html"),
            caption="../report/table.rst",
            category="Tables",
            labels=table_labels,
        ),
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
        figure_sources_of,
        PAPER,
    output:
        figure_files("{number}", "pdf"),
        report(
            figure_files("{number}", "png"),
            caption="../report/figure.rst",
            category="Figures",
            labels=figure_labels,
        ),
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
        library=library("mis.report.figures", "mis.miniature.scenes"),
    message:
        "Figure {wildcards.number}"
    shell:
        "python -m mis figure {wildcards.number} --config {params.config} 2>&1 | tee {log}"


rule judge_claims:
    input:
        [SCORES, MIS_DATA] if MODELS else [],
        CLAIMS_BESIDE,
        PAPER,
    output:
        CLAIMS,
        report(
            CLAIMS_PAGE,
            caption="../report/claims.rst",
            category="Claims",
            labels={"Shows": "every claim and its verdict"},
        ),
    log:
        f"{LOGS}/judge_claims.log",
    benchmark:
        f"{BENCHMARKS}/judge_claims.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=0,
    params:
        config=CONFIG,
        report=values(settings.report),
        library=library("mis.report.claims"),
    message:
        "Judging every claim"
    shell:
        "python -m mis claims --config {params.config} 2>&1 | tee {log}"


rule make_headline:
    input:
        SCORES,
        PAPER,
    output:
        HEADLINE,
        report(
            HEADLINE_PAGE,
            caption="../report/headline.rst",
            category="Headline",
            labels={"Shows": "the headline numbers"},
        ),
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


rule make_browser:
    input:
        MIS_DATA,
        of_all_models(RESPONSES),
        of_all_models(VERDICTS),
    output:
        directory(BROWSER),
    log:
        f"{LOGS}/make_browser.log",
    benchmark:
        f"{BENCHMARKS}/make_browser.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=0,
    params:
        config=CONFIG,
        values=values(settings),
        library=library("mis.report.browser"),
    message:
        "The page to look at samples and answers"
    shell:
        "python -m mis browser --config {params.config} 2>&1 | tee {log}"


rule make_paper:
    input:
        PROSE,
        PAPER,
        COMMITTED,
        AUDIT,
        CLAIMS,
        MIS_DATA,
        SCORES,
        [table_files(number, "tex") for number in COVERED_TABLES],
        [figure_files(number, "pdf") for number in COVERED_FIGURES],
    output:
        REPRODUCTION,
    log:
        f"{LOGS}/make_paper.log",
    benchmark:
        f"{BENCHMARKS}/make_paper.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=0,
    params:
        config=CONFIG,
        tables=",".join(COVERED_TABLES),
        figures=",".join(COVERED_FIGURES),
        values=values(settings),
        library=library("mis.report.paper"),
    message:
        "The reproduction as a PDF"
    shell:
        "python -m mis paper --tables {params.tables} --figures {params.figures} --config {params.config}"
        " 2>&1 | tee {log}"


rule run_notebook:
    input:
        PAPER,
        AUDITS,
        SCORES,
        DATASHEET,
        judged_twice,
        of_all_models(RESPONSES),
        of_all_models(VERDICTS),
        notebook=relpath(ROOT / "notebooks" / "{notebook}.ipynb"),
    output:
        notebook_files("{notebook}"),
    log:
        f"{LOGS}/run_notebook/{{notebook}}.log",
    benchmark:
        f"{BENCHMARKS}/run_notebook/{{notebook}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=0,
    params:
        config=CONFIG,
        values=values(settings),
        library=library("mis.report.notebook", "mis.report.execute"),
    message:
        "Notebook {wildcards.notebook}"
    shell:
        "python -m mis notebook {input.notebook} --config {params.config} 2>&1 | tee {log}"
