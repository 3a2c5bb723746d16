"""Durations as people write them: 30m, 2h, 7d."""

from __future__ import annotations

import re
from datetime import timedelta

from django.utils.translation import gettext as _

PATTERN = re.compile(r"(\d{1,4})([mhd])", re.ASCII)
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def parse(text: str) -> timedelta:
    """Read a duration of at least a minute. Raises ValueError with a sentence for people."""
    match = PATTERN.fullmatch(text)
    if not match or not int(match[1]):
        raise ValueError(
            _("%s is not a duration. Write minutes, hours or days: 30m, 2h, 7d.") % repr(text[:40])
        )
    return timedelta(**{UNITS[match[2]]: int(match[1])})
