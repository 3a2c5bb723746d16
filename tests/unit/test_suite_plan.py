"""What a run does next, and what it costs."""

from __future__ import annotations

import pytest

from certification.inference import Failure
from certification.reasons import Reason
from certification.suite import answer_key, registry
from certification.suite.case import ALL_CAPABILITIES, Case, Category, Grade, Kind, Ref, Script
from certification.suite.plan import next_trials, outcomes_of, refusal_ends
from certification.suite.policy import POLICY

PASS = Grade(True, "Good.")
FAIL = Grade(False, "Not good.")
GATES = registry.cases("text", "quick")


def invalid(reason: Reason = Reason.THROTTLED_TOKENS) -> Grade:
    return Grade(False, "?", valid=False, cause=Failure(reason, "wait"))


def due(
    grades: dict[str, list[Grade]], started: dict[str, int] | None = None
) -> list[tuple[str, int]]:
    return [(t.case.id, t.index) for t in next_trials(GATES, grades, started)]


CALLING = [c.id for c in GATES if not c.whole_run]
REST = {i: [PASS] for i in CALLING}


class TestNextTrials:
    def test_the_access_gate_goes_first_and_alone(self) -> None:
        assert due({}) == [("G01", 0)]
        assert due({}, {"G01": 1}) == []

    def test_then_all_others_but_the_one_over_the_whole_run(self) -> None:
        assert due({"G01": [PASS]}) == [(i, 0) for i in CALLING[1:]]

    def test_what_runs_already_is_not_started_twice(self) -> None:
        started = dict.fromkeys(CALLING, 1)
        assert due({"G01": [PASS]}, started) == []
        assert due({"G01": [PASS], "G02": [PASS]}, started) == []

    def test_a_failed_gate_is_tried_twice_more_and_no_further(self) -> None:
        assert due({**REST, "G07": [FAIL]}) == [("G07", 1)]
        assert due({**REST, "G07": [FAIL, FAIL]}) == [("G07", 2)]
        assert due({**REST, "G07": [FAIL] * 3}) == [("G12", 0)]

    def test_a_retry_starts_while_others_still_run(self) -> None:
        started = dict.fromkeys(CALLING, 1)
        assert due({"G01": [PASS], "G07": [FAIL]}, started) == [("G07", 1)]

    def test_a_throttled_trial_is_made_up_for_within_a_budget(self) -> None:
        assert due({**REST, "G07": [invalid()]}) == [("G07", 1)]
        assert due({**REST, "G07": [invalid(), FAIL, invalid()]}) == [("G07", 3)]
        assert due({**REST, "G07": [invalid()] * 3}) == [("G12", 0)]

    @pytest.mark.parametrize(
        "reason", [Reason.IAM_DENIED, Reason.ZERO_QUOTA, Reason.CREDENTIALS_EXPIRED, Reason.UNKNOWN]
    )
    def test_what_does_not_go_away_is_not_tried_again(self, reason: Reason) -> None:
        assert due({"G01": [invalid(reason)]}) == []
        assert refusal_ends(GATES, {"G01": [invalid(reason)]})

    def test_a_run_goes_on_after_a_failed_access_gate(self) -> None:
        assert due({"G01": [FAIL] * 3})[0] == ("G02", 0)
        assert not refusal_ends(GATES, {"G01": [FAIL] * 3})
        assert not refusal_ends(GATES, {"G01": [PASS]})
        assert not refusal_ends(GATES, {})

    def test_the_gate_over_the_run_comes_last_once(self) -> None:
        assert due(REST) == [("G12", 0)]
        assert due(REST, {**dict.fromkeys(CALLING, 1), "G07": 2}) == []
        assert due({**REST, "G12": [FAIL]}) == []

    def test_a_lacking_capability_ends_its_case(self) -> None:
        lacking = Grade(False, "no", lacks="stop_sequences")
        assert due({**REST, "G05": [lacking]}) == [("G12", 0)]

    def test_every_run_ends(self) -> None:
        for grade in (PASS, FAIL, invalid()):
            grades: dict[str, list[Grade]] = {}
            for _ in range(10):
                wave = next_trials(GATES, grades)
                for trial in wave:
                    assert trial.index == len(grades.get(trial.case.id, []))
                    grades.setdefault(trial.case.id, []).append(grade)
            assert not wave


class TestRepeats:
    def _cases(self) -> tuple[Case, ...]:
        def script(ref: Ref) -> Script:
            return Script(ref, 0, (), lambda o, c: PASS)

        made = [
            Case(f"{c.value[0].upper()}{i}", "x", Kind.SCORED, c, script, repeats=3)
            for c in POLICY.weights
            for i in range(4)
        ]
        return (*GATES, *made)

    def _due(self, grades: dict[str, list[Grade]]) -> dict[str, list[int]]:
        result: dict[str, list[int]] = {}
        for trial in next_trials(self._cases(), grades, tier="full"):
            result.setdefault(trial.case.id, []).append(trial.index)
        return result

    def test_scored_cases_start_with_their_repeats(self) -> None:
        assert self._due({"G01": [PASS]})["T0"] == [0, 1, 2]

    def test_an_invalid_trial_is_made_up_for_twice_at_most(self) -> None:
        grades = {c.id: [PASS] * c.repeats for c in self._cases()}
        assert self._due({**grades, "T0": [PASS, PASS, invalid()]}) == {"T0": [3]}
        assert "T0" not in self._due(
            {**grades, "T0": [PASS, invalid(), invalid(), invalid(), PASS]}
        )

    @pytest.mark.parametrize(
        ("done", "passes", "expected"),
        [
            (3, (3, 3, 2, 2), [3, 4]),
            (5, (5, 4, 4, 4), [5, 6, 7, 8]),
            (9, (8, 8, 8, 7), [9, 10, 11, 12, 13, 14]),
            (15, (13, 13, 13, 13), []),
            (3, (3, 3, 3, 3), []),
        ],
    )
    def test_undecided_categories_climb_the_ladder(
        self, done: int, passes: tuple[int, ...], expected: list[int]
    ) -> None:
        grades = {c.id: [PASS] * c.repeats for c in self._cases()}
        ids = [c.id for c in self._cases() if c.category == Category.JSON]
        for case_id, good in zip(ids, passes, strict=True):
            grades[case_id] = [PASS] * good + [FAIL] * (done - good)
        assert self._due(grades) == (dict.fromkeys(ids, expected) if expected else {})


class TestRegistry:
    def test_the_quick_tier_of_text_models_is_the_twelve_gates(self) -> None:
        assert [c.id for c in GATES] == [f"G{n:02}" for n in range(1, 13)]

    def test_capabilities_decide_what_applies_and_why_not(self) -> None:
        ids = [c.id for c in registry.cases("text", "quick", {"streaming_tools"})]
        assert "G06" not in ids
        assert "G11" not in ids
        left = registry.skipped("text", "quick", {"streaming_tools"})
        assert {o.case.id: o.skipped for o in left} == {
            "G06": "The model does not support system prompts.",
            "G11": "The model does not support tools.",
        }
        assert registry.skipped("text", "quick", ALL_CAPABILITIES) == ()

    @pytest.mark.parametrize("kind", ["image", "video", "speech", "rerank", ""])
    def test_other_kinds_have_no_cases(self, kind: str) -> None:
        assert not registry.has_suite(kind)
        assert registry.cases(kind, "quick") == ()
        assert registry.estimate(kind, "quick") == registry.Estimate()

    def test_an_unknown_tier_is_an_error(self) -> None:
        with pytest.raises(KeyError):
            registry.cases("text", "turbo")

    def test_ids_are_unique_and_titles_short(self) -> None:
        for kind in ("text", "embedding"):
            result = registry.cases(kind, "deep")
            assert len({c.id for c in result}) == len(result)
            assert all(c.title and len(c.title) <= 40 for c in result)

    def test_a_quick_run_is_about_15_calls_and_cheap(self) -> None:
        cost = registry.estimate("text", "quick")
        assert 13 <= cost.calls <= 17
        assert 500 < cost.input_tokens < 3000
        assert 100 < cost.output_tokens < 1500
        assert cost.reserved_tokens < 10_000

    def test_models_that_reason_cost_more_and_those_without_tools_less(self) -> None:
        plain = registry.estimate("text", "quick")
        assert (
            registry.estimate("text", "quick", {*ALL_CAPABILITIES, "reasoning"}).output_tokens
            > plain.output_tokens
        )
        assert registry.estimate("text", "quick", {"system"}).calls == plain.calls - 2
        assert registry.estimate("text", "quick", {"system", "tools"}).calls == plain.calls - 1

    def test_embeddings_are_priced_by_their_input(self) -> None:
        cost = registry.estimate("embedding", "quick")
        assert cost.output_tokens == 0
        assert cost.input_tokens > 10_000

    def test_outcomes_hold_every_case(self) -> None:
        outcomes = outcomes_of(GATES, {"G02": [PASS]})
        assert len(outcomes) == 12
        assert outcomes[1].trials == (PASS,)


class TestKey:
    def test_unknown_references_have_no_answer(self) -> None:
        assert answer_key.answer(Ref(1, "Z99", 0), 0) is None
        assert answer_key.answer(Ref(1, "G01", 0), 1) is None
        assert answer_key.answer(Ref(1, "G01", 0), -1) is None
        assert answer_key.answer(Ref(1, "G12", 0), 0) is None
        assert answer_key.category("Z99") is None
        assert answer_key.category("G01") == Category.CONTRACT
        assert answer_key.category("E01") == Category.EMBEDDING

    def test_the_same_reference_gives_the_same_step(self) -> None:
        assert answer_key.answer(Ref(3, "G07", 2), 0) is answer_key.answer(Ref(3, "G07", 2, 5), 0)

    @pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
    def test_a_reference_survives_being_printed(self, seed: int) -> None:
        ref = Ref(seed, "G07", 12, 3)
        assert Ref.find(f"old {Ref(5, 'G01', 0)} and new {ref}.") == ref
        assert Ref.find("no reference (ref 12-G01-0-0)") is None
