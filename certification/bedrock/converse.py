"""Converse and ConverseStream: our types to the wire and back.

Lenient in what it reads: the service sends undocumented members.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from certification.inference import (
    Block,
    Document,
    Image,
    Operation,
    Reasoning,
    Reply,
    Request,
    Text,
    Timing,
    ToolResult,
    ToolUse,
    Usage,
)


def to_wire(request: Request, target_id: str) -> dict[str, Any]:
    """Return the keyword arguments of boto3's `converse` and `converse_stream`.

    They hold only the members that the request sets.
    """
    thinking = thinking_fields(request, target_id)
    config: dict[str, Any] = {"maxTokens": request.max_tokens}
    if request.stop_sequences:
        config["stopSequences"] = list(request.stop_sequences)
    if request.temperature is not None and not thinking:
        config["temperature"] = request.temperature
    if request.top_p is not None and not thinking:
        config["topP"] = request.top_p
    wire: dict[str, Any] = {
        "modelId": target_id,
        "messages": [
            {"role": m.role, "content": [block_to_wire(b) for b in m.content]}
            for m in request.messages
        ],
        "inferenceConfig": config,
    }
    if thinking:
        wire["additionalModelRequestFields"] = thinking
    if request.system:
        wire["system"] = [{"text": request.system}]
    if request.tools:
        wire["toolConfig"] = tool_config(request)
    if request.output_schema is not None:
        schema = {"schema": json.dumps(request.output_schema), "name": "answer"}
        wire["outputConfig"] = {
            "textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}
        }
    return wire


# a budget up to here is Nova's low effort, beyond it medium; high forbids maxTokens
LOW_EFFORT_TOKENS = 4096


def thinking_fields(request: Request, target_id: str) -> dict[str, Any]:
    """Return the vendor's fields that ask for reasoning; empty where none are known.

    The vendor follows from the id of the model or of its profile.

    Sources: "Extended thinking" and "Adaptive thinking" in the user guide of Bedrock (Claude;
    `budget_tokens` from 1024 on, below maxTokens, with no temperature and no forced tool) and that
    of Amazon Nova 2 (`maxReasoningEffort`). Claude from Opus 4.7 on refuses the budget, and leaves
    the thoughts' text out unless a summary is asked for.
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
            return {"image": {"format": fmt, "source": {"bytes": data}}}
        case Document(fmt, name, data):
            return {"document": {"format": fmt, "name": name, "source": {"bytes": data}}}
        case ToolUse(use_id, name, tool_input):
            return {"toolUse": {"toolUseId": use_id, "name": name, "input": tool_input}}
        case ToolResult(use_id, text, is_error):
            status = "error" if is_error else "success"
            return {
                "toolResult": {"toolUseId": use_id, "content": [{"text": text}], "status": status}
            }
        case Reasoning(text, signature, redacted):
            if redacted:
                return {"reasoningContent": {"redactedContent": redacted}}
            thought = {"text": text, "signature": signature} if signature else {"text": text}
            return {"reasoningContent": {"reasoningText": thought}}


def reply_from(response: Mapping[str, Any], total_ms: float) -> Reply | None:
    """Return a Converse response as a Reply; None when it is not one (a 200 can carry any JSON)."""
    message = (response.get("output") or {}).get("message")
    stop_reason = response.get("stopReason")
    if not isinstance(message, Mapping) or not isinstance(stop_reason, str):
        return None
    return Reply(
        content=tuple(
            b for raw in message.get("content") or () if (b := block_from(raw)) is not None
        ),
        stop_reason=stop_reason,
        usage=usage_from(response.get("usage")),
        timing=Timing(total_ms, server_ms=_server_ms(response.get("metrics"))),
        operation=Operation.CONVERSE,
        request_id=request_id_of(response),
    )


def request_id_of(response: Mapping[str, Any]) -> str:
    """Return the AWS request id of a boto3 response; empty when there is none."""
    return str((response.get("ResponseMetadata") or {}).get("RequestId") or "")


def usage_from(raw: Mapping[str, Any] | None) -> Usage | None:
    """Return the usage of a response; None when absent or without the two counts that matter."""
    counts = {name: count for name, count in (raw or {}).items() if isinstance(count, int)}
    if "inputTokens" not in counts or "outputTokens" not in counts:
        return None
    return Usage(
        input_tokens=counts["inputTokens"],
        output_tokens=counts["outputTokens"],
        total_tokens=counts.get("totalTokens", 0),
        cache_read_tokens=counts.get("cacheReadInputTokens", 0),
        cache_write_tokens=counts.get("cacheWriteInputTokens", 0),
    )


def _server_ms(metrics: Mapping[str, Any] | None) -> float | None:
    latency_ms = (metrics or {}).get("latencyMs")
    return latency_ms if isinstance(latency_ms, int | float) else None


def block_from(raw: Any) -> Block | None:
    """Return a content block as one of our types; None for a kind we do not know.

    boto3 gives a block that it does not know itself as SDK_UNKNOWN_MEMBER.
    """
    match raw:
        case {"text": str(text)}:
            return Text(text)
        case {"toolUse": Mapping() as use}:
            return ToolUse(use.get("toolUseId") or "", use.get("name") or "", use.get("input"))
        case {"reasoningContent": Mapping() as thought}:
            plain = thought.get("reasoningText") or {}
            redacted = _bytes(thought.get("redactedContent"))
            return Reasoning(plain.get("text") or "", plain.get("signature") or "", redacted)
        case {"citationsContent": Mapping() as cited}:
            return Text(
                "".join(part.get("text") or "" for part in cited.get("content") or () if part)
            )
        case {"image": {"format": str(fmt), "source": Mapping() as source}}:
            return Image(fmt, _bytes(source.get("bytes")))
    return None


def _bytes(raw: Any) -> bytes:
    """Return a blob's bytes: boto3 gives bytes, a body read without it base64."""
    if isinstance(raw, str):
        return base64.b64decode(raw)
    return raw if isinstance(raw, bytes) else b""


@dataclass
class OpenBlock:
    """A content block while its deltas arrive.

    `name` is the tool's, or an image's format; `data` a redacted thought or an image.
    """

    kind: str = ""
    text: list[str] = field(default_factory=list)
    signature: str = ""
    data: bytes = b""
    use_id: str = ""
    name: str = ""

    def close(self) -> Block | None:
        text = "".join(self.text)
        if self.kind == "toolUse":
            try:
                # a tool without arguments streams an empty input
                arguments = json.loads(text) if text.strip() else {}
            except ValueError:
                arguments = None
            return ToolUse(self.use_id, self.name, arguments, text)
        if self.kind == "reasoning":
            return Reasoning(text, self.signature, self.data)
        if self.kind == "image":
            return Image(self.name, self.data)
        return Text(text) if self.kind == "text" else None


class StreamReader:
    """Collect the events of one ConverseStream into a Reply, noting when each arrived."""

    def __init__(self, started: float, request_id: str = "") -> None:
        self.started = self.last = started
        self.request_id = request_id
        self.events: list[str] = []
        self.blocks: dict[int, OpenBlock] = {}
        self.stop_reason = ""
        self.usage: Usage | None = None
        self.server_ms: float | None = None
        self.ttft_ms: float | None = None
        self.max_gap_ms = 0.0
        self.has_metadata = False

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take one event as botocore parsed it: a mapping with the event's name as its only key."""
        now = time.perf_counter()
        name, body = next(iter(event.items()))
        if self.events:
            self.max_gap_ms = max(self.max_gap_ms, (now - self.last) * 1000)
        self.last = now
        self.events.append(name)
        if name in {"contentBlockStart", "contentBlockDelta"} and self.ttft_ms is None:
            self.ttft_ms = (now - self.started) * 1000
        if name == "contentBlockStart":
            self.start_block(body)
        elif name == "contentBlockDelta":
            self.add_delta(body)
        elif name == "messageStop":
            self.stop_reason = body.get("stopReason") or ""
        elif name == "metadata":
            self.has_metadata = True
            self.usage = usage_from(body.get("usage"))
            self.server_ms = _server_ms(body.get("metrics"))

    def _open(self, body: Mapping[str, Any]) -> OpenBlock:
        return self.blocks.setdefault(body.get("contentBlockIndex", 0), OpenBlock())

    def start_block(self, body: Mapping[str, Any]) -> None:
        match body.get("start"):
            case {"toolUse": Mapping() as use}:
                block = self._open(body)
                block.kind, block.use_id, block.name = (
                    "toolUse",
                    use.get("toolUseId") or "",
                    use.get("name") or "",
                )
            case {"image": Mapping() as image}:
                block = self._open(body)
                block.kind, block.name = "image", image.get("format") or ""

    def add_delta(self, body: Mapping[str, Any]) -> None:
        match body.get("delta"):
            case {"text": str(text)}:
                block = self._open(body)
                block.kind = block.kind or "text"
                block.text.append(text)
            case {"toolUse": Mapping() as use}:
                block = self._open(body)
                block.kind = "toolUse"
                piece = use.get("input") or ""
                block.text.append(piece if isinstance(piece, str) else json.dumps(piece))
            case {"reasoningContent": Mapping() as thought}:
                block = self._open(body)
                block.kind = "reasoning"
                block.text.append(thought.get("text") or "")
                block.signature += thought.get("signature") or ""
                block.data += _bytes(thought.get("redactedContent"))
            case {"image": {"source": Mapping() as source}}:
                block = self._open(body)
                block.kind = "image"
                block.data += _bytes(source.get("bytes"))

    @property
    def complete(self) -> bool:
        return bool(self.stop_reason) and self.has_metadata

    def reply(self) -> Reply:
        """Return what has arrived so far; `complete` says whether it is all."""
        closed: Iterable[Block | None] = (
            block.close() for _index, block in sorted(self.blocks.items())
        )
        return Reply(
            content=tuple(block for block in closed if block is not None),
            stop_reason=self.stop_reason,
            usage=self.usage,
            timing=Timing(
                (time.perf_counter() - self.started) * 1000,
                self.ttft_ms,
                self.max_gap_ms,
                self.server_ms,
            ),
            operation=Operation.STREAM,
            events=tuple(self.events),
            complete=self.complete,
            request_id=self.request_id,
        )
