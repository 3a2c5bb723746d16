"""The dialect Converse: what goes over the wire; recorded answers are read as botocore does it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import botocore.loaders
import botocore.model
import botocore.parsers
import pytest
from botocore.eventstream import EventStreamBuffer

from certification.bedrock import errors
from certification.bedrock.dialects import invoke
from certification.bedrock.dialects.converse import Converse, reply_from
from certification.bedrock.dialects.dialect import StreamReader, WireResponse
from certification.inference import (
    Document,
    Image,
    Message,
    Operation,
    Reasoning,
    Reply,
    Request,
    RouteTarget,
    Text,
    Timing,
    Tool,
    ToolResult,
    ToolUse,
    Usage,
    assistant,
    user,
)
from certification.reasons import Reason
from tests import replay
from tests.replay import Recorded

DIALECT = Converse()
MICRO = RouteTarget("amazon.nova-micro-v1:0", "on_demand")
HELLO = Request((user("Hello"),), max_tokens=10)
STREAM_TYPE = {"content-type": "application/vnd.amazon.eventstream", "x-amzn-requestid": "r-1"}
USAGE = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
BEGIN = [
    replay.event("messageStart", {"role": "assistant"}),
    replay.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}),
]
END = [
    replay.event("contentBlockStop", {"contentBlockIndex": 0}),
    replay.event("messageStop", {"stopReason": "end_turn"}),
    replay.event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 7}}),
]


def answer(body: Any, status: int = 200, **headers: str) -> WireResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WireResponse(status, {"x-amzn-requestid": "r-1", **headers}, data)


def message(*content: Any, **members: Any) -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": list(content)}},
        "stopReason": "end_turn",
        "usage": USAGE,
        "metrics": {"latencyMs": 7},
        **members,
    }


def read(*pieces: bytes) -> Reply:
    """Feed the pieces, one every tenth of a second, and end."""
    reader = DIALECT.stream_reader(100.0, STREAM_TYPE)
    for n, piece in enumerate(pieces, 1):
        reader.feed(piece, 100.0 + n / 10)
    reader.end()
    return reader.reply(101.0)


def delta(index: int, **what: Any) -> bytes:
    return replay.event("contentBlockDelta", {"contentBlockIndex": index, "delta": what})


def start(index: int, **what: Any) -> bytes:
    return replay.event("contentBlockStart", {"contentBlockIndex": index, "start": what})


class TestRequest:
    @pytest.mark.parametrize(
        ("target_id", "operation", "path"),
        [
            (MICRO.target_id, "Converse", "/model/amazon.nova-micro-v1%3A0/converse"),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.x~y",
                "ConverseStream",
                "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.x~y"
                "/converse-stream",
            ),
        ],
    )
    def test_the_path_holds_the_encoded_id(self, target_id: str, operation: str, path: str) -> None:
        request = replace(HELLO, operation=Operation(operation))
        wire = DIALECT.encode(request, replace(MICRO, target_id=target_id))
        assert (wire.method, wire.path) == ("POST", path)
        assert wire.headers == {"content-type": "application/json"}
        assert json.loads(wire.body) == {
            "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
            "inferenceConfig": {"maxTokens": 10},
        }

    def test_everything_a_request_holds_goes_over_the_wire(self) -> None:
        tool = Tool("get", "Gets.", {"type": "object"})
        request = Request(
            (
                user(Image("png", b"\0\1"), Document("pdf", "a", b"%PDF")),
                assistant(
                    Reasoning("hm", "sig"), Reasoning("", "", b"\0"), ToolUse("1", "get", {})
                ),
                Message("user", (ToolResult("1", "no", True), ToolResult("2", "yes"))),
            ),
            max_tokens=9,
            system="Be kind.",
            stop_sequences=("END",),
            tools=(tool,),
            tool_choice="any",
            temperature=0.5,
            top_p=0.9,
            output_schema={"type": "object"},
        )
        body = json.loads(DIALECT.encode(request, MICRO).body)
        assert [m["content"] for m in body["messages"]] == [
            [
                {"image": {"format": "png", "source": {"bytes": "AAE="}}},
                {"document": {"format": "pdf", "name": "a", "source": {"bytes": "JVBERg=="}}},
            ],
            [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
                {"reasoningContent": {"redactedContent": "AA=="}},
                {"toolUse": {"toolUseId": "1", "name": "get", "input": {}}},
            ],
            [
                {"toolResult": {"toolUseId": "1", "content": [{"text": "no"}], "status": "error"}},
                {
                    "toolResult": {
                        "toolUseId": "2",
                        "content": [{"text": "yes"}],
                        "status": "success",
                    }
                },
            ],
        ]
        assert body["system"] == [{"text": "Be kind."}]
        assert body["inferenceConfig"] == {
            "maxTokens": 9, "stopSequences": ["END"], "temperature": 0.5, "topP": 0.9,
        }  # fmt: skip
        spec = {"name": "get", "description": "Gets.", "inputSchema": {"json": {"type": "object"}}}
        assert body["toolConfig"] == {"tools": [{"toolSpec": spec}], "toolChoice": {"any": {}}}
        structure = {"jsonSchema": {"schema": '{"type": "object"}', "name": "answer"}}
        assert body["outputConfig"] == {
            "textFormat": {"type": "json_schema", "structure": structure}
        }


class TestAnswer:
    @pytest.mark.parametrize(
        ("content", "blocks"),
        [
            ([], ()),
            ([None, {"text": "a"}], (Text("a"),)),
            ([{"somethingNew": {"a": 1}}, {"text": "a"}], (Text("a"),)),
            ([{"text": 5}, {"text": "a"}], (Text("a"),)),
            (
                [{"toolUse": {"name": "t", "toolUseId": "1", "input": {"a": [1]}, "type": "x"}}],
                (ToolUse("1", "t", {"a": [1]}),),
            ),
            ([{"toolUse": {}}], (ToolUse("", "", None),)),
            (
                [{"reasoningContent": {"redactedContent": "AAE="}}],
                (Reasoning("", redacted=b"\0\1"),),
            ),
            (
                [{"reasoningContent": {"reasoningText": {"text": "h", "signature": "s"}}}],
                (Reasoning("h", "s"),),
            ),
            (
                [{"citationsContent": {"content": [{"text": "a"}, {"text": "b"}]}}],
                (Text("ab"),),
            ),
            (
                [{"image": {"format": "png", "source": {"bytes": "AAE="}}}],
                (Image("png", b"\0\1"),),
            ),
        ],
    )
    def test_known_blocks_are_read_and_unknown_ones_passed_over(
        self, content: list[Any], blocks: tuple[Any, ...]
    ) -> None:
        reply = DIALECT.decode(answer(message(*content)), Timing(5.0))
        assert reply.content == blocks
        assert reply.timing == Timing(5.0, server_ms=7)
        assert (reply.request_id, reply.usage) == ("r-1", Usage(1, 2, 3))

    def test_usage_and_metrics_may_be_absent_or_odd(self) -> None:
        for odd in (None, {}, {"inputTokens": "many", "latencyMs": {}}):
            body = message({"text": "a"}, usage=odd, metrics=odd)
            reply = DIALECT.decode(answer(body), Timing(5.0))
            assert (reply.text, reply.usage, reply.timing.server_ms) == ("a", None, None)

    @pytest.mark.parametrize(
        "body",
        [
            [], None, 5, "text", b"", b"\xff", b"NaN", b"[" * 100_000,
            {}, {"output": []}, {"output": {"message": []}}, {"output": {"message": None}},
            message(5), message("x"), message({}), message({"text": "a", "image": {}}),
            message({"toolUse": 5}), message({"reasoningContent": {"redactedContent": 5}}),
            message({"image": {"source": {"bytes": "A"}}}),
            message(stopReason=None), message(usage="x"), message(metrics=5),
        ],
        ids=str,
    )  # fmt: skip
    def test_another_shape_is_a_bad_response(self, body: Any) -> None:
        with pytest.raises(errors.ServiceFailed) as caught:
            DIALECT.decode(answer(body), Timing(5.0))
        assert caught.value.reason is Reason.BAD_RESPONSE
        assert (caught.value.http_status, caught.value.request_id) == (200, "r-1")

    def test_an_unknown_operation_inside_a_200_is_a_wrong_route(self) -> None:
        unknown = {"__type": "com.amazon.coral.service#UnknownOperationException"}
        with pytest.raises(errors.BedrockError) as caught:
            DIALECT.decode(answer({"Output": unknown, "Version": "1.0"}), Timing(5.0))
        assert caught.value.reason is Reason.WRONG_ROUTE
        assert caught.value.code == "UnknownOperationException"


class TestStream:
    def test_blocks_of_every_kind_are_put_together_in_order(self) -> None:
        reply = read(
            BEGIN[0],
            delta(0, reasoningContent={"text": "let "}),
            delta(0, reasoningContent={"text": "me"}),
            delta(0, reasoningContent={"signature": "sig"}),
            delta(1, reasoningContent={"redactedContent": "AAE="}),
            start(3, toolUse={"toolUseId": "b", "name": "two"}),
            delta(2, text="a"),
            delta(2, citation={"title": "t"}),
            start(4, toolUse={"toolUseId": "c", "name": "no arguments"}),
            delta(3, toolUse={"input": '{"x": '}),
            delta(2, text="b"),
            delta(3, toolUse={"input": "1}"}),
            start(5, image={"format": "png"}),
            delta(5, image={"source": {"bytes": "AAE="}}),
            start(6, toolUse={"toolUseId": "d", "name": "broken"}),
            delta(6, toolUse={"input": '{"x": '}),
            start(7, somethingNew={"a": 1}),
            delta(7, somethingNew={"a": 1}),
            *END,
        )
        assert reply.content == (
            Reasoning("let me", "sig"),
            Reasoning("", redacted=b"\0\1"),
            Text("ab"),
            ToolUse("b", "two", {"x": 1}, '{"x": 1}'),
            ToolUse("c", "no arguments", {}, ""),
            Image("png", b"\0\1"),
            ToolUse("d", "broken", None, '{"x": '),
        )

    def test_times_are_those_at_which_the_bytes_arrived(self) -> None:
        reply = read(BEGIN[0], b"", BEGIN[1][:20], BEGIN[1][20:], b"".join(END))
        assert reply.timing.ttft_ms == pytest.approx(400)
        assert reply.timing.max_gap_ms == pytest.approx(300)
        assert len(reply.timing.arrivals_ms) == len(reply.events)
        assert list(reply.timing.arrivals_ms) == sorted(reply.timing.arrivals_ms)
        assert reply.timing.total_ms == pytest.approx(1000)
        assert (reply.timing.server_ms, reply.usage) == (7, Usage(1, 2, 3))
        assert reply.complete
        assert reply.request_id == "r-1"
        assert reply.operation is Operation.STREAM

    def test_events_that_nobody_knows_are_passed_over(self) -> None:
        unnamed = replay.frame({":message-type": "event"}, b"\xff")
        reply = read(unnamed, *BEGIN, replay.event("somethingNew", {"a": 1}), *END)
        assert reply.events == (
            "messageStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("frame", "reason", "code"),
        [
            (
                replay.exception("throttlingException", "Too many tokens"),
                Reason.THROTTLED_TOKENS, "throttlingException",
            ),
            (
                replay.exception("modelStreamErrorException", "Oops"),
                Reason.STREAM_ERROR, "modelStreamErrorException",
            ),
            (replay.exception("newException", "Oops"), Reason.STREAM_ERROR, "newException"),
            (  # of other operations
                replay.exception("modelNotReadyException", "The model is not ready."),
                Reason.MODEL_NOT_READY, "modelNotReadyException",
            ),
            (replay.exception("newException", "Too many tokens"), Reason.THROTTLED_TOKENS,
             "newException"),
            (
                replay.event("serviceUnavailableException", {"message": "Try again."}),
                Reason.SERVICE_UNAVAILABLE, "serviceUnavailableException",
            ),
            (
                replay.frame(
                    {":message-type": "exception"},
                    b'{"__type": "com.amazon#ModelNotReadyException", "message": "Wait."}',
                ),
                Reason.MODEL_NOT_READY, "ModelNotReadyException",
            ),
            (
                replay.frame(
                    {
                        ":message-type": "error",
                        ":error-code": "InternalFailure",
                        ":error-message": "Oops",
                    },
                    b"",
                ),
                Reason.INTERNAL_ERROR, "InternalFailure",
            ),
            (
                replay.frame(
                    {":message-type": "exception", ":exception-type": "throttlingException"}, b"[]"
                ),
                Reason.THROTTLED_REQUESTS, "throttlingException",
            ),
            (replay.frame({}, b"{}"), Reason.STREAM_ERROR, ""),
            (delta(0), Reason.BAD_RESPONSE, ""),
            (delta(0, text="a", toolUse={"input": ""}), Reason.BAD_RESPONSE, ""),
            (delta("x", text="a"), Reason.BAD_RESPONSE, ""),  # type: ignore[arg-type]
            (
                replay.frame({":message-type": "event", ":event-type": "metadata"}, b"\xff"),
                Reason.BAD_RESPONSE, "",
            ),
        ],
    )  # fmt: skip
    def test_what_ends_a_stream_early_leaves_what_had_arrived(
        self, frame: bytes, reason: Reason, code: str
    ) -> None:
        reader = DIALECT.stream_reader(0.0, STREAM_TYPE)
        with pytest.raises(errors.BedrockError) as caught:
            reader.feed(b"".join([*BEGIN, frame, *END]), 1.0)
        assert (caught.value.reason, caught.value.code) == (reason, code)
        assert (caught.value.request_id, caught.value.http_status) == ("r-1", None)
        assert (reader.reply(1.0).text, reader.reply(1.0).complete) == ("Hi", False)

    def test_a_cut_at_any_byte_is_truncation(self) -> None:
        whole = b"".join([*BEGIN, *END])
        for cut in [*range(len(whole)), len(whole) + 5]:
            reader = DIALECT.stream_reader(0.0, STREAM_TYPE)
            reader.feed((whole + whole[:20])[:cut], 1.0)
            with pytest.raises(errors.StreamBroken) as caught:
                reader.end()
            assert caught.value.reason is Reason.STREAM_TRUNCATED
            assert caught.value.request_id == "r-1"

    def test_a_body_that_is_no_stream_says_at_its_end_what_it_is(self) -> None:
        reader = DIALECT.stream_reader(0.0, {"content-type": "text/html", "x-amzn-requestid": "r"})
        reader.feed(b"<html>", 1.0)
        with pytest.raises(errors.BedrockError) as caught:
            reader.end()
        assert (caught.value.reason, caught.value.request_id) == (Reason.BAD_RESPONSE, "r")


class TestEmbeddings:
    def test_a_request_is_the_vendors_own(self) -> None:
        wire = invoke.encode("amazon.titan-embed-text-v2:0", ("Hello",), 256)
        assert wire.path == "/model/amazon.titan-embed-text-v2%3A0/invoke"
        assert json.loads(wire.body) == {"inputText": "Hello", "dimensions": 256}

    def test_vectors_and_the_count_in_the_headers_are_read(self) -> None:
        headers = {"x-amzn-bedrock-input-token-count": "12"}
        batch = invoke.decode(answer({"embeddings": [[1, 2.5], [3, 4]]}, **headers), 2)
        assert batch == invoke.EmbeddedTexts(((1.0, 2.5), (3.0, 4.0)), 12, "r-1")

    @pytest.mark.parametrize(
        "body", [[], b"", b"\xff", {}, {"embedding": [1]}, {"embeddings": [[10**400], [1]]}]
    )
    def test_another_number_of_vectors_is_a_bad_response(self, body: Any) -> None:
        with pytest.raises(errors.BedrockError) as caught:
            invoke.decode(answer(body), 2)
        assert caught.value.reason is Reason.BAD_RESPONSE


# Recordings


def recordings(operation: str) -> list[Recorded]:
    listed = [i for i in replay.index() if i["op"] == operation and i["status"] == 200]
    return [replay.interactions(i["path"])[i["n"]] for i in listed]


@cache
def botocore_model(operation: str) -> Any:
    model = botocore.loaders.Loader().load_service_model("bedrock-runtime", "service-2")
    service = botocore.model.ServiceModel(model, "bedrock-runtime")
    return service.operation_model(operation).output_shape


needs_recordings = pytest.mark.skipif(
    not replay.index(), reason="the recordings are not beside this checkout"
)


@needs_recordings
def test_every_recorded_answer_is_read_as_botocore_reads_it() -> None:
    parser = botocore.parsers.create_parser("rest-json")
    recorded = recordings("Converse")
    assert len(recorded) > 20
    for one in recorded:
        parsed = parser.parse(
            {"status_code": 200, "headers": one.headers, "body": one.body},
            botocore_model("Converse"),
        )
        reply = DIALECT.decode(WireResponse(200, one.headers, one.body), Timing(5.0))
        assert replace(reply, request_id="") == reply_from(parsed, Timing(5.0))
        assert reply.request_id == one.request_id
        assert reply.content


@needs_recordings
def test_every_recorded_stream_is_read_as_botocore_reads_it() -> None:
    recorded = recordings("ConverseStream")
    assert len(recorded) > 10
    for one in recorded:
        buffer = EventStreamBuffer()
        buffer.add_data(one.body)
        expected = list(buffer)
        reader = DIALECT.stream_reader(0.0, one.headers)
        failed = expected[-1].headers.get(":exception-type")
        if failed:
            with pytest.raises(errors.BedrockError) as caught:
                reader.feed(one.body, 1.0)
            assert caught.value.code == failed
        else:
            check_stream(reader, one.body, [e.to_response_dict() for e in expected])


def check_stream(reader: StreamReader, body: bytes, expected: list[dict[str, Any]]) -> None:
    """The reader gets the events, texts and usage that botocore's parser gets."""
    parser = botocore.parsers.create_parser("rest-json")._event_stream_parser
    shape = botocore_model("ConverseStream").members["stream"]
    events = [parser.parse(raw, shape) for raw in expected]
    for n in range(0, len(body), 997):
        reader.feed(body[n : n + 997], 1.0)
    reader.end()
    reply = reader.reply(2.0)
    assert [list(event) for event in events] == [[name] for name in reply.events]
    deltas = [e["contentBlockDelta"]["delta"] for e in events if "contentBlockDelta" in e]
    assert reply.text == "".join(d.get("text", "") for d in deltas)
    assert "".join(u.raw_input for u in reply.tool_uses) == "".join(
        d.get("toolUse", {}).get("input", "") for d in deltas
    )
    assert reply.reasoning == "".join(d.get("reasoningContent", {}).get("text", "") for d in deltas)
    last = {name: body for event in events for name, body in event.items()}
    assert reply.stop_reason == last["messageStop"]["stopReason"]
    assert reply.usage is not None
    assert reply.usage.output_tokens == last["metadata"]["usage"]["outputTokens"]
    assert reply.timing.server_ms == last["metadata"]["metrics"]["latencyMs"]


@needs_recordings
def test_every_recorded_refusal_has_its_message_code_and_request_id() -> None:
    refused = [i for i in replay.index() if i["status"] >= 400]
    assert refused
    for i in refused:
        one = replay.interactions(i["path"])[i["n"]]
        error = errors.from_response(WireResponse(one.status, one.headers, one.body), "Converse")
        assert error.message == json.loads(one.body)["message"]
        assert (error.http_status, error.request_id) == (one.status, one.request_id)
        assert error.code == one.headers["x-amzn-errortype"].split(":")[0]
        assert error.reason is not Reason.UNKNOWN
