"""Processes that a command starts end with it, whenever it is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from certification.stack.processes import NotReady, Processes, Program, uninterrupted

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
