"""Server-sent events: how the Chat Completions, Responses and Messages APIs stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from certification.emulator import tokens, wire

CONTENT_TYPE = "text/event-stream"
DONE = b"data: [DONE]\n\n"


def data(payload: Mapping[str, Any]) -> bytes:
    """Return an event without a name."""
    return b"data: %b\n\n" % wire.dumps(payload)


def named(payload: Mapping[str, Any]) -> bytes:
    """Return an event that is named by its payload's type."""
    return b"event: %b\ndata: %b\n\n" % (payload["type"].encode(), wire.dumps(payload))


def named_last(payload: Mapping[str, Any]) -> bytes:
    """Return the same with the name after the data, as GPT's Responses API sends it."""
    return b"data: %b\nevent: %b\n\n" % (wire.dumps(payload), payload["type"].encode())


def corrupted(event: bytes) -> bytes:
    """Return the same event with one bit flipped, so that its JSON no longer parses."""
    spot = event.rfind(b"}")
    return event[:spot] + bytes((event[spot] ^ 0x01,)) + event[spot + 1 :]


def deltas(text: str, dice: int) -> Iterator[tuple[str, int]]:
    """Yield a text in parts of one to three tokens, each with its size: the first alone."""
    pieces = tokens.pieces(text)
    start = 0
    while start < len(pieces):
        dice = (dice * 1103515245 + 12345) & 0x7FFFFFFF
        size = 1 if start == 0 else 1 + (dice >> 8) % 3
        part = pieces[start : start + size]
        yield "".join(part), len(part)
        start += size
