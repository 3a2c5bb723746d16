from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from certification.stack import control, embedded, programs, supervisor
from certification.stack.processes import Program
from certification.stack.supervisor import Files, ProcessRecord, Supervisor
from tests import seed
from tests.paths import PROJECT
from tests.processes import management_command

pytestmark = pytest.mark.processes

OBEDIENT = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print('ready', flush=True)
signal.pause()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
while True: signal.pause()
"""


def program(name: str, code: str, stage: int = 1, **more: Any) -> Program:
    return Program(name, (sys.executable, "-c", code), stage, **more)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """A supervisor in a thread of its own, and the lines it logged."""

    def __init__(self, files: Files, table: list[Program]) -> None:
        files.make()
        self.files = files
        self.lines: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self._run, args=(table,))
        self._thread.start()

    def _run(self, table: list[Program]) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            # Signals belong to the main thread; here stop() is called directly.
            loop.add_signal_handler = lambda *_: None  # type: ignore[method-assign]
            self.loop = loop
            self.supervisor = Supervisor(
                table,
                files=self.files,
                log=lambda name, line: self.lines.append((name, line)),
            )
            await self.supervisor.run()

        asyncio.run(main())

    def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not is_so():
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.02)

    def logged(self, name: str, words: str) -> bool:
        return any(speaker == name and words in line for speaker, line in self.lines)

    def started(self, name: str) -> ProcessRecord:
        self.until(lambda: any(process.name == name for process in self.files.read()[1]))
        return next(process for process in self.files.read()[1] if process.name == name)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.supervisor.stop)

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def starter(*table: Program) -> Running:
        running.append(Running(Files(tmp_path), list(table)))
        return running[-1]

    yield starter
    for each in running:
        if each._thread.is_alive():
            each.stop()
            each.stop()
            each.join()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", OBEDIENT], start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def left_behind(process: subprocess.Popen[bytes], created: float) -> ProcessRecord:
    return ProcessRecord("web", process.pid, created, None, "", "", 0, 5, 2, "")


def test_everything_stops_in_the_reverse_order_of_its_start(start: Callable[..., Running]) -> None:
    table = [
        program(name, OBEDIENT, stage)
        for stage, name in enumerate(["emulator", "worker", "web", "beat"])
    ]
    running = start(*table)
    running.until(lambda: all(running.logged(each.name, "ready") for each in table))
    pids = [running.started(each.name).pid for each in table]
    running.stop()
    running.join()
    stopped = [
        line.split()[0]
        for name, line in running.lines
        if name == "myia" and line.endswith("stopped")
    ]
    assert stopped == ["beat", "web", "worker", "emulator"]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not running.files.state.exists()


def test_a_program_that_crashes_is_started_again_after_a_pause_that_grows(
    start: Callable[..., Running],
) -> None:
    running = start(
        program("web", "print('trying'); raise SystemExit(3)"), program("beat", OBEDIENT)
    )
    running.until(
        lambda: running.logged("myia", "web failed with exit code 3 after 0 s; restarting in 2 s")
    )
    assert running.logged("myia", "web failed with exit code 3 after 0 s; restarting in 1 s")
    assert [name for name, line in running.lines if line == "trying"] == ["web", "web"]
    running.stop()
    running.join()


def test_a_killed_program_comes_back_with_another_pid(start: Callable[..., Running]) -> None:
    running = start(program("worker", OBEDIENT))
    running.until(lambda: running.logged("worker", "ready"))
    first = running.started("worker")
    os.kill(first.pid, signal.SIGKILL)
    running.until(lambda: running.started("worker").pid != first.pid)
    assert running.logged("myia", "worker was ended by SIGKILL")
    assert running.started("worker").restarts == 1


SERVER = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404 if 'broken' in sys.argv else 200)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Page).serve_forever()
"""


def test_a_program_that_lives_and_answers_no_more_is_replaced(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOK_S", "LOOK_TIMEOUT_S"):
        monkeypatch.setattr(supervisor, name, 0.2)
    port = free_port()
    server = Program(
        "worker", (sys.executable, "-c", SERVER, str(port)), port=port, health="/live",
        on_kill="its runs are taken up again",
    )  # fmt: skip
    running = start(server)
    running.until(lambda: control.answers(port, "/live"))
    first = running.started("worker")
    time.sleep(0.5)  # for the supervisor to see it well
    os.kill(first.pid, signal.SIGSTOP)
    running.until(lambda: running.started("worker").pid != first.pid)
    assert running.logged("myia", "worker is not well: /live did not answer within 0.2 s")
    assert running.logged("myia", "worker was killed: /live did not answer within 0.2 s; its runs")
    running.until(lambda: control.answers(port, "/live"))


def test_a_404_does_not_count_as_alive(start: Callable[..., Running]) -> None:
    port = free_port()
    broken = Program(
        "web", (sys.executable, "-c", SERVER, str(port), "broken"), port=port, health="/live"
    )
    running = start(broken)
    running.until(lambda: not programs.is_free(port))
    assert not control.answers(port, "/live")
    assert asyncio.run(supervisor.health_fault(port, "/live")) == "/live answered 404"


def test_a_program_that_does_not_end_is_killed_after_its_drain_time(
    start: Callable[..., Running],
) -> None:
    running = start(
        program("worker", STUBBORN, drain_seconds=1, on_kill="its runs are taken up again")
    )
    running.until(lambda: running.logged("worker", "ready"))
    running.stop()
    running.join()
    assert running.logged(
        "myia", "worker was killed: it did not end within 1 s; its runs are taken up again"
    )


def test_a_second_ctrl_c_kills_at_once(start: Callable[..., Running]) -> None:
    running = start(program("worker", STUBBORN, drain_seconds=600))
    running.until(lambda: running.logged("worker", "ready"))
    running.stop()
    running.stop()
    running.join()
    assert running.logged("myia", "worker was killed: on request")


def test_a_program_that_does_not_exist_is_reported(start: Callable[..., Running]) -> None:
    running = start(Program("flower", ("/nowhere/flower",), 1))
    running.until(lambda: running.logged("flower", "cannot be started"))
    running.stop()
    running.join()


def test_children_of_a_killed_program_are_ended_with_it(start: Callable[..., Running]) -> None:
    child = f"subprocess.Popen([sys.executable, '-c', {STUBBORN!r}])"
    code = f"import subprocess, sys; print({child}.pid); sys.exit(1)"
    running = start(program("web", code))
    running.until(lambda: any(line.isdigit() for _, line in running.lines))
    pid = next(int(line) for _, line in running.lines if line.isdigit())
    running.until(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    )
    running.stop()
    running.join()


def test_each_program_has_a_log_file_and_a_prefix(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.make()
    written: list[str] = []
    log = supervisor.Log(files.logs, written.append, follow=True, colour=True)
    log("web", "hello")
    log.close()
    assert (files.logs / "web.log").read_text() == "hello\n"
    assert written == ["\x1b[36mweb         | \x1b[0mhello"]
    quiet = supervisor.Log(files.logs, written.append, follow=False, colour=False)
    quiet("web", "unheard")
    quiet("myia", "web failed")
    quiet.close()
    assert written[1:] == ["myia        | web failed"]


def test_only_one_supervisor_runs_in_a_project(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with (
        files.hold_lock(),
        pytest.raises(supervisor.StackError, match="already running here"),
        files.hold_lock(),
    ):
        pass
    with files.hold_lock():
        pass


def test_processes_left_by_a_killed_supervisor_are_ended(
    tmp_path: Path, settings: LazySettings, sleeper: subprocess.Popen[bytes]
) -> None:
    settings.MYIA_DIR = tmp_path
    control.files().make()
    control.files().write([left_behind(sleeper, psutil.Process(sleeper.pid).create_time())])
    lines: list[str] = []
    assert control.end_leftovers(lines.append) == 1
    assert sleeper.wait(5) == 0
    assert lines == [f"web (pid {sleeper.pid}) was left by a supervisor that died; ending it"]


def test_a_recycled_pid_is_left_alone(
    tmp_path: Path, settings: LazySettings, sleeper: subprocess.Popen[bytes]
) -> None:
    settings.MYIA_DIR = tmp_path
    control.files().make()
    control.files().write([left_behind(sleeper, psutil.Process(sleeper.pid).create_time() - 100)])
    assert control.end_leftovers(print) == 0
    assert sleeper.poll() is None


def test_a_port_in_use_is_reported_with_its_user_and_another_choice(settings: LazySettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        settings.PORT = holder.getsockname()[1]
        web = programs.select(programs.programs(), ["web"])
        with pytest.raises(supervisor.StackError) as refused:
            programs.check_ports(web)
    sentence = str(refused.value)
    assert sentence.startswith(f"Port {settings.PORT} (web) is used by pid {os.getpid()}: ")
    assert sys.executable in sentence or "pytest" in sentence
    assert f"choose another port: PORT={settings.PORT + 10}" in sentence


def test_clicks_and_large_jobs_have_workers_of_their_own(settings: LazySettings) -> None:
    settings.CERTIFICATION_BULK_WORKERS = 2
    settings.WORKER_HEALTH_PORT = 3002
    workers = programs.select(programs.programs(), ["worker"])
    assert [each.port for each in workers] == [3002, 3004, 3005]
    queues = {each.name: each.argv[each.argv.index("--queues") + 1] for each in workers}
    assert queues == {
        "worker": "model-certification,maintenance",
        "worker-bulk": "model-certification.bulk",
        "worker-bulk-2": "model-certification.bulk",
    }


def test_workers_without_a_health_port_have_no_health_server(settings: LazySettings) -> None:
    settings.WORKER_HEALTH_PORT = 0
    for worker in programs.select(programs.programs(), ["worker"]):
        assert (worker.port, worker.env["WORKER_HEALTH_PORT"]) == (None, "0")


def procfile() -> dict[str, str]:
    return dict(line.split(": ", 1) for line in (PROJECT / "Procfile").read_text().splitlines())


def test_the_procfile_has_every_process_of_the_stack() -> None:
    assert set(procfile()) == {program.name for program in programs.programs()}
    assert all(line == f"exec python manage.py run {name}" for name, line in procfile().items())


def run_line(name: str, **env: str) -> subprocess.Popen[str]:
    """What a process manager does with a line of the Procfile."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["sh", "-c", procfile()[name]],
        cwd=PROJECT,
        env={**os.environ, **env, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_line_of_the_procfile_becomes_the_process() -> None:
    port = free_port()
    with run_line("emulator", EMULATOR_PORT=str(port)) as process:
        assert process.stdout
        assert f"Emulator ready at http://127.0.0.1:{port}" in process.stdout.readline()
        process.terminate()
        assert process.wait(20) == 0


def test_the_procfile_starts_no_flower_without_a_password() -> None:
    with run_line("flower", FLOWER_BASIC_AUTH="") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode
    assert "Set FLOWER_BASIC_AUTH=user:password" in output


def test_run_names_the_processes_there_are() -> None:
    with pytest.raises(CommandError, match="no process 'wbe': beat, emulator, flower, web, worker"):
        call_command("run", "wbe")


def test_an_unknown_process_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        supervisor.StackError, match="no process 'wbe' here: emulator, worker, worker-bulk, web"
    ):
        programs.select(programs.programs(), ["wbe"])


def test_the_emulator_is_left_out_where_calls_go_elsewhere(settings: LazySettings) -> None:
    assert "emulator" in [each.name for each in programs.programs()]
    settings.BEDROCK_ENDPOINT_URL = "http://127.0.0.1:9"
    assert "emulator" not in [each.name for each in programs.programs()]


def test_a_password_for_flower_is_generated_once_for_its_owner_only(
    tmp_path: Path, settings: LazySettings
) -> None:
    settings.MYIA_DIR = tmp_path
    settings.FLOWER_BASIC_AUTH = ""
    login = programs.flower_login()
    assert login == programs.flower_login()
    assert len(login.partition(":")[2]) >= 20
    assert programs.secrets_file().stat().st_mode & 0o777 == 0o600
    settings.FLOWER_BASIC_AUTH = "me:mine"
    assert programs.flower_login() == "me:mine"


@pytest.fixture
def manage(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """`manage.py` for an installation of its own: own data, own ports."""
    seed.plant(tmp_path)
    ports = {
        name: str(free_port())
        for name in ("PORT", "WORKER_HEALTH_PORT", "FLOWER_PORT", "EMULATOR_PORT")
    }
    environment = {**os.environ, **ports, "MYIA_ROOT": str(tmp_path), "BEDROCK_BACKEND": "emulator"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = management_command(*arguments)
        return subprocess.run(
            command,
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    yield run
    run("down")
    embedded.discard(tmp_path)


def test_a_process_that_hangs_is_restarted_at_once(
    start: Callable[..., Running],
    settings: LazySettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings.MYIA_DIR = tmp_path
    running = start(program("worker", STUBBORN, drain_seconds=600))
    running.until(lambda: running.logged("worker", "ready"))
    pid = running.started("worker").pid
    call_command("restart", "worker", "--now", "--dry-run", "--json")
    printed = capsys.readouterr()
    assert f"Would kill worker, pid {pid}." in printed.err
    assert json.loads(printed.out)["processes"][0]["pid"] == pid
    assert running.started("worker").pid == pid  # it still runs
    call_command("restart", "worker", "--now", "--json")
    [after] = json.loads(capsys.readouterr().out)["processes"]
    assert (after["process"], after["state"]) == ("worker", "running")
    assert after["pid"] != pid
    with pytest.raises(CommandError, match="No such process"):
        call_command("restart", "flower", "--now")


def test_up_status_restart_and_down_on_real_processes(
    manage: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    down = manage("status")
    assert down.returncode == 1
    assert "down" in down.stdout

    up = manage("up", "--detach", "web", "emulator")
    assert up.returncode == 0, up.stdout + up.stderr
    again = manage("up")
    assert again.returncode == 1
    assert again.stderr.strip().startswith("CommandError: MyIA is already running here.")

    running = manage("status", "--json")
    assert running.returncode == 0, running.stdout
    processes = {each["process"]: each for each in json.loads(running.stdout)["processes"]}
    assert set(processes) == {"postgres", "valkey", "supervisor", "web", "emulator"}
    assert {each["state"] for each in processes.values()} == {"running"}
    assert processes["web"]["memoryBytes"] > 10_000_000
    children = {child.pid for child in psutil.Process(processes["web"]["pid"]).children()}
    services = [psutil.Process(processes[name]["pid"]) for name in ("web", "emulator")]
    services += [psutil.Process(pid) for pid in children]
    if os.geteuid() == 0:
        servers = psutil.Process(processes["postgres"]["pid"]).uids()
        assert {service.uids() for service in services} == {servers}
        assert servers.effective != 0
    assert_secrets_hidden(tmp_path / ".myia", services)

    restarted = manage("restart", "web", "emulator")
    assert restarted.returncode == 0, restarted.stdout + restarted.stderr
    after = {
        each["process"]: each for each in json.loads(manage("status", "--json").stdout)["processes"]
    }
    assert after["web"]["pid"] == processes["web"]["pid"]
    assert not children & {child.pid for child in psutil.Process(after["web"]["pid"]).children()}
    assert after["emulator"]["pid"] != processes["emulator"]["pid"]

    stopped = manage("down")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "Everything is stopped." in stopped.stdout
    assert not any(psutil.pid_exists(each["pid"]) and alive(each["pid"]) for each in after.values())
    assert manage("down").stdout.strip() == "Nothing was running."


def assert_secrets_hidden(home: Path, processes: Sequence[psutil.Process]) -> None:
    """No password in an argument or a log, and none in a file that others can read."""
    state = json.loads((home / "embedded.json").read_text())
    secrets = [
        state["postgres"]["password"],
        state["valkey"]["password"],
        (home / "secret_key").read_text(),
    ]
    arguments = " ".join(word for process in processes for word in process.cmdline())
    assert not any(secret in arguments for secret in secrets)
    for file in home.rglob("*"):
        if file.is_file() and file.stat().st_size < 10_000_000:
            text = file.read_text(errors="replace")
            if any(secret in text for secret in secrets):
                assert file.stat().st_mode & 0o077 == 0, file
                assert file.suffix not in {".log", ".out"}, file


def alive(pid: int) -> bool:
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
