"""Mark by words where two texts differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

# Comparing takes the product of both lengths: longer texts are shown without marks.
MAX_WORDS = 1_500
# Of the words that both have. With fewer most of both texts would be marked, which says no more
# than that they differ.
MIN_SHARE = 0.25
WORD = re.compile(r"\s+|\w+|[^\w\s]")


class Piece(NamedTuple):
    """A part of a text; `is_different` where the other text has something else."""

    text: str
    is_different: bool = False


class Marked(NamedTuple):
    """Both texts in pieces."""

    a: Sequence[Piece]
    b: Sequence[Piece]


def mark(a: str, b: str) -> Marked | None:
    """Return two texts with their differences marked; None where marks would not help: they are
    the same, have nothing in common, or are too long.
    """
    left, right = WORD.findall(a), WORD.findall(b)
    if a == b or not left or not right or max(len(left), len(right)) > MAX_WORDS:
        return None
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    pieces: tuple[list[Piece], list[Piece]] = ([], [])
    shared = 0
    for tag, i, j, k, m in matcher.get_opcodes():
        shared += count_words(left[i:j]) if tag == "equal" else 0
        for side, words in zip(pieces, (left[i:j], right[k:m]), strict=True):
            if words:
                side.append(Piece("".join(words), tag != "equal"))
    is_like = 2 * shared >= MIN_SHARE * (count_words(left) + count_words(right))
    return Marked(*pieces) if is_like else None


def count_words(words: Sequence[str]) -> int:
    return sum(not word.isspace() for word in words)
