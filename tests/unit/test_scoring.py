"""The figures and the verdict rules of SUITE.md, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certification.inference import EmbedReply, Failure, Operation, Outcome, Reply, Timing
from certification.reasons import Reason, Status
from certification.suite import policy, scoring
from certification.suite.case import Case, Category, Grade, Kind, Script
from certification.suite.cases.gates import GATES
from certification.suite.scoring import Calls, CaseOutcome, CaseStatus, Judgement, Run

PASS = Grade(True, "Good.")
FAIL = Grade(False, "Not good.")
LACKS = Grade(False, "The model does not take stop sequences.", lacks="stop_sequences")


def invalid(reason: Reason = Reason.THROTTLED_TOKENS, message: str = "Too many tokens") -> Grade:
    return Grade(False, "It could not be judged.", valid=False, cause=Failure(reason, message))


def broke(reason: Reason) -> Grade:
    return Grade(False, "The stream ended early.", cause=Failure(reason, "cut"))


def gates(**trials: tuple[Grade, ...]) -> list[CaseOutcome]:
    """All gates passed at the first try, but for those given by id."""
    return [CaseOutcome(case, trials.get(case.id, (PASS,))) for case in GATES]


def scored(category: Category, passes: int, trials: int, name: str = "X1") -> CaseOutcome:
    case = Case(
        name,
        name,
        Kind.SCORED,
        category,
        lambda ref: Script(ref, 0, (), lambda o, c: PASS),
        repeats=3,
    )
    return CaseOutcome(case, (PASS,) * passes + (FAIL,) * (trials - passes))


WEIGHTED = list(policy.POLICY.weights)


def full(**shares: tuple[int, int]) -> list[CaseOutcome]:
    """Four cases in every weighted category, each with these (passes, trials); 9 of 9 where nothing
    is said.
    """
    result = []
    for category in WEIGHTED:
        passes, trials = shares.get(category.value, (9, 9))
        result += [
            scored(category, passes, trials, f"{category.value[0].upper()}{i}") for i in range(4)
        ]
    return result


def quick(outcomes: Iterable[CaseOutcome], **more: Any) -> Judgement:
    return scoring.judge(Run("quick", tuple(outcomes), **more))


def timed(ttft_ms: Any = 500.0, tokens_per_second: Any = 90.0, n: int = 6) -> CaseOutcome:
    """A performance case whose trials all measured the same; the default is on target for every
    class.
    """
    case = Case(
        "L1",
        "L1",
        Kind.PERFORMANCE,
        Category.LATENCY,
        lambda ref: Script(ref, 0, (), lambda o, c: PASS),
        repeats=n,
    )
    grade = Grade(True, "Measured.", {"ttft_ms": ttft_ms, "tokens_per_second": tokens_per_second})
    return CaseOutcome(case, (grade,) * n)


def full_run(
    outcomes: Iterable[CaseOutcome], latency: CaseOutcome | None = None, **more: Any
) -> Run:
    flaky = more.pop("flaky", {})
    return Run("full", (*gates(**flaky), *outcomes, latency or timed()), **more)


def whole(outcomes: Iterable[CaseOutcome], **more: Any) -> Judgement:
    return scoring.judge(full_run(outcomes, **more))


class TestFigures:
    def test_a_case_scores_passes_of_valid_trials(self) -> None:
        outcome = CaseOutcome(GATES[0], (PASS, FAIL, invalid(), PASS))
        assert outcome.score == pytest.approx(2 / 3)
        assert CaseOutcome(GATES[0], (invalid(),)).score is None

    def test_quality_weighs_categories_not_cases(self) -> None:
        outcomes = [
            scored(Category.TOOLS, 3, 3, "T1"),
            scored(Category.TOOLS, 0, 3, "T2"),
            scored(Category.JSON, 3, 3, "J1"),
        ]
        assert scoring.quality(outcomes) == pytest.approx((25 * 0.5 + 15 * 1.0) / 40)

    def test_quality_of_nothing_is_none(self) -> None:
        assert scoring.quality(gates()) is None
        assert scoring.lower_bound(gates()) is None

    def test_the_lower_bound_follows_its_formula(self) -> None:
        outcomes = [scored(Category.TOOLS, 2, 3, "T1"), scored(Category.JSON, 3, 3, "J1")]
        q = (25 * (2 / 3) + 15) / 40
        terms = [((25 / 40) ** 2, 2.5 / 4, 3), ((15 / 40) ** 2, 3.5 / 4, 3)]
        expected = q - 1.645 * math.sqrt(sum(u2 * p * (1 - p) / k for u2, p, k in terms))
        assert scoring.lower_bound(outcomes) == pytest.approx(expected)

    def test_more_repeats_narrow_the_bound(self) -> None:
        few, many = full(), [*full()]
        few = [scored(o.case.category, 3, 3, o.case.id) for o in many]
        assert (scoring.lower_bound(few) or 0) < (scoring.lower_bound(many) or 0)

    @pytest.mark.parametrize(
        ("trials", "status"),
        [
            ((), CaseStatus.OPEN),
            ((PASS,), CaseStatus.PASSED),
            ((FAIL,), CaseStatus.OPEN),
            ((FAIL, PASS), CaseStatus.FLAKY),
            ((FAIL, FAIL), CaseStatus.OPEN),
            ((FAIL, FAIL, PASS), CaseStatus.FLAKY),
            ((FAIL, FAIL, FAIL), CaseStatus.FAILED),
            ((invalid(), PASS), CaseStatus.PASSED),
            ((invalid(), FAIL, invalid(), FAIL), CaseStatus.OPEN),
            ((invalid(), invalid(), invalid()), CaseStatus.OPEN),
            ((LACKS,), CaseStatus.SKIPPED),
        ],
    )
    def test_where_a_gate_stands(self, trials: tuple[Grade, ...], status: CaseStatus) -> None:
        assert CaseOutcome(GATES[4], trials).status == status

    def test_the_gate_over_the_whole_run_has_no_retries(self) -> None:
        assert CaseOutcome(GATES[11], (FAIL,)).status == CaseStatus.FAILED

    def test_the_contract_counts_flaky_gates_half_and_leaves_skipped_ones_out(self) -> None:
        outcomes = gates(G05=(LACKS,), G07=(FAIL, PASS), G08=(FAIL, FAIL, FAIL))
        assert scoring.contract(outcomes) == pytest.approx((9 + 0.5) / 11)
        assert scoring.contract([]) is None

    @pytest.mark.parametrize(
        ("ttft", "tps", "p"),
        [
            (600, 80, 1.0),
            (100, 500, 1.0),
            (3000, 15, 0.0),
            (9000, 1, 0.0),
            (1800, 80, 0.75),
            (1800, None, 0.5),
            (None, 47.5, 0.5),
        ],
    )
    def test_performance_is_linear_between_target_and_limit(
        self, ttft: float | None, tps: float | None, p: float
    ) -> None:
        assert scoring.performance("small", ttft, tps) == pytest.approx(p)

    def test_performance_without_measurements_is_none(self) -> None:
        assert scoring.performance("large", None, None) is None

    def test_reliability_counts_server_errors_timeouts_and_broken_streams_only(self) -> None:
        timing = Timing(1.0)
        outcomes: list[Outcome] = [
            Reply((), "end_turn", None, timing),
            EmbedReply((), None, timing),
            Failure(Reason.THROTTLED_TOKENS, "", http_status=429),
            Failure(Reason.MALFORMED_REQUEST, "", http_status=400),
            Failure(Reason.DEADLINE, ""),
            Failure(Reason.INTERNAL_ERROR, "", http_status=500),
            Failure(Reason.UNKNOWN, "", http_status=502),
            Failure(Reason.MODEL_ERROR, "", http_status=424),
            Failure(Reason.READ_TIMEOUT, ""),
            Failure(Reason.STREAM_CORRUPT, ""),
            Reply((), "", None, timing, Operation.STREAM, complete=False),
        ]
        calls = Calls.of(outcomes)
        assert calls == Calls(total=11, server_errors=3, timeouts=1, broken_streams=2)
        assert calls.reliability == pytest.approx(5 / 11)
        assert (calls + calls).total == 22
        assert Calls().reliability == 1.0

    def test_the_scores_follow_their_formulas(self) -> None:
        assert scoring.full_score(0.8, 1.0, 0.5, 0.9) == pytest.approx(36 + 25 + 7.5 + 13.5)
        assert scoring.full_score(0.8, 1.0, None, 1.0) == pytest.approx(100 * (36 + 25 + 15) / 85)
        assert scoring.quick_score(1.0, 1.0) == 89.0
        assert scoring.quick_score(0.5, 0.8) == pytest.approx(57.5)

    @pytest.mark.parametrize(
        ("score", "caps", "letter"),
        [
            (95, {}, "A"),
            (90, {}, "A"),
            (89.99, {}, "B"),
            (80, {}, "B"),
            (70, {}, "C"),
            (60, {}, "D"),
            (59.9, {}, "F"),
            (95, {"flaky_gates": 1}, "B"),
            (95, {"parity_loss": True}, "C"),
            (95, {"failed_gates": 1}, "F"),
            (65, {"flaky_gates": 1}, "D"),
            (0, {}, "F"),
            (95, {"flaky_gates": 1, "parity_loss": True}, "C"),
        ],
    )
    def test_ratings_and_their_caps(self, score: float, caps: dict[str, Any], letter: str) -> None:
        assert scoring.rating(score, **caps) == letter

    @given(
        st.lists(
            st.tuples(st.sampled_from(WEIGHTED), st.integers(0, 9), st.integers(0, 9)), max_size=12
        )
    )
    def test_figures_stay_within_their_bounds(self, drawn: list[tuple[Category, int, int]]) -> None:
        outcomes = [scored(c, min(a, b), b, f"C{i}") for i, (c, a, b) in enumerate(drawn)]
        q, bound = scoring.quality(outcomes), scoring.lower_bound(outcomes)
        if q is None:
            assert bound is None
        else:
            assert bound is not None
            assert 0.0 <= bound <= q <= 1.0
        scoring.judge(Run("full", (*gates(), *outcomes)))
        scoring.undecided(Run("full", (*gates(), *outcomes)))


class TestPerformance:
    @pytest.mark.parametrize(
        ("capabilities", "price", "expected"),
        [
            ({"tools"}, 0.14, "small"),
            ({"tools"}, 0.99, "small"),
            (set(), 1.0, "medium"),
            (set(), 5.99, "medium"),
            (set(), 6.0, "large"),
            (set(), 75.0, "large"),
            (set(), None, "medium"),
            (set(), 0.0, "small"),
            ({"reasoning"}, 0.3, "reasoning"),
            ({"reasoning", "tools"}, None, "reasoning"),
        ],
    )
    def test_the_class_of_a_model_follows_from_facts(
        self, capabilities: set[str], price: float | None, expected: str
    ) -> None:
        assert policy.model_class(capabilities, price) == expected
        assert expected in policy.TARGETS

    def test_targets_are_better_than_limits(self) -> None:
        for t in policy.TARGETS.values():
            assert t.ttft_target_ms < t.ttft_limit_ms
            assert t.tps_target > t.tps_limit

    def test_each_figure_is_the_median_of_the_case_made_for_it(self) -> None:
        def case(name: str, *pairs: tuple[float | None, float | None]) -> CaseOutcome:
            grades = [Grade(True, ".", {"ttft_ms": a, "tokens_per_second": b}) for a, b in pairs]
            made = Case(
                name,
                name,
                Kind.PERFORMANCE,
                Category.LATENCY,
                lambda ref: Script(ref, 0, (), lambda o, c: PASS),
            )
            return CaseOutcome(made, tuple(grades))

        outcomes = [
            case("L1", (100, 900), (300, 900), (200, 900)),
            case("L2", (5000, 40), (5000, 60)),
        ]
        judged = scoring.judge(Run("full", (*gates(), *full(), *outcomes), model_class="small"))
        assert judged.ttft is not None
        assert judged.speed is not None
        assert (judged.ttft.median, judged.ttft.n, judged.speed.median, judged.speed.n) == (
            200,
            3,
            50,
            2,
        )
        assert judged.performance == pytest.approx((1 + (50 - 15) / 65) / 2)
        alone = scoring.measured([case("L1", (100, 80), (300, None))], "tokens_per_second")
        assert alone is not None
        assert (alone.median, alone.n) == (80, 1)

    def test_trials_that_failed_or_hold_no_number_measure_nothing(self) -> None:
        for value in (None, "fast", True, float("nan"), float("inf"), -1.0, 0.0, [3.0]):
            assert scoring.measured([timed(value, value)], "ttft_ms") is None
        failed = CaseOutcome(
            timed().case, (Grade(False, "Too short.", {"ttft_ms": 5.0}), invalid())
        )
        assert scoring.measured([failed], "ttft_ms") is None

    def test_the_class_decides_what_is_slow(self) -> None:
        scores = {
            name: whole(full(), latency=timed(1800, 25), model_class=name).score or 0
            for name in policy.TARGETS
        }
        assert scores["small"] < scores["medium"] < scores["large"] == 100.0

    def test_a_run_without_measurements_is_judged_on_the_rest(self) -> None:
        judged = scoring.judge(Run("full", (*gates(), *full())))
        assert (judged.performance, judged.score) == (None, 100.0)


class TestQuickVerdicts:
    def test_all_gates_passed_is_certified_and_cannot_be_an_a(self) -> None:
        judged = quick(gates())
        assert (judged.verdict, judged.passed, judged.score, judged.rating) == (
            Status.CERTIFIED,
            True,
            89.0,
            "B",
        )
        assert judged.message == "Certified: all 12 gates passed, score 89, rating B."
        assert judged.reason is None
        assert judged.quality is None
        assert judged.lower_bound is None

    def test_a_flaky_gate_is_said(self) -> None:
        judged = quick(gates(G03=(FAIL, PASS)))
        assert judged.verdict == Status.CERTIFIED
        assert judged.flaky_gates == ("G03",)
        assert "G03 only on a retry" in judged.message
        assert judged.rating == "B"

    def test_a_failed_gate_fails_and_the_sentence_says_which_and_why(self) -> None:
        broken = Grade(False, "Streaming tools (they work without streaming): no tool was called.")
        judged = quick(gates(G11=(broken,) * 3))
        assert judged.verdict == Status.FAILED
        assert judged.rating == "F"
        assert judged.reason == Reason.GATE_FAILED
        assert judged.failed_gates == ("G11",)
        assert judged.message.startswith("A gate failed. G11 Tools: Streaming tools")
        assert judged.unmet == ("gate G11 (tools) failed",)

    def test_a_cut_stream_is_called_that(self) -> None:
        assert (
            quick(gates(G02=(broke(Reason.STREAM_TRUNCATED),) * 3)).reason
            == Reason.STREAM_TRUNCATED
        )

    def test_beside_a_gate_that_the_model_failed_a_cut_stream_is_not_the_reason(self) -> None:
        cut, wrong = (
            (broke(Reason.STREAM_TRUNCATED),) * 3,
            (Grade(False, "No tool was called."),) * 3,
        )
        assert quick(gates(G02=cut, G11=wrong)).reason == Reason.GATE_FAILED
        assert quick(gates(G02=wrong, G11=cut)).reason == Reason.GATE_FAILED
        assert (
            quick(gates(G02=cut, G11=(broke(Reason.CONTENT_FILTER),) * 3)).reason
            == Reason.CONTENT_FILTER
        )

    def test_junk_instead_of_an_answer_is_no_verdict(self) -> None:
        judged = quick(
            [CaseOutcome(case) for case in GATES], access=Failure(Reason.BAD_RESPONSE, "<html>")
        )
        assert (judged.verdict, judged.reason) == (Status.PENDING, Reason.BAD_RESPONSE)
        assert "says nothing about the model" in judged.message

    def test_a_refused_parameter_is_not_the_reason_of_a_failed_gate(self) -> None:
        assert (
            quick(gates(G07=(broke(Reason.PARAMETER_NOT_SUPPORTED),) * 3)).reason
            == Reason.GATE_FAILED
        )

    def test_a_skipped_gate_does_not_count(self) -> None:
        judged = quick(gates(G05=(LACKS,)))
        assert judged.verdict == Status.CERTIFIED
        assert judged.score == 89.0
        assert judged.skipped == {"G05": "The model does not support stop sequences."}
        assert judged.lacks == ("stop_sequences",)
        assert "all 11 gates" in judged.message

    def test_a_capability_that_the_catalogue_claims_and_the_service_refuses_is_no_certificate(
        self,
    ) -> None:
        half = Grade(True, "Tools work, but not when streaming.", lacks="streaming_tools")
        declared = frozenset({"tools", "streaming_tools"})
        judged = quick(gates(G11=(half,)), declared=declared)
        assert judged.verdict == Status.QUALITY_WARNING
        assert "streaming tools" in judged.message
        assert quick(gates(G11=(half,)), declared=frozenset({"tools"})).verdict == Status.CERTIFIED

    def test_parity_loss_caps_and_warns(self) -> None:
        judged = quick(gates(), parity_losses=frozenset({"tools"}))
        assert (judged.verdict, judged.rating) == (Status.QUALITY_WARNING, "C")
        assert "reference region" in judged.unmet[0]

    def test_unreliable_calls_cost_the_certificate(self) -> None:
        judged = quick(gates(G03=(FAIL, PASS), G07=(FAIL, PASS)), calls=Calls(20, server_errors=12))
        assert judged.verdict == Status.QUALITY_WARNING
        assert judged.unmet == ("the score 78 is below 80",)
        assert judged.reason == Reason.QUALITY_BELOW_LINE

    @pytest.mark.parametrize(
        "reason",
        [
            Reason.THROTTLED_TOKENS,
            Reason.DAILY_TOKENS,
            Reason.SERVICE_UNAVAILABLE,
            Reason.READ_TIMEOUT,
            Reason.CREDENTIALS_EXPIRED,
            Reason.DNS,
            Reason.UNKNOWN,
            Reason.ZERO_QUOTA,
        ],
    )
    def test_infrastructure_is_never_a_verdict(self, reason: Reason) -> None:
        for judged in (
            quick(gates(G07=(invalid(reason),) * 3)),
            quick(gates(**{case.id: (invalid(reason),) * 3 for case in GATES})),
            quick(gates(G03=(FAIL,) * 3, G07=(invalid(reason),))),
            quick([CaseOutcome(case) for case in GATES], access=Failure(reason, "no")),
            quick([CaseOutcome(case) for case in GATES], interrupted=reason),
        ):
            assert (judged.verdict, judged.reason) == (Status.PENDING, reason)
            assert judged.score is None
            assert judged.rating == ""
            assert reason.value.replace("_", " ") in judged.message

    @pytest.mark.parametrize("reason", [r for r in Reason if r.facts.status in scoring.REFUSED])
    def test_refused_access_has_the_status_of_its_reason(self, reason: Reason) -> None:
        refusal = Failure(reason, "You shall not pass.", "AccessDeniedException", 403)
        started = [
            CaseOutcome(GATES[0], (invalid(reason, "You shall not pass."),)),
            *map(CaseOutcome, GATES[1:]),
        ]
        for judged in (quick(map(CaseOutcome, GATES), access=refusal), quick(started)):
            assert judged.verdict == reason.facts.status
            assert judged.reason == reason
            assert "You shall not pass." in judged.message
            assert judged.score is None

    def test_the_access_gates_own_trouble_decides(self) -> None:
        outcomes = gates(
            G01=(invalid(Reason.IAM_DENIED),), **{c.id: (invalid(),) * 3 for c in GATES[1:]}
        )
        assert quick(outcomes).verdict == Status.PERMISSION_REQUIRED

    def test_one_stray_refusal_among_throttles_does_not_decide(self) -> None:
        outcomes = gates(
            G05=(invalid(Reason.IAM_DENIED),), G06=(invalid(),) * 3, G07=(invalid(),) * 3
        )
        assert (quick(outcomes).verdict, quick(outcomes).reason) == (
            Status.PENDING,
            Reason.THROTTLED_TOKENS,
        )

    def test_a_gate_whose_retries_were_throttled_is_open_not_failed(self) -> None:
        judged = quick(gates(G08=(FAIL, invalid(), invalid())))
        assert judged.verdict == Status.PENDING
        assert "11 of 12" in judged.message

    def test_nothing_run_is_not_tested(self) -> None:
        assert quick(map(CaseOutcome, GATES)).verdict == Status.NOT_TESTED
        assert quick([]).verdict == Status.NOT_TESTED

    def test_kinds_without_a_suite_are_not_tested(self) -> None:
        image = scoring.without_suite("image")
        assert image.verdict == Status.NOT_TESTED
        assert "image" in image.message


class TestFullVerdicts:
    def test_a_healthy_model_is_certified_with_an_a(self) -> None:
        judged = whole(full())
        assert (judged.verdict, judged.rating, judged.score) == (Status.CERTIFIED, "A", 100.0)
        assert "quality 1.00" in judged.message

    def test_weak_tools_are_not_averaged_away(self) -> None:
        judged = whole(full(tools=(4, 9)))
        assert judged.verdict == Status.QUALITY_WARNING
        assert any(u.startswith("tools at 0.44 is below 0.80") for u in judged.unmet)
        assert (judged.score or 0) > 80

    @pytest.mark.parametrize(
        "category", ["tools", "json", "streaming", "instructions", "portuguese"]
    )
    def test_a_core_category_below_030_fails(self, category: str) -> None:
        judged = whole(full(**{category: (2, 9)}))
        assert judged.verdict == Status.FAILED
        assert category in judged.message
        assert judged.reason == Reason.QUALITY_BELOW_LINE

    @pytest.mark.parametrize("category", ["context", "reasoning", "vision"])
    def test_other_categories_below_060_warn(self, category: str) -> None:
        assert whole(full(**{category: (0, 9)})).verdict == Status.QUALITY_WARNING
        assert whole(full(**{category: (6, 9)})).verdict == Status.CERTIFIED

    def test_quality_below_a_half_fails(self) -> None:
        judged = whole(full(**{c.value: (4, 9) for c in WEIGHTED}))
        assert judged.verdict == Status.FAILED
        assert "quality 0.44 is below 0.50" in judged.message

    def test_portuguese_at_60_percent_warns(self) -> None:
        judged = whole(full(portuguese=(5, 9)))
        assert judged.verdict == Status.QUALITY_WARNING
        assert "portuguese" in judged.message

    def test_two_flaky_gates_warn_and_one_does_not(self) -> None:
        flaky = (FAIL, PASS)
        one = whole(full(), flaky={"G03": flaky})
        two = whole(full(), flaky={"G03": flaky, "G07": flaky})
        assert (one.verdict, one.rating) == (Status.CERTIFIED, "B")
        assert two.verdict == Status.QUALITY_WARNING
        assert two.unmet == ("2 gates passed only on a retry (G03, G07)",)

    def test_a_parity_alarm_warns_and_caps(self) -> None:
        judged = whole(full(), parity_alarm="9 of 84 trials passed in us-east-1 and failed here")
        assert (judged.verdict, judged.rating) == (Status.QUALITY_WARNING, "C")
        assert judged.unmet == ("9 of 84 trials passed in us-east-1 and failed here",)

    def test_a_category_exactly_on_its_floor_holds(self) -> None:
        """Thirds that add up to 0.8 only but for rounding."""
        shares = [(3, 3), (3, 3), (2, 3), (2, 3), (2, 3)]
        json = [scored(Category.JSON, *share, f"J{i}") for i, share in enumerate(shares)]
        others = [o for o in full() if o.case.category != Category.JSON]
        judged = whole([*others, *json])
        assert judged.categories["json"] == pytest.approx(0.8)
        assert judged.verdict == Status.CERTIFIED

    @pytest.mark.parametrize("figure", [0.7999, 0.796, 0.8 - 1e-5])
    def test_no_sentence_rounds_up_to_the_line(self, figure: float) -> None:
        assert scoring.format_floor(figure) == "0.79"
        assert scoring.format_floor(100 * figure, 0) == "79"
        assert (
            scoring.format_floor(0.8),
            scoring.format_floor(2.4 / 3),
            scoring.format_floor(0.29),
            scoring.format_floor(89.0, 0),
        ) == (
            "0.80",
            "0.80",
            "0.29",
            "89",
        )

    def test_the_rating_is_that_of_the_score_shown(self) -> None:
        for latency in range(1000, 5000, 7):
            judged = whole(full(), latency=timed(float(latency), 12.0))
            assert judged.rating == scoring.rating(judged.score or 0)

    def test_a_heavy_case_of_an_operator_counts_more(self) -> None:
        light, heavy = scored(Category.JSON, 3, 3, "J1"), scored(Category.JSON, 0, 3, "X9")
        heavy = CaseOutcome(replace(heavy.case, weight=3.0), heavy.trials)
        assert scoring.category_scores([light, heavy]) == {Category.JSON: pytest.approx(0.25)}
        terms = [(1 / 4, 3.5 / 4), (3 / 4, 0.5 / 4)]
        expected = 0.25 - 1.645 * math.sqrt(sum(u * u * p * (1 - p) / 3 for u, p in terms))
        assert scoring.lower_bound([light, heavy]) == pytest.approx(max(0.0, expected))

    def test_few_repeats_of_a_mixed_model_fail_the_bound(self) -> None:
        outcomes = [scored(c, 4, 5, f"C{i}") for i, c in enumerate(WEIGHTED)]
        judged = whole(outcomes)
        assert judged.verdict == Status.QUALITY_WARNING
        assert "lower bound" in judged.message

    def test_under_95_percent_valid_is_pending(self) -> None:
        throttled = [CaseOutcome(o.case, (*o.trials[:3], invalid())) for o in full()]
        assert whole(throttled).verdict == Status.CERTIFIED  # every planned trial was made up for
        lost = [CaseOutcome(o.case, (PASS, PASS, invalid(), invalid(), invalid())) for o in full()]
        assert whole(lost).verdict == Status.PENDING

    @pytest.mark.parametrize("trials", [(), (invalid(),) * 3, (FAIL, invalid(), invalid())])
    def test_no_certificate_vouches_for_a_gate_that_could_not_be_judged(
        self, trials: tuple[Grade, ...]
    ) -> None:
        judged = whole(full(), flaky={"G07": trials})
        assert judged.verdict == Status.PENDING
        assert "nothing is known about G07" in judged.message

    def test_no_certificate_vouches_for_a_category_that_could_not_be_judged(self) -> None:
        lost = CaseOutcome(scored(Category.VISION, 0, 0, "V1").case, (invalid(),) * 3)
        judged = whole([o for o in full() if o.case.category != Category.VISION] + [lost])
        assert (judged.verdict, judged.reason) == (Status.PENDING, Reason.THROTTLED_TOKENS)
        assert "nothing is known about vision because of throttled tokens" in judged.message

    def test_a_slow_model_scores_less(self) -> None:
        slow = whole(full(), latency=timed(60_000.0, 1.0))
        assert (slow.score, slow.performance) == (pytest.approx(85.0), 0.0)

    def test_a_skipped_category_is_left_out(self) -> None:
        outcomes = [o for o in full() if o.case.category != Category.VISION]
        vision = CaseOutcome(full()[-1].case, skipped="The model does not support vision.")
        judged = whole([*outcomes, vision])
        assert judged.verdict == Status.CERTIFIED
        assert "vision" not in judged.categories
        assert judged.skipped == {vision.case.id: "The model does not support vision."}


class TestUndecided:
    def _of(self, outcomes: Iterable[CaseOutcome]) -> frozenset[Category]:
        return scoring.undecided(full_run(outcomes))

    def test_a_clear_pass_and_a_clear_miss_need_no_more(self) -> None:
        assert not self._of(full())
        assert not self._of(full(tools=(4, 9)))
        assert not self._of(full(tools=(2, 9)))

    def test_a_category_near_its_floor_is_repeated_alone(self) -> None:
        assert self._of(full(json=(7, 9))) == {Category.JSON}
        assert self._of(full(vision=(6, 9))) == {Category.VISION}

    def test_an_unsure_bound_repeats_what_is_not_perfect(self) -> None:
        outcomes = [scored(Category.TOOLS, 10, 11, "T1")]
        assert 0.70 < (scoring.lower_bound(outcomes) or 0) < 0.75
        assert self._of(outcomes) == {Category.TOOLS}
        more = [scored(Category.TOOLS, 10, 11, f"T{i}") for i in range(4)]
        assert not self._of(more)

    def test_a_failed_gate_ends_it(self) -> None:
        run = Run("full", (*gates(G03=(FAIL,) * 3), *full(json=(7, 9))))
        assert not scoring.undecided(run)
