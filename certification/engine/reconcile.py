"""Repair what was lost: undelivered messages, runs of dead workers, paused queues, expired
certifications, jobs whose regions were never compared, and certificates that were not issued.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import structlog
from django.conf import settings
from django.db.models import F, Q
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from certification.engine import backend, certificates, parity, queue
from certification.lib import clock
from certification.lib.redis_client import UNAVAILABLE
from certification.models import (
    WAITING,
    CertificationJob,
    CertificationRun,
    ModelCertification,
    PauseCause,
    Priority,
    QueuePause,
    RoutineMark,
    State,
    routines,
    sql,
)
from certification.reasons import ErrorCategory, Reason

log = structlog.get_logger(__name__)

ADVISORY_LOCK = 5_870_331  # one reconciliation at a time, whoever starts it
BATCH = 2000
# Errors that leave open whether our credentials work; any other answer means that they were
# accepted.
INCONCLUSIVE = frozenset(
    {ErrorCategory.AUTHENTICATION_ERROR, ErrorCategory.NETWORK_ERROR, ErrorCategory.TIMEOUT}
)
# times CERTIFICATION_RESEND_AFTER without progress: no worker takes from the job's queue any more
ORPHANED_FACTOR = 10


@dataclass(frozen=True)
class Reconciled:
    """What was repaired: numbers of runs; of certifications for `expired`, of jobs for
    `compared`, of certificates for `issued` and `reminded`.

    `busy` means that somebody else was at it and nothing was done.
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
    issued: int = 0
    reminded: int = 0


def reconcile() -> Reconciled:
    """Repair everything at once. Safe to call from anywhere at any time: what is in order stays as
    it is.
    """
    with sql.advisory_lock(ADVISORY_LOCK) as is_alone:
        if not is_alone:
            return Reconciled(busy=True)
        retried, given_up = retry_stalled_runs()
        orphaned = fail_orphaned_runs()
        pause = check_pause()
        try:
            resent = sum(resend_undelivered(priority) for priority in Priority.values)
            broker_reachable = True
        except (OperationalError, *UNAVAILABLE) as error:
            log.warning("broker_unreachable", error=str(error))
            resent, broker_reachable = 0, False
        done = Reconciled(
            resent=resent,
            retried=retried,
            given_up=given_up + orphaned + pause.given_up,
            expired=ModelCertification.objects.expire(),
            resumed=pause.resumed,
            paused=pause.paused,
            broker_reachable=broker_reachable,
            compared=parity.compare_overdue(),
            issued=certificates.issue_due(),
            reminded=certificates.remind(),
        )
    RoutineMark.record(routines.RECONCILE)
    if done != Reconciled(paused=done.paused):
        log.info("reconciled", **{name: n for name, n in done.__dict__.items() if n})
    return done


def retry_stalled_runs() -> tuple[int, int]:
    """Queue runs again whose worker died, or give them up after too many attempts. Returns how many
    of each.
    """
    before = Now() - timedelta(seconds=settings.CERTIFICATION_HEARTBEAT_TIMEOUT)
    retried = given_up = 0
    for run in CertificationRun.objects.stalled(before).select_related("job")[:BATCH]:
        if run.attempt <= settings.CERTIFICATION_MAX_RETRIES:
            retried += run.retry_stalled(before)
        else:
            message = (
                f"The worker died {run.attempt} times while working on this run; "
                "it was not tried again."
            )
            given_up += run.mark_failed(Reason.UNKNOWN, message, unless_alive_since=before)
    return retried, given_up


def fail_orphaned_runs() -> int:
    """Give up runs of a backend that is no longer in use: no worker may take them, and they keep
    their pairs from being certified. Returns how many.
    """
    before = clock.now() - timedelta(seconds=settings.CERTIFICATION_PAUSE_LIMIT)
    orphaned = CertificationRun.objects.filter(
        status__in=WAITING, job__updated_at__lt=before
    ).exclude(backend=backend.name())
    return sum(
        run.mark_failed(
            Reason.CLIENT_MISCONFIGURED,
            f"The run was requested for the {run.get_backend_display()} backend, "
            "and no worker with that backend took it.",
        )
        for run in orphaned.select_related("job")[:BATCH]
    )


def claimable() -> Q:
    """Filter for the runs that our workers may take: of our backend, and of our queues or of queues
    without a worker.

    Installations may share a database: the demo has queues and an emulator of its own and may run
    next to a stack.
    """
    orphaned_since = clock.now() - timedelta(
        seconds=ORPHANED_FACTOR * settings.CERTIFICATION_RESEND_AFTER
    )
    queue_name = settings.CERTIFICATION_QUEUE_NAME
    ours = Q(job__config__queue=queue_name) | Q(job__config__queue__isnull=True)
    return Q(backend=backend.name()) & (ours | Q(job__updated_at__lt=orphaned_since))


def resend_undelivered(priority: str) -> int:
    """Send messages again that got lost. Queues deliver in order, so the oldest of the waiting rows
    are those without a message. Returns how many.

    A message that a worker has taken but not started counts as lost here: its duplicate loses the
    claim and ends.
    """
    runs = CertificationRun.objects.filter(claimable(), job__priority=priority)
    pause = QueuePause.objects.current(backend.name())
    held = pause is not None and pause.holds(priority)
    missing = runs.filter(status__in=WAITING).count() - queue.queued_messages(priority)
    if missing <= 0 or held:
        return 0
    before = Now() - timedelta(seconds=settings.CERTIFICATION_RESEND_AFTER)
    oldest_first = runs.undelivered(before).order_by(
        F("enqueued_at").asc(nulls_first=True), "created_at"
    )
    run_ids = list(oldest_first.values_list("pk", flat=True)[:missing])
    if not run_ids:
        return 0
    sent = queue.publish(run_ids, priority)
    if sent:
        pending = CertificationJob.objects.filter(status=State.PENDING, runs__in=run_ids)
        for job in pending.distinct():
            job.mark_queued()
    return sent


class PauseCheck(NamedTuple):
    """Whether the queue is paused, and how many runs were resumed or given up."""

    paused: bool
    resumed: int = 0
    given_up: int = 0


def check_pause() -> PauseCheck:
    """Try the credentials of a queue that is paused because of them: resume it when they work, give
    its runs up when it has been paused for too long. Pauses by persons are theirs to end.
    """
    QueuePause.objects.end_lapsed()
    ours = QueuePause.objects.open().filter(backend=backend.name(), cause=PauseCause.CREDENTIALS)
    pause = ours.first()
    if pause is None:
        return PauseCheck(paused=QueuePause.objects.current(backend.name()) is not None)
    waiting = CertificationRun.objects.filter(
        status__in=WAITING, job__priority=Priority.BULK, backend=pause.backend
    )
    if credentials_work():
        pause.end()
        log.info("queue_resumed", backend=pause.backend)
        return PauseCheck(paused=False, resumed=waiting.count())
    limit = timedelta(seconds=settings.CERTIFICATION_PAUSE_LIMIT)
    if clock.now() - pause.opened_at < limit:
        return PauseCheck(paused=True)
    message = f"The queue was paused for over {limit}: {pause.message}"
    reason = Reason(pause.error_reason)
    runs = waiting.select_related("job")[:BATCH]
    return PauseCheck(paused=True, given_up=sum(run.mark_failed(reason, message) for run in runs))


def credentials_work() -> bool:
    """Tell whether AWS accepts our credentials, by a call that costs nothing."""
    from certification.bedrock.errors import BedrockError  # noqa: PLC0415, slow to import

    bedrock = backend.bedrock()
    try:
        bedrock.foundation_models(bedrock.connection.home_region)
    except BedrockError as error:
        return error.category not in INCONCLUSIVE
    return True
