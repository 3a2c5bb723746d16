"""Our reader of event streams: frames from bytes in any pieces, and nothing else passes for one."""

from __future__ import annotations

import random
import struct
import zlib
from itertools import pairwise

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from certification.bedrock import errors
from certification.bedrock.dialects.event_stream import MAX_PAYLOAD_BYTES, Frame, FrameReader
from certification.reasons import Reason
from tests import replay

STREAM = b"".join(
    [
        replay.event("messageStart", {"role": "assistant"}),
        replay.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Olá"}}),
        replay.exception("throttlingException", "Too many tokens"),
        replay.frame({}, b""),
    ]
)


def raw_frame(headers: bytes, payload: bytes = b"{}") -> bytes:
    """A frame with this block of headers, checksums and all."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def read(*pieces: bytes) -> list[Frame]:
    reader = FrameReader()
    frames = [frame for piece in pieces for frame in reader.feed(piece)]
    assert reader.pending == 0
    return frames


def split(data: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 10_000), max_size=8))
def test_the_pieces_do_not_matter(at: list[int]) -> None:
    assert read(*split(STREAM, at)) == read(STREAM)


def test_frames_are_those_that_botocore_reads() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(STREAM)
    assert [(f.headers, f.payload) for f in read(STREAM)] == [
        (f.headers, f.payload) for f in buffer
    ]


def test_headers_of_every_type_are_read() -> None:
    values = {
        b"yes": b"\x00", b"no": b"\x01", b"byte": b"\x02\xff", b"short": b"\x03\xff\xfe",
        b"int": b"\x04\x00\x00\x00\x05", b"long": b"\x05" + b"\xff" * 8,
        b"bytes": b"\x06\x00\x02ab", b"string": b"\x07\x00\x03\xc3\xa9!",
        b"time": b"\x08" + (1_700_000_000_000).to_bytes(8, "big"), b"uuid": b"\x09" + b"u" * 16,
    }  # fmt: skip
    data = raw_frame(b"".join(bytes([len(n)]) + n + v for n, v in values.items()))
    (frame,) = read(data)
    assert frame.headers == {
        "yes": True, "no": False, "byte": -1, "short": -2, "int": 5, "long": -1,
        "bytes": b"ab", "string": "é!", "time": 1_700_000_000_000, "uuid": b"u" * 16,
    }  # fmt: skip
    assert (frame.text("string"), frame.text("int"), frame.text("absent")) == ("é!", "", "")
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    assert next(buffer).headers == frame.headers


@pytest.mark.parametrize(
    "headers",
    [
        b"\x01x\x63",  # a type that does not exist
        b"\x01x\x07\x00\x09ab",  # longer than the block
        b"\x01x\x04\x00",
        b"\x01x",
        b"\x05x",
        b"\x01x\x07\x00\x01\xff",  # no UTF-8
        b"\x01\xff\x00",
        b"\x01x\x00\x01x\x00",  # twice
    ],
)
def test_headers_that_cannot_be_read_are_corruption(headers: bytes) -> None:
    with pytest.raises(errors.StreamBroken) as caught:
        read(raw_frame(headers))
    assert caught.value.reason is Reason.STREAM_CORRUPT


@pytest.mark.parametrize(
    "lengths", [(0, 0), (15, 0), (16, 1), (MAX_PAYLOAD_BYTES + 17, 0), (200_000, 150_000)]
)
def test_lengths_that_no_frame_has_are_corruption_at_once(lengths: tuple[int, int]) -> None:
    prelude = struct.pack(">II", *lengths)
    with pytest.raises(errors.StreamBroken) as caught:
        read(prelude + struct.pack(">I", zlib.crc32(prelude)))
    assert caught.value.reason is Reason.STREAM_CORRUPT


def test_a_changed_byte_anywhere_is_corruption() -> None:
    generator = random.Random(1)
    for at in range(len(STREAM)):
        changed = bytearray(STREAM)
        changed[at] ^= generator.randrange(1, 256)
        with pytest.raises(errors.StreamBroken) as caught:
            list(FrameReader().feed(bytes(changed)))
        assert caught.value.reason is Reason.STREAM_CORRUPT


def test_the_frames_before_a_corrupt_one_are_delivered() -> None:
    first = len(replay.split_frames(STREAM)[0])
    frames = FrameReader().feed(STREAM[: first + 20] + b"?" + STREAM[first + 21 :])
    assert next(frames).text(":event-type") == "messageStart"
    with pytest.raises(errors.StreamBroken):
        next(frames)


def test_a_cut_anywhere_leaves_bytes_pending_or_falls_between_frames() -> None:
    ends = {0}
    for raw in replay.split_frames(STREAM):
        ends.add(max(ends) + len(raw))
    for cut in range(len(STREAM)):
        reader = FrameReader()
        list(reader.feed(STREAM[:cut]))
        assert (reader.pending == 0) is (cut in ends)
