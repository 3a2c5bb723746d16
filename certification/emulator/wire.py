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
    """Write compact JSON in UTF-8, as the service does."""
    return _encode(value).encode("utf-8", "surrogatepass")


@cache
def headers(kind: str, name: str) -> bytes:
    """Encode the headers of a frame; `kind` is "event" or "exception"."""
    encoded = b""
    for key, text in (
        (f":{kind}-type", name),
        (":content-type", "application/json"),
        (":message-type", kind),
    ):
        value = text.encode()
        encoded += bytes((len(key),)) + key.encode()
        encoded += bytes((_STRING,)) + struct.pack(">H", len(value)) + value
    return encoded


def frame(head: bytes, payload: bytes) -> bytes:
    """Return one event-stream message.

    It holds the lengths, the CRC of the lengths, headers, payload, and the CRC of all before.
    """
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    start = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return start + struct.pack(">I", zlib.crc32(start))


def event(name: str, payload: Mapping[str, Any], padding: int) -> bytes:
    """Return an event frame; `padding` (0-62) characters of `p` hide the payload's length."""
    return frame(headers("event", name), dumps({**payload, "p": PADDING[:padding]}))


def exception(name: str, payload: Mapping[str, Any]) -> bytes:
    """Return an exception frame: how a stream that began well reports its failure."""
    return frame(headers("exception", name), dumps(payload))


def corrupted(message: bytes) -> bytes:
    """Return the same frame with one payload bit flipped, so that its CRC no longer fits."""
    spot = len(message) - 6
    return message[:spot] + bytes((message[spot] ^ 0x01,)) + message[spot + 1 :]
