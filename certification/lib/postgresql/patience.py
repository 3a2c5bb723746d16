"""Wait for the database no longer than a reader of a page would.

A server that is frozen, or cut off by the network, closes no connection: neither its own time
limits nor those of TCP end a statement that waits for it. So the waiting itself is limited. A
statement that has no answer yet may merely take long: only when the server does not even greet a
new connection is the statement given up, and with it those of all other threads, at once, until a
greeting comes.

Workers wait without limit: their work goes on where it stood.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any, Self, TypeVar

import psycopg

from certification.lib.postgresql import hosts

STATEMENT_S = 0.7  # until the server is greeted
GREETING_S = 0.5
SILENT_S = 1.0  # before a silent server is greeted again
LONGEST_STATEMENT_S = 20.0
POOL_S = 1.2  # for a connection
# libpq's request for TLS: every server answers with one byte, and none logs it
GREETING = struct.pack("!ii", 8, 80877103)
MESSAGE = "the database server does not answer"
RENAMED = "dropped or renamed"  # how the server puts it

T = TypeVar("T")


class Greeting:
    """Whether the server greets, learnt by one thread at a time for all of them."""

    def __init__(self) -> None:
        self.is_silent = False
        self._valid_until = 0.0
        self._lock = threading.Lock()

    @property
    def was_silent(self) -> bool:
        """Whether it did not greet less than SILENT_S ago."""
        return self.is_silent and time.monotonic() < self._valid_until

    def fails(self, host: str, port: int | str) -> bool:
        """Whether the server does not greet now; of several, none of them."""
        with self._lock:
            if time.monotonic() >= self._valid_until:
                servers = hosts.split(host, port)
                self.is_silent = not any(greets(name, int(own)) for name, own in servers)
                self._valid_until = time.monotonic() + (SILENT_S if self.is_silent else GREETING_S)
            return self.is_silent


greeting = Greeting()
greeting_of_replica = Greeting()
_is_limited = False
_longest_s = LONGEST_STATEMENT_S


def limit() -> None:
    """Limit the waits of this process from now on. Call it before its first query."""
    global _is_limited  # noqa: PLW0603 - one process is one kind of program
    _is_limited = True


def is_limited() -> bool:
    return _is_limited


@contextlib.contextmanager
def limited(longest_s: float = LONGEST_STATEMENT_S) -> Iterator[None]:
    """Limit the waits for the block, those for an answer of a server that greets to `longest_s`."""
    global _is_limited, _longest_s
    _is_limited, _longest_s = True, longest_s
    try:
        yield
    finally:
        _is_limited, _longest_s = False, LONGEST_STATEMENT_S


def greets(host: str, port: int) -> bool:
    """Ask the server for a greeting, at a folder of sockets or an address."""
    try:
        with connect(host, port) as connection:
            connection.sendall(GREETING)
            return bool(connection.recv(1))
    except OSError:
        return False


def connect(host: str, port: int) -> socket.socket:
    """Return a bare connection to the server. Raises OSError."""
    if not host.startswith("/"):
        return socket.create_connection((host or "localhost", port), timeout=GREETING_S)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(GREETING_S)
        connection.connect(f"{host}/.s.PGSQL.{port}")
    except OSError:
        connection.close()
        raise
    return connection


class PatientConnection(psycopg.Connection[Any]):
    """A connection whose statements are given up when the server is silent."""

    @classmethod
    def greeting(cls) -> Greeting:
        """Return what all connections to this server know of it."""
        return greeting

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect; where the database was renamed just now, to that which has its name: a restore
        puts another one in its place, and the pool would wait for a second.
        """
        ordered = hosts.last_first(options)
        try:
            connection = super().connect(conninfo, **ordered)
        except psycopg.OperationalError as error:
            if RENAMED not in str(error):
                raise
            connection = super().connect(conninfo, **ordered)
        hosts.note(options, connection.info.host, connection.info.port)
        return connection

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if not _is_limited:
                return super().wait(gen, *args, **kwargs)
            return super().wait(self._patient(gen), *args, **kwargs)
        except GivenUp as error:
            self.close()  # nobody reads the answer any more
            raise psycopg.OperationalError(str(error)) from None
        except psycopg.errors.ReadOnlySqlTransaction:
            self.close()  # the server only replicates since a failover: the next one is asked
            raise

    def _patient(self, gen: Any) -> Any:
        """Yield what the generator yields, and raise GivenUp where it waits in vain."""
        try:
            state = next(gen)
            started = time.monotonic()
            while True:
                ready = yield state
                waited = time.monotonic() - started
                if not ready and waited > _longest_s:
                    raise GivenUp(f"a statement took longer than {_longest_s:g} s")
                known = self.greeting()
                if not ready and (
                    known.was_silent or (waited > STATEMENT_S and known.fails(*self._address()))
                ):
                    raise GivenUp(MESSAGE)
                state = gen.send(ready)
        except StopIteration as end:
            return end.value

    def _address(self) -> tuple[str, int]:
        return self.info.hostaddr or self.info.host, self.info.port


class ReplicaConnection(PatientConnection):
    """As PatientConnection, to the read replica."""

    @classmethod
    def greeting(cls) -> Greeting:
        return greeting_of_replica


class GivenUp(Exception):
    """A wait that was given up."""
