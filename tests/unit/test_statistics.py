"""The statistics against figures from hand calculation, enumeration or the literature."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certification.suite import statistics
from certification.suite.statistics import Interval


class TestMedianInterval:
    @pytest.mark.parametrize(
        ("n", "low", "high", "coverage"),
        [
            (6, 1, 6, 0.96875),
            (10, 2, 9, 0.978516),
            (16, 4, 13, 0.978729),
            (20, 6, 15, 0.958611),
            (50, 18, 33, 0.967161),
        ],
    )
    def test_the_ranks_of_the_printed_tables(
        self, n: int, low: int, high: int, coverage: float
    ) -> None:
        result = statistics.median_interval(random.Random(n).sample(range(1, n + 1), n))
        assert result == Interval(low, high, pytest.approx(coverage, abs=1e-6))

    def test_five_samples_do_not_make_a_95_percent_interval(self) -> None:
        assert statistics.median_interval([1, 2, 3, 4, 5]) is None
        assert statistics.median_interval([]) is None
        assert statistics.median_interval([1, 2, 3, 4, 5], level=0.9) == Interval(1, 5, 0.9375)

    def test_it_holds_the_median_as_often_as_it_says(self) -> None:
        rng, inside = random.Random(5), 0
        for _ in range(2000):
            result = statistics.median_interval([rng.expovariate(1) for _ in range(10)])
            assert result is not None
            inside += result.low <= math.log(2) <= result.high
        assert 0.965 < inside / 2000 < 0.99

    @given(st.lists(st.floats(-1e6, 1e6), max_size=60))
    def test_it_lies_within_the_samples_and_keeps_its_level(self, samples: list[float]) -> None:
        result = statistics.median_interval(samples)
        if len(samples) < 6:
            assert result is None
        else:
            assert result is not None
            assert min(samples) <= result.low <= result.high <= max(samples)
            assert result.coverage >= 0.95


class TestSummaries:
    def test_tails_need_samples(self) -> None:
        for n, p90, p95 in (
            (1, None, None),
            (49, None, None),
            (50, 45, None),
            (99, 90, None),
            (100, 90, 95),
        ):
            result = statistics.summarise(list(range(1, n + 1)))
            assert result is not None
            assert (result.n, result.p90, result.p95) == (n, p90, p95)
        assert statistics.summarise([]) is None

    @pytest.mark.parametrize(
        ("share", "value"), [(0.0, 10), (0.1, 10), (0.25, 10), (0.26, 20), (0.9, 40), (1.0, 40)]
    )
    def test_a_percentile_is_a_value_that_was_measured(self, share: float, value: float) -> None:
        assert statistics.percentile([40, 10, 30, 20], share) == value

    def test_a_percentile_of_nothing_is_none(self) -> None:
        assert statistics.percentile([], 0.5) is None


class TestSignTest:
    @pytest.mark.parametrize(
        ("losses", "gains", "p"),
        [
            (0, 0, 1.0),
            (1, 0, 0.5),
            (5, 0, 1 / 32),
            (7, 0, 1 / 128),
            (8, 2, 56 / 1024),
            (0, 5, 1.0),
            (3, 3, 42 / 64),
        ],
    )
    def test_its_tail_is_counted_exactly(self, losses: int, gains: int, p: float) -> None:
        assert statistics.sign_test(losses, gains) == p

    @given(st.integers(0, 9), st.integers(0, 9))
    def test_it_is_the_share_of_all_coin_tosses(self, losses: int, gains: int) -> None:
        n = losses + gains
        hits = (
            sum(sum(toss) >= losses for toss in itertools.product((0, 1), repeat=n))
            if n <= 10
            else None
        )
        if hits is not None:
            assert statistics.sign_test(losses, gains) == hits / 2**n

    def test_many_pairs_are_no_trouble(self) -> None:
        assert statistics.sign_test(3000, 1000) < 1e-200
        assert statistics.sign_test(0, 4000) == 1.0

    def test_only_trials_that_both_have_are_paired(self) -> None:
        pairs = statistics.pair(
            {"a": True, "b": True, "c": False, "d": True},
            {"a": False, "b": True, "c": True, "e": False},
        )
        assert (pairs.compared, pairs.losses, pairs.gains) == (3, ("a",), ("c",))
        assert pairs.p_value == 0.75
        assert statistics.pair({}, {}).p_value == 1.0


class TestBenjaminiHochberg:
    def test_the_example_of_1995(self) -> None:
        """The fifteen p values of Benjamini and Hochberg's own example: four are significant at
        0.05, three after Bonferroni.
        """
        p = [
            0.0001,
            0.0004,
            0.0019,
            0.0095,
            0.0201,
            0.0278,
            0.0298,
            0.0344,
            0.0459,
            0.3240,
            0.4262,
            0.5719,
            0.6528,
            0.7590,
            1.0,
        ]
        shuffled = random.Random(1).sample(p, len(p))
        adjusted = dict(zip(shuffled, statistics.benjamini_hochberg(shuffled), strict=True))
        assert [x for x in p if adjusted[x] <= 0.05] == p[:4]
        assert adjusted[0.0095] == pytest.approx(0.0095 * 15 / 4)

    def test_small_cases(self) -> None:
        assert statistics.benjamini_hochberg([]) == ()
        assert statistics.benjamini_hochberg([0.03]) == (0.03,)
        assert statistics.benjamini_hochberg([0.04, 0.02]) == (0.04, 0.04)

    @given(st.lists(st.floats(0, 1), max_size=30))
    def test_adjusting_raises_and_keeps_the_order(self, p_values: list[float]) -> None:
        adjusted = statistics.benjamini_hochberg(p_values)
        assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
        in_order = [a for _p, a in sorted(zip(p_values, adjusted, strict=True))]
        assert in_order == sorted(in_order)


class TestWilson:
    def test_known_intervals(self) -> None:
        assert statistics.wilson(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
        assert statistics.wilson(81, 263) == (
            pytest.approx(0.2553, abs=1e-4),
            pytest.approx(0.3662, abs=1e-4),
        )
        assert statistics.wilson(0, 0) == (0.0, 1.0)


def answers(
    rng: random.Random, weights: tuple[int, ...], prompts: int = 20, samples: int = 10
) -> list[list[str]]:
    return [rng.choices("abc", weights, k=samples) for _ in range(prompts)]


class TestFingerprint:
    def test_the_same_answers_have_no_distance(self) -> None:
        result = statistics.fingerprint([["a", "b"]] * 3, [["b", "a"]] * 3, permutations=99)
        assert (result.distance, result.p_value) == (0.0, 1.0)

    def test_no_common_answer_is_the_farthest(self) -> None:
        result = statistics.fingerprint([["a"] * 10] * 20, [["b"] * 10] * 20, permutations=199)
        assert (result.distance, result.p_value) == (2.0, 1 / 200)

    def test_the_distance_weighs_prompts_alike_whatever_their_samples(self) -> None:
        result = statistics.fingerprint(
            [["a", "a"], ["a", "b", "a"]], [["b"], ["a", "a", "a", "b"]], permutations=9
        )
        assert result.distance == pytest.approx((2.0 + 2 * (2 / 3 - 3 / 4) ** 2) / 2)

    def test_its_p_is_the_exact_one_where_that_can_be_counted(self) -> None:
        """Two of six answers differ: 2 of the 20 splits of (a a a | b b b) are as far."""
        result = statistics.fingerprint([["a"] * 3], [["b"] * 3], permutations=20_000)
        assert result.p_value == pytest.approx(2 / 20, abs=0.01)

    @pytest.mark.slow
    def test_a_changed_model_is_found_and_the_same_one_is_not(self) -> None:
        rng = random.Random(3)
        same = [
            statistics.fingerprint(answers(rng, (6, 3, 1)), answers(rng, (6, 3, 1)), 99, i).p_value
            for i in range(60)
        ]
        other = [
            statistics.fingerprint(answers(rng, (6, 3, 1)), answers(rng, (3, 3, 4)), 99, i).p_value
            for i in range(20)
        ]
        assert sum(p <= 0.05 for p in same) <= 8
        assert all(p <= 0.05 for p in other)

    def test_the_same_seed_gives_the_same_p(self) -> None:
        a, b = answers(random.Random(1), (5, 4, 1)), answers(random.Random(2), (5, 4, 1))
        assert statistics.fingerprint(a, b, 199, seed=7) == statistics.fingerprint(
            a, b, 199, seed=7
        )

    @pytest.mark.parametrize(
        ("first", "second"), [([], []), ([["a"]], []), ([["a"]], [[]]), ([[]], [["a"]])]
    )
    def test_sides_that_do_not_match_are_an_error(
        self, first: list[list[str]], second: list[list[str]]
    ) -> None:
        with pytest.raises(ValueError, match="prompts"):
            statistics.fingerprint(first, second)
