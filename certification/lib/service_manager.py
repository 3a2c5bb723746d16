"""What systemd is told of this process, by its protocol for services (sd_notify)."""

from __future__ import annotations

import contextlib
import socket

from django.conf import settings

WATCHDOG = "WATCHDOG=1"


def notify(state: str) -> None:
    """Send a state to systemd, where it started this process. Never raises."""
    path: str = settings.NOTIFY_SOCKET
    if not path:
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection,
    ):
        connection.sendto(state.encode(), address)
