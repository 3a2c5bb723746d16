"""The bytes of Bedrock: JSON bodies and the frames of its binary event streams."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

PADDING = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_STRING = 7  # the header value type of a string, the only one Bedrock sends

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumps(value: Any) -> bytes:
    """Compact JSON in UTF-8, as the service writes it."""
    return _encode(value).encode("utf-8", "surrogatepass")


def _header(name: str, value: str) -> bytes:
    n, v = name.encode(), value.encode()
    return bytes((len(n),)) + n + bytes((_STRING,)) + struct.pack(">H", len(v)) + v


@cache
def _event_headers(event: str) -> bytes:
    return (
        _header(":event-type", event)
        + _header(":content-type", "application/json")
        + _header(":message-type", "event")
    )


@cache
def _exception_headers(exception: str) -> bytes:
    return (
        _header(":exception-type", exception)
        + _header(":content-type", "application/json")
        + _header(":message-type", "exception")
    )


def frame(headers: bytes, payload: bytes) -> bytes:
    """One event-stream message: lengths, CRC of the lengths, headers, payload, CRC of all before."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    start = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return start + struct.pack(">I", zlib.crc32(start))


def event(name: str, payload: Mapping[str, Any], padding: int) -> bytes:
    """An event frame. `padding` is how many characters of `p` hide the payload's length (0-62)."""
    return frame(_event_headers(name), dumps({**payload, "p": PADDING[:padding]}))


def exception(name: str, payload: Mapping[str, Any]) -> bytes:
    """An exception frame: how a stream that began well tells of its failure."""
    return frame(_exception_headers(name), dumps(payload))


def corrupted(message: bytes) -> bytes:
    """The same frame with one payload bit flipped, so that its CRC no longer fits."""
    spot = len(message) - 6
    return message[:spot] + bytes((message[spot] ^ 0x01,)) + message[spot + 1 :]
