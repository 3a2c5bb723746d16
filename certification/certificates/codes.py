"""The codes of certificates: eleven random characters and one that finds typing errors."""

from __future__ import annotations

import re
import secrets

# Crockford's base 32: no I, L, O and U, which are read as other characters.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MISREAD = str.maketrans("OIL", "011")
LENGTH, GROUP = 12, 4
SHAPE = re.compile(rf"(?:[{ALPHABET}]{{{GROUP}}}-){{2}}[{ALPHABET}]{{{GROUP}}}")
MAX_TYPED = 40  # characters that are looked at
IGNORED = re.compile(r"[\s\-\u2010-\u2015._]+")
POLYNOMIAL = 0b100101  # x^5 + x^2 + 1, primitive over two elements


def draw() -> str:
    """Draw a new code, such as 7K3M-9QXP-2D4T, from 55 random bits."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH - 1))
    return group(body + check_character(body))


def group(characters: str) -> str:
    """Write a code's characters in groups."""
    return "-".join(characters[i : i + GROUP] for i in range(0, len(characters), GROUP))


def read(typed: str) -> str | None:
    """Return the code that somebody typed: in any case, with or without dashes, with O for 0 and I
    or L for 1. None when it is no code, or has a typing error.
    """
    characters = IGNORED.sub("", typed[:MAX_TYPED]).upper().translate(MISREAD)
    if len(characters) != LENGTH or not set(characters) <= set(ALPHABET):
        return None
    if check_character(characters[:-1]) != characters[-1]:
        return None
    return group(characters)


def check_character(body: str) -> str:
    """Return the character that makes the sum of all, each times its own power of two in the field
    of 32 elements, zero: one wrong character is found, and so are any two that changed places.
    """
    total, weight = 0, 2
    for character in body:
        total ^= product(ALPHABET.index(character), weight)
        weight = product(weight, 2)
    return ALPHABET[total]


def product(a: int, b: int) -> int:
    """Multiply in the field of 32 elements."""
    result = 0
    while b:
        if b & 1:
            result ^= a
        a, b = a << 1, b >> 1
        if a & 32:
            a ^= POLYNOMIAL
    return result
