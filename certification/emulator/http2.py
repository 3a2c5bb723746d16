"""HTTP/2 on the emulator's port (prior knowledge, no TLS): many calls on one connection, the same
replies as HTTP/1.1.
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
    Connection,
    ConnectionDropped,
    FullResponse,
    Handler,
    Peer,
    Reply,
    Request,
    StreamResponse,
    refusal_body,
    reset,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAMS = 1000  # calls at a time on one connection
# bytes of a request body that may be on their way; the protocol's 64 KiB make large ones slow
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 1 << 23


class ProtocolSniffer(asyncio.Protocol):
    """A connection until its first bytes tell which HTTP it speaks; then another protocol has it.
    Costs no request anything.
    """

    def __init__(self, handler: Handler, connections: set[Peer]) -> None:
        self._handler = handler
        self._everyone = connections
        self._transport: asyncio.Transport | None = None
        self._first = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._everyone.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._everyone.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._first += data
        if not self._transport or (
            len(self._first) < len(PREFACE) and PREFACE.startswith(self._first)
        ):
            return
        kind = Session if self._first.startswith(PREFACE) else Connection
        protocol = kind(self._handler, self._everyone)
        self._everyone.discard(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._first)

    def finish(self) -> None:
        """Shutdown: nothing was asked yet."""
        if self._transport:
            self._transport.close()

    def abort(self) -> None:
        """Shutdown, at once."""
        if self._transport:
            self._transport.abort()


class _Wire(H2Connection):
    """h2, but a GOAWAY of either side lets the calls that are under way end, as RFC 9113 section
    6.8 has it.

    h2 itself sends and takes nothing after a GOAWAY. The AWS SDK for JavaScript says GOAWAY as soon
    as the head of an event stream is there, and then reads the stream.
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
        return [], [events.ConnectionTerminated()]

    def announce_end(self) -> int:
        """Says that no further stream will be answered. Returns the number of the last one that
        will.
        """
        self._prepare_for_sending([GoAwayFrame(last_stream_id=self.highest_inbound_stream_id)])
        return self.highest_inbound_stream_id


@dataclass(slots=True)
class _Call:
    """One stream: a request while it arrives, then the part of its reply that still has to be sent."""

    number: int
    headers: dict[bytes, bytes]
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    out: bytearray = field(default_factory=bytearray)
    last: bool = False  # nothing comes after `out`
    timer: asyncio.Handle | None = None


class Session(asyncio.Protocol):
    """One HTTP/2 connection: every call is answered on its own, as soon as its reply is due."""

    def __init__(self, handler: Handler, connections: set[Peer]) -> None:
        self._handler = handler
        self._everyone = connections
        self._loop = asyncio.get_running_loop()
        self._wire = _Wire()
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, _Call] = {}
        self._blocked: dict[int, _Call] = {}  # in the order in which they wait for room
        self._paused = False
        self._closing = False
        self._last_taken: int | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._everyone.add(self)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._everyone.discard(self)
        self._forget_all()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if not self._transport:
            return
        try:
            happened = self._wire.receive_data(data)
        except H2Error:  # h2 has written the GOAWAY that tells why
            self._forget_all()
            self._flush()
            self._transport.close()
            return
        # The wire knows of every reset in these bytes already: what they take back must not be
        # answered.
        gone = {event.stream_id for event in happened if isinstance(event, events.StreamReset)}
        for number in gone & self._calls.keys():
            self._forget(self._calls[number])
        for event in happened:
            self._take(event, gone)
        self._unblock()
        self._flush()
        self._close_if_done()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._unblock()
        self._flush()
        self._close_if_done()

    # the wire's side

    def _take(self, event: events.Event, gone: set[int]) -> None:
        if isinstance(event, events.RequestReceived):
            if event.stream_id not in gone:
                self._begin(event.stream_id, dict(event.headers))
        elif isinstance(event, events.DataReceived):
            self._wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id in self._calls:
                self._collect(self._calls[event.stream_id], event.data)
        elif isinstance(event, events.StreamEnded):
            if event.stream_id in self._calls:
                self._complete(self._calls[event.stream_id])
        elif isinstance(event, events.ConnectionTerminated):
            self._closing = True

    def _begin(self, number: int, headers: dict[bytes, bytes]) -> None:
        if self._last_taken is not None and number > self._last_taken:
            self._wire.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            return
        self._calls[number] = _Call(number, headers)
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self._wire.send_headers(number, [(b":status", b"100")])

    def _collect(self, call: _Call, data: bytes) -> None:
        call.size += len(data)
        if call.size > 4 * BODY_LIMIT:
            self._wire.reset_stream(call.number, ErrorCodes.ENHANCE_YOUR_CALM)
            self._forget(call)
        elif call.size > BODY_LIMIT:
            call.chunks.clear()
        else:
            call.chunks.append(data)

    def _complete(self, call: _Call) -> None:
        if call.size > BODY_LIMIT:
            # Not before the end of the body: Node.js drops the answer when it still holds 10 MB of
            # the request.
            self._send_whole(call, FullResponse(413, refusal_body(BODY_TOO_LARGE), MARK))
            return
        headers = call.headers
        headers.setdefault(b"host", headers.get(b":authority", b""))
        method = headers.get(b":method", b"").decode("latin-1")
        request = Request(method, headers.get(b":path", b""), headers, b"".join(call.chunks))
        call.chunks.clear()
        self._answer(call, self._handler(request))

    # answering

    def _answer(self, call: _Call, reply: Reply) -> None:
        if isinstance(reply, FullResponse):
            if reply.delay > 0:
                call.timer = self._loop.call_later(reply.delay, self._send_whole, call, reply)
            else:
                self._send_whole(call, reply)
        elif isinstance(reply, StreamResponse):
            started = self._loop.time()
            first = reply.parts[0][0] if reply.parts else 0.0
            if first > 0:
                call.timer = self._loop.call_at(
                    started + first, self._open_stream, call, reply, started
                )
            else:
                self._open_stream(call, reply, started)
        elif isinstance(reply, ConnectionDropped):
            # Not at once: calls of the same packet that come after it must count as its neighbours.
            call.timer = self._loop.call_soon(self._drop, call)

    def _send_whole(self, call: _Call, reply: FullResponse) -> None:
        length = ("content-length", str(len(reply.body)))
        self._send_head(call, reply.status, reply.content_type, (length, *reply.headers))
        self._send(call, b"" if call.headers.get(b":method") == b"HEAD" else reply.body, last=True)

    def _open_stream(self, call: _Call, reply: StreamResponse, started: float) -> None:
        self._send_head(call, 200, reply.content_type, reply.headers)
        self._pump(call, reply, 0, started)

    def _pump(self, call: _Call, reply: StreamResponse, sent: int, started: float) -> None:
        """Sends the parts that are due and sleeps until the next one."""
        now = self._loop.time() - started + 0.0005
        due = sent
        while due < len(reply.parts) and reply.parts[due][0] <= now:
            due += 1
        if due < len(reply.parts):
            call.timer = self._loop.call_at(
                started + reply.parts[due][0], self._pump, call, reply, due, started
            )
        last = due == len(reply.parts) and not reply.stalls
        self._send(call, b"".join(part for _, part in reply.parts[sent:due]), last=last)

    def _drop(self, call: _Call) -> None:
        """A call that is alone loses its connection, as on HTTP/1.1. One with others beside it
        loses its stream only.
        """
        if self._transport and len(self._calls) == 1:
            reset(self._transport)
        else:
            self._wire.reset_stream(call.number, ErrorCodes.INTERNAL_ERROR)
            self._flush()
        self._forget(call)
        self._close_if_done()

    # sending

    def _send_head(
        self, call: _Call, status: int, content_type: str, headers: Sequence[tuple[str, str]]
    ) -> None:
        lines = [(":status", str(status)), ("date", CLOCK.date())]
        if content_type:
            lines.append(("content-type", content_type))
        lines += [(name.lower(), value) for name, value in headers]
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
        self._wire.send_headers(call.number, encoded)

    def _send(self, call: _Call, data: bytes, *, last: bool) -> None:
        call.out += data
        call.last = last
        self._write(call)
        self._flush()
        self._close_if_done()

    def _write(self, call: _Call) -> None:
        """Hands over what the windows and the socket take; the rest waits its turn."""
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
            self._forget(call)

    def _unblock(self) -> None:
        """Somebody made room: everyone who waits may try."""
        waiting, self._blocked = self._blocked, {}
        for call in waiting.values():
            self._write(call)

    def _flush(self) -> None:
        data = self._wire.data_to_send()
        if data and self._transport:
            self._transport.write(data)

    # ending

    def _forget(self, call: _Call) -> None:
        if call.timer:
            call.timer.cancel()
        self._calls.pop(call.number, None)
        self._blocked.pop(call.number, None)

    def _forget_all(self) -> None:
        for call in list(self._calls.values()):
            self._forget(call)

    def _close_if_done(self) -> None:
        if self._closing and not self._calls and self._transport:
            self._transport.close()

    def finish(self) -> None:
        """Shutdown: GOAWAY; the connection closes after the calls that are under way."""
        self._closing = True
        self._last_taken = self._wire.announce_end()
        self._flush()
        self._close_if_done()

    def abort(self) -> None:
        """Shutdown, no more patience: hung and stalled calls end here."""
        if self._transport:
            self._transport.abort()
