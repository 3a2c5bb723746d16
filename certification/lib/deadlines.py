"""End reads at their deadline, however slowly bytes arrive: a socket's own timeout starts anew with
every byte.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

IDLE_S = 10.0


@dataclass(eq=False, slots=True)
class Watched:
    """A read in progress. `deadline` is on the clock of `time.perf_counter`; `fired` says that it
    was cut.
    """

    deadline: float
    cut: Callable[[], object]
    fired: bool = False


class Cutoff:
    """One thread for all reads, asleep between deadlines; it ends after a while without reads."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._changed = threading.Condition()
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def at(self, deadline: float, cut: Callable[[], object]) -> Iterator[Watched]:
        """Call `cut` from another thread if the block still runs at the deadline."""
        watched = Watched(deadline, cut)
        with self._changed:
            self._watched.add(watched)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self.run, name="read-deadlines", daemon=True)
                self._thread.start()
            if deadline < self._wakes_at:
                self._changed.notify()
        try:
            yield watched
        finally:
            with self._changed:
                self._watched.discard(watched)

    def run(self) -> None:
        """Cut reads at their deadlines: the thread's own work."""
        with self._changed:
            while True:
                now = time.perf_counter()
                for watched in [w for w in self._watched if w.deadline <= now]:
                    self._watched.discard(watched)
                    watched.fired = True
                    # it may have ended by itself this moment
                    with contextlib.suppress(OSError, ValueError, RuntimeError):
                        watched.cut()
                self._wakes_at = min(
                    (w.deadline for w in self._watched), default=time.perf_counter() + IDLE_S
                )
                wait_s = max(0.0, self._wakes_at - time.perf_counter())
                if not self._changed.wait(wait_s) and not self._watched:
                    self._thread = None
                    return
