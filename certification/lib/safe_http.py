"""POST to an address that a user entered: over the public network only, to exactly the address that
was checked.
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

from certification.lib import foreign_text, url_safety
from certification.lib.deadlines import Cutoff
from certification.lib.url_safety import BadAddress, ParsedUrl

CONNECT_TIMEOUT_S = 5.0
MAX_ADDRESSES = 3
MAX_BODY = 4_096  # bytes of a response; the rest is not read
# what a connection raises, also when it is cut
NETWORK_ERRORS = (HTTPError, http.client.HTTPException, OSError, ValueError)

_cutoff = Cutoff()


class ReceiverUnreachable(Exception):
    """There was no response. The text is a sentence for people, without path and query."""


@dataclass(frozen=True)
class ReceiverResponse:
    """The status and the first MAX_BODY bytes, cleaned as text."""

    status: int
    body: str

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


def post(url: str, body: bytes, headers: Mapping[str, str]) -> ReceiverResponse:
    """POST once, within WEBHOOK_TIMEOUT seconds from the first connection on. Follows no redirect
    and uses no proxy.

    Raises BadAddress when the URL or an address of its host must not be called, Unreachable when
    there is no response.
    """
    target = url_safety.parse(url, allow_http=settings.WEBHOOK_ALLOW_HTTP)
    addresses = permitted(target)
    deadline = time.perf_counter() + settings.WEBHOOK_TIMEOUT
    for address in addresses[:-1]:
        with contextlib.suppress(NotConnected):
            return post_to(target, address, deadline, body, headers)
    return post_to(target, addresses[-1], deadline, body, headers)


def permitted(target: ParsedUrl) -> list[str]:
    """Resolve the target's host once. Raises BadAddress when one of its addresses is forbidden."""
    ip = url_safety.literal(target.host)
    addresses = [ip] if ip else resolve(target.host, target.port)
    for address in addresses:
        if not url_safety.is_permitted(address, settings.WEBHOOK_ALLOWED_NETWORKS):
            raise BadAddress(
                f"{target.host} resolves to {address}, which is not a public address. "
                "Allow your own networks with WEBHOOK_ALLOWED_NETWORKS."
            )
    return addresses[:MAX_ADDRESSES]


def resolve(host: str, port: int) -> list[str]:
    """Return a name's addresses by the system's resolver, at least one. Raises Unreachable without
    any.
    """
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ReceiverUnreachable(f"The name {host} could not be resolved.") from None
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


class NotConnected(ReceiverUnreachable):
    """Nothing was sent: another address may be tried."""


def post_to(
    target: ParsedUrl, address: str, deadline: float, body: bytes, headers: Mapping[str, str]
) -> ReceiverResponse:
    """POST to one address of the target, which proves itself by the target's name."""
    timeout = min(CONNECT_TIMEOUT_S, max(0.1, deadline - time.perf_counter()))
    if target.scheme == "http":
        connection = HTTPConnection(address, target.port, timeout=timeout)
    else:
        connection = HTTPSConnection(
            address,
            target.port,
            timeout=timeout,
            ssl_context=tls_context(settings.WEBHOOK_CA_BUNDLE),
            server_hostname=target.host.rstrip("."),
        )

    failure: type[ReceiverUnreachable] = NotConnected
    with (
        contextlib.closing(connection),
        _cutoff.at(deadline, lambda: shut_down(connection)) as watched,
    ):
        try:
            connection.connect()
            failure = ReceiverUnreachable
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
        except NETWORK_ERRORS as error:
            raise failure(sentence_for(TimeoutError() if watched.fired else error)) from None
        data = b""
        with contextlib.suppress(*NETWORK_ERRORS):  # the status is what counts
            data = response.read(MAX_BODY, decode_content=False)
        text = foreign_text.clean(data.decode("utf-8", "replace"))
        return ReceiverResponse(response.status, text)


def shut_down(connection: HTTPConnection) -> None:
    """End a connection that another thread reads from; TLS's own shutdown would read too."""
    if connection.sock is not None:
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


@cache
def tls_context(ca_bundle: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_bundle or None)


def sentence_for(error: Exception) -> str:
    """Return what went wrong, as a sentence for people."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    match cause:
        case ssl.SSLCertVerificationError():
            return f"The receiver's certificate was not accepted: {cause.verify_message}."
        case ssl.SSLError() | SSLError():
            reason = getattr(cause, "reason", None) or type(cause).__name__
            return f"The TLS connection failed: {reason}."
        case ConnectTimeoutError():
            return f"The receiver did not accept the connection within {CONNECT_TIMEOUT_S:g} s."
        case TimeoutError():
            return f"The receiver did not answer within {settings.WEBHOOK_TIMEOUT} s."
        case OSError(strerror=str(text)):
            return f"The connection failed: {text}."
        case _:
            return f"The receiver's response was not HTTP ({type(cause).__name__})."
