"""Reasoning on request: each vendor's form on the wire, how the emulator answers it, and what R3
does when it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from certification.bedrock.client import Bedrock
from certification.bedrock.connection import EMULATOR, Connection
from certification.bedrock.dialects import converse
from certification.bedrock.errors import BedrockError, translate
from certification.engine import evidence
from certification.inference import (
    AnyRequest,
    Failure,
    Outcome,
    Reasoning,
    Reply,
    Request,
    Text,
    Timing,
    user,
)
from certification.suite import registry
from certification.suite.case import ALL_CAPABILITIES, Answer, Context, Grade, Ref, execute
from tests import calls
from tests.emulators import MICRO, US_SONNET, Probe, call_converse, stream
from tests.unit.test_suite_full import (
    Choose,
    expected,
    grade_and_requests,
    grade_trial,
    model,
    near_miss_at,
    run,
)

R3 = registry.BY_ID["R3"]
ASKING = Request((user("Hello"),), 1500, thinking_tokens=1024, temperature=0.5, top_p=0.9)
NOVA_2 = "us.amazon.nova-2-lite-v1:0"
OPUS = "us.anthropic.claude-opus-4-7"
OLD_CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"
ENABLED = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
ADAPTIVE = {
    "thinking": {"type": "adaptive", "display": "summarized"},
    "output_config": {"effort": "high"},
}
LOW = {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}
NOT_THIS_FORM = (
    'The model returned the following errors: "thinking.type.enabled" is not supported for this '
    'model. Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
)


class TestWire:
    @pytest.mark.parametrize(
        ("target", "form"),
        [
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", ENABLED),
            (US_SONNET, ENABLED),
            (f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{US_SONNET}", ENABLED),
            ("amazon.nova-2-lite-v1:0", LOW),
            (NOVA_2, LOW),
        ],
    )
    def test_each_vendor_gets_its_own_form_and_never_a_temperature(
        self, target: str, form: dict[str, Any]
    ) -> None:
        wire = converse.body_of(ASKING, target)
        assert wire["additionalModelRequestFields"] == form
        assert wire["inferenceConfig"] == {"maxTokens": 1500}

    def test_claude_may_choose_how_long_it_thinks(self) -> None:
        wire = converse.body_of(replace(ASKING, thinking_tokens=None, thinking_effort="high"), OPUS)
        assert wire["additionalModelRequestFields"] == ADAPTIVE
        assert wire["inferenceConfig"] == {"maxTokens": 1500}

    @pytest.mark.parametrize(
        "asking", [ASKING, replace(ASKING, thinking_tokens=None, thinking_effort="high")]
    )
    @pytest.mark.parametrize(
        "target",
        [MICRO, "us.amazon.nova-pro-v1:0", "openai.gpt-oss-120b-1:0", "us.deepseek.r1-v1:0"],
    )
    def test_other_vendors_get_a_request_without_reasoning(
        self, target: str, asking: Request
    ) -> None:
        wire = converse.body_of(asking, target)
        assert "additionalModelRequestFields" not in wire
        assert wire["inferenceConfig"] == {"maxTokens": 1500, "temperature": 0.5, "topP": 0.9}

    def test_a_large_budget_is_a_medium_effort(self) -> None:
        wire = converse.body_of(replace(ASKING, max_tokens=20_000, thinking_tokens=10_000), NOVA_2)
        assert (
            wire["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"]
            == "medium"
        )

    def test_a_request_without_reasoning_sends_no_field(self) -> None:
        assert "additionalModelRequestFields" not in converse.body_of(
            replace(ASKING, thinking_tokens=None), US_SONNET
        )

    def test_the_evidence_shows_the_budget(self) -> None:
        assert evidence.request(ASKING)["thinking_tokens"] == 1024
        assert "thinking_tokens" not in evidence.request(replace(ASKING, thinking_tokens=None))


def refusing_to_think(message: str) -> Choose:
    """Refuse every request for reasoning within a budget."""

    def choose(request: Request, ref: Ref, step: int) -> Answer | Failure | None:
        if request.thinking_tokens is None:
            return expected(request, ref, step)
        error = ClientError(
            {"Error": {"Code": "ValidationException", "Message": message}}, "Converse"
        )
        return translate(error, "Converse").to_failure(Timing(9.0))

    return choose


class TestFallback:
    def test_the_budget_leaves_room_for_the_answer(self) -> None:
        for trial in range(3):
            for request in grade_and_requests(R3, expected, trial=trial)[1]:
                assert request.thinking_tokens
                assert request.max_tokens > request.thinking_tokens >= 1024
                assert not request.tool_choice
                assert request.temperature is None

    @pytest.mark.parametrize(
        "message",
        [
            NOT_THIS_FORM,
            "The model returned the following errors: thinking: Extra inputs are not permitted",
            "Malformed input request: #: extraneous key [reasoningConfig] is not permitted, please "
            "reformat your input and try again.",
            "The model returned the following errors: Malformed input request: the provided "
            "reasoning config value is invalid, please reformat your input and try again.",
        ],
    )
    def test_a_model_that_refuses_the_budget_gets_a_request_without_it(self, message: str) -> None:
        _grade, (first, *later) = grade_and_requests(R3, refusing_to_think(message))
        assert first.thinking_tokens == 1024
        assert len(later) == 2
        assert all(request.thinking_tokens is None for request in later)
        effort = "high" if "adaptive" in message else ""
        assert later[0] == replace(first, thinking_tokens=None, thinking_effort=effort)

    def test_a_model_that_refuses_the_budget_passes_if_it_shows_its_reasoning(self) -> None:
        grade = run(R3, refusing_to_think(NOT_THIS_FORM))
        assert grade.passed
        assert grade.lacks == "thinking_budget"

    def test_a_model_that_refuses_the_budget_and_hides_its_reasoning_lacks_it(self) -> None:
        def call(request: AnyRequest) -> Outcome:
            reply = model(refusing_to_think(NOT_THIS_FORM))(request)
            if not isinstance(reply, Reply):
                return reply
            return replace(
                reply, content=tuple(b for b in reply.content if not isinstance(b, Reasoning))
            )

        grade = grade_trial(R3, call, 41, 0)
        assert not grade.passed
        assert grade.lacks == "shown_reasoning"

    def test_a_model_that_refuses_both_forms_gets_a_plain_request(self) -> None:
        def choose(request: Request, ref: Ref, step: int) -> Answer | Failure | None:
            message = (
                "thinking.adaptive.display: Extra inputs are not permitted"
                if request.thinking_effort
                else NOT_THIS_FORM
            )
            if not request.thinking_effort and request.thinking_tokens is None:
                return expected(request, ref, step)
            error = ClientError(
                {"Error": {"Code": "ValidationException", "Message": message}}, "Converse"
            )
            return translate(error, "Converse").to_failure(Timing(9.0))

        grade, made = grade_and_requests(R3, choose)
        forms = [(request.thinking_tokens, request.thinking_effort) for request in made]
        assert forms == [(1024, ""), (None, "high"), (None, ""), (None, "")]
        assert grade.passed
        assert grade.lacks == "thinking_budget"
        assert "display" in grade.evidence["refused"]

    def test_an_answer_to_the_fallback_is_graded_like_any_answer(self) -> None:
        def choose(request: Request, ref: Ref, step: int) -> Answer | Failure | None:
            refusal = refusing_to_think(NOT_THIS_FORM)(request, ref, step)
            return refusal if isinstance(refusal, Failure) else near_miss_at(2)(request, ref, step)

        grade = run(R3, choose)
        assert not grade.passed
        assert not grade.lacks


@pytest.fixture
def probe(emulator_url: str) -> Iterator[Probe]:
    probe = Probe(emulator_url)
    yield probe
    probe.close()


def first_block(answer: dict[str, Any]) -> dict[str, Any]:
    block: dict[str, Any] = answer["output"]["message"]["content"][0]
    return block


class TestEmulator:
    @pytest.mark.parametrize(
        ("target", "form"), [(US_SONNET, ENABLED), (NOVA_2, LOW), (OPUS, ADAPTIVE)]
    )
    def test_reasoning_is_shown_on_request(
        self, probe: Probe, target: str, form: dict[str, Any]
    ) -> None:
        assert "reasoningContent" in first_block(
            call_converse(probe, model=target, additionalModelRequestFields=form)
        )
        assert "text" in first_block(call_converse(probe, model=target))
        events = stream(probe, model=target, additionalModelRequestFields=form)
        assert any(
            "reasoningContent" in e.get("contentBlockDelta", {}).get("delta", {}) for e in events
        )

    @pytest.mark.parametrize(
        ("target", "form", "message"),
        [
            (OPUS, ENABLED, "thinking.type.adaptive"),
            (OLD_CLAUDE, ENABLED, "thinking: Extra inputs are not permitted"),
            (MICRO, LOW, "the provided reasoning config value is invalid"),
            (MICRO, ENABLED, "extraneous key [thinking] is not permitted"),
            (
                "us.meta.llama3-3-70b-instruct-v1:0",
                ENABLED,
                "extraneous key [thinking] is not permitted",
            ),
            (
                NOVA_2,
                {"reasoningConfig": {"type": "enabled"}},
                "the provided reasoning config value is invalid",
            ),
            (NOVA_2, {"reasoningConfig": "yes"}, "the provided reasoning config value is invalid"),
            (
                US_SONNET,
                {"thinking": {"type": "enabled", "budget_tokens": 100}},
                "greater than or equal to 1024",
            ),
            (US_SONNET, ADAPTIVE, "adaptive thinking is not supported on this model"),
            (OPUS, ADAPTIVE | {"output_config": {"effort": "enormous"}}, "output_config.effort"),
        ],
    )
    def test_models_refuse_forms_that_they_do_not_support(
        self, probe: Probe, target: str, form: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ClientError, match="ValidationException") as raised:
            call_converse(probe, model=target, additionalModelRequestFields=form)
        assert message in str(raised.value)

    def test_adaptive_reasoning_needs_an_effort_and_shows_text_only_as_a_summary(
        self, probe: Probe
    ) -> None:
        without_effort = call_converse(
            probe, model=OPUS, additionalModelRequestFields={"thinking": {"type": "adaptive"}}
        )
        assert "text" in first_block(without_effort)
        quiet = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}
        thought = first_block(call_converse(probe, model=OPUS, additionalModelRequestFields=quiet))[
            "reasoningContent"
        ]
        assert thought["reasoningText"]["text"] == ""
        assert thought["reasoningText"]["signature"]

    def test_novas_high_effort_refuses_an_inference_config(self, probe: Probe) -> None:
        high = {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}
        assert call_converse(probe, model=NOVA_2, additionalModelRequestFields=high)
        with pytest.raises(ClientError, match="reasoning config"):
            call_converse(
                probe,
                model=NOVA_2,
                additionalModelRequestFields=high,
                inferenceConfig={"maxTokens": 500},
            )

    @pytest.mark.parametrize(
        ("target", "passes", "lacks"),
        [
            (US_SONNET, True, ""),
            (NOVA_2, True, ""),
            ("openai.gpt-oss-120b-1:0", True, ""),
            (OPUS, True, "thinking_budget"),
            ("us.anthropic.claude-sonnet-4-6", True, ""),
            ("qwen.qwen3-32b-v1:0", False, "shown_reasoning"),
        ],
    )
    def test_r3_against_every_kind_of_model(
        self, emulator_url: str, target: str, passes: bool, lacks: str
    ) -> None:
        grade, outcomes = play_r3(emulator_url, target)
        assert grade.passed is passes, grade
        assert grade.lacks == lacks
        if target == US_SONNET:
            [thought] = [b for b in outcomes[0].content if isinstance(b, Reasoning)]
            assert thought.signature
        assert all(
            not (isinstance(b, Text) and "emulator" in b.text) for o in outcomes for b in o.content
        )


def play_r3(url: str, target: str) -> tuple[Grade, list[Reply]]:
    bedrock = Bedrock(Connection(EMULATOR, url))
    replies: list[Reply] = []

    def call(request: AnyRequest) -> Outcome:
        assert isinstance(request, Request)
        try:
            replies.append(calls.converse(bedrock, "us-west-2", target, request))
        except BedrockError as error:
            return error.to_failure(Timing(1.0))
        return replies[-1]

    script = R3.script(Ref(5, "R3", 0))
    grade = script.grade(
        execute(script, call, {*ALL_CAPABILITIES, "reasoning"}), Context(reasoning=True)
    )
    bedrock.close()
    return grade, replies
