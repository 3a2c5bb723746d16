"""Putting right what got lost: undelivered messages, dead workers, paused queues, expired
certifications.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import redis
import structlog
from django.conf import settings
from django.db import connection
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from kombu.exceptions import OperationalError

from certification.bedrock.errors import BedrockError
from certification.engine import backend, parity, queue
from certification.models import (
    WAITING,
    Backend,
    CertificationJob,
    CertificationRun,
    ModelCertification,
    Priority,
    QueuePause,
)
from certification.reasons import ErrorCategory, Reason

log = structlog.get_logger(__name__)

ADVISORY_LOCK = 5_870_331  # one reconciliation at a time, whoever starts it
BATCH = 2000
# Errors after which we do not know whether our credentials work; any other answer means that they
# were accepted.
INCONCLUSIVE = frozenset(
    {ErrorCategory.AUTHENTICATION_ERROR, ErrorCategory.NETWORK_ERROR, ErrorCategory.TIMEOUT}
)
# times CERTIFICATION_RESEND_AFTER without progress: nobody serves the queue that the job was meant
# for
ORPHANED_FACTOR = 10


@dataclass(frozen=True)
class Reconciled:
    """What was put right, as counts of runs (certifications for
    `expired`, jobs for `compared`). `busy`: somebody else
    was at it.
    """

    resent: int = 0
    retried: int = 0
    given_up: int = 0
    expired: int = 0
    resumed: int = 0
    paused: bool = False
    broker_reachable: bool = True
    busy: bool = False
    compared: int = 0


def reconcile() -> Reconciled:
    """Everything at once; safe to call from anywhere at any time, changes nothing that is in order."""
    with _alone() as alone:
        if not alone:
            return Reconciled(busy=True)
        retried, given_up = _stalled()
        given_up += _fail_orphaned()
        resumed, paused, abandoned = _pauses()
        try:
            resent = sum(_undelivered(priority) for priority in Priority.values)
            reachable = True
        except (OperationalError, redis.RedisError, OSError) as error:
            log.warning("broker_unreachable", error=str(error))
            resent, reachable = 0, False
        done = Reconciled(
            resent,
            retried,
            given_up + abandoned,
            ModelCertification.objects.expire(),
            resumed,
            paused,
            reachable,
            compared=parity.compare_overdue(),
        )
    if done != Reconciled(paused=done.paused):
        log.info("reconciled", **{k: v for k, v in done.__dict__.items() if v})
    return done


@contextmanager
def _alone() -> Iterator[bool]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK])
        got = cursor.fetchone()[0]
    try:
        yield bool(got)
    finally:
        if got:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])


def _stalled() -> tuple[int, int]:
    """Runs whose worker died: queued again, or given up after too many attempts."""
    before = timezone.now() - timedelta(seconds=settings.CERTIFICATION_HEARTBEAT_TIMEOUT)
    retried = given_up = 0
    for run in CertificationRun.objects.stalled(before).select_related("job")[:BATCH]:
        if run.attempt <= settings.CERTIFICATION_MAX_RETRIES:
            retried += run.retry_stalled(before)
        else:
            message = f"The worker died {run.attempt} times while working on this run; it was not tried again."
            given_up += run.mark_failed(Reason.UNKNOWN, message, unless_alive_since=before)
    return retried, given_up


def _claimable() -> Q:
    """The runs that our workers may take: of our backend, and of our queues, or of queues that
    nobody serves any more.

    Installations may share a database: the demo has queues and an emulator of its own beside a
    running stack.
    """
    queue_name = settings.CERTIFICATION_QUEUE_NAME
    forgotten = timezone.now() - timedelta(
        seconds=ORPHANED_FACTOR * settings.CERTIFICATION_RESEND_AFTER
    )
    ours = Q(job__config__queue=queue_name) | Q(job__config__queue__isnull=True)
    return Q(backend=backend.name()) & (ours | Q(job__updated_at__lt=forgotten))


def _fail_orphaned() -> int:
    """Give up runs of a backend that is no longer in use: no worker may take them, and their pairs
    stay blocked.
    """
    before = timezone.now() - timedelta(seconds=settings.CERTIFICATION_PAUSE_LIMIT)
    waiting = CertificationRun.objects.filter(
        status__in=WAITING, job__updated_at__lt=before
    ).exclude(backend=backend.name())
    return sum(
        run.mark_failed(
            Reason.CLIENT_MISCONFIGURED,
            f"The run was asked for on the {run.get_backend_display()} backend, and no worker with that backend took it.",
        )
        for run in waiting.select_related("job")[:BATCH]
    )


def _undelivered(priority: str) -> int:
    """Send again what no message is out for. Queues deliver in order, so the oldest of the waiting
    rows are the lost ones.

    A message that a worker has taken but not started counts as lost here: its duplicate loses the
    claim and ends.
    """
    mine = CertificationRun.objects.filter(_claimable(), status__in=WAITING, job__priority=priority)
    paused = QueuePause.objects.current(backend.name()) and priority == Priority.BULK
    missing = mine.count() - queue.queued_messages(priority)
    if missing <= 0 or paused:
        return 0
    before = timezone.now() - timedelta(seconds=settings.CERTIFICATION_RESEND_AFTER)
    lost = CertificationRun.objects.undelivered(before).filter(_claimable(), job__priority=priority)
    ids = list(
        lost.order_by(F("enqueued_at").asc(nulls_first=True), "created_at").values_list(
            "pk", flat=True
        )[:missing]
    )
    sent = queue.publish(ids, priority) if ids else 0
    if sent:
        for job in CertificationJob.objects.filter(status="PENDING", runs__in=ids).distinct():
            job.mark_queued()
    return sent


def _pauses() -> tuple[int, bool, int]:
    """Try the credentials of a paused queue: resume it when they work, give its runs up when it has
    lasted too long.
    """
    pause = QueuePause.objects.current(backend.name())
    if pause is None:
        return 0, False, 0
    if _credentials_work():
        pause.end()
        log.info("queue_resumed", backend=pause.backend)
        return _waiting_bulk(pause.backend).count(), False, 0
    limit = timedelta(seconds=settings.CERTIFICATION_PAUSE_LIMIT)
    if timezone.now() - pause.opened_at < limit:
        return 0, True, 0
    message = f"The queue was paused for over {limit}: {pause.message}"
    runs = _waiting_bulk(pause.backend).select_related("job")[:BATCH]
    return 0, True, sum(run.mark_failed(Reason(pause.error_reason), message) for run in runs)


def _waiting_bulk(backend_name: str) -> QuerySet[CertificationRun]:
    return CertificationRun.objects.filter(
        status__in=WAITING, job__priority=Priority.BULK, backend=Backend(backend_name)
    )


def _credentials_work() -> bool:
    bedrock = backend.bedrock()
    try:
        bedrock.foundation_models(bedrock.connection.home_region)
    except BedrockError as error:
        return error.category not in INCONCLUSIVE
    return True
