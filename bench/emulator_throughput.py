"""Measure how many Converse calls per second the emulator answers, compared with a bare asyncio
server that only sends fixed bytes.

    python -m bench.emulator_throughput [--connections 64] [--seconds 5] [--distinct 500]

Both servers run in a process of their own, one after the other; the same client drives both over
raw sockets with requests built beforehand (keep-alive, one at a time per connection). The
baseline is the cost of asyncio, sockets and this client on this machine; the ratio is the
emulator's own work.
Prints JSON with --json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from certification.stack import processes
from certification.suite.case import Ref
from certification.suite.cases.gates import GATES

MODEL = "amazon.nova-micro-v1%3A0"
SIGNATURE = (
    "AWS4-HMAC-SHA256 Credential=AKIABENCH/20260101/us-east-1/bedrock/aws4_request, "
    "SignedHeaders=content-type;host;x-amz-date, Signature=0000"
)


def requests(distinct: int) -> list[bytes]:
    """Return Converse requests with the suite's own references, each with a seed of its own, as a
    job of many runs sends them.
    """
    cases = [case.id for case in GATES if not case.whole_run and case.id not in ("G10", "G11")]
    return [request(Ref(1000 + i, cases[i % len(cases)], 0)) for i in range(distinct)]


def request(ref: Ref) -> bytes:
    """Return a Converse request as boto3 sends it."""
    text = (
        "Read this text and then answer the question in one short sentence. "
        f"{'The ferry leaves at nine. ' * 12}{ref}"
    )
    message = {"role": "user", "content": [{"text": text}]}
    body = json.dumps({"messages": [message], "inferenceConfig": {"maxTokens": 300}}).encode()
    lines = [
        f"POST /model/{MODEL}/converse HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        "User-Agent: Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.11 "
        "md/pyimpl#CPython",
        "X-Amz-Date: 20260101T000000Z",
        f"Authorization: {SIGNATURE}",
        "amz-sdk-invocation-id: 00000000-0000-0000-0000-000000000000",
        "amz-sdk-request: attempt=1",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Client(asyncio.Protocol):
    """One connection: sends a request, waits for the whole answer, sends the next."""

    def __init__(self, messages: Sequence[bytes], start: int) -> None:
        self._messages = messages
        self._next = start
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.answers = 0
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._transport.write(self._messages[self._next % len(self._messages)])
        self._next += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head[head.index(b"Content-Length: ") + 16 :].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        self.answers += 1
        self.errors += not head.startswith(b"HTTP/1.1 200")
        self._send()


async def drive(
    port: int, connections: int, seconds: float, messages: Sequence[bytes]
) -> tuple[float, int]:
    """Return answers per second and how many were not 200."""
    loop = asyncio.get_running_loop()
    pairs = await asyncio.gather(
        *(
            loop.create_connection(
                lambda i=i: Client(messages, i * len(messages) // connections), "127.0.0.1", port
            )
            for i in range(connections)
        )
    )
    clients = [client for _, client in pairs]
    await asyncio.sleep(0.5)  # warm
    before, started = sum(c.answers for c in clients), time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (sum(c.answers for c in clients) - before) / (time.perf_counter() - started)
    for transport, _ in pairs:
        transport.abort()
    return rate, sum(c.errors for c in clients)


class Fixed(asyncio.Protocol):
    """The baseline: reads until a request's body is in, sends the same bytes."""

    BODY = (
        b'{"output":{"message":{"role":"assistant","content":[{"text":"OK"}]}},'
        b'"stopReason":"end_turn"}'
    )
    ANSWER = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(BODY), BODY)
    )

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if separator and len(rest) >= int(
            head[head.index(b"Content-Length: ") + 16 :].split(b"\r\n", 1)[0]
        ):
            self._buffer = b""
            self._transport.write(self.ANSWER)  # type: ignore[attr-defined]


def serve_fixed(pipe: Connection) -> None:
    """Serve fixed answers and send the port through the pipe."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Fixed, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def pin(pid: int, core: int) -> None:
    """Bind a process to one core, so that client and server do not share one."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


def baseline(connections: int, seconds: float, messages: Sequence[bytes]) -> float:
    """Return answers per second of the bare server."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve_fixed, args=(theirs,), daemon=True
    )
    server.start()
    port = ours.recv()
    pin(server.pid or 0, 1)
    try:
        return asyncio.run(drive(port, connections, seconds, messages))[0]
    finally:
        server.terminate()
        server.join()


def emulator(
    connections: int, seconds: float, messages: Sequence[bytes]
) -> tuple[float, int, float]:
    """Return answers per second, how many were not 200, and the server's CPU ms per answer."""
    with processes.emulator() as (url, server):
        pin(server.pid, 1)
        before = cpu_seconds(server.pid)
        rate, errors = asyncio.run(
            drive(int(url.rsplit(":", 1)[1]), connections, seconds, messages)
        )
        used_ms = (cpu_seconds(server.pid) - before) * 1000
        return rate, errors, used_ms / max(1.0, rate * (seconds + 0.5))


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds a process has used; 0 where /proc does not exist."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--distinct", type=int, default=500, help="how many different requests")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    pin(0, 0)
    messages = requests(options.distinct)
    bare = baseline(options.connections, options.seconds, messages)
    rate, errors, cpu = emulator(options.connections, options.seconds, messages)
    result = {
        "connections": options.connections,
        "requestBytes": len(messages[0]),
        "baselinePerSecond": round(bare),
        "emulatorPerSecond": round(rate),
        "ratio": round(rate / bare, 3),
        "notOk": errors,
        "cpuMsPerCall": round(cpu, 3),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{options.connections} connections, {options.distinct} different requests of "
        f"{len(messages[0])} bytes"
    )
    print(f"bare asyncio server   {bare:8.0f} requests/s")
    print(
        f"emulator (Converse)   {rate:8.0f} requests/s   {rate / bare:.2f} of the baseline, "
        f"{cpu:.3f} ms CPU per call"
    )
    print(f"answers other than 200: {errors}")


if __name__ == "__main__":
    main()
