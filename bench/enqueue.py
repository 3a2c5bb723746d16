"""How long until every run of a sweep over 130 models x 31 regions is on the queue, and how long
its request waits.

    python -m bench.enqueue [--repeat 3] [--json]

Floor: Celery publishing as many trivial messages in a loop. Ours: `dispatch.certify` (checks,
estimate, job and run rows, one message) and then the worker that publishes the runs' messages; the
sweep is cancelled once all of them are out. Once with the queue's bulk worker idle elsewhere, once
with it at work on the first runs.
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


def floor(messages: int) -> float:
    """Seconds for so many messages without content, over one connection."""
    started = time.perf_counter()
    with current_app.producer_or_acquire() as producer:
        for i in range(messages):
            current_app.send_task(
                "bench.nothing", [i], queue="bench.boto3_baseline", producer=producer, retry=False
            )
    taken = time.perf_counter() - started
    harness.purge()
    return taken


def sweep(models: int, regions: int) -> Sweep:
    """One sweep, cancelled when its last message is out."""
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
    _until_idle()
    return Sweep(answered, queued)


def _until_idle() -> None:
    while CertificationJob.objects.open().exists() or queue.queued_messages(Priority.INTERACTIVE):
        time.sleep(0.1)
    time.sleep(1)


def measure(models: int, regions: int, queues: Sequence[str], repeat: int) -> list[Sweep]:
    """Sweeps with one worker per entry of `queues`, after a small one that warms up."""
    with (
        harness.emulators(len(queues), LATENCY_MS) as urls,
        harness.workers(urls, 16 * len(queues), 64, queues),
    ):
        sweep(min(models, 6), min(regions, 10))
        return [sweep(models, regions) for _ in range(repeat)]


def rows(given: Namespace) -> list[Row]:
    """The report's rows. With `tiny`, 60 pairs."""
    models, regions = (6, 10) if given.tiny else (MODELS, REGIONS)
    count = models * regions
    bare = statistics.median(floor(count) for _ in range(given.repeat))
    clicks, bulk = f"{QUEUE},maintenance", f"{QUEUE}.bulk"
    alone = measure(models, regions, [clicks], given.repeat)
    harness.purge()
    both = measure(models, regions, [clicks, bulk], given.repeat)
    note = f"medians of {given.repeat}; floor: Celery publishing {count} trivial messages"
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
            bare,
            note,
        ),
        Row(
            "the same while a bulk worker takes them",
            statistics.median(s.queued for s in both),
            "s",
            3.0,
            bare,
            note,
        ),
    ]


def main() -> None:
    harness.run(rows, harness.parser(__doc__).parse_args())


if __name__ == "__main__":
    main()
