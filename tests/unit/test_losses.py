"""Where a run's points went: the sums add up, and conditions say what the verdict says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certification import labels
from certification.reasons import Reason, Status
from certification.suite import losses, scoring
from certification.suite.case import Category
from certification.suite.cases.gates import GATES
from certification.suite.losses import Account, Part
from certification.suite.scoring import Calls, Run
from certification.web import judgement
from tests.unit.test_scoring import FAIL, LACKS, PASS, full, full_run, gates, invalid, scored, timed

GATE_TRIALS = st.sampled_from(
    [(PASS,), (FAIL, PASS), (FAIL, PASS, PASS), (FAIL, FAIL, FAIL), (LACKS,), (invalid(),)]
)
SHARES = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda t: (min(t), max(t)))


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Any run: quick or full, whatever passed, was slow, broke or is missing."""
    spoiled = draw(st.dictionaries(st.sampled_from([g.id for g in GATES]), GATE_TRIALS, max_size=3))
    calls = draw(st.tuples(*[st.integers(0, 3)] * 3).map(lambda t: Calls(30, *t)))
    options: dict[str, Any] = {
        "calls": calls,
        "model_class": draw(st.sampled_from(["small", "large", "reasoning"])),
        "parity_losses": draw(st.sampled_from([frozenset(), frozenset({"tools"})])),
        "parity_alarm": draw(st.sampled_from(["", "Trials flip between regions."])),
        "declared": draw(st.sampled_from([frozenset(), frozenset({"stop_sequences"})])),
    }
    if draw(st.booleans()):
        return Run("quick", tuple(gates(**spoiled)), **options)
    drawn = draw(st.lists(st.tuples(st.sampled_from(list(Category)), SHARES), max_size=10))
    outcomes = [scored(c, passes, n, f"C{i}") for i, (c, (passes, n)) in enumerate(drawn)]
    latency = timed(
        draw(st.sampled_from([None, 200.0, 2500.0, 1e6])),
        draw(st.sampled_from([None, 5.0, 30.0, 200.0])),
    )
    return full_run(outcomes, latency, flaky=spoiled, **options)


def account_of(run: Run) -> Account:
    account = losses.account_for(run)
    assert account is not None
    return account


@settings(max_examples=150, deadline=None)
@given(runs())
def test_points_lost_caps_and_score_are_a_hundred(run: Run) -> None:
    judgement = scoring.judge(run)
    account = losses.account_for(run)
    if judgement.score is None:
        assert account is None
        return
    assert account is not None
    lost = sum(row.points for row in account.losses) + sum(cap.points for cap in account.caps)
    assert lost + account.score == pytest.approx(100.0)
    assert account.score == int(judgement.score)
    assert all(row.points >= -1e-9 for row in account.losses)
    assert sum(row.weight for row in account.losses) == pytest.approx(100.0)
    for row in account.losses:
        blamed = sum(points for _case, points in row.cases)
        if row.part in (Part.QUALITY, Part.CONTRACT):
            assert blamed == pytest.approx(row.points)


@settings(max_examples=150, deadline=None)
@given(runs())
def test_all_conditions_are_met_exactly_where_it_is_certified(run: Run) -> None:
    rows = losses.conditions(run)
    assert losses.is_certified(rows) == (scoring.judge(run).verdict == Status.CERTIFIED)


@settings(max_examples=60, deadline=None)
@given(runs())
def test_every_condition_loss_and_cap_can_be_shown(run: Run) -> None:
    for row in losses.conditions(run):
        shown = judgement.condition_row(row)
        assert "%(" not in shown.label + shown.problem
        assert bool(shown.problem) != row.is_met
    account = losses.account_for(run)
    for loss in account.losses if account else ():
        assert loss.part in labels.SCORE_PARTS
        assert str(judgement.loss_label(loss))
    for cap in account.caps if account else ():
        assert "%(" not in judgement.cap_label(cap)


def test_a_perfect_run_lost_nothing() -> None:
    account = account_of(full_run(full()))
    assert (account.score, account.caps) == (100, ())
    assert not [row for row in account.losses if row.points]


def test_a_weak_category_names_its_cases_and_what_fixing_it_would_give() -> None:
    run = full_run(full(tools=(6, 9)))
    worst = account_of(run).losses[0]
    assert (worst.part, worst.name) == (Part.QUALITY, "tools")
    assert [case for case, _points in worst.cases] == ["T0", "T1", "T2", "T3"]
    assert scoring.judge(run).verdict == Status.QUALITY_WARNING
    assert (worst.fixed.verdict, worst.fixed.score) == (Status.CERTIFIED, 100)


@pytest.mark.parametrize(
    ("options", "name", "limit"),
    [
        ({"flaky": {"G05": (FAIL, PASS, PASS)}}, "flaky_gate", 89),
        ({"flaky": {"G05": (FAIL, FAIL, FAIL)}}, "failed_gate", 59),
        ({"parity_losses": frozenset({"tools"})}, "parity", 79),
    ],
)
def test_a_cap_is_named_with_what_it_took(options: dict[str, Any], name: str, limit: int) -> None:
    account = account_of(full_run(full(), **options))
    cap = next(cap for cap in account.caps if cap.name == name)
    assert cap.limit == account.score == limit
    assert cap.fixed is not None
    assert cap.fixed.score == 100
    if "flaky" in options:
        assert cap.cases == ("G05",)


def test_a_quick_run_is_capped_by_its_tier() -> None:
    account = account_of(Run("quick", tuple(gates())))
    assert [(cap.name, cap.points) for cap in account.caps] == [("quick_tier", 11.0)]


def test_slow_and_broken_calls_cost_points() -> None:
    run = full_run(full(), timed(ttft_ms=5000.0), calls=Calls(10, server_errors=1))
    account = account_of(run)
    lost = {row.name: row for row in account.losses if row.points}
    assert set(lost) == {"ttft_ms", "calls"}
    assert lost["ttft_ms"].cases[0][0] == "L1"
    assert lost["calls"].points == pytest.approx(1.5)
    assert (lost["calls"].fixed.score or 0) > account.score


def test_refused_access_has_no_account_and_one_condition() -> None:
    refused = invalid(Reason.IAM_DENIED)
    run = replace(full_run(full()), access=refused.cause)
    assert losses.account_for(run) is None
    assert [row.name for row in losses.conditions(run) if not row.is_met] == ["judged"]
