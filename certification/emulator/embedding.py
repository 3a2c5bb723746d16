"""Vectors for texts: the same text always the same, texts that share words or mean the same close
together.
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
_NOISE = 0.15  # what tells two texts of the same words apart


def _plain(text: str) -> str:
    """Lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


_CONCEPT_OF = {_plain(text): f"concept {i}" for i, group in enumerate(CONCEPTS) for text in group}


def _concepts(plain: str) -> set[str]:
    """What a text is about: the concepts whose sentences it contains."""
    return {concept for sentence, concept in _CONCEPT_OF.items() if sentence in plain}


@lru_cache(maxsize=16384)
def _spots(feature: str, dimensions: int) -> tuple[tuple[int, float], ...]:
    """The coordinates that a word moves, and by how much: drawn once for each word."""
    digest = hashlib.shake_256(feature.encode()).digest(4 * _SPOTS)
    drawn = struct.unpack(f">{_SPOTS}I", digest)
    return tuple((number % dimensions, 1.0 if number >> 31 else -1.0) for number in drawn)


def vector(text: str, dimensions: int, *, shared: bool = True) -> list[float]:
    """The unit vector of a text. `shared` False gives unrelated vectors: an embedding model that
    lost its meaning.
    """
    plain = _plain(text)
    noise = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(dimensions)
    scale = _NOISE if shared else 1.0
    values = [scale * (byte - 127.5) / 127.5 for byte in noise]
    if shared:
        for word in _WORD.findall(plain):
            for spot, sign in _spots(word[:6], dimensions):
                values[spot] += sign
        for concept in _concepts(plain):
            for spot, sign in _spots(concept, dimensions):
                values[spot] += sign * _CONCEPT_WEIGHT
    norm = math.sqrt(math.fsum(v * v for v in values))
    return [round(v / norm, 8) for v in values]
