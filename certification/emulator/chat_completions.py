"""The Chat Completions API, and InvokeModel for the families that share its bodies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from certification.emulator import dialect, refusals, sse
from certification.emulator.answers import ModelAnswer, ParsedRequest, as_streamed
from certification.emulator.body_schema import NUMBER, Shape
from certification.emulator.calls import STREAM_MESSAGES, Invocation, StreamFormat
from certification.emulator.dialect import ApiDialect, Dialect, Json
from certification.emulator.envelopes import openai_error
from certification.inference import Endpoint, Reasoning, ToolUse

FINISH_REASONS = {"max_tokens": "length", "tool_use": "tool_calls"}
ROLES = ("system", "developer", "user", "assistant", "tool", "function")


class ChatDialect(Dialect):
    """The OpenAI shape in InvokeModel, which most newer vendors share."""

    shape: Shape = {
        "messages": [dict], "max_tokens": int, "max_completion_tokens": int, "stop": (list, str),
        "tools": [{"function": {"name": str, "parameters": dict}}],
    }  # fmt: skip

    def parse(self, body: Json, invocation: Invocation) -> tuple[ParsedRequest, int]:
        texts = dialect.conversation(body)
        functions = [t.get("function") or {} for t in body.get("tools") or []]
        request = dialect.parsed(
            texts,
            body.get("max_completion_tokens", body.get("max_tokens")),
            body.get("stop"),
            system=texts[0][0] in ("system", "developer"),
            tools={str(f.get("name")): f.get("parameters") or {} for f in functions} or None,
        )
        return request, dialect.count_texts(texts, body.get("tools"))

    def write(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> dict[str, Any]:
        text, thought = split(answer, invocation)
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        if thought:
            message["reasoning"] = thought
        calls = [
            {
                "id": call_id(block),
                "type": "function",
                "function": {"name": block.name, "arguments": answer.raw_inputs.get(i, "{}")},
            }
            for i, block in enumerate(answer.blocks)
            if isinstance(block, ToolUse)
        ]
        if calls:
            message["tool_calls"] = calls
        reason = FINISH_REASONS.get(answer.stop_reason, "stop")
        choice = {"finish_reason": reason, "index": 0, "logprobs": None, "message": message}
        return {
            **head("chat.completion", invocation),
            "choices": [choice],
            "usage": usage(answer, prompt_tokens, invocation),
        }

    def events(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> Iterator[tuple[dict[str, Any], int]]:
        answer = as_streamed(answer, invocation.faults)
        common = head("chat.completion.chunk", invocation)
        dice = invocation.fingerprint

        def chunk(delta: Json, size: int = 0, reason: str | None = None) -> tuple[Any, int]:
            choice = {"delta": delta, "finish_reason": reason, "index": 0, "logprobs": None}
            return {**common, "choices": [choice]}, size

        text, thought = split(answer, invocation)
        yield chunk({"content": "", "role": "assistant"})
        for part, size in sse.deltas(thought, dice):
            yield chunk({"reasoning": part}, size)
        for part, size in sse.deltas(text, dice):
            yield chunk({"content": part}, size)
        position = 0
        for i, block in enumerate(answer.blocks):
            if not isinstance(block, ToolUse):
                continue
            function = {"name": block.name, "arguments": ""}
            start = {"index": position, "id": call_id(block), "type": "function"}
            yield chunk({"tool_calls": [{**start, "function": function}]})
            for part, size in sse.deltas(answer.raw_inputs.get(i, "{}"), dice):
                call = {"index": position, "function": {"arguments": part}}
                yield chunk({"tool_calls": [call]}, size)
            position += 1
        yield chunk({}, reason=FINISH_REASONS.get(answer.stop_reason, "stop"))


def head(kind: str, invocation: Invocation) -> dict[str, Any]:
    """Return the members that a whole answer and each chunk of a stream share."""
    return {
        "id": f"chatcmpl-{invocation.record.request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": invocation.call.called,
        "service_tier": "default",
    }


def split(answer: ModelAnswer, invocation: Invocation) -> tuple[str, str]:
    """Return the text and the thoughts of an answer, as this model shows them.

    GPT and Grok show no thoughts; gpt-oss writes them into the text on bedrock-runtime.
    """
    text = dialect.text_of(answer)
    thought = "".join(b.text for b in answer.blocks if isinstance(b, Reasoning))
    traits = invocation.target.traits
    if traits.hidden_reasoning or not thought:
        return text, ""
    if traits.gpt_oss and invocation.call.endpoint == Endpoint.RUNTIME:
        return f"<reasoning>{thought}</reasoning>{text}", ""
    return text, thought


def call_id(block: ToolUse) -> str:
    return "call_" + block.id.removeprefix("tooluse_")


def usage(answer: ModelAnswer, prompt_tokens: int, invocation: Invocation) -> dict[str, Any]:
    """Return the usage member. Models that hide their thoughts count them apart."""
    counts: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": prompt_tokens + answer.output_tokens,
    }
    if invocation.target.traits.hidden_reasoning:
        counts["prompt_tokens_details"] = {"cached_tokens": 0}
        counts["completion_tokens_details"] = {"reasoning_tokens": dialect.reasoning_tokens(answer)}
    return counts


def failure(name: str, invocation: Invocation, sent: int) -> bytes:
    """Return the event of a failure in the middle of a stream: a chunk with an `error` member."""
    refusal = refusals.stream_failure(name, STREAM_MESSAGES[name])
    return sse.data({"error": openai_error(refusal, refusal.status)})


class ChatCompletions(ChatDialect, ApiDialect):
    """The API of both endpoints, with what each family of models refuses."""

    format = StreamFormat(sse.CONTENT_TYPE, sse.corrupted, failure, ending=sse.DONE)
    shape: Shape = {
        "messages": [{"role": str, "tool_calls": [dict], "tool_call_id": str}],
        "max_tokens": int, "max_completion_tokens": int, "stop": (list, str),
        "temperature": NUMBER, "top_p": NUMBER, "n": int, "stream": bool,
        "stream_options": {"include_usage": bool}, "reasoning_effort": str, "service_tier": str,
        "tools": [{"type": str, "function": {"name": str, "parameters": dict}}],
        "tool_choice": (dict, str),
        "response_format": {"type": str, "json_schema": {"name": str, "schema": dict}},
    }  # fmt: skip

    def parse(self, body: Json, invocation: Invocation) -> tuple[ParsedRequest, int]:
        check_messages(body, invocation)
        check_parameters(body, invocation)
        check_tools(body, invocation)
        texts = [
            (message["role"], dialect.flatten(message.get("content")))
            for message in body["messages"]
        ]
        functions = [tool["function"] for tool in body.get("tools") or []]
        choice = body.get("tool_choice")
        if choice == "none":
            functions = []
        forced = "any" if choice == "required" else ""
        if isinstance(choice, dict):
            forced = str((choice.get("function") or {}).get("name", ""))
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        request = dialect.parsed(
            texts,
            limit or invocation.target.model.max_output_tokens,
            body.get("stop"),
            tools={f["name"]: f.get("parameters") or {} for f in functions} or None,
            tool_choice=forced,
            output_schema=output_schema(body, invocation),
            reasoning=invocation.target.reasons(body.get("reasoning_effort")),
            system=any(role in ("system", "developer") for role, _ in texts),
            streaming=bool(body.get("stream")),
        )
        images = str(body["messages"]).count("'image_url'")
        count = dialect.count_texts(texts, body.get("tools"))
        return request, count + dialect.IMAGE_TOKENS * images

    def events(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> Iterator[tuple[dict[str, Any], int]]:
        yield from super().events(answer, prompt_tokens, invocation)
        if (invocation.body.get("stream_options") or {}).get("include_usage"):
            counts = usage(answer, prompt_tokens, invocation)
            common = head("chat.completion.chunk", invocation)
            yield {**common, "choices": [], "usage": counts}, 0

    def encode(self, event: Json, invocation: Invocation) -> bytes:
        return sse.data(event)


def check_messages(body: Json, invocation: Invocation) -> None:
    """Refuse a conversation that the API or the model does not take."""
    messages = body.get("messages")
    if not messages:
        raise refusals.unsupported_value(
            "messages",
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an "
            "empty array with length 0 instead.",
        )
    called: set[str] = set()
    for i, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            supported = ", ".join(f"'{name}'" for name in ROLES)
            raise refusals.unsupported_value(
                f"messages[{i}].role", f"Invalid value: '{role}'. Supported values are: {supported}"
            )
        if role == "system" and "system" not in invocation.target.model.capabilities:
            raise refusals.invalid("This model doesn't support system messages.")
        called |= {str(call.get("id")) for call in message.get("tool_calls") or []}
        if role == "tool" and message.get("tool_call_id") not in called:
            raise refusals.unsupported_value(
                f"messages[{i}].role",
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding "
                "message with 'tool_calls'.",
            )
        dialect.check_content(message.get("content"), f"messages[{i}]", invocation)


def check_parameters(body: Json, invocation: Invocation) -> None:
    """Refuse parameters and values that the model does not take."""
    traits, model = invocation.target.traits, invocation.target.model
    cap = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    if cap == "max_tokens" and cap in body and traits.no_max_tokens:
        raise refusals.unsupported_parameter(cap, " Use 'max_completion_tokens' instead.")
    dialect.check_limit(body.get(cap), cap, 1, model.max_output_tokens)
    for name in traits.refused_chat_parameters:
        if name in body:
            raise refusals.unsupported_parameter(name)
    temperature = body.get("temperature", 1)
    if traits.default_temperature_only and temperature != 1:
        raise refusals.unsupported_value(
            "temperature",
            f"Unsupported value: 'temperature' does not support {temperature} with this model. "
            "Only the default (1) value is supported.",
        )
    dialect.check_range(body, "temperature", 2)
    dialect.check_range(body, "top_p", 1)
    dialect.check_effort(body.get("reasoning_effort"), "reasoning_effort", invocation)
    dialect.check_tier(body.get("service_tier"))
    if body.get("stop") and invocation.faults.no_stop_sequences:
        raise refusals.unsupported_parameter("stop")


def check_tools(body: Json, invocation: Invocation) -> None:
    """Refuse tools that the model does not take by this API."""
    tools = body.get("tools") or []
    if not tools:
        return
    target = invocation.target
    for i, tool in enumerate(tools):
        if tool.get("type", "function") != "function" or "name" not in tool.get("function", {}):
            raise refusals.unsupported_value(
                f"tools[{i}]", f"Invalid value for 'tools[{i}]': expected a function with a name."
            )
    if "tools" not in target.model.capabilities:
        raise dialect.tools_not_supported(invocation)
    # sending no effort means the default one
    if target.traits.tools_by_responses and body.get("reasoning_effort") != "none":
        raise refusals.unsupported_value(
            "reasoning_effort",
            "Function tools with reasoning_effort are not supported for "
            f"{invocation.call.called} in /v1/chat/completions. To use function tools, use "
            "/v1/responses or set reasoning_effort to 'none'.",
        )
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name") if choice else None
        if name not in [tool["function"]["name"] for tool in tools]:
            raise refusals.unsupported_value(
                "tool_choice", f"Invalid value: Tool choice '{name}' not found in 'tools'."
            )
    elif choice not in (None, "auto", "none", "required"):
        raise refusals.unsupported_value(
            "tool_choice",
            f"Invalid value: '{choice}'. Supported values are: 'none', 'auto', and 'required'.",
        )


def output_schema(body: Json, invocation: Invocation) -> Json | None:
    """Return the schema that the answer must follow. gpt-oss takes one and ignores it."""
    options = body.get("response_format") or {}
    if options.get("type") != "json_schema":
        return None
    traits = invocation.target.traits
    if traits.gpt_oss:
        return None
    if invocation.record.path.startswith("/v1/"):  # the families that share one engine
        raise refusals.invalid(
            "JSON-RPC error -32602: Job registration failed: Unsupported feature: Failed to set up "
            "structured output"
        )
    if not traits.structured_output:
        raise refusals.unsupported_parameter("response_format")
    return (options.get("json_schema") or {}).get("schema")
