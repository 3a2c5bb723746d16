"""Keeps a set of processes alive on one machine. Knows nothing of Django and of what the processes
are.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import logging.handlers
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from certification.stack.embedded import is_free

STEADY_SECONDS = 60  # a process that lived that long starts again at once
LONGEST_PAUSE = 30  # seconds between two starts of a process that keeps crashing

LogSink = Callable[[str, str], None]


class StackError(Exception):
    """The stack cannot start or stop; the text is a sentence that says what to do."""


@dataclass(frozen=True)
class Program:
    """One process of the stack. Starts go by ascending stage, stops by descending; stage 0 is what
    the others call.
    """

    name: str
    argv: tuple[str, ...]
    stage: int
    env: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    port_setting: str = ""
    page: str = ""  # path to open in a browser
    # path that answers below 500 when all is well; without one an open port is enough
    health: str = ""
    drain_seconds: int = 10
    on_kill: str = ""  # what being killed means for the work it had
    reload: str = ""  # the signal on which it replaces its own children one by one

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.page}" if self.port else ""


@dataclass
class ProcessRecord:
    """What the state file keeps of a process. `created` tells a recycled pid from ours."""

    name: str
    pid: int
    created: float
    port: int | None
    url: str
    health: str
    restarts: int
    drain_seconds: int
    stage: int
    reload: str


@dataclass(frozen=True)
class Files:
    """The files of one installation's stack."""

    home: Path

    @property
    def state(self) -> Path:
        return self.home / "run" / "stack.json"

    @property
    def lock(self) -> Path:
        return self.home / "run" / "stack.lock"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def make(self) -> None:
        for folder in (self.state.parent, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self) -> tuple[int | None, list[ProcessRecord]]:
        """The supervisor's pid, None when it is gone, and what it started."""
        try:
            state = json.loads(self.state.read_text())
        except (FileNotFoundError, ValueError):
            return None, []
        supervisor = state["supervisor"]
        pid = supervisor["pid"] if find(supervisor["pid"], supervisor["created"]) else None
        return pid, [ProcessRecord(**process) for process in state["processes"]]

    def write(self, started: Sequence[ProcessRecord]) -> None:
        me = psutil.Process()
        state = {
            "supervisor": {"pid": me.pid, "created": me.create_time()},
            "processes": [asdict(process) for process in started],
        }
        draft = self.state.with_suffix(".new")
        draft.write_text(json.dumps(state, indent=1))
        draft.replace(self.state)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Held by the supervisor as long as it lives, so that there is one. Raises StackError when
        there is another.
        """
        self.make()
        with self.lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(
                    "MyIA is already running here. See `manage.py status`, stop it with `manage.py down`."
                ) from None
            yield


class Supervisor:
    """Starts programs in order, starts again what ends, stops all in reverse order.

    `say(name, line)` gets every line of every program, and the supervisor's own under the name
    "myia". `env` is added to the environment of every program. `keep_servers` is called every few
    seconds to see to the servers underneath (the embedded ones).
    """

    def __init__(
        self,
        table: Sequence[Program],
        *,
        where: Files,
        cwd: Path,
        say: LogSink,
        env: Mapping[str, str] | None = None,
        keep_servers: Callable[[], str] | None = None,
    ) -> None:
        self.table = sorted(table, key=lambda program: program.stage)
        self.where, self.cwd, self.say, self.keep_servers = where, cwd, say, keep_servers
        self.env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._stopping = asyncio.Event()
        self._force_kill = asyncio.Event()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._started: dict[str, ProcessRecord] = {}
        self._readers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Runs until `stop` is called or SIGINT, SIGTERM or SIGHUP arrive; a second signal kills
        what still runs.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        self.where.write([])
        keepers: dict[str, asyncio.Task[None]] = {}
        watch = asyncio.create_task(self._watch_servers())
        try:
            for program in self.table:
                keepers[program.name] = asyncio.create_task(self._keep(program))
                if program.stage == 0:
                    await self._wait_for_port(program)
            await self._stopping.wait()
        finally:
            watch.cancel()
            await self._stop_all(keepers)
            self.where.state.unlink(missing_ok=True)

    async def _wait_for_port(self, program: Program) -> None:
        deadline = time.monotonic() + 10
        while (
            program.port
            and is_free(program.port)
            and time.monotonic() < deadline
            and not self._stopping.is_set()
        ):
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        """Ends `run`; called again, it ends it without waiting for anybody."""
        if self._stopping.is_set():
            self._force_kill.set()
        self._stopping.set()

    async def _keep(self, program: Program) -> None:
        """One program, started again whenever it ends. An orderly end or a long life costs no
        pause.
        """
        crashes = restarts = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once(program, restarts)
            if self._stopping.is_set():
                return
            lived = time.monotonic() - began
            is_orderly = code in {0, -signal.SIGTERM} and lived > 1
            crashes = 0 if is_orderly or lived > STEADY_SECONDS else crashes + 1
            pause = min(LONGEST_PAUSE, 2 ** (crashes - 1)) if crashes else 0
            restarts += 1
            self.say(
                "myia",
                f"{program.name} {_ending(code)} after {lived:.0f} s; it starts again "
                + (f"in {pause} s" if pause else "now"),
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause or 0.01)

    async def _run_once(self, program: Program, restarts: int) -> int:
        # Our own pipe: with asyncio's, `wait` would wait for children that hold it open after their
        # parent died.
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *program.argv,
                cwd=self.cwd,
                env={**self.env, **program.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.STDOUT,
                # Ctrl-C reaches the supervisor only, which stops the rest in order
                start_new_session=True,
            )
        except OSError as error:
            os.close(reading)
            self.say(program.name, f"cannot be started: {error}")
            return 127
        finally:
            os.close(writing)
        reader = asyncio.create_task(self._read(program.name, reading))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        self._processes[program.name] = process
        if self._stopping.is_set():
            process.terminate()
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have died already
            self._note(program, process.pid, restarts)
        code = await process.wait()
        kill_group(process.pid)  # its children would hold its port
        self._processes.pop(program.name, None)
        return code

    def _note(self, program: Program, pid: int, restarts: int) -> None:
        self._started[program.name] = ProcessRecord(
            name=program.name,
            pid=pid,
            created=psutil.Process(pid).create_time(),
            port=program.port,
            url=program.url,
            health=program.health,
            restarts=restarts,
            drain_seconds=program.drain_seconds,
            stage=program.stage,
            reload=program.reload,
        )
        try:
            self.where.write(list(self._started.values()))
        except OSError as error:  # a full disk must not stop the stack
            self.say(
                "myia",
                f"`manage.py status` will be wrong: {self.where.state} cannot be written ({error})",
            )

    async def _read(self, name: str, pipe: int) -> None:
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream),
            open(pipe, "rb", buffering=0),  # noqa: SIM115 - the transport closes it
        )
        rest = b""
        try:
            while chunk := await stream.read(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > 1_000_000:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self.say(name, line.decode(errors="replace").rstrip())
            if rest:
                self.say(name, rest.decode(errors="replace"))
        finally:
            transport.close()

    async def _stop_all(self, keepers: Mapping[str, asyncio.Task[None]]) -> None:
        for stage in sorted({program.stage for program in self.table}, reverse=True):
            members = [
                program
                for program in self.table
                if program.stage == stage and program.name in keepers
            ]
            await asyncio.gather(
                *(self._stop_one(program, keepers[program.name]) for program in members)
            )
        if self._readers:
            await asyncio.wait(self._readers, timeout=2)
        for reader in self._readers:
            reader.cancel()

    async def _stop_one(self, program: Program, keeper: asyncio.Task[None]) -> None:
        process = self._processes.get(program.name)
        if process is None:
            await keeper
            return
        if not self._force_kill.is_set():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            impatient = asyncio.create_task(self._force_kill.wait())
            await asyncio.wait(
                {keeper, impatient},
                timeout=program.drain_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            impatient.cancel()
        if not keeper.done():
            reason = (
                "on request"
                if self._force_kill.is_set()
                else f"it did not end within {program.drain_seconds} s"
            )
            consequence = f"; {program.on_kill}" if program.on_kill else ""
            self.say("myia", f"{program.name} was killed: {reason}{consequence}")
            kill_group(process.pid)
        await keeper
        self.say("myia", f"{program.name} stopped")

    async def _watch_servers(self) -> None:
        while self.keep_servers:
            await asyncio.sleep(3)
            if news := await asyncio.to_thread(self.keep_servers):
                self.say("myia", news)


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return "ended" if code == 0 else f"failed with exit code {code}"


def kill_group(pid: int) -> None:
    """Kills a process started by the supervisor and its children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def find(pid: int, created: float) -> psutil.Process | None:
    """The process if it is alive and still the one that was started."""
    try:
        process = psutil.Process(pid)
        is_ours = (
            abs(process.create_time() - created) < 0.02 and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return None
    return process if is_ours else None


def is_alive(process: psutil.Process) -> bool:
    """Whether the process runs; the dead that nobody reaped (no init in a container) do not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


LOG_COLOURS = {
    "worker": 32,
    "worker-bulk": 92,
    "web": 36,
    "beat": 35,
    "flower": 33,
    "emulator": 34,
    "myia": 1,
}


class LogFile(logging.handlers.RotatingFileHandler):
    """10 MB and three older files."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=10_000_000, backupCount=3, encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk must not stop the stack, nor be reported once a line."""


class Log:
    """Every line into `<name>.log`, and, when followed, onto the terminal under its name."""

    def __init__(
        self, where: Files, write: Callable[[str], Any], *, follow: bool, colour: bool
    ) -> None:
        self.where, self.write, self.follow, self.colour = where, write, follow, colour
        self._files: dict[str, LogFile] = {}

    def __call__(self, name: str, line: str) -> None:
        if name not in self._files:
            self._files[name] = LogFile(self.where.logs / f"{name}.log")
        self._files[name].emit(logging.LogRecord(name, logging.INFO, "", 0, line, None, None))
        if self.follow or name == "myia":
            prefix = f"{name:<11} | "
            if self.colour:
                prefix = f"\x1b[{LOG_COLOURS.get(name, 37)}m{prefix}\x1b[0m"
            try:
                self.write(prefix + line)
            except BrokenPipeError:  # `up | head`
                self.follow = False

    def close(self) -> None:
        for file in self._files.values():
            file.close()
