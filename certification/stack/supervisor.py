"""Keep a set of processes alive on one machine. Knows neither Django nor what the processes do.

docs/architecture.md says why this is no library.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from certification.stack.processes import PROJECT, Program, find, is_free, kill_group

STEADY_SECONDS = 60  # a process that lived that long starts again at once
LONGEST_PAUSE = 30  # seconds between two starts of a process that keeps crashing
# A process that answered its health page and has stopped to is replaced: after so many looks in a
# row without a 200, or when it does not answer for the first time within START_LIMIT_S.
LOOK_S, LOOK_TIMEOUT_S, MAX_FAILED_LOOKS, START_LIMIT_S = 5.0, 3.0, 6, 180

LogSink = Callable[[str, str], None]


class StackError(Exception):
    """The stack cannot start or stop; the text says what to do."""


@dataclass
class ProcessRecord:
    """What the state file stores of a process. `created` tells our process from another one that
    got its pid later.
    """

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

    @classmethod
    def of(cls, program: Program, pid: int, restarts: int) -> ProcessRecord:
        """Describe a process that was just started. Raises psutil.NoSuchProcess."""
        return cls(
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
        """Return the supervisor's pid, None when it is gone, and the processes it started."""
        try:
            state = json.loads(self.state.read_text())
        except (FileNotFoundError, ValueError):
            return None, []
        supervisor = state["supervisor"]
        pid = supervisor["pid"] if find(supervisor["pid"], supervisor["created"]) else None
        return pid, [ProcessRecord(**record) for record in state["processes"]]

    def write(self, records: Sequence[ProcessRecord]) -> None:
        """Store this process as the supervisor, with the processes it started."""
        me = psutil.Process()
        state = {
            "supervisor": {"pid": me.pid, "created": me.create_time()},
            "processes": [asdict(record) for record in records],
        }
        draft = self.state.with_suffix(".new")
        draft.write_text(json.dumps(state, indent=1))
        draft.replace(self.state)

    @contextlib.contextmanager
    def hold_lock(self) -> Iterator[None]:
        """Hold the lock of the one supervisor here. Raises StackError when another holds it."""
        self.make()
        with self.lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(
                    "MyIA is already running here. See `manage.py status`, or stop it with "
                    "`manage.py down`."
                ) from None
            yield


class Supervisor:
    """Starts programs in order, restarts those that end, stops all in reverse order.

    `log(name, line)` gets every line of every program, and the supervisor's own lines under the
    name "myia". `env` is added to the environment of every program. `check_servers` is called every
    few seconds to restart the servers underneath (the embedded ones); it returns what it did.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        files: Files,
        log: LogSink,
        env: Mapping[str, str] | None = None,
        check_servers: Callable[[], str] | None = None,
    ) -> None:
        self.programs = sorted(programs, key=lambda program: program.stage)
        self.files, self.log, self.check_servers = files, log, check_servers
        self.env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._stopping = asyncio.Event()
        self._force_kill = asyncio.Event()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._records: dict[str, ProcessRecord] = {}
        self._readers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Run until `stop` is called or SIGINT, SIGTERM or SIGHUP arrives; a second signal kills
        what still runs.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        self.files.write([])
        tasks: dict[str, asyncio.Task[None]] = {}
        watches = [asyncio.create_task(self.watch_servers())]
        try:
            for program in self.programs:
                tasks[program.name] = asyncio.create_task(self.keep_running(program))
                if program.port and program.health:
                    watches.append(asyncio.create_task(self.watch_health(program)))
                if program.stage == 0 and program.port:  # the later programs call it
                    deadline = time.monotonic() + 10
                    while is_free(program.port) and time.monotonic() < deadline:
                        if self._stopping.is_set():
                            break
                        await asyncio.sleep(0.05)
            await self._stopping.wait()
        finally:
            for watch in watches:
                watch.cancel()
            await self.stop_all(tasks)
            self.files.state.unlink(missing_ok=True)

    def stop(self) -> None:
        """End `run`; called again, end it without waiting for any process."""
        if self._stopping.is_set():
            self._force_kill.set()
        self._stopping.set()

    async def keep_running(self, program: Program) -> None:
        """Run a program again whenever it ends. The pause doubles with each crash in a row; an
        orderly end or a long life costs none.
        """
        crashes = restarts = 0
        is_orderly = True
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self.run_once(program, restarts, replaces=not is_orderly)
            if self._stopping.is_set():
                return
            lifetime = time.monotonic() - started
            is_orderly = code in {0, -signal.SIGTERM} and lifetime > 1
            crashes = 0 if is_orderly or lifetime > STEADY_SECONDS else crashes + 1
            pause = min(LONGEST_PAUSE, 2 ** (crashes - 1)) if crashes else 0
            restarts += 1
            how = f"failed with exit code {code}" if code else "ended"
            if code < 0:
                how = f"was ended by {signal.Signals(-code).name}"
            when = f"in {pause} s" if pause else "now"
            self.log("myia", f"{program.name} {how} after {lifetime:.0f} s; restarting {when}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause or 0.01)

    async def run_once(self, program: Program, restarts: int, *, replaces: bool) -> int:
        """Run a program to its end and return its exit code; 127 when it cannot be started. It may
        learn from its environment that it replaces one that ended without being told to.
        """
        # Our own pipe: with asyncio's, `wait` would wait for children that hold it open after their
        # parent died.
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *program.argv,
                cwd=PROJECT,
                env={
                    **self.env,
                    **program.env,
                    "SUPERVISED_PROCESS": program.name,
                    "SUPERVISED_REPLACES": str(int(replaces)),
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.STDOUT,
                # Ctrl-C reaches the supervisor only, which stops the rest in order
                start_new_session=True,
            )
        except OSError as error:
            os.close(reading)
            self.log(program.name, f"cannot be started: {error}")
            return 127
        finally:
            os.close(writing)
        reader = asyncio.create_task(self.read_output(program.name, reading))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        self._processes[program.name] = process
        if self._stopping.is_set():
            process.terminate()
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have died already
            self._records[program.name] = ProcessRecord.of(program, process.pid, restarts)
        try:
            self.files.write(list(self._records.values()))
        except OSError as error:  # a full disk must not stop the stack
            problem = f"{self.files.state} cannot be written ({error})"
            self.log("myia", f"`manage.py status` will be wrong: {problem}")
        code = await process.wait()
        kill_group(process.pid)  # its children would hold its port
        self._processes.pop(program.name, None)
        return code

    async def read_output(self, name: str, pipe: int) -> None:
        """Log every line that a process writes into its pipe."""
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
                    self.log(name, line.decode(errors="replace").rstrip())
            if rest:
                self.log(name, rest.decode(errors="replace"))
        finally:
            transport.close()

    async def stop_all(self, tasks: Mapping[str, asyncio.Task[None]]) -> None:
        """Stop the programs, the last stage first, those of one stage together."""
        for stage in sorted({program.stage for program in self.programs}, reverse=True):
            stops = [
                self.stop_program(program, tasks[program.name])
                for program in self.programs
                if program.stage == stage and program.name in tasks
            ]
            await asyncio.gather(*stops)
        if self._readers:
            await asyncio.wait(self._readers, timeout=2)
        for reader in self._readers:
            reader.cancel()

    async def stop_program(self, program: Program, task: asyncio.Task[None]) -> None:
        """Ask a program to end and kill it after its `drain_seconds`, or at once after a second
        signal. `task` is its `keep_running`.
        """
        process = self._processes.get(program.name)
        if process is None:
            await task
            return
        if not self._force_kill.is_set():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            force_kill = asyncio.create_task(self._force_kill.wait())
            await asyncio.wait(
                {task, force_kill},
                timeout=program.drain_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            force_kill.cancel()
        if not task.done():
            reason = f"it did not end within {program.drain_seconds} s"
            if self._force_kill.is_set():
                reason = "on request"
            consequence = f"; {program.on_kill}" if program.on_kill else ""
            self.log("myia", f"{program.name} was killed: {reason}{consequence}")
            kill_group(process.pid)
        await task
        self.log("myia", f"{program.name} stopped")

    async def watch_health(self, program: Program) -> None:
        """Kill a program that lives and does no work any more, by its health page; `keep_running`
        starts it again.
        """
        observed, started, failed, has_answered = None, 0.0, 0, False
        while True:
            await asyncio.sleep(LOOK_S)
            process = self._processes.get(program.name)
            if process is not observed:
                observed, started, failed, has_answered = process, time.monotonic(), 0, False
            if process is None:
                continue
            fault = await health_fault(program.port or 0, program.health)
            if not fault:
                if failed > 1:
                    self.log("myia", f"{program.name} answers again")
                failed, has_answered = 0, True
                continue
            if has_answered or time.monotonic() - started > START_LIMIT_S:
                failed += 1
            if failed == 2:
                self.log("myia", f"{program.name} is not well: {fault}")
            if failed >= MAX_FAILED_LOOKS and self._processes.get(program.name) is process:
                consequence = f"; {program.on_kill}" if program.on_kill else ""
                self.log("myia", f"{program.name} was killed: {fault}{consequence}")
                kill_group(process.pid)

    async def watch_servers(self) -> None:
        """Restart servers that died, and log that."""
        while self.check_servers:
            await asyncio.sleep(3)
            if message := await asyncio.to_thread(self.check_servers):
                self.log("myia", message)


async def health_fault(port: int, path: str) -> str:
    """Ask a page of this machine. Return why it is not well, empty when it answers 200 in time."""
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        return f"{path} did not answer within {LOOK_TIMEOUT_S:g} s"
    except OSError as error:
        return f"{path} cannot be reached ({error.strerror or type(error).__name__})"
    status = line.split(b" ")[1:2]
    return "" if status == [b"200"] else f"{path} answered {b''.join(status).decode() or 'nothing'}"


LOG_COLOURS = {
    "worker": 32,
    "worker-bulk": 92,
    "worker-bulk-2": 92,
    "web": 36,
    "beat": 35,
    "flower": 33,
    "emulator": 34,
    "myia": 1,
}


class LogFile(logging.handlers.RotatingFileHandler):
    """Rotates at 10 MB and keeps three older files."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=10_000_000, backupCount=3, encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore a full disk: it must not stop the stack, nor be reported once per line."""


class Log:
    """Writes every line into `<name>.log` and, when `follow` is set, onto the terminal, prefixed
    with its name. The supervisor's own lines always go to the terminal.
    """

    def __init__(
        self, logs: Path, write: Callable[[str], Any], *, follow: bool, colour: bool
    ) -> None:
        self.logs, self.write, self.follow, self.colour = logs, write, follow, colour
        self._files: dict[str, LogFile] = {}

    def __call__(self, name: str, line: str) -> None:
        if name not in self._files:
            self._files[name] = LogFile(self.logs / f"{name}.log")
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
