"""Messages, Anthropic's own API, which both endpoints speak for Claude."""

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
from certification.bedrock.dialects.media import image_type
from certification.bedrock.dialects.quirks import Quirks, quirks_of
from certification.bedrock.dialects.sse_stream import STREAM_HEADERS, SseStreamReader, is_stream
from certification.inference import (
    Block,
    Document,
    Image,
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

VERSION = {"anthropic-version": "2023-06-01"}
STOP_REASONS = {"refusal": "content_filtered"}  # all others have Converse's names
PLAIN_TEXT = frozenset({"txt", "md", "csv", "html"})


class Messages:
    """The dialect; see `dialect.Dialect`."""

    def encode(
        self, request: Request, target: RouteTarget, quirks: Quirks | None = None
    ) -> WireRequest:
        body = body_of(request, target.target_id, quirks or quirks_of(target.target_id))
        streams = request.operation is Operation.STREAM
        return WireRequest(
            f"{target.path_prefix}/messages",
            json.dumps(body).encode(),
            headers=(STREAM_HEADERS if streams else JSON_HEADERS) | VERSION,
        )

    def decode(self, response: WireResponse, timing: Timing) -> Reply:
        answer = payload.object_of(response, Operation.CONVERSE)
        with payload.checked(response, Operation.CONVERSE):
            reason = shape.text(answer, "stop_reason")
            if not isinstance(answer.get("content"), list) or not reason:
                raise shape.WrongShape("neither content nor stop reason")
            blocks = (block_from(raw) for raw in shape.items(answer, "content"))
            return Reply(
                content=tuple(block for block in blocks if block is not None),
                stop_reason=stop_reason_of(answer, reason),
                usage=usage_from(shape.mapping(answer, "usage")),
                timing=timing,
                request_id=errors.request_id_in(response.headers),
            )

    def stream_reader(self, started: float, headers: Mapping[str, str]) -> StreamReader:
        if not is_stream(headers):
            return payload.WholeBody(headers, "server-sent events")
        return MessagesStreamReader(started, headers)


def body_of(request: Request, model_id: str, quirks: Quirks) -> dict[str, Any]:
    """Return the JSON body. It holds only what the request sets. Raises NotExpressible."""
    thinking = thinking_fields(request, quirks)
    body: dict[str, Any] = {
        "model": model_id,
        "max_tokens": request.max_tokens,
        "messages": [
            {"role": m.role, "content": [part_of(block) for block in m.content]}
            for m in request.messages
        ],
    }
    if not thinking:
        body |= openai.sampling(request, quirks)
    if request.system:
        body["system"] = request.system
    if request.stop_sequences:
        body["stop_sequences"] = list(request.stop_sequences)
    if request.tools:
        body["tools"] = [
            {"name": t.name, "description": t.description, "input_schema": dict(t.schema)}
            for t in request.tools
        ]
        body["tool_choice"] = tool_choice_of(request.tool_choice)
    body |= thinking
    if request.output_schema is not None:
        schema = {"format": {"type": "json_schema", "schema": dict(request.output_schema)}}
        body["output_config"] = {**body.get("output_config", {}), **schema}
    if request.operation is Operation.STREAM:
        body["stream"] = True
    return body


def tool_choice_of(choice: str) -> dict[str, str]:
    if choice in {"", "any"}:
        return {"type": choice or "auto"}
    return {"type": "tool", "name": choice}


def thinking_fields(request: Request, quirks: Quirks) -> dict[str, Any]:
    """Return the members that ask for reasoning. Raises NotExpressible for a refused form.

    Newer Claude leave the thoughts' text out unless a summary is asked for.
    """
    if request.thinking_effort:
        if "adaptive" not in quirks.thinking_forms:
            raise NotExpressible("The model does not support adaptive thinking, only a budget.")
        return {
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": request.thinking_effort},
        }
    if request.thinking_tokens is None:
        return {}
    if "enabled" not in quirks.thinking_forms:
        raise NotExpressible("The model takes adaptive thinking instead of a thinking budget.")
    return {"thinking": {"type": "enabled", "budget_tokens": request.thinking_tokens}}


def part_of(block: Block) -> dict[str, Any]:
    """Return a block as Messages writes it. Raises NotExpressible for documents of Office."""
    match block:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(_format, data):
            return {"type": "image", "source": source_of(image_type(block), data)}
        case Document():
            return document_part(block)
        case ToolUse(use_id, name, tool_input):
            arguments = tool_input if isinstance(tool_input, Mapping) else {}
            return {"type": "tool_use", "id": use_id, "name": name, "input": arguments}
        case ToolResult(use_id, text, is_error):
            return {
                "type": "tool_result",
                "tool_use_id": use_id,
                "content": text,
                "is_error": is_error,
            }
        case Reasoning(text, signature, redacted):
            if redacted:
                return {"type": "redacted_thinking", "data": redacted.decode(errors="replace")}
            return {"type": "thinking", "thinking": text, "signature": signature}


def document_part(document: Document) -> dict[str, Any]:
    if document.format == "pdf":
        source = source_of("application/pdf", document.data)
    elif document.format in PLAIN_TEXT:
        text = document.data.decode(errors="replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        raise NotExpressible(f"Messages does not support documents of type {document.format}.")
    return {"type": "document", "title": document.name, "source": source}


def source_of(media_type: str, data: bytes) -> dict[str, str]:
    return {"type": "base64", "media_type": media_type, "data": shape.encode_blob(data)}


def block_from(raw: Mapping[str, Any]) -> Block | None:
    """Return a block of an answer, None for a kind we do not know."""
    match raw.get("type"):
        case "text":
            return Text(shape.text(raw, "text"))
        case "tool_use":
            return ToolUse(shape.text(raw, "id"), shape.text(raw, "name"), raw.get("input"))
        case "thinking":
            return Reasoning(shape.text(raw, "thinking"), shape.text(raw, "signature"))
        case "redacted_thinking":
            return Reasoning("", redacted=shape.hidden(raw, "data"))
    return None


def stop_reason_of(answer: Mapping[str, Any], reason: str) -> str:
    """Return Converse's name of a stop reason; a guardrail says beside it that it acted."""
    if answer.get("amazon-bedrock-guardrailAction") == "INTERVENED":
        return "guardrail_intervened"
    return STOP_REASONS.get(reason, reason)


def usage_from(raw: Mapping[str, Any]) -> Usage | None:
    """Return the usage of an answer, None without the two counts that matter.

    The total is ours: Messages sends none. As in Converse, what the cache read or took is beside
    the input tokens.
    """
    sent, received = shape.count(raw, "input_tokens"), shape.count(raw, "output_tokens")
    if sent is None or received is None:
        return None
    cached = shape.count(raw, "cache_read_input_tokens") or 0
    written = shape.count(raw, "cache_creation_input_tokens") or 0
    return Usage(sent, received, sent + received + cached + written, cached, written)


class MessagesStreamReader(SseStreamReader):
    """Reads the events of one streamed message; message_stop ends it."""

    final = "a stop reason and message_stop"

    def __init__(self, started: float, headers: Mapping[str, str]) -> None:
        super().__init__(started, headers)
        self.counts: dict[str, Any] = {}  # usage: the input's at the start, the output's at the end

    def take(self, name: str, value: Mapping[str, Any], at: float) -> None:
        match shape.text(value, "type") or name:
            case "error":
                raise self.builder.fault(*errors.fault_in(value))
            case "message_start":
                self.counts |= shape.mapping(shape.mapping(value, "message"), "usage")
                self.builder.emit("messageStart", at)
            case "content_block_start":
                self.start_block(value, at)
            case "content_block_delta":
                self.add_delta(value, at)
            case "content_block_stop":
                if self.builder.open == shape.index(value, "index"):
                    self.builder.close(at)
            case "message_delta":
                self.counts |= without_nulls(shape.mapping(value, "usage"))
                if reason := shape.text(shape.mapping(value, "delta"), "stop_reason"):
                    self.builder.stop(stop_reason_of(value, reason), at)
            case "message_stop":
                self.builder.usage = usage_from(self.counts)
                if self.builder.usage:
                    self.builder.emit("metadata", at)
                self.done = True

    def start_block(self, value: Mapping[str, Any], at: float) -> None:
        """Open a block, which may already hold its first text."""
        index, block = shape.index(value, "index"), shape.mapping(value, "content_block")
        match block.get("type"):
            case "tool_use":
                name, use_id = shape.text(block, "name"), shape.text(block, "id")
                self.builder.start_tool(index, use_id, name, at)
                if block.get("input"):
                    self.builder.add(index, "toolUse", at, json.dumps(block["input"]))
            case "text":
                self.builder.add(index, "text", at, shape.text(block, "text"))
            case "thinking":
                text, sign = shape.text(block, "thinking"), shape.text(block, "signature")
                self.builder.add(index, "reasoning", at, text, sign=sign)
            case "redacted_thinking":
                data = shape.hidden(block, "data")
                self.builder.add(index, "reasoning", at, data=data)

    def add_delta(self, value: Mapping[str, Any], at: float) -> None:
        index, delta = shape.index(value, "index"), shape.mapping(value, "delta")
        match delta.get("type"):
            case "text_delta":
                self.builder.add(index, "text", at, shape.text(delta, "text"))
            case "input_json_delta":
                self.builder.add(index, "toolUse", at, shape.text(delta, "partial_json"))
            case "thinking_delta":
                self.builder.add(index, "reasoning", at, shape.text(delta, "thinking"))
            case "signature_delta":
                sign = shape.text(delta, "signature")
                self.builder.add(index, "reasoning", at, sign=sign)


def without_nulls(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts that say something: those at the end may leave out the input's."""
    return {name: count for name, count in counts.items() if count is not None}
