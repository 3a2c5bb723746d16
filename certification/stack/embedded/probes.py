"""Helpers that both servers need: their programs, their logs, and whether they answer."""

from __future__ import annotations

import importlib.util
import platform
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from certification.stack.embedded.errors import EmbeddedError, Silent
from certification.stack.embedded.state import START_SECONDS

if TYPE_CHECKING:
    import psutil


def find_program(package: str, path: str, server: str, variable: str) -> str:
    """Return the path of a program in an installed wheel. The wheel is not imported: that would
    create files and handlers.
    """
    spec = importlib.util.find_spec(package)
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / path).is_file():
        raise EmbeddedError(
            f"The embedded {server} is not installed for {platform.system()} "
            f"{platform.machine()}: run `pip install -r requirements/base.txt`; if there is no "
            f"wheel for this machine, set {variable} to a server of your own."
        )
    return str((folder / path).resolve())


def send_and_receive(path: Path, request: bytes, replies: int = 1) -> bytes:
    """Send a request to a socket and return the response: one byte, or `replies` lines. Empty when
    nothing answers within 1 s.
    """
    response = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(request)
            while not response if replies == 1 else response.count(b"\n") < replies:
                piece = connection.recv(256)
                if not piece:
                    break
                response += piece
    except OSError:
        pass
    return response


def listens(path: Path) -> bool:
    """Whether a process listens at this socket, even one that is frozen: the kernel accepts for
    it, until too many wait.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def wait_for_answer(
    condition: Callable[[], bool], server: str, process: psutil.Process, seconds: float
) -> None:
    """Wait until a server that lives answers again: it recovers from a crash, or is frozen. A
    second one on its data would destroy it. Raises Silent after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() < deadline:
            time.sleep(0.02)
            continue
        status = process.status() if process.is_running() else "ended"
        since = f" for {seconds:g} s" if seconds else ""
        raise Silent(
            f"{server} does not answer{since}; its process {process.pid} lives ({status}) and is "
            "waited for. If it stays so, end it with `manage.py down` and start again with "
            "`manage.py up`."
        )


def wait_until(
    condition: Callable[[], bool],
    server: str,
    folder: Path,
    verb: str = "start",
    seconds: int = START_SECONDS,
) -> None:
    """Wait until `condition()`. Raises EmbeddedError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"{server} did not {verb} within {seconds} s. Its log is in {folder}."
            )
        time.sleep(0.02)


def read_pid(path: Path) -> int | None:
    """Return the pid in a pid file, None when there is none."""
    try:
        return int(path.read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def read_log(log: Path) -> str:
    """Return the text of a log, empty when there is none."""
    try:
        return log.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def rotate(log: Path) -> None:
    """Rename a log of more than 10 MB; one older log remains."""
    if log.exists() and log.stat().st_size > 10_000_000:
        log.replace(log.with_suffix(".log.1"))
