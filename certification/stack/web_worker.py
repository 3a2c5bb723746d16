"""A worker class for gunicorn: threads meet only requests that have arrived whole.

Gunicorn's own threads wait for a client's headers and body, however slowly they come: as many
clients as threads stop the site. Here the event loop of the process reads them, within limits of
time and size, and a client that is slow or silent costs a socket.
"""

from __future__ import annotations

import contextlib
import errno
import json
import selectors
import socket
import time
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

import httptools
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import TConn, ThreadWorker

READ_S = 30.0  # for a whole request, from its first byte; for a first byte on a new connection
SEND_S = 30.0  # for a client to take a part of a response
LINGER_S = 2.0  # for a client to close after a last response
STOP_S = 2.0  # of a process that stops: for a client that has connected to send its request
MAX_ADDRESS = 4_000  # bytes of path and query
MAX_HEADERS = 32_768  # bytes of the request line and all headers; of one header, a quarter
MAX_HEADER_COUNT = 100
MAX_REQUEST = 4_194_304  # bytes; no page and no call of the API takes as much
CHUNK = 65_536


class Refusal(NamedTuple):
    """A request that no thread shall see: the answer in the API's envelope."""

    status: int
    phrase: str
    code: str
    sentence: str


MALFORMED = Refusal(400, "Bad Request", "bad_request", "The request is not well-formed HTTP/1.1.")
TOO_SLOW = Refusal(408, "Request Timeout", "timeout", "The request did not arrive in time.")
TOO_LARGE = Refusal(413, "Content Too Large", "too_large", "The request is too large.")
LONG_ADDRESS = Refusal(414, "URI Too Long", "address_too_long", "The address is too long.")
LONG_HEADERS = Refusal(
    431, "Request Header Fields Too Large", "headers_too_large", "The headers are too large."
)


class IncomingRequest:
    """The bytes of one request, and whether they are all there. Gunicorn parses them anew."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.data = bytearray()
        self.complete = self.expects_continue = False
        self.refusal: Refusal | None = None
        self._headers_complete = False
        self._address_length = self._headers = 0
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        """Take the next bytes; `complete` or `refusal` may be set afterwards."""
        self.data += data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.complete = True
        except httptools.HttpParserError:
            self.refusal = self.refusal or MALFORMED
        if not self.complete and len(self.data) > MAX_REQUEST:
            self.refusal = self.refusal or TOO_LARGE
        if not self._headers_complete and len(self.data) > MAX_HEADERS:
            self.refusal = self.refusal or LONG_HEADERS

    def on_url(self, part: bytes) -> None:
        self._address_length += len(part)
        if self._address_length > MAX_ADDRESS:
            self.refusal = LONG_ADDRESS

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        is_long = len(name) + len(value) > MAX_HEADERS // 4
        if is_long or self._headers > MAX_HEADER_COUNT:
            self.refusal = self.refusal or LONG_HEADERS
        if name.lower() == b"expect" and value.lower() == b"100-continue":
            self.expects_continue = True

    def on_headers_complete(self) -> None:
        self._headers_complete = True

    def on_message_complete(self) -> None:
        self.complete = True

    def take_continue(self) -> bool:
        """Whether the client now waits to be told to send its body."""
        expects = self.expects_continue and self._headers_complete and not self.complete
        self.expects_continue = self.expects_continue and not expects
        return expects


class ReceivedBytes(Unreader):
    """What gunicorn's parser reads from: the bytes that arrived, and never the socket."""

    def chunk(self, size_hint: int | None = None) -> bytes:
        return b""


class Connection(TConn):
    """A connection whose requests the event loop reads."""

    incoming: IncomingRequest

    def init(self) -> None:
        """Called by the thread that answers, before it parses."""
        super().init()
        self.sock.settimeout(SEND_S)
        if not isinstance(self.parser.unreader, ReceivedBytes):
            self.parser.unreader = ReceivedBytes()
        self.parser.unreader.unread(bytes(self.incoming.data))


class ReadingWorker(ThreadWorker):
    """Read requests in the event loop, answer them in threads."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Both in the order in which their time ends.
        self.reading: dict[Connection, None] = {}
        self.lingering: dict[Connection, float] = {}
        self.stops_at = float("inf")  # until then a process that stops awaits first bytes

    def accept(self, listener: socket.socket) -> None:
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        connection = Connection(self.cfg, client, address, listener.getsockname())
        connection.data_ready = True
        self.begin_reading(connection)

    def begin_reading(self, connection: Connection, data: bytes = b"") -> None:
        """Read the next request of a connection; `data` is what was read of it before."""
        connection.incoming = IncomingRequest(time.monotonic() + READ_S)
        connection.sock.setblocking(False)
        self.reading[connection] = None
        self.poller.register(connection.sock, selectors.EVENT_READ, partial(self.read, connection))
        if data:
            self.receive(connection, data)

    def read(self, connection: Connection, client: socket.socket) -> None:
        """Take what has arrived on a readable socket."""
        try:
            data = client.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.receive(connection, data)
        else:
            self.drop(connection)

    def receive(self, connection: Connection, data: bytes) -> None:
        """Give a request to a thread once it is there; refuse one that grows too large."""
        incoming = connection.incoming
        if not incoming.data:  # an idle connection may wait, a request must arrive
            incoming.deadline = time.monotonic() + READ_S
            self.reading[connection] = self.reading.pop(connection)
        incoming.feed(data)
        if incoming.refusal:
            self.refuse(connection, incoming.refusal)
        elif incoming.complete:
            self.stop_reading(connection)
            self.enqueue_req(connection)
        elif incoming.take_continue():
            with contextlib.suppress(OSError):
                connection.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def stop_reading(self, connection: Connection) -> None:
        self.reading.pop(connection, None)
        self.poller.unregister(connection.sock)

    def drop(self, connection: Connection) -> None:
        self.stop_reading(connection)
        self.nr_conns -= 1
        connection.close()

    def refuse(self, connection: Connection, refusal: Refusal) -> None:
        """Answer without a thread, and close the connection."""
        self.stop_reading(connection)
        status, phrase, code, sentence = refusal
        body = json.dumps(
            {"status": "fail", "message": sentence, "code": status, "errorCode": code, "data": None}
        ).encode()
        head = (
            f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with contextlib.suppress(OSError):  # the client is gone
            connection.sock.send(head.encode() + body)
        self.linger(connection)

    # after an answer

    def finish_request(self, connection: Connection, answered: Future[Any]) -> None:
        """Read the next request, or close the connection; called in the event loop."""
        try:
            reusable = bool(not answered.cancelled() and answered.result())
        except Exception:  # noqa: BLE001 - gunicorn has logged it
            reusable = False
        if not reusable:
            self.linger(connection)
            return
        rest = connection.parser.unreader.take_buffered()
        if rest:
            self.begin_reading(connection, rest)
            return
        connection.sock.setblocking(False)
        connection.set_timeout()
        self.keepalived_conns.append(connection)
        self.poller.register(
            connection.sock,
            selectors.EVENT_READ,
            partial(self.on_client_socket_readable, connection),
        )

    def on_client_socket_readable(self, connection: Connection, client: socket.socket) -> None:
        self.poller.unregister(client)
        self.keepalived_conns.remove(connection)
        self.begin_reading(connection)
        self.read(connection, client)

    def linger(self, connection: Connection) -> None:
        """Close a connection once its client has read the response and closed it: closed at once,
        bytes that arrive later would reset the client before it has read.
        """
        try:
            connection.sock.setblocking(False)
            connection.sock.shutdown(socket.SHUT_WR)
            self.poller.register(
                connection.sock, selectors.EVENT_READ, partial(self.drain, connection)
            )
        except OSError:
            self.nr_conns -= 1
            connection.close()
            return
        self.lingering[connection] = time.monotonic() + LINGER_S

    def drain(self, connection: Connection, client: socket.socket) -> None:
        try:
            if client.recv(CHUNK):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.end_lingering(connection)

    def end_lingering(self, connection: Connection) -> None:
        del self.lingering[connection]
        self.poller.unregister(connection.sock)
        self.nr_conns -= 1
        connection.close()

    def murder_pending(self) -> None:
        """Close the connections whose time is over; called every second, and when stopping.

        A process that stops, as each does after `--max-requests`, has accepted connections whose
        requests are on their way: closed at once, their clients would be reset.
        """
        now = time.monotonic()
        if not self.alive:
            self.stops_at = min(self.stops_at, now + STOP_S)
        for connection in list(self.reading):
            begun = bool(connection.incoming.data)
            if connection.incoming.deadline > now and (begun or self.stops_at > now):
                if self.alive:
                    break
            elif begun:
                self.refuse(connection, TOO_SLOW)
            else:
                self.drop(connection)
        for connection, until in list(self.lingering.items()):
            if until > now:
                break
            self.end_lingering(connection)
