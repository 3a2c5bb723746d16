"""What a command starts for itself ends with it, at whatever moment it is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from certification.stack import temporary
from certification.stack.supervisor import Program

SLEEPER = Program("sleeper", (sys.executable, "-c", "import time; time.sleep(600)"), stage=1)
# Does not end when it is told to, but tells whoever started it to end, as an impatient person
# would.
DEAF = Program(
    "deaf",
    (
        sys.executable,
        "-c",
        "import os, signal, time; signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getppid(), signal.SIGINT)); "
        "print('deaf', flush=True); time.sleep(600)",
    ),
    stage=1,
    drain_seconds=600,
)


class Interrupted(subprocess.Popen[str]):
    """A process in whose very birth its parent is told to end."""

    born: list[int] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.born.append(self.pid)
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Path:
    settings.MYIA_DIR = tmp_path
    return tmp_path


def test_a_process_that_is_just_being_started_ends_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), temporary.processes([SLEEPER]):
        pass
    [pid] = Interrupted.born
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_second_interruption_waits_for_nobody_and_leaves_nobody(home: Path) -> None:
    running: list[subprocess.Popen[str]] = []
    with pytest.raises(KeyboardInterrupt), temporary.processes([SLEEPER, DEAF]) as started:  # noqa: PT012
        running += started
        while "deaf" not in (home / "logs" / "deaf.log").read_text():
            pass
        raise KeyboardInterrupt
    assert [process.returncode for process in running] == [-signal.SIGTERM, -signal.SIGKILL]


def test_what_came_while_interruptions_wait_is_heard_at_the_end_of_the_block() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), temporary.uninterrupted() as came:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        reached = True
    assert reached
    assert came == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
