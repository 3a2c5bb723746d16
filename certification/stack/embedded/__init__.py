"""PostgreSQL and Valkey for a machine that has neither: real servers from two wheels, with their
data under `<project>/.myia`.

Both listen at Unix sockets in a folder that only their own account may enter, never at a port: who
answers there is known before a password is sent. The passwords are generated once and stored in
`.myia/embedded.json` (mode 0600). Django is not imported here, because the settings ask this
package where the database is.
"""

from certification.stack.embedded.accounts import account, give_to_account
from certification.stack.embedded.errors import EmbeddedError, Silent
from certification.stack.embedded.servers import (
    ServerStatus,
    discard,
    ensure,
    running,
    status,
    stop,
    urls,
)
from certification.stack.embedded.state import START_SECONDS, Servers

__all__ = [
    "START_SECONDS",
    "EmbeddedError",
    "ServerStatus",
    "Servers",
    "Silent",
    "account",
    "discard",
    "ensure",
    "give_to_account",
    "running",
    "status",
    "stop",
    "urls",
]
