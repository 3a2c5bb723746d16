"""Regions beside their reference: what flips, how sure that is, and which capabilities got lost."""

from __future__ import annotations

import random

import pytest

from certification.inference import Failure
from certification.reasons import Reason
from certification.suite import parity
from certification.suite.case import Case, Category, Grade, Kind, Script
from certification.suite.parity import MeasuredPair
from certification.suite.scoring import CaseOutcome

PASS, FAIL = Grade(True, "Good."), Grade(False, "Not good.")
THROTTLED = Grade(False, "?", valid=False, cause=Failure(Reason.THROTTLED_TOKENS, "wait"))
KEYS = [(f"T{i}", trial) for i in range(28) for trial in range(3)]


def case(name: str, kind: Kind = Kind.SCORED, *needs: str) -> Case:
    return Case(
        name,
        name,
        kind,
        Category.TOOLS,
        lambda ref: Script(ref, 0, (), lambda o, c: PASS),
        frozenset(needs),
    )


def cell(region: str, failed: int = 0, **more: object) -> MeasuredPair:
    """A region in which this many of 84 trials failed, the first ones."""
    trials = {key: i >= failed for i, key in enumerate(KEYS)}
    return MeasuredPair(
        **{
            "model": "m",
            "region": region,
            "seed": 7,
            "suite_version": "1-a",
            "trials": trials,
            **more,
        }
    )  # type: ignore[arg-type]


class TestCompare:
    def test_a_region_that_fails_what_the_reference_passes_is_an_alarm(self) -> None:
        (result,) = parity.compare(cell("us-east-1"), [cell("sa-east-1", failed=8)])
        assert (result.reference, result.region, result.compared) == ("us-east-1", "sa-east-1", 84)
        assert result.flips == tuple(KEYS[:8])
        assert (result.gains, result.p_value, result.adjusted) == ((), 1 / 256, 1 / 256)
        assert result.alarm
        assert result.sentence == (
            "8 of 84 trials passed in us-east-1 and failed here (T0, T1, T2), "
            "0 the other way round (p = 0.0039)"
        )

    def test_being_better_is_no_alarm(self) -> None:
        (result,) = parity.compare(cell("us-east-1", failed=20), [cell("sa-east-1")])
        assert len(result.gains) == 20
        assert result.p_value == 1.0
        assert not result.alarm

    def test_many_cells_need_stronger_evidence(self) -> None:
        alone = parity.compare(cell("r"), [cell("x", failed=5)])
        among = parity.compare(
            cell("r"), [cell("x", failed=5), *(cell(f"x{i}") for i in range(29))]
        )
        assert alone[0].alarm
        assert not among[0].alarm
        assert among[0].adjusted == pytest.approx(30 / 32)

    def test_jobs_of_several_models_are_corrected_together(self) -> None:
        first = parity.compare(cell("r"), [cell("x", failed=5)])
        second = parity.compare(cell("r", model="n"), [cell(f"x{i}", model="n") for i in range(9)])
        assert first[0].alarm
        assert not any(p.alarm for p in parity.adjust((*first, *second)))

    def test_equal_regions_are_seldom_alarmed(self) -> None:
        rng, alarms = random.Random(4), 0
        for _ in range(300):
            draw = [{key: rng.random() < 0.95 for key in KEYS} for _ in range(6)]
            cells = [cell(f"x{i}", trials=trials) for i, trials in enumerate(draw)]
            alarms += any(p.alarm for p in parity.compare(cells[0], cells))
        assert alarms / 300 <= 0.05

    def test_the_reference_is_not_compared_with_itself(self) -> None:
        assert parity.compare(cell("us-east-1"), [cell("us-east-1")]) == ()
        assert parity.compare(cell("us-east-1"), []) == ()

    def test_trials_that_only_one_side_has_are_left_out(self) -> None:
        short = cell("x", trials={("T0", 0): False, ("T99", 0): False})
        (result,) = parity.compare(cell("r"), [short])
        assert (result.compared, result.flips) == (1, (("T0", 0),))

    @pytest.mark.parametrize("other", [{"seed": 8}, {"suite_version": "2-b"}, {"model": "n"}])
    def test_what_was_not_asked_the_same_is_not_compared(self, other: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="not sent the same requests"):
            parity.compare(cell("r"), [cell("x", **other)])

    def test_a_capability_that_only_the_reference_has_is_lost(self) -> None:
        reference = cell("r", proved=frozenset({"tools", "system"}))
        (result,) = parity.compare(
            reference, [cell("x", lacks=frozenset({"tools", "stop_sequences"}))]
        )
        assert result.losses == {"tools"}
        assert not result.alarm


class TestCells:
    def test_the_reference_is_the_first_certified_region_not_the_best(self) -> None:
        cells = [cell("a"), cell("b", failed=3, certified=True), cell("c", certified=True)]
        assert parity.reference_of(cells) is cells[1]
        assert parity.reference_of(cells[:1]) is None
        assert parity.reference_of([]) is None

    def test_trials_keep_their_place_and_throttled_ones_leave_a_hole(self) -> None:
        result = parity.trials_of([CaseOutcome(case("T1"), (PASS, THROTTLED, FAIL, PASS))])
        assert result == {("T1", 0): True, ("T1", 2): False, ("T1", 3): True}

    def test_only_the_first_try_of_a_gate_counts(self) -> None:
        gate = CaseOutcome(case("G3", Kind.GATE), (THROTTLED, FAIL, PASS))
        assert parity.trials_of([gate]) == {("G3", 1): False}

    def test_other_kinds_and_skipped_cases_have_no_trials(self) -> None:
        lacking = Grade(False, "no", lacks="tools")
        outcomes = [
            CaseOutcome(case("L1", Kind.PERFORMANCE), (PASS,)),
            CaseOutcome(case("D1", Kind.INFORMATION), (PASS,)),
            CaseOutcome(case("T1"), (lacking,)),
            CaseOutcome(case("T2"), skipped="The model does not support tools."),
        ]
        assert parity.trials_of(outcomes) == {}

    def test_a_capability_is_proved_by_a_passed_trial_that_needed_it(self) -> None:
        half = Grade(True, "Tools work, but not when streaming.", lacks="streaming_tools")
        outcomes = [
            CaseOutcome(case("T1", Kind.SCORED, "tools"), (FAIL, PASS)),
            CaseOutcome(case("V1", Kind.SCORED, "vision"), (FAIL,)),
            CaseOutcome(case("T4", Kind.SCORED, "tools", "streaming_tools"), (half,)),
        ]
        assert parity.proved_capabilities(outcomes) == {"tools"}
