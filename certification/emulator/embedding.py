"""Vectors for texts: always the same for the same text, close together for texts that share words
or meaning.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
import unicodedata
from functools import lru_cache

from certification.suite.embedding import CONCEPTS

_WORD = re.compile(r"\w+")
_SPOTS = 32  # coordinates that one word moves
_CONCEPT_WEIGHT = 2.5  # a shared meaning counts for more than a shared word
_NOISE = 0.15  # the difference between two texts of the same words


def plain_text(text: str) -> str:
    """Return the text in lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


CONCEPT_OF = {
    plain_text(text): f"concept {i}" for i, group in enumerate(CONCEPTS) for text in group
}


@lru_cache(maxsize=16384)
def _spots(feature: str, dimensions: int) -> tuple[tuple[int, float], ...]:
    """Return the coordinates that a word moves, and by how much: drawn once for each word."""
    digest = hashlib.shake_256(feature.encode()).digest(4 * _SPOTS)
    drawn = struct.unpack(f">{_SPOTS}I", digest)
    return tuple((number % dimensions, 1.0 if number >> 31 else -1.0) for number in drawn)


def vector(text: str, dimensions: int, *, shared: bool = True) -> list[float]:
    """Return the unit vector of a text.

    `shared` False gives unrelated vectors: an embedding model that lost its meaning.
    """
    plain = plain_text(text)
    noise = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(dimensions)
    scale = _NOISE if shared else 1.0
    values = [scale * (byte - 127.5) / 127.5 for byte in noise]
    if shared:
        for word in _WORD.findall(plain):
            for spot, sign in _spots(word[:6], dimensions):
                values[spot] += sign
        for concept in {c for sentence, c in CONCEPT_OF.items() if sentence in plain}:
            for spot, sign in _spots(concept, dimensions):
                values[spot] += sign * _CONCEPT_WEIGHT
    norm = math.sqrt(math.fsum(v * v for v in values))
    return [round(v / norm, 8) for v in values]
