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

SHUTDOWN_GRACE_S = 5.0  # for running calls


class CannotListen(RuntimeError):
    """The address is not available, usually because another program listens on it.

    The message says so and what to do.
    """


def ready_lines(url: str, emulator: Emulator) -> str:
    """Return what a person needs to point any SDK at the emulator."""
    scenario, seed = emulator.injector.scenario, emulator.options.seed
    return (
        f"Emulator ready at {url} (scenario {scenario.name}, seed {seed})\n"
        "Point any AWS SDK or the AWS CLI at it:\n"
        f"  export AWS_ENDPOINT_URL={url}\n"
        "  export AWS_ACCESS_KEY_ID=AKIAEMULATOR AWS_SECRET_ACCESS_KEY=emulator\n"
        "  export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1\n"
        "or the SDKs of OpenAI and Anthropic, with any API key:\n"
        f"  export OPENAI_BASE_URL={url}/bedrock-mantle/us-east-1/openai/v1 OPENAI_API_KEY=any\n"
        f"  export ANTHROPIC_BASE_URL={url}/bedrock-runtime/us-east-1/anthropic "
        "ANTHROPIC_API_KEY=any"
    )


def serve(emulator: Emulator, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT, then let running calls end.

    `announce` gets the URL once calls are answered. Raises CannotListen.
    """
    try:
        asyncio.run(listen(emulator, host, port, announce))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"Port {port} on {host} is taken by another program. Stop it, or choose another "
                "port with --port (0 takes any free one)."
            ) from error
        if error.errno in (errno.EACCES, errno.EADDRNOTAVAIL) or isinstance(error, socket.gaierror):
            raise CannotListen(
                f"Cannot listen at port {port} of {host}: {error.strerror}. Choose another with "
                "--host and --port."
            ) from error
        raise


async def listen(emulator: Emulator, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Answer calls until a signal arrives; then let running calls end, and cut off the rest."""
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
    bound_port = server.sockets[0].getsockname()[1]
    announce(f"http://{f'[{host}]' if ':' in host else host}:{bound_port}")
    await stop.wait()
    server.close()
    for connection in list(connections):
        connection.finish()
    deadline = loop.time() + SHUTDOWN_GRACE_S
    while connections and loop.time() < deadline:
        await asyncio.sleep(0.02)
    for connection in list(connections):
        connection.abort()
    await asyncio.sleep(0)
