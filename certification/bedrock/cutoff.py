"""Ends reads that would outlast their deadline, whatever trickles in. A socket's own timeout starts anew with every byte."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Watched:
    """A read under way. `deadline` is on the clock of `time.perf_counter`; `fired` says that it was cut."""

    deadline: float
    cut: Callable[[], object]
    fired: bool = False


class Cutoff:
    """One thread for all reads, started with the first and asleep between deadlines."""

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
                now = time.perf_counter()
                for watched in [w for w in self._watched if w.deadline <= now]:
                    self._watched.discard(watched)
                    watched.fired = True
                    # It may have ended by itself this moment.
                    with contextlib.suppress(OSError, ValueError, RuntimeError):
                        watched.cut()
                self._wakes_at = min((w.deadline for w in self._watched), default=float("inf"))
                patience = self._wakes_at - time.perf_counter()
                self._changed.wait(None if patience == float("inf") else max(0.0, patience))
