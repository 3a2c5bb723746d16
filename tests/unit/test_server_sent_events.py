"""Our reader of server-sent events: the standard's rules, in pieces of any size."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certification.bedrock import errors
from certification.bedrock.dialects import server_sent_events
from certification.bedrock.dialects.server_sent_events import EventReader, ServerSentEvent
from certification.reasons import Reason


def read(*pieces: bytes) -> list[tuple[str, str]]:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    last = reader.end()
    return [(event.name, event.data) for event in [*events, *([last] if last else [])]]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [("", "a")]),
        (b"data:a\r\n\r\ndata:  b\r\rdata:c\n\n", [("", "a"), ("", " b"), ("", "c")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", "a"), ("", "b")]),
        (b"data: a\nevent: x\n\n", [("x", "a")]),  # as GPT on bedrock-mantle
        (b"data: a\ndata: b\ndata\n\n", [("", "a\nb\n")]),
        (b": ping\n\n: ping\n\nid: 1\nretry: 5\nnew: x\ndata: a\n\n", [("", "a")]),
        (b"event: nothing\n\ndata: a\n\n", [("", "a")]),
        (b"\xef\xbb\xbfdata: a\n\n\n\n", [("", "a")]),
        ("data: olá \u2028 €\n\n".encode(), [("", "olá \u2028 €")]),
        (b"data: a\n\ndata: [DONE]\n", [("", "a"), ("", "[DONE]")]),
        (b"data: [DONE]", [("", "[DONE]")]),
        (b"data: a\r", [("", "a")]),
        (b"\n\n", []),
        (b"", []),
    ],
)
def test_events_are_read_as_the_standard_says(body: bytes, events: list[tuple[str, str]]) -> None:
    assert read(body) == events
    assert read(*(bytes([byte]) for byte in body)) == events


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["data: á€", "event: x", ": c", "data", "", "id: 1", "x"])),
    st.lists(st.sampled_from(["\n", "\r", "\r\n"]), min_size=1),
    st.lists(st.integers(0, 1000), max_size=6),
)
def test_the_pieces_do_not_matter(lines: list[str], ends: list[str], at: list[int]) -> None:
    body = "".join(line + ends[n % len(ends)] for n, line in enumerate(lines)).encode()
    places = [0, *sorted(place % (len(body) + 1) for place in at), len(body)]
    assert read(*(body[start:end] for start, end in pairwise(places))) == read(body)


def test_an_event_is_there_as_soon_as_its_last_byte_is() -> None:
    assert [e.data for e in EventReader().feed(b"data: a\r\r")] == ["a"]
    assert [e.data for e in EventReader().feed(b"data: a\n\n")] == ["a"]


def test_bytes_that_are_no_text_are_corruption_after_the_events_before() -> None:
    events = EventReader().feed(b"data: a\n\ndata: \xff\n\n")
    assert next(events) == ServerSentEvent("", "a")
    with pytest.raises(errors.StreamBroken) as caught:
        next(events)
    assert caught.value.reason is Reason.STREAM_CORRUPT


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 50, b"x" * 50, b"data: xxxx\n" * 10])
def test_an_endless_event_is_corruption(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_sent_events, "MAX_EVENT_BYTES", 120)
    reader = EventReader()
    with pytest.raises(errors.StreamBroken):
        [list(reader.feed(piece)) for _ in range(5)]
    many = EventReader()
    assert sum(len(list(many.feed(b"data: a\n\n"))) for _ in range(100)) == 100
