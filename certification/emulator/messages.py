"""The Messages API of Anthropic, on paths of its own and as the body of InvokeModel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from certification.emulator import dialect, refusals, sse
from certification.emulator.answers import ModelAnswer, ParsedRequest, as_streamed
from certification.emulator.body_schema import NUMBER, Shape
from certification.emulator.calls import STREAM_MESSAGES, Invocation, StreamFormat
from certification.emulator.dialect import ApiDialect, Dialect, Json
from certification.emulator.envelopes import anthropic_error
from certification.inference import Endpoint, Reasoning, ToolUse

EFFORTS = ("low", "medium", "high", "xhigh", "max")


class MessagesDialect(Dialect):
    """The body of InvokeModel for Claude."""

    shape: Shape = {
        "messages": [dict], "max_tokens": int, "stop_sequences": [str], "thinking": dict,
        "tools": [{"name": str, "input_schema": dict}], "tool_choice": {"type": str, "name": str},
    }  # fmt: skip
    required: tuple[str, ...] = ("anthropic_version", "max_tokens", "messages")

    def parse(self, body: Json, invocation: Invocation) -> tuple[ParsedRequest, int]:
        for key in self.required:
            if key not in body:
                raise refusals.invalid(f"{key}: Field required")
        texts = dialect.conversation(body)
        if texts[0][0] != "user":
            raise refusals.invalid('messages: first message must use the "user" role')
        tools = {str(t.get("name")): t.get("input_schema") or {} for t in body.get("tools") or []}
        choice = body.get("tool_choice") or {}
        forced = str(choice.get("name", "")) if choice.get("type") == "tool" else ""
        request = dialect.parsed(
            texts,
            body["max_tokens"],
            body.get("stop_sequences"),
            tools=None if choice.get("type") == "none" else tools or None,
            tool_choice=forced or ("any" if choice.get("type") == "any" else ""),
            reasoning=body.get("thinking", {}).get("type") in ("enabled", "adaptive"),
            system=bool(body.get("system")),
            streaming=bool(body.get("stream")),
        )
        system = dialect.flatten(body.get("system"))
        return request, dialect.count_texts(texts, system, body.get("tools"))

    def message_head(self, prompt_tokens: int, invocation: Invocation) -> dict[str, Any]:
        return {
            "id": "msg_bdrk_" + invocation.record.request_id.replace("-", "")[:24],
            "type": "message",
            "role": "assistant",
            "model": invocation.target.model.api_model_id.removeprefix("anthropic."),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": usage(prompt_tokens, 1, 0),
        }

    def write(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> dict[str, Any]:
        return {
            **self.message_head(prompt_tokens, invocation),
            "content": [block_json(block) for block in answer.blocks],
            "stop_reason": answer.stop_reason,
            "stop_sequence": answer.stop_sequence or None,
            "usage": usage(prompt_tokens, answer.output_tokens, dialect.reasoning_tokens(answer)),
        }

    def events(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> Iterator[tuple[dict[str, Any], int]]:
        answer = as_streamed(answer, invocation.faults)
        yield {"type": "message_start", "message": self.message_head(prompt_tokens, invocation)}, 0
        for index, block in enumerate(answer.blocks):
            start = block_json(block, empty=True)
            yield {"type": "content_block_start", "index": index, "content_block": start}, 0
            kind, member, text = "text_delta", "text", getattr(block, "text", "")
            if isinstance(block, ToolUse):
                kind, member = "input_json_delta", "partial_json"
                text = answer.raw_inputs.get(index, "")
            elif isinstance(block, Reasoning):
                kind, member = "thinking_delta", "thinking"
            deltas: list[tuple[Json, int]] = [
                ({"type": kind, member: part}, size)
                for part, size in sse.deltas(text, invocation.fingerprint)
            ]
            if isinstance(block, Reasoning) and block.signature:
                deltas.append(({"type": "signature_delta", "signature": block.signature}, 0))
            for delta, size in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}, size
            yield {"type": "content_block_stop", "index": index}, 0
        ending = {"stop_reason": answer.stop_reason, "stop_sequence": answer.stop_sequence or None}
        counts = usage(prompt_tokens, answer.output_tokens, dialect.reasoning_tokens(answer))
        yield {"type": "message_delta", "delta": ending, "usage": counts}, 0
        yield {"type": "message_stop"}, 0


def block_json(block: Any, *, empty: bool = False) -> dict[str, Any]:
    """Return a content block; `empty` is how a stream begins it."""
    if isinstance(block, ToolUse):
        return {
            "type": "tool_use",
            "id": "toolu_bdrk_" + block.id.removeprefix("tooluse_"),
            "name": block.name,
            "input": {} if empty else block.input,
        }
    if isinstance(block, Reasoning):
        return {
            "type": "thinking",
            "thinking": "" if empty else block.text,
            "signature": "" if empty else block.signature,
        }
    return {"type": "text", "text": "" if empty else block.text}


def usage(prompt_tokens: int, output_tokens: int, thinking_tokens: int) -> dict[str, Any]:
    """Return the usage member."""
    return {
        "input_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "output_tokens_details": {"thinking_tokens": thinking_tokens},
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
        "service_tier": "standard",
    }


def failure(name: str, invocation: Invocation, sent: int) -> bytes:
    """Return the event of a failure in the middle of a stream: `error`, inside HTTP 200."""
    refusal = refusals.stream_failure(name, STREAM_MESSAGES[name])
    return sse.named({"type": "error", "error": anthropic_error(refusal)})


class Messages(MessagesDialect, ApiDialect):
    """The API of both endpoints, with what each generation of Claude refuses."""

    format = StreamFormat(sse.CONTENT_TYPE, sse.corrupted, failure)
    required = ("max_tokens", "messages")
    shape: Shape = {
        "messages": [{"role": str, "content": (list, str)}], "max_tokens": int,
        "stop_sequences": [str], "thinking": {"type": str, "budget_tokens": int, "display": str},
        "temperature": NUMBER, "top_p": NUMBER, "stream": bool,
        "tools": [{"name": str, "input_schema": dict}], "tool_choice": {"type": str, "name": str},
        "output_config": {"effort": str, "format": dict}, "system": (list, str),
    }  # fmt: skip

    def parse(self, body: Json, invocation: Invocation) -> tuple[ParsedRequest, int]:
        for key in self.required:
            if key not in body:
                raise refusals.invalid(f"{key}: Field required")
        check_parameters(body, invocation)
        check_thinking(body, invocation)
        check_messages(body, invocation)
        request, count = super().parse(body, invocation)
        return dialect.with_thoughts(request, *shown_thoughts(body, invocation)), count

    def encode(self, event: Json, invocation: Invocation) -> bytes:
        return sse.named(event)


def check_parameters(body: Json, invocation: Invocation) -> None:
    """Refuse parameters and values that the model does not take."""
    traits = invocation.target.traits
    if body["max_tokens"] < 1:
        raise refusals.invalid("max_tokens: Input should be greater than or equal to 1")
    dialect.check_limit(
        body["max_tokens"], "max_tokens", 1, invocation.target.model.max_output_tokens
    )
    if "service_tier" in body:
        raise refusals.invalid("service_tier: Extra inputs are not permitted")
    config = body.get("output_config") or {}
    if "format" in config and invocation.call.endpoint == Endpoint.MANTLE:
        raise refusals.invalid("output_config.format: Extra inputs are not permitted")
    if config.get("effort", "low") not in EFFORTS:
        raise refusals.invalid(
            "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'"
        )
    sampling = [name for name in ("temperature", "top_p", "top_k") if name in body]
    if sampling and traits.newest_claude:
        raise refusals.invalid(f"`{sampling[0]}` is deprecated for this model.")
    if {"temperature", "top_p"} <= set(sampling) and traits.one_sampling_parameter:
        raise refusals.invalid(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only "
            "one."
        )
    for name in ("temperature", "top_p"):
        if not 0 <= body.get(name, 1) <= 1:
            raise refusals.invalid(f"{name}: range: 0..1")
    if invocation.faults.no_stop_sequences and body.get("stop_sequences"):
        raise refusals.invalid("stop_sequences: Extra inputs are not permitted")
    choice = body.get("tool_choice") or {}
    names = [tool.get("name") for tool in body.get("tools") or []]
    if choice.get("type", "auto") not in ("auto", "any", "tool", "none"):
        raise refusals.invalid(
            f"tool_choice: Input tag '{choice['type']}' found using 'type' does not match any of "
            "the expected tags: 'auto', 'any', 'tool', 'none'"
        )
    if choice.get("type") == "tool" and choice.get("name") not in names:
        raise refusals.invalid(
            f"tool_choice: Tool '{choice.get('name')}' not found in provided tools"
        )


def check_thinking(body: Json, invocation: Invocation) -> None:
    """Refuse a way to think that this generation does not have."""
    thinking, traits = body.get("thinking") or {}, invocation.target.traits
    kind = thinking.get("type")
    if kind == "enabled":
        if traits.newest_claude:
            raise refusals.invalid(
                '"thinking.type.enabled" is not supported for this model. Use '
                '"thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
            )
        if thinking.get("budget_tokens", 0) < 1024:
            raise refusals.invalid(
                "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
            )
        if body["max_tokens"] <= thinking["budget_tokens"]:
            raise refusals.invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
    elif kind == "adaptive" and not traits.adaptive_thinking:
        raise refusals.invalid("adaptive thinking is not supported on this model")
    elif kind not in (None, "adaptive", "disabled"):
        raise refusals.invalid(
            f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected "
            "tags: 'adaptive', 'disabled', 'enabled'"
        )
    if kind not in ("enabled", "adaptive"):
        return
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise refusals.invalid("Thinking may not be enabled when tool_choice forces tool use.")
    if body.get("temperature", 1) != 1:
        raise refusals.invalid(
            "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode."
        )


def shown_thoughts(body: Json, invocation: Invocation) -> tuple[bool, bool]:
    """Tell whether the answer has a thinking block, and whether that comes without its text.

    In adaptive thinking a question as small as ours needs none with a low effort; the newest models
    leave the text out unless the request asks for a summary.
    """
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled":
        return True, False
    if thinking.get("type") != "adaptive":
        return False, False
    effort = (body.get("output_config") or {}).get("effort", "high")
    usual = "omitted" if invocation.target.traits.newest_claude else "summarized"
    return effort != "low", thinking.get("display", usual) == "omitted"


def check_messages(body: Json, invocation: Invocation) -> None:
    """Refuse a conversation that is out of order."""
    messages = body["messages"]
    if not messages:
        raise refusals.invalid("messages: at least one message is required")
    called: set[str] = set()
    for i, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant"):
            raise refusals.invalid(
                f'messages: Unexpected role "{role}". Allowed roles are "user" or "assistant".'
            )
        if not content:
            raise refusals.invalid(f"messages.{i}: user messages must have non-empty content")
        dialect.check_content(content, f"messages.{i}", invocation)
        blocks = content if isinstance(content, list) else []
        for j, block in enumerate(blocks):
            if block["type"] == "text" and not str(block.get("text") or "").strip():
                raise refusals.invalid("messages: text content blocks must be non-empty")
            if block["type"] == "tool_result" and str(block.get("tool_use_id")) not in called:
                raise refusals.invalid(
                    f"messages.{i}.content.{j}: unexpected `tool_use_id` found in `tool_result` "
                    f"blocks: {block.get('tool_use_id')}. Each `tool_result` block must have a "
                    "corresponding `tool_use` block in the previous message."
                )
        called = {str(b.get("id")) for b in blocks if b["type"] == "tool_use"}
    if messages[-1]["role"] == "assistant" and invocation.target.traits.no_prefill:
        raise refusals.invalid(
            "This model does not support assistant message prefill. The conversation must end with "
            "a user message."
        )
