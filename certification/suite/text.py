"""Read and normalise text: words, numbers, JSON and the language of an answer."""

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


def parse_json(text: str) -> tuple[bool, Any]:
    """Return (True, the value) for JSON, alone or in one code fence, else (False, None)."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", text, re.DOTALL | re.IGNORECASE)
    try:
        return True, json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False, None


NUMBER = re.compile(r"(?<![\w.,])[-−]?\d[\d.,]{0,60}", re.ASCII)


def find_numbers(text: str) -> list[set[Decimal]]:
    """Return every number of a text, in order, each with the values it can mean: "1.234" is 1234
    or 1.234.
    """
    numbers = []
    for match in NUMBER.finditer(text):
        digits = match[0].replace("−", "-").rstrip(".,")
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


PORTUGUESE_WORDS = """
a à ao aos as às até com como da das de depois do dos e é ela ele eles em entre era essa esse está
estão este eu fica foi foram há isso já mais mas me mesmo meu minha muito na nas não nem no nos num
numa o os ou para pela pelo pelos por porque qual quando que quem são se sem ser seu seus só sua
suas também tem têm ter tinha um uma você
bem cada cria custos dia dias dinheiro menos sempre tempo toda todas todo todos vida ajuda aumenta
combate cria desenvolve diminui economia economiza estimula evita facilita favorece fortalece
garante incentiva melhor melhora mantém oferece permite promove proporciona reduz reforça traz
"""
ENGLISH_WORDS = """
a about all also an and are as at be because but by can do each for from had has have he her him his
how i if in into is it its like make many me more most my no not of on one or other our out said she
so some than that the their them then there these they this to two up use was we were what when
which who will with would you your
"""
SHARED_WORDS = {*PORTUGUESE_WORDS.split()} & {*ENGLISH_WORDS.split()}
COMMON_WORDS = {
    "pt": {*PORTUGUESE_WORDS.split()} - SHARED_WORDS,
    "en": {*ENGLISH_WORDS.split()} - SHARED_WORDS,
}


def detect_language(text: str) -> str:
    """Return "pt" or "en", by the commonest words of each and Portuguese letters; "" where neither
    clearly leads.
    """
    words = re.findall(r"[^\W\d_]+", text.casefold()[:20000])
    score = {code: float(sum(w in common for w in words)) for code, common in COMMON_WORDS.items()}
    score["pt"] += 0.5 * sum(any(c in "ãõçáéíóúâêôà" for c in w) for w in words)
    best, other = ("pt", "en") if score["pt"] >= score["en"] else ("en", "pt")
    return best if score[best] >= 1 and score[best] > 1.5 * score[other] else ""
