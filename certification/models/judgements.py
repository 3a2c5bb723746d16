"""Later judgements of finished runs: the same evidence under a newer policy. The run itself never
changes.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from certification.models.jobs import REASONS, VERDICTS, CertificationRun


class RunJudgement(models.Model):
    run = models.ForeignKey(
        CertificationRun, on_delete=models.CASCADE, related_name="judgements", verbose_name=_("run")
    )
    policy_version = models.CharField(_("policy version"), max_length=40)
    verdict = models.CharField(_("verdict"), max_length=24, choices=VERDICTS)
    score = models.PositiveSmallIntegerField(_("score"), null=True, blank=True)
    rating = models.CharField(_("rating"), max_length=1, blank=True)
    lower_bound = models.FloatField(_("lower bound"), null=True, blank=True)
    reason = models.CharField(_("reason"), max_length=32, choices=REASONS, blank=True)
    message = models.TextField(_("explanation"), blank=True)
    judged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        verbose_name=_("judged by"),
    )
    judged_at = models.DateTimeField(_("judged"), auto_now_add=True)

    class Meta:
        verbose_name = _("later judgement")
        verbose_name_plural = _("later judgements")
        ordering = ["-judged_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "policy_version"], name="one_judgement_per_run_and_policy"
            ),
            models.CheckConstraint(
                condition=Q(score__isnull=True) | Q(score__lte=100), name="judgement_score_100"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.run}: {self.verdict} ({self.policy_version})"
