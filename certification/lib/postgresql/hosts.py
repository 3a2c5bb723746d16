"""Several servers in one address, of which one takes writes: `postgresql://user@h1,h2:5433/name`.

psycopg tries them in their order at each new connection, and passes over those that are away or
only replicate. A failover is therefore a new connection. The server that answered last is tried
first: where a server vanished from the network, each connection would wait for it anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULT_PORT = 5432

_last: dict[str, tuple[str, str]] = {}  # by all hosts of an address, the one that answered


def split(host: str, port: int | str = "") -> list[tuple[str, str]]:
    """Return hosts and ports; one port is that of every host."""
    names = str(host or "").split(",")
    ports = str(port or "").split(",")
    if len(ports) != len(names):
        ports = ports[:1] * len(names)
    return [(name, own or str(DEFAULT_PORT)) for name, own in zip(names, ports, strict=True)]


def are_several(host: str) -> bool:
    return "," in str(host or "")


def last_first(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a connection with the server that answered last in front."""
    host = str(options.get("host", ""))
    if host not in _last:
        return dict(options)
    servers = split(host, options.get("port", ""))
    servers.sort(key=lambda server: server != _last[host])
    names, ports = zip(*servers, strict=True)
    return {**options, "host": ",".join(names), "port": ",".join(ports)}


def note(options: Mapping[str, Any], host: str, port: int) -> None:
    """Remember which of the servers of these parameters answered."""
    if are_several(options.get("host", "")):
        _last[str(options["host"])] = (host, str(port))
