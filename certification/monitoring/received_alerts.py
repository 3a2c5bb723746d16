"""Alerts that an Alertmanager sends, brought into the one list: as its webhooks (version 4) have
them.

What a rule of ours measures is one episode, whoever says so first: the next round decides. Other
alerts are open until Alertmanager says that they ended, or nothing for a day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from certification.lib import clock, foreign_text, redaction
from certification.models import AlertEpisode, AlertSilence, Severity
from certification.monitoring.alert_rules import cause_of, find_rule
from certification.monitoring.alerts import REOPEN, Round, end, notify

MAX_ALERTS = 1_000  # of one request
MAX_RULE, MAX_SUBJECT, MAX_MESSAGE = 40, 200, 500  # characters
CRITICAL = frozenset({"critical", "page", "emergency", "fatal"})  # as people name it
MESSAGES = ("summary", "description", "message")  # annotations, the first of which is shown
IDENTITY = frozenset({"alertname", "severity"})  # labels that are no part of the subject


class NotAlerts(Exception):
    """A document is not what Alertmanager sends; the text says why."""


@dataclass(frozen=True)
class ReceivedAlert:
    """One alert, as our list has it."""

    rule: str
    subject: str
    severity: Severity
    message: str
    is_firing: bool

    @property
    def command(self) -> str:
        rule = find_rule(self.rule)
        return rule.command if rule else ""


def parse(document: Mapping[str, Any]) -> list[ReceivedAlert]:
    """Read a webhook's document. Raises NotAlerts."""
    alerts = document.get("alerts")
    if not isinstance(alerts, list):
        raise NotAlerts(_("The body has no list of alerts."))
    if len(alerts) > MAX_ALERTS:
        raise NotAlerts(_("Send no more than %d alerts at once: set max_alerts.") % MAX_ALERTS)
    return [parse_alert(alert) for alert in alerts]


def parse_alert(alert: Any) -> ReceivedAlert:
    """Read one alert. Raises NotAlerts."""
    if not isinstance(alert, dict):
        raise NotAlerts(_("An alert is not a JSON object."))
    if alert.get("status") not in ("firing", "resolved"):
        raise NotAlerts(_("The status of an alert is neither firing nor resolved."))
    labels, annotations = texts(alert.get("labels")), texts(alert.get("annotations"))
    name = labels.get("alertname", "").strip()
    if not name:
        raise NotAlerts(_("An alert has no label alertname."))
    message = next((annotations[key] for key in MESSAGES if annotations.get(key)), name)
    severity = labels.get("severity", "").lower()
    return ReceivedAlert(
        rule=name[:MAX_RULE],
        subject=subject_of(name, labels),
        severity=Severity.CRITICAL if severity in CRITICAL else Severity.WARNING,
        message=message[:MAX_MESSAGE],
        is_firing=alert["status"] == "firing",
    )


def texts(value: Any) -> dict[str, str]:
    """Return labels or annotations as they may be shown; none for null. Raises NotAlerts."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise NotAlerts(_("Labels and annotations are objects of texts."))
    return {
        foreign_text.clean(name): str(redaction.redact_quoted(foreign_text.clean(text)))
        for name, text in value.items()
    }


def subject_of(name: str, labels: Mapping[str, str]) -> str:
    """Return what tells an alert from others of its name: of a rule of ours its subject, of others
    all labels. What is too long ends with a digest of the whole.
    """
    rule = find_rule(name)
    if rule is not None:
        text = labels.get(rule.subject_label, "") if rule.subject_label else ""
    else:
        rest = {label: text for label, text in labels.items() if label not in IDENTITY}
        whole = {"alertname": name} | rest if len(name) > MAX_RULE else rest
        text = ", ".join(f"{label}={value}" for label, value in sorted(whole.items()))
    if len(text) <= MAX_SUBJECT:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{text[: MAX_SUBJECT - len(digest) - 1]} {digest}"


def take(alerts: Sequence[ReceivedAlert]) -> Round:
    """Open and resolve episodes, and notify people of them as of our own; return what changed."""
    now = clock.now()
    result = Round(now, AlertSilence.current(now))
    for alert in alerts:
        try:
            (open_alert if alert.is_firing else resolve)(alert, result)
        except IntegrityError:  # a round or another request has just opened it
            continue
    return result


@transaction.atomic
def open_alert(alert: ReceivedAlert, result: Round) -> None:
    """Open an episode, or note that it is still so; one that we measure ourselves stays."""
    rows = AlertEpisode.objects.select_for_update()
    rows = rows.filter(rule=alert.rule, subject=alert.subject)
    episode = rows.ongoing().first()
    if episode is not None and episode.opened_at is not None and episode.received_at is None:
        return
    recent = rows.filter(resolved_at__gt=result.now - REOPEN).order_by("resolved_at")
    episode = episode or recent.last() or AlertEpisode(rule=alert.rule, subject=alert.subject)
    if episode.opened_at is None or episode.resolved_at is not None:
        result.opened.append(str(episode))
    episode.opened_at, episode.resolved_at = episode.opened_at or result.now, None
    episode.severity, episode.message = alert.severity, alert.message
    episode.received_at = result.now
    rule = find_rule(alert.rule)
    episode.cause = cause_of(rule, alert.subject) if rule else ""
    episode.save()
    if not episode.cause and not result.covers(episode):
        notify(episode, alert.command)


@transaction.atomic
def resolve(alert: ReceivedAlert, result: Round) -> None:
    """Resolve the episode, unless we measure it ourselves."""
    rows = AlertEpisode.objects.select_for_update().open().filter(received_at__isnull=False)
    episode = rows.filter(rule=alert.rule, subject=alert.subject).first()
    if episode is not None:
        end(episode, result)
