"""Server processes that lost their data or their parent. Imported where it is needed only: psutil
costs 20 ms, which the settings of every process would pay.
"""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import psutil

from certification.stack.processes import is_alive


def find_postgres(pid: int | None) -> psutil.Process | None:
    """Return the live PostgreSQL with this pid; after a crash the pid may be free or some other
    program's.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid) if pid else None
        if process and process.name() == "postgres" and is_alive(process):
            return process
    return None


def end_orphans(folder: Path) -> None:
    """End servers whose data was deleted under them (`rm -rf .myia`) and children that outlived
    their server.
    """
    orphans = [
        process
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["name"] in {"postgres", "valkey-server"}
        and process.info["cwd"]
        and Path(process.info["cwd"]).is_relative_to(folder)
    ]
    for is_patient in (True, False):
        for process in orphans:
            gentle = signal.SIGQUIT if process.info["name"] == "postgres" else signal.SIGTERM
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(gentle if is_patient else signal.SIGKILL)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and any(is_alive(process) for process in orphans):
            time.sleep(0.01)
