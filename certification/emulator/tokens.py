"""A small deterministic tokenizer: sub-word pieces of plausible size, the same in every region."""

from __future__ import annotations

import re

# Every character belongs to exactly one piece, so that the pieces of a text joined give the text.
PIECE = re.compile(r"\s*(?:[^\W\d_]{1,6}|\d{1,3}|[^\w\s]|_)|\s+")


def count(text: str) -> int:
    """Count the tokens of a text."""
    return len(PIECE.findall(text))


def pieces(text: str) -> list[str]:
    """Return the tokens of a text, in order, white space included."""
    return PIECE.findall(text)


def cut(text: str, limit: int) -> str:
    """Return the first `limit` tokens of a text."""
    return "".join(PIECE.findall(text)[:limit])
