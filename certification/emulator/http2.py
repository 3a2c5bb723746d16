"""HTTP/2 on the emulator's port (prior knowledge, no TLS): many calls on one connection.

The responses are the same as over HTTP/1.1. We keep our own HTTP/2 instead of a server library
because the AWS SDK for JavaScript, which speaks nothing else for event streams, must work against
the emulator, connection resets and stalled streams included. For its early GOAWAY,
`GracefulH2Connection` overrides private methods of h2, which an update of h2 may change:
`H2_PRIVATE_METHODS` names them, and a test checks that h2 still has them and calls them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame

from certification.emulator.http import (
    BODY_LIMIT,
    BODY_TOO_LARGE,
    CLOCK,
    MARK,
    RESET_DELAY_S,
    ConnectionDropped,
    FullResponse,
    Handler,
    Http1Protocol,
    HttpRequest,
    HttpResponse,
    Peer,
    StreamResponse,
    refusal_body,
    reset,
)

H2_PRIVATE_METHODS = ("_receive_goaway_frame", "_prepare_for_sending")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAMS = 1000  # calls at a time on one connection
# bytes of a request body that may be on their way; the protocol's 64 KiB make large ones slow
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 1 << 23


class ProtocolSniffer(asyncio.Protocol):
    """Detect HTTP/1.1 or HTTP/2 from a connection's first bytes, then hand over to its protocol.

    Delays no request.
    """

    def __init__(self, handler: Handler, connections: set[Peer]) -> None:
        self._handler = handler
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._first = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._first += data
        if not self._transport or (
            len(self._first) < len(PREFACE) and PREFACE.startswith(self._first)
        ):
            return
        kind = Http2Protocol if self._first.startswith(PREFACE) else Http1Protocol
        protocol = kind(self._handler, self._connections)
        self._connections.discard(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._first)

    def finish(self) -> None:
        """Close: no request has arrived yet."""
        if self._transport:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport:
            self._transport.abort()


class GracefulH2Connection(H2Connection):
    """h2, but a GOAWAY of either side lets running calls end, as RFC 9113 section 6.8 requires.

    h2 itself sends and accepts nothing after a GOAWAY. The AWS SDK for JavaScript sends GOAWAY as
    soon as the head of an event stream has arrived, and then reads the stream.
    """

    def __init__(self) -> None:
        super().__init__(H2Configuration(client_side=False, header_encoding=None))
        # Replaced, not updated: a client may open its streams before it has read our settings.
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: self.DEFAULT_MAX_HEADER_LIST_SIZE,
            },
        )
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW)

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[events.Event]]:
        """Override h2's: its own would refuse everything that comes after."""
        return [], [events.ConnectionTerminated()]

    def announce_end(self) -> int:
        """Send GOAWAY and return the number of the last stream that will be answered."""
        self._prepare_for_sending([GoAwayFrame(last_stream_id=self.highest_inbound_stream_id)])
        return self.highest_inbound_stream_id


@dataclass(slots=True)
class StreamState:
    """One stream: a request while it arrives, then the part of its response still to be sent."""

    number: int
    headers: dict[bytes, bytes]
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    out: bytearray = field(default_factory=bytearray)
    last: bool = False  # nothing comes after `out`
    timer: asyncio.Handle | None = None


class Http2Protocol(asyncio.Protocol):
    """One HTTP/2 connection: answer every call on its own, as soon as its response is due."""

    def __init__(self, handler: Handler, connections: set[Peer]) -> None:
        self._handler = handler
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._wire = GracefulH2Connection()
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, StreamState] = {}
        self._blocked: dict[int, StreamState] = {}  # in the order in which they wait for a window
        self._paused = False
        self._closing = False
        self._last_accepted: int | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.forget_all()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if not self._transport:
            return
        try:
            received = self._wire.receive_data(data)
        except H2Error:  # h2 has written the GOAWAY that tells why
            self.forget_all()
            self._flush()
            self._transport.close()
            return
        # The wire has already handled every reset in these bytes: what they cancel must not be
        # answered.
        reset_streams = {
            event.stream_id for event in received if isinstance(event, events.StreamReset)
        }
        for number in reset_streams & self._calls.keys():
            self.forget(self._calls[number])
        for event in received:
            self.receive(event, reset_streams)
        self.unblock()
        self._flush()
        self.close_if_done()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.unblock()
        self._flush()
        self.close_if_done()

    # the wire's side

    def receive(self, event: events.Event, reset_streams: set[int]) -> None:
        if isinstance(event, events.RequestReceived):
            number, headers = event.stream_id, dict(event.headers)
            if number in reset_streams:
                return
            if self._last_accepted is not None and number > self._last_accepted:
                self._wire.reset_stream(number, ErrorCodes.REFUSED_STREAM)
                return
            self._calls[number] = StreamState(number, headers)
            if headers.get(b"expect", b"").lower() == b"100-continue":
                self._wire.send_headers(number, [(b":status", b"100")])
        elif isinstance(event, events.DataReceived):
            self._wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            call = self._calls.get(event.stream_id)
            if call is None:
                return
            call.size += len(event.data)
            if call.size > 4 * BODY_LIMIT:
                self._wire.reset_stream(call.number, ErrorCodes.ENHANCE_YOUR_CALM)
                self.forget(call)
            elif call.size > BODY_LIMIT:
                call.chunks.clear()
            else:
                call.chunks.append(event.data)
        elif isinstance(event, events.StreamEnded):
            call = self._calls.get(event.stream_id)
            if call is not None:
                self.answer(call)
        elif isinstance(event, events.ConnectionTerminated):
            self._closing = True

    # responses

    def answer(self, call: StreamState) -> None:
        """Answer a request that has arrived whole, now or when its response is due."""
        if call.size > BODY_LIMIT:
            # Not before the end of the body: Node.js drops the response when it still holds 10 MB
            # of the request.
            self.send_full(call, FullResponse(413, refusal_body(BODY_TOO_LARGE), MARK))
            return
        headers = call.headers
        headers.setdefault(b"host", headers.get(b":authority", b""))
        method = headers.get(b":method", b"").decode("latin-1")
        request = HttpRequest(method, headers.get(b":path", b""), headers, b"".join(call.chunks))
        call.chunks.clear()
        response: HttpResponse = self._handler(request)
        if isinstance(response, FullResponse):
            if response.delay > 0:
                call.timer = self._loop.call_later(response.delay, self.send_full, call, response)
            else:
                self.send_full(call, response)
        elif isinstance(response, StreamResponse):
            started = self._loop.time()
            first = response.parts[0][0] if response.parts else 0.0
            if first > 0:
                call.timer = self._loop.call_at(
                    started + first, self.open_stream, call, response, started
                )
            else:
                self.open_stream(call, response, started)
        elif isinstance(response, ConnectionDropped):
            # Not at once: calls of the same packet that come after it must count as its neighbours.
            call.timer = self._loop.call_soon(self.drop, call)

    def send_full(self, call: StreamState, response: FullResponse) -> None:
        length = ("content-length", str(len(response.body)))
        self.send_head(call, response.status, response.content_type, (length, *response.headers))
        if response.reset_after is not None:
            self.send(call, response.body[: response.reset_after], last=False)
            call.timer = self._loop.call_later(RESET_DELAY_S, self.drop, call)
            return
        is_head = call.headers.get(b":method") == b"HEAD"
        self.send(call, b"" if is_head else response.body, last=True)

    def open_stream(self, call: StreamState, response: StreamResponse, started: float) -> None:
        self.send_head(call, 200, response.content_type, response.headers)
        self.send_due_parts(call, response, 0, started)

    def send_due_parts(
        self, call: StreamState, response: StreamResponse, sent: int, started: float
    ) -> None:
        """Send the parts that are due and sleep until the next one."""
        now = self._loop.time() - started + 0.0005
        due = sent
        while due < len(response.parts) and response.parts[due][0] <= now:
            due += 1
        if due < len(response.parts):
            at = started + response.parts[due][0]
            call.timer = self._loop.call_at(at, self.send_due_parts, call, response, due, started)
        ended = due == len(response.parts)
        last = ended and not (response.stalls or response.resets)
        if ended and response.resets:
            call.timer = self._loop.call_later(RESET_DELAY_S, self.drop, call)
        self.send(call, b"".join(part for _, part in response.parts[sent:due]), last=last)

    def drop(self, call: StreamState) -> None:
        """Reset the connection of a call that is alone, as on HTTP/1.1; else only its stream."""
        if self._transport and len(self._calls) == 1:
            reset(self._transport)
        else:
            self._wire.reset_stream(call.number, ErrorCodes.INTERNAL_ERROR)
            self._flush()
        self.forget(call)
        self.close_if_done()

    # sending

    def send_head(
        self, call: StreamState, status: int, content_type: str, headers: Sequence[tuple[str, str]]
    ) -> None:
        lines = [(":status", str(status)), ("date", CLOCK.date())]
        if content_type:
            lines.append(("content-type", content_type))
        lines += [(name.lower(), value) for name, value in headers]
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
        self._wire.send_headers(call.number, encoded)

    def send(self, call: StreamState, data: bytes, *, last: bool) -> None:
        call.out += data
        call.last = last
        self._write(call)
        self._flush()
        self.close_if_done()

    def _write(self, call: StreamState) -> None:
        """Hand over what the windows and the socket accept; the rest waits."""
        while call.out:
            room = min(
                self._wire.local_flow_control_window(call.number),
                self._wire.max_outbound_frame_size,
            )
            if self._paused or room <= 0:
                self._blocked[call.number] = call
                return
            self._wire.send_data(call.number, bytes(call.out[:room]))
            del call.out[:room]
        if call.last:
            self._wire.end_stream(call.number)
            self.forget(call)

    def unblock(self) -> None:
        """Let every waiting call try again: there may be room now."""
        waiting, self._blocked = self._blocked, {}
        for call in waiting.values():
            self._write(call)

    def _flush(self) -> None:
        data = self._wire.data_to_send()
        if data and self._transport:
            self._transport.write(data)

    # ending

    def forget(self, call: StreamState) -> None:
        if call.timer:
            call.timer.cancel()
        self._calls.pop(call.number, None)
        self._blocked.pop(call.number, None)

    def forget_all(self) -> None:
        for call in list(self._calls.values()):
            self.forget(call)

    def close_if_done(self) -> None:
        if self._closing and not self._calls and self._transport:
            self._transport.close()

    def finish(self) -> None:
        """Send GOAWAY, and close the connection after the running calls."""
        self._closing = True
        self._last_accepted = self._wire.announce_end()
        self._flush()
        self.close_if_done()

    def abort(self) -> None:
        """End hung and stalled calls too: the shutdown waits no longer."""
        if self._transport:
            self._transport.abort()
