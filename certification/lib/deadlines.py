"""Ends reads that would outlast their deadline, whatever trickles in. A socket's own timeout starts
anew with every byte.
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
    """A read under way. `deadline` is on the clock of `time.perf_counter`; `fired` says that it was
    cut.
    """

    deadline: float
    cut: Callable[[], object]
    fired: bool = False


class Cutoff:
    """One thread for all reads, asleep between deadlines; it ends when there is nothing to watch
    for a while.
    """

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
            self._be_awake_by(deadline)
        try:
            yield watched
        finally:
            with self._changed:
                self._watched.discard(watched)

    def _be_awake_by(self, deadline: float) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="bedrock-cutoff", daemon=True)
            self._thread.start()
        if deadline < self._wakes_at:
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while True:
                self._cut(time.perf_counter())
                self._wakes_at = min(
                    (w.deadline for w in self._watched), default=time.perf_counter() + IDLE_S
                )
                patience = max(0.0, self._wakes_at - time.perf_counter())
                if not self._changed.wait(patience) and not self._watched:
                    self._thread = None
                    return

    def _cut(self, now: float) -> None:
        for watched in [w for w in self._watched if w.deadline <= now]:
            self._watched.discard(watched)
            watched.fired = True
            # it may have ended by itself this moment
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                watched.cut()
