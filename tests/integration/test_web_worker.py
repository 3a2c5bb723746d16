"""Slow and silent clients of the web server: they hold no thread, and are cut."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from certification.lib import counters, redis_client
from certification.lib.redis_client import Purpose
from certification.stack.processes import PROJECT
from tests import counting_app
from tests.processes import wait_until

THREADS = 2
HOST = b"Host: localhost\r\n"
POST = b"POST /a HTTP/1.1\r\n" + HOST


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Server:
    """A gunicorn with one process of THREADS threads."""

    def __init__(
        self, folder: Path, module: str = "tests.wsgi_app", options: str = "", stop_s: float = 1
    ) -> None:
        self.port = free_port()
        limits = f"--bind 127.0.0.1:{self.port} --threads {THREADS} --graceful-timeout 5"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", f"{module}:application", *limits.split(),
             "--worker-class", f"{module}.QuickWorker", "--no-control-socket", *options.split()],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "STOP_S": str(stop_s)},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(200):
            with contextlib.suppress(OSError):
                self.connect().close()
                return
            time.sleep(0.05)
        raise AssertionError("it did not start")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def talk(self, *parts: bytes) -> bytes:
        """Send parts one after the other and return all of the answer until the server closes."""
        with self.connect() as client:
            for part in parts:
                client.sendall(part)
                time.sleep(0.02)
            return everything(client)


def everything(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("web"))
    yield server
    server.process.terminate()
    server.process.wait(10)


GET = b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
BEGINNINGS = {
    "idle": b"",
    "headers": b"GET /a HTTP/1.1\r\nX-A: b",
    "body": POST + b"Content-Length: 50\r\n\r\nabc",
    "large body": POST + b"Content-Length: 99999999999\r\n\r\nabc",
    "chunked": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "after an answer": GET.replace(b"Connection: close\r\n", b"") + b"GET /b HTTP/1.1\r\nX",
    "not closed": GET,
}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_slow_clients_hold_no_thread_and_are_cut(server: Server, kind: str) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(8 * THREADS)]
        for client in clients:
            client.sendall(BEGINNINGS[kind])
        assert b"GET /a 0" in server.talk(GET)
        for client in clients:
            answer = everything(client)
            if kind not in ("idle", "not closed"):
                assert answer.rpartition(b"HTTP/1.1 ")[2].startswith(b"408 Request Timeout")


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ([GET[:9], GET[9:30], GET[30:]], b"GET /a 0"),
        ([POST, b"Connection: close\r\nContent-Length: 4\r\n\r\n", b"ab", b"cd"], b"POST /a 4"),
        (
            [POST, b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
             b"1\r\nc\r\n0\r\n\r\n"],
            b"POST /a 3",
        ),
        ([GET.replace(b"GET", b"HEAD")], b"Content-Length: 9"),
        ([b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"], b" 414 "),
        ([b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 300_000], b" 431 "),
        ([b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9000 + b"\r\n\r\n"], b" 431 "),
        ([b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 101 + b"\r\n"], b" 431 "),
        ([b"rubbish\r\n\r\n"], b" 400 "),
        ([POST + b"Content-Length: x\r\n\r\n"], b" 400 "),
        ([b"\x16\x03\x01\x02\x00\x01"], b" 400 "),
        ([POST + b"Content-Length: 200000\r\n\r\n", b"a" * 120_000], b" 413 "),
        (
            [POST + b"Connection: close\r\nExpect: 100-Continue\r\n",
             b"Content-Length: 1\r\n\r\n", b"a"],
            b"HTTP/1.1 100 Continue",
        ),
    ],
)  # fmt: skip
def test_requests_are_answered_as_before(server: Server, parts: list[bytes], answer: bytes) -> None:
    assert answer in server.talk(*parts)


def test_a_connection_is_kept_and_requests_may_come_together(server: Server) -> None:
    first = GET.replace(b"Connection: close\r\n", b"")
    unread = POST.replace(b"/a", b"/unread") + b"Content-Length: 3\r\n\r\nabc"
    together = first + unread + first.replace(b"/a", b"/b") + GET[:20]
    answer = server.talk(together, GET[20:])
    bodies = [b"GET /a 0", b"POST /unread 0", b"GET /b 0", b"GET /a 0"]
    positions = [answer.index(bodies[0]), *(answer.index(body) for body in bodies[1:3])]
    assert positions == sorted(positions)
    assert answer.count(b"200 OK") == 4


def test_a_response_streams_while_it_is_made(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET /stream HTTP/1.1\r\n" + HOST + b"\r\n")
        received = b""
        while b"first" not in received:
            received += client.recv(4096)


def test_it_stops_although_clients_are_silent(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.connect() as idle, server.connect() as reused:
        reused.sendall(GET.replace(b"Connection: close\r\n", b""))
        answer = b""
        while b"GET /a 0" not in answer:
            answer += reused.recv(4096)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert everything(idle) == b""


class TestRecycling:
    """Processes that end after some requests, as the site's do, and others that replace them."""

    REQUESTS, CLIENTS, BEFORE_RECYCLING = 30, 4, 25
    PATIENT = "--keep-alive 60 --graceful-timeout 30"

    def test_nothing_is_lost_and_no_counter_falls(self, tmp_path: Path, servers: None) -> None:
        redis_client.client(Purpose.COUNTERS).delete(counters.KEY)
        options = f"--workers 2 --max-requests {self.BEFORE_RECYCLING} {self.PATIENT}"
        server = Server(tmp_path, "tests.counting_app", options, stop_s=30)
        try:
            with ThreadPoolExecutor(self.CLIENTS) as clients:
                work = [clients.submit(self.send, server, n % 2 > 0) for n in range(self.CLIENTS)]
                counts = [self.counted()]
                while not all(one.done() for one in work):
                    counts.append(self.counted())
                    time.sleep(0.1)
            answered = sum(one.result() for one in work)
            assert answered == self.CLIENTS * self.REQUESTS
            wait_until(lambda: self.counted() == answered, "every request is counted")
            assert counts == sorted(counts)
        finally:
            server.process.terminate()
            server.process.wait(10)
            redis_client.client(Purpose.COUNTERS).delete(counters.KEY)

    def send(self, server: Server, reuses: bool) -> int:
        """Send requests one after the other, each on a connection of its own or all on one for as
        long as the server holds it; return how many were answered.
        """
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        answered = 0
        for _ in range(self.REQUESTS):
            client.request("GET", "/")
            with client.getresponse() as response:  # connects anew after "Connection: close"
                answered += response.read() == b"ok"
            if not reuses:
                client.close()
        client.close()
        return answered

    def counted(self) -> float:
        return sum(n for series, n in counters.read() if series.name == counting_app.NAME)

    def test_a_client_that_has_connected_may_send_its_request(self, tmp_path: Path) -> None:
        server = Server(tmp_path, options=f"--max-requests 1 {self.PATIENT}", stop_s=30)
        try:
            with server.connect() as early:
                assert b"GET /a 0" in server.talk(GET)  # the last one of the first process
                time.sleep(0.3)  # in which it used to close the connection
                early.sendall(GET)
                assert b"GET /a 0" in everything(early)
        finally:
            server.process.terminate()
            server.process.wait(10)
