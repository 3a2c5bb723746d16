"""Measure how long the writes of runs wait while `cleanup` deletes old ones out of a million.

    python -m bench.cleanup [--json]

A thread dispatches one run after the other, claims it and stores its outcome, by the statements of
a worker; the last two are timed. Baseline: the same without a cleanup beside it. Product: while
`retention.clean` deletes runs that prove nothing, with jobs, results and events, for five minutes.
"""

from __future__ import annotations

import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from django.conf import settings
from django.db import connection, transaction

from bench import dataset, harness
from bench.harness import Row
from certification.engine import dispatch
from certification.engine.dispatch import CertifyOptions
from certification.models import CertificationRun, RunOutcome, State, Tier
from certification.operations import retention

RUNS, TINY_RUNS = 1_000_000, 12_000  # more than there are pairs, each proven by its last run
GOAL_MS = 1000.0
BASELINE_S = 20.0
LONGEST_S = 300.0  # of the cleanup, which may leave some for the next time


class Writer:
    """Writes runs in a thread until it is stopped; `waits` are the milliseconds of each write."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._stopped = threading.Event()
        self._executor = ThreadPoolExecutor(1)
        self._running = self._executor.submit(self.run)

    def run(self) -> None:
        try:
            pairs = harness.pairs(8)
            while not self._stopped.is_set():
                for pair in pairs:
                    self.write(pair)
        finally:
            connection.close()

    def write(self, pair: object) -> None:
        """Take one run from its dispatch to its outcome."""
        job = dispatch.certify([pair], CertifyOptions(tier=Tier.QUICK)).job  # type: ignore[list-item]
        run = job.runs.get()
        with self.timed():
            claimed = CertificationRun.objects.claim(run.pk, "bench", job.backend)
        if claimed is None:
            raise RuntimeError("Somebody else claimed the run: no worker may run beside this.")
        outcome = RunOutcome(State.COMPLETED, verdict="certified", passed=True, score=90)
        with self.timed(), transaction.atomic():
            claimed.finish(outcome, [])
            job.record_finished_runs(1, 1)

    @contextmanager
    def timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.waits.append(1000 * (time.perf_counter() - started))

    def stop(self) -> list[float]:
        """Return the waits, of one write at least. Raises what the writer met."""
        while not self.waits and not self._running.done():
            time.sleep(0.01)
        self._stopped.set()
        self._running.result()
        return sorted(self.waits)


def rows(options: Namespace) -> list[Row]:
    runs = TINY_RUNS if options.tiny else RUNS
    dataset.fill(runs)
    writer = Writer()
    time.sleep(0.5 if options.tiny else BASELINE_S)
    alone = writer.stop()
    settings.RETENTION_DAYS = settings.RETENTION_DAYS | {"runs": 1}
    writer = Writer()
    started = time.perf_counter()
    [deleted] = retention.clean(["runs"], deadline=time.monotonic() + LONGEST_S)
    seconds = time.perf_counter() - started
    waits = writer.stop()
    note = (
        f"{deleted.number} runs deleted in {seconds:.0f} s beside {len(waits)} writes; 99 % of "
        f"them within {waits[int(0.99 * len(waits))]:.0f} ms"
    )
    return [
        Row("cleanup: longest write of a run beside it", waits[-1], "ms", GOAL_MS, alone[-1], note),
        Row("cleanup: runs deleted", deleted.number / seconds, "/s"),
    ]


if __name__ == "__main__":
    harness.run(rows, harness.parser(__doc__, repeat=1).parse_args())
