"""The emulator's runtime operations, called with real boto3: what they answer and refuse."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from certification.bedrock import catalogue
from certification.bedrock.client import Bedrock
from certification.bedrock.connection import EMULATOR, Connection
from certification.bedrock.errors import BedrockError
from certification.emulator import tokens
from certification.inference import AnyRequest, Endpoint, Outcome
from certification.stack import processes
from certification.suite import registry
from certification.suite.case import Context, Ref, execute
from tests import calls
from tests.emulators import (
    MICRO,
    SONNET,
    US_SONNET,
    Probe,
    call_converse,
    post,
    stream,
    streamed_text,
    text_of,
    user_messages,
)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TOOL = {
    "toolSpec": {
        "name": "get_weather",
        "inputSchema": {
            "json": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer", "minimum": 1},
                },
                "required": ["city", "days"],
            }
        },
    }
}
FORCED = {"tools": [TOOL], "toolChoice": {"tool": {"name": "get_weather"}}}
TITAN = "amazon.titan-embed-text-v2:0"


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    with processes.emulator() as (url, _process):
        probe = Probe(url)
        yield probe
        probe.close()


def invoke(
    probe: Probe, model: str, body: Mapping[str, Any], region: str = "us-east-1"
) -> dict[str, Any]:
    answer = probe.client(region=region).invoke_model(modelId=model, body=json.dumps(body))
    return json.loads(answer["body"].read())


def refusal(call: Any, *args: Any, **more: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        call(*args, **more)
    return caught.value


def message(error: ClientError) -> str:
    return str(error.response["Error"]["Message"])


# Converse


def test_converse_answers_the_suites_question_from_the_suites_key(probe: Probe) -> None:
    answer = call_converse(probe, "What is the capital of Portugal? (ref 0000002a-G03-0-0)")
    assert text_of(answer) == "Lisbon"
    assert answer["stopReason"] == "end_turn"
    assert (
        answer["usage"]["totalTokens"]
        == answer["usage"]["inputTokens"] + answer["usage"]["outputTokens"]
    )
    assert answer["metrics"]["latencyMs"] >= 1


def test_the_last_reference_counts_and_later_assistant_turns_step_on(probe: Probe) -> None:
    first = user_messages("Old question (ref 0000002b-G01-0-0)")
    old = {"role": "assistant", "content": [{"text": "An answer."}]}
    messages = [
        *first,
        old,
        *user_messages("What is the capital of Portugal? (ref 0000002a-G03-0-0)"),
    ]
    assert text_of(probe.client().converse(modelId=MICRO, messages=messages)) == "Lisbon"
    beyond = [*messages, old, *user_messages("And now?")]
    assert "emulator" in text_of(probe.client().converse(modelId=MICRO, messages=beyond))


def test_a_question_of_nobody_gets_an_answer_that_says_where_it_comes_from(probe: Probe) -> None:
    assert "emulator of MyIA Certification" in text_of(call_converse(probe, "What is love?"))


def test_a_reference_the_suite_does_not_know_is_no_error(probe: Probe) -> None:
    assert "emulator" in text_of(call_converse(probe, "Hm (ref 0000002a-Z99-0-0)"))
    assert "emulator" in text_of(call_converse(probe, "Hm (ref 0000002a-G03-0-99)"))


def test_max_tokens_cuts_where_it_says(probe: Probe) -> None:
    answer = call_converse(probe, inferenceConfig={"maxTokens": 7})
    assert answer["stopReason"] == "max_tokens"
    assert answer["usage"]["outputTokens"] == tokens.count(text_of(answer)) == 7


def test_a_stop_sequence_ends_the_answer_before_it(probe: Probe) -> None:
    answer = call_converse(probe, inferenceConfig={"stopSequences": ["zebra", "Bedrock"]})
    assert text_of(answer) == "This answer comes from the local "
    assert answer["stopReason"] == "stop_sequence"


def test_a_forced_tool_is_called_with_input_that_fits_its_schema(probe: Probe) -> None:
    answer = call_converse(probe, toolConfig=FORCED)
    call = answer["output"]["message"]["content"][0]["toolUse"]
    assert call["name"] == "get_weather"
    assert call["input"] == {"city": "emulator", "days": 1}
    assert call["toolUseId"].startswith("tooluse_")
    assert answer["stopReason"] == "tool_use"


def test_any_tool_choice_calls_the_first_tool(probe: Probe) -> None:
    answer = call_converse(probe, toolConfig={"tools": [TOOL], "toolChoice": {"any": {}}})
    assert answer["stopReason"] == "tool_use"


def test_structured_output_follows_its_schema(probe: Probe) -> None:
    schema = json.dumps(
        {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]}
    )
    output = {
        "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": schema}}}
    }
    assert json.loads(text_of(call_converse(probe, model=US_SONNET, outputConfig=output))) == {
        "label": "a"
    }
    assert "doesn't support the outputConfig field" in message(
        refusal(call_converse, probe, outputConfig=output)
    )


def test_reasoning_comes_first_on_request_and_always_from_models_that_always_reason(
    probe: Probe,
) -> None:
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    content = call_converse(probe, model=US_SONNET, additionalModelRequestFields=thinking)[
        "output"
    ]["message"]["content"]
    assert content[0]["reasoningContent"]["reasoningText"]["signature"]
    assert content[1]["text"]
    always = call_converse(probe, model="us.deepseek.r1-v1:0")["output"]["message"]["content"]
    assert "reasoningContent" in always[0]
    assert len(call_converse(probe, model=US_SONNET)["output"]["message"]["content"]) == 1


def test_input_tokens_do_not_depend_on_the_region(probe: Probe) -> None:
    regions = ("us-east-1", "eu-west-1", "sa-east-1")
    counts = {
        call_converse(probe, "Count me", f"global.{SONNET}", region)["usage"]["inputTokens"]
        for region in regions
    }
    assert len(counts) == 1


def test_the_region_is_the_one_the_request_is_signed_for(probe: Probe) -> None:
    assert (
        call_converse(probe, model=f"jp.{SONNET}", region="ap-northeast-1")["stopReason"]
        == "end_turn"
    )
    assert (
        message(refusal(call_converse, probe, model=f"jp.{SONNET}"))
        == "The provided model identifier is invalid."
    )


@pytest.mark.parametrize(
    "called",
    [
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-micro-v1:0",
        "us.amazon.nova-micro-v1:0",
    ],
)
def test_arns_and_profiles_reach_their_model(probe: Probe, called: str) -> None:
    assert call_converse(probe, model=called)["stopReason"] == "end_turn"


# ConverseStream


def test_a_stream_has_the_services_events_in_order(probe: Probe) -> None:
    names = [next(iter(event)) for event in stream(probe)]
    assert names[0] == "messageStart"
    assert names[-3:] == ["contentBlockStop", "messageStop", "metadata"]
    assert set(names[1:-3]) == {"contentBlockDelta"}
    assert len(names) > 10


def test_a_stream_says_what_converse_says(probe: Probe) -> None:
    text = "Write the days of the week (ref 0000002a-G02-1-0)"
    assert streamed_text(stream(probe, text)) == text_of(call_converse(probe, text))


def test_streamed_tool_input_comes_in_pieces_that_form_the_json(probe: Probe) -> None:
    events = stream(probe, toolConfig=FORCED)
    start = next(
        event["contentBlockStart"]["start"]["toolUse"]
        for event in events
        if "contentBlockStart" in event
    )
    assert start["name"] == "get_weather"
    parts = [
        e["contentBlockDelta"]["delta"]["toolUse"]["input"]
        for e in events
        if "contentBlockDelta" in e
    ]
    assert len(parts) > 2
    assert json.loads("".join(parts)) == {"city": "emulator", "days": 1}
    assert {"messageStop": {"stopReason": "tool_use"}} in events


def test_streamed_reasoning_ends_with_its_signature(probe: Probe) -> None:
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    events = stream(probe, model=US_SONNET, additionalModelRequestFields=thinking)
    deltas = [e["contentBlockDelta"] for e in events if "contentBlockDelta" in e]
    reasoning = [d["delta"]["reasoningContent"] for d in deltas if d["contentBlockIndex"] == 0]
    assert "".join(r.get("text", "") for r in reasoning).startswith("The request")
    assert reasoning[-1]["signature"]
    assert any(d["contentBlockIndex"] == 1 and d["delta"]["text"] for d in deltas)


def test_a_stream_cut_by_max_tokens_still_sends_stop_and_metadata(probe: Probe) -> None:
    events = stream(probe, inferenceConfig={"maxTokens": 5})
    assert events[-2] == {"messageStop": {"stopReason": "max_tokens"}}
    assert events[-1]["metadata"]["usage"]["outputTokens"] == 5


# Refusals of the addressee


@pytest.mark.parametrize(
    ("model", "region", "code", "expected"),
    [
        (
            "does-not-exist",
            "us-east-1",
            "ValidationException",
            "The provided model identifier is invalid.",
        ),
        (
            SONNET,
            "us-east-1",
            "ValidationException",
            f"Invocation of model ID {SONNET} with on-demand throughput isn’t",
        ),
        (
            "google.gemma-4-31b",  # only on bedrock-mantle
            "us-east-1",
            "ValidationException",
            "The provided model identifier is invalid.",
        ),
        (
            "anthropic.claude-v2:1",
            "us-east-1",
            "ResourceNotFoundException",
            "This model version has reached the end of",
        ),
        (
            "us.anthropic.claude-3-opus-20240229-v1:0",
            "us-east-1",
            "ResourceNotFoundException",
            "This model version has",
        ),
        (
            "openai.gpt-oss-20b",  # its id on bedrock-mantle
            "us-east-1",
            "ValidationException",
            "The provided model identifier is invalid.",
        ),
        (MICRO, "sa-east-1", "ValidationException", "The provided model identifier is invalid."),
        (MICRO, "xx-nowhere-9", "ValidationException", "The provided model identifier is invalid."),
        (
            TITAN,
            "us-east-1",
            "ValidationException",
            "This action doesn't support the model that you provided.",
        ),
        (
            "amazon.nova-canvas-v1:0",
            "us-east-1",
            "ValidationException",
            "This action doesn't support the model that",
        ),
        (
            "arn:aws:bedrock:eu-west-1::foundation-model/" + MICRO,
            "us-east-1",
            "ValidationException",
            "The provided model",
        ),
    ],
)
def test_what_cannot_be_called_is_refused_in_the_services_words(
    probe: Probe, model: str, region: str, code: str, expected: str
) -> None:
    error = refusal(call_converse, probe, model=model, region=region)
    assert error.response["Error"]["Code"] == code
    assert message(error).startswith(expected)
    tail = error.response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-errortype"]
    assert tail == f"{code}:http://internal.amazon.com/coral/com.amazon.bedrock/"


def test_a_legacy_model_works(probe: Probe) -> None:
    assert (
        call_converse(probe, model="anthropic.claude-3-haiku-20240307-v1:0")["stopReason"]
        == "end_turn"
    )


# Refusals of the request


ASSISTANT = {"role": "assistant", "content": [{"text": "Hello"}]}
USE = {
    "role": "assistant",
    "content": [{"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {}}}],
}
RESULT = {
    "role": "user",
    "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "sunny"}]}}],
}
STRAY = {
    "role": "user",
    "content": [{"toolResult": {"toolUseId": "t9", "content": [{"text": "sunny"}]}}],
}
IMAGE = {
    "role": "user",
    "content": [{"image": {"format": "png", "source": {"bytes": PNG}}}, {"text": "What is it?"}],
}
PAPER = {"document": {"format": "txt", "name": "a", "source": {"bytes": b"hello"}}}
BAD_SCHEMA = {"tools": [{"toolSpec": {"name": "x", "inputSchema": {"json": {"type": "string"}}}}]}
OPUS_5 = "us.anthropic.claude-opus-5"
LLAMA = "us.meta.llama3-1-8b-instruct-v1:0"


@pytest.mark.parametrize(
    ("request_body", "expected"),
    [
        ({"messages": []}, "A conversation must start with a user message."),
        ({"messages": [ASSISTANT]}, "A conversation must start with a user message."),
        (
            {"messages": user_messages("a") + user_messages("b")},
            "A conversation must alternate between user and assistant roles.",
        ),
        (
            {"messages": [{"role": "user", "content": []}]},
            "The content field in the Message object at messages.0 is empty.",
        ),
        (
            {"messages": user_messages(" ")},
            "The text field in the ContentBlock object at messages.0.content.0 is blank.",
        ),
        (
            {"messages": [{"role": "robot", "content": [{"text": "a"}]}]},
            "1 validation error detected: Value 'robot'",
        ),
        (
            {"inferenceConfig": {"maxTokens": 0}},
            "1 validation error detected: Value '0' at 'inferenceConfig.maxTokens'",
        ),
        (
            {"inferenceConfig": {"maxTokens": 5001}},
            "The maximum tokens you requested exceeds the model limit of 5000.",
        ),
        (
            {"inferenceConfig": {"temperature": 99}},
            "1 validation error detected: Value '99.0' at 'inferenceConfig.temp",
        ),
        (
            {"inferenceConfig": {"topP": -1}},
            "1 validation error detected: Value '-1.0' at 'inferenceConfig.topP'",
        ),
        (
            {"messages": [*user_messages("a"), USE, *user_messages("b")], "toolConfig": FORCED},
            "Expected toolResult blocks at messages.2.content",
        ),
        (
            {"messages": [*user_messages("a"), USE, STRAY], "toolConfig": FORCED},
            "The number of toolResult blocks at messages.2.",
        ),
        (
            {"messages": [RESULT], "toolConfig": FORCED},
            "The number of toolResult blocks at messages.0.content exceeds",
        ),
        (
            {"messages": [*user_messages("a"), USE, RESULT]},
            "The toolConfig field must be defined when using toolUse and toolResult",
        ),
        (
            {"toolConfig": {"tools": [TOOL], "toolChoice": {"tool": {"name": "other"}}}},
            "The model returned the following",
        ),
        (
            {"toolConfig": {"tools": []}},
            "1 validation error detected: Value '[]' at 'toolConfig.tools'",
        ),
        (
            {"toolConfig": BAD_SCHEMA},
            "The value at toolConfig.tools.0.toolSpec.inputSchema.json.type must be one of",
        ),
        (
            {"messages": [IMAGE]},
            "This model doesn't support the image content block that you provided.",
        ),
        (
            {"messages": [{"role": "user", "content": [PAPER]}]},
            "This model doesn't support documents.",
        ),
        (
            {"additionalModelRequestFields": {"top_k": 3}},
            "Malformed input request: #: extraneous key [top_k] is not permi",
        ),
        (
            {"modelId": OPUS_5, "inferenceConfig": {"temperature": 0.5}},
            "The model returned the following errors: `temper",
        ),
        (
            {"modelId": US_SONNET, "inferenceConfig": {"temperature": 0.5, "topP": 0.5}},
            "The model returned the following",
        ),
        (
            {"modelId": OPUS_5, "messages": [*user_messages("a"), ASSISTANT]},
            "The model returned the following errors: This model do",
        ),
        (
            {"modelId": LLAMA, "toolConfig": FORCED},
            "This model doesn't support the toolConfig.toolChoice.tool field.",
        ),
        (
            {"modelId": "meta.llama3-8b-instruct-v1:0", "toolConfig": FORCED},
            "This model doesn't support tool use.",
        ),
        (
            {"modelId": "mistral.mistral-7b-instruct-v0:2", "system": [{"text": "Be"}]},
            "This model doesn't support system",
        ),
        (
            {"modelId": "qwen.qwen3-32b-v1:0", "inferenceConfig": {"stopSequences": ["x"]}},
            "This model doesn't support the st",
        ),
        (
            {"modelId": "us.openai.gpt-5.6-sol", "inferenceConfig": {"temperature": 1}},
            "This model doesn't support the temp",
        ),
    ],
)
def test_a_request_that_the_model_would_not_take_is_refused(
    probe: Probe, request_body: dict[str, Any], expected: str
) -> None:
    error = refusal(
        probe.client().converse,
        **{"modelId": MICRO, "messages": user_messages("Hello"), **request_body},
    )
    assert error.response["Error"]["Code"] == "ValidationException"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert message(error).startswith(expected)


def test_tools_may_be_refused_only_in_streaming(probe: Probe) -> None:
    open_choice = {"tools": [TOOL]}
    assert call_converse(probe, model=LLAMA, toolConfig=open_choice)["stopReason"] == "end_turn"
    error = refusal(stream, probe, model=LLAMA, toolConfig=open_choice)
    assert message(error) == "This model doesn't support tool use in streaming mode."


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", "Malformed input request, please reformat your input and try again."),
        (b"[]", "Malformed input request: #: expected type: JSONObject, found: JSONArray"),
        (
            b'{"messages": "hi"}',
            "Malformed input request: #/messages: expected type: JSONArray, found: String",
        ),
        (
            b'{"messages": [1]}',
            "Malformed input request: #/messages/0: expected type: JSONObject, found: Integer",
        ),
        (
            b'{"messages": [], "banana": 1}',
            "Malformed input request: #: extraneous key [banana] is not permitted",
        ),
        (
            b'{"messages": [{"role": "user", "content": [{"text": null}]}]}',
            "The ContentBlock object at messages.0.content.0 must set",
        ),
        (
            b'{"messages": [{"role": "user", "content": [{"banana": 1}]}]}',
            "Malformed input request: #/messages/0/content/0: ext",
        ),
        (
            b'{"inferenceConfig": [], "messages": []}',
            "Malformed input request: #/inferenceConfig: expected type: JSONObject",
        ),
        (
            b'{"inferenceConfig": {"maxTokens": "9"}, "messages": []}',
            "Malformed input request: #/inferenceConfig/maxTokens",
        ),
        (
            b'{"messages": [{"role": "user", "content": [{"text": "a"}]}], "toolConfig": 3}',
            "Malformed input request: #/toolC",
        ),
        (
            b'{"messages": [{"role": "user", "content": [{"text": "a"}]}], "system": "x"}',
            "Malformed input request: #/system",
        ),
        (b"\xff\xfe", "Malformed input request, please reformat your input and try again."),
    ],
)
def test_bodies_of_the_wrong_shape_are_a_400_and_never_a_fault(
    probe: Probe, body: bytes, expected: str
) -> None:
    status, _, rest = probe.raw(post(body)).partition(b"\r\n")
    assert status == b"HTTP/1.1 400 Bad Request"
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["message"].startswith(expected)


def test_hostile_nesting_is_answered(probe: Probe) -> None:
    assert probe.raw(post(b"[" * 100_000)).startswith(b"HTTP/1.1 400")


# Credentials


@pytest.mark.parametrize(
    ("key", "code", "expected"),
    [
        (
            "ASIAEXPIRED1",
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ),
        (
            "AKIAINVALID1",
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
    ],
)
def test_bad_access_keys_are_refused_at_the_front_door(
    probe: Probe, key: str, code: str, expected: str
) -> None:
    error = refusal(probe.client("bedrock", key=key).list_foundation_models)
    assert error.response["Error"]["Code"] == code
    error = refusal(probe.client("sts", key=key).get_caller_identity)
    assert error.response["Error"]["Code"] in ("ExpiredToken", "InvalidClientTokenId")
    assert message(error) == expected
    error = refusal(probe.client(key=key).converse, modelId=MICRO, messages=user_messages("Hello"))
    assert (error.response["Error"]["Code"], message(error)) == (code, expected)
    tail = error.response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-errortype"]
    assert tail.endswith("com.amazon.coral.service/")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", b"Missing Authentication Token"),
        ("Authorization: AWS4-HMAC-SHA256 nonsense\r\n", b"requires 'Credential' parameter"),
        ("Authorization: Basic eDp5\r\n", b"requires 'Credential' parameter"),
        ("Authorization: Bearer expired-key\r\n", b'{"Message":"Bearer Token has expired"}'),
        (
            "Authorization: Bearer invalid-key\r\n",
            b'{"Message":"Authentication failed: Please make sure your API Key',
        ),
    ],
)
def test_requests_without_usable_credentials_get_403(
    probe: Probe, header: str, expected: bytes
) -> None:
    received = probe.raw(f"GET /foundation-models HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
    assert received.startswith(b"HTTP/1.1 403 Forbidden")
    assert expected in received


def test_a_bearer_token_is_accepted_and_takes_its_region_from_the_host(probe: Probe) -> None:
    target = "/inference-profiles/jp.anthropic.claude-sonnet-4-6"
    request = (
        f"GET {target} HTTP/1.1\r\nHost: bedrock.ap-northeast-1.localhost\r\n"
        "Authorization: Bearer bedrock-key\r\n\r\n"
    )
    assert probe.raw(request.encode()).startswith(b"HTTP/1.1 200 OK")


# InvokeModel


@pytest.mark.parametrize(
    ("model", "body", "text", "stop"),
    [
        (
            US_SONNET,
            {
                "anthropic_version": "bedrock-2023-05-31",
                "max_tokens": 9,
                "messages": user_messages("Hi"),
            },
            lambda a: a["content"][0]["text"],
            lambda a: a["stop_reason"] == "max_tokens",
        ),
        (
            MICRO,
            {"messages": user_messages("Hi"), "inferenceConfig": {"max_new_tokens": 9}},
            lambda a: a["output"]["message"]["content"][0]["text"],
            lambda a: a["stopReason"] == "max_tokens",
        ),
        (
            LLAMA,
            {"prompt": "Hi", "max_gen_len": 9},
            lambda a: a["generation"],
            lambda a: a["stop_reason"] == "length",
        ),
        (
            "mistral.mistral-7b-instruct-v0:2",
            {"prompt": "Hi", "max_tokens": 9},
            lambda a: a["outputs"][0]["text"],
            lambda a: a["outputs"][0]["stop_reason"] == "length",
        ),
        (
            "cohere.command-r-v1:0",
            {"message": "Hi", "max_tokens": 9},
            lambda a: a["text"],
            lambda a: a["finish_reason"] == "MAX_TOKENS",
        ),
        (
            "openai.gpt-oss-20b-1:0",
            {"messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 9},
            lambda a: a["choices"][0]["message"]["content"],
            lambda a: a["choices"][0]["finish_reason"] == "length",
        ),
    ],
)
def test_invoke_answers_in_the_vendors_own_shape(
    probe: Probe, model: str, body: Any, text: Any, stop: Any
) -> None:
    answer = probe.client().invoke_model(modelId=model, body=json.dumps(body))
    parsed = json.loads(answer["body"].read())
    assert text(parsed).startswith("This answer comes from")
    assert stop(parsed)
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-bedrock-output-token-count"] == "9"
    assert int(headers["x-amzn-bedrock-input-token-count"]) > 0
    assert int(headers["x-amzn-bedrock-invocation-latency"]) > 0


def test_invoke_finds_the_suites_answer_too(probe: Probe) -> None:
    body = {"messages": user_messages("What is the capital of Portugal? (ref 0000002a-G03-0-0)")}
    assert invoke(probe, MICRO, body)["output"]["message"]["content"][0]["text"] == "Lisbon"


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        (
            MICRO,
            {"inputText": "Hi"},
            "Malformed input request: #: extraneous key [inputText] is not permitted",
        ),
        (MICRO, {}, "Malformed input request: #: required key [messages] not found"),
        (US_SONNET, {"messages": user_messages("Hi")}, "anthropic_version: Field required"),
        (LLAMA, {"text": "Hi"}, "Malformed input request: #: required key [prompt] not found"),
        (
            MICRO,
            {"messages": "Hi"},
            "Malformed input request: #/messages: expected type: JSONArray",
        ),
    ],
)
def test_invoke_refuses_another_vendors_body(
    probe: Probe, model: str, body: Any, expected: str
) -> None:
    assert message(refusal(invoke, probe, model, body)).startswith(expected)


def chunks(probe: Probe, model: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    answer = probe.client().invoke_model_with_response_stream(modelId=model, body=json.dumps(body))
    assert answer["contentType"] == "application/json"
    return [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]


def test_claudes_own_stream_comes_as_chunks_and_ends_with_the_metrics(probe: Probe) -> None:
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 50,
        "messages": user_messages("Hi"),
    }
    events = chunks(probe, US_SONNET, body)
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    metrics = events[-1]["amazon-bedrock-invocationMetrics"]
    assert set(metrics) == {
        "inputTokenCount",
        "outputTokenCount",
        "invocationLatency",
        "firstByteLatency",
    }


def test_novas_own_stream_comes_as_chunks_and_ends_with_the_metrics(probe: Probe) -> None:
    events = chunks(probe, MICRO, {"messages": user_messages("Hi")})
    assert "messageStart" in events[0]
    assert {"messageStop": {"stopReason": "end_turn"}} in events
    assert events[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] > 10


def test_a_model_that_does_not_stream_says_so(probe: Probe) -> None:
    error = refusal(
        probe.client().invoke_model_with_response_stream, modelId=TITAN, body=b'{"inputText": "a"}'
    )
    assert message(error) == "The model is unsupported for streaming."


# Embeddings

COHERE = "cohere.embed-multilingual-v3"


def vector(probe: Probe, text: str, dimensions: int = 1024) -> list[float]:
    return invoke(probe, TITAN, {"inputText": text, "dimensions": dimensions})["embedding"]


def cosine(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("model", "body", "size"),
    [
        (TITAN, {"inputText": "Olá"}, 1024),
        (TITAN, {"inputText": "Olá", "dimensions": 256}, 256),
        ("amazon.titan-embed-text-v1", {"inputText": "Olá"}, 1536),
        (
            "amazon.titan-embed-image-v1",
            {"inputText": "Olá", "embeddingConfig": {"outputEmbeddingLength": 384}},
            384,
        ),
    ],
)
def test_titan_embeds_one_text(probe: Probe, model: str, body: Any, size: int) -> None:
    answer = invoke(probe, model, body)
    assert len(answer["embedding"]) == size
    assert answer["inputTextTokenCount"] == 1
    assert cosine(answer["embedding"], answer["embedding"]) == pytest.approx(1, abs=1e-4)


def test_cohere_embeds_a_batch_in_order(probe: Probe) -> None:
    both = invoke(probe, COHERE, {"texts": ["um", "dois"], "input_type": "search_query"})[
        "embeddings"
    ]
    turned = invoke(probe, COHERE, {"texts": ["dois", "um"], "input_type": "search_query"})[
        "embeddings"
    ]
    assert both == turned[::-1]
    assert {len(v) for v in both} == {1024}


def test_cohere_gives_the_requested_types(probe: Probe) -> None:
    body = {
        "texts": ["um"],
        "input_type": "search_query",
        "embedding_types": ["float", "int8", "binary"],
    }
    answer = invoke(probe, "cohere.embed-v4:0", {**body, "output_dimension": 512})
    assert {kind: len(vectors[0]) for kind, vectors in answer["embeddings"].items()} == {
        "float": 512,
        "int8": 512,
        "binary": 64,
    }


def test_nova_and_marengo_embed_in_their_own_shapes(probe: Probe) -> None:
    params = {
        "embeddingPurpose": "GENERIC_INDEX",
        "embeddingDimension": 384,
        "text": {"value": "Olá"},
    }
    nova = invoke(
        probe,
        "amazon.nova-2-multimodal-embeddings-v1:0",
        {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": params},
    )
    assert len(nova["embeddings"][0]["embedding"]) == 384
    marengo = invoke(
        probe,
        "twelvelabs.marengo-embed-3-0-v1:0",
        {"inputType": "text", "text": {"inputText": "Olá"}},
    )
    assert len(marengo["data"][0]["embedding"]) == 512


def test_texts_that_share_words_are_closer_than_texts_that_do_not(probe: Probe) -> None:
    cat, sofa, bank = (
        vector(probe, t)
        for t in ("O gato dorme no sofá", "O gato no sofá dorme bem", "Juros do banco")
    )
    assert cosine(cat, sofa) > 0.6 > cosine(cat, bank)


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        (TITAN, {"texts": ["a"]}, "Malformed input request: #: required key [inputText] not found"),
        (TITAN, {"inputText": ""}, "Malformed input request: #/inputText: expected minLength: 1"),
        (
            TITAN,
            {"inputText": "a", "dimensions": 7},
            "Malformed input request: #/dimensions: 7 is not a valid enum value",
        ),
        (
            TITAN,
            {"inputText": "a" * 60_000},
            "Malformed input request: #/inputText: expected maxLength: 50000, actual: 6",
        ),
        (
            COHERE,
            {"texts": ["a"]},
            "Malformed input request: #: required key [input_type] not found",
        ),
        (
            COHERE,
            {"texts": ["a"] * 97, "input_type": "clustering"},
            "Malformed input request: #/texts: expected maximum",
        ),
        (
            COHERE,
            {"texts": [], "input_type": "clustering"},
            "Malformed input request: #/texts: expected minimum",
        ),
    ],
)
def test_embedding_requests_of_the_wrong_shape_are_refused(
    probe: Probe, model: str, body: Any, expected: str
) -> None:
    assert message(refusal(invoke, probe, model, body)).startswith(expected)


# CountTokens


def test_count_tokens_counts_what_converse_reports(probe: Probe) -> None:
    counted = probe.client().count_tokens(
        modelId=SONNET, input={"converse": {"messages": user_messages("Hello there")}}
    )
    assert (
        counted["inputTokens"]
        == call_converse(probe, "Hello there", US_SONNET)["usage"]["inputTokens"]
    )
    body = json.dumps(
        {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 9,
            "messages": user_messages("Hello there"),
        }
    )
    invoked = probe.client().count_tokens(modelId=SONNET, input={"invokeModel": {"body": body}})
    assert invoked["inputTokens"] == counted["inputTokens"]


@pytest.mark.parametrize("model", [US_SONNET, MICRO, "anthropic.claude-opus-5"])
def test_count_tokens_takes_bare_ids_of_models_that_count(probe: Probe, model: str) -> None:
    error = refusal(
        probe.client().count_tokens,
        modelId=model,
        input={"converse": {"messages": user_messages("Hi")}},
    )
    assert message(error) == "The provided model doesn't support counting tokens."


# The suite


def test_every_model_of_the_catalogue_passes_its_quick_suite_when_healthy(probe: Probe) -> None:
    """The key, the emulator and our own client together: a healthy service must fail nobody."""
    bedrock = Bedrock(Connection(EMULATOR, probe.url))
    failures = []
    for number, model in enumerate(catalogue.load().models.values()):
        where = _anywhere(model) if registry.has_suite(model.kind) else None
        if where is None:
            continue
        for case in registry.cases(model.kind, "quick", model.capabilities):
            script = case.script(Ref(number, case.id, 0))
            outcomes = execute(
                script,
                lambda request, where=where: _call(bedrock, *where, request),
                model.capabilities,
            )
            context = Context(
                reasoning="reasoning" in model.capabilities, dimensions=model.dimensions
            )
            grade = script.grade(outcomes, context)
            if not grade.passed and not grade.lacks:
                failures.append((model.api_model_id, case.id, grade.sentence))
    bedrock.close()
    assert failures == []


def _anywhere(model: catalogue.CatalogueModel) -> tuple[str, str] | None:
    """A region and the id to call there by Converse or InvokeModel; None when neither is known."""
    for region in model.targets:
        route = model.routes_in(region)[0]
        if route.endpoint == Endpoint.RUNTIME and route.api in model.apis:
            return region, route.target_id
    return None


def _call(bedrock: Bedrock, region: str, target: str, request: AnyRequest) -> Outcome:
    try:
        return calls.send(bedrock, region, target, request)
    except BedrockError as error:
        return error.to_failure()
