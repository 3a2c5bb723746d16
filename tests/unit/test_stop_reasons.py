"""A response of status 200 whose stop reason names a cause: it gets the reason, owner and fix of an
error, and its text is nobody's answer.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from certification.bedrock import fixes
from certification.inference import AnyRequest, Outcome, Reply, Request, failure_of
from certification.reasons import ORDINARY_STOPS, ErrorCategory, Owner, Reason, Status, stop_cause
from certification.suite import graders, registry
from certification.suite.case import ProbeCache, Ref, execute
from tests import runs

CAUSES = [
    ("guardrail_intervened", Reason.GUARDRAIL),
    ("content_filtered", Reason.CONTENT_FILTER),
    ("refusal", Reason.CONTENT_FILTER),
    ("malformed_tool_use", Reason.MODEL_ERROR),
    ("malformed_model_output", Reason.MODEL_ERROR),
    ("model_context_window_exceeded", Reason.CONTEXT_TOO_LONG),
    # names of vendors, as some routes pass them on
    ("SAFETY", Reason.CONTENT_FILTER),
    ("PROHIBITED_CONTENT", Reason.CONTENT_FILTER),
    ("MALFORMED_FUNCTION_CALL", Reason.MODEL_ERROR),
    ("insufficient_system_resource", Reason.SERVICE_UNAVAILABLE),
    ("overloaded", Reason.SERVICE_UNAVAILABLE),
    ("timed_out", Reason.MODEL_TIMEOUT),
    ("error", Reason.MODEL_ERROR),
    # what nobody knows is no guess
    ("eos", Reason.UNKNOWN),
    ("something_of_next_year", Reason.UNKNOWN),
]


@pytest.mark.parametrize(("stop_reason", "reason"), CAUSES)
def test_a_stop_reason_names_its_cause(stop_reason: str, reason: Reason) -> None:
    reply = runs.saying("Sorry.", stop_reason)(request("G01"))
    failure = failure_of(reply)
    assert failure is not None
    assert (failure.reason, failure.code, failure.partial) == (reason, stop_reason, reply)
    assert stop_reason in failure.message
    grade = graders.not_empty(reply)
    assert not grade.passed
    assert grade.cause == failure
    assert grade.evidence["text"] == "Sorry."
    assert grade.valid is (reason.facts.status is Status.FAILED)


@pytest.mark.parametrize("stop_reason", [*sorted(ORDINARY_STOPS), ""])
def test_an_ordinary_end_names_none(stop_reason: str) -> None:
    assert stop_cause(stop_reason) is None
    reply = runs.saying("Blue.")(request("G01"))
    assert isinstance(reply, Reply)
    assert graders.not_empty(replace(reply, stop_reason=stop_reason)).passed


def request(case_id: str) -> Request:
    built = registry.BY_ID[case_id].script(Ref(41, case_id, 0)).steps[0].request(())
    assert isinstance(built, Request)
    return built


class TestAGuardrail:
    def test_it_is_the_accounts_and_its_fix_names_it(self) -> None:
        facts = Reason.GUARDRAIL.facts
        assert facts.category is ErrorCategory.CONTENT_BLOCKED
        assert facts.owner is Owner.ACCOUNT
        assert facts.status is Status.CONFIGURATION_REQUIRED
        fix = fixes.fix_for(Reason.GUARDRAIL, region="us-east-1")
        assert "guardrail" in fix.text
        assert "guardrails" in fix.command

    def test_one_that_blocks_everything_is_not_the_models_failure(self) -> None:
        verdict = runs.quick_run(
            runs.saying("Your query violates our policy.", "guardrail_intervened")
        )
        assert verdict.verdict is Status.CONFIGURATION_REQUIRED
        assert verdict.reason is Reason.GUARDRAIL
        assert not verdict.failed_gates
        assert verdict.score is None

    def test_one_that_blocks_one_gate_leaves_it_untested(self) -> None:
        verdict = runs.quick_run(stopping_at("G07", "guardrail_intervened"))
        assert verdict.verdict is Status.CONFIGURATION_REQUIRED
        assert verdict.reason is Reason.GUARDRAIL

    def test_its_answer_to_an_invalid_request_says_nothing_about_the_service(self) -> None:
        grade = runs.trial(registry.BY_ID["G10"], runs.saying("Blocked.", "guardrail_intervened"))
        assert not grade.valid

    def test_its_answer_is_no_proof_that_a_parameter_is_taken(self) -> None:
        probes = ProbeCache()
        script = registry.BY_ID["J2"].script(Ref(41, "J2", 0))
        execute(script, runs.saying("Blocked.", "guardrail_intervened"), probes=probes)
        assert not probes.observed


def stopping_at(case_id: str, stop_reason: str) -> runs.Model:
    """A faultless model whose calls of one case end for this reason."""

    def call(sent: AnyRequest) -> Outcome:
        reply = runs.faultless(sent)
        stopped = isinstance(reply, Reply) and f"-{case_id}-" in runs.text_of(sent)
        return replace(reply, stop_reason=stop_reason) if stopped else reply

    return call


@pytest.mark.parametrize(
    ("stop_reason", "verdict", "reason"),
    [
        ("content_filtered", Status.FAILED, Reason.CONTENT_FILTER),
        ("refusal", Status.FAILED, Reason.CONTENT_FILTER),
        ("malformed_model_output", Status.FAILED, Reason.MODEL_ERROR),
        ("something_of_next_year", Status.PENDING, Reason.UNKNOWN),
        ("overloaded", Status.PENDING, Reason.SERVICE_UNAVAILABLE),
    ],
)
def test_a_run_ends_with_the_reason_that_its_answers_name(
    stop_reason: str, verdict: Status, reason: Reason
) -> None:
    judgement = runs.quick_run(stopping_at("G03", stop_reason))
    assert judgement.verdict is verdict
    assert judgement.reason is reason


def test_a_text_too_long_for_the_window_is_no_wrong_answer() -> None:
    case = registry.BY_ID["N2"]
    grade = runs.trial(case, runs.saying("", "model_context_window_exceeded"), context_window=8_000)
    assert grade.lacks == "context_of_16k_tokens"
