"""What Chat Completions and Responses share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from certification.bedrock.dialects.dialect import NotExpressible
from certification.bedrock.dialects.quirks import LOW_EFFORT_TOKENS, Quirks
from certification.inference import Message, Request, Text, ToolUse

SCHEMA_NAME = "answer"


def check_conversation(messages: Sequence[Message], api: str) -> None:
    """Raise NotExpressible for what Converse refuses in a conversation and this API takes: a test
    of the refusal does not apply to it.
    """
    if messages and messages[0].role == "assistant":
        raise NotExpressible(f"{api} allows a conversation to start with the assistant.")
    for message in messages:
        if not message.content:
            raise NotExpressible(f"{api} allows a message without content.")
        if any(isinstance(block, Text) and not block.text for block in message.content):
            raise NotExpressible(f"{api} allows a blank text.")


def effort_of(request: Request, quirks: Quirks) -> str:
    """Return the reasoning effort that a request wishes, "" for none or where none is taken."""
    if not quirks.effort:
        return ""
    if request.thinking_effort or request.thinking_tokens is None:
        return request.thinking_effort
    return "low" if request.thinking_tokens <= LOW_EFFORT_TOKENS else "medium"


def sampling(request: Request, quirks: Quirks) -> dict[str, float]:
    """Return temperature and top_p. Raises NotExpressible for what the model refuses."""
    fields: dict[str, float] = {}
    if request.temperature is not None:
        if not quirks.temperature and request.temperature != 1:
            raise NotExpressible("The model takes no temperature other than 1.")
        fields["temperature"] = request.temperature
    if request.top_p is not None:
        if not quirks.top_p:
            raise NotExpressible("The model does not take top_p.")
        fields["top_p"] = request.top_p
    if len(fields) == 2 and not quirks.both_samplings:
        raise NotExpressible("The model takes temperature or top_p, not both.")
    return fields


def arguments_of(use: ToolUse) -> str:
    """Return a tool call's input as the JSON text that the APIs want."""
    return json.dumps(use.input) if use.input is not None else use.raw_input or "{}"


def is_strict(schema: Any) -> bool:
    """Tell whether a JSON Schema is one that `strict` takes.

    Every object closes its properties and requires them all. Source: "Supported schemas" of
    OpenAI's guide to structured outputs.
    """
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object":
        names = set(schema.get("properties") or ())
        if schema.get("additionalProperties") is not False or names != set(
            schema.get("required") or ()
        ):
            return False
    return all(map(is_strict, schema.values()))


def output_format(request: Request) -> dict[str, Any]:
    """Return name, schema and strictness of structured output."""
    schema = dict(request.output_schema or {})
    return {"name": SCHEMA_NAME, "schema": schema, "strict": is_strict(schema)}
