"""The errors that processes logged, the same ones in one row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from certification.lib.database import returning_connection
from certification.lib.error_log import ErrorReport
from certification.models import sql

MAX_GROUPS = 1_000


def storable(value: Any) -> Any:
    """Return JSON whose texts the database can hold: without NUL and halves of surrogate pairs."""
    match value:
        case str():
            return value.replace("\0", "").encode(errors="replace").decode()
        case Mapping():
            return {storable(key): storable(entry) for key, entry in value.items()}
        case list():
            return list(map(storable, value))
    return value


class ErrorGroup(models.Model):
    """An error by logger, event, class and place. `example` is the line of the log when it was last
    seen; the release is that which last had it.
    """

    fingerprint = models.CharField(max_length=64, primary_key=True)
    logger = models.CharField(_("logger"), max_length=200)
    event = models.CharField(_("event"), max_length=200)
    error = models.CharField(_("class"), max_length=200, blank=True)
    place = models.CharField(_("place"), max_length=200, blank=True)
    process = models.CharField(_("process"), max_length=60, blank=True)
    release = models.CharField(_("release"), max_length=40)
    count = models.BigIntegerField(_("times"), default=0)
    first_seen = models.DateTimeField(_("first"))
    last_seen = models.DateTimeField(_("last"), db_index=True)
    example = models.JSONField(_("example"), default=dict)

    class Meta:
        verbose_name = _("error")
        verbose_name_plural = _("errors")
        ordering = ["-last_seen"]

    def __str__(self) -> str:
        return f"{self.event} {self.error}".strip()

    @staticmethod
    def record(reports: Sequence[ErrorReport]) -> None:
        """Count these errors, in key order, so that two processes never lock crosswise."""
        with returning_connection(), transaction.atomic():
            for report in sorted(reports, key=lambda report: report.fingerprint):
                values = storable(asdict(report))
                values["example"] = json.dumps(values["example"], default=str)
                sql.execute(sql.RECORD_ERROR, release=settings.VERSION, **values)

    @staticmethod
    def beyond_limit() -> QuerySet[ErrorGroup]:
        """Return those that were not seen for longest, when there are more than MAX_GROUPS."""
        newest = ErrorGroup.objects.order_by("-last_seen").values("pk")[:MAX_GROUPS]
        return ErrorGroup.objects.exclude(pk__in=newest)
