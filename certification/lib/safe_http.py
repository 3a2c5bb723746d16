"""One POST to an address that somebody entered: over the public network only, to exactly the
address that was checked.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, SSLError

from certification.lib import url_safety
from certification.lib.deadlines import Cutoff
from certification.lib.url_safety import BadAddress, Target

CONNECT_S = 5.0
ADDRESSES_TRIED = 3
BODY_READ = 4_096  # bytes of an answer; the rest is not read
# what a connection raises, also when it is cut
TROUBLE = (HTTPError, http.client.HTTPException, OSError, ValueError)

_cutoff = Cutoff()


class Unreachable(Exception):
    """No answer came. The text is a sentence for people and names neither path nor query."""


@dataclass(frozen=True)
class Answer:
    """What the receiver said: its status and the first BODY_READ bytes, as text without control
    characters.
    """

    status: int
    body: str

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """POST once, within WEBHOOK_TIMEOUT seconds from the first connection on. Follows no redirect
    and uses no proxy.

    BadAddress where the URL or an address of its host must not be called; Unreachable where no
    answer came.
    """
    target = url_safety.parse(url, allow_http=settings.WEBHOOK_ALLOW_HTTP)
    found = permitted(target)
    deadline = time.perf_counter() + settings.WEBHOOK_TIMEOUT
    for address in found[:-1]:
        with contextlib.suppress(_NotConnected):
            return _post(target, address, deadline, body, headers)
    return _post(target, found[-1], deadline, body, headers)


def permitted(target: Target) -> list[str]:
    """The addresses of the target's host, looked up once. One forbidden address among them forbids
    the host.
    """
    ip = url_safety.literal(target.host)
    found = [ip] if ip else resolve(target.host, target.port)
    for address in found:
        if not url_safety.is_permitted(address, settings.WEBHOOK_ALLOWED_NETWORKS):
            raise BadAddress(
                f"{target.host} is at {address}, which is not a public address. "
                "WEBHOOK_ALLOWED_NETWORKS can allow networks of your own."
            )
    return found[:ADDRESSES_TRIED]


def resolve(host: str, port: int) -> list[str]:
    """The addresses that the system's resolver knows for a name, at least one. Unreachable where it
    knows none.
    """
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unreachable(f"The name {host} could not be resolved.") from None
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


class _NotConnected(Unreachable):
    """Nothing was sent, so that another address may be tried."""


def _post(
    target: Target, address: str, deadline: float, body: bytes, headers: Mapping[str, str]
) -> Answer:
    connection = _connection(target, address, deadline)
    failure: type[Unreachable] = _NotConnected
    with contextlib.closing(connection), _cutoff.at(deadline, lambda: _cut(connection)) as watched:
        try:
            connection.connect()
            failure = Unreachable
            connection.timeout = max(0.1, deadline - time.perf_counter())
            connection.request(
                "POST",
                target.path,
                body,
                {**headers, "Host": target.authority, "Connection": "close"},
                preload_content=False,
                decode_content=False,
            )
            response = connection.getresponse()
            if watched.fired:  # headers that were cut off look like headers that ended
                raise TimeoutError
        except TROUBLE as error:
            raise failure(_sentence(TimeoutError() if watched.fired else error)) from None
        seen = b""
        with contextlib.suppress(*TROUBLE):  # the status is what counts
            seen = response.read(BODY_READ, decode_content=False)
        return Answer(response.status, _text(seen))


def _connection(target: Target, address: str, deadline: float) -> HTTPConnection:
    """A connection to this very address that proves itself by the target's name."""
    timeout = min(CONNECT_S, max(0.1, deadline - time.perf_counter()))
    if target.scheme == "http":
        return HTTPConnection(address, target.port, timeout=timeout)
    context = _tls(settings.WEBHOOK_CA_BUNDLE)
    return HTTPSConnection(
        address,
        target.port,
        timeout=timeout,
        ssl_context=context,
        server_hostname=target.host.rstrip("."),
    )


@cache
def _tls(ca_bundle: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_bundle or None)


def _cut(connection: HTTPConnection) -> None:
    if connection.sock is not None:
        # not TLS's own: another thread reads through it
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def _sentence(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    match cause:
        case ssl.SSLCertVerificationError():
            return f"The receiver's certificate was not accepted: {cause.verify_message}."
        case ssl.SSLError() | SSLError():
            return f"The TLS connection failed: {getattr(cause, 'reason', None) or type(cause).__name__}."
        case ConnectTimeoutError():
            return f"The receiver did not take the connection within {CONNECT_S:g} s."
        case TimeoutError():
            return f"The receiver did not answer within {settings.WEBHOOK_TIMEOUT} s."
        case OSError(strerror=str(text)):
            return f"The connection failed: {text}."
        case _:
            return f"The receiver's answer was not HTTP ({type(cause).__name__})."


def _text(body: bytes) -> str:
    return "".join(c for c in body.decode("utf-8", "replace") if c.isprintable() or c in "\n\t")
