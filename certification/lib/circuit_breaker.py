"""Leave Redis alone for a while after it did not answer, so that not everybody waits for it.

Why not `pybreaker`: it holds one lock during each guarded call, so threads would call Redis one
after the other, and its states and listeners are more than the two lines that are needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from certification.lib.redis_client import UNAVAILABLE, Purpose

log = structlog.get_logger(__name__)
T = TypeVar("T")


class CircuitBreaker:
    """Opens for `open_s` seconds after a failure. A race between threads costs one more failed
    call.
    """

    def __init__(self, purpose: Purpose, open_s: float) -> None:
        self.purpose, self.open_s = purpose, open_s
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        return time.monotonic() < self._open_until

    def record_failure(self, error: Exception) -> None:
        log.warning("redis_unavailable", used_for=self.purpose.value, error=str(error))
        self._open_until = time.monotonic() + self.open_s

    def close(self) -> None:
        """Try Redis again at once."""
        self._open_until = 0.0

    def call(self, function: Callable[[], T], otherwise: T) -> T:
        """Return what the function returns; `otherwise` while Redis is unavailable."""
        if self.is_open:
            return otherwise
        try:
            return function()
        except UNAVAILABLE as error:
            self.record_failure(error)
            return otherwise
        except ValueError as error:
            if "closed file" not in str(error):
                raise
            # redis-py reads from the buffer of a connection that was closed meanwhile
            self.record_failure(error)
            return otherwise
