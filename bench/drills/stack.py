"""The stack that the drills disturb: servers, web, workers, beat and emulator of `manage.py up`, in
a folder of their own; and the watch over it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

PROGRAMS = ("web", "worker", "worker-bulk", "beat", "emulator")
PROBE_S, PROBE_TIMEOUT_S = 0.25, 2.0
START_S = 120
DISKS = {"postgres": "400m", "valkey": "64m"}
RUNTIME = ("Converse", "ConverseStream", "InvokeModel")


def make_root(*, with_disks: bool) -> Path:
    """Create the folder of a stack; with small disks for both servers where we may mount them."""
    root = Path(tempfile.mkdtemp(prefix="myia-drills-"))
    root.chmod(0o755)  # as root, the services run as another user
    for name, size in DISKS.items() if with_disks else ():
        folder = root / ".myia" / name
        folder.mkdir(parents=True, mode=0o755)
        folder.parent.chmod(0o711)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
        subprocess.run(command, check=True)
    return root


def remove_root(root: Path) -> None:
    for name in DISKS:
        folder = root / ".myia" / name
        if folder.is_mount():
            subprocess.run(["umount", str(folder)], check=False)
    shutil.rmtree(root, ignore_errors=True)


class Stack:
    """A running stack. `token` is that of somebody who may read."""

    def __init__(self, root: Path, token: str, time_scale: float) -> None:
        self.root, self.token = root, token
        self.in_flight: int | None = None  # calls, when the last drill struck the workers
        first = 21_000 + os.getpid() % 20_000
        names = ("PORT", "WORKER_HEALTH_PORT", "FLOWER_PORT", "EMULATOR_PORT")
        self.ports = {name: first + 20 * number for number, name in enumerate(names)}
        self.environment = {
            **os.environ,
            **{name: str(port) for name, port in self.ports.items()},
            "EMULATOR_TIME_SCALE": str(time_scale),
            "CERTIFICATION_BULK_WORKERS": "1",
            "LOG_LEVEL": "INFO",
        }

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def up(self) -> None:
        """Start everything. SystemExit when that fails."""
        done = self.manage("up", "--detach", *PROGRAMS)
        deadline = time.monotonic() + START_S  # a busy machine takes longer than `up` waits
        while done.returncode and self.manage("status").returncode:
            if time.monotonic() > deadline:
                raise SystemExit(done.stdout + done.stderr)

    def processes(self, name: str) -> list[psutil.Process]:
        """Return the processes of a program or server, its children included."""
        # Django is set up by whoever made the stack
        from certification.stack import control, embedded

        supervisor, records = control.files().read()
        pids = {server.name: server.pid for server in embedded.status(self.root)}
        pids |= {record.name: record.pid for record in records} | {"supervisor": supervisor}
        try:
            first = psutil.Process(pids[name])
            children = [] if name == "supervisor" else first.children(recursive=True)
        except (KeyError, psutil.NoSuchProcess):
            return []
        return [first, *children]

    def send(self, name: str, number: int) -> None:
        """Send a signal to a program and its children."""
        for process in self.processes(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        members = self.processes(name)
        for member in members:
            member.suspend()
        self.count_in_flight(name)
        try:
            yield
        finally:
            for member in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.resume()

    def count_in_flight(self, name: str) -> None:
        """Count the calls in flight, once a worker stands still."""
        if name.startswith("worker"):
            self.in_flight = self.emulator_statistics()["inFlight"]

    def kill_everything(self) -> None:
        """Kill the supervisor first, so that it restarts nothing, then all others."""
        members = [self.processes(name) for name in ("supervisor", "postgres", "valkey", *PROGRAMS)]
        for group in members:
            for process in group:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)

    def emulator_statistics(self) -> dict[str, Any]:
        """Return what the emulator counted, in flight as of now: it may answer late."""
        address = f"http://127.0.0.1:{self.ports['EMULATOR_PORT']}/_emulator/stats"
        address += f"?at={time.monotonic()}"
        with urlopen(address, timeout=10) as response:
            statistics: dict[str, Any] = json.loads(response.read())
        return statistics

    def emulator_calls(self) -> int:
        """Count the runtime calls that the emulator was sent since it started."""
        calls = self.emulator_statistics()["calls"]
        return sum(call["calls"] for call in calls if call["operation"] in RUNTIME)

    def health_pages(self) -> dict[str, tuple[int, str]]:
        """Return port and path of both workers' health pages."""
        from certification.stack import control

        _supervisor, records = control.files().read()
        return {
            record.name: (record.port, "/health")
            for record in records
            if record.name.startswith("worker") and record.port
        }

    def log(self) -> str:
        """Return what the supervisor reported."""
        with contextlib.suppress(FileNotFoundError):
            return (self.root / ".myia" / "logs" / "myia.log").read_text()
        return ""

    def probe(self, port: int, path: str) -> str:
        """Return 'ok', or how a page failed: its status, or that nobody answered."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            response = connection.getresponse()
            response.read()
            return "ok" if response.status < 400 else str(response.status)
        except TimeoutError:
            return f"no answer in {PROBE_TIMEOUT_S:g} s"
        except (OSError, http.client.HTTPException):
            return "refused"
        finally:
            connection.close()


class Watch:
    """Asks the web server and both workers all the time, each in a thread, from `with` on."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.pages = {"API": (stack.ports["PORT"], "/api/auth/me")} | stack.health_pages()
        self.states: dict[str, list[tuple[float, str]]] = {name: [] for name in self.pages}
        self._log = stack.log()
        self._over = threading.Event()
        self.logged_at: float | None = None

    def __enter__(self) -> Watch:
        self.began = time.monotonic()
        self._threads = [
            threading.Thread(target=self._probe, args=(name,), daemon=True) for name in self.pages
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(2 * PROBE_TIMEOUT_S)

    def _probe(self, name: str) -> None:
        while not self._over.is_set():
            state = self.stack.probe(*self.pages[name])
            self.states[name].append((time.monotonic(), state))
            if self.logged_at is None and self.stack.log() != self._log:
                self.logged_at = time.monotonic()
            self._over.wait(PROBE_S)

    @property
    def is_well(self) -> bool:
        return all(states and states[-1][1] == "ok" for states in self.states.values())

    def observed(self) -> str:
        """Say who noticed first, how, and after how many seconds; '-' when nobody did."""
        failures = [
            (moment, name, state)
            for name, states in self.states.items()
            for moment, state in states
            if state != "ok"
        ]
        if self.logged_at is not None:
            failures.append((self.logged_at, "supervisor", "log"))
        if not failures:
            return "-"
        moment, name, state = min(failures)
        return f"{moment - self.began:.1f} s ({name}: {state})"

    def well_since(self) -> float:
        """Return the moment since which all have been well."""
        return max(
            (
                moment
                for states in self.states.values()
                for moment, state in states
                if state != "ok"
            ),
            default=self.began,
        )


def fill(folder: Path) -> Path:
    """Fill the disk of a folder; return the file to delete."""
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return path
