"""Serve the emulator in this process."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Callable

from certification.emulator.http import Peer
from certification.emulator.http2 import ProtocolSniffer
from certification.emulator.server import Emulator

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
