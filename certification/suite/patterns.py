"""Regular expressions that operators write: cut in length, in what they expand to, and in time."""

from __future__ import annotations

import re
from math import prod

import regex

MAX_CHARACTERS = 1_000
MAX_REPEATS = 10_000
# A repeat of one character or class, and any other, which may repeat a group of repeats.
REPEATED_CHARACTER = re.compile(r"(?<=[\w\].])\{(\d{1,9})")
REPEATED_GROUP = re.compile(r"(?<![\w\].])\{(\d{1,9})")


def pattern_error(pattern: object) -> str:
    """Say why a regular expression cannot be used; "" if it can.

    `regex` writes `a{1000}` out when it compiles, and groups of such as often as they repeat: three
    of them in each other take all memory.
    """
    if not isinstance(pattern, str):
        return "it is not a string"
    if len(pattern) > MAX_CHARACTERS:
        return f"it has {len(pattern)} characters; use at most {MAX_CHARACTERS}"
    characters = sum(map(int, REPEATED_CHARACTER.findall(pattern))) or 1
    if characters * prod(max(1, int(n)) for n in REPEATED_GROUP.findall(pattern)) > MAX_REPEATS:
        return f"its counted repeats multiply to more than {MAX_REPEATS}"
    try:
        regex.compile(pattern)
    except (regex.error, ValueError, RecursionError, OverflowError) as error:
        return str(error)
    return ""


def search(pattern: str, text: str, seconds: float) -> bool:
    """Return whether a pattern is found in a text; other threads go on meanwhile.

    Raises TimeoutError when that takes longer than `seconds`.
    """
    return regex.search(pattern, text, timeout=seconds, concurrent=True) is not None
