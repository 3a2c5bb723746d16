"""Which Bedrock we talk to: AWS, or the emulator where no credentials are found."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING

from django.conf import settings

from certification.bedrock import connection
from certification.bedrock.connection import AWS, EMULATOR, Connection
from certification.models import Backend

if TYPE_CHECKING:
    from certification.bedrock.client import Bedrock

_lock = threading.Lock()
_clients: dict[Connection, Bedrock] = {}


@cache
def name() -> Backend:
    """Return the backend in use. With BEDROCK_BACKEND=auto: AWS when the SDK finds credentials,
    else the emulator.
    """
    setting = settings.BEDROCK_BACKEND
    if setting == "auto":
        return Backend.AWS if connection.find_credentials().configured else Backend.EMULATOR
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
    from certification.bedrock.client import Bedrock  # noqa: PLC0415, slow to import

    target = Connection(
        backend=EMULATOR if name() == Backend.EMULATOR else AWS,
        endpoint_url=endpoint_url(),
    )
    with _lock:
        if target not in _clients:
            _clients[target] = Bedrock(target)
        return _clients[target]
