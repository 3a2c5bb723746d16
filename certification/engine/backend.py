"""Which Bedrock we talk to: AWS, or the emulator where no credentials are found."""

from __future__ import annotations

import threading
from functools import cache

from django.conf import settings

from certification.bedrock import client
from certification.bedrock.client import AWS, EMULATOR, Bedrock, Connection
from certification.models import Backend

_lock = threading.Lock()
_clients: dict[Connection, Bedrock] = {}


@cache
def name() -> Backend:
    """Return the backend in use. With BEDROCK_BACKEND=auto: AWS when the SDK finds credentials,
    else the emulator.
    """
    setting = settings.BEDROCK_BACKEND
    if setting == "auto":
        return Backend.AWS if client.find_credentials().configured else Backend.EMULATOR
    return Backend(setting)


def endpoint_url() -> str:
    """Return where calls go: the configured address, the local emulator's, or '' for AWS's own
    hosts.
    """
    url: str = settings.BEDROCK_ENDPOINT_URL
    return url or (
        f"http://127.0.0.1:{settings.EMULATOR_PORT}" if name() == Backend.EMULATOR else ""
    )


def bedrock() -> Bedrock:
    """Return the process's one client of Bedrock, created at first use."""
    connection = Connection(
        backend=EMULATOR if name() == Backend.EMULATOR else AWS,
        endpoint_url=endpoint_url(),
    )
    with _lock:
        if connection not in _clients:
            _clients[connection] = Bedrock(connection)
        return _clients[connection]
