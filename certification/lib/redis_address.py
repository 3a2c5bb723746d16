"""Addresses of Redis: of one server, or of the Sentinels that know which server is the master.

`redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/service[/database]` (and
`rediss+sentinel://` for TLS) is our way to write several Sentinels in one address, which neither
redis-py nor kombu has; both get it in their own form. User and password are the servers' own;
those of the Sentinels, where they differ, follow as `?sentinel_password=` and `?sentinel_user=`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

SENTINEL_PORT = 26379
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
FORM = "redis+sentinel://:password@host:26379,host:26379/service"
OPTIONS = ("sentinel_password", "sentinel_user")
# A Sentinel that is away is passed over; until then everybody waits.
ASK_S = 0.5


@dataclass(frozen=True)
class Sentinels:
    """The Sentinels of a service, and how to log in to them and to its servers."""

    hosts: tuple[tuple[str, int], ...]
    service: str
    database: int = 0
    user: str | None = None
    password: str | None = None
    tls: bool = False
    sentinel_user: str | None = None
    sentinel_password: str | None = None

    @property
    def server_options(self) -> dict[str, Any]:
        """What redis-py needs for a connection to a server."""
        options = {"db": self.database, "username": self.user, "password": self.password}
        return options | ({"ssl": True} if self.tls else {})

    @property
    def sentinel_options(self) -> dict[str, Any]:
        """What redis-py needs for a connection to a Sentinel."""
        options: dict[str, Any] = {"socket_connect_timeout": ASK_S, "socket_timeout": ASK_S}
        if self.sentinel_password is not None:
            options |= {"username": self.sentinel_user, "password": self.sentinel_password}
        return options | ({"ssl": True} if self.tls else {})


def is_sentinel(url: str) -> bool:
    return urlsplit(url).scheme in ("redis+sentinel", "rediss+sentinel")


def sentinels(url: str) -> Sentinels:
    """Read an address of Sentinels. Raises ValueError, which says what is wrong and no password."""
    parts = urlsplit(url)
    login, _at, names = parts.netloc.rpartition("@")
    user, _colon, password = login.partition(":")
    path = [unquote(part) for part in parts.path.split("/")[1:] if part]
    hosts = tuple(_host(name) for name in names.split(",") if name)
    if not hosts or not 1 <= len(path) <= 2 or not "".join(path[1:] or "0").isdecimal():
        raise ValueError(f"it must look like {FORM}")
    query = parse_qs(parts.query)
    if unknown := sorted(query.keys() - set(OPTIONS)):
        raise ValueError(f"it has the options {', '.join(unknown)}; known: {', '.join(OPTIONS)}")
    return Sentinels(
        hosts=hosts,
        service=path[0],
        database=int(path[1]) if len(path) == 2 else 0,
        user=unquote(user) or None,
        password=unquote(password) or None,
        tls=parts.scheme == "rediss+sentinel",
        sentinel_user=query.get("sentinel_user", [None])[0],
        sentinel_password=query.get("sentinel_password", [None])[0],
    )


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"it must look like {FORM}")
    return parts.hostname, parts.port or SENTINEL_PORT


def for_kombu(url: str) -> tuple[str, dict[str, Any]]:
    """Return an address as kombu writes it, with the transport options that it needs. Raises
    ValueError.
    """
    if not is_sentinel(url):
        # kombu's way to write the socket of a Redis that redis-py calls unix://
        return re.sub(r"^unix://(.*)\?db=", r"redis+socket://\1?virtual_host=", url), {}
    known = sentinels(url)
    login = ""
    if known.password is not None:
        login = f"{quote(known.user or '', safe='')}:{quote(known.password, safe='')}@"
    hosts = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in known.hosts)
    urls = [f"sentinel://{login}{host}/{known.database}" for host in hosts]
    from redis.backoff import NoBackoff  # noqa: PLC0415 - only where there are Sentinels
    from redis.retry import Retry  # noqa: PLC0415

    # redis-py would ask a Sentinel that is away three times more, seconds apart, before the next
    options = known.sentinel_options | {"retry": Retry(NoBackoff(), 0)}
    return ";".join(urls), {"master_name": known.service, "sentinel_kwargs": options}


def shown(url: str) -> str:
    """Return an address without its user, password and options, to show to people."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", path="").geturl()
