"""A small deterministic tokenizer: sub-word pieces of a plausible size, the same in every region."""

from __future__ import annotations

import re

# Every character belongs to exactly one piece, so that the pieces of a text joined give the text.
PIECE = re.compile(r"\s*(?:[^\W\d_]{1,6}|\d{1,3}|[^\w\s]|_)|\s+")


def count(text: str) -> int:
    """How many tokens a text has."""
    return len(PIECE.findall(text))


def pieces(text: str) -> list[str]:
    """The tokens of a text, in order, white space included."""
    return PIECE.findall(text)


def cut(text: str, limit: int) -> str:
    """The first `limit` tokens of a text."""
    return "".join(PIECE.findall(text)[:limit])
