"""Converse and ConverseStream: parse the request's JSON, and write the answer to the wire."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from certification.emulator import tokens, wire
from certification.emulator.answers import ModelAnswer, ParsedRequest, as_streamed, find_ref
from certification.emulator.latency import Pace
from certification.emulator.model_directory import ResolvedModel
from certification.emulator.scenario import Faults
from certification.inference import Reasoning, Text, ToolUse

Json = Mapping[str, Any]

IMAGE_TOKENS = 1000
MESSAGE_TOKENS = 4
TOOLS_TOKENS = 160


def parse_request(body: Json, target: ResolvedModel, *, streaming: bool) -> ParsedRequest:
    """Return what a valid Converse body requests."""
    config = body.get("inferenceConfig") or {}
    ref, step = find_ref([(m["role"], message_text(m)) for m in body["messages"]])
    tools = body.get("toolConfig") or {}
    specs = [tool["toolSpec"] for tool in tools.get("tools", []) if "toolSpec" in tool]
    choice = tools.get("toolChoice") or {}
    tool_choice = "any" if "any" in choice else ""
    if "tool" in choice:
        tool_choice = str(choice["tool"].get("name", ""))
    return ParsedRequest(
        ref=ref,
        step=step,
        max_tokens=config.get("maxTokens") or target.model.max_output_tokens,
        stop_sequences=tuple(config.get("stopSequences") or ()),
        tools={spec["name"]: spec["inputSchema"]["json"] for spec in specs} or None,
        tool_choice=tool_choice,
        output_schema=output_schema(body.get("outputConfig")),
        reasoning=shows_reasoning(body, target),
        silent=hides_thoughts(body, target),
        system=bool(body.get("system")),
        streaming=streaming,
    )


def message_text(message: Json) -> str:
    """Return the texts of a message and of its tool results, one a line."""
    texts: list[str] = []
    for block in message["content"]:
        if "text" in block:
            texts.append(block["text"])
        elif "toolResult" in block:
            texts += (c["text"] for c in block["toolResult"].get("content", []) if "text" in c)
    return "\n".join(texts)


def output_schema(config: Json | None) -> Json | None:
    structure = ((config or {}).get("textFormat") or {}).get("structure") or {}
    schema = (structure.get("jsonSchema") or {}).get("schema")
    try:
        parsed = json.loads(schema) if isinstance(schema, str) else schema
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def shows_reasoning(body: Json, target: ResolvedModel) -> bool:
    """Tell whether the answer contains a reasoning block.

    With adaptive thinking Converse shows none without an effort, and a question as small as ours
    needs none with a low one.
    """
    if target.traits.always_reasons:
        return True
    extra = body.get("additionalModelRequestFields") or {}
    for name in ("thinking", "reasoning_config", "reasoningConfig"):
        options = extra.get(name)
        if isinstance(options, dict) and options.get("type") in ("enabled", "adaptive"):
            config = extra.get("output_config")
            effort = config.get("effort") if isinstance(config, dict) else None
            return "reasoning" in target.model.capabilities and (
                options["type"] == "enabled" or effort in ("medium", "high", "xhigh", "max")
            )
    return False


def hides_thoughts(body: Json, target: ResolvedModel) -> bool:
    """Tell whether the thoughts' text is left out.

    The newest models do so in adaptive thinking unless the request asks for a summary.
    """
    thinking = (body.get("additionalModelRequestFields") or {}).get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "adaptive":
        return False
    usual = "omitted" if target.traits.newest_claude else "summarized"
    return thinking.get("display", usual) == "omitted"


def input_tokens(body: Json) -> int:
    """Count the tokens of a request, the same in every region.

    All texts, the tool descriptions, and a fixed number per message and picture.
    """
    total = 3
    for block in body.get("system") or ():
        total += tokens.count(str(block.get("text", "")))
    for message in body.get("messages") or ():
        total += MESSAGE_TOKENS
        for block in message.get("content", ()):
            if "text" in block:
                total += tokens.count(block["text"])
            elif "image" in block:
                total += IMAGE_TOKENS
            elif "document" in block or "video" in block or "audio" in block:
                total += 500 + len(str(block)) // 40
            else:
                total += tokens.count(json.dumps(block, ensure_ascii=False))
    config = body.get("toolConfig")
    if config:
        total += TOOLS_TOKENS + tokens.count(json.dumps(config.get("tools"), ensure_ascii=False))
    return total


def usage(prompt_tokens: int, answer: ModelAnswer) -> dict[str, int]:
    """Return the usage member of a response."""
    return {
        "inputTokens": prompt_tokens,
        "outputTokens": answer.output_tokens,
        "totalTokens": prompt_tokens + answer.output_tokens,
        "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 0,
    }


def body(answer: ModelAnswer, prompt_tokens: int, latency_ms: int) -> bytes:
    """Return the JSON of a Converse response."""
    content: list[Json] = []
    for block in answer.blocks:
        if isinstance(block, Text):
            content.append({"text": block.text})
        elif isinstance(block, ToolUse):
            content.append(
                {"toolUse": {"toolUseId": block.id, "name": block.name, "input": block.input}}
            )
        elif isinstance(block, Reasoning):
            thought = {"text": block.text}
            if block.signature:
                thought["signature"] = block.signature
            content.append({"reasoningContent": {"reasoningText": thought}})
    return wire.dumps(
        {
            "metrics": {"latencyMs": latency_ms},
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": answer.stop_reason,
            "usage": usage(prompt_tokens, answer),
        }
    )


class Frames:
    """A ConverseStream answer as (due seconds, frame) pairs, in order.

    The call's dice decide padding and sizes.
    """

    def __init__(self, pace: Pace, dice: int) -> None:
        self.parts: list[tuple[float, bytes]] = []
        self._pace = pace
        self._dice = dice
        self._written = 0

    def add(self, name: str, payload: Json, size: int = 0) -> None:
        """Add an event; `size` is how many tokens it carries."""
        self._written += size
        self._dice = (self._dice * 1103515245 + 12345) & 0x7FFFFFFF
        due = self._pace.first + self._pace.per_token * max(0, self._written - 1)
        self.parts.append((due, wire.event(name, payload, self._dice >> 8 & 0x3F)))

    def write(self, index: int, kind: str, text: str) -> None:
        """Write deltas of one to three tokens: the first alone, so that it is not late."""
        pieces = tokens.pieces(text)
        start = 0
        while start < len(pieces):
            size = 1 if start == 0 else 1 + self._dice % 3
            part = pieces[start : start + size]
            delta: Json = {"text": "".join(part)}
            if kind == "reasoning":
                delta = {"reasoningContent": delta}
            elif kind == "tool":
                delta = {"toolUse": {"input": "".join(part)}}
            self.add("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}, len(part))
            start += size


def frames(
    answer: ModelAnswer, prompt_tokens: int, pace: Pace, dice: int, faults: Faults
) -> list[tuple[float, bytes]]:
    """Return the event stream of an answer, healthy but for tools that break only when streamed."""
    answer = as_streamed(answer, faults)
    out = Frames(pace, dice)
    out.add("messageStart", {"role": "assistant"})
    for index, block in enumerate(answer.blocks):
        if isinstance(block, Text):
            out.write(index, "text", block.text)
        elif isinstance(block, Reasoning):
            out.write(index, "reasoning", block.text)
            if block.signature:
                delta = {"reasoningContent": {"signature": block.signature}}
                out.add("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})
        elif isinstance(block, ToolUse):
            start = {"toolUse": {"name": block.name, "toolUseId": block.id}}
            out.add("contentBlockStart", {"contentBlockIndex": index, "start": start})
            out.write(index, "tool", answer.raw_inputs.get(index, "{}"))
        out.add("contentBlockStop", {"contentBlockIndex": index})
    out.add("messageStop", {"stopReason": answer.stop_reason})
    latency = max(1, round(1000 * pace.total(answer.output_tokens)))
    out.add("metadata", {"metrics": {"latencyMs": latency}, "usage": usage(prompt_tokens, answer)})
    return out.parts


def decode(data: str) -> bytes:
    """Decode a base64 blob of a request; empty when it is not valid."""
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        return b""
