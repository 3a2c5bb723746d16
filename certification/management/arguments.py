"""Read what people write as arguments of commands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.core.management.base import CommandError
from django.utils.dateparse import parse_datetime

from certification.lib import clock, durations


def duration(text: str) -> timedelta:
    """Read 30m, 2h or 7d. Raises CommandError."""
    try:
        return durations.parse(text)
    except ValueError as error:
        raise CommandError(str(error)) from error


def moment(text: str) -> datetime:
    """Read a time in ISO 8601, in UTC unless it says otherwise, or how long ago it was: 30m, 2h,
    7d. Raises CommandError.
    """
    if durations.PATTERN.fullmatch(text):
        return clock.now() - duration(text)
    try:
        at = parse_datetime(text) or datetime.combine(day(text), datetime.min.time())
    except (ValueError, CommandError):
        raise CommandError(
            f"{text!r} is no time. Write it as 2026-11-30T12:00, or how long ago it was: 30m, 2h, "
            "7d."
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def day(text: str) -> datetime:
    """Read a day as 2026-11-30: the moment at which it begins in UTC. Raises CommandError."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise CommandError(f"{text!r} is no day. Write it as 2026-11-30.") from None
