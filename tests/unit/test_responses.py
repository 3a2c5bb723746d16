"""The dialect Responses: requests, answers, streams, and the traps that Bedrock sets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from certification.bedrock.dialects.dialect import NotExpressible
from certification.bedrock.dialects.responses import Responses
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

DIALECT = Responses()
OSS = RouteTarget("openai.gpt-oss-120b", "on_demand", Endpoint.MANTLE, API.RESPONSES, "/v1")
GPT = replace(OSS, target_id="openai.gpt-5.6-luna", path_prefix="/openai/v1")
HELLO = Request((user("Hello"),), max_tokens=100)
TOOL = Tool("get", "Gets.", {"type": "object"})
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 16,
}


def body(request: Request, target: RouteTarget = OSS) -> dict[str, Any]:
    return json.loads(DIALECT.encode(request, target).body)


def message(*texts: str) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "role": "assistant", "status": "completed", "content": parts}


def thought(text: str = "", **more: Any) -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"type": "reasoning", "summary": [], "content": content, **more}


def function_call(name: str, arguments: str, call_id: str = "call_0") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def response(*output: Any, status: str = "completed", **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1", "object": "response", "created_at": 1784324967.0, "status": status,
        "error": None, "incomplete_details": None, "output": list(output), "usage": USAGE, **more,
    }  # fmt: skip


FAILED = response(
    status="failed",
    usage=None,
    error={
        "code": "server_error",
        "message": "The request timed out before the model produced a response.",
    },
)
REFUSAL = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}


def ev(kind: str, **members: Any) -> bytes:
    return event({"type": f"response.{kind}", **members}, f"response.{kind}")


def delta(text: str, item: int = 0, part: int = 0, kind: str = "output_text") -> bytes:
    return ev(f"{kind}.delta", output_index=item, content_index=part, delta=text)


def item_done(item: dict[str, Any], index: int = 0) -> bytes:
    return ev("output_item.done", output_index=index, item=item)


def item_added(item: dict[str, Any], index: int = 0) -> bytes:
    return ev("output_item.added", output_index=index, item=item)


CREATED = ev("created", response=response(status="in_progress", usage=None))
PROGRESS = ev("in_progress", response=response(status="in_progress", usage=None))


def completed(*output: Any, **more: Any) -> bytes:
    return ev("completed", response=response(*output, **more))


class TestRequest:
    def test_nothing_is_stored_and_there_is_always_a_cap(self) -> None:
        wire = DIALECT.encode(HELLO, GPT)
        assert (wire.method, wire.path) == ("POST", "/openai/v1/responses")
        assert wire.headers == {"content-type": "application/json"}
        assert json.loads(wire.body) == {
            "model": "openai.gpt-5.6-luna",
            "input": [{"role": "user", "content": "Hello"}],
            "max_output_tokens": 100,
            "store": False,
        }
        assert body(replace(HELLO, max_tokens=5))["max_output_tokens"] == 16
        assert body(replace(HELLO, max_tokens=0))["max_output_tokens"] == 0
        streamed = DIALECT.encode(replace(HELLO, operation=Operation.STREAM), OSS)
        assert streamed.path == "/v1/responses"
        assert streamed.headers["accept"] == "text/event-stream"
        assert json.loads(streamed.body)["stream"] is True

    def test_a_conversation_with_media_and_tools(self) -> None:
        request = Request(
            (
                user("What?", Image("png", b"\0\1"), Document("pdf", "report", b"%PDF")),
                assistant(Reasoning("hm"), "Wait.", ToolUse("call_0", "get", {"a": 1})),
                Message("user", (ToolResult("call_0", "one"),)),
                assistant(ToolUse("call_0", "get", {"a": 2})),
                Message("user", (ToolResult("call_0", "two"), Text("So?"))),
            ),
            max_tokens=100,
            system="Be kind.",
            tools=(TOOL,),
            tool_choice="get",
            output_schema={"type": "object"},
            thinking_effort="low",
        )
        sent = body(request, GPT)
        call = {"type": "function_call", "name": "get"}
        assert sent["input"] == [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What?"},
                    {
                        "type": "input_image",
                        "detail": "auto",
                        "image_url": "data:image/png;base64,AAE=",
                    },
                    {
                        "type": "input_file",
                        "filename": "report.pdf",
                        "file_data": "data:application/pdf;base64,JVBERg==",
                    },
                ],
            },
            {"role": "assistant", "content": "Wait."},
            {**call, "call_id": "call_0", "arguments": '{"a": 1}'},
            {"type": "function_call_output", "call_id": "call_0", "output": "one"},
            {**call, "call_id": "call_0_1", "arguments": '{"a": 2}'},
            {"type": "function_call_output", "call_id": "call_0_1", "output": "two"},
            {"role": "user", "content": "So?"},
        ]
        assert sent["instructions"] == "Be kind."
        assert sent["tools"] == [
            {
                "type": "function", "name": "get", "description": "Gets.",
                "parameters": {"type": "object"}, "strict": False,
            }
        ]  # fmt: skip
        assert sent["tool_choice"] == {"type": "function", "name": "get"}
        assert sent["reasoning"] == {"effort": "low", "summary": "auto"}
        schema = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}
        assert sent["text"] == {"format": schema | {"strict": False}}
        assert body(replace(request, tool_choice="any"), GPT)["tool_choice"] == "required"

    @pytest.mark.parametrize(
        ("request_", "target"),
        [
            (replace(HELLO, stop_sequences=("END",)), OSS),
            (replace(HELLO, tools=(TOOL,), tool_choice="any"), OSS),
            (replace(HELLO, tools=(TOOL,), tool_choice="get"), OSS),
            (replace(HELLO, temperature=0.0), GPT),
            (replace(HELLO, top_p=0.5), GPT),
            (Request((user("Hi"), assistant()), 100), GPT),
            (Request((assistant("Hi"), user("Hi")), 100), OSS),
            (Request((user("", "Hi"),), 100), OSS),
        ],
    )
    def test_what_cannot_be_said_is_a_sentence(
        self, request_: Request, target: RouteTarget
    ) -> None:
        with pytest.raises(NotExpressible, match=r"\w+ .*\.$"):
            body(request_, target)

    def test_open_models_take_tools_when_they_decide(self) -> None:
        assert body(replace(HELLO, tools=(TOOL,)))["tool_choice"] == "auto"


class TestAnswer:
    def test_items_are_known_by_their_type(self) -> None:
        reply = sse.decode(
            DIALECT,
            response(
                {"type": "somethingNew", "content": [{"type": "x", "text": "no"}]},
                thought("hm"),
                thought(summary=[{"type": "summary_text", "text": "sum"}]),
                thought(encrypted_content="xyz"),
                thought(),
                message("Hi", " you"),
                function_call("a", '{"x": 1}', "1"),
                function_call("b", "{", "2"),
            ),
        )
        assert reply.content == (
            Reasoning("hm"),
            Reasoning("sum"),
            Reasoning("", redacted=b"xyz"),
            Text("Hi"),
            Text(" you"),
            ToolUse("1", "a", {"x": 1}, '{"x": 1}'),
            ToolUse("2", "b", None, "{"),
        )
        assert reply.usage == Usage(9, 7, 16, 3, 2)
        assert (reply.stop_reason, reply.timing, reply.request_id) == (
            "tool_use",
            Timing(5.0),
            "r-1",
        )

    @pytest.mark.parametrize(
        ("answer", "reason", "text"),
        [
            (response(message("Hi")), "end_turn", "Hi"),
            (response(REFUSAL), "content_filtered", "No."),
            (
                response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
                "max_tokens", "",
            ),
            (
                response(status="incomplete", incomplete_details={"reason": "content_filter"}),
                "content_filtered", "",
            ),
            (response(message("a"), status="incomplete"), "max_tokens", "a"),
        ],
    )  # fmt: skip
    def test_what_ended_a_response_has_converses_name(
        self, answer: dict[str, Any], reason: str, text: str
    ) -> None:
        reply = sse.decode(DIALECT, answer)
        assert (reply.stop_reason, reply.text) == (reason, text)

    def test_a_failed_response_inside_a_200_is_an_error(self) -> None:
        error = sse.decode_error(DIALECT, FAILED)
        assert (error.reason, error.http_status) == (Reason.MODEL_TIMEOUT, 200)
        assert (error.code, error.request_id) == ("server_error", "r-1")
        bare = sse.decode_error(DIALECT, response(status="failed", usage=None))
        assert bare.reason is Reason.MODEL_ERROR

    @pytest.mark.parametrize(
        "body",
        [
            [], b"", {}, response(status="in_progress"), response(status="queued"),
            response(status=5), {"status": "completed", "output": 5}, response(5),
            response({"type": "message", "content": 5}), response(usage=5),
        ],
        ids=str,
    )  # fmt: skip
    def test_another_shape_is_a_bad_response(self, body: Any) -> None:
        assert sse.decode_error(DIALECT, body).reason is Reason.BAD_RESPONSE


class TestStream:
    def test_text_with_its_events_and_times(self) -> None:
        reply = sse.read(
            DIALECT, CREATED, PROGRESS, item_added({**message(), "status": "in_progress"}),
            ev("content_part.added", output_index=0, content_index=0, part={}),
            delta("Hi"), delta(" you"),
            ev("output_text.done", output_index=0, content_index=0, text="Hi you"),
            item_done(message("Hi you")), completed(message("Hi you")),
        )  # fmt: skip
        assert reply.events == (
            "messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop",
            "messageStop", "metadata",
        )  # fmt: skip
        assert (reply.text, reply.stop_reason, reply.complete) == ("Hi you", "end_turn", True)
        assert reply.usage == Usage(9, 7, 16, 3, 2)
        assert reply.timing.ttft_ms == pytest.approx(500)
        assert reply.timing.max_gap_ms == pytest.approx(400)
        assert reply.request_id == "r-1"

    def test_reasoning_text_and_tools_are_blocks_one_after_the_other(self) -> None:
        reply = sse.read(
            DIALECT, CREATED, item_added(thought()),
            delta("h", kind="reasoning_text"), delta("m", kind="reasoning_text"),
            item_done(thought("hm", encrypted_content="xyz")),
            delta("Text", 1), item_done(message("Text"), 1),
            item_added(function_call("a", ""), 2),
            delta('{"x": ', 2, kind="function_call_arguments"),
            delta("1}", 2, kind="function_call_arguments"),
            ev("function_call_arguments.done", output_index=2, arguments='{"x": 1}'),
            item_done(function_call("a", '{"x": 1}'), 2),
            completed(thought("hm"), message("Text"), function_call("a", '{"x": 1}')),
        )  # fmt: skip
        assert reply.content == (
            Reasoning("hm", redacted=b"xyz"),
            Text("Text"),
            ToolUse("call_0", "a", {"x": 1}, '{"x": 1}'),
        )
        letters = {"messageStart": "m", "contentBlockStart": "s", "contentBlockDelta": "d",
                   "contentBlockStop": "e", "messageStop": "M", "metadata": "U"}  # fmt: skip
        assert "".join(letters[name] for name in reply.events) == "mdddedesddeMU"
        assert reply.stop_reason == "tool_use"

    def test_data_lines_alone_are_enough(self) -> None:
        pieces = (CREATED, delta("Hi"), completed(message("Hi")))  # as gpt-oss sends them
        bare = [piece.partition(b"event:")[0] + b"\n" for piece in pieces]
        assert sse.read(DIALECT, *bare).text == "Hi"

    def test_what_no_delta_brought_is_taken_from_the_whole(self) -> None:
        items = [thought("hm"), message("Text"), function_call("a", "{}")]
        done = [item_done(item, index) for index, item in enumerate(items)]
        for pieces in (done, []):
            reply = sse.read(DIALECT, CREATED, *pieces, completed(*items))
            assert (reply.reasoning, reply.text) == ("hm", "Text")
            assert [(use.name, use.input) for use in reply.tool_uses] == [("a", {})]

    def test_deltas_that_are_not_the_whole_are_corruption(self) -> None:
        for last in (
            ev("output_text.done", output_index=0, content_index=0, text="Hi you"),
            item_done(message("Hi you")),
        ):
            error, partial = sse.failure(DIALECT, CREATED, delta("Hi "), last)
            assert (error.reason, partial.text) == (Reason.STREAM_CORRUPT, "Hi ")

    def test_an_incomplete_response_ends_a_stream_too(self) -> None:
        answer = response(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
        reply = sse.read(DIALECT, CREATED, ev("incomplete", response=answer))
        assert (reply.stop_reason, reply.text, reply.complete) == ("max_tokens", "", True)

    def test_a_refusal_is_text_with_its_own_stop_reason(self) -> None:
        reply = sse.read(DIALECT, CREATED, delta("No.", kind="refusal"), completed(REFUSAL))
        assert (reply.stop_reason, reply.text) == ("content_filtered", "No.")

    @pytest.mark.parametrize(
        ("piece", "reason"),
        [
            (ev("failed", response=FAILED), Reason.MODEL_TIMEOUT),
            (ev("failed", response=response(status="failed")), Reason.STREAM_ERROR),
            (event({"type": "error", "code": "rate_limit_exceeded", "message": "Slow"}),
             Reason.THROTTLED_REQUESTS),
            (event({"type": "error", "error": {"type": "server_error", "message": "Oops"}}),
             Reason.INTERNAL_ERROR),
            (event({"error": {"message": "Who knows"}}), Reason.STREAM_ERROR),
            (event("[DONE]"), Reason.STREAM_CORRUPT),
            (event(5), Reason.BAD_RESPONSE),
            (ev("completed", response=5), Reason.BAD_RESPONSE),
            (ev("completed"), Reason.BAD_RESPONSE),
            (b"", Reason.STREAM_TRUNCATED),
        ],
    )  # fmt: skip
    def test_whatever_ends_a_stream_early_keeps_what_had_arrived(
        self, piece: bytes, reason: Reason
    ) -> None:
        error, partial = sse.failure(DIALECT, CREATED + PROGRESS + delta("Hi") + piece)
        assert (error.reason, error.request_id) == (reason, "r-1")
        assert (partial.text, partial.complete) == ("Hi", False)

    def test_a_stream_that_stops_after_two_events_is_truncated(self) -> None:
        error, _partial = sse.failure(DIALECT, CREATED, PROGRESS)
        assert error.reason is Reason.STREAM_TRUNCATED

    def test_done_after_the_end_is_passed_over(self) -> None:
        assert sse.read(DIALECT, CREATED, completed(message("a")), event("[DONE]")).text == "a"


@sse.needs_recordings
def test_every_recorded_answer_is_read() -> None:
    recorded = [r for r in sse.recordings("Responses") if "body" in r["response"]]
    assert len(recorded) > 5
    for one in recorded:
        body = one["response"]["body"]
        if body["status"] == "failed":
            assert sse.decode_error(DIALECT, body).reason is Reason.MODEL_TIMEOUT
            continue
        reply = sse.decode(DIALECT, body)
        texts = [p["text"] for i in body["output"] for p in i.get("content") or ()]
        assert reply.reasoning + reply.text == "".join(texts)
        calls = [i for i in body["output"] if i["type"] == "function_call"]
        assert [(u.id, u.name, u.raw_input) for u in reply.tool_uses] == [
            (c["call_id"], c["name"], c["arguments"]) for c in calls
        ]
        assert reply.stop_reason == ("tool_use" if calls else "end_turn")
        assert reply.usage is not None
        assert reply.usage.total_tokens == body["usage"]["total_tokens"]


@sse.needs_recordings
def test_every_recorded_stream_is_read_whatever_the_pieces() -> None:
    recorded = [r for r in sse.recordings("Responses") if "sse" in r["response"]]
    assert len(recorded) == 2
    for one in recorded:
        raw = one["response"]["sse"].encode()
        replies = []
        for size in (1, 7, 1000, len(raw)):
            pieces = [raw[n : n + size] for n in range(0, len(raw), size)]
            reply = sse.read(DIALECT, *pieces)
            replies.append(replace(reply, timing=Timing(0.0)))
        assert all(reply == replies[0] for reply in replies)
        assert replies[0].complete
        assert replies[0].usage is not None
    first, second = (sse.read(DIALECT, r["response"]["sse"].encode()) for r in recorded)
    assert [(u.id, u.name, u.input) for u in first.tool_uses] == [("call_0", "first_tool", {})]
    assert second.text == "First tool result: `first result`\n\nSecond tool result: `second result`"
    assert second.events.count("contentBlockDelta") == 17  # 16 of text, one hidden thought
