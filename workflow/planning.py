"""The jobs of Snakemake's graph as `mis.planning` wants them, and where a dry run shows what they cost."""

from __future__ import annotations

import atexit
import json
import logging
import os
from pathlib import Path
from typing import Any

from mis.planning import REQUEST, Job, make_plan, to_text
from mis.settings import Settings


def jobs_of(dag: Any) -> list[Job]:
    """All jobs of a graph that has been built, in an order in which each comes after what it needs."""
    ordered = [
        job for level in dag.toposorted() for job in sorted(level, key=lambda job: (job.rule.name, str(job.wildcards)))
    ]
    number = {job: i for i, job in enumerate(ordered)}
    return [
        Job(
            id=number[job],
            rule=job.rule.name,
            wildcards=dict(job.wildcards_dict),
            needs=tuple(sorted(number[other] for other in dag.dependencies[job])),
            gpus=int(job.resources.get("gpu", 0)),
            cached=not dag.needrun(job),
        )
        for job in ordered
    ]


class CostTable(logging.Handler):
    """Shows what a dry run's jobs cost, behind all that Snakemake prints itself.

    Dry runs call none of the handlers of a workflow (onstart, onsuccess). But Snakemake says through its logger when
    the graph has been built (the event `run_info`), and its logger takes a handler as any other does.
    """

    def __init__(self, workflow: Any, settings: Settings):
        super().__init__()
        self.workflow, self.settings, self.shown = workflow, settings, False

    def emit(self, record: logging.LogRecord) -> None:
        if self.shown or getattr(record, "event", None) != "run_info" or not self.workflow.dryrun:
            return
        self.shown = True
        jobs = jobs_of(self.workflow.dag)
        if request := os.environ.get(REQUEST):  # `mis plan` asks for the jobs in the place of the table
            Path(request).write_text(json.dumps([vars(job) for job in jobs]), encoding="utf-8")
        else:
            atexit.register(print, "\n" + to_text(make_plan(self.settings, jobs), self.settings), flush=True)
