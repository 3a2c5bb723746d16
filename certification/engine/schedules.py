"""Certifications that repeat: rows of celery-beat, which the admin edits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import structlog
from celery import shared_task
from celery.schedules import crontab
from django.db import models
from django.utils.translation import gettext_lazy as _
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from certification.engine import dispatch
from certification.engine.dispatch import CertifyOptions, DispatchError, Pair
from certification.lib import clock
from certification.models import AIModel, CertificationJob, Region, Tier, User

log = structlog.get_logger(__name__)

STALE_DAYS = 30
LAST_DAY = 28  # of every month
EXPIRES_S = 3600  # a message that nobody took so long is worth no certification any more


class Repeat(models.TextChoices):
    DAILY = "daily", _("every day")
    WEEKLY = "weekly", _("every week")
    MONTHLY = "monthly", _("every month")


def repeat_job(
    job: CertificationJob, pairs: Sequence[Pair], options: CertifyOptions, repeat: str
) -> PeriodicTask:
    """Have what a job certifies certified again, at the same time of the day in UTC, on behalf of
    the same user.
    """
    schedule = CrontabSchedule.from_schedule(crontab_from_now(repeat))
    schedule.save()
    arguments = {
        "pairs": [[model.api_model_id, region.code] for model, region in pairs],
        "tier": options.tier,
        "priority": options.priority,
        "max_cost_usd": options.max_cost_usd,
        "note": options.note,
        "by": options.by.pk if options.by else None,
    }
    return PeriodicTask.objects.create(
        name=f"Certify {repeat}: {job.total_runs} pairs, as job {job.pk}",
        task=certify_scheduled.name,
        crontab=schedule,
        kwargs=json.dumps(arguments),
        description=options.note,
        expire_seconds=EXPIRES_S,
    )


def crontab_from_now(repeat: str) -> crontab:
    """Return the schedule that begins with this minute."""
    now = clock.now()
    at: dict[str, Any] = {"minute": now.minute, "hour": now.hour}
    if repeat == Repeat.WEEKLY:
        at["day_of_week"] = now.isoweekday() % 7  # Sunday is 0
    elif repeat == Repeat.MONTHLY:
        at["day_of_month"] = min(now.day, LAST_DAY)
    return crontab(**at)


@shared_task(ignore_result=False)
def certify_scheduled(
    *,
    pairs: Sequence[Sequence[str]],
    tier: str,
    priority: str = "",
    max_cost_usd: float | None = None,
    note: str = "",
    by: int | None = None,
) -> str:
    """Certify pairs of API model id and region again, unless whoever wanted it may not any more.
    Return the job's id, or why there is none.
    """
    user = None if by is None else User.objects.filter(pk=by, is_active=True).first()
    if by is not None and (user is None or not user.is_operator):
        log.warning("schedule_skipped", reason="user_may_not", user=by)
        return "skipped: its user may not start jobs any more"
    options = CertifyOptions(
        tier=tier, by=user, priority=priority, max_cost_usd=max_cost_usd, note=note
    )
    try:
        return str(dispatch.certify(existing_pairs(pairs), options).job.pk)
    except DispatchError as error:
        log.warning("schedule_skipped", reason=error.code, message=str(error))
        return f"skipped: {error}"


def existing_pairs(names: Sequence[Sequence[str]]) -> list[Pair]:
    """Return the pairs whose model is still active and whose region is still enabled."""
    by_name = AIModel.objects.active().named(name for name, _code in names)
    by_code = Region.objects.enabled().in_bulk([code for _name, code in names])
    return [(by_name[m], by_code[r]) for m, r in names if m in by_name and r in by_code]


@shared_task(ignore_result=True)
def recertify_stale(days: int = STALE_DAYS) -> None:
    """Start a job for the pairs that were last tested so long ago."""
    try:
        pairs = dispatch.stale_pairs(list(Region.objects.enabled()), days)
        if pairs:
            dispatch.recertify(pairs, Tier.FULL, days)
    except DispatchError as error:
        log.warning("recertify_skipped", reason=error.code, message=str(error))
