"""The emulator as a process: `serve` runs one in this process, `start` another beside it and waits
until it answers.
"""

from __future__ import annotations

import asyncio
import errno
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO, cast

from certification.emulator.http import Peer
from certification.emulator.http2 import ProtocolSniffer
from certification.emulator.server import Emulator

READY = re.compile(r"^Emulator ready at (http://\S+)")
PATIENCE = 5.0  # seconds that running calls get at shutdown


class CannotListen(RuntimeError):
    """The address cannot be listened on, mostly because another program does; the message says so
    and what to do.
    """


def ready_lines(url: str, emulator: Emulator) -> str:
    """What a person needs to point any SDK at the emulator."""
    return (
        f"Emulator ready at {url} (scenario {emulator.director.scenario.name}, seed {emulator.options.seed})\n"
        "Point any AWS SDK or the AWS CLI at it:\n"
        f"  export AWS_ENDPOINT_URL={url}\n"
        "  export AWS_ACCESS_KEY_ID=AKIAEMULATOR AWS_SECRET_ACCESS_KEY=emulator\n"
        "  export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1"
    )


def serve(emulator: Emulator, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Runs until SIGTERM or SIGINT, then lets running calls end. `announce` gets the URL once calls
    are answered.

    Raises CannotListen.
    """
    try:
        asyncio.run(_serve(emulator, host, port, announce))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"Port {port} on {host} is taken by another program. Stop it, or choose another port with --port "
                "(0 takes any free one)."
            ) from error
        if error.errno in (errno.EACCES, errno.EADDRNOTAVAIL) or isinstance(error, socket.gaierror):
            raise CannotListen(
                f"Cannot listen at port {port} of {host}: {error.strerror}. Choose another with --host and --port."
            ) from error
        raise


async def _serve(emulator: Emulator, host: str, port: int, announce: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    connections: set[Peer] = set()
    server = await loop.create_server(
        lambda: ProtocolSniffer(emulator.handle, connections),
        host,
        port,
        backlog=1024,
        reuse_address=True,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    real = server.sockets[0].getsockname()[1]
    announce(f"http://{f'[{host}]' if ':' in host else host}:{real}")
    await stop.wait()
    server.close()
    await _drain(connections)


async def _drain(connections: set[Peer]) -> None:
    """Running calls may end; those that do not are cut off."""
    for connection in list(connections):
        connection.finish()
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while connections and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
    for connection in list(connections):
        connection.abort()
    await asyncio.sleep(0)


def start(
    *,
    scenario: str = "healthy",
    seed: int = 0,
    time_scale: float = 0.0,
    fixed_latency_ms: float | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    timeout: float = 30.0,
) -> tuple[str, subprocess.Popen[str]]:
    """Starts an emulator as a process of its own and returns (url, process) once it answers.

    Port 0 takes a free one. Whoever starts it ends it: `process.terminate()`, then
    `process.wait()`. Raises RuntimeError with what the process said when it does not come up.
    """
    command = [
        sys.executable,
        "-m",
        "certification.emulator",
        "--host",
        host,
        "--port",
        str(port),
        "--scenario",
        scenario,
    ]
    command += ["--seed", str(seed), "--time-scale", str(time_scale)]
    if fixed_latency_ms is not None:
        command += ["--fixed-latency-ms", str(fixed_latency_ms)]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(  # noqa: S603 - our own programs
        command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return _await_url(process, timeout), process


def _await_url(process: subprocess.Popen[str], timeout: float) -> str:
    """The URL that the process announces; afterwards its output is read and dropped, so that it
    never blocks on it.
    """
    output = cast(TextIO, process.stdout)
    killer = threading.Timer(timeout, process.kill)
    killer.start()
    said = []
    try:
        for line in output:
            match = READY.match(line)
            if match:
                threading.Thread(target=_discard, args=(output,), daemon=True).start()
                return match[1]
            said.append(line)
    finally:
        killer.cancel()
    output.close()
    process.wait()
    raise RuntimeError(
        f"The emulator did not start: {''.join(said).strip() or f'no answer within {timeout:g} s'}"
    )


def _discard(output: TextIO) -> None:
    with output:
        for _ in output:
            pass
