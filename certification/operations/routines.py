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
from celery import current_app
from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from psycopg.sql import Identifier

from certification.engine import reconcile, webhooks
from certification.lib import clock
from certification.models import RoutineMark, RunTotal, routines, sql
from certification.monitoring import capacity, doctor
from certification.operations import (
    backups,
    credentials,
    loadtest,
    maintenance,
    packages,
    restore,
    retention,
    security,
    server,
)
from certification.operations import sql as statements
from certification.operations.site import NotAnswered

log = structlog.get_logger(__name__)

LOCK = 5_870_341  # the first of two keys; the second is the routine's place in the table
BUSY_TABLES = 5  # that are vacuumed every day


class StepFault(Exception):
    """What a step found wrong; the text says it."""


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


def sizes(_deadline: float) -> str:
    rows = sql.fetch_all(sql.TABLE_SIZES, number=10)
    return ", ".join(f"{row['name']} {row['bytes'] / 1e6:.1f} MB" for row in rows)


def examine_data(_deadline: float) -> str:
    findings = [f.what for result in doctor.examine(doctor.DATA) for f in result.findings]
    if findings:
        raise StepFault(" ".join(findings))
    return "stored figures agree with the rows"


def check_packages(_deadline: float) -> str:
    """Compare with the lock file and look for known faults. Without network it says so."""
    try:
        lock = packages.locked()
        texts = [
            f"{row.package} is {row.installed or 'missing'}, locked {row.locked}"
            for row in packages.differences(lock, packages.installed())
        ]
        note = f"{len(lock)} packages are as they are locked"
        texts += [fault.sentence for fault in packages.vulnerabilities(packages.advisories())]
        note += ", none with a known fault"
    except packages.Unchecked as fault:
        note = f"not all was checked: {fault}"
    if texts:
        raise StepFault("; ".join(texts))
    return note


def maintain(deadline: float) -> str:
    """Vacuum and rebuild what is bloated. Raises StepFault for what could not be done."""
    done = list(maintenance.work(deadline))
    faults = [f"{each.action.name}: {each.fault}" for each in done if each.fault]
    if faults:
        raise StepFault("; ".join(faults))
    return ", ".join(f"{each.action.kind} {each.action.name}" for each in done) or "nothing to do"


def audit_security(_deadline: float) -> str:
    """Audit and store the report, as `manage.py security_audit` does."""
    report = current_app.tasks[retention.AUDIT_TASK].apply(throw=True).get()
    findings = [row["what"] for section in report["sections"] for row in section["findings"]]
    if findings:
        raise StepFault(
            f"{len(findings)} findings, {len(report['new'])} new: {' '.join(findings)}"[:2000]
        )
    return "no findings"


def measure_load(_deadline: float) -> str:
    """Ask PUBLIC_URL a thousand times. Raises StepFault where a target is missed."""
    try:
        report = loadtest.run(settings.PUBLIC_URL, loadtest.addresses(), 1000, 10)
    except NotAnswered as fault:
        raise StepFault(f"{settings.PUBLIC_URL}: {fault}") from None
    figures = report.all
    text = (
        f"95 % within {figures.p95_ms} ms, {100 * figures.error_rate:.2f} % errors, "
        f"{report.per_second:g} a second"
    )
    if not figures.is_met:
        raise StepFault(text)
    return text


def check_secrets(_deadline: float) -> str:
    rows = list(credentials.secrets())
    due = [f"{row.name} ({row.age.days} days)" for row in rows if row.age and row.is_due]
    if due:
        raise StepFault(f"due: {', '.join(due)}")
    return f"{len(rows)} secrets, none due"


def review_access(_deadline: float) -> str:
    """Look who may do what and does not need it."""
    parts = [security.look_at(name, security.PARTS[name]) for name in ("users", "keys")]
    findings = [row["what"] for part in parts for row in part["findings"]]
    if findings:
        raise StepFault(" ".join(findings)[:2000])
    return "everybody who may log in does"


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
            ),
        ),
        Routine(
            "weekly",
            _("Sundays at 02:00 UTC"),
            900,
            (
                Step("restore drill", drill_restore),
                Step("stored figures", examine_data),
                Step("dead rows and bloated indexes", maintain),
                Step("dependencies", check_packages),
            ),
        ),
        Routine(
            "monthly",
            _("on the first of the month at 01:00 UTC"),
            1800,
            (
                Step("backup", back_up),
                Step("dead rows and bloated indexes", maintain),
                Step("sizes of tables", sizes),
            ),
        ),
        Routine(
            "quarterly",
            _("on the first Monday of a quarter at 01:00 UTC"),
            3600,
            (
                Step("security audit", audit_security),
                Step("load test", measure_load),
                Step("secrets that are due", check_secrets),
                Step("access review", review_access),
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
