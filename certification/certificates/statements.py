"""What a certificate says: an in-toto Statement v1 about the evidence of one run.

https://github.com/in-toto/attestation/tree/main/spec/v1. It is complete by itself and holds nothing
internal: no request, no answer, no person, no account.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from certification.certificates import envelopes
from certification.lib.foreign_text import clean
from certification.models import Backend, ModelCertification, TestResult
from certification.models.catalogue import RouteKind
from certification.suite import registry

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:myia:model-certificate:v1"
EMULATED = "EMULATED"
ACCOUNT_ID = re.compile(r"(?<=:)\d{12}(?=:)")
# of a trial, what `cleanup` removes from old runs
TRANSCRIPT = ("calls", "has_transcript", "dropped")
PASSED = ("passed", "flaky")


@dataclass(frozen=True)
class Place:
    """A certificate's place in the chain and in time. `previous` is the hash of the one before, ""
    for the first.
    """

    number: int
    code: str
    previous: str
    issued_at: datetime


@dataclass(frozen=True)
class Issuer:
    """Who issues certificates: a name, and the address of its pages without a slash at the end."""

    name: str
    url: str


def build(
    pair: ModelCertification,
    policy_version: str,
    results: Sequence[TestResult],
    place: Place,
    issuer: Issuer,
) -> dict[str, Any]:
    """Build the statement of a pair that its run certifies, with that run's results.

    `policy_version` is of the last judgement. Reads the pair's model, region and run.
    """
    run, model, region = pair.run, pair.model, pair.region
    assert run is not None  # noqa: S101 - of `without_certificate`
    evidence = {
        "sha256": grades_digest(results),
        "transcriptsSha256": transcripts_digest(results),
    }
    is_emulated = pair.backend == Backend.EMULATOR
    predicate = {
        "code": place.code,
        "number": place.number,
        "previous": {"sha256": place.previous} if place.previous else None,
        "issuer": {"name": issuer.name, "url": issuer.url},
        "issuedAt": iso(place.issued_at),
        "inForceUntil": iso(pair.expires_at),
        "verdict": f"{EMULATED}: certified" if is_emulated else "certified",
        "backend": pair.backend,
        "model": {
            "id": clean(model.api_model_id),
            "name": clean(model.name),
            "vendor": clean(model.vendor),
            "kind": model.kind,
        },
        "region": {"code": region.code, "name": clean(region.name)},
        "route": {
            "endpoint": run.endpoint,
            "api": run.api,
            "kind": run.route_kind,
            "target": ACCOUNT_ID.sub("************", clean(run.route)),
            "residency": residency(run.route_kind, run.route),
        },
        "run": {
            "id": str(run.pk),
            "tier": pair.tier,
            "completedAt": iso(run.completed_at),
            "calls": run.calls,
        },
        "versions": {"suite": run.suite_version, "policy": policy_version},
        "score": {
            "total": pair.score,
            "rating": pair.rating,
            "lowerBound": rounded(run.lower_bound),
            "quality": rounded(run.quality),
            "contract": rounded(run.contract),
            "performance": rounded(run.performance),
            "reliability": rounded(run.reliability),
        },
        "cases": cases(results),
        "speed": {
            "ttftMs": run.ttft_ms,
            "latencyP50Ms": run.latency_p50_ms,
            "outputTokensPerSecond": run.output_tps,
        },
        "capabilities": capabilities(results, run.environment),
        "evidence": evidence,
    }
    subject = {
        "name": f"{clean(model.api_model_id)}@{region.code}",
        "digest": {"sha256": evidence["sha256"]},
    }
    return {
        "_type": STATEMENT_TYPE,
        "subject": [subject],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }


def fact(predicate: Any, *path: str) -> Any:
    """Return a member of a statement by its path. "" where there is none: another issuer, whose key
    somebody trusts, may state anything.
    """
    for name in path:
        predicate = predicate.get(name) if isinstance(predicate, dict) else None
    return "" if predicate is None else predicate


def iso(at: datetime | None) -> str | None:
    """Return a time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 4)


def residency(kind: str, target: str) -> str:
    """Return where a route answers from: in_region, in_geography or global."""
    if kind != RouteKind.INFERENCE_PROFILE:
        return "in_region"
    return "global" if target.rpartition("/")[2].startswith("global.") else "in_geography"


def cases(results: Iterable[TestResult]) -> dict[str, Any]:
    """Count the cases by category and list them: passed ones, of those that counted."""
    rows = list(results)
    by_category: dict[str, Counter[str]] = {}
    for row in rows:
        by_category.setdefault(row.category, Counter())[row.verdict] += 1
    return {
        **tally(Counter(row.verdict for row in rows)),
        "byCategory": [
            {"category": category, **tally(counts)}
            for category, counts in sorted(by_category.items())
        ],
        "list": [
            {
                "id": row.case_id,
                "category": row.category,
                "kind": row.kind,
                "verdict": row.verdict,
                "passes": row.passes,
                "trials": row.trials_valid,
            }
            for row in rows
        ],
    }


def tally(verdicts: Counter[str]) -> dict[str, int]:
    """Return how many of the cases that count passed; skipped and invalid ones do not count."""
    passed = sum(verdicts[name] for name in PASSED)
    return {
        "passed": passed,
        "total": passed + verdicts["failed"],
        "skipped": verdicts["skipped"] + verdicts["invalid"],
    }


def capabilities(
    results: Iterable[TestResult], environment: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Return which capabilities cases showed to work that need them, and what the run proved
    absent. What the catalogue declares and no case tried is in neither.
    """
    passed = [registry.BY_ID.get(row.case_id) for row in results if row.verdict in PASSED]
    works = set[str]().union(*(case.needs for case in passed if case))
    lacks = set(environment.get("lacks", ()))
    return {"works": sorted(works - lacks), "lacks": sorted(lacks)}


def grades_digest(results: Iterable[TestResult]) -> str:
    """Return the hash of a run's results without requests and replies, which `cleanup` removes
    after a while. Reads `summaries` where results come without transcripts.
    """
    grades = []
    for row in sorted(results, key=lambda result: result.case_id):
        trials = row.__dict__.get("summaries")
        trials = row.trials if trials is None else trials
        fields = {name: getattr(row, name) for name in GRADED}
        grades.append({**fields, "trials": [without_transcript(trial) for trial in trials]})
    return digest(grades)


def transcripts_digest(results: Iterable[TestResult]) -> str:
    """Return the hash of the requests and replies of a run's trials."""
    ordered = sorted(results, key=lambda result: result.case_id)
    return digest([[row.case_id, [t.get("calls", []) for t in row.trials]] for row in ordered])


GRADED = (
    "case_id", "category", "kind", "verdict", "sentence", "passes", "trials_valid", "score",
)  # fmt: skip


def without_transcript(trial: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in trial.items() if name not in TRANSCRIPT}


def digest(value: Any) -> str:
    return hashlib.sha256(envelopes.canonical_json(value)).hexdigest()
