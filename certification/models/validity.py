"""Decide when a certification has expired and which status it then has. No other module decides
this.

A certification expires at the moment `expires_at`. Some seconds later `expire` notes it in the row:
the status becomes NOT_TESTED, `previous_status` what it was, `expired_at` the time. Everything here
gives the same before and after that, for rows and for queries alike.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from django.db.models import Case, F, Q, Value, When

from certification.reasons import Status


class Dated(Protocol):
    """A row, or what was read of one, that can expire."""

    @property
    def status(self) -> str: ...
    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def expired_at(self) -> datetime | None: ...


class Remembered(Dated, Protocol):
    """One that also says what it was before."""

    @property
    def previous_status(self) -> str: ...


def is_expired(row: Dated, now: datetime) -> bool:
    if row.status == Status.NOT_TESTED:
        return row.expired_at is not None
    return row.expires_at is not None and row.expires_at <= now


def current_status(row: Dated, now: datetime) -> str:
    """Return the status that holds now: an expired certification has none."""
    return Status.NOT_TESTED.value if is_expired(row, now) else row.status


def previous_status(row: Remembered, now: datetime) -> str:
    """Return the status before the last change, "" without one. Expiring is a change."""
    is_unnoted = is_expired(row, now) and row.status != Status.NOT_TESTED
    return row.status if is_unnoted else row.previous_status


def shown_status(row: Remembered, now: datetime) -> str:
    """Return the status for displays that mark expired ones: these keep showing what they were."""
    return previous_status(row, now) if is_expired(row, now) else row.status


# The same for queries of ModelCertification. A row that noted its expiry keeps `expires_at`.


def expired(now: datetime) -> Q:
    return Q(expires_at__lte=now)


def valid(now: datetime) -> Q:
    """Rows with a status that holds now."""
    tested = ~Q(status=Status.NOT_TESTED)
    return tested & (Q(expires_at__isnull=True) | Q(expires_at__gt=now))


def current_status_expression(now: datetime) -> Case:
    return Case(When(expired(now), then=Value(Status.NOT_TESTED.value)), default=F("status"))
