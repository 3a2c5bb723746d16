"""HTTP/1.1 on an asyncio.Protocol: requests in, responses out, with a real network's faults."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any, Protocol, cast

import httptools

BODY_LIMIT = 25 * 1024 * 1024
BODY_TOO_LARGE = "The request body is larger than 25 MB."
PIPELINE_LIMIT = 64
RESET_DELAY_S = 0.02  # what the client has not read when the reset arrives may be lost
REASONS = {
    100: "Continue", 200: "OK", 201: "Created", 202: "Accepted", 204: "No Content",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 413: "Request Entity Too Large",
    424: "Failed Dependency", 429: "Too Many Requests", 500: "Internal Server Error",
    503: "Service Unavailable", 529: "Overloaded",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """An HTTP request. `target` is the raw path with its query; header names are lower-case."""

    method: str
    target: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    keep_alive: bool = True

    def header(self, name: bytes) -> str:
        """Return a header's value, empty when absent."""
        return self.headers.get(name, b"").decode("latin-1")


@dataclass(frozen=True, slots=True)
class FullResponse:
    """A response of known length. `delay` is in seconds.

    `reset_after` is after how many bytes of the body the connection breaks; None = it does not.
    """

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    content_type: str = "application/json"
    reset_after: int | None = None


@dataclass(frozen=True, slots=True)
class StreamResponse:
    """A chunked response of (seconds after the request, bytes) parts, in order.

    After the last part it never ends if it `stalls`, or the connection breaks if it `resets`.
    """

    parts: Sequence[tuple[float, bytes]]
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/vnd.amazon.eventstream"
    stalls: bool = False
    resets: bool = False


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No response, ever: the client's read timeout ends the call."""


@dataclass(frozen=True, slots=True)
class ConnectionDropped:
    """The connection is reset before any byte."""


def reset_after(response: HttpResponse, size: int) -> HttpResponse:
    """Return the response with the connection broken after so many bytes of its body."""
    if isinstance(response, FullResponse):
        return replace(response, reset_after=size)
    if isinstance(response, StreamResponse):
        parts: list[tuple[float, bytes]] = []
        for due, part in response.parts:
            if size > 0:
                parts.append((due, part[:size]))
                size -= len(part)
        first = response.parts[0][0] if response.parts else 0.0
        return replace(response, parts=parts or [(first, b"")], stalls=False, resets=True)
    return response


HttpResponse = FullResponse | StreamResponse | NoResponse | ConnectionDropped


def duration_s(response: HttpResponse) -> float:
    """Return after how many seconds a response has been sent whole, 0 for one that never is."""
    if isinstance(response, FullResponse):
        return response.delay
    if isinstance(response, StreamResponse) and response.parts:
        return response.parts[-1][0]
    return 0.0


Handler = Callable[[HttpRequest], HttpResponse]


class Peer(Protocol):
    """A client's connection, as the shutdown of the process needs it."""

    def finish(self) -> None:
        """Close once the running calls have ended."""

    def abort(self) -> None:
        """Close at once."""


class Clock:
    """The Date header, formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def date(self) -> str:
        """Return the HTTP date of now."""
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
    """Return the status line and headers of a response, ready to send."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\nDate: {CLOCK.date()}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    lines.append(framing)
    lines.append("Connection: keep-alive" if keep_alive else "Connection: close")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def refusal_body(message: str) -> bytes:
    """Return the body of a refusal by the transport. `message` needs no escapes."""
    return b'{"message":"%b"}' % message.encode()


def reset(transport: asyncio.Transport) -> None:
    """End a connection as a broken network does: the client reads ECONNRESET."""
    sock: Any = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


@dataclass(slots=True)
class IncomingRequest:
    """A request while its bytes arrive."""

    target: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0


class Http1Protocol(asyncio.Protocol):
    """One client connection: parse requests, and answer them one by one in the order they came."""

    def __init__(self, handler: Handler, connections: set[Peer]) -> None:
        self._handler = handler
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._incoming = IncomingRequest()
        self._pipeline: deque[HttpRequest] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.busy = False
        self._closing = False
        self._overflow = False
        self._endless = False
        self._stream: tuple[StreamResponse, int, float, bool] | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._closing = True
        self._pipeline.clear()
        if self._timer:
            self._timer.cancel()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.write_refusal(400, "The request is not well-formed HTTP/1.1.")
            self.close()

    def eof_received(self) -> bool:
        return self.busy and not self._endless

    # the parser's side

    def on_message_begin(self) -> None:
        self._incoming = IncomingRequest()
        self._overflow = False

    def on_url(self, url: bytes) -> None:
        self._incoming.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._incoming.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        headers = self._incoming.headers
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > BODY_LIMIT:
            self.refuse_body()
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
            self.refuse_body()
            return
        self._incoming.chunks.append(body)

    def on_message_complete(self) -> None:
        if self._overflow:
            self.close()
            return
        incoming, method = self._incoming, self._parser.get_method().decode("latin-1")
        body = incoming.chunks[0] if len(incoming.chunks) == 1 else b"".join(incoming.chunks)
        request = HttpRequest(
            method, incoming.target, incoming.headers, body, self._parser.should_keep_alive()
        )
        if self.busy:
            self._pipeline.append(request)
            if len(self._pipeline) >= PIPELINE_LIMIT and self._transport:
                self._transport.pause_reading()
        else:
            self.answer(request)

    # responses

    def answer(self, request: HttpRequest) -> None:
        self.busy = True
        response = self._handler(request)
        if isinstance(response, FullResponse):
            if response.delay > 0:
                self._timer = self._loop.call_later(
                    response.delay, self.send_full, response, request
                )
            else:
                self.send_full(response, request)
        elif isinstance(response, StreamResponse):
            self._stream = (response, 0, self._loop.time(), request.keep_alive)
            first = response.parts[0][0] if response.parts else 0.0
            if first > 0:
                self._timer = self._loop.call_later(first, self.send_due_parts)
            else:
                self.send_due_parts()
        elif isinstance(response, ConnectionDropped):
            if self._transport:
                reset(self._transport)
        else:
            self._endless = True

    def send_full(self, response: FullResponse, request: HttpRequest) -> None:
        if not self._transport:
            return
        framing = f"Content-Length: {len(response.body)}"
        first = head(
            response.status, response.content_type, response.headers, framing, request.keep_alive
        )
        if response.reset_after is not None:
            self._transport.write(first + response.body[: response.reset_after])
            self.break_off()
            return
        self._transport.write(first if request.method == "HEAD" else first + response.body)
        self.end_response(request.keep_alive)

    def break_off(self) -> None:
        """Reset the connection once the client has had time to read what was sent."""
        self._endless = True
        self._timer = self._loop.call_later(RESET_DELAY_S, self.drop)

    def drop(self) -> None:
        if self._transport:
            reset(self._transport)

    def send_due_parts(self) -> None:
        """Send the parts that are due and sleep until the next one."""
        if not self._transport or not self._stream:
            return
        response, sent, started, keep_alive = self._stream
        now = self._loop.time() - started + 0.0005
        out = []
        if not sent:
            framing = "Transfer-Encoding: chunked"
            out.append(head(200, response.content_type, response.headers, framing, keep_alive))
        while sent < len(response.parts) and response.parts[sent][0] <= now:
            part = response.parts[sent][1]
            if part:  # an empty chunk would end the body
                out.append(b"%x\r\n%b\r\n" % (len(part), part))
            sent += 1
        self._stream = (response, sent, started, keep_alive)
        if sent < len(response.parts):
            self._transport.write(b"".join(out))
            self._timer = self._loop.call_at(started + response.parts[sent][0], self.send_due_parts)
        elif response.resets:
            self._transport.write(b"".join(out))
            self.break_off()
        elif response.stalls:
            self._transport.write(b"".join(out))
            self._endless = True
        else:
            self._transport.write(b"".join(out) + b"0\r\n\r\n")
            self._stream = None
            self.end_response(keep_alive)

    def end_response(self, keep_alive: bool) -> None:
        self.busy = False
        if not keep_alive or self._closing:
            self.close()
        elif self._pipeline:
            # Not a direct call: a deep pipeline must not become a deep stack.
            self.busy = True
            self._loop.call_soon(self.answer_next)

    def answer_next(self) -> None:
        if self._transport and self._pipeline:
            self._transport.resume_reading()
            self.answer(self._pipeline.popleft())

    def refuse_body(self) -> None:
        """Answer 413, then read the rest of the body and drop it.

        Closing at once would reset the client before it reads.
        """
        self._overflow = True
        self.write_refusal(413, BODY_TOO_LARGE)

    def write_refusal(self, status: int, message: str) -> None:
        if self._transport:
            body = refusal_body(message)
            length = f"Content-Length: {len(body)}"
            self._transport.write(
                head(status, "application/json", MARK, length, keep_alive=False) + body
            )

    def close(self) -> None:
        self._closing = True
        if self._transport:
            self._transport.close()

    def finish(self) -> None:
        """Close an idle connection now, a busy one after its response."""
        self._closing = True
        if not self.busy and self._transport:
            self._transport.close()

    def abort(self) -> None:
        """End hung and stalled calls too: the shutdown waits no longer."""
        if self._transport:
            self._transport.abort()


MARK: tuple[tuple[str, str], ...] = (("x-myia-backend", "emulator"),)
