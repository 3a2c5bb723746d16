"""Our requests are what the vendors' own SDKs describe as theirs, member by member."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from anthropic.types import message_create_params as messages
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses
from pydantic import TypeAdapter

from certification.bedrock.dialects import dialect_for
from certification.inference import (
    API,
    Document,
    Image,
    Message,
    Operation,
    Reasoning,
    Request,
    RouteTarget,
    Text,
    Tool,
    ToolResult,
    ToolUse,
    assistant,
    user,
)

REQUEST = Request(
    (
        user("What?", Image("png", b"\0")),
        assistant(Reasoning("hm", "sig"), "Wait.", ToolUse("1", "get", {"a": 1})),
        Message("user", (ToolResult("1", "ok"), Text("So?"))),
    ),
    max_tokens=2000,
    system="Be kind.",
    tools=(Tool("get", "Gets.", {"type": "object", "properties": {}}),),
    tool_choice="any",
    output_schema={"type": "object"},
)
DOCUMENTS = (user(Document("pdf", "a", b"%PDF")),)
CASES = {
    API.CHAT_COMPLETIONS: (
        "openai.gpt-oss-120b",
        replace(REQUEST, temperature=0.5, stop_sequences=("END",), thinking_effort="low"),
        (chat.CompletionCreateParamsNonStreaming, chat.CompletionCreateParamsStreaming),
    ),
    API.RESPONSES: (
        "us.openai.gpt-5.6-sol",
        replace(REQUEST, thinking_effort="low", messages=REQUEST.messages + DOCUMENTS),
        (responses.ResponseCreateParamsNonStreaming, responses.ResponseCreateParamsStreaming),
    ),
    API.MESSAGES: (
        "anthropic.claude-sonnet-5",
        replace(REQUEST, thinking_effort="low", messages=REQUEST.messages + DOCUMENTS),
        (messages.MessageCreateParamsNonStreaming, messages.MessageCreateParamsStreaming),
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("api", CASES)
def test_a_request_is_one_of_the_vendors_own(api: API) -> None:
    model, request, (whole, streamed) = CASES[api]
    for operation, kind in ((Operation.CONVERSE, whole), (Operation.STREAM, streamed)):
        target = RouteTarget(model, "on_demand", api=api, path_prefix="/v1")
        wire = dialect_for(api).encode(replace(request, operation=operation), target)
        body: dict[str, Any] = json.loads(wire.body)
        TypeAdapter(kind).validate_python(body)
        assert body.keys() <= members(kind)


def members(kind: type) -> set[str]:
    """The members of a TypedDict, its parents' too."""
    return set(kind.__required_keys__ | kind.__optional_keys__)  # type: ignore[attr-defined]
