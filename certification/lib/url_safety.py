"""Which addresses that a user entered we may call. Pure: nothing is resolved or called here."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
PORTS = {"https": 443, "http": 80}
MIN_OTHER_PORT = 1024  # below it only those of the web: no mail servers and the like
# outside it: loopback, mapped IPv4, NAT64, link-local, ULA, multicast
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# What `is_global` allows in some versions of Python, or what is public by number and internal by
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
    """An address that must not be called. The text is a sentence for people, without path and
    query.
    """


@dataclass(frozen=True)
class ParsedUrl:
    """A parsed URL. `host` is a name or an IP address without brackets, `path` has the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Return the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str, *, allow_http: bool) -> ParsedUrl:
    """Parse a receiver's URL. Raises BadAddress when malformed or of a kind we do not call."""
    if not url.isascii() or any(character <= " " or character in "\\\x7f" for character in url):
        raise BadAddress(
            _("Use ASCII characters only; write names in other scripts in their xn-- form.")
        )
    try:
        parts = parse_url(url)
    except LocationParseError:
        raise BadAddress(_("Not a valid address. Example: https://example.com/hook.")) from None
    if parts.scheme not in PORTS or not parts.host:
        raise BadAddress(_("Not a valid address. Example: https://example.com/hook."))
    if parts.scheme == "http" and not allow_http:
        raise BadAddress(_("The address must start with https://."))
    if parts.auth or parts.fragment is not None or "%" in parts.host:
        raise BadAddress(
            _("The address must not contain a user, a password, a zone or a fragment.")
        )
    port = PORTS[parts.scheme] if parts.port is None else parts.port
    if port not in PORTS.values() and port < MIN_OTHER_PORT:
        raise BadAddress(_("The port must be 443, 80, or 1024 or higher."))
    return ParsedUrl(parts.scheme, parts.host.strip("[]"), port, parts.request_uri)


def is_permitted(address: str, allowed: Sequence[str] = ()) -> bool:
    """Return whether an IP address is public, or in a network of `allowed` (in CIDR form)."""
    ip = ipaddress.ip_address(address)
    if any(ip in ipaddress.ip_network(network, strict=False) for network in allowed):
        return True
    if isinstance(ip, ipaddress.IPv6Address) and (ip.scope_id or ip not in GLOBAL_UNICAST):
        return False
    return (
        ip.is_global
        and not ip.is_multicast
        and not ip.is_reserved
        and not any(ip in network for network in SPECIAL)
    )


def literal(host: str) -> str | None:
    """Return the host as an IP address; None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
