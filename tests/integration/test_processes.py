"""Processes that a command starts end with it, whenever it is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from certification.stack.processes import NotReady, Processes, Program, uninterrupted
from tests import forks
from tests.paths import PROJECT

SLEEPER = Program("sleeper", (sys.executable, "-c", "import time; time.sleep(600)"), stage=1)
# Does not end when it is told to, but tells whoever started it to end, as an impatient person
# would.
DEAF = Program(
    "deaf",
    (
        sys.executable,
        "-c",
        "import os, signal, time; "
        "signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getppid(), signal.SIGINT)); "
        "print('deaf', flush=True); time.sleep(600)",
    ),
    stage=1,
    drain_seconds=600,
)


class Interrupted(subprocess.Popen[bytes]):
    """A process in whose very birth its parent is told to end."""

    pids: list[int] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pids.append(self.pid)
        signal.raise_signal(signal.SIGINT)


def test_a_process_that_is_just_being_started_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), Processes(tmp_path) as processes:
        processes.start(SLEEPER)
    [pid] = Interrupted.pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_second_interruption_kills_everything_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Processes(tmp_path) as processes:  # noqa: PT012
        processes.start(SLEEPER)
        processes.start(DEAF)
        processes.wait_until(lambda: "deaf" in (tmp_path / "deaf.log").read_text(), "deaf")
        raise KeyboardInterrupt
    codes = [process.returncode for process in processes.running]
    assert codes == [-signal.SIGTERM, -signal.SIGKILL]


def test_a_signal_held_back_arrives_at_the_end_of_the_block() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), uninterrupted() as received:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        reached = True
    assert reached
    assert received == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_waiting_for_a_process_that_ends_names_its_log(tmp_path: Path) -> None:
    broken = Program("broken", (sys.executable, "-c", "raise SystemExit(1)"))
    sentence = f"The broken did not start. Its log is in {tmp_path}"
    with pytest.raises(NotReady, match=sentence), Processes(tmp_path) as processes:  # noqa: PT012
        processes.start(broken)
        processes.wait_until(lambda: False, "broken")


EMULATOR = [sys.executable, "-m", "certification.emulator", "--port", "0", "--scenario", "healthy"]


def start_emulator(**options: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(EMULATOR, cwd=PROJECT, stdout=subprocess.PIPE, text=True, **options)
    assert process.stdout
    assert process.stdout.readline().startswith("Emulator ready at")
    return process


def test_a_fork_is_to_everybody_what_a_process_of_its_own_would_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only how long it takes tells that the tests start the product's processes as forks."""
    environment = {**os.environ, "MARK": "é", "PYTHONUNBUFFERED": "1"}
    shown = []
    for has_forks in (True, False):
        if not has_forks:
            monkeypatch.setattr(forks.Request, "of", lambda _options: None)
        with start_emulator(env=environment, start_new_session=True) as process:
            system = psutil.Process(process.pid)
            shown.append(
                (
                    system.ppid() == os.getpid(),
                    os.getsid(process.pid) == process.pid,
                    system.cmdline(),
                    {name: system.environ().get(name) for name in environment},
                    system.children(),
                    len(os.listdir(f"/proc/{process.pid}/fd")),
                )
            )
            process.terminate()
            assert process.wait(30) == 0
    assert shown[0] == shown[1]
    assert shown[0][:2] == (True, True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_fork_is_killed_and_frozen_by_its_pid(number: signal.Signals) -> None:
    with start_emulator() as process:
        process.send_signal(number)
        if number == signal.SIGSTOP:
            assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            process.kill()
        assert process.wait(30) == -signal.SIGKILL
