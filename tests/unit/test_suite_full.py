"""The scored, performance and information cases: expected answers pass, near misses fail, broken
ones are graded all the same.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certification.bedrock import catalogue
from certification.bedrock.client import Bedrock
from certification.bedrock.connection import EMULATOR, Connection
from certification.bedrock.dialects import converse
from certification.bedrock.errors import BedrockError
from certification.emulator.answers import find_ref
from certification.inference import (
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
from certification.stack import processes
from certification.suite import answer_key, graders, images, plan, registry, synthetic_replies
from certification.suite.case import (
    ALL_CAPABILITIES,
    REASONING_ROOM,
    Answer,
    Case,
    Context,
    Grade,
    Kind,
    Ref,
    Step,
    execute,
    text_answer,
)
from certification.suite.cases import context, performance, portuguese, reasoning
from certification.suite.cases.gates import GATES
from certification.suite.images import Shape
from certification.suite.scoring import CaseStatus
from tests import calls
from tests.paths import PROJECT
from tests.unit.test_graders import OUTCOMES, assert_sound

SEEDS = (41, 2**31 + 7)
TRIALS = range(6)
EVERYTHING = frozenset({*ALL_CAPABILITIES, "reasoning"})
CASES = [case for case in registry.cases("text", "full", EVERYTHING) if case not in GATES]
DRAWS = [(seed, trial) for seed in SEEDS for trial in TRIALS]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
Choose = Callable[[Request, Ref, int], Answer | Failure | None]


def model(choose: Choose) -> Callable[[AnyRequest], Outcome]:
    """Call a model that finds the reference and the turn in the conversation and answers as
    `choose` says.
    """

    def call(request: AnyRequest) -> Outcome:
        assert isinstance(request, Request)
        ref, step = reference_in(request)
        assert ref is not None
        answer = choose(request, ref, step)
        assert answer is not None
        return (
            replace(answer, operation=request.operation)
            if isinstance(answer, Failure)
            else synthetic_replies.reply(request, answer)
        )

    return call


def reference_in(request: Request) -> tuple[Ref | None, int]:
    """Return the reference in a conversation, and the step that it has reached."""
    return find_ref(
        [
            (m.role, "\n".join(b.text for b in m.content if isinstance(b, Text | ToolResult)))
            for m in request.messages
        ]
    )


def key(ref: Ref, step: int) -> Step:
    entry = answer_key.answer(ref, step)
    assert entry is not None, (ref, step)
    return entry


def expected(request: Request, ref: Ref, step: int) -> Answer | None:
    return key(ref, step).expected


def near_miss_at(wrong: int) -> Choose:
    def choose(request: Request, ref: Ref, step: int) -> Answer | None:
        entry = key(ref, step)
        return entry.near_miss if step == wrong else entry.expected

    return choose


def refusing(message: str, when: Callable[[Request], bool]) -> Choose:
    """Answer as expected, but refuse some requests as invalid."""

    def choose(request: Request, ref: Ref, step: int) -> Answer | Failure | None:
        if when(request):
            return Failure(
                Reason.PARAMETER_NOT_SUPPORTED,
                message,
                "ValidationException",
                400,
                timing=Timing(9.0),
            )
        return expected(request, ref, step)

    return choose


def run(case: Case, choose: Choose, seed: int = SEEDS[0], trial: int = 0, **context: Any) -> Grade:
    return grade_trial(case, model(choose), seed, trial, **context)


def grade_trial(
    case: Case, call: Callable[[AnyRequest], Outcome], seed: int, trial: int, **context: Any
) -> Grade:
    script = case.script(Ref(seed, case.id, trial))
    return script.grade(execute(script, call), Context(**context))


def requests(
    case: Case, seed: int, trial: int, capabilities: frozenset[str] = ALL_CAPABILITIES
) -> list[Request]:
    """Return the requests of a trial with a faultless model."""
    _grade, made = grade_and_requests(case, expected, seed, trial, capabilities)
    return made


def grade_and_requests(
    case: Case,
    choose: Choose,
    seed: int = SEEDS[0],
    trial: int = 0,
    capabilities: frozenset[str] = ALL_CAPABILITIES,
) -> tuple[Grade, list[Request]]:
    """Return the grade and the requests of a trial."""
    made: list[Request] = []

    def call(request: AnyRequest) -> Outcome:
        assert isinstance(request, Request)
        made.append(request)
        return model(choose)(request)

    script = case.script(Ref(seed, case.id, trial))
    return script.grade(execute(script, call, capabilities), Context()), made


def case_of(case_id: str) -> Case:
    return registry.BY_ID[case_id]


@each_case
def test_the_expected_answer_passes(case: Case) -> None:
    for seed, trial in DRAWS:
        grade = run(case, expected, seed, trial)
        assert grade.passed, (case.id, seed, trial, grade)
        assert grade.valid, (case.id, seed, trial, grade)
        assert not grade.lacks, (case.id, seed, trial, grade)
        assert_sound(grade)


@each_case
def test_a_near_miss_fails_at_every_step(case: Case) -> None:
    for seed, trial in DRAWS:
        for request in requests(case, seed, trial):
            _ref, step = reference_in(request)
            grade = run(case, near_miss_at(step), seed, trial)
            assert not grade.passed, (case.id, seed, trial, step, grade)
            assert grade.valid, (case.id, seed, trial, step, grade)
            assert not grade.lacks, (case.id, seed, trial, step, grade)
            assert_sound(grade)


@each_case
def test_a_truncated_stream_fails(case: Case) -> None:
    def cut(request: AnyRequest) -> Outcome:
        whole = model(expected)(request)
        if not (isinstance(whole, Reply) and whole.operation == Operation.STREAM):
            return whole
        return replace(whole, events=whole.events[:-2], complete=False, stop_reason="", usage=None)

    def seen_cut(request: AnyRequest) -> Outcome:
        if request.operation == Operation.STREAM:
            return Failure(
                Reason.STREAM_TRUNCATED, "The stream ended early.", operation=Operation.STREAM
            )
        return model(expected)(request)

    for seed, trial in DRAWS:
        streams = Operation.STREAM in {r.operation for r in requests(case, seed, trial)}
        for call in (cut, seen_cut):
            grade = grade_trial(case, call, seed, trial)
            assert grade.passed is not streams, (case.id, seed, trial, grade)
            assert grade.valid, (case.id, seed, trial, grade)


@each_case
def test_the_reference_in_a_prompt_leads_back_to_its_step(case: Case) -> None:
    for seed, trial in DRAWS:
        script = case.script(Ref(seed, case.id, trial))
        for request in requests(case, seed, trial):
            ref, step = reference_in(request)
            assert ref is not None, (case.id, seed, trial)
            assert replace(ref, step=0) == script.ref
            assert key(ref, step).expected in [s.expected for s in script.steps], (ref, step)


@each_case
def test_there_are_at_least_three_variants_and_they_rotate(case: Case) -> None:
    first = [case.script(Ref(41, case.id, t)).variant for t in range(3)]
    assert len(set(first)) == 3
    assert case.script(Ref(42, case.id, 0)).variant == case.script(Ref(41, case.id, 1)).variant


@each_case
def test_the_same_seed_gives_the_same_requests_and_another_does_not(case: Case) -> None:
    def messages(seed: int) -> str:
        text = repr([request.messages for request in requests(case, seed, 2)])
        return Ref.PATTERN.sub("", text.replace("tooluse_", ""))

    assert requests(case, 41, 2) == requests(case, 41, 2)
    assert requests(case, 41, 2) != requests(case, 41, 3)
    drawn = {messages(41 + 840 * n) for n in range(8)}
    assert len(drawn) > 3, "the same variant must not draw the same prompt for every seed"


@cache
def input_shape(operation: Operation) -> Any:
    """Return what botocore knows of an operation's input."""
    service = botocore.session.get_session().get_service_model("bedrock-runtime")
    return service.operation_model(str(operation)).input_shape


@each_case
def test_requests_are_sparing_and_known_to_the_service(case: Case) -> None:
    for seed, trial in DRAWS:
        for request in requests(case, seed, trial):
            assert request.temperature is None or case.id == "D1", (case.id, seed, trial)
            assert request.top_p is None, (case.id, seed, trial)
            assert 64 <= request.max_tokens <= 1500, (case.id, seed, trial)
            wire = {"modelId": "m", **converse.body_of(request, "m")}
            report = ParamValidator().validate(wire, input_shape(request.operation))
            assert not report.has_errors(), (case.id, seed, trial, report.generate_report())


@each_case
def test_models_that_reason_get_room_except_where_the_limit_is_tested(case: Case) -> None:
    plain = [r.max_tokens for r in requests(case, 41, 0)]
    roomy = [r.max_tokens for r in requests(case, 41, 0, EVERYTHING)]
    fixed = case.id == "S3" or case.kind == Kind.PERFORMANCE
    assert roomy == (plain if fixed else [n + REASONING_ROOM for n in plain])


@each_case
def test_a_trial_that_infrastructure_ended_is_not_valid(case: Case) -> None:
    for reason in (Reason.THROTTLED_TOKENS, Reason.READ_TIMEOUT, Reason.CREDENTIALS_EXPIRED):
        failure = Failure(reason, "wait", "ThrottlingException", 429)

        def call(request: AnyRequest, failure: Failure = failure) -> Outcome:
            return replace(failure, operation=request.operation)

        grade = grade_trial(case, call, 41, 0)
        assert not grade.passed, (case.id, reason)
        assert not grade.valid, (case.id, reason)
        assert grade.cause is not None, (case.id, reason)
        assert grade.cause.reason == reason, (case.id, reason)


@pytest.mark.slow
@given(outcomes=st.lists(OUTCOMES, max_size=3).map(tuple), trial=st.integers(0, 5))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_outcomes_give_every_case_a_grade_and_never_raise(
    outcomes: tuple[Outcome, ...], trial: int
) -> None:
    for case in CASES:
        script = case.script(Ref(7, case.id, trial))
        assert_sound(script.grade(outcomes, Context()))
        left: Iterator[Outcome] = iter(outcomes)

        def call(request: AnyRequest, left: Iterator[Outcome] = left) -> Outcome:
            return next(left, Failure(Reason.UNKNOWN, "?"))

        assert_sound(script.grade(execute(script, call), Context()))


def test_ids_are_those_of_the_specification() -> None:
    ids = (
        "T1 T2 T3 T4 T5 J1 J2 J3 S1 S2 S3 I1 I2 I3 I4 I5 P1 P2 P3 P4 P5 R1 R2 R3 N1 N2 V1 V2 "
        "L1 L2 D1"
    )
    assert [c.id for c in CASES] == ids.split()
    assert all(c.repeats == 3 for c in CASES if c.kind == Kind.SCORED)


class TestTools:
    def test_the_round_trip_gives_the_result_back_in_two_turns(self) -> None:
        _first, second = requests(case_of("T5"), 41, 0)
        assert [m.role for m in second.messages] == ["user", "assistant", "user"]
        use = next(b for b in second.messages[1].content if isinstance(b, ToolUse))
        result = second.messages[2].content[0]
        assert isinstance(result, ToolResult)
        assert result.tool_use_id == use.id

    def test_signed_reasoning_goes_back_and_other_reasoning_does_not(self) -> None:
        def thinks(request: Request, ref: Ref, step: int) -> Answer | None:
            answer = expected(request, ref, step)
            assert answer
            thoughts = (Reasoning("Signed.", "c2ln"), Reasoning("Not signed."))
            return replace(answer, content=(*thoughts, *answer.content)) if step == 0 else answer

        grade, made = grade_and_requests(case_of("T5"), thinks)
        assert grade.passed
        back = [b for b in made[1].messages[1].content if isinstance(b, Reasoning)]
        assert back == [Reasoning("Signed.", "c2ln")]

    @pytest.mark.parametrize("case_id", ["T1", "T2", "T3", "T4", "T5"])
    def test_a_refusal_of_tools_is_recognised(self, case_id: str) -> None:
        grade = run(
            case_of(case_id),
            refusing("This model doesn't support tool use.", lambda r: bool(r.tools)),
        )
        assert grade.lacks == "tools"
        assert not grade.passed

    def test_a_refusal_of_streaming_tools_is_recognised(self) -> None:
        message = "This model doesn't support tool use in streaming mode."
        assert run(case_of("T4"), refusing(message, lambda r: True)).lacks == "streaming_tools"

    def test_deltas_that_form_no_json_fail(self) -> None:
        def call(request: AnyRequest) -> Outcome:
            reply = model(expected)(request)
            assert isinstance(reply, Reply)
            use = reply.tool_uses[0]
            return replace(reply, content=(ToolUse(use.id, use.name, None, '{"customer": {"na'),))

        assert "JSON object" in grade_trial(case_of("T4"), call, 41, 0).sentence


class TestStructured:
    def test_a_tool_replaces_structured_output_that_is_not_offered(self) -> None:
        message = (
            "This model doesn't support the outputConfig field. Remove outputConfig and try again."
        )
        choose = refusing(message, lambda r: r.output_schema is not None)
        for trial in TRIALS:
            grade = run(case_of("J2"), choose, 41, trial)
            assert grade.passed, grade
            assert grade.lacks == "structured_output"

    def test_a_wrong_answer_of_the_tool_is_a_failure_and_not_a_lack(self) -> None:
        def choose(request: Request, ref: Ref, step: int) -> Answer | Failure | None:
            if request.output_schema is not None:
                return Failure(
                    Reason.PARAMETER_NOT_SUPPORTED, "outputConfig", "ValidationException", 400
                )
            return key(ref, step).near_miss

        grade = run(case_of("J2"), choose)
        assert not grade.passed
        assert not grade.lacks

    def test_a_tool_that_cannot_be_forced_is_requested_in_the_prompt(self) -> None:
        message = "This model doesn't support the toolConfig.toolChoice.tool field or outputConfig."
        choose = refusing(message, lambda r: r.output_schema is not None or bool(r.tool_choice))
        assert run(case_of("J2"), choose).passed

    def test_a_model_without_structured_output_and_tools_skips_it(self) -> None:
        choose = refusing("This model doesn't support the outputConfig field.", lambda r: True)
        script = case_of("J2").script(Ref(41, "J2", 0))
        grade = script.grade(execute(script, model(choose), {"system"}), Context())
        assert grade.lacks == "structured_output"
        assert not grade.passed

    def test_a_model_that_refuses_structured_output_and_tools_skips_it(self) -> None:
        def choose(request: Request, ref: Ref, step: int) -> Answer | Failure | None:
            message = "tool use" if request.tools else "the outputConfig field"
            return refusing(f"This model doesn't support {message}.", lambda r: True)(
                request, ref, step
            )

        grade = run(case_of("J2"), choose)
        assert grade.lacks == "structured_output"
        assert not grade.passed

    def test_one_code_fence_is_json_and_a_sentence_before_it_is_not(self) -> None:
        def wrapped(before: str) -> Choose:
            def choose(request: Request, ref: Ref, step: int) -> Answer | None:
                answer = expected(request, ref, step)
                assert answer
                text = graders.text_of(synthetic_replies.reply(request, answer))
                return text_answer(f"{before}```json\n{text}\n```")

            return choose

        assert run(case_of("J1"), wrapped("")).passed
        assert not run(case_of("J1"), wrapped("Here it is:\n")).passed


def changed(
    change: Callable[[Reply], Reply], when: Operation | None = None
) -> Callable[[AnyRequest], Outcome]:
    """Answer as expected, with changed replies (of one operation alone, if given)."""

    def call(request: AnyRequest) -> Outcome:
        reply = model(expected)(request)
        assert isinstance(reply, Reply)
        return change(reply) if when in (None, request.operation) else reply

    return call


class TestStreaming:
    def test_two_different_answers_fail_even_if_each_alone_would_pass(self) -> None:
        def other(reply: Reply) -> Reply:
            return replace(reply, content=(Text(f"{reply.text}, zebra"),))

        assert not grade_trial(case_of("S1"), changed(other, Operation.STREAM), 41, 0).passed

    def test_case_and_punctuation_may_differ(self) -> None:
        def other(reply: Reply) -> Reply:
            return replace(reply, content=(Text(f"{reply.text.upper()}."),))

        assert grade_trial(case_of("S1"), changed(other, Operation.STREAM), 41, 0).passed

    @pytest.mark.parametrize(
        ("gap", "passes"), [(0.0, True), (10_000.0, True), (10_001.0, False), (None, False)]
    )
    def test_a_silence_of_more_than_ten_seconds_fails(
        self, gap: float | None, passes: bool
    ) -> None:
        def silent(reply: Reply) -> Reply:
            return replace(reply, timing=replace(reply.timing, max_gap_ms=gap))

        assert grade_trial(case_of("S2"), changed(silent), 41, 0).passed is passes

    def test_a_cut_stream_without_its_counts_fails(self) -> None:
        assert not grade_trial(
            case_of("S3"), changed(lambda reply: replace(reply, usage=None)), 41, 0
        ).passed

    def test_a_model_that_hides_its_reasoning_may_stream_nothing_within_the_limit(self) -> None:
        def silent(reply: Reply) -> Reply:
            return replace(reply, content=(), events=("messageStart", "messageStop", "metadata"))

        assert grade_trial(case_of("S3"), changed(silent), 41, 0, reasoning=True).passed
        assert not grade_trial(case_of("S3"), changed(silent), 41, 0).passed

    @pytest.mark.parametrize("case_id", ["S1", "S2", "S3", "L1", "L2"])
    def test_a_model_that_cannot_stream_skips_them(self, case_id: str) -> None:
        message = "The model is unsupported for streaming."
        assert (
            run(
                case_of(case_id), refusing(message, lambda r: r.operation == Operation.STREAM)
            ).lacks
            == "streaming"
        )


class TestPortuguese:
    def test_the_banks_are_large_and_have_no_duplicates(self) -> None:
        assert len(portuguese.QUIZ) >= 24
        assert len(portuguese.PREMISES) >= 12
        for bank in (
            portuguese.QUIZ,
            portuguese.CRASE,
            portuguese.CONCORDANCIA,
            portuguese.REGENCIA,
        ):
            assert len(bank) >= 8
            assert len({item.stem for item in bank}) == len(bank)
            assert all(len(set(item.options)) == len(item.options) for item in bank)
        assert all(len(item.options) == 4 for item in portuguese.QUIZ)
        assert all(
            "___" in i.stem
            for b in (portuguese.CRASE, portuguese.CONCORDANCIA, portuguese.REGENCIA)
            for i in b
        )

    def test_right_options_are_spread_over_all_letters(self) -> None:
        letters = [expected_text("P1", seed)[2] for seed in range(60)]
        assert {letters.count(letter) > 5 for letter in "ABCD"} == {True}

    @pytest.mark.parametrize(
        ("amount", "text"),
        [(5, "R$ 0,05"), (123456, "R$ 1.234,56"), (100000000, "R$ 1.000.000,00")],
    )
    def test_amounts_are_written_as_in_brazil(self, amount: int, text: str) -> None:
        assert portuguese.format_reais(amount) == text

    def test_a_summary_passes_until_it_adds_a_number(self) -> None:
        for seed in range(20):
            summary = expected_text("P5", seed)
            assert grade_text("P5", seed, summary).passed
            assert grade_text("P5", seed, f"Resumo do contrato:\n{summary}").passed
            assert not grade_text("P5", seed, f"{summary}\nHá 12.345 cláusulas.").passed

    def test_brazilian_dates_are_read_day_first(self) -> None:
        for seed in range(20):
            right = expected_text("P4", seed).splitlines()
            year, month, day = right[0].split("-")
            swapped = "\n".join([f"{year}-{day}-{month}", *right[1:]])
            assert not grade_text("P4", seed, swapped).passed
            assert grade_text("P4", seed, "\n".join(f"- `{line}`" for line in right)).passed


def expected_text(case_id: str, seed: int) -> str:
    answer = key(Ref(seed, case_id, 0), 0).expected
    assert answer
    return "".join(block.text for block in answer.content if isinstance(block, Text))


def grade_text(case_id: str, seed: int, text: str) -> Grade:
    return run(case_of(case_id), lambda request, ref, step: text_answer(text), seed)


class TestReasoning:
    @pytest.mark.parametrize("setting", reasoning.SETTINGS, ids=lambda s: s.names[0])
    def test_every_puzzle_has_one_answer_and_no_needless_clue(self, setting: Any) -> None:
        for seed in range(60):
            order, clues = reasoning.draw_puzzle(Ref(seed, "R2", 0).rng(), setting)
            assert reasoning.solutions(sorted(order), clues) == [order]
            for clue in clues:
                rest = [other for other in clues if other is not clue]
                assert len(reasoning.solutions(sorted(order), rest)) > 1

    def test_a_word_problem_is_never_solved_by_its_first_two_steps(self) -> None:
        for seed in range(200):
            for draw in reasoning.PROBLEMS:
                problem = draw(Ref(seed, "R1", 0).rng())
                assert problem.answer > 0
                assert problem.answer != problem.near_miss

    def test_reasoning_goes_back_with_its_signature(self) -> None:
        def signed(request: Request, ref: Ref, step: int) -> Answer | None:
            answer = expected(request, ref, step)
            assert answer
            thought = Reasoning("I need the tool.", "c2lnbmF0dXJl")
            return replace(answer, content=(thought, *answer.content[1:])) if step == 2 else answer

        grade, made = grade_and_requests(case_of("R3"), signed)
        assert grade.passed
        assert made[1].messages[1].content[0] == Reasoning("I need the tool.", "c2lnbmF0dXJl")

    def test_a_model_that_hides_its_reasoning_skips_it(self) -> None:
        def hidden(reply: Reply) -> Reply:
            return replace(
                reply, content=tuple(b for b in reply.content if not isinstance(b, Reasoning))
            )

        grade = grade_trial(case_of("R3"), changed(hidden), 41, 0)
        assert grade.lacks == "shown_reasoning"
        assert not grade.passed

    def test_a_model_that_refuses_its_reasoning_back_gets_a_request_without_it(self) -> None:
        message = "This model doesn't support the reasoningContent field in messages."

        def has_thoughts(request: Request) -> bool:
            return any(isinstance(b, Reasoning) for m in request.messages for b in m.content)

        for trial in TRIALS:
            grade = run(case_of("R3"), refusing(message, has_thoughts), 41, trial)
            assert grade.passed, grade
            assert grade.lacks == "reasoning_history"


class TestContext:
    def test_the_texts_are_as_long_as_they_say(self) -> None:
        for case_id, tokens in (("N1", 4_000), ("N2", 16_000)):
            for trial in TRIALS:
                length = synthetic_replies.request_tokens(requests(case_of(case_id), 41, trial)[0])
                assert 0.95 * tokens < length < 1.15 * tokens

    def test_the_filler_is_reproducible_and_varied(
        self,
    ) -> None:
        first, again = (context.filler(Ref(3, "N2", 0).rng(), 64_000) for _ in range(2))
        assert first == again
        sentences = " ".join(first).split(". ")
        assert len(set(sentences)) > 0.8 * len(sentences)

    def test_the_facts_are_spread_over_the_text(self) -> None:
        request = requests(case_of("N2"), 41, 0)[0]
        text = "".join(b.text for b in request.messages[0].content if isinstance(b, Text))
        places = sorted(
            text.index(code) / len(text) for code in expected_text("N2", 41).splitlines()
        )
        assert places[0] < 0.35 < places[1] < 0.68 < places[2]

    @pytest.mark.parametrize(("window", "lacks"), [(8_000, True), (None, True), (128_000, False)])
    def test_only_a_model_whose_window_may_be_too_small_may_refuse(
        self, window: int | None, lacks: bool
    ) -> None:
        failure = Failure(Reason.CONTEXT_TOO_LONG, "prompt is too long", "ValidationException", 400)
        grade = grade_trial(case_of("N2"), lambda request: failure, 41, 0, context_window=window)
        assert bool(grade.lacks) is lacks
        assert grade.valid
        assert not grade.passed


class TestVision:
    def test_the_same_picture_has_the_same_bytes(self) -> None:
        shapes = [Shape("circle", "red"), Shape("square", "blue"), Shape("triangle", "green")]
        assert images.poster_png("K7R-294", shapes) == images.poster_png("K7R-294", shapes)
        assert images.poster_png("K7R-294", shapes) != images.poster_png("K7R-293", shapes)

    def test_the_picture_shows_what_it_is_asked_about(self) -> None:
        image = pytest.importorskip("PIL.Image")
        data = images.poster_png("K7R-294", [Shape("circle", "red"), Shape("square", "blue")])
        with image.open(io.BytesIO(data)) as picture:
            assert picture.size == (600, 240)
            assert picture.getpixel((60, 170)) == images.COLOURS["red"]
            assert picture.getpixel((180, 170)) == images.COLOURS["blue"]
            assert any(picture.getpixel((x, 70)) == (0, 0, 0) for x in range(60, 300))

    def test_the_document_is_a_whole_pdf_that_holds_every_cell(self) -> None:
        data = images.table_pdf("A (small) table", [("", "April"), ("Museum", "4321")])
        start = int(data.split(b"startxref\n")[1].split(b"\n")[0])
        assert data[start:].startswith(b"xref\n0 6\n")
        offsets = [int(line[:10]) for line in data[start:].split(b"\n")[3:8]]
        assert all(
            data[offset:].startswith(b"%d 0 obj\n" % n) for n, offset in enumerate(offsets, 1)
        )
        stream = data.split(b"stream\n")[1].removesuffix(b"\nend")
        assert f"/Length {len(stream)} ".encode() in data
        shown = re.findall(rb"\(((?:[^()\\]|\\.)*)\) Tj", stream)
        assert shown == [rb"A \(small\) table", b"", b"April", b"Museum", b"4321"]

    @pytest.mark.parametrize(
        ("case_id", "capability", "message"),
        [
            (
                "V1",
                "vision",
                "This model doesn't support the image content block that you provided.",
            ),
            ("V2", "documents", "This model doesn't support documents."),
        ],
    )
    def test_a_refusal_of_pictures_or_documents_is_recognised(
        self, case_id: str, capability: str, message: str
    ) -> None:
        assert run(case_of(case_id), refusing(message, lambda r: True)).lacks == capability

    def test_the_answer_key_loads_no_drawing_library(self) -> None:
        code = (
            "import sys; from certification.suite.answer_key import answer; "
            "from certification.suite.case import Ref; "
            "assert answer(Ref(1, 'V1', 0), 0).expected; "
            "assert answer(Ref(1, 'V2', 0), 0).expected; "
            "sys.exit('PIL' in sys.modules)"
        )
        ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False)
        assert ended.returncode == 0


class TestPerformance:
    def test_the_evidence_holds_the_figures_to_pool(self) -> None:
        def timed(reply: Reply) -> Reply:
            return replace(reply, timing=Timing(2000.0, 500.0, 20.0))

        evidence = grade_trial(case_of("L1"), changed(timed), 41, 0).evidence
        assert evidence["ttft_ms"] == 500.0
        assert evidence["output_tokens"] == 64
        assert evidence["tokens_per_second"] == pytest.approx(64 / 1.5, abs=0.01)

    def test_an_answer_that_comes_all_at_once_has_no_speed(self) -> None:
        def buffered(reply: Reply) -> Reply:
            return replace(reply, timing=Timing(510.0, 500.0, 1.0))

        grade = grade_trial(case_of("L2"), changed(buffered), 41, 0)
        assert grade.passed
        assert grade.evidence["tokens_per_second"] is None

    def test_reasoning_is_timed_like_text(self) -> None:
        def thinks(reply: Reply) -> Reply:
            return replace(reply, content=(Reasoning(reply.text),))

        assert grade_trial(case_of("L1"), changed(thinks), 41, 0).passed

    def test_inputs_and_outputs_have_the_planned_size(self) -> None:
        for trial in TRIALS:
            first, second = (requests(case_of(case_id), 41, trial)[0] for case_id in ("L1", "L2"))
            assert 90 < synthetic_replies.request_tokens(first) < 150
            assert first.max_tokens == performance.FIRST_TOKEN_OUT
            assert 900 < synthetic_replies.request_tokens(second) < 1200
            assert second.max_tokens == performance.SPEED_OUT


class TestDeterminism:
    def test_both_requests_are_the_same_at_temperature_zero(self) -> None:
        first, second = requests(case_of("D1"), 41, 0)
        assert first == second
        assert first.temperature == 0.0

    @pytest.mark.parametrize(
        "message",
        [
            "This model doesn't support the temperature field.",
            "`temperature` is deprecated for this model.",
        ],
    )
    def test_a_model_that_refuses_the_temperature_gets_a_request_without_it(
        self, message: str
    ) -> None:
        choose = refusing(message, lambda r: r.temperature is not None)
        grade, made = grade_and_requests(case_of("D1"), choose)
        assert grade.passed
        assert grade.lacks == "temperature"
        assert [request.temperature for request in made] == [0.0, None, None]

    def test_two_different_answers_fail(self) -> None:
        answers = iter(("One.", "Another."))
        grade = run(case_of("D1"), lambda request, ref, step: text_answer(next(answers)))
        assert not grade.passed
        assert "differ" in grade.sentence


class TestEstimate:
    def test_a_full_run_is_about_135_calls(self) -> None:
        cost = registry.estimate("text", "full", EVERYTHING)
        assert 130 <= cost.calls <= 140
        assert 60_000 < cost.input_tokens < 130_000

    def test_an_estimate_is_computed_once_for_the_same_capabilities(self) -> None:
        registry.estimate("text", "full", EVERYTHING)
        before = registry.estimate_case.cache_info().misses
        registry.estimate("text", "full", {*EVERYTHING, "chat", "prompt_caching"})
        assert registry.estimate_case.cache_info().misses == before


# Against the emulator, over real sockets and boto3.

SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"


def sweep(url: str, model_id: str, region: str) -> tuple[dict[str, list[Grade]], int]:
    """Run every trial that is planned for a model in a region; return the grades by case, and the
    number of calls.
    """
    known = catalogue.load().models[model_id]
    routes = known.targets[region]
    target = model_id if catalogue.ON_DEMAND in routes else next(r for r in routes if "." in r)
    bedrock = Bedrock(Connection(EMULATOR, url))
    outcomes: list[Outcome] = []

    def call(request: AnyRequest) -> Outcome:
        try:
            outcomes.append(calls.send(bedrock, region, target, request))
        except BedrockError as error:
            outcomes.append(error.to_failure(Timing(1.0), getattr(error, "partial", None)))
        return outcomes[-1]

    cases = registry.cases("text", "full", known.capabilities)
    grades: dict[str, list[Grade]] = {}
    while wave := plan.next_trials(cases, grades, tier="full"):
        for trial in wave:
            script = trial.script(5)
            texts = (
                tuple(o.text for o in outcomes if isinstance(o, Reply))
                if trial.case.whole_run
                else ()
            )
            facts = Context(
                reasoning="reasoning" in known.capabilities,
                texts=texts,
                context_window=known.context_window,
            )
            grade = script.grade(execute(script, call, known.capabilities), facts)
            assert_sound(grade)
            grades.setdefault(trial.case.id, []).append(grade)
    bedrock.close()
    return grades, len(outcomes)


@pytest.fixture(scope="module")
def weak_url() -> Iterator[str]:
    with processes.emulator(scenario="weak") as (url, _process):
        yield url


@pytest.mark.slow
class TestAgainstTheEmulator:
    @pytest.mark.parametrize(
        ("model_id", "region", "lacks"),
        [
            (SONNET, "us-east-1", {}),
            ("openai.gpt-oss-120b-1:0", "us-west-2", {"G05": "stop_sequences"}),
            ("amazon.nova-micro-v1:0", "us-east-1", {"J2": "structured_output"}),
            ("deepseek.r1-v1:0", "us-east-1", {"J2": "structured_output"}),
            (
                "meta.llama3-8b-instruct-v1:0",
                "us-east-1",
                {"J2": "structured_output", "N2": "context_of_16k_tokens"},
            ),
        ],
    )
    def test_healthy_models_pass_all_that_applies(
        self, emulator_url: str, model_id: str, region: str, lacks: dict[str, str]
    ) -> None:
        grades, calls = sweep(emulator_url, model_id, region)
        failed = {
            i: g.sentence
            for i, all_of in grades.items()
            for g in all_of
            if not g.passed and not g.lacks
        }
        assert not failed
        assert {i: g.lacks for i, all_of in grades.items() for g in all_of if g.lacks} == lacks
        assert 95 <= calls <= 155  # with the repeats of JSON and streaming
        capabilities = catalogue.load().models[model_id].capabilities
        assert set(grades) == {c.id for c in registry.cases("text", "full", capabilities)}

    @pytest.mark.parametrize(
        ("model_id", "weak"),
        [
            ("amazon.nova-lite-v1:0", "tools"),
            ("mistral.mistral-large-3-675b-instruct", "portuguese"),
            ("qwen.qwen3-32b-v1:0", "streaming"),
        ],
    )
    def test_a_weak_category_is_found_and_no_other(
        self, weak_url: str, model_id: str, weak: str
    ) -> None:
        grades, _ = sweep(weak_url, model_id, "us-east-1")
        cases = registry.cases("text", "full", catalogue.load().models[model_id].capabilities)
        failed = {
            o.case.category
            for o in plan.outcomes_of(cases, grades)
            if o.status in (CaseStatus.FAILED, CaseStatus.OPEN)
        }
        assert failed == {weak}
