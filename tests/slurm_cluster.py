"""A SLURM cluster of one node on this machine: munge, controller and node daemon, all of them under one folder.

Debian's packages `slurm-wlm` and `munge` are what it needs, and root (its daemons refuse less).
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MinJobAge=3600
SchedulerParameters=sched_interval=2,batch_sched_delay=0,defer_batch
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing() -> str:
    """Why no cluster can be started here; empty where one can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"no {', '.join(absent)}: install Debian's slurm-wlm and munge"
    return "" if os.geteuid() == 0 else "SLURM's daemons are started by root alone"


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextmanager
def cluster(folder: Path, cpus: int = 2, memory_mb: int = 16000):
    """The environment in which `sbatch` and its like speak to a cluster that lives as long as the block."""
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(parents=True)
    # munged wants every folder above its socket and key to be safe from others.
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    configuration.write_text(
        CONFIGURATION.format(
            host=host, folder=folder, cpus=cpus, memory=memory_mb, controller=_free_port(), daemon=_free_port()
        ),
        encoding="utf-8",
    )
    # Snakemake's executor takes SLURM_CONF out of a job's environment, where `srun` is called once more.
    real, wrapper = shutil.which("srun", path=_path()), folder / "bin" / "srun"
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {real} "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{wrapper.parent}:{_path()}", "SLURM_CONF": str(configuration)}
    started: list[subprocess.Popen] = []

    def start(name: str, *options: str) -> None:
        # A daemon whose test was killed ends with it.
        command = ["setpriv", "--pdeathsig", "TERM", shutil.which(name, path=_path()), *options]
        with (folder / f"{name}.out").open("wb") as log:
            started.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            )

    try:
        start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
              f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
              f"--seed-file={folder}/munged.seed")  # fmt: skip
        _until(lambda: (folder / "munge.socket").exists(), "munged", folder)
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D", "-N", host)
        _until(lambda: "idle" in _ask(["sinfo", "-h", "-o", "%T"], environment), "slurmctld and slurmd", folder)
        yield environment
    finally:
        _ask(["scancel", "--full", "--user", "root"], environment)
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in reversed(started):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ask(command: list[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=15)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout


def _until(true, what: str, folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            logs = "\n".join(
                f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in folder.glob("*.*o*")
            )
            raise RuntimeError(f"{what} did not come up in {seconds:g} s\n{logs}")
        time.sleep(0.2)
