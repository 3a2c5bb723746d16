"""What this machine has left and what our processes take of it. On several hosts each process sees
its own.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from django.conf import settings

from certification.lib import clock
from certification.lib.shared_cache import ComputedValue

LISTENING = "0A"  # of a socket, as Linux writes it
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
OURS = re.compile(r"\b(?:gunicorn\b.* myia\.wsgi|celery\b.* -A myia)\b")
CERTIFICATE_TTL_S, CONNECT_S = 3600, 3.0
DAY_S = timedelta(days=1).total_seconds()


def cpu_percent() -> float:
    """Return how busy the CPUs were since the last look of this process; 0 at the first."""
    return psutil.cpu_percent()


def memory_free_percent() -> float:
    memory = psutil.virtual_memory()
    return 100 * memory.available / memory.total


def process_memory() -> dict[str, int]:
    """Return the resident bytes of each of our processes, by what it is and its pid."""
    return dict(processes())


def processes() -> Iterator[tuple[str, int]]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has just ended, or is another user's
            if kind := kind_of(process):
                yield f"{kind} {process.pid}", process.memory_info().rss


@lru_cache(4096)  # a scrape looks at every process of the machine
def kind_of(process: psutil.Process) -> str:
    """Return which of our processes this is, "" for another one's. Raises psutil.Error."""
    words = process.cmdline()
    if not OURS.search(" ".join(words)) or process.cwd() != str(settings.BASE_DIR):
        return ""
    node = words[words.index("--hostname") + 1] if "--hostname" in words else ""
    if node:
        return node.partition("@")[0]
    return next((name for name in ("beat", "flower") if name in words), "web")


def accept_backlog() -> int | None:
    """Return how many connections wait for a web process to accept them; None where nobody listens
    on this machine, or it is no Linux.
    """
    waiting = [
        int(queue.partition(":")[2], 16)
        for address, queue in listening_sockets()
        if int(address.rpartition(":")[2], 16) == settings.PORT
    ]
    return sum(waiting) if waiting else None


def listening_sockets() -> Iterator[tuple[str, str]]:
    """Yield address and queue of each, as Linux writes them. They come before the thousands of
    others, which need not be read.
    """
    for table in TABLES:
        with contextlib.suppress(OSError), table.open() as lines:
            next(lines, None)
            for line in lines:
                fields = line.split()
                if fields[3] != LISTENING:
                    break
                yield fields[1], fields[4]


def read_certificate_end() -> float | None:
    """Return when the TLS certificate of PUBLIC_URL ends, in seconds since the epoch; None without
    one, or where it cannot be read.
    """
    from cryptography import x509  # noqa: PLC0415 - only who has a certificate pays for it

    address = urlsplit(settings.PUBLIC_URL)
    if address.scheme != "https" or not address.hostname:
        return None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is only read
    try:
        place = (address.hostname, address.port or 443)
        with (
            socket.create_connection(place, timeout=CONNECT_S) as plain,
            context.wrap_socket(plain, server_hostname=address.hostname) as secure,
        ):
            certificate = secure.getpeercert(binary_form=True) or b""
        return x509.load_der_x509_certificate(certificate).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return None


certificate_end = ComputedValue(
    "certificate-end", float | None, lambda _: CERTIFICATE_TTL_S, read_certificate_end
)


def certificate_days_left() -> float | None:
    """Return for how many days the TLS certificate of PUBLIC_URL is valid; None where unknown."""
    end = certificate_end.get()
    return None if end is None else (end - clock.now().timestamp()) / DAY_S
