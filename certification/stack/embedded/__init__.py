"""PostgreSQL and Valkey for a machine that has neither: real servers from two wheels, with their
data under `<project>/.myia`.

Both listen on 127.0.0.1 only, on ports and with passwords chosen once and stored in
`.myia/embedded.json` (mode 0600): TCP because a Unix socket path is limited to some 107 bytes and a
clone may lie deep. Django is not imported here, because the settings ask this package where the
database is.
"""

from certification.stack.embedded.errors import EmbeddedError
from certification.stack.embedded.servers import (
    ServerStatus,
    ensure,
    running,
    status,
    stop,
    urls,
)
from certification.stack.embedded.state import Servers, free_port, is_free

__all__ = [
    "EmbeddedError",
    "ServerStatus",
    "Servers",
    "ensure",
    "free_port",
    "is_free",
    "running",
    "status",
    "stop",
    "urls",
]
