"""The processes of the servers: known by name, account and folder, so that no other program is
taken for one of them. Imported where it is needed only: psutil costs 20 ms, which the settings of
every process would pay.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from certification.stack.processes import is_alive

END_SECONDS = 5


def find_server(name: str, pid: int | None, folder: Path) -> psutil.Process | None:
    """Return the live server with this pid that works in `folder`; after a crash the pid may be
    free or some other program's.
    """
    with contextlib.suppress(psutil.Error, FileNotFoundError):
        process = psutil.Process(pid) if pid else None
        if (
            process
            and process.name() == name
            and process.uids().real == folder.stat().st_uid
            and Path(process.cwd()) == folder
            and is_alive(process)
        ):
            return process
    return None


def find_servers(name: str, folder: Path) -> list[psutil.Process]:
    """Return every live process of this name that works in `folder` or below, children of the
    server and servers whose data was deleted under them (`rm -rf .myia`) included.
    """
    return [
        process
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["name"] == name
        and process.info["cwd"]
        and Path(process.info["cwd"].removesuffix(" (deleted)")).is_relative_to(folder)
        and is_alive(process)
    ]


def end(processes: Sequence[psutil.Process], seconds: float = END_SECONDS) -> None:
    """End servers: ask each, and kill what still lives after `seconds`. One that is frozen
    (SIGSTOP) goes on first, for otherwise it would not hear.
    """
    for is_patient in (True, False):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                gentle = signal.SIGQUIT if process.name() == "postgres" else signal.SIGTERM
                process.send_signal(gentle if is_patient else signal.SIGKILL)
                process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + (seconds if is_patient else END_SECONDS)
        while time.monotonic() < deadline and any(is_alive(process) for process in processes):
            time.sleep(0.01)
        if not any(is_alive(process) for process in processes):
            return
