"""What is known of single models, and what a refusal teaches."""

from __future__ import annotations

import json

import pytest

from certification.bedrock.dialects import dialect_for
from certification.bedrock.dialects.quirks import PLAIN, Quirks, learn, quirks_of
from certification.inference import API, Endpoint, Request, RouteTarget, Tool, user
from tests.paths import RECORDINGS

ERRORS = RECORDINGS.parent / "data" / "bedrock_api_errors.jsonl"
CAP = "Unsupported parameter: 'max_tokens' is not supported with this model. Use "


@pytest.mark.parametrize(
    ("target_id", "quirks"),
    [
        ("amazon.nova-micro-v1:0", PLAIN),
        ("openai.gpt-oss-20b-1:0", Quirks(effort=True, forced_tools=False)),
        ("openai.gpt-oss-safeguard-20b", Quirks(effort=True)),
        ("us.xai.grok-4.6", Quirks(effort=True)),
        ("xai.grok-4.3", PLAIN),
        ("google.gemma-4-31b", Quirks(cap_field="max_completion_tokens")),
        ("google.gemma-3-4b-it", PLAIN),
        ("openai.gpt-5.4-2026-03-05", Quirks(cap_field="max_completion_tokens", effort=True)),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0",
         Quirks(both_samplings=False, thinking_forms=("enabled",))),
        ("anthropic.claude-sonnet-4-20250514-v1:0", PLAIN),
    ],
)  # fmt: skip
def test_the_id_says_what_is_known(target_id: str, quirks: Quirks) -> None:
    assert quirks_of(target_id) == quirks


def test_newer_gpt_and_claude_are_known_by_generation() -> None:
    for target_id in ("us.openai.gpt-5.6-sol", "openai.gpt-6-luna", "openai.gpt-6.1-terra"):
        assert quirks_of(target_id).effort_with_tools == "none"
    for target_id in (
        "us.anthropic.claude-opus-4-7", "anthropic.claude-opus-4-8", "anthropic.claude-sonnet-5",
        "global.anthropic.claude-haiku-5-5", "anthropic.claude-fable-5-1",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-5",
    ):  # fmt: skip
        assert quirks_of(target_id).thinking_forms == ("adaptive",)
    assert quirks_of("anthropic.claude-sonnet-4-6").thinking_forms == PLAIN.thinking_forms


@pytest.mark.parametrize(
    ("message", "learned"),
    [
        (CAP + "'max_completion_tokens' instead.", {"cap_field": "max_completion_tokens"}),
        ("Use `max_completion_tokens` instead", {"cap_field": "max_completion_tokens"}),
        (
            "Function tools with reasoning_effort are not supported for us.openai.gpt-5.6-sol in "
            "/v1/chat/completions. To use function tools, use /v1/responses or set "
            "reasoning_effort to 'none'.",
            {"effort": True, "effort_with_tools": "none"},
        ),
        ("`temperature` is deprecated for this model.", {"temperature": False}),
        (
            "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.",
            {"temperature": False},
        ),
        (
            "Unsupported value: 'temperature' does not support 0.5 with this model. Only the "
            "default (1) value is supported.",
            {"temperature": False},
        ),
        (
            "Unsupported parameter: 'top_p' is not supported with this model.",
            {"top_p": False},
        ),
        (
            "`temperature` and `top_p` cannot both be specified for this model. Please use only "
            "one.",
            {"both_samplings": False},
        ),
        ("Unsupported parameter: 'stop' is not supported with this model.", {"stop": False}),
        (
            '"thinking.type.enabled" is not supported for this model. Use '
            '"thinking.type.adaptive" and "output_config.effort" to control thinking behavior.',
            {"thinking_forms": ("adaptive",)},
        ),
        ("adaptive thinking is not supported on this model", {"thinking_forms": ("enabled",)}),
        (
            "Unsupported parameter: 'reasoning.summary' is not supported with this model.",
            {"summary": False},
        ),
        ("Only 'auto' is supported", {}),
        ("tool_choice 'required' is not supported, only 'auto'", {"forced_tools": False}),
        ("The model 'x' does not exist", {}),
        ("", {}),
        ("temperature " * 100_000, {}),
    ],
)
def test_a_refusal_teaches_once(message: str, learned: dict[str, object]) -> None:
    changed = learn(message, PLAIN)
    if not learned:
        assert changed is None
        return
    assert changed == Quirks(**learned)  # type: ignore[arg-type]
    assert learn(message, changed) is None


def test_what_was_known_stays_known() -> None:
    known = quirks_of("us.openai.gpt-5.6-sol")
    changed = learn("Unknown parameter: 'max_completion_tokens'.", known)
    assert changed is not None
    assert (changed.cap_field, changed.effort_with_tools) == ("max_tokens", "none")


def test_what_was_learned_goes_into_the_next_request() -> None:
    target = RouteTarget("new.model", "on_demand", Endpoint.RUNTIME, API.CHAT_COMPLETIONS, "/v1")
    request = Request((user("Hi"),), 10, tools=(Tool("get", "", {}),))
    dialect = dialect_for(API.CHAT_COMPLETIONS)
    learned = learn(CAP + "'max_completion_tokens' instead.", PLAIN)
    body = json.loads(dialect.encode(request, target, learned).body)
    assert (body["max_completion_tokens"], "max_tokens" in body) == (10, False)


@pytest.mark.skipif(not ERRORS.is_file(), reason="the messages are not beside this checkout")
def test_only_refused_parameters_teach_anything() -> None:
    for line in ERRORS.read_text().splitlines():
        error = json.loads(line)
        if error["reason"] != "parameter_not_supported":
            assert learn(error["message"], PLAIN) is None or "max_tokens" in error["message"], error
