"""Read and normalise text: words, numbers and JSON."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

EVIDENCE_CHARS = 300  # characters of an answer that evidence keeps


def truncate(value: object, limit: int = EVIDENCE_CHARS) -> str:
    """Return a short text fit for evidence: printable by any database, without lone surrogates or
    NULs.
    """
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= limit else text[:limit] + "…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


def normalize_text(text: str) -> str:
    """Remove case, accents, punctuation and runs of white space, for comparing texts."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", bare.replace("_", " ")))


def contains_words(text: str, phrase: str) -> bool:
    """Tell whether the words of `phrase` occur side by side, ignoring case, accents and
    punctuation.
    """
    return f" {normalize_text(phrase)} " in f" {normalize_text(text)} "


def loosely_equal(value: Any, expected: Any, depth: int = 0) -> bool:
    """Compare two JSON values; texts are equal but for case, accents and punctuation."""
    if depth > 20:
        return False
    if isinstance(expected, Mapping):
        return (
            isinstance(value, Mapping)
            and value.keys() == expected.keys()
            and all(loosely_equal(value[key], expected[key], depth + 1) for key in expected)
        )
    if isinstance(expected, list | tuple):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(expected)
            and all(loosely_equal(v, e, depth + 1) for v, e in zip(value, expected, strict=True))
        )
    if isinstance(expected, str):
        return isinstance(value, str) and normalize_text(value) == normalize_text(expected)
    return isinstance(value, bool) == isinstance(expected, bool) and bool(value == expected)


FENCED = re.compile(r"\s*(`{3,}|~{3,})[\w+.-]*\s(.*?)\s*\1\s*", re.DOTALL)


def parse_json(text: str) -> tuple[bool, Any]:
    """Return (True, the value) for JSON, alone or in one code fence, else (False, None)."""
    bare = text.strip().strip("\ufeff")
    fenced = FENCED.fullmatch(bare)
    try:
        return True, json.loads(fenced[2] if fenced else bare)
    except (ValueError, RecursionError):
        return False, None


CURRENCY = re.compile(r"(?<!\w)(?:USD|EUR|BRL|GBP|JPY|CHF|CAD|AUD|CNY|INR|MXN|ARS)(?=\d)")
# "B7X-926" is a name and no number, and a comma after it belongs to what follows.
CODE = re.compile(r"(?<!\w)[^\W\d_]+\d\w*(?:-\w+)*,?")
NUMBER = re.compile(
    r"""(?<!\w)(?<!\d[.,])(?<!\s[.,])(?<!^[.,])      # not inside a number, and not ".5"
    [-−]?
    (?: \d{1,3} (?:[ '_\u00a0\u2009\u202f]\d{3})+ (?!\d) (?:[.,]\d{1,6})?   # 12 345,67
      | \d[\d.,]{0,60} )""",
    re.ASCII | re.VERBOSE | re.MULTILINE,
)


def find_numbers(text: str) -> list[set[Decimal]]:
    """Return every number of a text, in order, each with the values it can mean: "1.234" is 1234
    or 1.234, "1 234" only 1234.
    """
    numbers = []
    for match in NUMBER.finditer(CODE.sub("; ", CURRENCY.sub(" ", text))):
        digits = re.sub(r"[^\d.,-]", "", match[0].replace("−", "-")).rstrip(".,")
        values = set()
        for group, point in ((",", "."), (".", ",")):
            whole, _, fraction = digits.partition(point)
            grouping = rf"-?\d{{1,3}}(?:{re.escape(group)}\d{{3}})+"
            well_grouped = group not in whole or re.fullmatch(grouping, whole)
            if well_grouped and group not in fraction and point not in fraction:
                try:
                    values.add(Decimal(whole.replace(group, "") + (fraction and f".{fraction}")))
                except InvalidOperation:
                    continue
        if values:
            numbers.append(values)
    return numbers
