"""The stored reports of routines: read from the results of their tasks, whatever is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery.schedules import BaseSchedule
from django.conf import settings
from django.db.models import F, Func, QuerySet, TextField, Value
from django_celery_beat.models import PeriodicTask
from django_celery_results.models import TaskResult

from certification.lib import clock
from certification.operations.tasks import run_routine

ROUTINE_NAME = '"routine": "([^"]+)"'  # as PostgreSQL's regular expression


@dataclass(frozen=True)
class StepReport:
    name: str
    is_well: bool
    seconds: float
    text: str


@dataclass(frozen=True)
class RoutineReport:
    """How a routine went. `fault` says why there is no report of steps: it could not run, or ran
    already.
    """

    task_id: str
    routine: str
    ended_at: datetime
    seconds: float
    budget_s: float
    is_well: bool
    steps: Sequence[StepReport]
    fault: str = ""

    @property
    def is_skipped(self) -> bool:
        return self.is_well and bool(self.fault)

    @property
    def faults(self) -> list[StepReport]:
        return [step for step in self.steps if not step.is_well]

    def step(self, name: str) -> StepReport | None:
        return next((step for step in self.steps if step.name == name), None)

    @property
    def share(self) -> float:
        """The part of its time that it took, from 0 to 1."""
        return min(self.seconds / self.budget_s, 1.0) if self.budget_s > 0 else 1.0


def read(row: TaskResult) -> RoutineReport:
    """Read a stored result; one that is no report is a fault."""
    try:
        result = json.loads(row.result or "null")
    except ValueError:
        result = None
    fields: Mapping[str, Any] = result if isinstance(result, dict) else {}
    steps = [read_step(step) for step in as_list(fields.get("steps")) if isinstance(step, dict)]
    return RoutineReport(
        task_id=row.task_id,
        routine=str(fields.get("routine") or ""),
        ended_at=row.date_done,
        seconds=as_number(fields.get("seconds")),
        budget_s=as_number(fields.get("budgetSeconds")),
        is_well=fields.get("well") is True,
        steps=steps,
        fault="" if steps else fault_of(row, fields),
    )


def read_step(step: Mapping[str, Any]) -> StepReport:
    return StepReport(
        name=str(step.get("step", "")),
        is_well=step.get("well") is True,
        seconds=as_number(step.get("seconds")),
        text=str(step.get("text", "")),
    )


def fault_of(row: TaskResult, fields: Mapping[str, Any]) -> str:
    """Say why a result has no steps: what it raised, or that another one was at work."""
    if skipped := fields.get("skipped"):
        return str(skipped)
    message = " ".join(str(part) for part in as_list(fields.get("exc_message")))
    kind = str(fields.get("exc_type") or row.status)
    return f"{kind}: {message}" if message else kind


def as_number(value: Any) -> float:
    """Return a number of JSON; 0 for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else 0.0


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def stored(routine: str = "") -> QuerySet[TaskResult]:
    """Return the stored results of routines, newest first; those of one, where it is named."""
    results = TaskResult.objects.filter(task_name=run_routine.name)
    if routine:
        results = results.filter(result__startswith=json.dumps({"routine": routine})[:-1])
    return results.order_by("-date_done", "-pk")


def ran(routine: str = "") -> QuerySet[TaskResult]:
    """Return the stored results of routines that were not left out, newest first."""
    return stored(routine).exclude(result__contains='"skipped": ')


def before(report: RoutineReport) -> RoutineReport | None:
    """Return the report of the time before."""
    if not report.routine:
        return None
    row = ran(report.routine).filter(date_done__lt=report.ended_at).first()
    return read(row) if row else None


def newest() -> dict[str, RoutineReport]:
    """Return the newest report of each routine that ran."""
    name = Func(F("result"), Value(ROUTINE_NAME), function="substring", output_field=TextField())
    rows = ran().annotate(routine=name).order_by("routine", "-date_done", "-pk").distinct("routine")
    return {report.routine: report for report in map(read, rows)}


def due() -> dict[str, datetime]:
    """Return when each routine runs next, by the schedules that the admin may change; by the
    settings where beat has never started. A routine that is switched off is not in it.
    """
    task = run_routine.name
    rows = PeriodicTask.objects.filter(task=task).select_related("crontab", "interval", "clocked")
    if not rows:
        entries = settings.CELERY_BEAT_SCHEDULE.values()
        ours = [entry for entry in entries if entry["task"] == task]
        return {entry["args"][0]: next_run(entry["schedule"], clock.now()) for entry in ours}
    moments: dict[str, datetime] = {}
    for row in rows:
        if row.enabled and not row.solar_id:
            moment = next_run(row.schedule, row.last_run_at or row.date_changed)
            name = first_argument(row.args)
            moments[name] = min(moment, moments.get(name, moment))
    return moments


def next_run(schedule: BaseSchedule, since: datetime) -> datetime:
    """Return when a schedule that ran at `since` runs, at the earliest now. The estimate counts
    from a moment ago: it is rounded to the second.
    """
    wait = max(schedule.remaining_estimate(since), timedelta(0))
    return (clock.now() + wait + timedelta(seconds=0.5)).replace(microsecond=0)


def first_argument(text: str) -> str:
    """Return the first argument of a periodic task, "" for none."""
    try:
        arguments = json.loads(text)
    except ValueError:
        return ""
    return str(arguments[0]) if isinstance(arguments, list) and arguments else ""
