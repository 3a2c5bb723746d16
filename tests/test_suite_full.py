"""The scored, performance and information cases: ideal answers pass, near ones do not, broken ones are graded all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certification.bedrock import converse
from certification.emulator.answers import find_ref
from certification.exchange import (
    AnyRequest,
    Failure,
    Operation,
    Outcome,
    Reasoning,
    Reply,
    Request,
    Text,
    Timing,
    ToolResult,
    ToolUse,
)
from certification.reasons import Reason
from certification.suite import graders, key, registry, rehearsal
from certification.suite.case import (
    ALL_CAPABILITIES,
    REASONING_ROOM,
    Answer,
    Case,
    Context,
    Grade,
    Kind,
    Ref,
    play,
    says,
)
from certification.suite.cases.gates import GATES
from tests.test_graders import OUTCOMES, judge_sound

SEEDS = (41, 2**31 + 7)
TRIALS = range(6)
EVERYTHING = frozenset({*ALL_CAPABILITIES, "reasoning"})
CASES = [case for case in registry.cases("text", "full", EVERYTHING) if case not in GATES]
EACH = [pytest.param(c, s, t, id=f"{c.id}-{s}-{t}") for c in CASES for s in SEEDS for t in TRIALS]
Choose = Callable[[Request, Ref, int], Answer | Failure | None]


def model(choose: Choose) -> Callable[[AnyRequest], Outcome]:
    """A model behind the wire: finds the reference and the turn in the conversation and answers as `choose` says."""

    def call(request: AnyRequest) -> Outcome:
        assert isinstance(request, Request)
        ref, step = find_ref([(m.role, _text(m.content)) for m in request.messages])
        assert ref is not None
        answer = choose(request, ref, step)
        assert answer is not None
        return (
            replace(answer, operation=request.operation)
            if isinstance(answer, Failure)
            else rehearsal.reply(request, answer)
        )

    return call


def _text(content: tuple[Any, ...]) -> str:
    return "\n".join(b.text for b in content if isinstance(b, Text | ToolResult))


def ideal(request: Request, ref: Ref, step: int) -> Answer | None:
    found = key.answer(ref, step)
    assert found is not None
    return found.ideal


def near_at(wrong: int) -> Choose:
    def choose(request: Request, ref: Ref, step: int) -> Answer | None:
        found = key.answer(ref, step)
        assert found is not None
        return found.near if step == wrong else found.ideal

    return choose


def refusing(message: str, when: Callable[[Request], bool]) -> Choose:
    """The ideal model, which refuses some requests as invalid."""

    def choose(request: Request, ref: Ref, step: int) -> Answer | Failure | None:
        if when(request):
            return Failure(Reason.PARAMETER_NOT_SUPPORTED, message, "ValidationException", 400, timing=Timing(9.0))
        return ideal(request, ref, step)

    return choose


def run(case: Case, choose: Choose, seed: int = SEEDS[0], trial: int = 0, **context: Any) -> Grade:
    return graded(case, model(choose), seed, trial, **context)


def graded(case: Case, call: Callable[[AnyRequest], Outcome], seed: int, trial: int, **context: Any) -> Grade:
    script = case.script(Ref(seed, case.id, trial))
    return script.grade(play(script, call), Context(**context))


def requests(case: Case, seed: int, trial: int, capabilities: frozenset[str] = ALL_CAPABILITIES) -> list[Request]:
    seen: list[Request] = []

    def call(request: AnyRequest) -> Outcome:
        assert isinstance(request, Request)
        seen.append(request)
        return model(ideal)(request)

    play(case.script(Ref(seed, case.id, trial)), call, capabilities)
    return seen


def case_of(case_id: str) -> Case:
    return registry.BY_ID[case_id]


@pytest.mark.parametrize(("case", "seed", "trial"), EACH)
def test_the_ideal_answer_passes(case: Case, seed: int, trial: int) -> None:
    grade = run(case, ideal, seed, trial)
    assert grade.passed, grade
    assert grade.valid
    assert not grade.lacks
    judge_sound(grade)


@pytest.mark.parametrize(("case", "seed", "trial"), EACH)
def test_the_near_answer_fails_at_every_step(case: Case, seed: int, trial: int) -> None:
    for i in range(len(requests(case, seed, trial))):
        step = _step_asked(case, seed, trial, i)
        grade = run(case, near_at(step), seed, trial)
        assert not grade.passed, (i, grade)
        assert grade.valid
        assert not grade.lacks
        judge_sound(grade)


def _step_asked(case: Case, seed: int, trial: int, call: int) -> int:
    request = requests(case, seed, trial)[call]
    return find_ref([(m.role, _text(m.content)) for m in request.messages])[1]


@pytest.mark.parametrize(("case", "seed", "trial"), EACH)
def test_a_truncated_stream_fails(case: Case, seed: int, trial: int) -> None:
    def cut(request: AnyRequest) -> Outcome:
        whole = model(ideal)(request)
        if not (isinstance(whole, Reply) and whole.operation == Operation.STREAM):
            return whole
        return replace(whole, events=whole.events[:-2], complete=False, stop_reason="", usage=None)

    def found_cut(request: AnyRequest) -> Outcome:
        if request.operation == Operation.STREAM:
            return Failure(Reason.STREAM_TRUNCATED, "The stream ended early.", operation=Operation.STREAM)
        return model(ideal)(request)

    streams = Operation.STREAM in {r.operation for r in requests(case, seed, trial)}
    for call in (cut, found_cut):
        grade = graded(case, call, seed, trial)
        assert grade.passed is not streams
        assert grade.valid


@pytest.mark.parametrize(("case", "seed", "trial"), EACH)
def test_a_prompts_reference_leads_back_to_its_step(case: Case, seed: int, trial: int) -> None:
    script = case.script(Ref(seed, case.id, trial))
    for request in requests(case, seed, trial):
        ref, step = find_ref([(m.role, _text(m.content)) for m in request.messages])
        assert ref is not None
        assert replace(ref, step=0) == script.ref
        found = key.answer(ref, step)
        assert found is not None
        assert found.ideal in [s.ideal for s in script.steps]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_there_are_at_least_three_variants_and_they_rotate(case: Case) -> None:
    first = [case.script(Ref(41, case.id, t)).variant for t in range(3)]
    assert len(set(first)) == 3
    assert case.script(Ref(42, case.id, 0)).variant == case.script(Ref(41, case.id, 1)).variant


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_the_same_seed_asks_the_same_and_another_does_not(case: Case) -> None:
    assert requests(case, 41, 2) == requests(case, 41, 2)
    assert requests(case, 41, 2) != requests(case, 41, 3)
    bare = [_without_reference(requests(case, 41 + 840 * n, 2)) for n in range(8)]
    assert len(set(bare)) > 3, "the same variant must not ask the same for every seed"


def _without_reference(asked: list[Request]) -> str:
    return Ref.PATTERN.sub("", repr([r.messages for r in asked]).replace("tooluse_", ""))


@pytest.mark.parametrize(("case", "seed", "trial"), EACH)
def test_requests_are_sparing_and_known_to_the_service(case: Case, seed: int, trial: int) -> None:
    session = botocore.session.get_session()
    model_of = session.get_service_model("bedrock-runtime").operation_model
    for request in requests(case, seed, trial):
        assert request.temperature is None or case.id == "D1"
        assert request.top_p is None
        assert 64 <= request.max_tokens <= 1024
        shape = model_of(str(request.operation)).input_shape
        report = ParamValidator().validate(converse.to_wire(request, "m"), shape)
        assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_models_that_reason_get_room_except_where_the_limit_is_tested(case: Case) -> None:
    plain = [r.max_tokens for r in requests(case, 41, 0)]
    roomy = [r.max_tokens for r in requests(case, 41, 0, EVERYTHING)]
    fixed = case.id == "S3" or case.kind == Kind.PERFORMANCE
    assert roomy == (plain if fixed else [n + REASONING_ROOM for n in plain])


@pytest.mark.parametrize("reason", [Reason.THROTTLED_TOKENS, Reason.READ_TIMEOUT, Reason.CREDENTIALS_EXPIRED])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_a_trial_that_infrastructure_ended_is_not_valid(case: Case, reason: Reason) -> None:
    failure = Failure(reason, "wait", "ThrottlingException", 429)
    grade = graded(case, lambda request: replace(failure, operation=request.operation), 41, 0)
    assert not grade.passed
    assert not grade.valid
    assert grade.cause is not None
    assert grade.cause.reason == reason


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
@given(outcomes=st.lists(OUTCOMES, max_size=3).map(tuple), trial=st.integers(0, 5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_outcomes_give_a_grade_and_never_an_exception(
    case: Case, outcomes: tuple[Outcome, ...], trial: int
) -> None:
    script = case.script(Ref(7, case.id, trial))
    judge_sound(script.grade(outcomes, Context()))
    left: Iterator[Outcome] = iter(outcomes)
    judge_sound(script.grade(play(script, lambda request: next(left, Failure(Reason.UNKNOWN, "?"))), Context()))


def test_ids_are_those_of_the_specification() -> None:
    wanted = "T1 T2 T3 T4 T5 J1 J2 J3 S1 S2 S3 I1 I2 I3 I4 I5 P1 P2 P3 P4 P5 R1 R2 R3 N1 N2 V1 V2 L1 L2 D1"
    assert [c.id for c in CASES] == wanted.split()
    assert all(c.repeats == 3 for c in CASES if c.kind == Kind.SCORED)


class TestTools:
    def test_the_round_trip_gives_the_result_back_in_two_turns(self) -> None:
        asked = requests(case_of("T5"), 41, 0)
        assert [m.role for m in asked[1].messages] == ["user", "assistant", "user"]
        use = next(b for b in asked[1].messages[1].content if isinstance(b, ToolUse))
        result = asked[1].messages[2].content[0]
        assert isinstance(result, ToolResult)
        assert result.tool_use_id == use.id

    def test_signed_reasoning_goes_back_and_other_reasoning_does_not(self) -> None:
        def thinks(request: Request, ref: Ref, step: int) -> Answer | None:
            answer = ideal(request, ref, step)
            assert answer
            thoughts = (Reasoning("Signed.", "c2ln"), Reasoning("Not signed."))
            return replace(answer, content=(*thoughts, *answer.content)) if step == 0 else answer

        seen: list[Request] = []

        def call(request: AnyRequest) -> Outcome:
            assert isinstance(request, Request)
            seen.append(request)
            return model(thinks)(request)

        assert graded(case_of("T5"), call, 41, 0).passed
        back = [b for b in seen[1].messages[1].content if isinstance(b, Reasoning)]
        assert back == [Reasoning("Signed.", "c2ln")]

    @pytest.mark.parametrize("case_id", ["T1", "T2", "T3", "T4", "T5"])
    def test_a_refusal_of_tools_is_learnt(self, case_id: str) -> None:
        grade = run(case_of(case_id), refusing("This model doesn't support tool use.", lambda r: bool(r.tools)))
        assert grade.lacks == "tools"
        assert not grade.passed

    def test_a_refusal_of_streaming_tools_is_learnt(self) -> None:
        said = "This model doesn't support tool use in streaming mode."
        assert run(case_of("T4"), refusing(said, lambda r: True)).lacks == "streaming_tools"

    def test_deltas_that_form_no_json_fail(self) -> None:
        def call(request: AnyRequest) -> Outcome:
            reply = model(ideal)(request)
            assert isinstance(reply, Reply)
            use = reply.tool_uses[0]
            return replace(reply, content=(ToolUse(use.id, use.name, None, '{"customer": {"na'),))

        assert "JSON object" in graded(case_of("T4"), call, 41, 0).sentence


class TestStructured:
    def test_what_the_service_does_not_offer_is_asked_of_a_tool(self) -> None:
        said = "This model doesn't support the outputConfig field. Remove outputConfig and try again."
        choose = refusing(said, lambda r: r.output_schema is not None)
        for trial in TRIALS:
            grade = run(case_of("J2"), choose, 41, trial)
            assert grade.passed, grade
            assert grade.lacks == "structured_output"

    def test_a_wrong_answer_of_the_tool_is_a_failure_and_not_a_lack(self) -> None:
        def choose(request: Request, ref: Ref, step: int) -> Answer | Failure | None:
            found = key.answer(ref, step)
            assert found
            if request.output_schema is not None:
                return Failure(Reason.PARAMETER_NOT_SUPPORTED, "outputConfig", "ValidationException", 400)
            return found.near

        grade = run(case_of("J2"), choose)
        assert not grade.passed
        assert not grade.lacks

    def test_a_tool_that_cannot_be_forced_is_asked_for_in_words(self) -> None:
        said = "This model doesn't support the toolConfig.toolChoice.tool field or outputConfig."
        choose = refusing(said, lambda r: r.output_schema is not None or bool(r.tool_choice))
        assert run(case_of("J2"), choose).passed

    def test_a_model_without_either_skips_it(self) -> None:
        choose = refusing("This model doesn't support the outputConfig field.", lambda r: True)
        script = case_of("J2").script(Ref(41, "J2", 0))
        grade = script.grade(play(script, model(choose), {"system"}), Context())
        assert grade.lacks == "structured_output"
        assert not grade.passed

    def test_one_code_fence_is_json_and_a_sentence_before_it_is_not(self) -> None:
        def wrapped(before: str) -> Choose:
            def choose(request: Request, ref: Ref, step: int) -> Answer | None:
                answer = ideal(request, ref, step)
                assert answer
                return says(f"{before}```json\n{graders.text_of(rehearsal.reply(request, answer))}\n```")

            return choose

        assert run(case_of("J1"), wrapped("")).passed
        assert not run(case_of("J1"), wrapped("Here it is:\n")).passed
