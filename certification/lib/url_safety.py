"""Which addresses of the outside world we may call on somebody's word. Pure: nothing is resolved or
called here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
PORTS = {"https": 443, "http": 80}
# below it, only those of the web: mail and the like are not ours to knock at
FIRST_FREE_PORT = 1024
GLOBAL_UNICAST = ipaddress.IPv6Network(
    "2000::/3"
)  # outside it: loopback, mapped IPv4, NAT64, link-local, ULA, multicast
# What `is_global` lets pass in some version of Python, or what is public by number and internal by
# use.
SPECIAL: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)


class BadAddress(ValueError):
    """An address that must not be called. The text is a sentence for people and names neither path
    nor query.
    """


@dataclass(frozen=True)
class Target:
    """A URL taken apart. `host` is a name or an IP address without brackets; `path` carries the
    query.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str, *, allow_http: bool) -> Target:
    """Take a receiver's URL apart. BadAddress when it is malformed or not of a kind that we call."""
    if not url.isascii() or any(character <= " " or character in "\\\x7f" for character in url):
        raise BadAddress(
            _("Write the address in plain characters; names in other scripts in their xn-- form.")
        )
    try:
        parts = parse_url(url)
    except LocationParseError:
        raise BadAddress(_("This is not an address like https://example.com/hook.")) from None
    if parts.scheme not in PORTS or not parts.host:
        raise BadAddress(_("This is not an address like https://example.com/hook."))
    if parts.scheme == "http" and not allow_http:
        raise BadAddress(_("The address must begin with https://."))
    if parts.auth or parts.fragment is not None or "%" in parts.host:
        raise BadAddress(_("The address may not carry a user, a password, a zone or a fragment."))
    port = PORTS[parts.scheme] if parts.port is None else parts.port
    if port not in PORTS.values() and port < FIRST_FREE_PORT:
        raise BadAddress(_("The port must be 443, 80 or 1024 and above."))
    return Target(parts.scheme, parts.host.strip("[]"), port, parts.request_uri)


def is_permitted(address: str, allowed: Sequence[str] = ()) -> bool:
    """Whether an IP address is a public one, or within a network of `allowed` (in CIDR form)."""
    ip = ipaddress.ip_address(address)
    if any(ip in ipaddress.ip_network(network, strict=False) for network in allowed):
        return True
    if isinstance(ip, ipaddress.IPv6Address) and (ip.scope_id or ip not in GLOBAL_UNICAST):
        return False
    return (
        ip.is_global
        and not ip.is_multicast
        and not ip.is_reserved
        and not any(ip in known for known in SPECIAL)
    )


def literal(host: str) -> str | None:
    """The host as an IP address, where it is one."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
