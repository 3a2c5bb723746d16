"""Messages to the workers. A message is a hint: the row it names is the truth."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import structlog
from celery import current_app
from django.conf import settings
from kombu.exceptions import BatchPublishError, OperationalError  # type: ignore[attr-defined]  # newer than its stubs
from redis.exceptions import BusyLoadingError, OutOfMemoryError, ReadOnlyError, ResponseError

from certification.lib import redis_client
from certification.lib.redis_client import UNAVAILABLE, Purpose
from certification.models import CertificationJob, CertificationRun, Priority

log = structlog.get_logger(__name__)

CERTIFY_RUN = "certification.tasks.certify_run"
PUBLISH_JOB = "certification.tasks.publish_job"
BATCH = 500
SMALL = 50  # runs whose messages a request may send itself


def name_for(priority: str, region: str = "") -> str:
    """The queue for a job's priority: a click must never wait behind a sweep. A pinned region has
    queues of its own.
    """
    base: str = settings.CERTIFICATION_QUEUE_NAME
    name = base if priority == Priority.INTERACTIVE else f"{base}.bulk"
    return f"{name}.{region}" if region in settings.PINNED_REGIONS else name


def taken_here(priority: str) -> list[str]:
    """The queues that this worker takes messages from: those of its regions when it is pinned, else
    the common one.
    """
    return [name_for(priority, region) for region in settings.WORKER_REGIONS] or [
        name_for(priority)
    ]


def publish_job(job: CertificationJob) -> bool:
    """Get a new job's runs onto the queue: directly when they are few, else through one message to
    a worker.

    False when the broker cannot be reached; the runs stay PENDING and `reconcile` sends them when
    it is back.
    """
    try:
        ping_broker()  # fails at once where kombu would try for seconds while a request waits
        if job.total_runs <= SMALL:
            task_id = ""  # each run has a message of its own
            publish(list(job.runs.values_list("pk", flat=True)), job.priority)
        else:
            task_id = current_app.send_task(
                PUBLISH_JOB, [str(job.pk)], queue=name_for(Priority.INTERACTIVE), retry=False
            ).id
    except (OperationalError, *UNAVAILABLE) as error:
        log.warning("broker_unreachable", job=str(job.pk), error=str(error))
        return False
    job.mark_queued(task_id)
    return True


def publish(run_ids: Sequence[uuid.UUID], priority: str) -> int:
    """Send one message per run over one connection, and mark the runs as queued batch by batch.
    Return the number of runs marked.
    """
    sent = 0
    with current_app.producer_or_acquire() as producer:
        for start in range(0, len(run_ids), BATCH):
            batch = run_ids[start : start + BATCH]
            regions: dict[uuid.UUID, str] = {}
            if settings.PINNED_REGIONS:  # only then does the region decide on the queue
                rows = CertificationRun.objects.filter(pk__in=batch)
                regions = dict(rows.values_list("pk", "region_id"))
            try:
                # one round trip, over one Redis client: half the CPU of sending each by itself
                with producer.batch(BATCH):
                    for run_id in batch:
                        name = name_for(priority, regions.get(run_id, ""))
                        current_app.send_task(
                            CERTIFY_RUN, [str(run_id)], queue=name, producer=producer, retry=False
                        )
            # some may be out: their rows stay as they are and are sent again
            except BatchPublishError as error:
                raise OperationalError(str(error)) from error
            sent += CertificationRun.objects.mark_queued(batch)
    return sent


def ping_broker() -> None:
    """Raise one of `redis_client.UNAVAILABLE` when the broker does not answer."""
    redis_client.client(Purpose.BROKER).ping()


def broker_fault() -> str:
    """Return why the broker takes no messages although it answers, empty when it does: found out
    by a small write. Raises `redis_client.UNAVAILABLE` for other failures.
    """
    probe = f"{settings.CERTIFICATION_QUEUE_NAME}.probe"
    try:
        redis_client.client(Purpose.BROKER).set(probe, 1, ex=60)
    except OutOfMemoryError:
        return "redis is full: it has reached its maxmemory"
    except ReadOnlyError:
        return "redis is a read-only replica"
    except BusyLoadingError:
        return "redis is loading its data"
    except ResponseError as error:
        if "MISCONF" in str(error):
            return "redis cannot write to its disk"
        raise
    return ""


def queued_messages(priority: str) -> int:
    """Return how many messages no worker has taken yet. Raises `redis_client.UNAVAILABLE`."""
    broker = redis_client.client(Purpose.BROKER)
    names = {
        name_for(priority),
        *(name_for(priority, region) for region in settings.PINNED_REGIONS),
    }
    return sum(int(broker.llen(name)) for name in names)
