"""Measure how long until every run of a sweep over 130 models x 31 regions is on the queue, and how
long its request waits.

    python -m bench.enqueue [--repeat 3] [--json]

Baseline: Celery publishing as many trivial messages in a loop. Product: `dispatch.certify` (checks,
estimate, job and run rows, one message) and then the worker that publishes the messages of the
runs; the sweep is cancelled once all of them are sent. Measured once without a bulk worker and once
with one that takes the first runs meanwhile.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass

from celery import current_app

from bench import harness
from bench.environment import QUEUE
from bench.harness import Row
from certification.engine import dispatch, queue
from certification.engine.dispatch import CertifyOptions
from certification.models import AIModel, CertificationJob, JobType, Priority, Region, State, Tier

MODELS, REGIONS = 130, 31
LATENCY_MS = 200.0


@dataclass(frozen=True)
class Sweep:
    """Seconds until the dispatching call returned, and until the last run was on the queue."""

    answered: float
    queued: float


def measure_baseline(messages: int) -> float:
    """Return the seconds for that many messages without content, over one connection."""
    started = time.perf_counter()
    with current_app.producer_or_acquire() as producer:
        for i in range(messages):
            current_app.send_task(
                "bench.nothing", [i], queue="bench.boto3_baseline", producer=producer, retry=False
            )
    seconds = time.perf_counter() - started
    harness.purge()
    return seconds


def sweep(models: int, regions: int) -> Sweep:
    """Measure one sweep, and cancel it when its last message is sent."""
    pairs = [
        (model, region)
        for model in AIModel.objects.active()[:models]
        for region in Region.objects.filter(enabled=True)[:regions]
    ]
    started = time.perf_counter()
    job = dispatch.certify(pairs, CertifyOptions(tier=Tier.QUICK), job_type=JobType.ALL_MODELS).job
    answered = time.perf_counter() - started
    while job.runs.filter(status=State.PENDING).exists():
        time.sleep(0.02)
    queued = time.perf_counter() - started
    job.cancel()
    wait_until_idle()
    return Sweep(answered, queued)


def wait_until_idle() -> None:
    """Wait until no job is open and the queue is empty."""
    while CertificationJob.objects.open().exists() or queue.queued_messages(Priority.INTERACTIVE):
        time.sleep(0.1)
    time.sleep(1)


def measure(models: int, regions: int, queues: Sequence[str], repeat: int) -> list[Sweep]:
    """Measure sweeps with one worker per entry of `queues`, after a small one that warms up."""
    with (
        harness.emulators(len(queues), LATENCY_MS) as urls,
        harness.workers(urls, 16 * len(queues), 64, queues),
    ):
        sweep(min(models, 6), min(regions, 10))
        return [sweep(models, regions) for _ in range(repeat)]


def rows(options: Namespace) -> list[Row]:
    """Return the rows of the report. With `tiny`, 60 pairs."""
    models, regions = (6, 10) if options.tiny else (MODELS, REGIONS)
    count = models * regions
    baseline = statistics.median(measure_baseline(count) for _ in range(options.repeat))
    clicks, bulk = f"{QUEUE},maintenance", f"{QUEUE}.bulk"
    alone = measure(models, regions, [clicks], options.repeat)
    harness.purge()
    both = measure(models, regions, [clicks, bulk], options.repeat)
    note = f"medians of {options.repeat}; baseline: Celery publishing {count} trivial messages"
    return [
        Row(
            f"sweep of {count} pairs: the request waits",
            statistics.median(s.answered for s in alone + both),
            "s",
            1.0,
        ),
        Row(
            f"sweep of {count} pairs: all on the queue",
            statistics.median(s.queued for s in alone),
            "s",
            3.0,
            baseline,
            note,
        ),
        Row(
            "the same while a bulk worker takes them",
            statistics.median(s.queued for s in both),
            "s",
            3.0,
            baseline,
            note,
        ),
    ]


def main() -> None:
    harness.run(rows, harness.parser(__doc__).parse_args())


if __name__ == "__main__":
    main()
