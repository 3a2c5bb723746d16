"""Certificates: one for each full run that certified a model in a region, each with the hash of the
one before. The database refuses to change or delete one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import F, OuterRef, Q, Subquery
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from certification.lib import clock
from certification.models import sql
from certification.models.catalogue import AIModel, Region
from certification.models.certifications import ModelCertification
from certification.models.jobs import CertificationRun
from certification.reasons import Status

REMIND_BEFORE = timedelta(days=14)
CHAIN_LOCK = 5_870_332  # one certificate at a time is added to the chain, whoever issues it


class CertificateState(models.TextChoices):
    IN_FORCE = "in_force", _("in force")
    REPLACED = "replaced", _("replaced")
    EXPIRED = "expired", pgettext_lazy("certificate", "expired")
    WITHDRAWN = "withdrawn", _("withdrawn")


class CertificateKey(models.Model):
    """The public half of a key that signed certificates. It stays when another key follows."""

    id = models.CharField(
        _("SHA-256"), max_length=64, primary_key=True, help_text=_("Of the public key's DER form.")
    )
    public_key = models.TextField(_("public key (PEM)"))
    first_used_at = models.DateTimeField(_("first used"), auto_now_add=True)

    class Meta:
        verbose_name = _("certificate key")
        verbose_name_plural = _("certificate keys")
        ordering = ["first_used_at"]

    def __str__(self) -> str:
        return self.id[:16]


@dataclass(frozen=True)
class CertificateStatus:
    """What became of a certificate. `successor` is the code of the pair's newest certificate, ""
    when it is this one; `since` is when the state began, None for one that is in force.
    """

    state: CertificateState
    since: datetime | None = None
    successor: str = ""


class CertificateQuerySet(models.QuerySet["Certificate"]):
    def with_status(self) -> CertificateQuerySet:
        """With all that `status_at` reads, in one query: the pair's certification, its next and its
        newest certificate.
        """
        pair = {"model": OuterRef("model"), "region": OuterRef("region")}
        current = ModelCertification.objects.filter(**pair)
        later = Certificate.objects.filter(**pair, number__gt=OuterRef("number"))
        runs = CertificationRun.objects.filter(pk=OuterRef("current_run"))
        return self.select_related("model", "region", "key").annotate(
            current_run=Subquery(current.values("run")),
            current_status=Subquery(current.values("status")),
            current_completed_at=Subquery(runs.values("completed_at")),
            current_changed_at=Subquery(current.values("updated_at")),
            replaced_at=Subquery(later.order_by("number").values("issued_at")[:1]),
            newest_code=Subquery(later.order_by("-number").values("code")[:1]),
        )

    def due_for_reminder(self, now: datetime) -> list[Certificate]:
        """Return those in force that end within REMIND_BEFORE, or have lived half of a shorter
        life, and that nobody was reminded of.
        """
        rows = self.with_status().select_related("run").defer("run__environment")
        rows = rows.filter(
            reminded_at=None, expires_at__gt=now, expires_at__lte=now + REMIND_BEFORE
        )
        return [
            row
            for row in rows
            if row.status_at(now).state == CertificateState.IN_FORCE
            and row.expires_at - now <= (row.expires_at - row.issued_at) / 2
        ]

    def code_of_pair(self, model: str = "model", region: str = "region") -> Subquery:
        """Return an expression: the code of a pair's newest certificate, by the outer query's
        columns; null without one.
        """
        rows = self.filter(model=OuterRef(model), region=OuterRef(region))
        return Subquery(rows.order_by("-number").values("code")[:1])

    def newest(self) -> Certificate | None:
        """The end of the chain."""
        return self.order_by("-number").first()

    def count_lookup(self, code: str) -> None:
        """Count a look-up by the public."""
        self.filter(code=code).update(lookups=F("lookups") + 1)


class Certificate(models.Model):
    number = models.PositiveBigIntegerField(_("number"), primary_key=True)
    code = models.CharField(_("code"), max_length=14, unique=True)
    # SHA-256 of the signed statement, which holds that of the one before
    digest = models.CharField(_("hash"), max_length=64, unique=True)
    previous = models.OneToOneField(
        "self",
        to_field="digest",
        on_delete=models.PROTECT,
        null=True,
        related_name="next",
        verbose_name=_("the one before"),
    )
    model = models.ForeignKey(
        AIModel, on_delete=models.PROTECT, related_name="certificates", verbose_name=_("model")
    )
    region = models.ForeignKey(
        Region, on_delete=models.PROTECT, related_name="certificates", verbose_name=_("region")
    )
    run = models.OneToOneField(
        CertificationRun,
        on_delete=models.PROTECT,
        related_name="certificate",
        verbose_name=_("run"),
    )
    key = models.ForeignKey(
        CertificateKey, on_delete=models.PROTECT, related_name="+", verbose_name=_("key")
    )
    issued_at = models.DateTimeField(_("issued"))
    expires_at = models.DateTimeField(_("in force until"))
    envelope = models.BinaryField(_("signed statement"))
    withdrawn_at = models.DateTimeField(_("withdrawn"), null=True, blank=True)
    withdrawn_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("withdrawn by"),
    )
    withdrawal_reason = models.TextField(_("reason for withdrawal"), blank=True)
    lookups = models.PositiveIntegerField(_("look-ups"), default=0)
    reminded_at = models.DateTimeField(_("reminder sent"), null=True, blank=True)

    objects = CertificateQuerySet.as_manager()

    # as `with_status` reads them
    current_run: uuid.UUID | None
    current_status: str | None
    current_completed_at: datetime | None
    current_changed_at: datetime | None
    replaced_at: datetime | None
    newest_code: str | None

    class Meta:
        verbose_name = _("certificate")
        verbose_name_plural = _("certificates")
        ordering = ["-number"]
        indexes = [models.Index(fields=["model", "region", "-number"])]
        constraints = [
            # with the unique `previous`: a chain that begins once and cannot fork
            models.CheckConstraint(
                condition=Q(number=1, previous__isnull=True)
                | Q(number__gt=1, previous__isnull=False),
                name="certificate_chain_begins_once",
            ),
            models.CheckConstraint(
                condition=Q(withdrawn_at__isnull=True, withdrawal_reason="")
                | Q(withdrawn_at__isnull=False) & ~Q(withdrawal_reason=""),
                name="certificate_withdrawn_iff_reason",
            ),
        ]

    def __str__(self) -> str:
        return self.code

    def status_at(self, now: datetime) -> CertificateStatus:
        """Return what became of the certificate. Reads the columns of `with_status`.

        What happened first decides: one that was replaced before it expired is replaced. A later
        verdict of the pair that is no certificate replaces it too.
        """
        successor = self.newest_code or ""
        if self.withdrawn_at:
            return CertificateStatus(CertificateState.WITHDRAWN, self.withdrawn_at, successor)
        if self.replaced_at and self.replaced_at < self.expires_at:
            return CertificateStatus(CertificateState.REPLACED, self.replaced_at, successor)
        if now >= self.expires_at:
            return CertificateStatus(CertificateState.EXPIRED, self.expires_at, successor)
        if self.current_run != self.run_id:
            return CertificateStatus(
                CertificateState.REPLACED, self.current_completed_at, successor
            )
        if self.current_status != Status.CERTIFIED:
            return CertificateStatus(CertificateState.REPLACED, self.current_changed_at, successor)
        return CertificateStatus(CertificateState.IN_FORCE)

    def withdraw(self, by: object, reason: str) -> bool:
        """Withdraw the certificate for good. True if this call did. ValueError without a reason."""
        if not reason.strip():
            raise ValueError("A withdrawal needs a reason.")
        rows = type(self).objects.filter(pk=self.pk, withdrawn_at=None)
        changed = rows.update(
            withdrawn_at=clock.now(), withdrawn_by=by, withdrawal_reason=reason.strip()
        )
        return changed == 1

    @classmethod
    def lock_chain(cls) -> None:
        """Hold the end of the chain until the transaction ends."""
        sql.fetch_all(sql.LOCK_CHAIN, key=CHAIN_LOCK)


class CertificateDocument(models.Model):
    """A certificate's PDF in one language, as it was made once."""

    certificate = models.ForeignKey(
        Certificate,
        on_delete=models.PROTECT,
        related_name="documents",
        verbose_name=_("certificate"),
    )
    language = models.CharField(_("language"), max_length=10)
    pdf = models.BinaryField(_("PDF"))
    digest = models.CharField(_("hash"), max_length=64, unique=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("certificate document")
        verbose_name_plural = _("certificate documents")
        ordering = ["certificate", "language"]
        constraints = [
            models.UniqueConstraint(
                fields=["certificate", "language"], name="one_document_per_language"
            )
        ]

    def __str__(self) -> str:
        return f"{self.certificate_id} ({self.language})"
