"""The dialect Chat Completions: requests, answers, streams, and the traps that Bedrock sets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from certification.bedrock.dialects.chat_completions import ChatCompletions
from certification.bedrock.dialects.dialect import NotExpressible
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

DIALECT = ChatCompletions()
MANTLE = RouteTarget("qwen.qwen3-32b", "on_demand", Endpoint.MANTLE, API.CHAT_COMPLETIONS, "/v1")
GPT = replace(MANTLE, target_id="us.openai.gpt-5.6-sol", path_prefix="/openai/v1")
HELLO = Request((user("Hello"),), max_tokens=10)
TOOL = Tool("get", "Gets.", {"type": "object"})
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def body(request: Request, target: RouteTarget = MANTLE) -> dict[str, Any]:
    return json.loads(DIALECT.encode(request, target).body)


def completion(finish: str | None = "stop", answer_id: str = "c", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    return {"id": answer_id, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def chunk(finish: str | None = None, answer_id: str = "c", **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"id": answer_id, "object": "chat.completion.chunk", "choices": [choice]})


def call(index: int, arguments: str, **more: Any) -> bytes:
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    return chunk(tool_calls=[{"index": index, "function": function, **more}])


FIRST = chunk(role="assistant", content="")
COUNTED = event({"id": "c", "choices": [], "usage": USAGE})
DONE = event("[DONE]")


class TestRequest:
    def test_a_plain_request(self) -> None:
        wire = DIALECT.encode(HELLO, MANTLE)
        assert (wire.method, wire.path) == ("POST", "/v1/chat/completions")
        assert wire.headers == {"content-type": "application/json"}
        assert json.loads(wire.body) == {
            "model": "qwen.qwen3-32b",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 10,
        }

    @pytest.mark.parametrize(
        "messages",
        [
            (user("Hi"), assistant()),
            (assistant("Hi"), user("Hi")),
            (user("", "Hi"),),
        ],
    )
    def test_what_only_converse_refuses_is_not_said(self, messages: tuple[Message, ...]) -> None:
        with pytest.raises(NotExpressible, match="Chat Completions allows"):
            body(Request(messages, 10))

    def test_a_stream_asks_for_the_usage(self) -> None:
        wire = DIALECT.encode(replace(HELLO, operation=Operation.STREAM), GPT)
        sent = json.loads(wire.body)
        assert wire.path == "/openai/v1/chat/completions"
        assert wire.headers["accept"] == "text/event-stream"
        assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})

    def test_newer_models_have_another_name_for_the_cap(self) -> None:
        for model in ("us.openai.gpt-5.6-sol", "openai.gpt-6-luna", "google.gemma-4-31b"):
            sent = body(HELLO, replace(MANTLE, target_id=model))
            assert sent["max_completion_tokens"] == 10
            assert "max_tokens" not in sent
        assert body(HELLO, replace(MANTLE, target_id="openai.gpt-oss-120b"))["max_tokens"] == 10

    def test_a_conversation_with_tools_and_an_image(self) -> None:
        request = Request(
            (
                user("What?", Image("jpg", b"\0\1")),
                assistant(Reasoning("hm"), "Wait.", ToolUse("1", "get", {"a": 1})),
                Message("user", (ToolResult("1", "ok"), ToolResult("2", "no", True), Text("So?"))),
                assistant(ToolUse("3", "get", None, '{"a": ')),
            ),
            max_tokens=10,
            system="Be kind.",
            tools=(TOOL,),
            tool_choice="get",
            temperature=0.5,
            top_p=0.9,
            stop_sequences=("END",),
        )
        sent = body(request)
        function = {"name": "get", "arguments": '{"a": 1}'}
        broken = {"name": "get", "arguments": '{"a": '}
        assert sent["messages"] == [
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What?"},
                    {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAE="}},
                ],
            },
            {
                "role": "assistant",
                "content": "Wait.",
                "tool_calls": [{"id": "1", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "ok"},
            {"role": "tool", "tool_call_id": "2", "content": "no"},
            {"role": "user", "content": "So?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "3", "type": "function", "function": broken}],
            },
        ]
        parameters = {"name": "get", "description": "Gets.", "parameters": {"type": "object"}}
        assert sent["tools"] == [{"type": "function", "function": parameters}]
        assert sent["tool_choice"] == {"type": "function", "function": {"name": "get"}}
        assert (sent["temperature"], sent["top_p"], sent["stop"]) == (0.5, 0.9, ["END"])
        assert body(replace(request, tool_choice="any"))["tool_choice"] == "required"
        assert body(replace(request, tool_choice=""))["tool_choice"] == "auto"

    @pytest.mark.parametrize(
        ("schema", "strict"),
        [
            ({"type": "object", "properties": {"a": {"type": "string"}}}, False),
            (
                {
                    "type": "object", "properties": {"a": {}}, "required": ["a"],
                    "additionalProperties": False,
                },
                True,
            ),
        ],
    )  # fmt: skip
    def test_structured_output_is_strict_where_the_schema_can_be(
        self, schema: dict[str, Any], strict: bool
    ) -> None:
        sent = body(replace(HELLO, output_schema=schema))["response_format"]
        expected = {"name": "answer", "schema": schema, "strict": strict}
        assert sent == {"type": "json_schema", "json_schema": expected}

    def test_gpt_takes_tools_only_with_the_effort_none_which_must_be_sent(self) -> None:
        sent = body(replace(HELLO, tools=(TOOL,)), GPT)
        assert sent["reasoning_effort"] == "none"
        assert "reasoning_effort" not in body(HELLO, GPT)
        with pytest.raises(NotExpressible, match="only without reasoning"):
            body(replace(HELLO, tools=(TOOL,), thinking_effort="high"), GPT)

    @pytest.mark.parametrize(
        ("target_id", "options", "effort"),
        [
            ("us.openai.gpt-5.6-sol", {"thinking_effort": "high"}, "high"),
            ("openai.gpt-oss-120b-1:0", {"thinking_tokens": 1024}, "low"),
            ("us.xai.grok-4.6", {"thinking_tokens": 8192}, "medium"),
            ("qwen.qwen3-32b", {"thinking_effort": "high"}, None),
            ("us.openai.gpt-5.6-sol", {}, None),
        ],
    )
    def test_effort_goes_to_models_that_take_one(
        self, target_id: str, options: dict[str, Any], effort: str | None
    ) -> None:
        sent = body(replace(HELLO, **options), replace(GPT, target_id=target_id))
        assert sent.get("reasoning_effort") == effort

    @pytest.mark.parametrize(
        "request_",
        [
            replace(HELLO, temperature=0.0),
            replace(HELLO, top_p=0.9),
            replace(HELLO, stop_sequences=("END",)),
            Request((user(Document("pdf", "a", b"%PDF")),), 10),
        ],
    )
    def test_what_cannot_be_said_is_a_sentence(self, request_: Request) -> None:
        with pytest.raises(NotExpressible, match=r"takes no|not take|not support"):
            body(request_, GPT)
        assert body(replace(HELLO, temperature=1.0), GPT)["temperature"] == 1


class TestAnswer:
    @pytest.mark.parametrize(
        ("finish", "message", "reason"),
        [
            ("stop", {"content": "a"}, "end_turn"),
            ("length", {"content": None}, "max_tokens"),
            ("content_filter", {"content": ""}, "content_filtered"),
            ("tool_calls", {"content": None}, "tool_use"),
            ("stop", {"tool_calls": [{"function": {}}]}, "tool_use"),  # a forced tool
            ("stop", {"refusal": "No."}, "content_filtered"),
            ("new_reason", {"content": "a"}, "new_reason"),
        ],
    )
    def test_finish_reasons_have_converses_names(
        self, finish: str, message: dict[str, Any], reason: str
    ) -> None:
        assert sse.decode(DIALECT, completion(finish, **message)).stop_reason == reason

    def test_vllm_names_the_sequence_that_stopped_it(self) -> None:
        body = completion(content="a")
        body["choices"][0]["stop_reason"] = "END"
        assert sse.decode(DIALECT, body).stop_reason == "stop_sequence"

    def test_everything_in_an_answer_is_read(self) -> None:
        tools = [
            {"id": "1", "type": "function", "function": {"name": "a", "arguments": '{"x": 1}'}},
            {"id": "2", "type": "function", "function": {"name": "b", "arguments": '{"x": '}},
            {"id": "3", "type": "function", "function": {"name": "c", "arguments": ""}},
            {"id": "4", "type": "function", "function": {"name": "d", "arguments": {"y": 2}}},
        ]
        body = completion("tool_calls", content="Text", reasoning="hm", tool_calls=tools)
        body["usage"] |= {"prompt_tokens_details": {"cached_tokens": 3}}
        reply = sse.decode(DIALECT, body)
        assert reply.content == (
            Reasoning("hm"),
            Text("Text"),
            ToolUse("1", "a", {"x": 1}, '{"x": 1}'),
            ToolUse("2", "b", None, '{"x": '),
            ToolUse("3", "c", {}, ""),
            ToolUse("4", "d", {"y": 2}, '{"y": 2}'),
        )
        assert reply.usage == Usage(5, 7, 12, cache_read_tokens=3)
        assert (reply.timing, reply.request_id) == (Timing(5.0), "r-1")
        assert (reply.operation, reply.complete, reply.events) == (Operation.CONVERSE, True, ())

    def test_reasoning_comes_by_three_ways(self) -> None:
        tagged = "<reasoning>hm</reasoning>Text <reasoning>"
        for message in (
            {"reasoning": "hm", "content": "Text <reasoning>"},
            {"reasoning_content": "hm", "content": [{"type": "text", "text": "Text <reasoning>"}]},
            {"content": tagged},
        ):
            reply = sse.decode(DIALECT, completion(**message))
            assert (reply.reasoning, reply.text) == ("hm", "Text <reasoning>")

    def test_reasoning_that_spent_the_budget_leaves_no_text(self) -> None:
        reply = sse.decode(DIALECT, completion("length", content="<reasoning>hm, let me"))
        assert (reply.reasoning, reply.text, reply.stop_reason) == ("hm, let me", "", "max_tokens")

    def test_a_guardrails_answer_is_known_by_its_id(self) -> None:
        body = completion(answer_id="bedrock-guardrails-1", content="Blocked.")
        reply = sse.decode(DIALECT, body)
        assert (reply.text, reply.stop_reason) == ("Blocked.", "guardrail_intervened")

    @pytest.mark.parametrize(
        "body",
        [
            [], b"", {}, {"choices": []}, {"choices": 5}, {"choices": [{}]},
            {"choices": [{"message": {"content": "a"}}]}, completion(None, content="a"),
            completion(content=5), completion(tool_calls=[5]), completion(tool_calls={"a": 1}),
        ],
        ids=str,
    )  # fmt: skip
    def test_another_shape_is_a_bad_response(self, body: Any) -> None:
        assert sse.decode_error(DIALECT, body).reason is Reason.BAD_RESPONSE

    def test_an_unknown_path_is_a_wrong_route_inside_a_200(self) -> None:
        unknown = {"__type": "com.amazon.coral.service#UnknownOperationException"}
        error = sse.decode_error(DIALECT, {"Output": unknown, "Version": "1.0"})
        assert (error.reason, error.http_status) == (Reason.WRONG_ROUTE, 200)

    def test_an_error_inside_a_200_is_one(self) -> None:
        error = sse.decode_error(DIALECT, {"error": {"message": "Oops", "code": "server_error"}})
        assert (error.message, error.reason) == ("Oops", Reason.INTERNAL_ERROR)


class TestStream:
    def test_text_with_its_events_and_times(self) -> None:
        reply = sse.read(
            DIALECT, FIRST, chunk(content="Hi"), b": ping\n\n", chunk(content=" you"),
            chunk("stop"), COUNTED, DONE,
        )  # fmt: skip
        assert reply.events == (
            "messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop",
            "messageStop", "metadata",
        )  # fmt: skip
        assert (reply.text, reply.stop_reason) == ("Hi you", "end_turn")
        assert reply.usage == Usage(5, 7, 12)
        assert reply.timing.ttft_ms == pytest.approx(200)  # not at the empty first chunk
        assert reply.timing.max_gap_ms == pytest.approx(200)
        assert reply.timing.total_ms == pytest.approx(10_000)
        assert (reply.complete, reply.request_id) == (True, "r-1")
        assert reply.operation is Operation.STREAM

    def test_reasoning_text_and_tools_are_blocks_one_after_the_other(self) -> None:
        reply = sse.read(
            DIALECT, FIRST, chunk(reasoning="h"), chunk(reasoning_content="m"),
            chunk(content="Text"), call(0, "", id="1", name="a"), call(0, '{"x": '),
            call(0, "1}"), call(1, '{"y": ', id="2", name="b"), chunk("tool_calls"), COUNTED, DONE,
        )  # fmt: skip
        assert reply.content == (
            Reasoning("hm"),
            Text("Text"),
            ToolUse("1", "a", {"x": 1}, '{"x": 1}'),
            ToolUse("2", "b", None, '{"y": '),
        )
        letters = {"messageStart": "m", "contentBlockStart": "s", "contentBlockDelta": "d",
                   "contentBlockStop": "e", "messageStop": "M", "metadata": "U"}  # fmt: skip
        assert "".join(letters[name] for name in reply.events) == "mddedesddesdeMU"
        assert reply.stop_reason == "tool_use"

    def test_calls_that_share_a_place_are_told_apart_by_their_ids(self) -> None:
        reply = sse.read(
            DIALECT, FIRST, call(0, "{}", id="1", name="a"), call(0, "{}", id="2", name="b"),
            chunk("stop"), COUNTED, DONE,
        )  # fmt: skip
        assert [(use.id, use.input) for use in reply.tool_uses] == [("1", {}), ("2", {})]
        assert reply.stop_reason == "tool_use"

    def test_tags_of_reasoning_may_be_cut_anywhere(self) -> None:
        content = "<reasoning>h<m</reasoning>\nA <b> c"
        for size in range(1, len(content)):
            pieces = [content[n : n + size] for n in range(0, len(content), size)]
            reply = sse.read(
                DIALECT, FIRST, *(chunk(content=p) for p in pieces), chunk("stop"), COUNTED, DONE
            )
            assert (reply.reasoning, reply.text) == ("h<m", "\nA <b> c")

    def test_text_that_only_began_like_a_tag_is_text(self) -> None:
        for text in ("<rea", "<b>", "  <reasonin"):
            reply = sse.read(DIALECT, chunk(content=text), chunk("stop"), COUNTED, DONE)
            assert (reply.text, reply.reasoning) == (text, "")

    def test_usage_may_come_with_every_chunk_or_not_at_all(self) -> None:
        both = {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}], "usage": USAGE}
        reply = sse.read(DIALECT, event(both), DONE)
        assert reply.events[-2:] == ("messageStop", "metadata")
        reply = sse.read(DIALECT, chunk("stop", content="a"), DONE)
        assert (reply.complete, reply.usage, reply.events[-1]) == (True, None, "messageStop")

    def test_a_guardrails_answer_is_known_by_its_id(self) -> None:
        reply = sse.read(
            DIALECT, chunk(answer_id="bedrock-guardrails-1", content="No."),
            chunk("stop", "bedrock-guardrails-1"), DONE,
        )  # fmt: skip
        assert reply.stop_reason == "guardrail_intervened"

    @pytest.mark.parametrize(
        "pieces",
        [
            (), (FIRST,), (FIRST, chunk(content="a")), (FIRST, chunk("stop"), COUNTED),
            (FIRST, DONE), (FIRST, chunk(content="a"), b'data: {"choi'),
        ],
    )  # fmt: skip
    def test_a_stream_without_its_end_is_truncated(self, pieces: tuple[bytes, ...]) -> None:
        error, partial = sse.failure(DIALECT, *pieces)
        assert (error.reason, error.request_id) == (Reason.STREAM_TRUNCATED, "r-1")
        assert not partial.complete

    @pytest.mark.parametrize(
        ("piece", "reason"),
        [
            (event({"error": {"message": "Too many tokens, wait", "code": 429}}),
             Reason.THROTTLED_TOKENS),
            (event({"error": {"message": "Oops", "type": "server_error"}}), Reason.INTERNAL_ERROR),
            (event({"error": {"message": "Who knows"}}), Reason.STREAM_ERROR),
            (event({"message": "Who knows"}), Reason.STREAM_ERROR),
            (event("{"), Reason.STREAM_CORRUPT),
            (event([]), Reason.BAD_RESPONSE),
            (event({"choices": 5}), Reason.BAD_RESPONSE),
        ],
    )  # fmt: skip
    def test_an_error_in_the_middle_keeps_what_had_arrived(
        self, piece: bytes, reason: Reason
    ) -> None:
        error, partial = sse.failure(DIALECT, FIRST + chunk(content="Hi") + piece + DONE)
        assert (error.reason, error.request_id) == (reason, "r-1")
        assert (partial.text, partial.complete) == ("Hi", False)

    def test_json_instead_of_a_stream_is_read_at_its_end(self) -> None:
        reader = DIALECT.stream_reader(0.0, {"content-type": "application/json"})
        unknown = {"__type": "com.amazon.coral.service#UnknownOperationException"}
        reader.feed(json.dumps({"Output": unknown}).encode(), 1.0)
        with pytest.raises(Exception, match="wrong_route"):
            reader.end()


@sse.needs_recordings
def test_every_recorded_answer_is_read() -> None:
    recorded = [r for r in sse.recordings("ChatCompletions") if "choices" in r["response"]["body"]]
    assert recorded
    for one in recorded:
        body = one["response"]["body"]
        reply = sse.decode(DIALECT, body)
        message = body["choices"][0]["message"]
        assert reply.text == message["content"]
        assert reply.reasoning == message.get("reasoning", "")
        assert reply.stop_reason == "end_turn"
        assert reply.usage is not None
        assert reply.usage.output_tokens == body["usage"]["completion_tokens"]
        assert reply.usage.total_tokens == body["usage"]["total_tokens"]


@sse.needs_recordings
def test_the_quoted_wrong_path_of_the_runtime_is_a_wrong_route() -> None:
    (one,) = [r for r in sse.recordings("ChatCompletions") if "Output" in r["response"]["body"]]
    assert sse.decode_error(DIALECT, one["response"]["body"]).reason is Reason.WRONG_ROUTE
