"""The few statistics that verdicts, parity and latency figures rest on, in exact arithmetic."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

MIN_P90 = 50  # pooled samples below which a p90 is mostly one sample's luck
MIN_P95 = 100


# Latency: medians with their interval, tails only from enough samples.


@dataclass(frozen=True)
class Interval:
    """`low` and `high` in the unit of the samples; `coverage` is the interval's true level, at
    least the one asked for.
    """

    low: float
    high: float
    coverage: float


def median_interval(samples: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return a distribution-free interval for the median: the order statistics x(r) and x(n+1-r).

    Its coverage is 1 - 2 P(B <= r - 1) with B binomial(n, 1/2), whatever the distribution; r is the
    largest that keeps `level`. None where even the smallest and the largest sample do not (fewer
    than 6 for 95 %). Source: David and Nagaraja, Order Statistics, 3rd edition, 7.1.
    """
    ordered, n = sorted(samples), len(samples)
    tail, inside, r = 0, 0, 0
    while r < (n + 1) // 2:
        tail += math.comb(n, r)
        if 1 - 2 * tail / 2**n < level:
            break
        r, inside = r + 1, tail
    if r == 0:
        return None
    return Interval(ordered[r - 1], ordered[n - r], 1 - 2 * inside / 2**n)


def percentile(samples: Sequence[float], share: float) -> float | None:
    """Return the smallest sample that at least `share` (0..1) of the samples do not exceed; None
    without samples.

    The inverse of the empirical distribution: definition 1 of Hyndman and Fan, Sample Quantiles in
    Statistical Packages, 1996. It is always a value that was measured.
    """
    if not samples:
        return None
    return sorted(samples)[max(0, math.ceil(share * len(samples) - 1e-9) - 1)]


@dataclass(frozen=True)
class Summary:
    """Pooled samples in few figures, all in the samples' unit. None: too few samples to say."""

    n: int
    median: float
    interval: Interval | None = None
    p90: float | None = None
    p95: float | None = None


def summarise(samples: Sequence[float]) -> Summary | None:
    """Summarise by the median with its 95 % interval; p90 from 50 samples on, p95 from 100 on. None
    without samples.
    """
    if not samples:
        return None
    n = len(samples)
    return Summary(
        n,
        median(samples),
        median_interval(samples),
        percentile(samples, 0.90) if n >= MIN_P90 else None,
        percentile(samples, 0.95) if n >= MIN_P95 else None,
    )


# Pairs of trials: the same case and trial here and there, or now and then.


def sign_test(losses: int, gains: int) -> float:
    """Return the one-sided exact p of at least so many losses among the pairs that differ, if
    losing and gaining were as likely.

    p = sum over i >= losses of C(n, i) / 2^n with n = losses + gains: the exact sign test, which is
    McNemar's test for paired proportions. 1 where nothing differs. Source: McNemar, Psychometrika
    12, 1947; exact form: Conover, Practical Nonparametric Statistics, 3.4.
    """
    n = losses + gains
    return sum(math.comb(n, i) for i in range(losses, n + 1)) / 2**n


K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Pairs(Generic[K]):
    """How pairs of trials compare. `losses` passed first and failed second, `gains` the other way
    round.
    """

    compared: int
    losses: tuple[K, ...]
    gains: tuple[K, ...]

    @property
    def p_value(self) -> float:
        """One-sided: small means that the second is worse than the first."""
        return sign_test(len(self.losses), len(self.gains))


def pair(first: Mapping[K, bool], second: Mapping[K, bool]) -> Pairs[K]:
    """Compare the trials that both sides have: key -> passed. Put in valid trials only."""
    common = [key for key in first if key in second]
    return Pairs(
        len(common),
        tuple(k for k in common if first[k] and not second[k]),
        tuple(k for k in common if second[k] and not first[k]),
    )


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p values for being many, in their order: those at or below q are a set with a
    false share of q.

    adjusted(i) = min over j >= i of p(j) m / j, p(1) <= ... <= p(m), at most 1. Holds for
    independent tests and for those that share a reference (positive dependence). Source: Benjamini
    and Hochberg, JRSS B 57, 1995; Benjamini and Yekutieli, Annals of Statistics 29, 2001, for the
    dependence.
    """
    m = len(p_values)
    order = sorted(range(m), key=lambda i: p_values[i], reverse=True)
    adjusted, smallest = [1.0] * m, 1.0
    for rank, i in zip(range(m, 0, -1), order, strict=True):
        smallest = min(smallest, p_values[i] * (m / rank))
        adjusted[i] = smallest
    return tuple(adjusted)


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a share, 95 % at z = 1.96; (0, 1) without trials. Source: Wilson, JASA
    22, 1927.
    """
    if not n:
        return 0.0, 1.0
    share, zz = hits / n, z * z / n
    middle = (share + zz / 2) / (1 + zz)
    half = z * math.sqrt(share * (1 - share) / n + zz / (4 * n)) / (1 + zz)
    return max(0.0, middle - half), min(1.0, middle + half)


# Fingerprints: do two endpoints answer the same prompts alike?


@dataclass(frozen=True)
class Fingerprint:
    """`distance` is 0 for equal distributions of answers and at most 2; `p_value` small means that
    they differ.
    """

    distance: float
    p_value: float
    permutations: int


def fingerprint(
    first: Sequence[Sequence[Hashable]],
    second: Sequence[Sequence[Hashable]],
    permutations: int = 1999,
    seed: int = 0,
) -> Fingerprint:
    """Test whether two endpoints draw their answers from the same distributions: one inner sequence
    of answers per prompt.

    The distance is the mean over prompts of the squared distance between the answers' relative
    frequencies, sum over answers of (a / n - b / m)^2: a maximum mean discrepancy with equality as
    its kernel. The p value is that of a permutation test that shuffles each prompt's answers
    between the sides, (1 + as far or farther) / (1 + permutations), over whole numbers, so that
    ties are ties. Give short answers, or their first tokens: answers that never repeat tell nothing
    apart. ValueError where the sides do not have the same prompts or one has no answers. Source:
    Gao, Liang, Guestrin, Model Equality Testing: Which Model Is This API Serving?, 2024; the p
    value: Phipson and Smyth, Permutation P-values Should Never Be Zero, 2010.
    """
    if len(first) != len(second) or not first or not all(map(len, (*first, *second))):
        raise ValueError(
            "Both sides need the same prompts, at least one, each with an answer or more."
        )
    rng = random.Random(seed)
    scale = math.lcm(*(len(a) * len(b) for a, b in zip(first, second, strict=True)))
    prompts = [_Prompt(a, b, scale) for a, b in zip(first, second, strict=True)]
    observed = sum(p.far(p.answers) for p in prompts)
    as_far = sum(sum(p.shuffled(rng) for p in prompts) >= observed for _ in range(permutations))
    return Fingerprint(
        observed / scale**2 / len(prompts), (1 + as_far) / (1 + permutations), permutations
    )


class _Prompt:
    """One prompt's answers of both sides as numbers; distances are whole multiples of 1 / scale^2
    so that ties are exact.
    """

    def __init__(self, first: Sequence[Hashable], second: Sequence[Hashable], scale: int) -> None:
        self.n, self.m, self.factor = (
            len(first),
            len(second),
            (scale // (len(first) * len(second))) ** 2,
        )
        names: dict[Hashable, int] = {}
        self.answers = [names.setdefault(answer, len(names)) for answer in (*first, *second)]
        self.totals = Counter(self.answers)

    def far(self, answers: Sequence[int]) -> int:
        """scale^2 sum (a / n - b / m)^2, where b = total - a."""
        n, m = self.n, self.m
        ours = Counter(answers[:n])
        return self.factor * sum(
            (ours[k] * m - (t - ours[k]) * n) ** 2 for k, t in self.totals.items()
        )

    def shuffled(self, rng: random.Random) -> int:
        rng.shuffle(self.answers)
        return self.far(self.answers)
