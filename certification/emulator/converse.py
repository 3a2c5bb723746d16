"""Converse and ConverseStream: from the request's JSON to what is asked, and from what is said back
to the wire.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from certification.emulator import tokens, wire
from certification.emulator.answers import ModelAnswer, ParsedRequest, find_ref
from certification.emulator.latency import Pace
from certification.emulator.model_directory import Target
from certification.emulator.scenario import Faults
from certification.inference import Reasoning, Text, ToolUse

Json = Mapping[str, Any]

IMAGE_TOKENS = 1000
_TOKENS_OF_BLOCK = 4
_TOKENS_OF_TOOLS = 160


def asked(body: Json, target: Target, *, streaming: bool) -> ParsedRequest:
    """What a valid Converse body asks for."""
    config = body.get("inferenceConfig") or {}
    ref, step = find_ref([(m["role"], _texts(m)) for m in body["messages"]])
    tools = body.get("toolConfig") or {}
    specs = [tool["toolSpec"] for tool in tools.get("tools", []) if "toolSpec" in tool]
    return ParsedRequest(
        ref=ref,
        step=step,
        max_tokens=config.get("maxTokens") or target.model.max_output_tokens,
        stop_sequences=tuple(config.get("stopSequences") or ()),
        tools={spec["name"]: spec["inputSchema"]["json"] for spec in specs} or None,
        tool_choice=_choice(tools.get("toolChoice") or {}),
        output_schema=_output_schema(body.get("outputConfig")),
        reasoning=_reasons(body, target),
        silent=_keeps_thoughts_to_itself(body, target),
        system=bool(body.get("system")),
        streaming=streaming,
    )


def _texts(message: Json) -> str:
    return "\n".join(_block_texts(message["content"]))


def _block_texts(content: list[Json]) -> Iterator[str]:
    for block in content:
        if "text" in block:
            yield block["text"]
        elif "toolResult" in block:
            yield from (c["text"] for c in block["toolResult"].get("content", []) if "text" in c)


def _choice(choice: Json) -> str:
    if "tool" in choice:
        return str(choice["tool"].get("name", ""))
    return "any" if "any" in choice else ""


def _output_schema(config: Json | None) -> Json | None:
    structure = ((config or {}).get("textFormat") or {}).get("structure") or {}
    schema = (structure.get("jsonSchema") or {}).get("schema")
    try:
        parsed = json.loads(schema) if isinstance(schema, str) else schema
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _reasons(body: Json, target: Target) -> bool:
    if target.traits.always_reasons:
        return True
    extra = body.get("additionalModelRequestFields") or {}
    for name in ("thinking", "reasoning_config", "reasoningConfig"):
        options = extra.get(name)
        if isinstance(options, dict) and options.get("type") in ("enabled", "adaptive"):
            return "reasoning" in target.model.capabilities and (
                options["type"] == "enabled" or _thinks_hard(extra)
            )
    return False


def _thinks_hard(extra: Json) -> bool:
    """Adaptive thinking: without an effort Converse shows none, with a low one a question as small
    as ours needs none.
    """
    config = extra.get("output_config")
    return isinstance(config, dict) and config.get("effort") in ("medium", "high", "xhigh", "max")


def _keeps_thoughts_to_itself(body: Json, target: Target) -> bool:
    """The newest models leave the thoughts' text out of adaptive thinking unless a summary is asked
    for.
    """
    thinking = (body.get("additionalModelRequestFields") or {}).get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "adaptive":
        return False
    usual = "omitted" if target.traits.newest_claude else "summarized"
    return thinking.get("display", usual) == "omitted"


def input_tokens(body: Json) -> int:
    """The tokens of a request: all texts, tool descriptions, a fixed price per message and picture.
    The same everywhere.
    """
    total = 3
    for block in body.get("system") or ():
        total += tokens.count(str(block.get("text", "")))
    for message in body.get("messages") or ():
        total += _TOKENS_OF_BLOCK + sum(_tokens_of(block) for block in message.get("content", ()))
    config = body.get("toolConfig")
    if config:
        total += _TOKENS_OF_TOOLS + tokens.count(
            json.dumps(config.get("tools"), ensure_ascii=False)
        )
    return total


def _tokens_of(block: Json) -> int:
    if "text" in block:
        return tokens.count(block["text"])
    if "image" in block:
        return IMAGE_TOKENS
    if "document" in block or "video" in block or "audio" in block:
        return 500 + len(str(block)) // 40
    return tokens.count(json.dumps(block, ensure_ascii=False))


def usage(given: int, said: ModelAnswer) -> dict[str, int]:
    """The usage member of an answer."""
    return {
        "inputTokens": given,
        "outputTokens": said.output_tokens,
        "totalTokens": given + said.output_tokens,
        "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 0,
    }


def body(said: ModelAnswer, given: int, latency_ms: int) -> bytes:
    """The JSON of a Converse answer."""
    content: list[Json] = []
    for block in said.blocks:
        if isinstance(block, Text):
            content.append({"text": block.text})
        elif isinstance(block, ToolUse):
            content.append(
                {"toolUse": {"toolUseId": block.id, "name": block.name, "input": block.input}}
            )
        elif isinstance(block, Reasoning):
            thought = {
                "text": block.text,
                **({"signature": block.signature} if block.signature else {}),
            }
            content.append({"reasoningContent": {"reasoningText": thought}})
    return wire.dumps(
        {
            "metrics": {"latencyMs": latency_ms},
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": said.stop_reason,
            "usage": usage(given, said),
        }
    )


class Frames:
    """A ConverseStream answer as (due seconds, frame) pairs, in order; padding and pace are fixed
    by the call's dice.
    """

    def __init__(self, pace: Pace, dice: int) -> None:
        self.parts: list[tuple[float, bytes]] = []
        self._pace = pace
        self._dice = dice
        self._written = 0

    def add(self, name: str, payload: Json, size: int = 0) -> None:
        """One more event; `size` is how many tokens it carries."""
        self._written += size
        self._dice = (self._dice * 1103515245 + 12345) & 0x7FFFFFFF
        due = self._pace.first + self._pace.per_token * max(0, self._written - 1)
        self.parts.append((due, wire.event(name, payload, self._dice >> 8 & 0x3F)))

    def write(self, index: int, kind: str, text: str) -> None:
        """Deltas of one to three tokens: the first alone, so that the first token is not late."""
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
    said: ModelAnswer, given: int, pace: Pace, dice: int, troubles: Faults
) -> list[tuple[float, bytes]]:
    """The event stream of an answer, healthy but for tools that break only when streamed."""
    out = Frames(pace, dice)
    out.add("messageStart", {"role": "assistant"})
    broken = troubles.tools_broken_streaming
    for index, block in enumerate(said.blocks):
        if isinstance(block, Text):
            out.write(index, "text", block.text)
        elif isinstance(block, Reasoning):
            out.write(index, "reasoning", block.text)
            if block.signature:
                delta = {"reasoningContent": {"signature": block.signature}}
                out.add("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})
        elif isinstance(block, ToolUse):
            _tool(out, index, block, said.raw_inputs.get(index, "{}"), broken)
        out.add("contentBlockStop", {"contentBlockIndex": index})
    stop = "end_turn" if broken == "text" and said.stop_reason == "tool_use" else said.stop_reason
    out.add("messageStop", {"stopReason": stop})
    latency = max(1, round(1000 * pace.total(said.output_tokens)))
    out.add("metadata", {"metrics": {"latencyMs": latency}, "usage": usage(given, said)})
    return out.parts


def _tool(out: Frames, index: int, block: ToolUse, raw: str, broken: str) -> None:
    if broken == "text":
        out.write(
            index, "text", f'<tool_call>{{"name": "{block.name}", "arguments": {raw}}}</tool_call>'
        )
        return
    start = {"toolUse": {"name": block.name, "toolUseId": block.id}}
    out.add("contentBlockStart", {"contentBlockIndex": index, "start": start})
    out.write(index, "tool", _spoil(raw) if broken else raw)


def _spoil(raw: str) -> str:
    """The JSON as a server with a broken tool parser streams it: quotes lost, the end missing."""
    return re.sub(r'"(\w+)":', r"\1:", raw)[:-1] or "{"


def decode(data: str) -> bytes:
    """A base64 blob of a request; empty when it is none."""
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        return b""
