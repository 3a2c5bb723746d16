"""How long what is stored: one table, and its deletion in batches that give way to work.

Each batch is a transaction of its own over rows that nobody holds, and waits for a lock no longer
than LOCK_WAIT; then as long as it took, the database has time for runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db import OperationalError, models, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django_celery_results.models import TaskResult

from certification.lib import clock
from certification.models import (
    TERMINAL,
    AlertEpisode,
    AlertNotification,
    AlertSilence,
    AuditEntry,
    CapacityDay,
    Certificate,
    CertificationJob,
    CertificationRun,
    ErrorGroup,
    ModelCertification,
    NextAction,
    RevokedToken,
    RoutineMark,
    RunEvent,
    Session,
    TargetMinute,
    TestResult,
    WebhookDelivery,
    audit,
    sql,
)
from certification.models.routines import RUNS, TRANSCRIPTS
from certification.operations import restore, server

BATCH, RUNS_PER_BATCH = 1000, 100
LOCK_WAIT = "500ms"
LONGEST_PAUSE_S = 1.0
AUDIT_TASK = "certification.operations.tasks.audit_security"
RUN_SETTING = "RUN_RETENTION_DAYS"
AUDITS_STAY = timedelta(days=400)  # each is compared with the one before, a quarter earlier


@dataclass(frozen=True)
class Retention:
    """What is deleted after how many days (RETENTION_<NAME> sets others, 0: never). `count` says
    how much is older than a time; `batch` deletes some of it and returns how much, None at the end.
    """

    name: str
    what: str | Promise
    default_days: int
    count: Callable[[datetime], int]
    batch: Callable[[datetime], int | None]

    @property
    def setting(self) -> str:
        return RUN_SETTING if self.name == RUNS else f"RETENTION_{self.name.upper()}"

    @property
    def days(self) -> int:
        days: int = settings.RETENTION_DAYS.get(self.name, self.default_days)
        return days

    def before(self, days: int | None = None) -> datetime:
        return clock.now() - timedelta(days=self.days if days is None else days)


def rows(
    name: str,
    what: str | Promise,
    days: int,
    old: Callable[[datetime], models.QuerySet[Any]],
) -> Retention:
    """Return a retention of rows, with what belongs to them."""

    def batch(before: datetime) -> int | None:
        with transaction.atomic():
            sql.execute(sql.LOCK_TIMEOUT, wait=LOCK_WAIT)
            free = old(before).order_by("pk").select_for_update(skip_locked=True, of=("self",))
            keys = list(free.values_list("pk", flat=True)[:BATCH])
            if keys:
                free.model._base_manager.filter(pk__in=keys).delete()
        return len(keys) or None

    return Retention(name, what, days, lambda before: old(before).count(), batch)


def transcripts_until() -> datetime:
    """Return until when runs have no transcripts any more."""
    with transaction.atomic():
        return RoutineMark.lock(TRANSCRIPTS).ended_at


def count_transcripts(before: datetime) -> int:
    old = TestResult.objects.with_transcripts(before)
    return old.filter(run__completed_at__gt=transcripts_until()).count()


def drop_transcripts(before: datetime) -> int | None:
    """Drop those of the next runs. Each run is looked at once: the mark says how far we are."""
    with transaction.atomic():
        sql.execute(sql.LOCK_TIMEOUT, wait=LOCK_WAIT)
        mark = RoutineMark.lock(TRANSCRIPTS)
        ended = CertificationRun.objects.filter(
            completed_at__gt=mark.ended_at, completed_at__lt=before
        ).order_by("completed_at")
        times = list(ended.values_list("completed_at", flat=True)[:RUNS_PER_BATCH])
        until = times[-1] if times else None
        if until is None:
            return None
        results = TestResult.objects.drop_transcripts(mark.ended_at, until)
        mark.ended_at = until
        mark.save(update_fields=["ended_at"])
    return results


def old_runs(before: datetime) -> models.QuerySet[CertificationRun]:
    """Return the runs that ended before then and prove nothing that is still shown: neither the
    status of a pair nor a certificate. Those of jobs that go on stay.
    """
    proving = ModelCertification.objects.filter(run=OuterRef("pk"))
    certified = Certificate.objects.filter(run=OuterRef("pk"))
    ended = CertificationRun.objects.filter(completed_at__lt=before, job__status__in=TERMINAL)
    return ended.exclude(Exists(proving)).exclude(Exists(certified))


def delete_runs(before: datetime) -> int | None:
    """Delete some runs with all that belongs to them, and jobs that have none any more. Totals
    count them on; the mark says until when rows are missing.
    """
    with transaction.atomic():
        sql.execute(sql.LOCK_TIMEOUT, wait=LOCK_WAIT)
        free = old_runs(before).select_for_update(skip_locked=True, of=("self",))
        columns = free.order_by("completed_at").values_list("pk", "job_id", "completed_at")
        batch = list(columns[:BATCH])
        if not batch:
            return None
        keys, until = [key for key, _job, _at in batch], batch[-1][2]
        CertificationRun.objects.filter(pk__in=keys).delete()
        jobs = CertificationJob.objects.filter(pk__in={job for _key, job, _at in batch})
        jobs.filter(status__in=TERMINAL, runs=None).delete()
        mark = RoutineMark.lock(RUNS)
        if until and until > mark.ended_at:
            mark.ended_at = until
            mark.save(update_fields=["ended_at"])
    return len(keys)


def old_task_results(before: datetime) -> models.QuerySet[TaskResult]:
    audits = Q(task_name=AUDIT_TASK, date_done__gt=clock.now() - AUDITS_STAY)
    return TaskResult.objects.filter(date_done__lt=before).exclude(audits)


def audit_limit() -> datetime:
    """Return from when on the database refuses to delete entries of the audit trail."""
    return clock.now() - timedelta(days=audit.LEAST_DAYS)


def count_replaced(before: datetime) -> int:
    with server.connect_cluster() as cluster:
        return len(restore.replaced_databases(cluster, before))


def drop_replaced(before: datetime) -> int | None:
    with server.connect_cluster() as cluster:
        names = restore.replaced_databases(cluster, before)
        for name in names[:1]:
            server.drop(cluster, name)
        return len(names[:1]) or None


RETENTION: tuple[Retention, ...] = (
    Retention(
        RUNS,
        _(
            "runs with their results, except those that prove a status or a certificate; "
            "0: for ever"
        ),
        0,
        lambda before: old_runs(before).count(),
        delete_runs,
    ),
    Retention(
        "transcripts",
        _("requests and replies of runs; verdicts, grades and figures stay forever"),
        90,
        count_transcripts,
        drop_transcripts,
    ),
    rows(
        "run_events",
        _("the log of what happened to runs that have ended"),
        90,
        RunEvent.objects.before,
    ),
    rows(
        "task_results",
        _("results of routines and schedules"),
        90,
        old_task_results,
    ),
    rows(
        "sessions",
        _("sessions on pages, after they expired"),
        1,
        lambda before: Session.objects.filter(expire_date__lt=before),
    ),
    rows(
        "tokens",
        _("tokens of the API that were revoked, after they expired"),
        1,
        lambda before: RevokedToken.objects.filter(expires_at__lt=before),
    ),
    rows(
        "login_attempts",
        _("failed logins"),
        30,
        lambda before: AccessAttempt.objects.filter(attempt_time__lt=before),
    ),
    rows(
        "login_failures",
        _("the log of failed logins"),
        30,
        lambda before: AccessFailureLog.objects.filter(attempt_time__lt=before),
    ),
    rows(
        "logins",
        _("the log of logins"),
        90,
        lambda before: AccessLog.objects.filter(attempt_time__lt=before),
    ),
    rows(
        "webhook_deliveries",
        _("deliveries of webhooks, after they ended"),
        30,
        WebhookDelivery.objects.ended_before,
    ),
    rows(
        "alerts",
        _("alerts, after they were resolved"),
        365,
        lambda before: AlertEpisode.objects.filter(resolved_at__lt=before),
    ),
    rows(
        "errors",
        _("errors of the log, after they were last seen; 1,000 at most"),
        90,
        lambda before: ErrorGroup.objects.filter(last_seen__lt=before) | ErrorGroup.beyond_limit(),
    ),
    rows(
        "alert_messages",
        _("what was sent of alerts, after they were resolved"),
        90,
        lambda before: AlertNotification.objects.filter(episode__resolved_at__lt=before),
    ),
    rows(
        "target_minutes",
        _("the minutes of targets; their days stay forever"),
        4,
        lambda before: TargetMinute.objects.filter(at__lt=before),
    ),
    rows(
        "silences",
        _("silences of alerts, after they ended"),
        365,
        lambda before: AlertSilence.objects.filter(until__lt=before),
    ),
    rows(
        "audit",
        _("the audit trail; never younger than 30 days"),
        730,
        lambda before: AuditEntry.objects.filter(at__lt=min(before, audit_limit())),
    ),
    rows(
        "admin_log",
        _("the admin's own history of each row"),
        365,
        lambda before: LogEntry.objects.filter(action_time__lt=before),
    ),
    rows(
        "next_actions",
        _("actions after routines, after they were done"),
        365,
        lambda before: NextAction.objects.filter(done_at__lt=before),
    ),
    rows(
        "capacity_days",
        _("figures of capacity, one a day"),
        1100,
        lambda before: CapacityDay.objects.filter(day__lt=before.date()),
    ),
    Retention(
        "replaced_databases",
        _("databases that a restore replaced"),
        7,
        count_replaced,
        drop_replaced,
    ),
)
EXPIRED = ("sessions", "tokens")  # what the hourly routine deletes


@dataclass(frozen=True)
class Deleted:
    """What was deleted of one retention. `complete`: nothing is left; otherwise the time was over,
    or somebody held the rows, and the next cleanup goes on.
    """

    retention: Retention
    before: datetime
    number: int
    complete: bool = True


def selected(names: Sequence[str] = (), days: int | None = None) -> list[Retention]:
    """Return the retentions of these names, all without names, but those for ever."""
    chosen = [row for row in RETENTION if not names or row.name in names]
    return [row for row in chosen if (row.days if days is None else days)]


def count(names: Sequence[str] = (), days: int | None = None) -> Iterator[Deleted]:
    """Yield what a cleanup would delete."""
    for row in selected(names, days):
        before = row.before(days)
        yield Deleted(row, before, row.count(before))


def clean(
    names: Sequence[str] = (), days: int | None = None, deadline: float = float("inf")
) -> Iterator[Deleted]:
    """Delete what is too old, until `deadline` (by the monotonic clock)."""
    for row in selected(names, days):
        before, number, complete = row.before(days), 0, False
        try:
            while time.monotonic() < deadline:
                started = time.monotonic()
                deleted = row.batch(before)
                if deleted is None:
                    complete = True
                    break
                number += deleted
                time.sleep(min(time.monotonic() - started, LONGEST_PAUSE_S))
        except OperationalError as error:
            if not is_lock_timeout(error):
                raise
        yield Deleted(row, before, number, complete)


def is_lock_timeout(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", "") == "55P03"
