"""The alert engine: look at every rule, and open, raise and resolve episodes.

Beat runs a round every minute. It needs no Prometheus. What a rule cannot measure, because a server
is away, stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.db import transaction

from certification.lib import clock
from certification.models import (
    AlertEpisode,
    AlertSilence,
    RoutineMark,
    RunTotal,
    Severity,
    routines,
    webhooks,
)
from certification.monitoring import notifications, runbooks
from certification.monitoring.alert_rules import RULES, Facts, Level, Rule, cause_of
from certification.monitoring.checks import FAILURES

log = structlog.get_logger(__name__)

ADVISORY_LOCK = 5_870_332  # one round at a time, whoever starts it
REOPEN = timedelta(minutes=10)  # what comes back so soon is the same episode
ORDER = ["", Severity.WARNING, Severity.CRITICAL]
SILENT = timedelta(days=1)  # so long after the last word of an Alertmanager its alert is over


@dataclass
class Round:
    """A look at every rule at one time: what it changed, as `rule subject`, and which rules could
    not be measured.
    """

    now: datetime
    silences: Sequence[AlertSilence]
    opened: list[str] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def covers(self, episode: AlertEpisode) -> bool:
        """Whether a silence covers an episode."""
        return any(silence.covers(episode) for silence in self.silences)


def run_round(rules: Sequence[Rule] = RULES) -> Round:
    """Look at every rule once. Raises DatabaseError: without the database there is no list."""
    facts, now = Facts(), clock.now()
    result = Round(now, AlertSilence.current(now))
    RunTotal.fold()
    for rule in rules:
        check(rule, facts, result)
    for episode in AlertEpisode.objects.open().filter(received_at__lt=now - SILENT):
        end(episode, result)
    unattended = [e for e in AlertEpisode.objects.open().filter(cause="") if not result.covers(e)]
    notifications.plan(unattended, AlertEpisode.objects.ended(before=now - REOPEN))
    RoutineMark.record(routines.ALERTS)
    return result


def check(rule: Rule, facts: Facts, result: Round) -> None:
    """Measure a rule and bring its episodes up to date; without its servers they stay."""
    try:
        values = rule.measure(facts)
    except FAILURES as error:
        log.warning("alert_not_measured", rule=rule.name, error=type(error).__name__)
        result.unknown.append(rule.name)
        return
    subjects = set(
        AlertEpisode.objects.ongoing().filter(rule=rule.name).values_list("subject", flat=True)
    )
    for subject in sorted(subjects | set(values)):
        update(rule, subject, values.get(subject), result)


@transaction.atomic
def update(rule: Rule, subject: str, value: float | None, result: Round) -> None:
    """Bring the episode of one subject of a rule up to date; no value means that it is well."""
    now = result.now
    rows = AlertEpisode.objects.select_for_update().filter(rule=rule.name, subject=subject)
    episode = rows.ongoing().first()
    levels = rule.severities(value) if value is not None else []
    if not levels:
        if episode is not None:
            end(episode, result)
        return
    episode = episode or rows.filter(resolved_at__gt=now - REOPEN).order_by("resolved_at").last()
    episode = episode or AlertEpisode(rule=rule.name, subject=subject)
    episode.since = {
        level.severity: episode.since.get(level.severity, now.isoformat()) for level in levels
    }
    held = next((level for level in levels if has_held(level, episode, now)), None)
    if held is not None:
        episode.resolved_at = None  # of one that came back, now that it has held again
    if episode.resolved_at is None:
        episode.value = value or 0.0
    if held is not None:
        raise_to(rule, episode, held.severity, result)
    episode.save()
    if held is not None and not episode.cause and not result.covers(episode):
        notify(episode, rule.command)


def has_held(level: Level, episode: AlertEpisode, now: datetime) -> bool:
    since = datetime.fromisoformat(episode.since[level.severity])
    return (now - since).total_seconds() >= level.held_s


def raise_to(rule: Rule, episode: AlertEpisode, severity: Severity, result: Round) -> None:
    """Open an episode or note how severe it is now."""
    if episode.opened_at is None:
        episode.opened_at, episode.value_at_open = result.now, episode.value
        result.opened.append(str(episode))
        log.warning("alert_opened", rule=rule.name, subject=episode.subject, value=episode.value)
    episode.severity = severity
    episode.message = rule.describe(episode.value, episode.subject)
    episode.cause = cause_of(rule, episode.subject)
    episode.received_at = None  # from now on we measure it


def end(episode: AlertEpisode, result: Round) -> None:
    """Resolve an episode whose condition no longer holds; one that never opened is forgotten."""
    if episode.opened_at is None:
        episode.delete()
        return
    episode.since = {}
    if episode.resolved_at is not None:  # it came back for too short a time
        episode.save(update_fields=["since"])
        return
    episode.resolved_at = result.now
    episode.save(update_fields=["resolved_at", "since"])
    result.resolved.append(str(episode))
    log.info("alert_resolved", rule=episode.rule, subject=episode.subject)


def notify(episode: AlertEpisode, command: str = "") -> None:
    """Send the alert to webhooks and channels, once for each severity that it reaches."""
    if ORDER.index(episode.severity) <= ORDER.index(episode.notified):
        return
    webhooks.raise_alert(
        episode.rule,
        episode.severity,
        episode.message,
        subject={
            "subject": episode.subject,
            "value": episode.value,
            "command": command,
            "runbook": runbooks.address(episode.rule),
        },
        once=f"{episode.pk}:{episode.severity}",
    )
    notifications.alert_opened(episode)
    episode.notified, episode.notified_at = episode.severity, clock.now()
    episode.save(update_fields=["notified", "notified_at"])
