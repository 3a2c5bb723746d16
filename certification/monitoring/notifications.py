"""Say of alerts what is to be said, on the configured channels.

A round decides it (`plan`), and sends what is not said yet as one message to each channel
(`deliver`): a storm is one message. What cannot be sent waits for a later round.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification.lib import clock
from certification.models import (
    AlertChannel,
    AlertEpisode,
    AlertNotification,
    NotificationKind,
    Severity,
)
from certification.monitoring import channels, runbooks
from certification.monitoring.alert_rules import describe, find_rule
from certification.monitoring.channels import Channel

MAX_LINES = 20  # alerts of one message
MAX_PAUSE = timedelta(minutes=15)  # between attempts on a channel that fails
HOUR = timedelta(hours=1)
CROWDED_PAUSE = timedelta(minutes=10)  # between messages beyond ALERT_MESSAGES_PER_HOUR
BUDGET_S = 30.0  # of one round; the channels that are left are served in the next one
FORGOTTEN = timedelta(days=1)  # nobody is notified any more of what ended so long ago
ORDER = [Severity.CRITICAL, Severity.WARNING, ""]


def enqueue(
    episode: AlertEpisode, channels: Iterable[Channel], kind: NotificationKind, number: int
) -> None:
    """Have something said of an episode, unless it is or was."""
    now = clock.now()
    rows = [
        AlertNotification(
            episode=episode, channel=channel.key, kind=kind, number=number, created_at=now
        )
        for channel in channels
    ]
    AlertNotification.objects.bulk_create(rows, ignore_conflicts=True)


def alert_opened(episode: AlertEpisode) -> None:
    """Have the first level notified of an episode that opened or got worse."""
    is_critical = episode.severity == Severity.CRITICAL
    first = [
        channel
        for channel in channels.configured()
        if channel.level == 1 and (is_critical or not channel.is_critical_only)
    ]
    enqueue(episode, first, NotificationKind.OPENED, ORDER.index(episode.severity))


def plan(unattended: Iterable[AlertEpisode], final: QuerySet[AlertEpisode]) -> None:
    """Escalate and repeat the open episodes that somebody is to look after, unless somebody does,
    and have those who were notified of others know that they ended for good.
    """
    every = channels.configured()
    if not every:
        return
    broken = channels.failed(every)
    for episode in unattended:
        if episode.acknowledged_at is None and episode.notified_at is not None:
            remind(episode, every, broken, clock.now() - episode.notified_at)
    ended = final.filter(resolved_at__gt=clock.now() - FORGOTTEN)
    ended = ended.filter(notifications__sent_at__isnull=False)
    for episode in ended.exclude(notifications__kind=NotificationKind.RESOLVED).distinct():
        enqueue(episode, notified_of(episode, every), NotificationKind.RESOLVED, 0)


def remind(
    episode: AlertEpisode, every: Sequence[Channel], broken: set[str], unattended: timedelta
) -> None:
    """Notify the next levels of an episode that nobody has acknowledged for so long, and the
    others again.
    """
    if episode.severity == Severity.CRITICAL:
        for level in due_levels(every, broken, unattended):
            higher = [channel for channel in every if channel.level == level]
            enqueue(episode, higher, NotificationKind.ESCALATED, level)
    minutes = settings.ALERT_REPEAT_MINUTES
    if minutes and (number := unattended // timedelta(minutes=minutes)):
        enqueue(episode, notified_of(episode, every), NotificationKind.REPEATED, number)


def notified_of(episode: AlertEpisode, every: Iterable[Channel]) -> list[Channel]:
    """Return the channels, each once, on which something of an episode was sent."""
    sent = episode.notifications.filter(sent_at__isnull=False)
    keys = set(sent.values_list("channel", flat=True))
    return list({channel.key: channel for channel in every if channel.key in keys}.values())


def due_levels(every: Iterable[Channel], broken: set[str], unattended: timedelta) -> list[int]:
    """Return the levels above the first whose time has come, or before which every channel
    failed.
    """
    levels = []
    for level, minutes in enumerate(settings.ALERT_ESCALATION_MINUTES, start=2):
        lower = {channel.key for channel in every if channel.level < level}
        if unattended >= timedelta(minutes=minutes) or (lower and lower <= broken):
            levels.append(level)
    return levels


def deliver() -> None:
    """Send what is to be said, one message to each channel. Never raises for a channel."""
    ends = time.monotonic() + BUDGET_S
    for channel in {channel.key: channel for channel in channels.configured()}.values():
        if time.monotonic() > ends:
            break
        rows = AlertNotification.objects.filter(channel=channel.key, sent_at=None)
        over = rows.filter(episode__resolved_at__isnull=False)
        over.exclude(kind=NotificationKind.RESOLVED).delete()
        pending = list(rows.select_related("episode").order_by("created_at", "pk"))
        if not pending or not is_due(channel.row, clock.now()):
            continue
        with translation.override(settings.LANGUAGE_CODE):
            title, body = compose(pending)
        if not channels.send(channel, title, body):
            AlertNotification.objects.filter(pk__in=[note.pk for note in pending]).update(
                sent_at=clock.now()
            )


def is_due(row: AlertChannel, now: datetime) -> bool:
    """Whether a channel may be used now: it does not fail, or not just now, and was not used too
    often.
    """
    if row.failures and row.last_attempt_at:
        pause = min(MAX_PAUSE, timedelta(minutes=2 ** min(row.failures - 1, 8)) / 2)
        if now - row.last_attempt_at < pause:
            return False
    rows = AlertNotification.objects.filter(channel=row.pk, sent_at__gt=now - HOUR)
    sent = [at for at in rows.values_list("sent_at", flat=True).distinct() if at]
    return len(sent) < settings.ALERT_MESSAGES_PER_HOUR or now - max(sent) >= CROWDED_PAUSE


def compose(pending: Sequence[AlertNotification]) -> tuple[str, str]:
    """Return the title and the text of a message, the most severe alerts first."""
    latest = {note.episode_id: note for note in pending}.values()
    rows = sorted(
        latest,
        key=lambda note: (
            note.kind == NotificationKind.RESOLVED,
            ORDER.index(note.episode.severity),
            note.created_at,
        ),
    )
    lines = [line_of(note) for note in rows[:MAX_LINES]]
    more = max(0, len(rows) - MAX_LINES)
    if more:
        text = ngettext(
            "%(n)d more alert: manage.py alerts", "%(n)d more alerts: manage.py alerts", more
        )
        lines.append(text % {"n": more})
    return title_of(rows), "\n\n".join(lines)


def title_of(rows: Sequence[AlertNotification]) -> str:
    if len(rows) == 1:
        return f"MyIA: {rows[0].episode} ({word_of(rows[0])})"
    count = len({note.episode_id for note in rows if note.kind != NotificationKind.RESOLVED})
    resolved = len(rows) - count
    parts = []
    if count:
        parts.append(ngettext("%(n)d alert", "%(n)d alerts", count) % {"n": count})
    if resolved:
        parts.append(ngettext("%(n)d resolved", "%(n)d resolved", resolved) % {"n": resolved})
    return f"MyIA: {', '.join(parts)}"


def word_of(note: AlertNotification) -> str:
    """Return in a word or two what is said of an alert."""
    if note.kind == NotificationKind.OPENED:
        return str(note.episode.get_severity_display())
    return str(note.get_kind_display())


def line_of(note: AlertNotification) -> str:
    """Return what a message says of one alert: what is wrong, then what to do."""
    episode, rule = note.episode, find_rule(note.episode.rule)
    head = f"{word_of(note).upper()} {episode.rule}: {describe(episode)}"
    if note.kind == NotificationKind.RESOLVED or rule is None:
        return head
    first, more = _("Try first"), _("Runbook")  # xgettext does not read f-strings
    return f"{head}\n{first}: {rule.command}\n{more}: {runbooks.address(rule.name)}"
