"""Responses, OpenAI's newer API, which both endpoints speak for GPT, Grok and some open models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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
from certification.bedrock.dialects.media import document_url, image_url
from certification.bedrock.dialects.quirks import Quirks, quirks_of
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
    Tool,
    ToolResult,
    ToolUse,
    Usage,
)
from certification.reasons import Reason

MIN_OUTPUT_TOKENS = 16  # less is refused
INCOMPLETE = {"max_output_tokens": "max_tokens", "content_filter": "content_filtered"}


class Responses:
    """The dialect; see `dialect.Dialect`."""

    def encode(
        self, request: Request, target: RouteTarget, quirks: Quirks | None = None
    ) -> WireRequest:
        body = body_of(request, target.target_id, quirks or quirks_of(target.target_id))
        streams = request.operation is Operation.STREAM
        return WireRequest(
            f"{target.path_prefix}/responses",
            json.dumps(body).encode(),
            headers=STREAM_HEADERS if streams else JSON_HEADERS,
        )

    def decode(self, response: WireResponse, timing: Timing) -> Reply:
        answer = payload.object_of(response, Operation.CONVERSE)
        if answer.get("status") == "failed":
            raise payload.fault_of(answer, response, Operation.CONVERSE)
        with payload.checked(response, Operation.CONVERSE):
            output = shape.items(answer, "output")
            return Reply(
                content=tuple(block for item in output for block in blocks_from(item)),
                stop_reason=stop_reason_of(answer, output),
                usage=usage_from(shape.mapping(answer, "usage")),
                timing=timing,
                request_id=errors.request_id_in(response.headers),
            )

    def stream_reader(self, started: float, headers: Mapping[str, str]) -> StreamReader:
        if not is_stream(headers):
            return payload.WholeBody(headers, "server-sent events")
        return ResponsesStreamReader(started, headers)


def body_of(request: Request, model_id: str, quirks: Quirks) -> dict[str, Any]:
    """Return the JSON body. It holds only what the request sets. Raises NotExpressible.

    `store` is always false: AWS would keep the response for 30 days.
    """
    if request.stop_sequences:
        raise NotExpressible("Responses takes no stop sequences.")
    openai.check_conversation(request.messages, "Responses")
    body: dict[str, Any] = {
        "model": model_id,
        "input": input_of(request.messages),
        "max_output_tokens": cap_of(request.max_tokens),
        "store": False,
        **openai.sampling(request, quirks),
    }
    if request.system:
        body["instructions"] = request.system
    if request.tools:
        if request.tool_choice and not quirks.forced_tools:
            raise NotExpressible("The model takes no tool choice other than auto in Responses.")
        body["tools"] = [tool_of(tool) for tool in request.tools]
        body["tool_choice"] = tool_choice_of(request.tool_choice)
    if effort := openai.effort_of(request, quirks):
        body["reasoning"] = {"effort": effort} | ({"summary": "auto"} if quirks.summary else {})
    if request.output_schema is not None:
        body["text"] = {"format": {"type": "json_schema", **openai.output_format(request)}}
    if request.operation is Operation.STREAM:
        body["stream"] = True
    return body


def cap_of(tokens: int) -> int:
    """Return the cap, raised to the least one; one that no API takes stays as it is."""
    return max(MIN_OUTPUT_TOKENS, tokens) if tokens > 0 else tokens


def tool_of(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.schema),
        "strict": False,  # the default is true, which refuses open schemas
    }


def tool_choice_of(choice: str) -> str | dict[str, Any]:
    if choice in {"", "any"}:
        return "required" if choice else "auto"
    return {"type": "function", "name": choice}


def input_of(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return the items of a conversation. Raises NotExpressible.

    A call's id may come again in the next turn (`call_0`): in one request each must be unique.
    Earlier reasoning is left out: items of it are bound to responses that were not stored.
    """
    entries: list[dict[str, Any]] = []
    call_ids: dict[str, str] = {}  # the model's id to the latest of ours
    for message in messages:
        parts: list[dict[str, Any]] = []
        after: list[dict[str, Any]] = []
        for block in message.content:
            match block:
                case ToolUse(use_id, name):
                    count = sum(entry.get("type") == "function_call" for entry in entries + after)
                    call_ids[use_id] = f"{use_id}_{count}" if use_id in call_ids else use_id
                    call = {"type": "function_call", "call_id": call_ids[use_id], "name": name}
                    after.append(call | {"arguments": openai.arguments_of(block)})
                case ToolResult(use_id, text):
                    call_id = call_ids.get(use_id, use_id)
                    entries.append(
                        {"type": "function_call_output", "call_id": call_id, "output": text}
                    )
                case Reasoning():
                    pass
                case _:
                    parts.append(part_of(block))
        if parts:
            entries.append({"role": message.role, "content": plain_if_text(parts)})
        entries += after
    return entries


def plain_if_text(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return the text of parts that are nothing else: plain, either role may say it."""
    if all(part["type"] == "input_text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def part_of(block: Block) -> dict[str, Any]:
    """Return a text, an image or a document as a part of a message. Raises NotExpressible."""
    match block:
        case Text(text):
            return {"type": "input_text", "text": text}
        case Image():
            return {"type": "input_image", "detail": "auto", "image_url": image_url(block)}
        case Document(fmt, name):
            filename = f"{name}.{fmt}"
            return {"type": "input_file", "filename": filename, "file_data": document_url(block)}
    raise NotExpressible(f"Responses takes no {type(block).__name__}.")


def blocks_from(item: Mapping[str, Any]) -> list[Block]:
    """Return the blocks in an item of the output; none of a kind we do not know.

    Raises WrongShape.
    """
    match item.get("type"):
        case "message":
            parts = shape.items(item, "content")
            texts = (shape.text(part, "text") or shape.text(part, "refusal") for part in parts)
            return [Text(text) for text in texts if text]
        case "reasoning":
            text, hidden = reasoning_in(item), shape.hidden(item, "encrypted_content")
            return [Reasoning(text, redacted=hidden)] if text or hidden else []
        case "function_call":
            arguments = shape.text(item, "arguments")
            name, call_id = shape.text(item, "name"), shape.text(item, "call_id")
            return [ToolUse(call_id, name, arguments_from(arguments), arguments)]
    return []


def reasoning_in(item: Mapping[str, Any]) -> str:
    """Return the text of a reasoning item: the open models' own, of others a summary."""
    parts = shape.items(item, "content") or shape.items(item, "summary")
    return "".join(shape.text(part, "text") for part in parts)


def stop_reason_of(answer: Mapping[str, Any], output: list[Mapping[str, Any]]) -> str:
    """Return Converse's name for how a response ended. Raises WrongShape where it has not."""
    parts = [part for item in output for part in shape.items(item, "content")]
    match answer.get("status"):
        case "completed" if any(part.get("type") == "refusal" for part in parts):
            return "content_filtered"
        case "completed" if any(item.get("type") == "function_call" for item in output):
            return "tool_use"
        case "completed":
            return "end_turn"
        case "incomplete":
            reason = shape.text(shape.mapping(answer, "incomplete_details"), "reason")
            return INCOMPLETE.get(reason, reason or "max_tokens")
    raise shape.WrongShape("a response that is neither completed nor incomplete")


def usage_from(raw: Mapping[str, Any]) -> Usage | None:
    """Return the usage of a response, None without the two counts that matter.

    `input_tokens` includes what came from the cache, as OpenAI counts.
    """
    sent, received = shape.count(raw, "input_tokens"), shape.count(raw, "output_tokens")
    if sent is None or received is None:
        return None
    details = shape.mapping(raw, "input_tokens_details")
    return Usage(
        input_tokens=sent,
        output_tokens=received,
        total_tokens=shape.count(raw, "total_tokens") or sent + received,
        cache_read_tokens=shape.count(details, "cached_tokens") or 0,
        cache_write_tokens=shape.count(details, "cache_write_tokens") or 0,
    )


Key = tuple[int, int]  # output_index, and content_index for texts


class ResponsesStreamReader(SseStreamReader):
    """Reads the events of one streamed response, by their `type`: not all have `event:` lines.

    The last carries the whole response; there is no `[DONE]`.
    """

    final = "response.completed or response.incomplete"

    def take(self, name: str, value: Mapping[str, Any], at: float) -> None:
        kind = shape.text(value, "type") or name
        if kind == "error" or value.get("error"):
            raise self.builder.fault(*errors.fault_in(value))
        if kind.startswith("response.") and not self.events:
            self.builder.emit("messageStart", at)
        item, index = shape.mapping(value, "item"), shape.index(value, "output_index")
        key = (index, shape.index(value, "content_index"))
        match kind.removeprefix("response."):
            case "output_item.added":
                self.start_item(item, index, at)
            case "output_text.delta" | "refusal.delta":
                self.builder.add(key, "text", at, shape.text(value, "delta"))
            case "reasoning_text.delta" | "reasoning_summary_text.delta":
                self.builder.add((index, 0), "reasoning", at, shape.text(value, "delta"))
            case "function_call_arguments.delta":
                self.builder.add((index, 0), "toolUse", at, shape.text(value, "delta"))
            case "output_text.done":
                self.check(key, "text", shape.text(value, "text"), at)
            case "refusal.done":
                self.check(key, "text", shape.text(value, "refusal"), at)
            case "function_call_arguments.done":
                self.check((index, 0), "toolUse", shape.text(value, "arguments"), at)
            case "output_item.done":
                self.finish_item(item, index, at)
            case "completed" | "incomplete" | "failed":
                self.finish(shape.mapping(value, "response"), at)

    def start_item(self, item: Mapping[str, Any], index: int, at: float) -> None:
        if item.get("type") == "function_call":
            use_id, name = shape.text(item, "call_id"), shape.text(item, "name")
            self.builder.start_tool((index, 0), use_id, name, at)

    def check(self, key: Key, kind: str, whole: str, at: float) -> None:
        """Compare a text with its deltas; without any it is one. Raises StreamBroken."""
        deltas = self.builder.text_of(key)
        if not deltas:
            self.builder.add(key, kind, at, whole)
        elif whole and whole != deltas:
            raise self.builder.broken(
                Reason.STREAM_CORRUPT,
                f"The deltas of a {kind} have {len(deltas)} characters, the whole has others "
                f"({len(whole)}).",
            )

    def finish_item(self, item: Mapping[str, Any], index: int, at: float) -> None:
        """Take what an item holds and no delta brought, and end its block."""
        match item.get("type"):
            case "function_call":
                if (index, 0) not in self.builder.blocks:
                    self.start_item(item, index, at)
                self.check((index, 0), "toolUse", shape.text(item, "arguments"), at)
            case "reasoning":
                hidden = shape.hidden(item, "encrypted_content")
                unsent = "" if self.builder.text_of((index, 0)) else reasoning_in(item)
                self.builder.add((index, 0), "reasoning", at, unsent, data=hidden)
            case "message":
                for place, part in enumerate(shape.items(item, "content")):
                    text = shape.text(part, "text") or shape.text(part, "refusal")
                    self.check((index, place), "text", text, at)
        if self.builder.open and self.builder.open[0] == index:
            self.builder.close(at)

    def finish(self, answer: Mapping[str, Any], at: float) -> None:
        """Take the whole response, the end of a stream. Raises BedrockError for a failed one."""
        if answer.get("status") == "failed" or answer.get("error"):
            code, message = errors.fault_in(answer)
            raise self.builder.fault(code, message or "The service reports a failed response.")
        output = shape.items(answer, "output")
        arrived = {index for index, _place in self.builder.blocks}
        for index, item in enumerate(output):
            if index not in arrived:
                self.finish_item(item, index, at)
        self.builder.stop(stop_reason_of(answer, output), at)
        self.builder.usage = usage_from(shape.mapping(answer, "usage"))
        if self.builder.usage:
            self.builder.emit("metadata", at)
        self.done = True
