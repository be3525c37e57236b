"""Jobs of Snakemake as Jobs of Kubernetes, through kubectl: submit, status, cancel (see config.yaml beside this file).

Read from the environment: MIS_IMAGE (an image with the study's environments), MIS_VOLUME (a volume claim that many may
write; it is mounted at MIS_MOUNT, else /work), MIS_NAMESPACE, and MIS_SECRET (a secret whose entries become the
environment of the pods: the keys of judges). A Job that has ended stays for a day.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

DAY = 24 * 3600


def manifest(rule: str, command: list[str], folder: str, *, cpus: int, memory_mb: int, gpus: int, minutes: int) -> dict:
    """A Job that runs `command` once in `folder`; Snakemake itself tries again what failed."""
    try:
        image, volume = os.environ["MIS_IMAGE"], os.environ["MIS_VOLUME"]
    except KeyError as error:
        sys.exit(f"{error.args[0]} is not set: export MIS_IMAGE (an image) and MIS_VOLUME (a volume claim)")
    asked = {"cpu": str(cpus), "memory": f"{memory_mb}M"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    container = {
        "name": "job", "image": image, "command": command, "workingDir": folder,
        "resources": {"requests": asked, "limits": {name: asked[name] for name in asked if name != "cpu"}},
        "volumeMounts": [{"name": "work", "mountPath": os.environ.get("MIS_MOUNT", "/work")}],
    }  # fmt: skip
    volumes = [{"name": "work", "persistentVolumeClaim": {"claimName": volume}}]
    if gpus > 1:  # NCCL's processes speak through shared memory, of which a container has 64 MB otherwise
        container["volumeMounts"].append({"name": "shared-memory", "mountPath": "/dev/shm"})
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory"}})
    if secret := os.environ.get("MIS_SECRET"):
        container["envFrom"] = [{"secretRef": {"name": secret}}]
    name = re.sub(r"[^a-z0-9]+", "-", rule.lower()).strip("-")[:40]
    pod = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": f"mis-{name}-"},
        "spec": {"backoffLimit": 0, "activeDeadlineSeconds": 60 * minutes, "ttlSecondsAfterFinished": DAY,
                 "template": {"spec": pod}},
    }  # fmt: skip


def kubectl(*words: str, given: str | None = None) -> str:
    namespace = os.environ.get("MIS_NAMESPACE")
    command = ["kubectl", *(["--namespace", namespace] if namespace else []), *words]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"kubectl {words[0]}: {done.stderr.strip()}")
    return done.stdout


def status(job: str) -> str:
    """Snakemake's words: success, failed, running."""
    counts = json.loads(kubectl("get", "job", job, "--output", "json")).get("status", {})
    kinds = {condition["type"] for condition in counts.get("conditions", []) if condition["status"] == "True"}
    return "failed" if "Failed" in kinds else "success" if "Complete" in kinds else "running"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    submit = commands.add_parser("submit")
    submit.add_argument("--rule", default="group")
    for name in ("cpus", "memory-mb", "gpus", "minutes"):
        submit.add_argument(f"--{name}", type=int, required=True)
    submit.add_argument("script", help="Snakemake's script; it is removed when Snakemake ends, and so sent along")
    commands.add_parser("status").add_argument("job")
    commands.add_parser("cancel").add_argument("jobs", nargs="+")
    options = parser.parse_args()
    if options.command == "submit":
        text = Path(options.script).read_text(encoding="utf-8")
        job = manifest(
            options.rule, ["/bin/sh", "-c", text], os.getcwd(), cpus=max(1, options.cpus), memory_mb=options.memory_mb,
            gpus=options.gpus, minutes=options.minutes,
        )  # fmt: skip
        print(kubectl("create", "--filename", "-", "--output", "name", given=json.dumps(job)).strip().split("/")[-1])
    elif options.command == "status":
        print(status(options.job))
    else:
        kubectl("delete", "job", "--ignore-not-found", *options.jobs)


if __name__ == "__main__":
    main()
