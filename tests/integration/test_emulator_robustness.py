"""Whatever JSON comes in, the emulator answers as Bedrock would: never with a fault of its own."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from certification.emulator import scenario
from certification.emulator.__main__ import main as emulator_main
from certification.emulator.http import FullResponse, HttpRequest, StreamResponse
from certification.emulator.server import Emulator
from tests.emulators import MICRO, SONNET, US_SONNET, user_messages

AUTHORISED = {
    b"authorization": b"AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/bedrock/aws4_request, "
    b"SignedHeaders=h, Signature=0"
}
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "array", "items": {"anyOf": [{"type": "string"}]}, "minItems": 1}},
    "required": ["a"],
}
TOOLS = {
    "tools": [{"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": SCHEMA}}}],
    "toolChoice": {"any": {}},
}
TOOL_RESULT = {"toolUseId": "t", "content": [{"text": "x"}]}
CONVERSE = {
    "messages": [
        *user_messages("hi (ref 0000002a-G03-0-0)"),
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": TOOL_RESULT},
                {"image": {"format": "png", "source": {"bytes": "aaaa"}}},
            ],
        },
    ],
    "system": [{"text": "s"}],
    "inferenceConfig": {"maxTokens": 2000, "temperature": 0.5, "stopSequences": ["a"]},
    "toolConfig": TOOLS,
    "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    "outputConfig": {"textFormat": {"structure": {"jsonSchema": {"schema": "{}"}}}},
}
CLAUDE = {
    "anthropic_version": "x", "max_tokens": 9, "messages": user_messages("hi"), "system": "s",
    "thinking": {"type": "enabled"},
    "tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "tool", "name": "f"},
    "stop_sequences": ["x"],
}  # fmt: skip
NOVA = {
    "messages": user_messages("hi"),
    "system": [{"text": "a"}],
    "inferenceConfig": {"max_new_tokens": 9},
    "toolConfig": TOOLS,
}
CHAT = {
    "messages": [{"role": "user", "content": "a"}], "max_tokens": 9, "stop": ["a"],
    "tools": [{"function": {"name": "f", "parameters": SCHEMA}}],
}  # fmt: skip
NOVA_EMBED = {
    "taskType": "SINGLE_EMBEDDING",
    "singleEmbeddingParams": {
        "embeddingPurpose": "x",
        "text": {"value": "a"},
        "embeddingDimension": 256,
    },
}
WEATHER = {"name": "f", "description": "d", "parameters": SCHEMA}
CHAT_COMPLETIONS = {
    "model": "openai.gpt-oss-20b",
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "hi (ref 0000002a-G03-0-0)"}]},
        {"role": "assistant", "tool_calls": [{"id": "t", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "t", "content": "x"},
    ],
    "max_tokens": 9, "temperature": 0.5, "stop": ["a"], "reasoning_effort": "low",
    "tools": [{"type": "function", "function": WEATHER}], "tool_choice": "required",
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
    "stream": True, "stream_options": {"include_usage": True},
}  # fmt: skip
RESPONSES = {
    "model": "openai.gpt-5.6-luna",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "(ref 0000002a-G03-0-0)"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "t", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "t", "output": "x"},
    ],
    "instructions": "s", "max_output_tokens": 20, "include": ["reasoning.encrypted_content"],
    "tools": [{"type": "function", **WEATHER}],
    "tool_choice": {"type": "function", "name": "f"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
    "stream": True, "store": False,
}  # fmt: skip
MESSAGES = {
    "model": "anthropic.claude-haiku-4-5", "max_tokens": 2000, "system": [{"text": "s"}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi (ref 0000002a-G03-0-0)"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
    ],
    "thinking": {"type": "enabled", "budget_tokens": 1024}, "stop_sequences": ["x"],
    "tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "auto"},
    "output_config": {"effort": "low"}, "stream": True,
}  # fmt: skip
JUNK = (
    None,
    0,
    -1,
    1.5,
    True,
    "",
    "x",
    [],
    {},
    [None],
    {"a": None},
    [[]],
    "\ud800",
    "(ref 0000002a-G04-0-0)",
    10**30,
)
GONE = object()


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator(scenario.load("healthy"))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, child in inner:
        yield from places(child, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with one place replaced, or gone."""
    if not path:
        return new
    result = copy.deepcopy(value)
    target = result
    for key in path[:-1]:
        target = target[key]
    if new is GONE:
        del target[path[-1]]
    else:
        target[path[-1]] = new
    return result


@pytest.mark.parametrize(
    ("model", "verb", "body"),
    [
        (US_SONNET, "converse", CONVERSE),
        (US_SONNET, "converse-stream", CONVERSE),
        (US_SONNET, "invoke", CLAUDE),
        (US_SONNET, "invoke-with-response-stream", CLAUDE),
        (MICRO, "invoke", NOVA),
        (MICRO, "invoke-with-response-stream", NOVA),
        ("openai.gpt-oss-20b-1:0", "invoke", CHAT),
        ("us.meta.llama3-1-8b-instruct-v1:0", "invoke", {"prompt": "a", "max_gen_len": 9}),
        (
            "cohere.command-r-v1:0",
            "invoke",
            {"message": "a", "max_tokens": 3, "stop_sequences": ["x"]},
        ),
        ("amazon.titan-embed-text-v2:0", "invoke", {"inputText": "a", "dimensions": 256}),
        (
            "amazon.titan-embed-image-v1",
            "invoke",
            {"inputText": "a", "embeddingConfig": {"outputEmbeddingLength": 256}},
        ),
        (
            "cohere.embed-v4:0",
            "invoke",
            {"texts": ["a"], "input_type": "x", "embedding_types": ["int8"]},
        ),
        (
            "cohere.embed-v4:0",
            "invoke",
            {"inputs": [{"content": [{"text": "a"}]}], "input_type": "x"},
        ),
        ("amazon.nova-2-multimodal-embeddings-v1:0", "invoke", NOVA_EMBED),
        (
            "twelvelabs.marengo-embed-3-0-v1:0",
            "invoke",
            {"inputType": "text", "text": {"inputText": "a"}},
        ),
        (
            SONNET,
            "count-tokens",
            {"input": {"converse": {"messages": user_messages("a"), "toolConfig": TOOLS}}},
        ),
        (SONNET, "count-tokens", {"input": {"invokeModel": {"body": "e30="}}}),
    ],
)
def test_no_change_of_a_body_is_a_fault(
    emulator: Emulator, model: str, verb: str, body: Any
) -> None:
    target = f"/model/{model.replace(':', '%3A')}/{verb}".encode()
    for path in places(body):
        for new in (*JUNK, GONE) if path else JUNK:
            data = json.dumps(changed(body, path, new)).encode("utf-8", "surrogatepass")
            reply = emulator.handle(HttpRequest("POST", target, AUTHORISED, data))
            fine = isinstance(reply, StreamResponse) or (
                isinstance(reply, FullResponse) and reply.status in (200, 400)
            )
            assert fine, (path, new, reply)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/bedrock-mantle/us-east-1/v1/chat/completions", CHAT_COMPLETIONS),
        ("/bedrock-mantle/us-east-1/openai/v1/responses", RESPONSES),
        ("/bedrock-mantle/us-east-1/anthropic/v1/messages", MESSAGES),
        ("/bedrock-mantle/us-east-1/anthropic/v1/messages/count_tokens", MESSAGES),
        (
            "/bedrock-runtime/us-east-1/openai/v1/chat/completions",
            {**CHAT_COMPLETIONS, "model": "openai.gpt-oss-20b-1:0"},
        ),
        (
            "/bedrock-runtime/us-east-1/anthropic/v1/messages",
            {**MESSAGES, "model": "us.anthropic.claude-sonnet-5", "thinking": {"type": "adaptive"}},
        ),
    ],
)
def test_no_change_of_a_body_of_the_shared_apis_is_a_fault(
    emulator: Emulator, path: str, body: Any
) -> None:
    for at in places(body):
        for new in (*JUNK, GONE) if at else JUNK:
            data = json.dumps(changed(body, at, new)).encode("utf-8", "surrogatepass")
            reply = emulator.handle(HttpRequest("POST", path.encode(), AUTHORISED, data))
            fine = isinstance(reply, StreamResponse) or (
                isinstance(reply, FullResponse) and reply.status in (200, 400, 404)
            )
            assert fine, (at, new, reply)


@pytest.mark.parametrize("depth", [500, 900, 5000])
def test_deep_nesting_is_no_fault(emulator: Emulator, depth: int) -> None:
    for wrap in (
        '{"messages": [{"role": "user", "content": [{"text": "a", "x": %s}]}]}',
        '{"messages": %s}',
    ):
        data = (wrap % ("[" * depth + "null" + "]" * depth)).encode()
        for verb in ("converse", "invoke"):
            reply = emulator.handle(
                HttpRequest("POST", f"/model/{MICRO}/{verb}".encode(), AUTHORISED, data)
            )
            assert isinstance(reply, FullResponse)
            assert reply.status == 400


@pytest.mark.parametrize(
    "target",
    [
        "/model//converse",
        "/model/converse",
        "/model/%ff%fe/converse",
        "/model/a/b/c/converse",
        "/model/" + "a" * 9000,
        "/foundation-models/%00",
        "/inference-profiles?maxResults=%F0%9F%98%80",
        "/inference-profiles?nextToken=YWZ0ZXI6LTE=",
        "//",
        "/%",
        "/_emulator/none",
        "/foundation-models?byProvider=%00&byProvider=x",
        "/model/arn:aws:bedrock:::x/converse",
        "/bedrock-mantle/us-east-1",
        "/bedrock-mantle/us-east-1/",
        "/bedrock-mantle/us-east-1/v1/models/%ff",
        "/bedrock-mantle/us-east-1/v1/models//",
        "/bedrock-mantle/us-east-1/model/x/converse",
        "/bedrock-mantle/us-east-1/_emulator/stats",
        "/bedrock-mantle//v1/models",
        "/openai/v1/chat/completions",
        "/anthropic/v1/chat/completions",
        "/openai/v1/responses/resp_1/cancel",
    ],
)
def test_odd_paths_are_no_fault(emulator: Emulator, target: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        reply = emulator.handle(HttpRequest(method, target.encode(), AUTHORISED, b"{}"))
        assert isinstance(reply, FullResponse)
        assert reply.status != 500


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--port", "99999"),
            "'99999' is not a port: it must be a whole number between 0 and 65535",
        ),
        (("--port", "abc"), "'abc' is not a port"),
        (("--time-scale", "nan"), "'nan' must be a number of at least 0"),
        (("--fixed-latency-ms", "-1"), "'-1' must be a number of at least 0"),
        (("--host", "nowhere.invalid"), "Cannot listen at port 4599 of nowhere.invalid"),
    ],
)
def test_an_option_that_cannot_work_is_refused_in_a_sentence(arguments, sentence, capfd):
    with contextlib.suppress(SystemExit):  # as argparse ends
        assert emulator_main(list(arguments)) == 2
    stderr = capfd.readouterr().err
    assert sentence in stderr
    assert "Traceback" not in stderr
