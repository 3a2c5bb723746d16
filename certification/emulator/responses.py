"""The Responses API of OpenAI, for the models that Bedrock serves by it."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from typing import Any

from certification.emulator import dialect, refusals, sse
from certification.emulator.answers import ModelAnswer, ParsedRequest, as_streamed
from certification.emulator.body_schema import NUMBER, Shape
from certification.emulator.calls import STREAM_MESSAGES, Invocation, StreamFormat
from certification.emulator.dialect import ApiDialect, Json
from certification.emulator.envelopes import openai_error
from certification.inference import Block, Endpoint, Reasoning, Text, ToolUse

MIN_OUTPUT_TOKENS = 16
# What a response repeats of its request, and what it says when the request does not set it.
ECHOED: dict[str, Any] = {
    "instructions": None, "metadata": {}, "parallel_tool_calls": True, "tool_choice": "auto",
    "tools": [], "truncation": "disabled",
}  # fmt: skip
# The same for GPT and Grok, whose responses have more members than those of gpt-oss.
ECHOED_BY_GPT: dict[str, Any] = {
    **ECHOED, "frequency_penalty": 0.0, "max_output_tokens": None, "max_tool_calls": None,
    "moderation": None, "presence_penalty": 0.0, "previous_response_id": None,
    "prompt_cache_key": None, "prompt_cache_retention": "in_memory", "safety_identifier": None,
    "store": True, "top_logprobs": 0, "user": None,
}  # fmt: skip
MEMBERS = frozenset((
    *ECHOED_BY_GPT, "model", "input", "text", "reasoning", "include", "service_tier", "stream",
    "stream_options", "temperature", "top_p", "background", "prompt",
))  # fmt: skip


def failure(name: str, invocation: Invocation, sent: int) -> bytes:
    """Return the event of a failure in the middle of a stream.

    A failure of the model ends the response as failed; one of the service is an `error` event.
    """
    refusal = refusals.stream_failure(name, STREAM_MESSAGES[name])
    if name == "modelStreamErrorException":
        failed = failed_response(invocation, refusal.message)
        event = {"response": failed, "sequence_number": sent, "type": "response.failed"}
    else:
        error = openai_error(refusal, refusal.status)
        event = {
            "code": error["code"],
            "message": error["message"],
            "param": None,
            "sequence_number": sent,
            "type": "error",
        }
    return encode(event, invocation)


def encode(event: Json, invocation: Invocation) -> bytes:
    """Return an event; gpt-oss sends no names."""
    return sse.data(event) if invocation.target.traits.gpt_oss else sse.named_last(event)


class Responses(ApiDialect):
    """The API of both endpoints."""

    format = StreamFormat(sse.CONTENT_TYPE, sse.corrupted, failure)
    shape: Shape = {
        "input": (list, str), "instructions": str, "max_output_tokens": int, "stream": bool,
        "temperature": NUMBER, "top_p": NUMBER, "store": bool, "background": bool,
        "include": [str], "service_tier": str, "tools": [{"type": str, "name": str}],
        "tool_choice": (dict, str), "metadata": dict,
        "reasoning": {"effort": str, "summary": str},
        "text": {"format": {"type": str, "name": str, "schema": dict}, "verbosity": str},
    }  # fmt: skip

    def parse(self, body: Json, invocation: Invocation) -> tuple[ParsedRequest, int]:
        check_parameters(body, invocation)
        check_tools(body, invocation)
        texts = conversation(body, invocation)
        if body.get("instructions"):
            texts = [("system", body["instructions"]), *texts]
        choice = body.get("tool_choice")
        functions = [] if choice == "none" else body.get("tools") or []
        forced = "any" if choice == "required" else ""
        if isinstance(choice, dict):
            forced = str(choice.get("name", ""))
        options = (body.get("text") or {}).get("format") or {}
        structured = options.get("type") == "json_schema" and not invocation.target.traits.gpt_oss
        request = dialect.parsed(
            texts,
            body.get("max_output_tokens") or invocation.target.model.max_output_tokens,
            None,
            tools={f["name"]: f.get("parameters") or {} for f in functions} or None,
            tool_choice=forced,
            output_schema=options.get("schema") if structured else None,
            reasoning=invocation.target.reasons((body.get("reasoning") or {}).get("effort")),
            system=texts[0][0] in ("system", "developer"),
            streaming=bool(body.get("stream")),
        )
        images = str(body["input"]).count("'input_image'")
        count = dialect.count_texts(texts, body.get("tools"))
        return request, count + dialect.IMAGE_TOKENS * images

    def write(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> dict[str, Any]:
        if invocation.faults.failed:
            text = "The request timed out before the model produced a response."
            return failed_response(invocation, text)
        status = "incomplete" if answer.stop_reason == "max_tokens" else "completed"
        output = [item(i, b, answer, invocation) for i, b in enumerate(answer.blocks)]
        if output and status == "incomplete":
            output[-1]["status"] = status
        response = {
            **head(invocation, status),
            "output": output,
            "usage": usage(answer, prompt_tokens, invocation),
        }
        if status == "incomplete":
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        return response

    def events(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> Iterator[tuple[dict[str, Any], int]]:
        answer = as_streamed(answer, invocation.faults)
        events = self.unnumbered(answer, prompt_tokens, invocation)
        for number, (event, size) in enumerate(events):
            yield {**event, "sequence_number": number}, size

    def unnumbered(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield the events of a response without their sequence numbers."""
        begun = {**head(invocation, "in_progress"), "output": [], "usage": None}
        yield {"type": "response.created", "response": begun}, 0
        yield {"type": "response.in_progress", "response": begun}, 0
        for i, block in enumerate(answer.blocks):
            whole = item(i, block, answer, invocation)
            begin = {**whole, "status": "in_progress"}
            if isinstance(block, ToolUse):
                begin["arguments"] = ""
            elif "content" in whole:
                begin["content"] = []
            yield {"type": "response.output_item.added", "output_index": i, "item": begin}, 0
            where = {"item_id": whole["id"], "output_index": i}
            yield from item_events(block, where, whole, invocation)
            yield {"type": "response.output_item.done", "output_index": i, "item": whole}, 0
        response = self.write(answer, prompt_tokens, invocation)
        yield {"type": f"response.{response['status']}", "response": response}, 0

    def encode(self, event: Json, invocation: Invocation) -> bytes:
        return encode(event, invocation)


def item_events(
    block: Block, where: Json, whole: Json, invocation: Invocation
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the events between the beginning and the end of an output item."""
    if isinstance(block, ToolUse):
        kind, raw = "response.function_call_arguments", whole["arguments"]
        for part, size in sse.deltas(raw, invocation.fingerprint):
            yield {"type": f"{kind}.delta", **where, "delta": part, "obfuscation": ""}, size
        yield {"type": f"{kind}.done", **where, "arguments": raw}, 0
        return
    if not whole.get("content"):  # thoughts that are not shown
        return
    part = whole["content"][0]
    names = ("output_text", "content_part")
    if isinstance(block, Reasoning):
        names = ("reasoning_text", "reasoning_part")
    where = {**where, "content_index": 0}
    yield {"type": f"response.{names[1]}.added", **where, "part": {**part, "text": ""}}, 0
    # gpt-oss sends each text in one piece
    whole_text = [(part["text"], 1)] if part["text"] else []
    in_one = invocation.target.traits.gpt_oss
    for text, size in whole_text if in_one else sse.deltas(part["text"], invocation.fingerprint):
        yield {"type": f"response.{names[0]}.delta", **where, "delta": text}, size
    yield {"type": f"response.{names[0]}.done", **where, "text": part["text"]}, 0
    yield {"type": f"response.{names[1]}.done", **where, "part": part}, 0


def item(index: int, block: Block, answer: ModelAnswer, invocation: Invocation) -> dict[str, Any]:
    """Return an output item. GPT and Grok send their thoughts encrypted, and only on request."""
    unique = f"{invocation.record.request_id.replace('-', '')[:28]}{index:04x}"
    if isinstance(block, ToolUse):
        return {
            "type": "function_call",
            "id": f"fc_{unique}",
            # numbered anew in every response, as recorded
            "call_id": f"call_{sum(i < index for i in answer.raw_inputs)}",
            "name": block.name,
            "arguments": answer.raw_inputs.get(index, "{}"),
            "status": "completed",
        }
    if isinstance(block, Reasoning):
        return reasoning_item(unique, block, invocation)
    text = block.text if isinstance(block, Text) else ""
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
    message: dict[str, Any] = {
        "type": "message",
        "id": f"msg_{unique}",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    if not invocation.target.traits.gpt_oss:
        part["logprobs"] = []
        message["phase"] = "final_answer"
    return message


def reasoning_item(unique: str, block: Reasoning, invocation: Invocation) -> dict[str, Any]:
    """Return the item of the model's thoughts: open, encrypted, or as a summary."""
    if not invocation.target.traits.hidden_reasoning:
        part = {"type": "reasoning_text", "text": block.text}
        return {
            "type": "reasoning",
            "id": f"msg_{unique}",
            "status": "completed",
            "summary": [],
            "content": [part],
        }
    options = invocation.body.get("reasoning") or {}
    summary = [{"type": "summary_text", "text": block.text}] if options.get("summary") else []
    thoughts: dict[str, Any] = {"type": "reasoning", "id": f"rs_{unique}", "summary": summary}
    if "reasoning.encrypted_content" in (invocation.body.get("include") or ()):
        digest = hashlib.sha256(block.text.encode("utf-8", "surrogatepass")).digest()
        thoughts["encrypted_content"] = "rsn_" + base64.urlsafe_b64encode(digest).decode()
    return thoughts


def head(invocation: Invocation, status: str) -> dict[str, Any]:
    """Return the members of a response besides its output and usage."""
    body, now = invocation.body, int(time.time())
    gpt_oss = invocation.target.traits.gpt_oss
    echoed = {
        name: body.get(name, usual)
        for name, usual in (ECHOED if gpt_oss else ECHOED_BY_GPT).items()
    }
    echoed["tools"] = [{"description": None, "strict": False, **tool} for tool in echoed["tools"]]
    text = body.get("text") or {}
    response = {
        **echoed,
        "id": response_id(invocation),
        "object": "response",
        "created_at": float(now) if gpt_oss else now,
        "model": invocation.call.called,
        "status": status,
        "background": bool(body.get("background")),
        "error": None,
        "incomplete_details": None,
        "output": [],
        "service_tier": "auto" if status == "in_progress" and not gpt_oss else "default",
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, "verbosity": "medium", **text},
        "top_p": body.get("top_p", 1.0 if gpt_oss else 0.98),
    }
    if not gpt_oss:
        options = body.get("reasoning") or {}
        response["reasoning"] = {"effort": "medium", "summary": None, **options}
        response["completed_at"] = None if status == "in_progress" else now
        if status != "in_progress":
            response["billing"] = {"payer": "developer"}
    return response


def response_id(invocation: Invocation) -> str:
    return "resp_" + invocation.record.request_id.replace("-", "")


def failed_response(invocation: Invocation, message: str) -> dict[str, Any]:
    """Return a response that failed: HTTP 200, an error, and no usage."""
    error = {"code": "server_error", "message": message}
    return {**head(invocation, "failed"), "error": error}


def usage(answer: ModelAnswer, prompt_tokens: int, invocation: Invocation) -> dict[str, Any]:
    """Return the usage member."""
    details = {"cached_tokens": 0}
    if not invocation.target.traits.gpt_oss:
        details["cache_write_tokens"] = 0
    return {
        "input_tokens": prompt_tokens,
        "input_tokens_details": details,
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": dialect.reasoning_tokens(answer)},
        "total_tokens": prompt_tokens + answer.output_tokens,
    }


def check_parameters(body: Json, invocation: Invocation) -> None:
    """Refuse parameters and values that the API or the model does not take."""
    traits, model = invocation.target.traits, invocation.target.model
    for name in body:
        if name not in MEMBERS:
            raise refusals.unsupported_value(name, f"Unknown parameter: '{name}'.")
    if "input" not in body:
        raise refusals.unsupported_value("input", "Missing required parameter: 'input'.")
    if body.get("background") and invocation.call.endpoint == Endpoint.RUNTIME:
        raise refusals.invalid("The background parameter is not supported.")
    limit = body.get("max_output_tokens")
    dialect.check_limit(limit, "max_output_tokens", MIN_OUTPUT_TOKENS, model.max_output_tokens)
    for name in ("temperature", "top_p"):
        if name in body and traits.default_temperature_only:
            raise refusals.unsupported_parameter(name)
    dialect.check_range(body, "temperature", 2)
    dialect.check_range(body, "top_p", 1)
    effort = (body.get("reasoning") or {}).get("effort")
    dialect.check_effort(effort, "reasoning.effort", invocation)
    dialect.check_tier(body.get("service_tier"))


def check_tools(body: Json, invocation: Invocation) -> None:
    """Refuse tools that are not functions, and choices that the model does not take."""
    tools = body.get("tools") or []
    for i, tool in enumerate(tools):
        kind = tool.get("type")
        if kind != "function":
            raise refusals.unsupported_value(
                "tools",
                f"Tool type '{kind}' is not supported for model `{invocation.call.called}`",
            )
        if "name" not in tool or not isinstance(tool.get("parameters", {}), dict):
            raise refusals.unsupported_value(
                f"tools[{i}].name", f"Missing required parameter: 'tools[{i}].name'."
            )
    if tools and "tools" not in invocation.target.model.capabilities:
        raise dialect.tools_not_supported(invocation)
    choice = body.get("tool_choice", "auto")
    if invocation.target.traits.gpt_oss and choice != "auto":
        named = choice if isinstance(choice, str) else "function"
        raise refusals.unsupported_value(
            "tool_choice", f"Invalid value: '{named}'. Supported values are: 'auto'."
        )
    if isinstance(choice, dict):
        if choice.get("name") not in [tool["name"] for tool in tools]:
            raise refusals.unsupported_value(
                "tool_choice", f"Tool choice '{choice.get('name')}' not found in 'tools' parameter."
            )
    elif choice not in ("auto", "none", "required"):
        raise refusals.unsupported_value(
            "tool_choice",
            f"Invalid value: '{choice}'. Supported values are: 'none', 'auto', and 'required'.",
        )


def conversation(body: Json, invocation: Invocation) -> list[tuple[str, str]]:
    """Return (role, text) of each turn; the items of one turn of the model count as one."""
    items = body["input"]
    if isinstance(items, str):
        return [("user", items)]
    turns: list[tuple[str, str]] = []
    called: set[str] = set()
    for i, one in enumerate(items):
        if not isinstance(one, dict):
            raise refusals.unsupported_value(f"input[{i}]", f"Invalid 'input[{i}]': an object.")
        kind = one.get("type", "message")
        if kind == "message":
            role = one.get("role")
            if role not in ("system", "developer", "user", "assistant"):
                raise refusals.unsupported_value(
                    f"input[{i}].role",
                    f"Invalid value: '{role}'. Supported values are: 'assistant', 'system', "
                    "'developer', and 'user'.",
                )
            dialect.check_content(one.get("content"), f"input[{i}]", invocation)
            text = dialect.flatten(one.get("content"))
        elif kind in ("function_call", "reasoning", "item_reference"):
            called.add(str(one.get("call_id")))
            role, text = "assistant", ""
        elif kind == "function_call_output":
            if str(one.get("call_id")) not in called:
                raise refusals.unsupported_value(
                    "input",
                    f"No tool call found for function call output with call_id "
                    f"{one.get('call_id')}.",
                )
            role, text = "user", dialect.flatten(one.get("output"))
        else:
            raise refusals.unsupported_value(f"input[{i}]", f"Invalid value: '{kind}'.")
        if turns and role == "assistant" == turns[-1][0]:
            turns[-1] = (role, "\n".join(filter(None, (turns[-1][1], text))))
        else:
            turns.append((role, text))
    if not turns:
        raise refusals.unsupported_value("input", "Invalid 'input': empty array.")
    return turns
