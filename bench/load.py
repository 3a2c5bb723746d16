"""A cheap load generator: keep-alive connections, each sending its next request as soon as the last
was answered.

    python -m bench.load --port 3001 --seconds 3 --connections 8 < requests.json

Standard input is a JSON list of [path, {header: value}]; the connections take them in turn. Prints
JSON: answers per second, p50 and p99 in ms, the count of each status, and how often a connection
broke. A process of its own, without Django.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

FEW, PATIENCE_S = 10, 30


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, requests: Iterator[bytes], results: Statistics) -> None:
        self.requests, self.results = requests, results
        self.buffer, self.left = b"", -1
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.buffer, self.left, self.sent = b"", -1, time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        if self.left < 0:
            self.buffer += data
            head, separator, body = self.buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            self.status = int(head[9:12])
            self.closes = b"connection: close" in head.lower()
            self.left = 0 if self.status in (204, 304) else content_length(head) - len(body)
        else:
            self.left -= len(data)
        if self.left <= 0:
            self.results.answered(self.status, time.perf_counter() - self.sent)
            if self.closes or self.results.over:
                self.transport.close()
            else:
                self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if self.left != 0:
            self.results.broken += 1


def content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise ValueError(f"an answer without a length: {head!r}")


class Statistics:
    """What was measured after the warm-up."""

    def __init__(self, warm_up: float, seconds: float) -> None:
        self.counted_from = time.perf_counter() + warm_up
        self.until = self.counted_from + seconds
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.broken = 0
        self.last = 0.0

    @property
    def over(self) -> bool:
        """Whether the time is over and at least FEW answers came; after PATIENCE_S more, always."""
        late = time.perf_counter() - self.until
        return late > PATIENCE_S or (late > 0 and len(self.seconds) >= FEW)

    def answered(self, status: int, seconds: float) -> None:
        now = time.perf_counter()
        if now > self.counted_from and not self.over:
            self.seconds.append(seconds)
            self.statuses[status] += 1
            self.last = now


async def load(
    port: int, requests: Sequence[bytes], connections: int, seconds: float, warm_up: float
) -> dict[str, object]:
    """Send requests for `seconds`; connections that the server closes are opened again."""
    results, turn = Statistics(warm_up, seconds), itertools.cycle(requests)
    loop = asyncio.get_running_loop()

    async def connect() -> None:
        while not results.over:
            _transport, client = await loop.create_connection(
                lambda: Client(turn, results), "127.0.0.1", port
            )
            while not client.transport.is_closing() and not results.over:
                await asyncio.sleep(0.05)

    await asyncio.gather(*(connect() for _ in range(connections)))
    await asyncio.sleep(0.2)
    if len(results.seconds) < FEW:
        raise SystemExit("Nothing was answered.")
    cuts = statistics.quantiles(results.seconds, n=100)
    return {
        "perSecond": len(results.seconds) / (results.last - results.counted_from),
        "p50": cuts[49] * 1000,
        "p99": cuts[98] * 1000,
        "statuses": dict(results.statuses),
        "broken": results.broken,
    }


def request(path: str, headers: dict[str, str]) -> bytes:
    """Return a GET request."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    requests = [request(path, headers) for path, headers in json.load(sys.stdin)]
    result = asyncio.run(
        load(options.port, requests, options.connections, options.seconds, options.warm_up)
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
