"""What routines look at, without a change: health, errors, processes, targets, packages, security.

Each returns a sentence of what it saw, and raises StepFault where somebody has to do something.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from datetime import timedelta

from celery import current_app
from django.conf import settings
from django.core.management.base import CommandError

from certification.lib import clock
from certification.models import ModelCertification, sql
from certification.monitoring import channels, doctor, log_files, targets
from certification.monitoring.log_files import LogFilter
from certification.monitoring.targets import Target
from certification.operations import credentials, loadtest, packages, retention, security
from certification.operations.site import NotAnswered, Site
from certification.stack import control

MAX_TEXT = 2000  # characters of a report's step
DAY, ENDING = timedelta(days=1), timedelta(days=3)
MAX_ERRORS = 10  # lines a day
MAX_PROCESS_BYTES = 400_000_000
UP_FOR = timedelta(days=7)
# Open alerts are told already; that this routine failed is one of them, and would keep it failing.
HEALTH = {name: check for name, check in doctor.CHECKS.items() if name != "alerts"}
SERVERS = ("postgres", "valkey")


class StepFault(Exception):
    """What a step found wrong; the text says it."""


def refuse(faults: Iterable[str]) -> None:
    """Raise StepFault where there are any."""
    if texts := list(faults):
        raise StepFault(" ".join(texts)[:MAX_TEXT])


def health(_deadline: float) -> str:
    results = list(doctor.examine(HEALTH))
    refuse(f"{r.check}: {finding.what}" for r in results for finding in r.findings)
    return f"{len(results)} checks are well"


def errors_of_the_day(_deadline: float) -> str:
    """Count the error lines of 24 hours by their cause."""
    levels = frozenset({"error", "critical"})
    lines = log_files.read_logs(LogFilter(levels=levels, start=clock.now() - DAY))
    causes = ", ".join(f"{row.count} {row.cause}" for row in log_files.digest(lines.entries)[:5])
    text = f"{lines.total} error lines{causes and f': {causes}'}"
    if lines.total > MAX_ERRORS:
        raise StepFault(f"{text}. manage.py logs --errors --by reason")
    return text


def processes(_deadline: float) -> str:
    """Look at this machine's processes: memory, restarts, those that do not answer."""
    rows = [row for row in control.status() if row.pid]
    refuse(
        f"{row.name} uses {row.memory_bytes / 1e6:.0f} MB."
        for row in rows
        # a server's processes share most of their memory, which is counted for each of them
        if row.name not in SERVERS and row.memory_bytes and row.memory_bytes > MAX_PROCESS_BYTES
    )
    restarts = ", ".join(f"{row.name} {row.restarts}" for row in rows if row.restarts)
    return f"{len(rows)} processes on this machine; restarted: {restarts or 'none'}"


def reachable(_deadline: float) -> str:
    """Ask for the site as people do."""
    try:
        answer = Site(settings.PUBLIC_URL).get("/live")
    except (NotAnswered, CommandError) as fault:
        raise StepFault(f"PUBLIC_URL {settings.PUBLIC_URL}: {fault}") from None
    if answer.status != 200:
        raise StepFault(f"PUBLIC_URL {settings.PUBLIC_URL} answers {answer.status}.")
    return f"{settings.PUBLIC_URL} answers"


def certifications_that_end(_deadline: float) -> str:
    now = clock.now()
    ending = ModelCertification.objects.filter(expires_at__gt=now, expires_at__lte=now + ENDING)
    ended = ModelCertification.objects.filter(expires_at__lte=now)
    return f"{ending.count()} end within {ENDING.days} days, {ended.count()} have ended"


def targets_of_the_week(_deadline: float) -> str:
    reports = targets.reports(clock.now().date())
    return met([(report.target, report.week.per_cent) for report in reports])


def targets_of_the_month(_deadline: float) -> str:
    reports = targets.reports(clock.now().date())
    return met([(report.target, report.month.per_cent) for report in reports])


def met(values: Sequence[tuple[Target, float | None]]) -> str:
    """Say how well targets were met. Raises StepFault for those that were not."""
    measured = [(target, value) for target, value in values if value is not None]
    refuse(
        f"{target.name}: {value:.4g} % of {target.goal:g} %."
        for target, value in measured
        if value < target.goal
    )
    return f"{len(measured)} targets are met, {len(values) - len(measured)} were not measured"


def deployed(_deadline: float) -> str:
    """Say which release and commit this is. Raises StepFault where files were changed by hand."""
    git = shutil.which("git")
    if git is None or not (settings.BASE_DIR / ".git").exists():
        return f"release {settings.VERSION}, not from a repository"

    def output_of(*arguments: str) -> str:
        command = [git or "git", "-C", str(settings.BASE_DIR), *arguments]
        answer = subprocess.run(  # noqa: S603 - git, with arguments of ours
            command, capture_output=True, text=True, check=False, timeout=10
        )
        return answer.stdout.strip() if answer.returncode == 0 else ""

    commit = output_of("rev-parse", "--short", "HEAD") or "unknown"
    text = f"release {settings.VERSION}, commit {commit}"
    if changed := output_of("status", "--porcelain", "--untracked-files=no").splitlines():
        raise StepFault(f"{text}; changed by hand: {', '.join(changed)}"[:MAX_TEXT])
    return text


def uptime(_deadline: float) -> str:
    """Say since when this machine's processes run; what is younger than a week is named."""
    now = clock.now()
    rows = {row.name: now - row.since for row in control.status() if row.since}
    young = [f"{name} {age / DAY:.1f} days" for name, age in rows.items() if age < UP_FOR]
    return f"{len(rows)} processes; younger than {UP_FOR.days} days: {', '.join(young) or 'none'}"


def alert_channels(_deadline: float) -> str:
    """Send a test to each channel."""
    configured = channels.configured()
    refuse(f"{c.name}: {fault}." for c in configured if (fault := channels.send_test(c)))
    return f"{len(configured)} channels accepted a test"


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
