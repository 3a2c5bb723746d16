"""Chat Completions, OpenAI's older API, which both endpoints speak for most models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from certification.bedrock import errors
from certification.bedrock.dialects import openai, payload, shape
from certification.bedrock.dialects.dialect import (
    JSON_HEADERS,
    NotExpressible,
    StreamReader,
    WireRequest,
    WireResponse,
)
from certification.bedrock.dialects.media import image_url
from certification.bedrock.dialects.quirks import Quirks, quirks_of
from certification.bedrock.dialects.reasoning_tags import TagSplitter
from certification.bedrock.dialects.reply_builder import arguments_from
from certification.bedrock.dialects.sse_stream import STREAM_HEADERS, SseStreamReader, is_stream
from certification.inference import (
    Block,
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
    ToolResult,
    ToolUse,
    Usage,
)

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "content_filtered",
}
GUARDRAIL_ID = "bedrock-guardrails-"  # the id of an answer that is a guardrail's own


class ChatCompletions:
    """The dialect; see `dialect.Dialect`."""

    def encode(
        self, request: Request, target: RouteTarget, quirks: Quirks | None = None
    ) -> WireRequest:
        body = body_of(request, target.target_id, quirks or quirks_of(target.target_id))
        streams = request.operation is Operation.STREAM
        return WireRequest(
            f"{target.path_prefix}/chat/completions",
            json.dumps(body).encode(),
            headers=STREAM_HEADERS if streams else JSON_HEADERS,
        )

    def decode(self, response: WireResponse, timing: Timing) -> Reply:
        answer = payload.object_of(response, Operation.CONVERSE)
        with payload.checked(response, Operation.CONVERSE):
            choices = shape.items(answer, "choices")
            message = choices[0].get("message") if choices else None
            if not isinstance(message, Mapping) or not shape.text(choices[0], "finish_reason"):
                raise shape.WrongShape("neither message nor finish reason")
            return Reply(
                content=content_of(message),
                stop_reason=stop_reason_of(
                    choices[0],
                    shape.text(answer, "id"),
                    bool(message.get("tool_calls")),
                    bool(shape.text(message, "refusal")),
                ),
                usage=usage_from(shape.mapping(answer, "usage")),
                timing=timing,
                request_id=errors.request_id_in(response.headers),
            )

    def stream_reader(self, started: float, headers: Mapping[str, str]) -> StreamReader:
        if not is_stream(headers):
            return payload.WholeBody(headers, "server-sent events")
        return ChatStreamReader(started, headers)


def body_of(request: Request, model_id: str, quirks: Quirks) -> dict[str, Any]:
    """Return the JSON body. It holds only what the request sets. Raises NotExpressible."""
    system = [{"role": "system", "content": request.system}] if request.system else []
    openai.check_conversation(request.messages, "Chat Completions")
    body: dict[str, Any] = {
        "model": model_id,
        "messages": system + [m for message in request.messages for m in messages_of(message)],
        quirks.cap_field: request.max_tokens,
        **openai.sampling(request, quirks),
    }
    if request.stop_sequences:
        if not quirks.stop:
            raise NotExpressible("The model takes no stop sequences in Chat Completions.")
        body["stop"] = list(request.stop_sequences)
    effort = openai.effort_of(request, quirks)
    if request.tools:
        body["tools"] = [{"type": "function", "function": function_of(t)} for t in request.tools]
        body["tool_choice"] = tool_choice_of(request.tool_choice)
        if quirks.effort_with_tools:
            if effort not in {"", quirks.effort_with_tools}:
                raise NotExpressible(
                    "The model takes tools in Chat Completions only without reasoning."
                )
            effort = quirks.effort_with_tools
    if effort:
        body["reasoning_effort"] = effort
    if request.output_schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": openai.output_format(request),
        }
    if request.operation is Operation.STREAM:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def function_of(tool: Any) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.schema)}


def tool_choice_of(choice: str) -> str | dict[str, Any]:
    if choice in {"", "any"}:
        return "required" if choice else "auto"
    return {"type": "function", "function": {"name": choice}}


def messages_of(message: Message) -> list[dict[str, Any]]:
    """Return the messages that one of ours becomes: each tool result is one. Raises NotExpressible.

    The reasoning of earlier turns is left out: requests have no member for it.
    """
    results = [
        {"role": "tool", "tool_call_id": block.tool_use_id, "content": block.text}
        for block in message.content
        if isinstance(block, ToolResult)
    ]
    uses = [block for block in message.content if isinstance(block, ToolUse)]
    parts = [
        part_of(block) for block in message.content
        if not isinstance(block, ToolResult | ToolUse | Reasoning)
    ]  # fmt: skip
    content: Any = parts
    if all(part["type"] == "text" for part in parts):  # every model takes plain text
        content = "\n".join(part["text"] for part in parts)
    if message.role == "assistant" and uses:
        calls = [
            {
                "id": use.id,
                "type": "function",
                "function": {"name": use.name, "arguments": openai.arguments_of(use)},
            }
            for use in uses
        ]
        return [{"role": "assistant", "content": content or None, "tool_calls": calls}]
    rest = [{"role": message.role, "content": content}] if parts or not results else []
    return results + rest


def part_of(block: Block) -> dict[str, Any]:
    """Return a text or an image as a part of a message. Raises NotExpressible for a document."""
    match block:
        case Text(text):
            return {"type": "text", "text": text}
        case Image():
            return {"type": "image_url", "image_url": {"url": image_url(block)}}
        case Document():
            raise NotExpressible("Chat Completions does not support documents.")
    raise NotExpressible(f"Chat Completions takes no {type(block).__name__}.")


def content_of(message: Mapping[str, Any]) -> tuple[Block, ...]:
    """Return the blocks of a message: reasoning, text, tool calls. Raises WrongShape."""
    blocks: list[Block] = []
    if thought := reasoning_in(message):
        blocks.append(Reasoning(thought))
    splitter = TagSplitter()
    for kind, text in [*splitter.feed(text_in(message)), *splitter.end()]:
        blocks.append(Text(text) if kind == "text" else Reasoning(text))
    if refusal := shape.text(message, "refusal"):
        blocks.append(Text(refusal))
    for call in shape.items(message, "tool_calls"):
        function = shape.mapping(call, "function")
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments or {})
        blocks.append(
            ToolUse(
                shape.text(call, "id"),
                shape.text(function, "name"),
                arguments_from(arguments),
                arguments,
            )
        )
    return tuple(blocks)


def reasoning_in(message: Mapping[str, Any]) -> str:
    """Return the reasoning of a message or delta, by either of the names in use."""
    return shape.text(message, "reasoning") or shape.text(message, "reasoning_content")


def text_in(message: Mapping[str, Any]) -> str:
    """Return the text of a message or delta. Raises WrongShape."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(shape.text(part, "text") for part in shape.items(message, "content"))


def stop_reason_of(choice: Mapping[str, Any], answer_id: str, calls: bool, refusal: bool) -> str:
    """Return Converse's name of a finish reason; one that it has no name for stays as it is."""
    reason = shape.text(choice, "finish_reason")
    if answer_id.startswith(GUARDRAIL_ID):
        return "guardrail_intervened"
    if refusal:
        return "content_filtered"
    if reason == "stop" and calls:  # said so where one tool was forced
        return "tool_use"
    if reason == "stop" and isinstance(choice.get("stop_reason"), str):  # vLLM: which sequence
        return "stop_sequence"
    return STOP_REASONS.get(reason, reason)


def usage_from(raw: Mapping[str, Any]) -> Usage | None:
    """Return the usage of an answer, None without the two counts that matter.

    `input_tokens` includes what came from the cache, as OpenAI counts.
    """
    sent, received = shape.count(raw, "prompt_tokens"), shape.count(raw, "completion_tokens")
    if sent is None or received is None:
        return None
    details = shape.mapping(raw, "prompt_tokens_details")
    return Usage(
        input_tokens=sent,
        output_tokens=received,
        total_tokens=shape.count(raw, "total_tokens") or sent + received,
        cache_read_tokens=shape.count(details, "cached_tokens") or 0,
        cache_write_tokens=shape.count(details, "cache_write_tokens") or 0,
    )


class ChatStreamReader(SseStreamReader):
    """Reads the chunks of one streamed answer. `[DONE]` ends it."""

    final = "a finish reason and [DONE]"

    def __init__(self, started: float, headers: Mapping[str, str]) -> None:
        super().__init__(started, headers)
        self.splitter = TagSplitter()
        self.calls: dict[int, tuple[int, str]] = {}  # a call's place to the key of its block
        self.finish: Mapping[str, Any] = {}  # the choice that had a finish reason
        self.answer_id = ""
        self.refusal = False

    def take_text(self, event: Any, at: float) -> None:
        if event.data.strip() == "[DONE]":
            self.done = True
        else:
            super().take_text(event, at)

    def take(self, name: str, value: Mapping[str, Any], at: float) -> None:
        code, message = errors.fault_in(value)
        if value.get("error") or (message and "choices" not in value):
            raise self.builder.fault(code, message)
        if not self.events:
            self.builder.emit("messageStart", at)
        self.answer_id = self.answer_id or shape.text(value, "id")
        for choice in shape.items(value, "choices"):
            if not choice.get("index"):
                self.take_choice(choice, at)
        if usage := usage_from(shape.mapping(value, "usage")):
            self.builder.usage = usage
        if self.builder.usage and self.builder.stop_reason and "metadata" not in self.events:
            self.builder.emit("metadata", at)

    def take_choice(self, choice: Mapping[str, Any], at: float) -> None:
        """Take the piece of the answer in one chunk. Raises WrongShape."""
        delta = shape.mapping(choice, "delta")
        self.builder.add("reasoning", "reasoning", at, reasoning_in(delta))
        self.add_text(self.splitter.feed(text_in(delta)), at)
        if refusal := shape.text(delta, "refusal"):
            self.refusal = True
            self.builder.add("refusal", "text", at, refusal)
        for call in shape.items(delta, "tool_calls"):
            self.take_call(call, at)
        if shape.text(choice, "finish_reason") and not self.builder.stop_reason:
            self.add_text(self.splitter.end(), at)
            reason = stop_reason_of(choice, self.answer_id, bool(self.calls), self.refusal)
            self.builder.stop(reason, at)

    def add_text(self, pieces: list[tuple[str, str]], at: float) -> None:
        for kind, text in pieces:
            self.builder.add(kind, kind, at, text)

    def take_call(self, call: Mapping[str, Any], at: float) -> None:
        """Take a piece of a tool call: the first has id and name, all have arguments."""
        place, use_id = shape.index(call, "index"), shape.text(call, "id")
        function = shape.mapping(call, "function")
        key = self.calls.get(place)
        if key is None or (use_id and use_id != key[1]):
            key = self.calls[place] = (place, use_id)
            self.builder.start_tool(key, use_id, shape.text(function, "name"), at)
        self.builder.add(key, "toolUse", at, shape.text(function, "arguments"))
