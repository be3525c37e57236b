"""A server for one run: started for those who ask it, stopped after the last of them.

`mis serve` starts the command that the configuration names, waits until it is healthy, and says in a small JSON file
where it answers. Whoever asks it waits for that file. The server listens on this machine alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from mis.errors import MisError
from mis.settings import Endpoint, Service, Settings
from mis.store import write_text_atomic

HOST = "127.0.0.1"
LOOK_EVERY_S = 0.2
STOP_WITHIN_S = 30.0
APPEAR_WITHIN_S = 60.0  # between asking for a server and its file


class ServiceError(MisError):
    """A server that did not start, or is not there."""


@dataclass(frozen=True)
class State:
    """What the file says. `url` ends with the interface's version; `name` is what the server calls the model; `error`
    says why there will be no server."""

    url: str = ""
    name: str = ""
    ready: bool = False
    error: str = ""

    @classmethod
    def read(cls, path: Path) -> State | None:
        """None where there is no file, or nothing in it yet."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            return cls(**json.loads(text)) if text.strip() else None
        except (ValueError, TypeError) as error:
            raise ServiceError(f"{path}: not the file of a server ({error}); remove it and start `mis serve`") from None

    def write(self, path: Path) -> None:
        write_text_atomic(path, json.dumps(asdict(self)) + "\n")


def arm_file(settings: Settings, model: str, seed: int | str, arm: str) -> Path:
    """`B/services/<model>_seed<S>_<arm>.json`: where the server of a checkpoint answers."""
    return settings.paths.build / "services" / f"{model}_seed{seed}_{arm}.json"


def judge_file(settings: Settings, judge: str) -> Path:
    """`B/services/judge_<judge>.json`"""
    return settings.paths.build / "services" / f"judge_{judge}.json"


def arm_name(model: str, seed: int | str, arm: str) -> str:
    """What a server calls an arm's checkpoint."""
    return f"{model}-seed{seed}-{arm}"


def serve(service: Service, source: Path | str, name: str, path: Path) -> None:
    """Runs the server until this process is told to end (SIGTERM, SIGINT); `path` is the file that says where it is.

    Raises :class:`ServiceError` if it does not come up in time, or ends by itself. Nothing is left running.
    """
    port = _free_port()
    places = {"source": source, "name": name, "host": HOST, "port": port, "gpus": service.gpus}
    command = [word.format(**places) for word in service.command]
    State().write(path)
    previous = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGINT)}
    process, claimed = None, []
    try:
        claimed = _claim_gpus(service.gpus, path)
        process = _start(command, path, [name for name, _ in claimed])
        url = f"http://{HOST}:{port}"
        _wait_until_healthy(process, url + service.health, service.start_s, path)
        State(url + service.version, service.called.format(**places), ready=True).write(path)
        print(f"{name} answers at {url}{service.version}", flush=True)
        code = process.wait()
        raise _failed(path, f"the server ended by itself (exit status {code})")
    except SystemExit:
        print(f"{name}: told to end", flush=True)
    finally:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)  # the stop itself is not interrupted
        if process is not None:
            _stop(process)
        for _, descriptor in claimed:
            os.close(descriptor)
        for number, handler in previous.items():
            signal.signal(number, handler)


def wait_for(settings: Settings, path: Path, service: str) -> tuple[Endpoint, str]:
    """Endpoint and model's name of a server that is being started: waits until it is ready.

    Raises :class:`ServiceError` where it says that it failed, where nobody starts it, or where it takes too long.
    """
    start_s = settings.services[service].start_s
    begin = time.monotonic()
    while True:
        state = State.read(path)
        waited = time.monotonic() - begin
        if state is not None and state.error:
            raise ServiceError(f"{path}: {state.error}; its log says more")
        if state is not None and state.ready:
            return Endpoint(url=state.url), state.name
        if state is None and waited > APPEAR_WITHIN_S:
            raise ServiceError(f"{path}: nobody starts this server; run `mis serve`, or let Snakemake start it")
        if waited > start_s + APPEAR_WITHIN_S:
            raise ServiceError(f"{path}: the server was not ready within {start_s:g} s (services.{service}.start_s)")
        time.sleep(LOOK_EVERY_S)


def _end(*_: object) -> None:
    raise SystemExit(0)


def _failed(path: Path, reason: str) -> ServiceError:
    State(error=reason).write(path)
    return ServiceError(f"{path}: {reason}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _claim_gpus(count: int, path: Path) -> list[tuple[str, int]]:
    """GPUs that no other server of this user has, each with the lock that keeps it; none where none can be counted.

    Without this two servers on one machine would both take the first one.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if count and given is None:
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        try:
            given = ",".join(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split())
        except (OSError, subprocess.CalledProcessError):
            return []
    claimed: list[tuple[str, int]] = []
    for name in (given or "").split(","):
        if len(claimed) == count:
            break
        lock = Path(tempfile.gettempdir()) / f"mis-gpu-{os.getuid()}-{name}.lock"
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            claimed.append((name, descriptor))
    if len(claimed) < count:
        for _, descriptor in claimed:
            os.close(descriptor)
        raise _failed(path, f"{count} GPUs are wanted, and {len(claimed)} are free of other servers")
    return claimed


def _start(command: list[str], path: Path, gpus: list[str]) -> subprocess.Popen:
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {})
    try:
        # A session of its own: a server has worker processes, and all of them must go with it.
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise _failed(path, f"{command[0]} cannot be started ({error.strerror}); is it in this environment?") from None


def _wait_until_healthy(process: subprocess.Popen, health: str, start_s: float, path: Path) -> None:
    begin = time.monotonic()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
    while True:
        if (code := process.poll()) is not None:
            raise _failed(path, f"the server ended before it was ready (exit status {code})")
        try:
            with opener.open(health, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        if time.monotonic() - begin > start_s:
            raise _failed(path, f"the server was not ready within {start_s:g} s (services.*.start_s)")
        time.sleep(LOOK_EVERY_S)


def _stop(process: subprocess.Popen) -> None:
    """Ends the server and all that it started; what does not listen is killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        begin = time.monotonic()
        while time.monotonic() - begin < STOP_WITHIN_S and _alive(process):
            time.sleep(LOOK_EVERY_S)
        if not _alive(process):
            break
    else:
        print(f"process group {process.pid} could not be ended", file=sys.stderr)
    process.wait()


def _alive(process: subprocess.Popen) -> bool:
    """Is any process of the group there still?"""
    process.poll()  # the leader, once dead, must not count as alive
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
