"""HTTP for calls to Bedrock, on the event loop: connections that stay open, one request at a time
on each, and nothing that the caller did not ask for: no retries, redirects, cookies or unpacking.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.request import getproxies

import aiohttp
import botocore.session
import yarl
from botocore.exceptions import InvalidConfigError
from botocore.httpsession import get_cert_path
from botocore.utils import should_bypass_proxies

from certification.bedrock import errors
from certification.bedrock.endpoints import is_loopback
from certification.reasons import Reason

MAX_BODY_BYTES = 64 * 2**20  # of any response, stream or not
KEEP_ALIVE_S = 50.0  # an idle connection; AWS's load balancers close theirs after a minute
DNS_TTL_S = 10


@dataclass(frozen=True, slots=True)
class Host:
    """An address with what connections to it need. `proxy` and `trust` are None where there is
    nothing to use.
    """

    url: str
    authority: str  # what the Host header says, and the signature covers
    proxy: str | None
    trust: ssl.SSLContext | None


class Response:
    """A response whose body has yet to be read. Header names are in lower case."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self.received_at = time.perf_counter()
        self._received = 0

    async def read(self) -> bytes:
        """Return the whole body. Raises as `next` does."""
        parts = []
        while part := await self.next():
            parts.append(part)
        return b"".join(parts)

    async def next(self) -> bytes:
        """Return the bytes that arrived, as soon as there are any; b"" at the end.

        Raises aiohttp's errors for a body that does not arrive whole, and BedrockError for one that
        is too long.
        """
        return self._count(await self._response.content.readany())

    def _count(self, part: bytes) -> bytes:
        self.received_at = time.perf_counter()
        self._received += len(part)
        if self._received > MAX_BODY_BYTES:
            raise errors.error(
                Reason.BAD_RESPONSE,
                f"The service answered {self.status} with more than {MAX_BODY_BYTES >> 20} MB.",
                http_status=self.status,
            )
        return part

    def close(self) -> None:
        """End the exchange: its connection stays open if the body was read to its end."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class Transport:
    """The open connections of one client of Bedrock. For use on one event loop only."""

    def __init__(self, read_timeout_s: float) -> None:
        self.read_timeout_s = read_timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        host: Host,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        connect_s: float,
    ) -> Response:
        """Send a request; return when the head of the response is there. Raises aiohttp's errors.

        A connection must be there within `connect_s`; then `read_timeout_s` is the longest silence.
        """
        response = await self.session.request(
            method,
            yarl.URL(host.url + path, encoded=True),
            data=body or None,
            headers=headers,
            allow_redirects=False,
            proxy=host.proxy,
            ssl=host.trust or True,
            timeout=aiohttp.ClientTimeout(connect=connect_s, sock_read=self.read_timeout_s),
        )
        return Response(response)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session of this loop, created at first use."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=KEEP_ALIVE_S,
                ttl_dns_cache=DNS_TTL_S,
                socket_factory=open_socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding", "Accept", "User-Agent"),
                timeout=aiohttp.ClientTimeout(),
            )
        return self._session

    async def close(self) -> None:
        """Close every connection. A later call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def open_socket(address: Any) -> socket.socket:
    """Create a socket that notices when the other side is gone without a word."""
    family, kind, protocol, *_ = address
    result = socket.socket(family, kind, protocol)
    result.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return result


def host_of(session: botocore.session.Session, url: str, *, use_proxies: bool) -> Host:
    """Collect what connections to an address need. May read files.

    Proxies come from the usual variables, but are never used for this machine itself. Raises
    botocore's errors and OSError for certificates that cannot be read.
    """
    parsed = yarl.URL(url, encoded=True)
    authority = parsed.host_subcomponent or ""
    if not parsed.is_default_port():
        authority += f":{parsed.port}"
    proxy = None
    if use_proxies and not is_loopback(url) and not should_bypass_proxies(url):
        proxy = getproxies().get(parsed.scheme)
        if proxy and "://" not in proxy:
            proxy = f"http://{proxy}"
    trust = None
    if parsed.scheme == "https" or (proxy or "").startswith("https:"):
        trust = trusted_authorities(session)
    return Host(url, authority, proxy, trust)


def trusted_authorities(session: botocore.session.Session) -> ssl.SSLContext:
    """Return the certificates to trust: of AWS_CA_BUNDLE, the profile's `ca_bundle` or
    REQUESTS_CA_BUNDLE, else botocore's own.
    """
    bundle = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    path = bundle or get_cert_path(True)
    if os.path.isdir(path):
        return ssl.create_default_context(capath=path)
    if not os.path.isfile(path):
        message = f"There is no CA bundle at {path}. Correct AWS_CA_BUNDLE or unset it."
        raise InvalidConfigError(error_msg=message)
    return ssl.create_default_context(cafile=path)
