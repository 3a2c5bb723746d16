"""The gates and the embedding suite: expected answers pass, near misses fail, broken streams are
recognised.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from certification.bedrock.dialects import converse
from certification.inference import (
    AnyRequest,
    EmbedReply,
    EmbedRequest,
    Failure,
    Operation,
    Outcome,
    Reasoning,
    Reply,
    Request,
    Text,
    Timing,
    ToolUse,
    Usage,
)
from certification.reasons import Reason
from certification.suite import answer_key, embedding, graders, registry, synthetic_replies
from certification.suite.case import (
    ALL_CAPABILITIES,
    REASONING_ROOM,
    Answer,
    Case,
    Context,
    Grade,
    Ref,
    execute,
    text_answer,
)
from certification.suite.cases.gates import GATES

SEED = 41
TRIALS = range(8)
TEXT_CASES = [case for case in GATES if not case.whole_run]


each_text_case = pytest.mark.parametrize("case", TEXT_CASES, ids=lambda case: case.id)
each_embedding_case = pytest.mark.parametrize("case", embedding.CASES, ids=lambda case: case.id)


def refused(message: str, reason: Reason = Reason.PARAMETER_NOT_SUPPORTED, **more: Any) -> Failure:
    return Failure(reason, message, "ValidationException", 400, timing=Timing(40.0), **more)


def text_in(request: AnyRequest) -> str:
    assert isinstance(request, Request)
    return "\n".join(b.text for m in request.messages for b in m.content if isinstance(b, Text))


def model(
    choose: Callable[[Request, Ref], Answer | Failure | None],
) -> Callable[[AnyRequest], Outcome]:
    """Call a model that finds the reference in the prompt and answers as `choose` says.

    It refuses the request on None.
    """

    def call(request: AnyRequest) -> Outcome:
        assert isinstance(request, Request)
        ref = Ref.find(text_in(request))
        assert ref is not None
        answer = choose(request, ref)
        if answer is None:
            return refused(
                "A conversation must start with a user message.", Reason.MALFORMED_REQUEST
            )
        if isinstance(answer, Failure):
            return replace(answer, operation=request.operation)
        return synthetic_replies.reply(request, answer)

    return call


def expected(request: Request, ref: Ref) -> Answer | None:
    step = answer_key.answer(ref, ref.step)
    assert step is not None
    return step.expected


def near_miss_at(wrong: int) -> Callable[[Request, Ref], Answer | None]:
    def choose(request: Request, ref: Ref) -> Answer | None:
        step = answer_key.answer(ref, ref.step)
        assert step is not None
        return step.near_miss if ref.step == wrong else step.expected

    return choose


def run(case: Case, call: Callable[[AnyRequest], Outcome], trial: int = 0, **context: Any) -> Grade:
    script = case.script(Ref(SEED, case.id, trial))
    return script.grade(execute(script, call), Context(**context))


class TestTextCases:
    @each_text_case
    def test_the_expected_answer_passes(self, case: Case) -> None:
        for trial in TRIALS:
            grade = run(case, model(expected), trial)
            assert grade.passed, (case.id, trial, grade)
            assert grade.valid, (case.id, trial, grade)
            assert grade.sentence.endswith("."), (case.id, trial, grade)

    @each_text_case
    def test_a_near_miss_fails_at_every_step(self, case: Case) -> None:
        for trial in TRIALS:
            for i, step in enumerate(case.script(Ref(SEED, case.id, trial)).steps):
                assert step.near_miss is not None
                if step.request(()) is None:
                    continue  # a fallback, tested on its own
                grade = run(case, model(near_miss_at(i)), trial)
                assert not grade.passed, (case.id, trial, i, grade)
                assert grade.valid, (case.id, trial, i, grade)
                assert not grade.lacks, (case.id, trial, i, grade)

    @each_text_case
    def test_a_truncated_stream_fails(self, case: Case) -> None:
        def cut(request: AnyRequest) -> Outcome:
            whole = model(expected)(request)
            if not (isinstance(whole, Reply) and whole.operation == Operation.STREAM):
                return whole
            return replace(
                whole, events=whole.events[:-2], complete=False, stop_reason="", usage=None
            )

        for trial in TRIALS:
            assert run(case, cut, trial).passed is not streams(case, trial), (case.id, trial)

    @each_text_case
    def test_a_stream_that_the_client_saw_cut_fails_with_that_cause(self, case: Case) -> None:
        def cut(request: AnyRequest) -> Outcome:
            if request.operation == Operation.STREAM:
                return Failure(
                    Reason.STREAM_TRUNCATED, "The stream ended early.", operation=Operation.STREAM
                )
            return model(expected)(request)

        for trial in TRIALS:
            grade = run(case, cut, trial)
            if streams(case, trial):
                assert not grade.passed, (case.id, trial, grade)
                assert grade.valid, (case.id, trial, grade)
                assert grade.cause, (case.id, trial, grade)
                assert grade.cause.reason == Reason.STREAM_TRUNCATED, (case.id, trial, grade)

    @each_text_case
    def test_a_trial_that_infrastructure_ended_is_not_valid(self, case: Case) -> None:
        for reason in (Reason.THROTTLED_TOKENS, Reason.READ_TIMEOUT, Reason.CREDENTIALS_EXPIRED):
            failure = Failure(reason, "wait", "ThrottlingException", 429)

            def call(request: AnyRequest, failure: Failure = failure) -> Outcome:
                return replace(failure, operation=request.operation)

            grade = run(case, call)
            assert not grade.passed, (case.id, reason)
            assert not grade.valid, (case.id, reason)
            assert case.id == "G10" or (grade.cause and grade.cause.reason == reason), (
                case.id,
                reason,
            )

    @each_text_case
    def test_there_are_at_least_three_variants_and_they_rotate(self, case: Case) -> None:
        variants = [case.script(Ref(SEED, case.id, trial)).variant for trial in TRIALS]
        assert len(set(variants[:3])) == 3
        assert case.script(Ref(SEED + 1, case.id, 0)).variant == variants[1]

    @each_text_case
    def test_the_same_seed_gives_the_same_requests(self, case: Case) -> None:
        assert requests_of(case, 2) == requests_of(case, 2)
        assert requests_of(case, 2) != requests_of(case, 3)

    @each_text_case
    def test_the_reference_in_a_prompt_leads_back_to_its_step(self, case: Case) -> None:
        outcomes = (refused("toolChoice"),) if case.id == "G11" else ()
        for trial in TRIALS:
            for i, step in enumerate(case.script(Ref(SEED, case.id, trial)).steps):
                request = step.request(outcomes)
                if request is None:
                    continue
                ref = Ref.find(text_in(request))
                assert ref == Ref(SEED, case.id, trial, i)
                key = answer_key.answer(ref, ref.step)
                assert key is not None, ref
                assert (key.expected, key.near_miss) == (step.expected, step.near_miss), ref

    @each_text_case
    def test_requests_are_sparing(self, case: Case) -> None:
        for trial in TRIALS:
            for request in requests_of(case, trial):
                assert request.temperature is None, (case.id, trial)
                assert request.top_p is None, (case.id, trial)
                assert 64 <= request.max_tokens <= 1024, (case.id, trial)

    def test_models_that_reason_get_room_except_where_the_limit_is_tested(self) -> None:
        capabilities = frozenset({*ALL_CAPABILITIES, "reasoning"})
        by_id = registry.BY_ID
        [request] = requests_of(by_id["G01"], 0, capabilities)
        assert request.max_tokens == 300 + REASONING_ROOM
        assert requests_of(by_id["G04"], 0, capabilities)[0].max_tokens < 300


def requests_of(
    case: Case, trial: int, capabilities: frozenset[str] = ALL_CAPABILITIES
) -> list[Request]:
    """Return the requests of a trial with a faultless model."""
    requests: list[Request] = []

    def call(request: AnyRequest) -> Outcome:
        assert isinstance(request, Request)
        requests.append(request)
        return model(expected)(request)

    execute(case.script(Ref(SEED, case.id, trial)), call, capabilities)
    return requests


def streams(case: Case, trial: int) -> bool:
    return Operation.STREAM in {request.operation for request in requests_of(case, trial)}


def gate(case_id: str) -> Case:
    return registry.BY_ID[case_id]


class TestAccess:
    def test_reasoning_alone_is_no_answer(self) -> None:
        assert not run(
            gate("G01"), model(lambda q, r: Answer((Reasoning("Let me think."),)))
        ).passed

    def test_an_answer_without_usage_fails(self) -> None:
        def call(request: AnyRequest) -> Outcome:
            reply = model(expected)(request)
            assert isinstance(reply, Reply)
            return replace(reply, usage=None)

        assert not run(gate("G01"), call).passed

    @pytest.mark.parametrize(
        "reason",
        [
            Reason.IAM_DENIED,
            Reason.NEEDS_INFERENCE_PROFILE,
            Reason.MALFORMED_REQUEST,
            Reason.LEGACY_BLOCKED,
        ],
    )
    def test_a_refusal_says_nothing_about_the_model(self, reason: Reason) -> None:
        grade = run(gate("G01"), model(lambda q, r: refused("no", reason)))
        assert not grade.valid
        assert grade.cause
        assert grade.cause.reason == reason

    def test_a_model_that_breaks_down_fails(self) -> None:
        assert run(gate("G01"), model(lambda q, r: refused("oops", Reason.MODEL_ERROR))).valid


class TestStreaming:
    def _with(self, events: str) -> Grade:
        names = {
            "m": "messageStart",
            "s": "contentBlockStart",
            "d": "contentBlockDelta",
            "e": "contentBlockStop",
            "M": "messageStop",
            "U": "metadata",
        }

        def call(request: AnyRequest) -> Outcome:
            reply = model(expected)(request)
            assert isinstance(reply, Reply)
            return replace(reply, events=tuple(names[e] for e in events))

        return run(gate("G02"), call)

    @pytest.mark.parametrize("events", ["mdeMU", "mdddeMU", "mdededeMU", "msdeMU", "mddesdeMU"])
    def test_a_whole_stream_passes(self, events: str) -> None:
        assert self._with(events).passed

    @pytest.mark.parametrize(
        "events", ["", "mMU", "dddeMU", "mdddMU", "mdddeM", "mdddeU", "mdeUM", "mmdeMU", "mdeMUd"]
    )
    def test_anything_missing_or_out_of_order_fails(self, events: str) -> None:
        assert not self._with(events).passed

    def test_a_model_that_cannot_stream_lacks_it(self) -> None:
        assert run(
            gate("G02"), model(lambda q, r: refused("The model is unsupported for streaming."))
        ).lacks


class TestMaxTokens:
    def test_a_model_that_spends_the_limit_on_reasoning_honours_it(self) -> None:
        thinking = model(lambda q, r: Answer((Reasoning("Hm. " * 2000),)))
        assert run(gate("G04"), thinking, reasoning=True).passed
        # the reply shows that it reasons, whatever the catalogue says
        assert run(gate("G04"), thinking).passed

    def test_an_empty_answer_passes_only_if_the_model_may_hide_its_reasoning(self) -> None:
        silent = model(lambda q, r: Answer((), "max_tokens"))
        assert run(gate("G04"), silent, reasoning=True).passed
        assert not run(gate("G04"), silent).passed

    def test_an_answer_that_ends_by_itself_is_asked_for_what_has_no_end(self) -> None:
        short = text_answer("All ended well.")

        def choose(request: Request, ref: Ref) -> Answer | None:
            return expected(request, ref) if ref.step else short

        assert run(gate("G04"), model(choose)).passed
        grade = run(gate("G04"), model(lambda q, r: short))
        assert not grade.passed
        assert "not tested" in grade.sentence

    def test_a_cut_that_is_told_of_a_whole_answer_fails(self) -> None:
        short = Answer((Text("All ended well."),), "max_tokens")
        assert not run(gate("G04"), model(lambda q, r: short)).passed

    def test_one_token_too_many_fails(self) -> None:
        def call(request: AnyRequest) -> Outcome:
            reply = model(expected)(request)
            assert isinstance(request, Request)
            assert isinstance(reply, Reply)
            return replace(reply, usage=Usage(40, request.max_tokens + 1))

        assert not run(gate("G04"), call).passed


class TestStopSequence:
    def test_a_refused_parameter_is_a_capability_not_a_failure(self) -> None:
        message = (
            "This model doesn't support the stopSequences field. Remove stopSequences and try "
            "again."
        )
        grade = run(gate("G05"), model(lambda q, r: refused(message)))
        assert grade.lacks == "stop_sequences"

    def test_another_refusal_is_a_failure(self) -> None:
        grade = run(
            gate("G05"), model(lambda q, r: refused("This model doesn't support the foo field."))
        )
        assert not grade.lacks
        assert not grade.passed
        assert grade.valid

    def test_stopping_at_the_sequence_with_end_turn_passes(self) -> None:
        def call(request: AnyRequest) -> Outcome:
            reply = model(expected)(request)
            assert isinstance(reply, Reply)
            return replace(reply, stop_reason="end_turn")

        assert run(gate("G05"), call).passed

    @pytest.mark.parametrize(
        "text",
        [
            "The three words are: apple, bread and candle.",
            "apple\nbread\ncandle",
            "I cannot do that.",
            "apple\nbread\ncandle\ndoor\nengine\nforest",
            "",
        ],
    )
    def test_a_sequence_that_was_never_written_proves_nothing(self, text: str) -> None:
        for trial in TRIALS:
            grade = run(gate("G05"), model(lambda q, r: Answer((Text(text),), "end_turn")), trial)
            assert not grade.passed
            assert grade.valid

    def test_ending_elsewhere_than_at_the_sequence_fails(self) -> None:
        def choose(request: Request, ref: Ref) -> Answer | None:
            answer = expected(request, ref)
            if answer and request.stop_sequences:
                return Answer((Text("apple\nbread"),), "end_turn")
            return answer

        assert not any(run(gate("G05"), model(choose), trial).passed for trial in TRIALS)

    def test_running_past_the_sequence_fails(self) -> None:
        def call(request: AnyRequest) -> Outcome:
            assert isinstance(request, Request)
            return model(expected)(replace(request, stop_sequences=()))

        assert not run(gate("G05"), call).passed


class TestSystemPrompt:
    def test_a_model_without_system_prompts_is_skipped(self) -> None:
        assert gate("G06").needs == {"system"}
        message = "This model doesn't support system messages. Try again without a system message."
        assert run(gate("G06"), model(lambda q, r: refused(message))).lacks == "system"

    def test_a_full_stop_or_emphasis_behind_the_code_does_not_matter(self) -> None:
        def call(request: AnyRequest) -> Outcome:
            reply = model(expected)(request)
            assert isinstance(reply, Reply)
            return replace(reply, content=(Text(f"**{reply.text}**.\n"),))

        assert run(gate("G06"), call).passed


class TestEncoding:
    def test_decomposed_characters_are_equal(self) -> None:
        def choose(request: Request, ref: Ref) -> Answer:
            answer = expected(request, ref)
            assert answer
            return text_answer(
                unicodedata.normalize(
                    "NFD", "".join(b.text for b in answer.content if isinstance(b, Text))
                )
            )

        assert run(gate("G08"), model(choose)).passed

    def test_lost_accents_fail(self) -> None:
        def choose(request: Request, ref: Ref) -> Answer:
            answer = expected(request, ref)
            assert answer
            text = "".join(b.text for b in answer.content if isinstance(b, Text))
            return text_answer(text.encode("ascii", "replace").decode())

        assert all(not run(gate("G08"), model(choose), t).passed for t in TRIALS)


class TestInputTokens:
    @pytest.mark.parametrize(("more", "passes"), [(0, True), (3, True), (4, False), (-1, False)])
    def test_the_reference_region_counts_the_same_within_three(
        self, more: int, passes: bool
    ) -> None:
        counts: list[int] = []

        def call(request: AnyRequest) -> Outcome:
            reply = model(expected)(request)
            assert isinstance(reply, Reply)
            assert reply.usage
            counts.append(reply.usage.input_tokens)
            return reply

        run(gate("G09"), call)
        grade = run(gate("G09"), call, reference_input_tokens=counts[0] - more)
        assert grade.passed is passes


class TestErrorContract:
    def _answer(self, outcome: Outcome) -> Grade:
        return run(gate("G10"), lambda request: outcome)

    def test_it_sends_three_invalid_requests(self) -> None:
        assert len(requests_of(gate("G10"), 0)) == 3

    @pytest.mark.parametrize(
        "code", ["ValidationException", "validationException", "com.amazon#ValidationException"]
    )
    def test_a_validation_exception_passes_whatever_its_reason(self, code: str) -> None:
        assert self._answer(Failure(Reason.UNKNOWN, "?", code, 400, timing=Timing(4999.0))).passed

    def test_a_slow_refusal_fails(self) -> None:
        grade = self._answer(
            Failure(
                Reason.MALFORMED_REQUEST, "?", "ValidationException", 400, timing=Timing(5001.0)
            )
        )
        assert not grade.passed
        assert grade.valid

    @pytest.mark.parametrize("reason", [Reason.INTERNAL_ERROR, Reason.SERVICE_UNAVAILABLE])
    def test_a_server_error_fails(self, reason: Reason) -> None:
        grade = self._answer(Failure(reason, "?", "InternalServerException", 500))
        assert not grade.passed
        assert grade.valid

    def test_one_accepted_request_fails_even_if_another_was_throttled(self) -> None:
        throttled = Failure(Reason.THROTTLED_TOKENS, "Too many tokens", "ThrottlingException", 429)
        outcomes = [
            throttled,
            Reply((Text("Hi"),), "end_turn", Usage(1, 1), Timing(1.0)),
            throttled,
        ]
        script = gate("G10").script(Ref(SEED, "G10", 0))
        grade = script.grade(tuple(outcomes), Context())
        assert grade.valid
        assert not grade.passed
        assert not script.grade((throttled,) * 3, Context()).valid

    def test_the_requests_reach_the_wire(self) -> None:
        """botocore itself must have nothing against them, or the service would never see them."""
        session = pytest.importorskip("botocore.session").get_session()
        validate = pytest.importorskip("botocore.validate").ParamValidator().validate
        shape = session.get_service_model("bedrock-runtime").operation_model("Converse").input_shape
        for trial in range(4):
            for request in requests_of(gate("G10"), trial):
                report = validate({"modelId": "m", **converse.body_of(request, "m")}, shape)
                assert not report.has_errors(), report.generate_report()


class TestTools:
    def test_a_model_that_cannot_be_forced_gets_the_prompt_alone(self) -> None:
        choices = []

        def choose(request: Request, ref: Ref) -> Answer | Failure | None:
            choices.append((request.operation, request.tool_choice))
            if request.tool_choice:
                return refused("This model doesn't support the toolConfig.toolChoice.tool field.")
            return expected(request, ref)

        assert run(gate("G11"), model(choose)).passed
        assert [(o, bool(c)) for o, c in choices] == [
            (Operation.CONVERSE, True),
            (Operation.CONVERSE, False),
            (Operation.STREAM, False),
        ]

    def test_the_unforced_call_is_graded_like_the_forced_one(self) -> None:
        def choose(request: Request, ref: Ref) -> Answer | Failure | None:
            if request.tool_choice:
                return refused("This model doesn't support the toolConfig.toolChoice.tool field.")
            return near_miss_at(1)(request, ref)

        assert not run(gate("G11"), model(choose)).passed

    def test_a_model_without_streaming_tools_is_graded_on_the_unstreamed_call(self) -> None:
        script = gate("G11").script(Ref(SEED, "G11", 0))
        outcomes = execute(script, model(expected), {"tools"})
        assert [o.operation for o in outcomes] == [Operation.CONVERSE]
        assert script.grade(outcomes, Context()).passed

    def test_a_failure_of_only_the_streamed_call_names_streaming_tools(self) -> None:
        def choose(request: Request, ref: Ref) -> Answer | None:
            return near_miss_at(2)(request, ref)

        grade = run(gate("G11"), model(choose))
        assert not grade.passed
        assert "streaming tools" in grade.sentence.lower()
        assert "they work without streaming" in grade.sentence

    def test_deltas_that_form_no_json_fail_the_streamed_call(self) -> None:
        def call(request: AnyRequest) -> Outcome:
            reply = model(expected)(request)
            if not isinstance(reply, Reply) or reply.operation != Operation.STREAM:
                return reply
            use = reply.tool_uses[0]
            return replace(reply, content=(ToolUse(use.id, use.name, None, '{"room": "kit'),))

        assert "streaming tools" in run(gate("G11"), call).sentence.lower()

    def test_a_failure_of_only_the_unstreamed_call_says_so(self) -> None:
        assert "without streaming" in run(gate("G11"), model(near_miss_at(0))).sentence

    def test_a_refusal_of_streaming_tools_is_recognised_and_the_rest_counts(self) -> None:
        def choose(request: Request, ref: Ref) -> Answer | Failure | None:
            if request.operation == Operation.STREAM:
                return refused("This model doesn't support tool use in streaming mode.")
            return expected(request, ref)

        grade = run(gate("G11"), model(choose))
        assert grade.passed
        assert grade.lacks == "streaming_tools"
        assert "not when streaming" in grade.sentence

    def test_a_refusal_of_tools_is_recognised(self) -> None:
        grade = run(
            gate("G11"), model(lambda q, r: refused("This model doesn't support tool use."))
        )
        assert grade.lacks == "tools"
        assert not grade.passed

    def test_a_throttled_call_makes_the_trial_invalid_unless_the_other_failed(self) -> None:
        def throttled_stream(request: AnyRequest) -> Outcome:
            if request.operation == Operation.STREAM:
                return Failure(
                    Reason.THROTTLED_TOKENS,
                    "Too many tokens",
                    "ThrottlingException",
                    429,
                    request.operation,
                )
            return model(expected)(request)

        assert not run(gate("G11"), throttled_stream).valid

        def both(request: AnyRequest) -> Outcome:
            outcome = throttled_stream(request)
            return outcome if isinstance(outcome, Failure) else model(near_miss_at(0))(request)

        grade = run(gate("G11"), both)
        assert grade.valid
        assert not grade.passed


class TestLeaks:
    def _texts(self, *texts: str) -> Grade:
        return gate("G12").script(Ref(SEED, "G12", 0)).grade((), Context(texts=texts))

    def test_it_makes_no_calls(self) -> None:
        assert gate("G12").whole_run
        assert not gate("G12").script(Ref(SEED, "G12", 0)).steps

    @pytest.mark.parametrize("leak", ["</s>", "<|channel|>", "<tool_call>", "<｜DSML｜function_c"])
    def test_a_control_token_fails(self, leak: str) -> None:
        grade = self._texts("All is well.", f"Hello.{leak}")
        assert not grade.passed
        assert grade.evidence["token"] == leak
        assert leak in grade.sentence

    def test_ordinary_text_passes(self) -> None:
        assert self._texts("", "a < b and b > c", "<p>Hi</p>").passed

    def test_no_answer_of_the_key_has_a_control_token(self) -> None:
        texts = []
        for case in TEXT_CASES:
            for step in case.script(Ref(SEED, case.id, 0)).steps:
                for answer in (step.expected, step.near_miss):
                    texts += [
                        b.text for b in (answer.content if answer else ()) if isinstance(b, Text)
                    ]
        assert self._texts(*texts).passed


class Embedder:
    """A small honest embedding model: a text's vector is its concept's, a little turned by the text
    itself.
    """

    def __init__(self, dimensions: int = 24, length: float = 1.0) -> None:
        self.dimensions, self.length = dimensions, length

    def vector(self, text: str) -> tuple[float, ...]:
        bare = text.partition(" Protocolo ")[0]
        raw = [0.0] * self.dimensions
        for i, group in enumerate(embedding.CONCEPTS):
            raw[i] = 1.0 if bare in group else 0.0
        raw[8 + sum(text.encode()) % (self.dimensions - 8)] += 0.4
        return tuple(self.length * x / embedding.norm(raw) for x in raw)

    def __call__(self, request: AnyRequest) -> Outcome:
        assert isinstance(request, EmbedRequest)
        return EmbedReply(tuple(self.vector(t) for t in request.texts), Usage(9, 0), Timing(5.0))


def changed(
    change: Callable[[tuple[tuple[float, ...], ...]], Any],
) -> Callable[[AnyRequest], Outcome]:
    def call(request: AnyRequest) -> Outcome:
        reply = Embedder()(request)
        assert isinstance(reply, EmbedReply)
        return replace(reply, vectors=change(reply.vectors))

    return call


class TestEmbedding:
    @each_embedding_case
    def test_an_honest_model_passes(self, case: Case) -> None:
        for trial in TRIALS:
            grade = run(case, Embedder(), trial, dimensions=24)
            assert grade.passed, (case.id, trial, grade)

    @each_embedding_case
    def test_another_dimension_than_the_catalogues_fails(self, case: Case) -> None:
        for trial in TRIALS:
            assert not run(case, Embedder(), trial, dimensions=1024).passed, (case.id, trial)
            assert run(case, Embedder(), trial).passed, (case.id, trial)

    @pytest.mark.parametrize(
        "vectors",
        [
            (),
            ((),),
            ((0.0, 0.0),),
            ((float("nan"), 1.0),),
            ((1.0,), (1.0, 2.0)),
            None,
            (None,),
            (("x",),),
        ],
    )
    def test_broken_vectors_fail(self, vectors: Any) -> None:
        for case in embedding.CASES:
            grade = run(case, changed(lambda rows: vectors))
            assert not grade.passed, case.id
            assert grade.valid, case.id

    def test_vectors_in_another_order_fail(self) -> None:
        reverse = changed(lambda rows: rows[::-1])
        assert not run(gate("E03"), reverse).passed
        assert not all(run(gate("E04"), reverse, t).passed for t in TRIALS)

    def test_one_vector_for_everything_fails(self) -> None:
        assert not run(gate("E03"), changed(lambda rows: ((1.0, 2.0),) * len(rows))).passed

    def test_vectors_of_any_similar_length_pass_and_others_fail(self) -> None:
        assert run(gate("E02"), Embedder(length=17.0)).passed
        wild = changed(
            lambda rows: tuple(tuple(x * 100**i for x in row) for i, row in enumerate(rows))
        )
        assert not run(gate("E02"), wild).passed

    @pytest.mark.parametrize(
        ("reason", "code", "passes"),
        [
            (Reason.MALFORMED_REQUEST, "ValidationException", True),
            (Reason.CONTEXT_TOO_LONG, "", True),
            (Reason.MODEL_ERROR, "ModelErrorException", False),
        ],
    )
    def test_too_long_a_text_may_be_refused_but_not_break(
        self, reason: Reason, code: str, passes: bool
    ) -> None:
        assert (
            run(gate("E05"), lambda request: Failure(reason, "too long", code, 400)).passed
            is passes
        )

    def test_the_long_text_is_long(self) -> None:
        request = gate("E05").script(Ref(SEED, "E05", 0)).steps[0].request(())
        assert isinstance(request, EmbedRequest)
        assert len(request.texts[0]) > 50_000

    def test_no_text_carries_a_reference(self) -> None:
        for case in embedding.CASES:
            for step in case.script(Ref(SEED, case.id, 0)).steps:
                request = step.request(())
                assert isinstance(request, EmbedRequest)
                assert not any(Ref.find(t) for t in request.texts)

    def test_the_concepts_are_groups_of_different_texts(self) -> None:
        texts = [t for group in embedding.CONCEPTS for t in group]
        assert len(set(texts)) == len(texts)
        assert all(len(group) >= 3 for group in embedding.CONCEPTS)

    @pytest.mark.parametrize("reason", [Reason.IAM_DENIED, Reason.NEEDS_INFERENCE_PROFILE])
    def test_refused_access_says_nothing_about_the_model(self, reason: Reason) -> None:
        assert not run(gate("E01"), lambda request: Failure(reason, "no")).valid


def test_a_trial_without_any_call_is_not_valid() -> None:
    for case in registry.BY_ID.values():
        if not case.whole_run:
            grade = case.script(Ref(SEED, case.id, 0)).grade((), Context())
            assert not grade.passed
            assert not grade.valid
    assert not graders.usable(None).valid
