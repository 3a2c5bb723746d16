"""Clean text from outside: answers, error messages, listings, responses of webhook receivers."""

from __future__ import annotations

import re
from typing import Any

# What acts instead of showing: control characters but tab and newline (a terminal obeys them),
# marks that turn or hide text (directions, zero-width spaces, tags), and halves of characters.
# Joiners (200C, 200D) stay: emoji and several scripts need them.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def clean(text: str) -> str:
    """Return a text without characters that act instead of showing: each becomes U+FFFD, except
    that every kind of line end becomes a newline.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def clean_values(value: Any) -> Any:
    """Clean every text in a JSON value, names of members included."""
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean(name): clean_values(member) for name, member in value.items()}
        case list():
            return [clean_values(item) for item in value]
        case _:
            return value


def escape(text: str) -> str:
    r"""Write such characters, and newlines, as `\u001b`: for one line of a log, and for JSON, where
    it means the same.
    """
    return UNSAFE.sub(escaped, text).replace("\n", "\\n")


def escape_json(document: str) -> str:
    r"""Write such characters inside a JSON document as `\u001b`, which means the same."""
    return UNSAFE.sub(escaped, document)


def escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
