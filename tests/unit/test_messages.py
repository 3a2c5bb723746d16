"""The dialect Messages: requests, answers, streams, and the traps that Bedrock sets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from certification.bedrock.dialects.dialect import NotExpressible
from certification.bedrock.dialects.messages import Messages
from certification.inference import (
    API,
    Document,
    Endpoint,
    Image,
    Message,
    Operation,
    Reasoning,
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
from tests import sse
from tests.sse import event

DIALECT = Messages()
SONNET = RouteTarget(
    "anthropic.claude-sonnet-5", "on_demand", Endpoint.MANTLE, API.MESSAGES, "/anthropic/v1"
)
HAIKU = replace(SONNET, target_id="anthropic.claude-haiku-4-5")
HELLO = Request((user("Hello"),), max_tokens=100)
TOOL = Tool("get", "Gets.", {"type": "object"})
USAGE = {
    "input_tokens": 9, "output_tokens": 7, "cache_read_input_tokens": 3,
    "cache_creation_input_tokens": 2, "service_tier": "standard",
}  # fmt: skip


def body(request: Request, target: RouteTarget = SONNET) -> dict[str, Any]:
    return json.loads(DIALECT.encode(request, target).body)


def message(*content: Any, stop: Any = "end_turn", **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_bdrk_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5",
        "content": list(content), "stop_reason": stop, "stop_sequence": None,
        "usage": USAGE, **more,
    }  # fmt: skip


def ev(kind: str, **members: Any) -> bytes:
    value = json.dumps({"type": kind, **members})
    return f"event: {kind}\ndata: {value}\n\n".encode()


def start(index: int, kind: str, **members: Any) -> bytes:
    return ev("content_block_start", index=index, content_block={"type": kind, **members})


def delta(index: int, kind: str, **members: Any) -> bytes:
    return ev("content_block_delta", index=index, delta={"type": kind, **members})


def stop(index: int) -> bytes:
    return ev("content_block_stop", index=index)


BEGIN = ev(
    "message_start", message=message(stop=None, usage={"input_tokens": 9, "output_tokens": 1})
)
TEXT = start(0, "text", text="") + delta(0, "text_delta", text="Hi")
END = ev("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7})
STOP = ev("message_stop")


class TestRequest:
    def test_a_plain_request(self) -> None:
        wire = DIALECT.encode(HELLO, SONNET)
        assert (wire.method, wire.path) == ("POST", "/anthropic/v1/messages")
        assert wire.headers == {
            "content-type": "application/json", "anthropic-version": "2023-06-01",
        }  # fmt: skip
        assert json.loads(wire.body) == {
            "model": "anthropic.claude-sonnet-5",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        }
        streamed = DIALECT.encode(replace(HELLO, operation=Operation.STREAM), SONNET)
        assert streamed.headers["accept"] == "text/event-stream"
        assert json.loads(streamed.body)["stream"] is True

    def test_a_conversation_with_media_thoughts_and_tools(self) -> None:
        request = Request(
            (
                user(
                    Image("jpg", b"\0"), Document("pdf", "a", b"%PDF"),
                    Document("txt", "b", "olá".encode()),
                ),
                assistant(
                    Reasoning("hm", "sig"), Reasoning("", redacted=b"xyz"),
                    ToolUse("1", "get", {"a": 1}), ToolUse("2", "get", None, "{"),
                ),
                Message("user", (ToolResult("1", "ok"), ToolResult("2", "no", True))),
            ),
            max_tokens=100,
            system="Be kind.",
            stop_sequences=("END",),
            tools=(TOOL,),
            tool_choice="get",
            output_schema={"type": "object"},
            thinking_effort="low",
        )  # fmt: skip
        sent = body(request)
        jpeg = {"type": "base64", "media_type": "image/jpeg", "data": "AA=="}
        pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}
        plain = {"type": "text", "media_type": "text/plain", "data": "olá"}
        assert [m["content"] for m in sent["messages"]] == [
            [
                {"type": "image", "source": jpeg},
                {"type": "document", "title": "a", "source": pdf},
                {"type": "document", "title": "b", "source": plain},
            ],
            [
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "redacted_thinking", "data": "xyz"},
                {"type": "tool_use", "id": "1", "name": "get", "input": {"a": 1}},
                {"type": "tool_use", "id": "2", "name": "get", "input": {}},
            ],
            [
                {"type": "tool_result", "tool_use_id": "1", "content": "ok", "is_error": False},
                {"type": "tool_result", "tool_use_id": "2", "content": "no", "is_error": True},
            ],
        ]
        tool = {"name": "get", "description": "Gets.", "input_schema": {"type": "object"}}
        assert (sent["system"], sent["stop_sequences"]) == ("Be kind.", ["END"])
        assert (sent["tools"], sent["tool_choice"]) == ([tool], {"type": "tool", "name": "get"})
        assert sent["thinking"] == {"type": "adaptive", "display": "summarized"}
        schema = {"type": "json_schema", "schema": {"type": "object"}}
        assert sent["output_config"] == {"effort": "low", "format": schema}
        assert body(replace(request, tool_choice="any"))["tool_choice"] == {"type": "any"}
        assert body(replace(request, tool_choice=""))["tool_choice"] == {"type": "auto"}

    def test_a_budget_of_thinking_goes_to_models_that_take_one(self) -> None:
        request = replace(HELLO, thinking_tokens=1024, temperature=0.5)
        sent = body(request, HAIKU)
        assert sent["thinking"] == {"type": "enabled", "budget_tokens": 1024}
        assert "temperature" not in sent

    @pytest.mark.parametrize(
        ("request_", "target"),
        [
            (replace(HELLO, temperature=0.0), SONNET),
            (replace(HELLO, top_p=0.5), SONNET),
            (replace(HELLO, thinking_tokens=1024), SONNET),
            (replace(HELLO, thinking_effort="low"), HAIKU),
            (replace(HELLO, temperature=0.0, top_p=0.5), HAIKU),
            (Request((user(Document("docx", "a", b"")),), 10), SONNET),
        ],
    )
    def test_what_cannot_be_said_is_a_sentence(
        self, request_: Request, target: RouteTarget
    ) -> None:
        with pytest.raises(NotExpressible, match=r"\w+ .*\.$"):
            body(request_, target)

    def test_one_of_the_samplings_goes_to_haiku(self) -> None:
        assert body(replace(HELLO, temperature=0.0), HAIKU)["temperature"] == 0
        assert body(replace(HELLO, top_p=0.5), HAIKU)["top_p"] == 0.5


class TestAnswer:
    def test_everything_in_an_answer_is_read(self) -> None:
        reply = sse.decode(
            DIALECT,
            message(
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "redacted_thinking", "data": "xyz"},
                {"type": "somethingNew", "text": "no"},
                {"type": "text", "text": "Hi"},
                {"type": "tool_use", "id": "1", "name": "get", "input": {"a": 1}},
                stop="tool_use",
            ),
        )
        assert reply.content == (
            Reasoning("hm", "sig"), Reasoning("", redacted=b"xyz"), Text("Hi"),
            ToolUse("1", "get", {"a": 1}),
        )  # fmt: skip
        assert reply.usage == Usage(9, 7, 21, 3, 2)
        assert (reply.stop_reason, reply.timing, reply.request_id) == (
            "tool_use",
            Timing(5.0),
            "r-1",
        )

    @pytest.mark.parametrize(
        ("reason", "name"),
        [
            ("end_turn", "end_turn"), ("max_tokens", "max_tokens"),
            ("stop_sequence", "stop_sequence"), ("refusal", "content_filtered"),
            ("model_context_window_exceeded", "model_context_window_exceeded"),
        ],
    )  # fmt: skip
    def test_stop_reasons_have_converses_names(self, reason: str, name: str) -> None:
        assert sse.decode(DIALECT, message(stop=reason)).stop_reason == name

    def test_a_guardrail_says_that_it_acted(self) -> None:
        acted = {"amazon-bedrock-guardrailAction": "INTERVENED"}
        assert sse.decode(DIALECT, message(**acted)).stop_reason == "guardrail_intervened"

    @pytest.mark.parametrize(
        "body",
        [
            [], b"", {}, message(stop=None), message(stop=5), message(content=5),
            message(content=None), message(5), message(usage=5),
        ],
        ids=str,
    )  # fmt: skip
    def test_another_shape_is_a_bad_response(self, body: Any) -> None:
        assert sse.decode_error(DIALECT, body).reason is Reason.BAD_RESPONSE

    def test_an_error_inside_a_200_is_one(self) -> None:
        body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        assert sse.decode_error(DIALECT, body).reason is Reason.SERVICE_UNAVAILABLE


class TestStream:
    def test_text_with_its_events_and_times(self) -> None:
        reply = sse.read(
            DIALECT, BEGIN, ev("ping"), start(0, "text", text=""),
            delta(0, "text_delta", text="Hi"), delta(0, "text_delta", text=" you"), stop(0), END,
            STOP,
        )  # fmt: skip
        assert reply.events == (
            "messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop",
            "messageStop", "metadata",
        )  # fmt: skip
        assert (reply.text, reply.stop_reason, reply.complete) == ("Hi you", "end_turn", True)
        assert reply.usage == Usage(9, 7, 16)
        assert reply.timing.ttft_ms == pytest.approx(400)
        assert reply.timing.max_gap_ms == pytest.approx(300)
        assert reply.request_id == "r-1"

    def test_blocks_of_every_kind(self) -> None:
        reply = sse.read(
            DIALECT, BEGIN,
            start(0, "thinking", thinking="", signature=""),
            delta(0, "thinking_delta", thinking="hm"),
            delta(0, "signature_delta", signature="sig"), stop(0),
            start(1, "redacted_thinking", data="xyz"), stop(1),
            start(2, "somethingNew"), delta(2, "new_delta", text="no"), stop(2),
            start(3, "text", text="Hi"), delta(3, "text_delta", text=" you"), stop(3),
            start(4, "tool_use", id="1", name="a", input={}),
            delta(4, "input_json_delta", partial_json=""),
            delta(4, "input_json_delta", partial_json='{"x": 1}'), stop(4),
            start(5, "tool_use", id="2", name="b", input={}), stop(5),
            ev("message_delta", delta={"stop_reason": "tool_use"},
               usage={"output_tokens": 7, "input_tokens": None}),
            STOP,
        )  # fmt: skip
        assert reply.content == (
            Reasoning("hm", "sig"), Reasoning("", redacted=b"xyz"), Text("Hi you"),
            ToolUse("1", "a", {"x": 1}, '{"x": 1}'), ToolUse("2", "b", {}, ""),
        )  # fmt: skip
        letters = {"messageStart": "m", "contentBlockStart": "s", "contentBlockDelta": "d",
                   "contentBlockStop": "e", "messageStop": "M", "metadata": "U"}  # fmt: skip
        assert "".join(letters[name] for name in reply.events) == "mddededdesdeseMU"
        assert (reply.stop_reason, reply.usage) == ("tool_use", Usage(9, 7, 16))

    @pytest.mark.parametrize(
        ("piece", "reason"),
        [
            (ev("error", error={"type": "overloaded_error", "message": "Overloaded"}),
             Reason.SERVICE_UNAVAILABLE),
            (ev("error", error={"type": "new_error", "message": "Who knows"}),
             Reason.STREAM_ERROR),
            (event("[DONE]"), Reason.STREAM_CORRUPT),
            (event([]), Reason.BAD_RESPONSE),
            (ev("content_block_delta", index="x"), Reason.BAD_RESPONSE),
            (END, Reason.STREAM_TRUNCATED),
            (STOP, Reason.STREAM_TRUNCATED),
            (b"", Reason.STREAM_TRUNCATED),
        ],
    )  # fmt: skip
    def test_whatever_ends_a_stream_early_keeps_what_had_arrived(
        self, piece: bytes, reason: Reason
    ) -> None:
        error, partial = sse.failure(DIALECT, BEGIN + TEXT + piece)
        assert (error.reason, error.request_id) == (reason, "r-1")
        assert (partial.text, partial.complete) == ("Hi", False)


@sse.needs_recordings
def test_every_recorded_answer_is_read() -> None:
    recorded = sse.recordings("Messages")
    assert recorded
    for one in recorded:
        body = one["response"]["body"]
        reply = sse.decode(DIALECT, body)
        assert reply.text == "".join(b["text"] for b in body["content"] if b["type"] == "text")
        assert reply.stop_reason == body["stop_reason"]
        assert reply.usage is not None
        assert reply.usage.output_tokens == body["usage"]["output_tokens"]
