#!/usr/bin/env python3
"""Stands in for kubectl: keeps the Jobs that are created under $FAKE_CLUSTER and runs their containers right here."""

import json
import os
import subprocess
import sys
from pathlib import Path

folder = Path(os.environ["FAKE_CLUSTER"])
words = sys.argv[1:]
if words[0] == "create":
    job = json.load(sys.stdin)
    name = f"{job['metadata']['generateName']}{len(list(folder.glob('*.json')))}"
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    done = subprocess.run(
        container["command"], cwd=container["workingDir"], capture_output=True, text=True, check=False
    )
    kind = "Failed" if done.returncode else "Complete"
    job["status"] = {"conditions": [{"type": kind, "status": "True"}]}
    (folder / f"{name}.json").write_text(json.dumps(job), encoding="utf-8")
    (folder / f"{name}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    print(f"job.batch/{name}")
elif words[0] == "get":
    print((folder / f"{words[2]}.json").read_text(encoding="utf-8"))
else:
    sys.exit(f"unexpected: {words}")
