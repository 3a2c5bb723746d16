"""Converse and ConverseStream, the API of bedrock-runtime that serves most models.

Lenient in what it reads: the service sends undocumented members.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from certification.bedrock import errors
from certification.bedrock.dialects import payload, shape
from certification.bedrock.dialects.dialect import (
    JSON_HEADERS,
    StreamReader,
    WireRequest,
    WireResponse,
)
from certification.bedrock.dialects.event_stream import Frame, FrameReader
from certification.bedrock.dialects.quirks import LOW_EFFORT_TOKENS, Quirks
from certification.bedrock.dialects.reply_builder import OpenBlock, ReplyBuilder
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
from certification.reasons import Reason

EVENTS = frozenset(
    {
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    }
)
PATHS = {Operation.CONVERSE: "converse", Operation.STREAM: "converse-stream"}


class Converse:
    """The dialect; see `dialect.Dialect`."""

    def encode(
        self, request: Request, target: RouteTarget, quirks: Quirks | None = None
    ) -> WireRequest:
        body = body_of(request, target.target_id)
        path = model_path(target.target_id, PATHS[request.operation])
        return WireRequest(path, json.dumps(body).encode(), headers=JSON_HEADERS)

    def decode(self, response: WireResponse, timing: Timing) -> Reply:
        answer = payload.object_of(response, Operation.CONVERSE)
        with payload.checked(response, Operation.CONVERSE):
            reply = reply_from(answer, timing)
        return replace(reply, request_id=errors.request_id_in(response.headers))

    def stream_reader(self, started: float, headers: Mapping[str, str]) -> StreamReader:
        if headers.get("content-type", "").startswith(("text/", "application/json")):
            return payload.WholeBody(headers, "an event stream")
        return ConverseStreamReader(started, headers)


def model_path(target_id: str, operation: str) -> str:
    """Return the path of an operation; in the id, also of an ARN, all but -._~ is encoded."""
    return f"/model/{quote(target_id, safe='-._~')}/{operation}"


def body_of(request: Request, target_id: str) -> dict[str, Any]:
    """Return the JSON body. It holds only the members that the request sets."""
    thinking = thinking_fields(request, target_id)
    config: dict[str, Any] = {"maxTokens": request.max_tokens}
    if request.stop_sequences:
        config["stopSequences"] = list(request.stop_sequences)
    if request.temperature is not None and not thinking:
        config["temperature"] = request.temperature
    if request.top_p is not None and not thinking:
        config["topP"] = request.top_p
    body: dict[str, Any] = {
        "messages": [
            {"role": m.role, "content": [block_to_wire(b) for b in m.content]}
            for m in request.messages
        ],
        "inferenceConfig": config,
    }
    if thinking:
        body["additionalModelRequestFields"] = thinking
    if request.system:
        body["system"] = [{"text": request.system}]
    if request.tools:
        body["toolConfig"] = tool_config(request)
    if request.output_schema is not None:
        schema = {"schema": json.dumps(request.output_schema), "name": "answer"}
        body["outputConfig"] = {
            "textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}
        }
    return body


def thinking_fields(request: Request, target_id: str) -> dict[str, Any]:
    """Return the vendor's fields that ask for reasoning; empty where none are known.

    The vendor follows from the id of the model or of its profile.

    Sources: "Extended thinking" and "Adaptive thinking" in the user guide of Bedrock (Claude;
    `budget_tokens` from 1024 on, below maxTokens, with no temperature and no forced tool) and that
    of Amazon Nova 2 (`maxReasoningEffort`; high forbids maxTokens). Claude from Opus 4.7 on refuses
    the budget, and leaves the thoughts' text out unless a summary is asked for.
    """
    if request.thinking_effort and "anthropic.claude" in target_id:
        return {
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": request.thinking_effort},
        }
    budget = request.thinking_tokens
    if budget is None:
        return {}
    if "anthropic.claude" in target_id:
        return {"thinking": {"type": "enabled", "budget_tokens": budget}}
    if "amazon.nova-2" in target_id:
        effort = "low" if budget <= LOW_EFFORT_TOKENS else "medium"
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}
    return {}


def tool_config(request: Request) -> dict[str, Any]:
    specs = [
        {
            "toolSpec": {
                "name": t.name,
                "description": t.description,
                "inputSchema": {"json": dict(t.schema)},
            }
        }
        for t in request.tools
    ]
    config: dict[str, Any] = {"tools": specs}
    if request.tool_choice == "any":
        config["toolChoice"] = {"any": {}}
    elif request.tool_choice:
        config["toolChoice"] = {"tool": {"name": request.tool_choice}}
    return config


def block_to_wire(block: Block) -> dict[str, Any]:
    match block:
        case Text(text):
            return {"text": text}
        case Image(fmt, data):
            return {"image": {"format": fmt, "source": source_of(data)}}
        case Document(fmt, name, data):
            return {"document": {"format": fmt, "name": name, "source": source_of(data)}}
        case ToolUse(use_id, name, tool_input):
            return {"toolUse": {"toolUseId": use_id, "name": name, "input": tool_input}}
        case ToolResult(use_id, text, is_error):
            status = "error" if is_error else "success"
            return {
                "toolResult": {"toolUseId": use_id, "content": [{"text": text}], "status": status}
            }
        case Reasoning(text, signature, redacted):
            if redacted:
                return {"reasoningContent": {"redactedContent": shape.encode_blob(redacted)}}
            thought = {"text": text, "signature": signature} if signature else {"text": text}
            return {"reasoningContent": {"reasoningText": thought}}


def source_of(data: bytes) -> dict[str, str]:
    return {"bytes": shape.encode_blob(data)}


def reply_from(answer: Mapping[str, Any], timing: Timing) -> Reply:
    """Return the answer of Converse as a Reply. Raises WrongShape for another JSON object."""
    message = shape.mapping(answer, "output").get("message")
    stop_reason = answer.get("stopReason")
    if not isinstance(message, Mapping) or not isinstance(stop_reason, str):
        raise shape.WrongShape("neither message nor stop reason")
    blocks = (block_from(raw) for raw in shape.items(message, "content"))
    return Reply(
        content=tuple(block for block in blocks if block is not None),
        stop_reason=stop_reason,
        usage=usage_from(shape.mapping(answer, "usage")),
        timing=replace(timing, server_ms=server_ms(shape.mapping(answer, "metrics"))),
        operation=Operation.CONVERSE,
    )


def usage_from(raw: Mapping[str, Any]) -> Usage | None:
    """Return the usage of a response; None when absent or without the two counts that matter."""
    sent, received = shape.count(raw, "inputTokens"), shape.count(raw, "outputTokens")
    if sent is None or received is None:
        return None
    return Usage(
        input_tokens=sent,
        output_tokens=received,
        total_tokens=shape.count(raw, "totalTokens") or 0,
        cache_read_tokens=shape.count(raw, "cacheReadInputTokens") or 0,
        cache_write_tokens=shape.count(raw, "cacheWriteInputTokens") or 0,
    )


def server_ms(metrics: Mapping[str, Any]) -> float | None:
    latency_ms = metrics.get("latencyMs")
    return latency_ms if isinstance(latency_ms, int | float) else None


def block_from(raw: Mapping[str, Any]) -> Block | None:
    """Return a content block as one of our types, None for a kind we do not know.

    Raises WrongShape.
    """
    kind, value = shape.only_member(raw, "content block")
    match kind:
        case "text":
            return Text(value) if isinstance(value, str) else None
        case "toolUse":
            use = shape.mapping(raw, kind)
            return ToolUse(shape.text(use, "toolUseId"), shape.text(use, "name"), use.get("input"))
        case "reasoningContent":
            thought = shape.mapping(raw, kind)
            plain = shape.mapping(thought, "reasoningText")
            redacted = shape.blob(thought.get("redactedContent"))
            return Reasoning(shape.text(plain, "text"), shape.text(plain, "signature"), redacted)
        case "citationsContent":
            cited = shape.items(shape.mapping(raw, kind), "content")
            return Text("".join(shape.text(part, "text") for part in cited))
        case "image":
            image = shape.mapping(raw, kind)
            source = shape.mapping(image, "source")
            return Image(shape.text(image, "format"), shape.blob(source.get("bytes")))
    return None


class ConverseStreamReader:
    """Reads the frames of one ConverseStream; see `dialect.StreamReader`."""

    def __init__(self, started: float, headers: Mapping[str, str]) -> None:
        self.frames = FrameReader()
        self.builder = ReplyBuilder(started, headers)
        self.events = self.builder.events

    @property
    def complete(self) -> bool:
        return bool(self.builder.stop_reason) and "metadata" in self.events

    def feed(self, data: bytes, at: float) -> None:
        try:
            for frame in self.frames.feed(data):
                self.take(frame, at)
        except shape.WrongShape as exc:
            message = f"The stream held {exc}."
            raise self.builder.broken(Reason.BAD_RESPONSE, message) from exc

    def end(self) -> None:
        if not self.complete or self.frames.pending:
            raise self.builder.truncated("messageStop and metadata")

    def reply(self, at: float) -> Reply:
        indexed = sorted(self.builder.blocks.items(), key=lambda item: item[0])
        return self.builder.reply(at, self.complete, [block for _index, block in indexed])

    def take(self, frame: Frame, at: float) -> None:
        """Take one frame. Raises WrongShape, and BedrockError for an exception of the service."""
        name = frame.text(":event-type")
        if frame.text(":message-type") != "event" or name.endswith("Exception"):
            raise self.failure_in(frame)
        if name not in EVENTS:
            return
        body = shape.loads(frame.payload)
        if not isinstance(body, Mapping):
            raise shape.WrongShape(f"a {name} that is not an object")
        self.builder.emit(name, at)
        match name:
            case "contentBlockStart":
                self.start_block(body)
            case "contentBlockDelta":
                self.add_delta(body)
            case "messageStop":
                self.builder.stop_reason = shape.text(body, "stopReason")
            case "metadata":
                self.builder.usage = usage_from(shape.mapping(body, "usage"))
                self.builder.server_ms = server_ms(shape.mapping(body, "metrics"))

    def failure_in(self, frame: Frame) -> errors.BedrockError:
        """Return the error in a frame: an exception of the operation's model or outside it, or an
        error of the service's front.
        """
        names = (":exception-type", ":error-code", ":event-type")
        named, message, _id = errors.envelope_of(frame.payload)
        code = next(filter(None, map(frame.text, names)), "") or named.rpartition("#")[2]
        return self.builder.fault(code, frame.text(":error-message") or message)

    def block_of(self, body: Mapping[str, Any]) -> OpenBlock:
        return self.builder.block(shape.index(body, "contentBlockIndex"))

    def start_block(self, body: Mapping[str, Any]) -> None:
        """Open the block of a contentBlockStart: a tool's or an image's, others have none."""
        start = shape.mapping(body, "start")
        kind, _value = shape.only_member(start, "start")
        if kind == "toolUse":
            use, block = shape.mapping(start, kind), self.block_of(body)
            block.kind, block.use_id = kind, shape.text(use, "toolUseId")
            block.name = shape.text(use, "name")
        elif kind == "image":
            block = self.block_of(body)
            block.kind, block.name = kind, shape.text(shape.mapping(start, kind), "format")

    def add_delta(self, body: Mapping[str, Any]) -> None:
        """Add a contentBlockDelta to its block."""
        delta = shape.mapping(body, "delta")
        kind, value = shape.only_member(delta, "delta")
        if kind == "text" and isinstance(value, str):
            block = self.block_of(body)
            block.kind = block.kind or kind
            block.text.append(value)
        elif kind == "toolUse":
            piece = shape.mapping(delta, kind).get("input") or ""
            block = self.block_of(body)
            block.kind = kind
            block.text.append(piece if isinstance(piece, str) else json.dumps(piece))
        elif kind == "reasoningContent":
            thought, block = shape.mapping(delta, kind), self.block_of(body)
            block.kind = "reasoning"
            block.text.append(shape.text(thought, "text"))
            block.signature += shape.text(thought, "signature")
            block.data += shape.blob(thought.get("redactedContent"))
        elif kind == "image":
            source, block = shape.mapping(shape.mapping(delta, kind), "source"), self.block_of(body)
            block.kind = kind
            block.data += shape.blob(source.get("bytes"))
