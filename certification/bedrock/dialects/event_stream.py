"""Read `application/vnd.amazon.eventstream`: bytes in any pieces in, checked frames out.

A frame is: total length, headers' length, CRC-32 of these two (each four bytes), headers, payload,
CRC-32 of all before. Source: "Event stream encoding" of the Amazon Transcribe developer guide.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from certification.bedrock import errors
from certification.inference import Operation
from certification.reasons import Reason

PRELUDE_BYTES = 12
CRC_BYTES = 4
MAX_HEADERS_BYTES = 128 * 1024
MAX_PAYLOAD_BYTES = 24 * 1024 * 1024

Header = bool | int | str | bytes

# by the byte that names a header's type; booleans have no value, 6 and 7 have a length before it
FIXED_HEADERS = {2: struct.Struct(">b"), 3: struct.Struct(">h"), 4: struct.Struct(">i"),
                 5: struct.Struct(">q"), 8: struct.Struct(">q")}  # fmt: skip
TRUE, FALSE, BYTES, STRING, UUID = 0, 1, 6, 7, 9


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the stream. A timestamp header is in milliseconds since 1970."""

    headers: Mapping[str, Header]
    payload: bytes

    def text(self, header: str) -> str:
        """Return a header's value, "" where it is absent or no text."""
        value = self.headers.get(header)
        return value if isinstance(value, str) else ""


class FrameReader:
    """Put frames together from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """The number of bytes that form no whole frame yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that these bytes complete.

        Raises StreamBroken (stream_corrupt) at the first frame that is not as it was sent, after
        those before it.
        """
        self._buffer += data
        while len(self._buffer) >= PRELUDE_BYTES:
            total = checked_length(self._buffer)
            if len(self._buffer) < total:
                return
            raw = bytes(self._buffer[:total])
            del self._buffer[:total]
            yield frame_from(raw)


def checked_length(data: bytes | bytearray) -> int:
    """Return a frame's whole length from its prelude. Raises StreamBroken where that is wrong."""
    total, headers, crc = struct.unpack_from(">III", data)
    if zlib.crc32(data[:8]) != crc:
        raise corrupt("The checksum of a frame's lengths is wrong.")
    payload = total - headers - PRELUDE_BYTES - CRC_BYTES
    if headers > MAX_HEADERS_BYTES or not 0 <= payload <= MAX_PAYLOAD_BYTES:
        raise corrupt(f"A frame says that it has {headers} bytes of headers in {total} bytes.")
    return int(total)


def frame_from(raw: bytes) -> Frame:
    """Return a frame whose prelude was checked. Raises StreamBroken where the rest is wrong."""
    (crc,) = struct.unpack_from(">I", raw, len(raw) - CRC_BYTES)
    if zlib.crc32(raw[:-CRC_BYTES]) != crc:
        raise corrupt("The checksum of a frame is wrong.")
    end = PRELUDE_BYTES + int.from_bytes(raw[4:8], "big")
    try:
        headers = headers_from(raw[PRELUDE_BYTES:end])
    except (ValueError, IndexError, struct.error) as exc:
        raise corrupt("The headers of a frame cannot be read.") from exc
    return Frame(headers, raw[end:-CRC_BYTES])


def headers_from(block: bytes) -> dict[str, Header]:
    """Return the headers of a frame.

    Raises ValueError, IndexError or struct.error for a block that is none.
    """
    headers: dict[str, Header] = {}
    at = 0
    while at < len(block):
        size = block[at]
        name, kind = take(block, at + 1, size).decode(), block[at + 1 + size]
        at += size + 2
        value: Header
        if kind in {TRUE, FALSE}:
            value = kind == TRUE
        elif kind in FIXED_HEADERS:
            (value,) = FIXED_HEADERS[kind].unpack_from(block, at)
            at += FIXED_HEADERS[kind].size
        elif kind == UUID:
            value = take(block, at, 16)
            at += 16
        elif kind in {BYTES, STRING}:
            (size,) = struct.unpack_from(">H", block, at)
            raw = take(block, at + 2, size)
            value = raw.decode() if kind == STRING else raw
            at += 2 + size
        else:
            raise ValueError(f"header type {kind}")
        if name in headers:
            raise ValueError(f"header {name} twice")
        headers[name] = value
    return headers


def take(block: bytes, at: int, size: int) -> bytes:
    """Return `size` bytes. Raises ValueError where fewer are left."""
    piece = block[at : at + size]
    if len(piece) < size:
        raise ValueError("a header is longer than its frame")
    return piece


def corrupt(message: str) -> errors.BedrockError:
    return errors.error(Reason.STREAM_CORRUPT, message, operation=Operation.STREAM)
