"""What is done by the clock: a table of routines, each with its steps and the time it may take.

A routine runs its steps one after the other; one that fails does not keep the next from running,
and one that comes when the time is over is left for the next time. The report of each run is the
result of its task (`TaskResult`), whoever started it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from psycopg.sql import Identifier

from certification.engine import reconcile, webhooks
from certification.lib import clock
from certification.models import NextAction, RoutineMark, RunTotal, routines, sql
from certification.monitoring import capacity
from certification.operations import backups, inspections, maintenance, restore, retention, server
from certification.operations import sql as statements
from certification.operations.inspections import StepFault

log = structlog.get_logger(__name__)

LOCK = 5_870_341  # the first of two keys; the second is the routine's place in the table
BUSY_TABLES = 5  # that are vacuumed every day


@dataclass(frozen=True)
class Step:
    """`run` gets the time, of the monotonic clock, by which the routine should end, and returns a
    sentence. It raises StepFault, or what servers raise.
    """

    name: str
    run: Callable[[float], str]


@dataclass(frozen=True)
class Routine:
    """`when` in words; the clock itself is in CELERY_BEAT_SCHEDULE, and the admin changes it."""

    name: str
    when: str | Promise
    budget_s: float
    steps: tuple[Step, ...]


def repair(_deadline: float) -> str:
    done = asdict(reconcile.reconcile())
    return ", ".join(f"{name} {value}" for name, value in done.items() if value) or "nothing"


def deliver(_deadline: float) -> str:
    webhooks.deliver()
    return "sent what was due"


def count_runs(_deadline: float) -> str:
    RunTotal.fold()
    return f"{sum(row['runs'] for row in RunTotal.of_all_runs())} runs have ended"


def record_capacity(_deadline: float) -> str:
    unknown = capacity.record()
    if unknown:
        raise StepFault(f"not measured: {', '.join(unknown)}")
    return "stored the figures of today"


def clean(deadline: float) -> str:
    return describe(list(retention.clean(deadline=deadline)))


def clean_expired(deadline: float) -> str:
    return describe(list(retention.clean(retention.EXPIRED, deadline=deadline)))


def describe(deleted: Sequence[retention.Deleted]) -> str:
    """Say what was deleted. Raises StepFault for what could not be finished."""
    text = ", ".join(f"{row.number} {row.retention.name}" for row in deleted if row.number)
    left = [row.retention.name for row in deleted if not row.complete]
    if left:
        raise StepFault(f"not finished: {', '.join(left)}; deleted {text or 'nothing'}")
    return f"deleted {text or 'nothing'}"


def back_up(_deadline: float) -> str:
    """Make a backup and delete what rotation does not need."""
    made = marked(routines.BACKUP, backups.make)
    removed = backups.rotate()
    megabytes = made.size_bytes / 1e6
    return f"{made.path.name}, {megabytes:.1f} MB; {len(removed)} old ones deleted"


def drill_restore(_deadline: float) -> str:
    """Restore the newest backup into a scratch database and compare it."""
    started = time.monotonic()
    done = marked(routines.RESTORE_DRILL, lambda: restore.drill(backups.find("newest")))
    seconds = time.monotonic() - started
    return f"{done.backup.name}: {done.tables} tables, {done.rows} rows back in {seconds:.0f} s"


def marked(name: str, work: Callable[[], Any]) -> Any:
    """Do it and note how it ended."""
    try:
        result = work()
    except Exception as error:
        RoutineMark.record_failure(name, str(error))
        raise
    RoutineMark.record(name)
    return result


def vacuum(_deadline: float) -> str:
    """Clean up the tables with the most dead rows, and let the planner know all."""
    tables = [row["name"] for row in sql.fetch_all(sql.DEAD_ROWS, number=BUSY_TABLES)]
    with server.connect() as own:
        for table in tables:
            own.execute(statements.VACUUM.format(Identifier(table)))
        own.execute(statements.ANALYZE)
    return f"vacuumed {', '.join(tables) or 'nothing'}; analyzed"


def maintain(deadline: float) -> str:
    """Vacuum and rebuild what is bloated. Raises StepFault for what could not be done."""
    done = list(maintenance.work(deadline))
    faults = [f"{each.action.name}: {each.fault}" for each in done if each.fault]
    if faults:
        raise StepFault("; ".join(faults))
    return ", ".join(f"{each.action.kind} {each.action.name}" for each in done) or "nothing to do"


# What only people can do, each quarter: open until somebody has ticked it.
OF_PEOPLE = (
    ("documentation", _("Read the operations guide and the runbooks: is it still so?")),
    ("performance", _("Compare the figures of the quarter with those before: what got slower?")),
    ("improvements", _("Choose what the alerts of the quarter ask for, and plan it.")),
    ("training", _("Practise a failure (manage.py practice) with everybody on call.")),
    ("failover", _("Take the primary of the database and one worker away, and watch.")),
    ("access", _("Ask each team whether its accounts and keys are still needed.")),
)


def open_items(_deadline: float) -> str:
    """Open what people do each quarter, as next actions; what is open already stays one."""
    NextAction.objects.carry_over("quarterly", "", [(name, str(text)) for name, text in OF_PEOPLE])
    return f"{len(OF_PEOPLE)} items are open until somebody ticks them"


ROUTINES = {
    routine.name: routine
    for routine in (
        Routine(
            "hourly",
            _("every hour"),
            60,
            (
                Step("lost messages and runs", repair),
                Step("expired sessions and tokens", clean_expired),
                Step("webhooks that are due", deliver),
                Step("totals of runs", count_runs),
                Step("figures of capacity", record_capacity),
            ),
        ),
        Routine(
            "daily",
            _("every day at 03:00 UTC"),
            300,
            (
                Step("backup", back_up),
                Step("cleanup", clean),
                Step("vacuum", vacuum),
                Step("health", inspections.health),
                Step("errors of the day", inspections.errors_of_the_day),
                Step("processes", inspections.processes),
                Step("reachable", inspections.reachable),
                Step("certifications that end", inspections.certifications_that_end),
            ),
        ),
        Routine(
            "weekly",
            _("Sundays at 02:00 UTC"),
            900,
            (
                Step("restore drill", drill_restore),
                Step("stored figures", inspections.examine_data),
                Step("dead rows and bloated indexes", maintain),
                Step("dependencies", inspections.check_packages),
                Step("what is deployed", inspections.deployed),
                Step("uptime", inspections.uptime),
                Step("alert channels", inspections.alert_channels),
                Step("targets of the week", inspections.targets_of_the_week),
            ),
        ),
        Routine(
            "monthly",
            _("on the first of the month at 01:00 UTC"),
            1800,
            (
                Step("backup", back_up),
                Step("dead rows and bloated indexes", maintain),
                Step("sizes of tables", inspections.sizes),
                Step("targets of the month", inspections.targets_of_the_month),
            ),
        ),
        Routine(
            "quarterly",
            _("on the first Monday of a quarter at 01:00 UTC"),
            3600,
            (
                Step("security audit", inspections.audit_security),
                Step("load test", inspections.measure_load),
                Step("secrets that are due", inspections.check_secrets),
                Step("access review", inspections.review_access),
                Step("for people", open_items),
            ),
        ),
    )
}


class Busy(Exception):
    """The routine is at work already."""


def run(name: str, only: str = "") -> dict[str, Any]:
    """Run a routine, or one step of it, and return its report. Raises Busy, and KeyError for a
    name that no routine has.
    """
    routine = ROUTINES[name]
    steps = [step for step in routine.steps if only in ("", step.name)]
    number = list(ROUTINES).index(name)
    with server.connect() as holder, server.hold_lock(holder, LOCK, number) as is_ours:
        if not is_ours:
            raise Busy(f"The routine {name} is at work already.")
        report = work_through(routine, steps)
    if not only:
        record(routine, report)
    return report


def work_through(routine: Routine, steps: Sequence[Step]) -> dict[str, Any]:
    began, started_at = time.monotonic(), clock.now()
    deadline = began + routine.budget_s
    reports = [attempt(step, deadline) for step in steps]
    seconds = round(time.monotonic() - began, 2)
    is_late = seconds > routine.budget_s
    return {
        "routine": routine.name,
        "startedAt": started_at.isoformat(timespec="seconds"),
        "seconds": seconds,
        "budgetSeconds": routine.budget_s,
        "late": is_late,
        "well": not is_late and all(report["well"] for report in reports),
        "steps": reports,
    }


def attempt(step: Step, deadline: float) -> dict[str, Any]:
    """Run a step, whatever it raises; return its report."""
    started = time.monotonic()
    is_well = False
    if started > deadline:
        text = "left for the next time: the routine's time was over"
    else:
        try:
            text, is_well = step.run(deadline), True
        except StepFault as fault:
            text = str(fault)
        except Exception as error:  # the next steps are to run
            log.exception("routine_step_failed", step=step.name)
            text = f"{type(error).__name__}: {error}"
    seconds = round(time.monotonic() - started, 2)
    return {"step": step.name, "well": is_well, "seconds": seconds, "text": text}


def record(routine: Routine, report: dict[str, Any]) -> None:
    """Leave the routine's mark."""
    if report["well"]:
        return RoutineMark.record(routine.name)
    faults = [f"{step['step']}: {step['text']}" for step in report["steps"] if not step["well"]]
    if report["late"]:
        faults.append(f"took {report['seconds']:.0f} of {routine.budget_s:.0f} s")
    return RoutineMark.record_failure(routine.name, "; ".join(faults))
