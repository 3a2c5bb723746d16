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


class AlertEpisode(models.Model):
    """The time for which a rule's condition held for one subject. It is open from `opened_at`, when
    the condition had held as long as the rule asks, until `resolved_at`.

    `since` is since when each severity's condition holds, ISO 8601; that of a resolved episode has
    come back, and is this episode again once it has held as long as its rule asks. `cause` names
    the rule that this one follows from: then it is listed and nobody is notified.
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
