"""The one event loop of a process: all calls to Bedrock run on it, whichever thread asks for them.

It runs in a thread of its own, which lives as long as the process. Nothing on it may block: no
database, no file that could be slow, no computation of more than a few milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process id: a fork has no loop thread


def get_loop() -> asyncio.AbstractEventLoop:
    """Return the process's loop, started at first use."""
    loop = _loops.get(os.getpid())
    if loop is not None:
        return loop
    with _lock:
        if os.getpid() not in _loops:
            _loops[os.getpid()] = _start()
        return _loops[os.getpid()]


def _start() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="event-loop", daemon=True).start()
    return loop


def submit(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the loop from another thread."""
    return asyncio.run_coroutine_threadsafe(work, get_loop())


def run(work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
    """Run a coroutine on the loop, and wait for it in this thread.

    Raises what it raises, and TimeoutError when it has not ended after `timeout_s`; it is cancelled
    then. Never call it on the loop itself: it would wait for ever.
    """
    future = submit(work)
    try:
        return future.result(timeout_s)
    except BaseException:
        future.cancel()  # nobody waits for it any more; without effect when it has ended
        raise


class Stop:
    """A signal that any thread may set and coroutines on the loop can wait for."""

    def __init__(self) -> None:
        self._set = False
        self._event = asyncio.Event()

    def set(self) -> None:
        self._set = True
        get_loop().call_soon_threadsafe(self._event.set)

    def is_set(self) -> bool:
        return self._set

    async def wait(self, seconds: float) -> bool:
        """Wait for the signal, at most so long. Returns whether it is set."""
        if not self._set:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._event.wait()
        return self._set
