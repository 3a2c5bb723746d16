"""What holds for every dialect, whatever comes over the wire."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certification.bedrock import errors
from certification.bedrock.dialects import dialect_for
from certification.bedrock.dialects.dialect import WireResponse
from certification.inference import (
    API,
    Operation,
    Reply,
    Request,
    RouteTarget,
    Timing,
    Tool,
    ToolUse,
    user,
)
from certification.reasons import Reason
from certification.suite import graders
from tests import replay

APIS = [API.CONVERSE, API.CHAT_COMPLETIONS, API.RESPONSES, API.MESSAGES]
SSE = {"content-type": "text/event-stream"}
FRAMES = {"content-type": "application/vnd.amazon.eventstream"}
HEADERS = {API.CONVERSE: FRAMES}


def sse(*values: Any) -> bytes:
    return b"".join(
        b"data: %b\n\n" % (v if isinstance(v, bytes) else json.dumps(v).encode()) for v in values
    )


def part(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"delta": delta, "finish_reason": delta.pop("finish", None)}]}


COUNTS = {"input_tokens": 1, "output_tokens": 2}
CALL = {"type": "function_call", "call_id": "1", "name": "get", "arguments": '{"a": "é"}'}
TEXT = {"type": "message", "content": [{"type": "output_text", "text": "Olá €"}]}
STREAMS = {
    API.CONVERSE: b"".join(
        [
            replay.event("messageStart", {"role": "assistant"}),
            *(
                replay.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})
                for text in ("Olá", " €")
            ),
            replay.event("contentBlockStop", {"contentBlockIndex": 0}),
            replay.event(
                "contentBlockStart",
                {
                    "contentBlockIndex": 1,
                    "start": {"toolUse": {"toolUseId": "1", "name": "get"}},
                },
            ),
            replay.event(
                "contentBlockDelta",
                {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"a": "é"}'}}},
            ),
            replay.event("contentBlockStop", {"contentBlockIndex": 1}),
            replay.event("messageStop", {"stopReason": "tool_use"}),
            replay.event("metadata", {"usage": {"inputTokens": 1, "outputTokens": 2}}),
        ]
    ),
    API.CHAT_COMPLETIONS: sse(
        part(role="assistant", content=""),
        part(content="Olá"),
        part(content=" €"),
        part(tool_calls=[{"index": 0, "id": "1", "function": {"name": "get", "arguments": ""}}]),
        part(tool_calls=[{"index": 0, "function": {"arguments": '{"a": "é"}'}}]),
        part(finish="tool_calls"),
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
        b"[DONE]",
    ),
    API.RESPONSES: sse(
        {"type": "response.created"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "Olá"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": " €"},
        {"type": "response.output_item.done", "output_index": 0, "item": TEXT},
        {"type": "response.output_item.added", "output_index": 1, "item": CALL | {"arguments": ""}},
        {
            "type": "response.function_call_arguments.delta",
            "output_index": 1,
            "delta": CALL["arguments"],
        },
        {"type": "response.output_item.done", "output_index": 1, "item": CALL},
        {
            "type": "response.completed",
            "response": {"status": "completed", "output": [TEXT, CALL], "usage": COUNTS},
        },
    ),
    API.MESSAGES: sse(
        {"type": "message_start", "message": {"usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Olá"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " €"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "1", "name": "get", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": '{"a": "é"}'},
        },
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use"},
            "usage": {"output_tokens": 2},
        },
        {"type": "message_stop"},
    ),
}
# What an object of the APIs may be called, so that random JSON gets past the first look.
NAMES = """
    output message content stopReason usage metrics latencyMs text toolUse input name
    reasoningContent reasoningText redactedContent image source bytes format error
    choices finish_reason delta tool_calls function arguments index id role refusal
    status item output_index content_index response type incomplete_details code
    content_block stop_reason thinking signature data prompt_tokens_details
    contentBlockIndex start toolUseId citationsContent summary Output __type
"""
KINDS = """
    message reasoning function_call output_text text thinking tool_use error
    completed incomplete failed redacted_thinking text_delta input_json_delta
    response.created response.output_item.added response.output_item.done
    response.output_text.delta response.output_text.done response.completed
    response.failed response.reasoning_text.delta message_start message_delta
    content_block_start content_block_delta content_block_stop message_stop
    stop end_turn \ud800
"""
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, -1, 10**400, 0.5, "", "AA==", "{", *KINDS.split()]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=5)
    ),
    max_leaves=25,
)


def read(api: API, *pieces: bytes) -> Reply:
    reader = dialect_for(api).stream_reader(0.0, HEADERS.get(api, SSE))
    for piece in pieces:
        reader.feed(piece, 1.0)
    reader.end()
    return reader.reply(2.0)


@pytest.mark.parametrize("api", APIS)
def test_the_same_answer_is_the_same_reply_in_every_api(api: API) -> None:
    reply = read(api, STREAMS[api])
    assert reply.text == "Olá €"
    (use,) = reply.tool_uses
    assert use == ToolUse("1", "get", {"a": "é"}, '{"a": "é"}')
    assert reply.stop_reason == "tool_use"
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (1, 2)
    assert (reply.complete, reply.operation) == (True, Operation.STREAM)
    assert reply.events == (
        "messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop",
        "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata",
    )  # fmt: skip
    assert graders.event_order(reply).passed
    assert graders.stream_ends(reply).passed


@pytest.mark.parametrize("api", APIS)
@settings(max_examples=15, deadline=None)
@given(places=st.lists(st.integers(0, 10_000), max_size=8))
def test_the_pieces_do_not_matter(api: API, places: list[int]) -> None:
    data = STREAMS[api]
    cuts = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    assert read(api, *(data[a:b] for a, b in pairwise(cuts))) == read(api, data)


@pytest.mark.parametrize("api", APIS)
def test_single_bytes_are_enough(api: API) -> None:
    data = STREAMS[api]
    assert read(api, *(data[n : n + 1] for n in range(len(data)))) == read(api, data)


@pytest.mark.parametrize("api", APIS)
def test_a_cut_that_loses_anything_is_truncation(api: API) -> None:
    data = STREAMS[api]
    whole = read(api, data)
    for cut in range(len(data)):
        reader = dialect_for(api).stream_reader(0.0, HEADERS.get(api, SSE))
        reader.feed(data[:cut], 1.0)
        try:
            reader.end()
        except errors.StreamBroken as error:
            assert error.reason is Reason.STREAM_TRUNCATED  # noqa: PT017
        else:  # only line ends were lost
            assert data[cut:].strip() == b""
            assert reader.reply(2.0) == whole


@pytest.mark.parametrize("api", APIS)
def test_a_changed_byte_is_an_error_of_ours_or_a_reply(api: API) -> None:
    """Frames have checksums. Of the other streams only the form can be wrong."""
    data, generator = STREAMS[api], random.Random(7)
    broken = 0
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= generator.randrange(1, 256)
        try:
            read(api, bytes(changed))
        except errors.BedrockError:
            broken += 1
    assert broken == len(data) if api is API.CONVERSE else broken > len(data) / 3


@pytest.mark.parametrize("api", APIS)
@settings(max_examples=60, deadline=None)
@given(body=VALUES)
def test_json_of_any_shape_is_a_reply_or_an_error_of_ours(api: API, body: Any) -> None:
    response = WireResponse(200, {}, json.dumps(body).encode())
    try:
        reply = dialect_for(api).decode(response, Timing(1.0))
    except errors.BedrockError:
        return
    assert isinstance(reply.stop_reason, str)


@pytest.mark.parametrize("api", APIS)
@settings(max_examples=60, deadline=None)
@given(values=st.lists(VALUES, max_size=4))
def test_events_of_any_shape_are_a_reply_or_an_error_of_ours(api: API, values: list[Any]) -> None:
    if api is API.CONVERSE:
        names = ["messageStart", "contentBlockStart", "contentBlockDelta", "metadata"]
        data = b"".join(
            replay.event(names[n % len(names)], value) for n, value in enumerate(values)
        )
    else:
        data = sse(*values)
    reader = dialect_for(api).stream_reader(0.0, HEADERS.get(api, SSE))
    try:
        reader.feed(data, 1.0)
        reader.end()
    except errors.BedrockError as error:
        assert error.operation == "ConverseStream"  # noqa: PT017
    assert isinstance(reader.reply(2.0), Reply)


@pytest.mark.parametrize("api", APIS)
def test_a_member_of_an_answer_may_be_anything(api: API) -> None:
    """Every member of a real event, changed to every kind of value."""
    if api is API.CONVERSE:
        frames = replay.frames(STREAMS[api])
        events = [(f.name, f.json) for f in frames]
        build = lambda pairs: b"".join(replay.event(n, v) for n, v in pairs)  # noqa: E731
    else:
        lines = [line.removeprefix(b"data: ") for line in STREAMS[api].split(b"\n\n") if line]
        events = [("", json.loads(line)) for line in lines if line != b"[DONE]"]
        build = lambda pairs: sse(*(v for _, v in pairs))  # noqa: E731
    for n, (name, value) in enumerate(events):
        for odd in variants(value):
            try:
                read(api, build([*events[:n], (name, odd), *events[n + 1 :]]))
            except errors.BedrockError:
                continue


def variants(value: Any) -> list[Any]:
    """The value with each of its members in turn replaced by each kind of value."""
    others: list[Any] = [None, True, 5, "\ud800", [], [5], {}, {"x": 1}]
    if isinstance(value, dict):
        return others + [value | {k: odd} for k, v in value.items() for odd in variants(v)]
    if isinstance(value, list) and value:
        return others + [[odd, *value[1:]] for odd in variants(value[0])]
    return others


@pytest.mark.parametrize("api", APIS)
def test_a_body_that_is_no_stream_is_read_at_its_end(api: API) -> None:
    unknown = b'{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"}}'
    for body, reason in ((unknown, Reason.WRONG_ROUTE), (b"<html>", Reason.BAD_RESPONSE)):
        reader = dialect_for(api).stream_reader(0.0, {"content-type": "application/json"})
        reader.feed(body[:5], 1.0)
        reader.feed(body[5:], 1.0)
        with pytest.raises(errors.BedrockError) as caught:
            reader.end()
        assert (caught.value.reason, caught.value.http_status) == (reason, 200)
        assert reader.events == []


@pytest.mark.parametrize("api", APIS)
def test_the_stream_is_asked_for_where_the_request_says_so(api: API) -> None:
    target = RouteTarget("some.model", "on_demand", api=api, path_prefix="/v1")
    tools = (Tool("get", "Gets.", {"type": "object"}),)
    request = Request((user("Hi"),), 2000, tools=tools)
    whole = dialect_for(api).encode(request, target)
    stream = dialect_for(api).encode(replace(request, operation=Operation.STREAM), target)
    assert whole != stream
    assert b"2000" in whole.body  # a cap always: the service would reserve the model's maximum
    assert json.loads(whole.body)
