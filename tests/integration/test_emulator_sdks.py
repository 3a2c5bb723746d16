"""Unmodified SDKs of OpenAI and Anthropic against the emulator, on both endpoints of Bedrock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
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
