"""HTTP/1.1 on an asyncio.Protocol: requests in, replies out, with the misbehaviours a real network
has.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Protocol, cast

import httptools

BODY_LIMIT = 25 * 1024 * 1024
BODY_TOO_LARGE = "The request body is larger than 25 MB."
PIPELINE_LIMIT = 64
REASONS = {
    100: "Continue", 200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 400: "Bad Request",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    413: "Request Entity Too Large", 424: "Failed Dependency", 429: "Too Many Requests",
    500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `target` is the raw path with its query; header names are lower-case."""

    method: str
    target: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    keep_alive: bool = True

    def header(self, name: bytes) -> str:
        """A header's value, empty when absent."""
        return self.headers.get(name, b"").decode("latin-1")


@dataclass(frozen=True, slots=True)
class FullResponse:
    """A reply of known length. `delay` is in seconds."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class StreamResponse:
    """A chunked reply of (seconds after the request, bytes) parts, in order. `stalls`: it never
    ends after the last part.
    """

    parts: Sequence[tuple[float, bytes]]
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/vnd.amazon.eventstream"
    stalls: bool = False


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No reply, ever: the client's read timeout ends it."""


@dataclass(frozen=True, slots=True)
class ConnectionDropped:
    """The connection is reset before any byte."""


Reply = FullResponse | StreamResponse | NoResponse | ConnectionDropped
Handler = Callable[[Request], Reply]


class Peer(Protocol):
    """A client's connection, as shutdown sees it."""

    def finish(self) -> None:
        """Closes once the running calls have ended."""

    def abort(self) -> None:
        """Closes at once."""


class Clock:
    """The Date header, formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def date(self) -> str:
        """The HTTP date of now."""
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


CLOCK = Clock()


def head(
    status: int,
    content_type: str,
    headers: Sequence[tuple[str, str]],
    framing: str,
    keep_alive: bool,
) -> bytes:
    """The status line and headers of a reply, ready to send."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\nDate: {CLOCK.date()}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    lines.append(framing)
    lines.append("Connection: keep-alive" if keep_alive else "Connection: close")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def refusal_body(message: str) -> bytes:
    """The body of a refusal of the transport's own. `message` needs no escapes."""
    return b'{"message":"%b"}' % message.encode()


def reset(transport: asyncio.Transport) -> None:
    """Ends a connection as a broken network does: the client reads ECONNRESET."""
    sock: Any = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


@dataclass(slots=True)
class _Incoming:
    """A request while its bytes arrive."""

    target: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0


class Connection(asyncio.Protocol):
    """One client connection: parses requests, answers them one after the other in the order they
    came.
    """

    def __init__(self, handler: Handler, connections: set[Peer]) -> None:
        self._handler = handler
        self._everyone = connections
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._incoming = _Incoming()
        self._waiting: deque[Request] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.busy = False
        self._closing = False
        self._overflow = False
        self._endless = False
        self._stream: tuple[StreamResponse, int, float, bool] | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._everyone.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._everyone.discard(self)
        self._closing = True
        self._waiting.clear()
        if self._timer:
            self._timer.cancel()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._give_up(400, "The request is not well-formed HTTP/1.1.")

    def eof_received(self) -> bool:
        return self.busy and not self._endless

    # the parser's side

    def on_message_begin(self) -> None:
        self._incoming = _Incoming()
        self._overflow = False

    def on_url(self, url: bytes) -> None:
        self._incoming.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._incoming.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        headers = self._incoming.headers
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > BODY_LIMIT:
            self._refuse_body()
        elif (
            headers.get(b"expect", b"").lower() == b"100-continue"
            and not self.busy
            and self._transport
        ):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._incoming.size += len(body)
        if self._overflow:
            if self._incoming.size > 4 * BODY_LIMIT and self._transport:
                self._transport.abort()
            return
        if self._incoming.size > BODY_LIMIT:
            self._refuse_body()
            return
        self._incoming.chunks.append(body)

    def on_message_complete(self) -> None:
        if self._overflow:
            self._close()
            return
        incoming, method = self._incoming, self._parser.get_method().decode("latin-1")
        body = incoming.chunks[0] if len(incoming.chunks) == 1 else b"".join(incoming.chunks)
        request = Request(
            method, incoming.target, incoming.headers, body, self._parser.should_keep_alive()
        )
        if self.busy:
            self._waiting.append(request)
            if len(self._waiting) >= PIPELINE_LIMIT and self._transport:
                self._transport.pause_reading()
        else:
            self._start(request)

    # answering

    def _start(self, request: Request) -> None:
        self.busy = True
        reply = self._handler(request)
        if isinstance(reply, FullResponse):
            if reply.delay > 0:
                self._timer = self._loop.call_later(reply.delay, self._send_whole, reply, request)
            else:
                self._send_whole(reply, request)
        elif isinstance(reply, StreamResponse):
            self._begin_stream(reply, request.keep_alive)
        elif isinstance(reply, ConnectionDropped):
            self._drop()
        else:
            self._endless = True

    def _send_whole(self, reply: FullResponse, request: Request) -> None:
        if not self._transport:
            return
        framing = f"Content-Length: {len(reply.body)}"
        first = head(reply.status, reply.content_type, reply.headers, framing, request.keep_alive)
        self._transport.write(first if request.method == "HEAD" else first + reply.body)
        self._done(request.keep_alive)

    def _begin_stream(self, reply: StreamResponse, keep_alive: bool) -> None:
        self._stream = (reply, 0, self._loop.time(), keep_alive)
        first = reply.parts[0][0] if reply.parts else 0.0
        if first > 0:
            self._timer = self._loop.call_later(first, self._pump)
        else:
            self._pump()

    def _pump(self) -> None:
        """Sends the parts that are due and sleeps until the next one."""
        if not self._transport or not self._stream:
            return
        reply, sent, started, keep_alive = self._stream
        now = self._loop.time() - started + 0.0005
        out = (
            []
            if sent
            else [
                head(
                    200, reply.content_type, reply.headers, "Transfer-Encoding: chunked", keep_alive
                )
            ]
        )
        while sent < len(reply.parts) and reply.parts[sent][0] <= now:
            part = reply.parts[sent][1]
            out.append(b"%x\r\n%b\r\n" % (len(part), part))
            sent += 1
        self._stream = (reply, sent, started, keep_alive)
        if sent < len(reply.parts):
            self._transport.write(b"".join(out))
            self._timer = self._loop.call_at(started + reply.parts[sent][0], self._pump)
        elif reply.stalls:
            self._transport.write(b"".join(out))
            self._endless = True
        else:
            self._transport.write(b"".join(out) + b"0\r\n\r\n")
            self._stream = None
            self._done(keep_alive)

    def _done(self, keep_alive: bool) -> None:
        self.busy = False
        if not keep_alive or self._closing:
            self._close()
        elif self._waiting:
            # Not a direct call: a deep pipeline must not become a deep stack.
            self.busy = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        if self._transport and self._waiting:
            self._transport.resume_reading()
            self._start(self._waiting.popleft())

    def _refuse_body(self) -> None:
        """413, then the rest of the body is read and thrown away: closing at once would reset the
        client before it reads.
        """
        self._overflow = True
        self._write_refusal(413, BODY_TOO_LARGE)

    def _give_up(self, status: int, message: str) -> None:
        self._write_refusal(status, message)
        self._close()

    def _write_refusal(self, status: int, message: str) -> None:
        if self._transport:
            body = refusal_body(message)
            length = f"Content-Length: {len(body)}"
            self._transport.write(
                head(status, "application/json", MARK, length, keep_alive=False) + body
            )

    def _drop(self) -> None:
        if self._transport:
            reset(self._transport)

    def _close(self) -> None:
        self._closing = True
        if self._transport:
            self._transport.close()

    def finish(self) -> None:
        """Shutdown: an idle connection closes now, a busy one after its reply."""
        self._closing = True
        if not self.busy and self._transport:
            self._transport.close()

    def abort(self) -> None:
        """Shutdown, no more patience: hung and stalled calls end here."""
        if self._transport:
            self._transport.abort()


MARK: tuple[tuple[str, str], ...] = (("x-myia-backend", "emulator"),)
