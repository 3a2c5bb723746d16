"""The policy's numbers: weights, lines, and the speed that is expected of a class of models."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from certification.suite.case import Category


@dataclass(frozen=True)
class Policy:
    """Every number of the judgement. Another number is another POLICY_VERSION."""

    weights: Mapping[Category, float] = field(
        default_factory=lambda: {
            Category.TOOLS: 25.0,
            Category.JSON: 15.0,
            Category.INSTRUCTIONS: 15.0,
            Category.PORTUGUESE: 20.0,
            Category.STREAMING: 10.0,
            Category.CONTEXT: 5.0,
            Category.REASONING: 5.0,
            Category.VISION: 5.0,
        }
    )
    core: tuple[Category, ...] = (
        Category.TOOLS,
        Category.JSON,
        Category.STREAMING,
        Category.INSTRUCTIONS,
        Category.PORTUGUESE,
    )
    share_quality: float = 45.0
    share_contract: float = 25.0
    share_performance: float = 15.0
    share_reliability: float = 15.0
    quick_contract: float = 75.0
    quick_reliability: float = 25.0
    quick_cap: float = 89.0
    flaky_gate: float = 0.5
    gate_tries: int = 3  # the first and two more
    invalid_tries: int = 2  # trials in place of those that infrastructure ended, per case
    min_valid: float = 0.95
    z: float = 1.645
    fail_quality: float = 0.50
    fail_core: float = 0.30
    line: float = 80.0
    min_bound: float = 0.75
    min_core: float = 0.80
    min_category: float = 0.60
    max_flaky: int = 1
    # of gates that passed on the first, where more of them are flaky than allowed
    second_retry: bool = True
    # trials of a case while its category is undecided
    ladder: tuple[int, ...] = (3, 5, 9)
    # beyond it, for the categories of `core` that have three cases where others have five: both
    # get 45 trials then
    last_rung: int = 15
    few_cases: tuple[Category, ...] = (Category.JSON, Category.STREAMING)
    near_line: float = 5.0
    # distance of a category's mean from its floor, about 1.4 standard errors: with fewer trials of
    # the category than `few_trials`, than `more_trials`, and with more
    near_floor_first: float = 0.20
    near_floor_second: float = 0.15
    near_floor: float = 0.10
    few_trials: int = 10
    more_trials: int = 24
    # USD per million output tokens from which a model is expected to be of medium speed
    medium_price: float = 1.0
    large_price: float = 6.0
    ratings: tuple[tuple[float, str], ...] = (
        (90.0, "A"),
        (80.0, "B"),
        (70.0, "C"),
        (60.0, "D"),
        (-math.inf, "F"),
    )

    def rungs(self, category: Category) -> tuple[int, ...]:
        """Return how many trials a case of this category gets: at first, and while undecided."""
        return (*self.ladder, self.last_rung) if category in self.few_cases else self.ladder

    def undecided_within(self, trials: int) -> float:
        """Return how far from its floor a category of so many trials is undecided."""
        if trials < self.few_trials:
            return self.near_floor_first
        return self.near_floor_second if trials < self.more_trials else self.near_floor


POLICY = Policy()


@dataclass(frozen=True)
class Target:
    """What is expected of a class of models: milliseconds to the first token and output tokens per
    second.

    At its `target` or better a figure counts 1, at its `limit` or worse 0.
    """

    ttft_target_ms: float
    ttft_limit_ms: float
    tps_target: float
    tps_limit: float


TARGETS = {
    "small": Target(600.0, 3000.0, 80.0, 15.0),
    "medium": Target(1000.0, 5000.0, 45.0, 10.0),
    "large": Target(1800.0, 8000.0, 25.0, 6.0),
    "reasoning": Target(4000.0, 20000.0, 30.0, 6.0),
}


def model_class(capabilities: Collection[str], output_price: float | None) -> str:
    """Return the row of TARGETS that a model is measured by, from facts and never from its name.

    Models that reason, whatever they cost, are "reasoning"; the others by USD per million output
    tokens, which follows the size of what is served: below 1 "small", below 6 "medium", else
    "large". An unknown price is "medium".
    """
    if "reasoning" in capabilities:
        return "reasoning"
    if output_price is None:
        return "medium"
    if output_price < POLICY.medium_price:
        return "small"
    return "medium" if output_price < POLICY.large_price else "large"


# a short prompt and a short answer; a long of both
MEASURED_BY = {"ttft_ms": "L1", "tokens_per_second": "L2"}
