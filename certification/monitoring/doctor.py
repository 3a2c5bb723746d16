"""Everything that can be wrong with an installation, each finding with why it matters and its fix.

A check that cannot be made, because a server is away, is a finding too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.core.checks import run_checks
from django.db import ProgrammingError
from django.db.models import Count, F, Q
from django.db.models.functions import Now

from certification.checks import TAG
from certification.engine import queue, reconcile
from certification.lib import clock, redis_client
from certification.lib.redis_client import Purpose
from certification.models import (
    TERMINAL,
    AIModel,
    AlertEpisode,
    CertificationJob,
    CertificationRun,
    ModelCertification,
    RoutineMark,
    RunTotal,
    sql,
)
from certification.models.catalogue import load_shipped
from certification.models.routines import ALERTS, NEVER, RECONCILE, RUNS
from certification.monitoring import alerts, queue_stats, redis_report, runbooks, site_health
from certification.monitoring.alert_rules import RULES
from certification.monitoring.bedrock_status import check_bedrock
from certification.monitoring.checks import FAILURES
from certification.monitoring.findings import Finding, Repair

MIN_FREE_BYTES = 1_000_000_000
MIN_MEMORY_SHARE = 0.05


Examination = Callable[[], Iterator[Finding]]


@dataclass(frozen=True)
class Result:
    """A check and what it found; nothing when all is well."""

    check: str
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        findings = [finding.to_json() for finding in self.findings]
        return {"check": self.check, "findings": findings}


def settings_are_right() -> Iterator[Finding]:
    for name in settings.ALERT_LIMITS.keys() - {rule.name for rule in RULES}:
        what = f"ALERT_{name.upper()} names no rule."
        yield Finding(what, "It changes nothing.", "The runbooks of the pages have the names.")
    for issue in run_checks(tags=[TAG]):
        yield Finding(str(issue.msg), f"system check {issue.id}", str(issue.hint or "Correct it."))


def tables_are_current() -> Iterator[Finding]:
    if fault := site_health.Migrations().fault():
        yield Finding(fault, "Statements would fail on missing columns.", "manage.py migrate")


def database_has_room() -> Iterator[Finding]:
    row = sql.fetch_one(sql.CONNECTIONS)
    if row and row["used"] > 0.8 * row["allowed"]:
        what = f"{row['used']} of {row['allowed']} connections are in use."
        yield Finding(what, "At the limit nobody can connect.", "Lower DATABASE_POOL_SIZE.")


def redis_is_safe() -> Iterator[Finding]:
    if fault := queue.broker_fault():
        yield Finding(fault, "No message can be sent.", "Give it memory and a writable disk.")
    info = redis_client.client(Purpose.BROKER).info()
    yield from redis_report.memory_faults(info)
    yield from redis_report.safety_faults(info)


def workers_take_runs() -> Iterator[Finding]:
    if not queue_stats.workers.refresh():
        yield Finding("No worker answers.", "Nothing is certified.", "manage.py up")


def routines_end() -> Iterator[Finding]:
    repairs = {RECONCILE: RECONCILE_NOW, ALERTS: Repair("Look at every rule now.", check_alerts)}
    for name in site_health.MAX_AGES:
        if fault := site_health.routine_fault(name):
            why, fix = "Lost messages and runs are not repaired.", "manage.py restart beat"
            yield Finding(fault, why, fix, repairs.get(name))


def runs_are_alive() -> Iterator[Finding]:
    """Look for runs whose worker died some time ago: reconcile should have taken them up."""
    patience = timedelta(seconds=4 * settings.CERTIFICATION_HEARTBEAT_TIMEOUT)
    if number := CertificationRun.objects.stalled(Now() - patience).count():
        what = f"{number} runs stand still: their worker gives no sign of life."
        yield Finding(what, "Their jobs do not end.", "manage.py reconcile", RECONCILE_NOW)


def catalogue_is_there() -> Iterator[Finding]:
    if not AIModel.objects.exists():
        what, why = "There is no model in the database.", "There is nothing to certify."
        repair = Repair("Load the shipped catalogue.", load_catalogue)
        yield Finding(what, why, "manage.py load_catalogue", repair)


def clock_is_right() -> Iterator[Finding]:
    if fault := clock.fault():
        yield Finding(fault, "AWS refuses signatures from 300 s.", "timedatectl set-ntp true")


def machine_has_room() -> Iterator[Finding]:
    disk = shutil.disk_usage(settings.MYIA_ROOT)
    if disk.free < MIN_FREE_BYTES:
        what = f"{disk.free / 1e6:.0f} MB of the disk are free."
        yield Finding(
            what, "PostgreSQL and Redis stop on a full disk.", "manage.py cleanup --dry-run"
        )
    memory = psutil.virtual_memory()
    if memory.available < MIN_MEMORY_SHARE * memory.total:
        what = f"{memory.available / 1e6:.0f} MB of memory are available."
        yield Finding(what, "The system ends processes.", "Lower CERTIFICATION_BULK_WORKERS.")


def private_files() -> list[Path]:
    """Return the files that hold secrets of this installation."""
    own = [Path(settings.MYIA_DIR) / name for name in ("secret_key", "embedded.json", "secrets")]
    folders = (Path(settings.PRIVATE_FOLDER), Path(settings.CERTIFICATE_FOLDER))
    paths = [*own, *(path for folder in folders for path in sorted(folder.glob("*")))]
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def files_are_private() -> Iterator[Finding]:
    for path in private_files():
        if path.stat().st_mode & 0o077:
            what, fix = f"{path} can be read by others.", f"chmod 600 {path}"
            repair = Repair(f"Close {path} to others.", partial(close, path))
            yield Finding(what, "It holds secrets.", fix, repair)


def nothing_runs_as_root() -> Iterator[Finding]:
    for process in psutil.process_iter(["cmdline", "uids"]):
        command, uids = process.info["cmdline"] or [], process.info["uids"]
        is_ours = "myia" in command and ("worker" in command or "beat" in command)
        if is_ours and uids and uids.effective == 0 and os.geteuid() == 0:
            what = f"pid {process.pid} ({' '.join(command[2:6])}) runs as root."
            yield Finding(what, "A fault in it would own the machine.", "Start it by manage.py up.")


def bedrock_answers() -> Iterator[Finding]:
    status = check_bedrock()
    if not status.valid:
        what = status.error or str(status.reason)
        yield Finding(what, f"No call of {status.backend} succeeds.", "docs/permissions.md")


def alerts_are_closed() -> Iterator[Finding]:
    for episode in AlertEpisode.objects.open():
        yield Finding(episode.message, f"{episode.severity} alert", runbooks.address(episode.rule))


def counts_agree() -> Iterator[Finding]:
    """Compare stored figures with the rows that they were counted from, but for the time of which
    `cleanup` deleted runs. Reads whole tables.
    """
    mark = RoutineMark.objects.filter(name=RUNS).first()
    whole_since = mark.ended_at if mark else NEVER
    ended = Count("runs", filter=Q(runs__status__in=TERMINAL))
    counted = CertificationJob.objects.filter(created_at__gt=whole_since).annotate(ended=ended)
    own = F("succeeded_runs") + F("failed_runs") + F("cancelled_runs")
    if number := counted.exclude(ended=own).count():
        what = f"{number} jobs count other runs than they have."
        yield Finding(what, "Their progress is wrong.", "Report it as a fault.")
    runs = CertificationRun.objects.filter(status__in=TERMINAL).count()
    totals = sum(row["runs"] for row in RunTotal.of_all_runs())
    if runs > totals or (runs < totals and mark is None):
        what = f"{totals} runs are counted and {runs} are stored."
        yield Finding(
            what, "Metrics differ after runs were deleted.", "No harm: totals never fall."
        )
    if number := ModelCertification.objects.filter(status="certified", run=None).count():
        what = f"{number} certifications have no run that proves them."
        yield Finding(what, "Nobody can check them.", "Certify them again.")


# Repairs


def reconcile_now() -> str:
    done = reconcile.reconcile()
    if done.busy:
        return "Another reconciliation is running."
    return f"Sent again: {done.resent}. Retried: {done.retried}. Given up: {done.given_up}."


RECONCILE_NOW = Repair("Send lost messages again, and retry runs whose worker died.", reconcile_now)


def check_alerts() -> str:
    with sql.advisory_lock(alerts.ADVISORY_LOCK) as is_ours:
        if not is_ours:
            return "Another round is looking at the rules."
        alerts.run_round()
    return "Every rule was looked at."


def load_catalogue() -> str:
    return f"{load_shipped().models_created} models were loaded."


def close(path: Path) -> str:
    path.chmod(path.stat().st_mode & ~0o077)
    return "Only its owner can read it."


CHECKS: dict[str, Examination] = {
    "settings": settings_are_right,
    "tables": tables_are_current,
    "database": database_has_room,
    "redis": redis_is_safe,
    "workers": workers_take_runs,
    "routines": routines_end,
    "runs": runs_are_alive,
    "catalogue": catalogue_is_there,
    "clock": clock_is_right,
    "machine": machine_has_room,
    "files": files_are_private,
    "accounts": nothing_runs_as_root,
    "bedrock": bedrock_answers,
    "alerts": alerts_are_closed,
}
DATA: dict[str, Examination] = {"data": counts_agree}


def examine(examinations: dict[str, Examination]) -> Iterator[Result]:
    """Yield what each check finds, one by one."""
    for name, examination in examinations.items():
        try:
            yield Result(name, tuple(examination()))
        except FAILURES as error:
            what, fix = f"A server does not answer ({type(error).__name__}).", "manage.py status"
            if isinstance(error, ProgrammingError):
                what, fix = "Tables or columns are missing.", "manage.py migrate"
            yield Result(name, (Finding(what, "This could not be checked.", fix),))
