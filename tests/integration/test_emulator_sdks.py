"""Unmodified SDKs of OpenAI and Anthropic against the emulator, on both endpoints of Bedrock."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from certification.inference import Endpoint
from certification.stack import processes
from tests.emulators import Probe

MANTLE, RUNTIME = Endpoint.MANTLE, Endpoint.RUNTIME
OSS, OSS_RUNTIME = "openai.gpt-oss-120b", "openai.gpt-oss-120b-1:0"
QWEN = "qwen.qwen3-32b"
LUNA, LUNA_RUNTIME = "openai.gpt-5.6-luna", "us.openai.gpt-5.6-luna"
CLAUDE, CLAUDE_RUNTIME = "anthropic.claude-sonnet-5", "us.anthropic.claude-sonnet-5"
HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    with processes.emulator() as (url, _process):
        yield Probe(url)


@pytest.fixture
def healthy(probe: Probe) -> Probe:
    probe.page("/_emulator/scenario", b'{"name": "healthy"}')
    return probe


OpenAI = Callable[..., openai.OpenAI]
Anthropic = Callable[..., anthropic.Anthropic]


@pytest.fixture
def openai_at(healthy: Probe) -> OpenAI:
    """A client with a Bedrock API key: (endpoint, path prefix, region, key)."""

    def client(
        endpoint: Endpoint = MANTLE,
        prefix: str = "/openai/v1",
        region: str = "us-east-1",
        key: str = "bedrock-api-key-x",
    ) -> openai.OpenAI:
        url = f"{healthy.url}/{endpoint}/{region}{prefix}"
        return openai.OpenAI(base_url=url, api_key=key, max_retries=0)

    return client


@pytest.fixture
def anthropic_at(healthy: Probe) -> Anthropic:
    """A client with a Bedrock API key, which it sends as x-api-key."""

    def client(endpoint: Endpoint = MANTLE, region: str = "us-east-1") -> anthropic.Anthropic:
        url = f"{healthy.url}/{endpoint}/{region}/anthropic"
        return anthropic.Anthropic(base_url=url, api_key="bedrock-api-key-x", max_retries=0)

    return client


# Chat Completions


@pytest.mark.parametrize(
    ("endpoint", "prefix", "model"),
    [(MANTLE, "/v1", OSS), (MANTLE, "/openai/v1", LUNA), (RUNTIME, "/openai/v1", OSS_RUNTIME)],
)
def test_chat_completions_whole_and_streamed_say_the_same(
    openai_at: OpenAI, endpoint: Endpoint, prefix: str, model: str
) -> None:
    client = openai_at(endpoint, prefix)
    whole = client.chat.completions.create(model=model, messages=HELLO)
    chunks = list(
        client.chat.completions.create(
            model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert "emulator" in text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert whole.model == model


def test_chat_tools_are_called_and_their_results_read(openai_at: OpenAI) -> None:
    client = openai_at(MANTLE, "/v1")
    first = client.chat.completions.create(
        model=QWEN, messages=HELLO, tools=CHAT_TOOLS, tool_choice="required"
    )
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "emulator"}
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    second = client.chat.completions.create(
        model=QWEN, messages=[*HELLO, choice.message, result], tools=CHAT_TOOLS
    )
    assert second.choices[0].finish_reason == "stop"


def test_streamed_chat_tools_assemble_to_the_same_call(openai_at: OpenAI) -> None:
    client = openai_at(MANTLE, "/v1")
    options: Any = {"model": QWEN, "messages": HELLO, "tools": CHAT_TOOLS}
    choice: Any = {"type": "function", "function": {"name": "weather"}}
    with client.chat.completions.stream(**options, tool_choice=choice) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    [call] = streamed.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "emulator"}


def test_chat_shows_thoughts_as_each_family_does(openai_at: OpenAI) -> None:
    def message(client: openai.OpenAI, model: str) -> dict[str, Any]:
        answer = client.chat.completions.create(model=model, messages=HELLO)
        return answer.choices[0].to_dict()["message"]  # type: ignore[return-value]

    assert "reasoning" in message(openai_at(MANTLE, "/v1"), OSS)
    on_runtime = message(openai_at(RUNTIME), OSS_RUNTIME)
    assert "reasoning" not in on_runtime
    assert on_runtime["content"].startswith("<reasoning>")
    assert "reasoning" not in message(openai_at(), LUNA)
    hidden = openai_at().chat.completions.create(model=LUNA, messages=HELLO).usage
    assert hidden is not None
    assert hidden.completion_tokens_details is not None
    assert hidden.completion_tokens_details.reasoning_tokens


def test_chat_follows_a_schema_where_the_model_does(openai_at: OpenAI) -> None:
    structure: Any = {
        "type": "json_schema",
        "json_schema": {"name": "place", "schema": WEATHER, "strict": True},
    }
    options: Any = {"messages": HELLO, "response_format": structure}
    luna = openai_at().chat.completions.create(model=LUNA, **options)
    assert json.loads(luna.choices[0].message.content or "") == {"city": "emulator"}
    ignored = openai_at(RUNTIME).chat.completions.create(model=OSS_RUNTIME, **options)
    assert "emulator of MyIA" in (ignored.choices[0].message.content or "")
    with pytest.raises(openai.BadRequestError, match="Unsupported feature"):
        openai_at(MANTLE, "/v1").chat.completions.create(model=QWEN, **options)


# Responses


@pytest.mark.parametrize(
    ("endpoint", "prefix", "model"),
    [(MANTLE, "/v1", OSS), (MANTLE, "/openai/v1", LUNA), (RUNTIME, "/openai/v1", LUNA_RUNTIME)],
)
def test_responses_whole_and_streamed_say_the_same(
    openai_at: OpenAI, endpoint: Endpoint, prefix: str, model: str
) -> None:
    client = openai_at(endpoint, prefix)
    whole = client.responses.create(model=model, input="Hello", store=False)
    assert whole.status == "completed"
    assert "emulator" in whole.output_text
    with client.responses.stream(model=model, input="Hello", store=False) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert final.output_text == whole.output_text
    assert final.usage == whole.usage


def test_responses_tools_are_called_and_their_results_read(openai_at: OpenAI) -> None:
    client = openai_at()
    tools: Any = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}]
    conversation: Any = [{"role": "user", "content": "Hello"}]
    first = client.responses.create(
        model=LUNA, input=conversation, tools=tools, tool_choice="required"
    )
    [call] = [item for item in first.output if item.type == "function_call"]
    assert json.loads(call.arguments) == {"city": "emulator"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    conversation += [item.to_dict() for item in first.output] + [result]
    second = client.responses.create(model=LUNA, input=conversation, tools=tools)
    assert [item.type for item in second.output] == ["reasoning", "message"]


def test_a_response_that_used_its_budget_on_thoughts_is_incomplete(openai_at: OpenAI) -> None:
    response = openai_at(MANTLE, "/v1").responses.create(
        model=OSS, input="Hello", max_output_tokens=16
    )
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_gpt_encrypts_its_thoughts_and_summarises_them_on_request(openai_at: OpenAI) -> None:
    client = openai_at()
    plain = client.responses.create(model=LUNA, input="Hello").output[0]
    assert plain.to_dict() == {"id": plain.id, "summary": [], "type": "reasoning"}
    shown = client.responses.create(
        model=LUNA,
        input="Hello",
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "high", "summary": "auto"},
    ).output[0]
    assert shown.type == "reasoning"
    assert shown.encrypted_content
    assert shown.summary[0].text
    without = client.responses.create(model=LUNA, input="Hello", reasoning={"effort": "none"})
    assert [item.type for item in without.output] == ["message"]


def test_responses_follow_a_schema(openai_at: OpenAI) -> None:
    structure: Any = {"format": {"type": "json_schema", "name": "place", "schema": WEATHER}}
    response = openai_at().responses.create(model=LUNA, input="Hello", text=structure)
    assert json.loads(response.output_text) == {"city": "emulator"}


# Messages


@pytest.mark.parametrize(("endpoint", "model"), [(MANTLE, CLAUDE), (RUNTIME, CLAUDE_RUNTIME)])
def test_messages_whole_and_streamed_say_the_same(
    anthropic_at: Anthropic, endpoint: Endpoint, model: str
) -> None:
    client = anthropic_at(endpoint)
    whole = client.messages.create(model=model, max_tokens=500, messages=HELLO)
    assert whole.stop_reason == "end_turn"
    assert whole.model == "claude-sonnet-5"
    with client.messages.stream(model=model, max_tokens=500, messages=HELLO) as stream:
        final = stream.get_final_message()
    assert [b.text for b in final.content] == [b.text for b in whole.content]  # type: ignore[union-attr]
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_messages_think_and_call_tools(anthropic_at: Anthropic) -> None:
    client = anthropic_at()
    tools: Any = [{"name": "weather", "input_schema": WEATHER}]
    options: Any = {"model": CLAUDE, "max_tokens": 2000, "tools": tools}
    first = client.messages.create(messages=HELLO, tool_choice={"type": "any"}, **options)
    assert first.stop_reason == "tool_use"
    [call] = [block for block in first.content if block.type == "tool_use"]
    assert call.input == {"city": "emulator"}
    turn: Any = {"role": "assistant", "content": [block.to_dict() for block in first.content]}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    results: Any = {"role": "user", "content": [result]}
    thinking: Any = {"type": "adaptive", "display": "summarized"}
    with client.messages.stream(
        messages=[*HELLO, turn, results],
        thinking=thinking,
        output_config={"effort": "high"},
        **options,
    ) as stream:
        final = stream.get_final_message()
    thought, text = final.content
    assert thought.type == "thinking"
    assert thought.thinking
    assert thought.signature
    assert text.type == "text"


def test_tokens_are_counted_on_mantle_for_the_fifth_generation(anthropic_at: Anthropic) -> None:
    count = anthropic_at().messages.count_tokens(model=CLAUDE, messages=HELLO)
    message = anthropic_at().messages.create(model=CLAUDE, max_tokens=50, messages=HELLO)
    assert count.input_tokens == message.usage.input_tokens
    with pytest.raises(anthropic.BadRequestError):
        anthropic_at().messages.count_tokens(model="anthropic.claude-haiku-4-5", messages=HELLO)


# The SDKs' own ways to Bedrock: signatures


def test_the_bedrock_clients_of_both_sdks_are_understood(healthy: Probe) -> None:
    keys = {"aws_access_key": "AKIATEST", "aws_secret_key": "secret"}
    client = anthropic.AnthropicBedrockMantle(
        **keys, aws_region="us-east-1", base_url=f"{healthy.url}/anthropic"
    )
    assert client.messages.create(model=CLAUDE, max_tokens=50, messages=HELLO).content
    for endpoint, model in (("mantle", LUNA), ("runtime", LUNA_RUNTIME)):
        provider = openai.providers.bedrock(
            endpoint=endpoint,
            region="us-east-1",
            base_url=f"{healthy.url}/openai/v1",
            access_key_id="AKIATEST",
            secret_access_key="secret",
        )
        answer = openai.OpenAI(provider=provider).responses.create(model=model, input="Hello")
        assert answer.status == "completed"


# Models


def test_mantle_lists_its_models_and_bedrock_runtime_none(openai_at: OpenAI) -> None:
    client = openai_at(MANTLE, "/v1")
    models = {model.id: model for model in client.models.list()}
    assert {OSS, QWEN, LUNA, CLAUDE} <= models.keys()
    assert LUNA_RUNTIME not in models
    one = client.models.retrieve(OSS).to_dict()
    assert one == models[OSS].to_dict()
    assert one["status"] == "available"
    with pytest.raises(openai.NotFoundError):
        openai_at(MANTLE, "/openai/v1").models.list()
    with pytest.raises(openai.NotFoundError, match="The model 'gpt-4o' does not exist"):
        client.models.retrieve("gpt-4o")


def test_a_region_without_mantle_answers_nothing(openai_at: OpenAI) -> None:
    with pytest.raises(openai.APIConnectionError):
        openai_at(MANTLE, "/v1", "us-west-1").models.list()
    with pytest.raises(openai.APIConnectionError):
        openai_at(MANTLE, "/v1", "us-west-1").chat.completions.create(model=OSS, messages=HELLO)


# Errors


@pytest.mark.parametrize(
    ("way", "call", "error", "message"),
    [
        (
            (MANTLE, "/v1"),
            ("chat", LUNA),
            openai.BadRequestError,
            "does not support the '/v1/chat/",
        ),
        ((MANTLE, "/v1"), ("chat", "xai.grok-4.3"), openai.BadRequestError, "on this route"),
        ((MANTLE, "/openai/v1"), ("chat", QWEN), openai.BadRequestError, "on this route"),
        ((MANTLE, "/v1"), ("responses", QWEN), openai.BadRequestError, "the '/v1/responses' API"),
        ((MANTLE, "/v1"), ("chat", CLAUDE), openai.BadRequestError, "does not support the"),
        ((MANTLE, "/v1"), ("chat", OSS_RUNTIME), openai.NotFoundError, "does not exist"),
        ((MANTLE, "/openai/v1"), ("chat", LUNA_RUNTIME), openai.NotFoundError, "does not exist"),
        ((RUNTIME, "/openai/v1"), ("chat", OSS), openai.BadRequestError, "identifier is invalid"),
        ((RUNTIME, "/openai/v1"), ("responses", OSS_RUNTIME), openai.NotFoundError, "this API"),
        ((RUNTIME, "/openai/v1"), ("responses", LUNA), openai.BadRequestError, "on-demand"),
        (
            (RUNTIME, "/openai/v1"),
            ("responses", "deepseek.v3.2"),
            openai.BadRequestError,
            "support",
        ),
        ((RUNTIME, "/openai/v1"), ("chat", "amazon.nova-micro-v1:0"), openai.NotFoundError, "API"),
    ],
)
def test_a_model_on_the_wrong_way_is_refused_as_the_service_does(
    openai_at: OpenAI,
    way: tuple[Endpoint, str],
    call: tuple[str, str],
    error: type[openai.APIStatusError],
    message: str,
) -> None:
    client, (api, model) = openai_at(*way), call
    create: Any = client.chat.completions.create if api == "chat" else client.responses.create
    options = {"messages": HELLO} if api == "chat" else {"input": "Hello"}
    with pytest.raises(error, match=message) as caught:
        create(model=model, **options)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id or way[0] == RUNTIME


def test_a_profile_outside_its_geography_is_no_model(openai_at: OpenAI) -> None:
    client = openai_at(RUNTIME, region="ap-southeast-1")
    with pytest.raises(openai.BadRequestError, match="identifier is invalid"):
        client.responses.create(model="us.xai.grok-4.6", input="Hello")
    assert client.responses.create(model="global.xai.grok-4.6", input="Hello").output_text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 50}, "Use 'max_completion_tokens' instead"),
        ({"temperature": 0}, "does not support 0 with this model"),
        ({"top_p": 0.5}, "'top_p' is not supported with this model"),
        ({"stop": ["x"]}, "'stop' is not supported with this model"),
        ({"tools": CHAT_TOOLS}, "Function tools with reasoning_effort are not supported for"),
        ({"reasoning_effort": "minimal"}, "'minimal' is not supported with the"),
        ({"service_tier": "reserved"}, "Invalid value: 'reserved'"),
        ({"max_completion_tokens": 0}, "integer below minimum value"),
        ({"messages": []}, "empty array"),
        ({"tools": CHAT_TOOLS, "reasoning_effort": "none", "tool_choice": "x"}, "Invalid value"),
    ],
)
def test_gpt_refuses_parameters_of_chat(
    openai_at: OpenAI, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        openai_at().chat.completions.create(**{"model": LUNA, "messages": HELLO, **options})


def test_gpt_takes_tools_in_chat_without_reasoning(openai_at: OpenAI) -> None:
    answer = openai_at().chat.completions.create(
        model=LUNA,
        messages=HELLO,
        tools=CHAT_TOOLS,
        tool_choice="required",
        reasoning_effort="none",
    )
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("endpoint", "model", "options", "message"),
    [
        (MANTLE, LUNA, {"max_output_tokens": 8}, "Expected a value >= 16, but got 8 instead"),
        (MANTLE, LUNA, {"top_p": 0.5}, "'top_p' is not supported with this model"),
        (MANTLE, LUNA, {"reasoning": {"effort": "minimal"}}, "'minimal' is not supported"),
        (MANTLE, LUNA, {"tools": [{"type": "web_search"}]}, "Tool type 'web_search' is not"),
        (RUNTIME, LUNA_RUNTIME, {"background": True}, "The background parameter is not supported"),
        (MANTLE, OSS, {"tool_choice": "required"}, "Supported values are: 'auto'"),
        (MANTLE, LUNA, {"input": []}, "empty array"),
        (MANTLE, LUNA, {"extra_body": {"stop": "x"}}, "Unknown parameter: 'stop'"),
    ],
)
def test_responses_refuses_parameters(
    openai_at: OpenAI, endpoint: Endpoint, model: str, options: dict[str, Any], message: str
) -> None:
    client = openai_at(endpoint, "/v1" if model == OSS else "/openai/v1")
    with pytest.raises(openai.BadRequestError, match=message):
        client.responses.create(**{"model": model, "input": "Hello", **options})


HAIKU = "anthropic.claude-haiku-4-5"
ENABLED = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            CLAUDE,
            {"extra_body": {"temperature": 0.5}},
            "`temperature` is deprecated for this model",
        ),
        (CLAUDE, {"thinking": ENABLED}, "is not supported for this model. Use"),
        (HAIKU, {"thinking": {"type": "adaptive"}}, "adaptive thinking is not supported"),
        (HAIKU, {"extra_body": {"temperature": 0.5, "top_p": 0.5}}, "cannot both be specified"),
        (CLAUDE, {"extra_body": {"output_config": {"format": {}}}}, "output_config.format: Extra"),
        (CLAUDE, {"extra_body": {"service_tier": "flex"}}, "service_tier: Extra inputs"),
        (CLAUDE, {"tool_choice": {"type": "tool", "name": "x"}}, "Tool 'x' not found"),
        (CLAUDE, {"messages": []}, "at least one message is required"),
        (LUNA, {}, "does not support the '/anthropic/v1/messages' API"),
    ],
)
def test_messages_refuses_parameters(
    anthropic_at: Anthropic, model: str, options: dict[str, Any], message: str
) -> None:
    arguments = {"model": model, "max_tokens": 2000, "messages": HELLO, **options}
    with pytest.raises(anthropic.BadRequestError, match=message):
        anthropic_at().messages.create(**arguments)


def test_messages_on_runtime_serves_the_newest_claude_only(anthropic_at: Anthropic) -> None:
    model = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    with pytest.raises(anthropic.NotFoundError) as caught:
        anthropic_at(RUNTIME).messages.create(model=model, max_tokens=50, messages=HELLO)
    assert caught.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]


def test_a_refusal_by_iam_is_401_for_openai_and_403_for_anthropic(
    healthy: Probe, openai_at: OpenAI, anthropic_at: Anthropic
) -> None:
    healthy.scenario('[[rule]]\naccess = "iam"\noperation = "*"')
    action = "bedrock-mantle:CreateInference on resource: .*:project/default"
    with pytest.raises(openai.AuthenticationError, match=action) as refused:
        openai_at().responses.create(model=LUNA, input="Hello")
    assert refused.value.code == "access_denied"
    with pytest.raises(anthropic.PermissionDeniedError, match=action):
        anthropic_at().messages.create(model=CLAUDE, max_tokens=50, messages=HELLO)
    with pytest.raises(openai.AuthenticationError, match="bedrock-mantle:ListModels"):
        openai_at(MANTLE, "/v1").models.list()
    with pytest.raises(openai.PermissionDeniedError, match="bedrock:InvokeModel on resource"):
        openai_at(RUNTIME).responses.create(model=LUNA_RUNTIME, input="Hello")


def test_bad_keys_are_401_in_the_shape_of_the_path(openai_at: OpenAI, healthy: Probe) -> None:
    for endpoint in (MANTLE, RUNTIME):
        with pytest.raises(openai.AuthenticationError) as caught:
            openai_at(endpoint, key="invalid-key").responses.create(model=LUNA, input="Hello")
        assert caught.value.code == "invalid_api_key"
    client = anthropic.Anthropic(
        base_url=f"{healthy.url}/bedrock-mantle/us-east-1/anthropic",
        api_key="expired-key",
        max_retries=0,
    )
    with pytest.raises(anthropic.AuthenticationError, match="expired"):
        client.messages.create(model=CLAUDE, max_tokens=50, messages=HELLO)


@pytest.mark.parametrize("fault", ['throttle = "tokens"', "error = 529", "error = 500"])
def test_throttles_and_failures_are_the_typed_errors_of_the_sdks(
    healthy: Probe, openai_at: OpenAI, anthropic_at: Anthropic, fault: str
) -> None:
    healthy.scenario(f"[[rule]]\n{fault}\nretry_after = 7")
    with pytest.raises(openai.APIStatusError) as by_openai:
        openai_at().responses.create(model=LUNA, input="Hello")
    with pytest.raises(anthropic.APIStatusError) as by_anthropic:
        anthropic_at().messages.create(model=CLAUDE, max_tokens=50, messages=HELLO)
    statuses = (by_openai.value.status_code, by_anthropic.value.status_code)
    assert statuses == {"e": (503, 529), "t": (429, 429)}.get(
        "5" if fault.endswith("500") else fault[0], (500, 500)
    )
    assert by_openai.value.response.headers["retry-after"] == "7"


def test_a_model_above_the_retention_mode_is_listed_and_refused(
    healthy: Probe, openai_at: OpenAI, anthropic_at: Anthropic
) -> None:
    fable = "anthropic.claude-fable-5"
    healthy.scenario(f'[[rule]]\nmodel = "{fable}"\naccess = "data_retention"')
    listed = {m.id: m.to_dict() for m in openai_at(MANTLE, "/v1").models.list()}
    assert listed[fable]["status"] == "unavailable"
    assert "data retention mode 'default'" in str(listed[fable]["status_reason"])
    assert listed[CLAUDE]["status"] == "available"
    with pytest.raises(anthropic.BadRequestError, match="data retention mode 'default'"):
        anthropic_at().messages.create(model=fable, max_tokens=50, messages=HELLO)


def test_a_failed_response_is_an_answer_of_status_200(healthy: Probe, openai_at: OpenAI) -> None:
    healthy.scenario("[[rule]]\nfailed = true")
    response = openai_at(MANTLE, "/v1").responses.create(model=OSS, input="Hello")
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.code == "server_error"
    assert response.output == []
    assert response.usage is None


# Streams that break


def test_errors_in_the_middle_of_a_stream_are_those_of_each_api(
    healthy: Probe, openai_at: OpenAI, anthropic_at: Anthropic
) -> None:
    rule = '[[rule]]\nstream = "mid_stream_error"\nstream_error = "{}"'
    healthy.scenario(rule.format("throttlingException"))
    with pytest.raises(openai.APIError, match="Too many requests"):
        list(openai_at().chat.completions.create(model=LUNA, messages=HELLO, stream=True))
    *_, error = openai_at().responses.create(model=LUNA, input="Hello", stream=True)
    assert error.type == "error"
    assert error.code == "rate_limit_exceeded"
    with (
        pytest.raises(anthropic.APIStatusError, match="rate_limit_error"),
        anthropic_at().messages.stream(model=CLAUDE, max_tokens=50, messages=HELLO) as stream,
    ):
        stream.get_final_message()
    healthy.scenario(rule.format("modelStreamErrorException"))
    *_, last = openai_at().responses.create(model=LUNA, input="Hello", stream=True)
    assert last.type == "response.failed"
    assert last.response.error is not None


def test_a_truncated_stream_has_no_end(healthy: Probe, openai_at: OpenAI) -> None:
    healthy.scenario('[[rule]]\nstream = "truncated"')
    chunks = list(openai_at().chat.completions.create(model=LUNA, messages=HELLO, stream=True))
    assert not any(c.choices[0].finish_reason for c in chunks)
    *_, last = openai_at().responses.create(model=LUNA, input="Hello", stream=True)
    assert last.type != "response.completed"


def test_a_corrupted_event_is_no_json(healthy: Probe, openai_at: OpenAI) -> None:
    healthy.scenario('[[rule]]\nstream = "corrupted_frame"')
    with pytest.raises(json.JSONDecodeError):
        list(openai_at().responses.create(model=LUNA, input="Hello", stream=True))


@pytest.mark.parametrize("size", [0, 1, 200])
def test_a_connection_breaks_after_so_many_bytes(
    healthy: Probe, openai_at: OpenAI, size: int
) -> None:
    healthy.scenario(f"[[rule]]\nreset_after_bytes = {size}")
    client = openai_at()
    with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
        client.responses.create(model=LUNA, input="Hello")
    stream = client.responses.create(model=LUNA, input="Hello", stream=True)
    with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
        list(stream)
    whole = client.responses.with_streaming_response.create(model=LUNA, input="Hello")
    body = b""
    with whole as response, contextlib.suppress(httpx2.TransportError):
        for part in response.iter_bytes():
            body += part
    assert len(body) == size
