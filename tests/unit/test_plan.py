"""The plan of the full tier: retries of flaky gates, repeats, and what ends it early."""

from __future__ import annotations

import pytest

from certification.inference import Failure
from certification.reasons import Reason, Status
from certification.suite import registry, scoring
from certification.suite.case import Case, Grade, Kind
from certification.suite.plan import next_trials, outcomes_of
from certification.suite.policy import POLICY
from certification.suite.scoring import Calls, CaseOutcome, Run

PASS, FAIL = Grade(True, "Good."), Grade(False, "Not good.")
THROTTLED = Grade(False, "?", valid=False, cause=Failure(Reason.THROTTLED_TOKENS, "wait"))
REFUSED = Grade(False, "?", valid=False, cause=Failure(Reason.ZERO_QUOTA, "no quota"))
TIMED = Grade(True, "Measured.", {"ttft_ms": 500.0, "tokens_per_second": 90.0})
CASES = registry.cases("text", "full")
BY_ID = {case.id: case for case in CASES}


def healthy(case: Case) -> list[Grade]:
    """As many trials as decide: three of each of three cases would be too few."""
    if case.category in POLICY.few_cases:
        return [PASS] * 5
    return [TIMED if case.kind == Kind.PERFORMANCE else PASS] * case.repeats


def grades(**changed: list[Grade]) -> dict[str, list[Grade]]:
    """Everything planned went well, but for the cases given; the gate over the run has not been
    looked at.
    """
    return {c.id: changed.get(c.id, healthy(c)) for c in CASES if not c.whole_run}


def due(tier: str = "full", **changed: list[Grade]) -> dict[str, list[int]]:
    result: dict[str, list[int]] = {}
    for trial in next_trials(CASES, grades(**changed), tier=tier):
        result.setdefault(trial.case.id, []).append(trial.index)
    return result


SLIP = [FAIL, PASS]
OVER = {"G12": [0]}


class TestFlakyGates:
    def test_one_flaky_gate_is_left_as_it_is(self) -> None:
        assert due(G03=SLIP) == OVER

    def test_more_of_them_get_their_second_retry(self) -> None:
        assert due(G03=SLIP, G07=SLIP) == {"G03": [2], "G07": [2]}
        assert due(G03=SLIP, G07=[FAIL, FAIL, PASS]) == {"G03": [2]}
        assert due(G03=[*SLIP, PASS], G07=[*SLIP, FAIL]) == OVER

    def test_the_quick_tier_has_no_such_rule(self) -> None:
        assert "G03" not in due("quick", G03=SLIP, G07=SLIP)

    def test_a_throttled_second_retry_is_made_up_for_within_its_budget(self) -> None:
        assert due(G03=[*SLIP, THROTTLED], G07=[*SLIP, PASS]) == {"G03": [3]}
        assert due(G03=[*SLIP, *[THROTTLED] * 3], G07=[*SLIP, PASS]) == OVER

    @pytest.mark.parametrize(
        ("first", "second", "verdict"),
        [
            ([*SLIP, PASS], [*SLIP, PASS], Status.CERTIFIED),
            ([*SLIP, PASS], [*SLIP, FAIL], Status.CERTIFIED),
            ([*SLIP, FAIL], [FAIL, FAIL, PASS], Status.QUALITY_WARNING),
            (SLIP, SLIP, Status.QUALITY_WARNING),
        ],
    )
    def test_two_gates_that_cannot_be_relied_on_cost_the_certificate(
        self, first: list[Grade], second: list[Grade], verdict: Status
    ) -> None:
        all_grades = {**grades(G03=first, G07=second), "G12": [PASS]}
        judged = scoring.judge(Run("full", outcomes_of(CASES, all_grades)))
        assert judged.verdict == verdict
        assert judged.rating == "B"
        assert judged.contract == pytest.approx(11 / 12)


class TestLadder:
    def test_a_healthy_run_ends_after_what_was_planned(self) -> None:
        assert due() == OVER

    @pytest.mark.parametrize("failures", [0, 1, 2, 3])
    def test_three_trials_of_three_cases_decide_only_far_from_the_floor(
        self, failures: int
    ) -> None:
        three = {"J2": [PASS] * 3, "J3": [PASS] * 3}
        result = due(J1=[FAIL] * failures + [PASS] * (3 - failures), **three)
        assert result == {"J1": [3, 4], "J2": [3, 4], "J3": [3, 4]}
        assert due(J1=[FAIL] * 3, J2=[FAIL] * 2 + [PASS], J3=[PASS] * 3) == OVER

    @pytest.mark.parametrize("failures", [1, 2, 3])
    def test_a_category_close_to_its_floor_is_repeated_alone(self, failures: int) -> None:
        result = due(T1=[FAIL] * failures + [PASS] * (3 - failures))
        assert result == {f"T{n}": [3, 4] for n in range(1, 6)}

    def test_the_distance_shrinks_with_the_trials(self) -> None:
        five = {f"T{n}": [PASS] * 5 for n in range(2, 6)}
        assert due(T1=[FAIL] * 2 + [PASS] * 3, **five) == OVER  # 23 of 25
        assert "T1" in due(T1=[FAIL] * 3 + [PASS] * 2, **five)  # 22 of 25
        assert "J1" in due(J1=[FAIL] + [PASS] * 4)  # 14 of 15
        nine = {"J2": [PASS] * 9, "J3": [PASS] * 9}
        assert due(J1=[FAIL] * 2 + [PASS] * 7, **nine) == OVER  # 25 of 27
        assert due(J1=[FAIL] * 3 + [PASS] * 6, **nine)["J1"] == list(range(9, 15))

    def test_it_ends_at_forty_five_trials_of_a_category(self) -> None:
        assert due(**{f"T{n}": [FAIL] * 2 + [PASS] * 7 for n in range(1, 6)}) == OVER
        assert due(**{f"J{n}": [FAIL] * 3 + [PASS] * 12 for n in range(1, 4)}) == OVER

    def test_what_cannot_be_certified_any_more_is_not_repeated(self) -> None:
        weak = {"J1": [FAIL, PASS, PASS]}
        assert "J1" in due(**weak)
        assert due(**weak, G03=[FAIL] * 3) == OVER  # a failed gate
        assert due(**weak, G03=[*SLIP, FAIL], G07=[*SLIP, FAIL]) == OVER  # two unsteady gates
        assert due(**weak, T1=[FAIL] * 3, T2=[FAIL] * 3) == OVER  # another category without hope
        # too little of it is valid
        assert due(**weak, **{n: [THROTTLED] * 5 for n in ("P1", "P2", "P3")}) == OVER

    def test_what_the_judgement_will_see_decides(self) -> None:
        """A run on the line because of its calls: repeats of what is not perfect could still tip
        it.
        """

        def unreliable(outcomes: tuple[CaseOutcome, ...]) -> Run:
            return Run("full", outcomes, calls=Calls(150, server_errors=150), model_class="small")

        result = next_trials(CASES, grades(R1=[FAIL, PASS, PASS]), tier="full", run_of=unreliable)
        assert {t.case.category.value for t in result} == {"reasoning"}
        declared = frozenset({"tools"})
        lacking = [Grade(True, "Half.", lacks="tools"), PASS, PASS]
        result = next_trials(
            CASES,
            grades(T1=lacking, J1=[FAIL, PASS, PASS]),
            tier="full",
            run_of=lambda o: Run("full", o, declared=declared),
        )
        assert [t.case.id for t in result] == ["G12"]

    def test_nothing_is_repeated_while_anything_runs(self) -> None:
        now = grades(J1=[FAIL, PASS, PASS])
        assert (
            next_trials(CASES, now, {**{k: len(v) for k, v in now.items()}, "T1": 4}, "full") == ()
        )


class TestInvalidTrials:
    def test_throttled_trials_are_made_up_for_and_refused_ones_are_not(self) -> None:
        assert due(T1=[PASS, PASS, THROTTLED]) == {"T1": [3]}
        assert due(T1=[PASS, THROTTLED, THROTTLED, THROTTLED, PASS]) == OVER
        assert due(T1=[PASS, REFUSED, REFUSED]) == OVER

    def test_a_rung_that_was_begun_belongs_to_what_was_planned(self) -> None:
        json = BY_ID["J1"]
        assert CaseOutcome(json, (PASS,) * 3).planned == 3
        assert CaseOutcome(json, (PASS,) * 4).planned == 5
        assert CaseOutcome(json, (PASS,) * 7).planned == 9
        assert CaseOutcome(json, (PASS,) * 12).planned == 15
        assert CaseOutcome(BY_ID["T1"], (PASS,) * 12).planned == 12


class TestEnds:
    @pytest.mark.parametrize("grade", [PASS, FAIL, THROTTLED, REFUSED, TIMED])
    @pytest.mark.parametrize("tier", ["quick", "full", "deep"])
    def test_every_run_ends(self, grade: Grade, tier: str) -> None:
        cases, got = (
            registry.cases("text", tier),
            {c.id: list[Grade]() for c in registry.cases("text", tier)},
        )
        for _ in range(20):
            wave = next_trials(cases, got, tier=tier)
            for trial in wave:
                assert trial.index == len(got[trial.case.id])
                got[trial.case.id].append(grade)
            if not wave:
                break
        assert not wave
