"""Alerts: one row for each episode in which something is wrong, and silences."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from certification.lib import clock


class Severity(models.TextChoices):
    WARNING = "warning", _("warning")
    CRITICAL = "critical", _("critical")


class AlertEpisodeQuerySet(models.QuerySet["AlertEpisode"]):
    def ongoing(self) -> AlertEpisodeQuerySet:
        """Those whose condition holds, also those that have not held long enough to be open, for
        the first time or again.
        """
        return self.filter(Q(resolved_at=None) | ~Q(since={}))

    def open(self) -> AlertEpisodeQuerySet:
        return self.filter(opened_at__isnull=False, resolved_at=None)

    def ended(self, before: datetime) -> AlertEpisodeQuerySet:
        """Those that ended before a time and have not come back since."""
        return self.filter(resolved_at__lte=before, since={})


class AlertEpisode(models.Model):
    """The time for which a rule's condition held for one subject. It is open from `opened_at`, when
    the condition had held as long as the rule asks, until `resolved_at`.

    `since` is since when each severity's condition holds, ISO 8601; that of a resolved episode has
    come back, and is this episode again once it has held as long as its rule asks. `cause` names
    the rule that this one follows from: then it is listed and nobody is notified. `received_at` is
    when an Alertmanager said so last, of one that we do not measure.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    rule = models.CharField(_("rule"), max_length=40)
    subject = models.CharField(_("subject"), max_length=200, blank=True)
    severity = models.CharField(_("severity"), max_length=10, choices=Severity.choices, blank=True)
    since = models.JSONField(default=dict)
    opened_at = models.DateTimeField(_("opened"), null=True, blank=True)
    resolved_at = models.DateTimeField(_("resolved"), null=True, blank=True)
    value_at_open = models.FloatField(_("value when it opened"), default=0)
    value = models.FloatField(_("value"), default=0)
    message = models.TextField(_("message"), blank=True)
    cause = models.CharField(_("cause"), max_length=40, blank=True)
    notified = models.CharField(max_length=10, blank=True)  # the severity last notified
    notified_at = models.DateTimeField(null=True, blank=True)  # when it was reached
    received_at = models.DateTimeField(_("last received"), null=True, blank=True)
    acknowledged_at = models.DateTimeField(_("acknowledged"), null=True, blank=True)
    acknowledged_by = models.CharField(_("acknowledged by"), max_length=254, blank=True)

    objects = AlertEpisodeQuerySet.as_manager()

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        ordering = ["-opened_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "subject"],
                condition=Q(resolved_at=None),
                name="one_ongoing_episode_per_rule_and_subject",
            )
        ]
        indexes = [models.Index(fields=["rule", "subject", "-resolved_at"])]

    def __str__(self) -> str:
        return f"{self.rule} {self.subject}".strip()

    def acknowledge(self, by: str) -> bool:
        """Note who looks after it. True if this call won."""
        own = type(self).objects.filter(pk=self.pk, acknowledged_at=None, resolved_at=None)
        return own.update(acknowledged_at=clock.now(), acknowledged_by=by) == 1


class AlertChannel(models.Model):
    """How it went with one of the configured channels, by the key of its address, which is a secret
    and stored nowhere.
    """

    key = models.CharField(max_length=12, primary_key=True)
    name = models.CharField(_("name"), max_length=100)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    last_success_at = models.DateTimeField(_("last success"), null=True, blank=True)
    last_attempt_at = models.DateTimeField(_("last attempt"), null=True, blank=True)
    error = models.CharField(_("error"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("alert channel")
        verbose_name_plural = _("alert channels")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def record(self, error: str) -> None:
        """Note how an attempt went, "" for well."""
        self.last_attempt_at, self.error = clock.now(), error[:300]
        self.failures = self.failures + 1 if error else 0
        if not error:
            self.last_success_at = self.last_attempt_at
        self.save()


class NotificationKind(models.TextChoices):
    OPENED = "opened", _("opened")
    ESCALATED = "escalated", _("not acknowledged")
    REPEATED = "repeated", _("still open")
    RESOLVED = "resolved", _("resolved")


class AlertNotification(models.Model):
    """What is to be said of an episode on one channel, by its key. Several are sent as one message,
    at the same `sent_at`. It is said once for each `number`: a severity, a level, a repetition.
    """

    episode = models.ForeignKey(
        AlertEpisode, on_delete=models.CASCADE, related_name="notifications"
    )
    channel = models.CharField(max_length=12)
    kind = models.CharField(max_length=10, choices=NotificationKind.choices)
    number = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["episode", "channel", "kind", "number"], name="one_notification_of_a_kind"
            )
        ]
        indexes = [
            models.Index(
                fields=["channel"], condition=Q(sent_at=None), name="notification_pending_idx"
            ),
            models.Index(fields=["channel", "sent_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.episode} {self.kind}"


class AlertSilence(models.Model):
    """Until when nobody is notified of a rule ("" for all), and why."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    rule = models.CharField(_("rule"), max_length=40, blank=True)
    subject = models.CharField(_("subject"), max_length=200, blank=True)
    reason = models.TextField(_("reason"))
    until = models.DateTimeField(_("until"))
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("silence")
        verbose_name_plural = _("silences")
        ordering = ["until"]

    def __str__(self) -> str:
        return f"{self.rule or '*'} {self.subject}".strip()

    def covers(self, episode: AlertEpisode) -> bool:
        return self.rule in ("", episode.rule) and self.subject in ("", episode.subject)

    @classmethod
    def current(cls, now: datetime) -> list[AlertSilence]:
        return list(cls.objects.filter(until__gt=now))
