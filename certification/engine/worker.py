"""The process that works on runs: how many calls it may have in flight, the heartbeat of its runs,
and how it ends.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from os import getpid

import structlog
from django.conf import settings
from django.db import Error as DatabaseError

from certification.bedrock.client import Bedrock
from certification.engine import backend, journal, limits
from certification.engine.preflight import Preflight
from certification.lib.database import returning_connection
from certification.lib.event_loop import Stop
from certification.models import CertificationRun

log = structlog.get_logger(__name__)

HEARTBEAT_INTERVAL_S = 1.0
# Without a heartbeat for so long the runs may be another worker's soon: this process was frozen, or
# the database is away. No call begins until it is known whose they are.
CONFIRM_S = 10.0
# Hundreds of call threads ask for the interpreter this often while they wait for it, and each time
# costs CPU (Python's own 5 ms: a quarter more for 300 calls in flight); none of them holds it for
# longer anyway.
SWITCH_INTERVAL_S = 0.02
# Python collects garbage every 700 new objects, and once in a while among all that Django and
# botocore keep for good.
GC_THRESHOLD = 10_000


@dataclass(eq=False)
class Claim:
    """A run that this process has claimed: by which name, and how to stop the work on it."""

    run_id: uuid.UUID
    claimant: str
    stop: Stop = field(default_factory=Stop)
    lost: bool = False

    def lose(self) -> None:
        """Stop the work on a run that is no longer ours; nothing of it may be written."""
        self.lost = True
        self.stop.set()


@dataclass
class Worker:
    """One process's share of the work: how much of it there may be at once, and the heartbeat that
    shows that its runs are being worked on.

    A trial holds one of `slots` while it is played, so that they bound the calls in flight.
    """

    bedrock: Bedrock
    limiter: limits.Limiter
    journal: journal.Journal
    calls_per_run: int
    slots: asyncio.Semaphore
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{getpid()}")
    draining: threading.Event = field(default_factory=threading.Event)
    health_port: int | None = None  # of its health pages, where it serves any
    last_heartbeat: float = 0.0  # on the clock of time.monotonic; 0 before the first one
    _confirmed_at: float = 0.0  # when the claims were known to be ours, on the same clock
    _claims: dict[uuid.UUID, Claim] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _heartbeat: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.preflight = Preflight(self.bedrock)

    @property
    def active(self) -> int:
        """The number of runs being worked on now."""
        return len(self._claims)

    def is_confirmed(self) -> bool:
        """Whether the claimed runs were ours lately, so that calls are worth their price."""
        return time.monotonic() - self._confirmed_at < CONFIRM_S

    @contextmanager
    def watching(self, claim: Claim) -> Iterator[None]:
        """Send heartbeats for a claimed run while the block runs."""
        try:
            with self._lock:
                if not self._claims:
                    self._confirmed_at = time.monotonic()  # it was claimed just now
                self._claims[claim.run_id] = claim
                if self.draining.is_set():  # since the caller looked at it
                    claim.stop.set()
                if self._heartbeat is None or not self._heartbeat.is_alive():
                    self._heartbeat = threading.Thread(
                        target=self.send_heartbeats, name="heartbeat", daemon=True
                    )
                    self._heartbeat.start()
            yield
        finally:
            with self._lock:
                self._claims.pop(claim.run_id, None)

    def drain(self) -> None:
        """Take no more runs: calls under way end, unfinished runs are handed back."""
        self.draining.set()
        with self._lock:
            for claim in self._claims.values():
                claim.stop.set()

    def send_heartbeats(self) -> None:
        """Send a heartbeat for every claimed run, for as long as the process lives; runs that are
        no longer ours are stopped.
        """
        while True:
            time.sleep(HEARTBEAT_INTERVAL_S)
            with self._lock:
                claims = dict(self._claims)
            if not claims:
                continue
            started = time.monotonic()
            try:
                with returning_connection():
                    ours = CertificationRun.objects.heartbeat(
                        {run_id: claim.claimant for run_id, claim in claims.items()}
                    )
            except DatabaseError as error:
                log.warning("heartbeat_failed", error=str(error))
            except Exception:  # whatever it is: without heartbeats every run here is lost
                log.exception("heartbeat_failed")
            else:
                self.last_heartbeat = time.monotonic()
                for run_id, claim in claims.items():
                    if run_id not in ours:
                        claim.lose()
                self._confirmed_at = started


_creation_lock = threading.Lock()


def get_worker() -> Worker:
    """Return this process's worker, created at first use.

    There is one, however many threads call this at once: a SIGTERM drains only one.
    """
    with _creation_lock:
        return _create_worker()


def reset_worker() -> None:
    """Have the next `get_worker` create one under the settings of then: for tests."""
    with _creation_lock:
        _create_worker.cache_clear()


@cache
def _create_worker() -> Worker:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(GC_THRESHOLD)
    gc.freeze()
    max_calls = settings.CERTIFICATION_CONCURRENCY * settings.CERTIFICATION_CALLS_PER_RUN
    in_flight = settings.CERTIFICATION_CALLS_IN_FLIGHT or max_calls
    return Worker(
        bedrock=backend.bedrock(),
        limiter=limits.connect(settings.REDIS_URL, max_connections=min(in_flight, 32)),
        journal=journal.connect(settings.REDIS_URL),
        calls_per_run=settings.CERTIFICATION_CALLS_PER_RUN,
        slots=asyncio.Semaphore(in_flight),
    )
