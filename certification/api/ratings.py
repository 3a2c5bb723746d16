"""A certification as the chat product shows it: stars from 0 to 5, and a word.

The rating is a twentieth of the score, within the limits of the status:

| status | rating | words |
|---|---|---|
| certified | 4.0-5.0 | PREMIUM from 4.8, else RECOMENDADO |
| quality_warning | 2.0-3.9 | FUNCIONAL from 3.0, else LIMITADO |
| failed | 1.0-1.9 | NAO_RECOMENDADO |
| permission_required, configuration_required | 0.0 | INDISPONIVEL |
| pending, not_tested, expired | none | none |
"""

from __future__ import annotations

from typing import Annotated, TypedDict

from certification.api.representations import OneOf
from certification.models import CertificationRun
from certification.reasons import Status

LIMITS: dict[str, tuple[float, float]] = {
    Status.CERTIFIED: (4.0, 5.0),
    Status.QUALITY_WARNING: (2.0, 3.9),
    Status.FAILED: (1.0, 1.9),
    Status.PERMISSION_REQUIRED: (0.0, 0.0),
    Status.CONFIGURATION_REQUIRED: (0.0, 0.0),
}
# The lowest rating of each word.
WORDS = (
    (4.8, "PREMIUM"),
    (4.0, "RECOMENDADO"),
    (3.0, "FUNCIONAL"),
    (2.0, "LIMITADO"),
    (1.0, "NAO_RECOMENDADO"),
    (0.0, "INDISPONIVEL"),
)
BadgeWord = Annotated[str, OneOf(*(word for _lowest, word in WORDS))]


class Metrics(TypedDict):
    """Figures of the run that the rating rests on."""

    successRate: Annotated[float, "Per cent of the cases that passed."]
    averageRetries: Annotated[float, "Retries per case."]
    averageLatency: Annotated[float, "Median time of a call in milliseconds."]
    errorCount: Annotated[int, "Cases that failed."]
    totalTests: int
    testsPassed: int


class Scores(TypedDict):
    success: Annotated[float, "0-4: four times the share of cases that passed."]
    resilience: Annotated[float, "0.5-1: less with every retry."]
    performance: Annotated[float, "0-1, as the scoring policy judges it."]
    stability: Annotated[float, "0-1: reliability, as the scoring policy judges it."]


def rating_of(status: str, score: int | None) -> float | None:
    """Return 0-5 with one decimal; None for a status that says nothing of the model."""
    if status not in LIMITS:
        return None
    lowest, highest = LIMITS[status]
    return round(min(max((score or 0) / 20, lowest), highest), 1)


def word_of(rating: float) -> str:
    """Return the word of a rating."""
    return next(word for lowest, word in WORDS if rating >= lowest)


def metrics(run: CertificationRun | None, passed: int, failed: int) -> Metrics:
    """Return the figures of a run and its cases; zeros without one."""
    cases = passed + failed
    return {
        "successRate": round(100 * passed / cases, 1) if cases else 0.0,
        "averageRetries": round(run.retries / cases, 2) if run and cases else 0.0,
        "averageLatency": round(run.latency_p50_ms or 0, 1) if run else 0.0,
        "errorCount": failed,
        "totalTests": cases,
        "testsPassed": passed,
    }


def scores(run: CertificationRun | None, figures: Metrics) -> Scores:
    """Return the parts of a rating. A part that a short run does not judge is the share of cases
    that passed.
    """
    share = figures["successRate"] / 100
    performance = run.performance if run else None
    stability = run.reliability if run else None
    return {
        "success": round(4 * share, 2),
        "resilience": round(1 - min(figures["averageRetries"], 6) / 12, 2),
        "performance": round(share if performance is None else performance, 2),
        "stability": round(share if stability is None else stability, 2),
    }
