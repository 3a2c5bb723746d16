"""One hash of plain values that is the same on every machine and for every version of Python."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

LENGTH = 12  # hexadecimal digits


def digest(rows: Iterable[Any]) -> str:
    """Hash rows of plain values, in their order."""
    sha = hashlib.sha256()
    for row in rows:
        sha.update(json.dumps(plain(row), sort_keys=True).encode() + b"\n")
    return sha.hexdigest()[:LENGTH]


def plain(value: Any) -> Any:
    """Return a value as JSON has it: floats with nine digits, sets sorted, bytes by their hash.

    TypeError for anything else: an object would bring its class's name or its address along.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return f"{value:.9g}"  # libraries of mathematics differ in the last digits
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in value}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value))
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no plain form.")
