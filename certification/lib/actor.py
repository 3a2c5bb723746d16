"""Who acts in this context, and from where: for the audit trail."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

PAGE, ADMIN, API, COMMAND = "page", "admin", "api", "command"


@dataclass(frozen=True)
class Actor:
    """`identify` gives the user's key and name when somebody needs them: during a request of the
    API the user is known later than the request. `place` is a path or a command line.
    """

    identify: Callable[[], tuple[int | None, str]]
    via: str
    place: str
    address: str = ""
    request_id: str = ""


_current: ContextVar[Actor | None] = ContextVar("actor", default=None)


def current() -> Actor | None:
    """Return who acts; None for the engine's own work."""
    return _current.get()


@contextlib.contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Have everything in the block done by this actor."""
    token = _current.set(actor)
    try:
        yield
    finally:
        _current.reset(token)
