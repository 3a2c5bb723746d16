"""What the API answers: the shapes that the frontends rely on, and how rows become them.

The schema is made from these types, and mypy holds the functions to them: there is no second
description to keep in step. A datetime becomes ISO 8601 in UTC with `Z`; an amount of money is in
USD.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypedDict, cast
from urllib.parse import quote
from uuid import UUID

from django.utils.translation import gettext as _

from certification.models import (
    ACTIVE,
    AIModel,
    Backend,
    CertificationJob,
    CertificationRun,
    JobType,
    ModelCertification,
    Priority,
    Region,
    Role,
    State,
    TestResult,
    Tier,
    User,
)
from certification.reasons import Reason, Status
from certification.suite import registry


class OneOf:
    """In an annotation: the values that a text may have. The rows' own constraints hold them to it."""

    def __init__(self, *values: str) -> None:
        self.values = values


StateName = Annotated[str, OneOf(*State.values)]
VerdictName = Annotated[
    str,
    OneOf(
        "certified",
        "quality_warning",
        "failed",
        "pending",
        "permission_required",
        "configuration_required",
        "not_tested",
    ),
]
RatingName = Annotated[str, OneOf(*"ABCDEF")]
TierName = Annotated[str, OneOf(*Tier.values)]
BackendName = Annotated[str, OneOf(*Backend.values)]

MAX_TRANSCRIPTS = 500_000  # characters of transcripts in one answer


class Pagination(TypedDict):
    page: int
    limit: int
    total: int
    totalPages: Annotated[int, "Pages that can be asked for."]


class LongPagination(Pagination, total=False):
    estimated: Annotated[
        bool, "There are more than 100,000 entries: `total` is an estimate. Absent otherwise."
    ]


class JobPage(TypedDict):
    """Newest first."""

    jobs: list[JobSummary]
    pagination: LongPagination


class RegionName(TypedDict):
    id: str
    name: str


class FixJSON(TypedDict):
    """What to do about it, and who must."""

    text: str
    command: str
    who: str
    url: str
    wait: Annotated[str, "How long until a retry can help; '' when waiting changes nothing."]


class ModelName(TypedDict):
    id: UUID
    name: str
    apiModelId: str


class RunJSON(TypedDict):
    """One model in one region, as a job ran it."""

    id: UUID
    modelId: UUID
    region: str
    status: StateName
    verdict: VerdictName | None
    passed: Annotated[bool | None, "null until the run has ended."]
    score: int | None
    rating: RatingName | None
    route: Annotated[str | None, "What was called: a model id, an inference profile or an ARN."]
    duration: Annotated[int | None, "Milliseconds."]
    startedAt: datetime | None
    completedAt: datetime | None
    errorMessage: Annotated[str | None, "One sentence that says why, whenever `passed` is false."]
    errorCategory: str | None
    errorReason: str | None
    fix: FixJSON | None
    attempts: int
    model: ModelName


class JobSummary(TypedDict):
    """A job without its runs. `totalModels`, `processedModels`, `successCount` and `failureCount`
    count runs.
    """

    id: UUID
    type: Annotated[str, OneOf(*JobType.values)]
    status: StateName
    regions: list[str]
    modelIds: list[UUID]
    totalModels: int
    processedModels: int
    successCount: Annotated[int, "Runs with the verdict `certified`."]
    failureCount: Annotated[int, "Every other finished run."]
    progress: Annotated[int, "Per cent, 0-100."]
    tier: TierName
    priority: Annotated[str, OneOf(*Priority.values)]
    backend: BackendName
    startedAt: datetime | None
    completedAt: datetime | None
    duration: Annotated[int | None, "Milliseconds; until now while it runs."]
    createdAt: datetime
    updatedAt: datetime
    createdBy: Annotated[str | None, "E-mail address."]
    estimatedCostUsd: float | None
    costUsd: float


class Counts(TypedDict):
    """How many runs stand in each state."""

    PENDING: int
    QUEUED: int
    PROCESSING: int
    COMPLETED: int
    FAILED: int
    CANCELLED: int


class Progress(TypedDict):
    """How far a job is: fields of the job by the same names, and its runs per state."""

    id: UUID
    status: StateName
    totalModels: int
    processedModels: int
    successCount: int
    failureCount: int
    progress: Annotated[int, "Per cent, 0-100."]
    costUsd: float
    startedAt: datetime | None
    completedAt: datetime | None
    updatedAt: datetime
    runs: Counts


class JobJSON(JobSummary):
    certifications: list[RunJSON]


def fix(stored: Mapping[str, Any]) -> FixJSON | None:
    """A stored fix; null where there is none."""
    if not stored.get("text"):
        return None
    return cast(
        "FixJSON",
        {name: stored.get(name, "") for name in ("text", "command", "who", "url", "wait")},
    )


def job_summary(job: CertificationJob) -> JobSummary:
    """A job whose `created_by` is loaded."""
    return {
        "id": job.pk,
        "type": job.type,
        "status": job.status,
        "regions": job.regions,
        "modelIds": job.model_ids,
        "totalModels": job.total_runs,
        "processedModels": job.processed_runs,
        "successCount": job.succeeded_runs,
        "failureCount": job.failed_runs,
        "progress": job.progress,
        "tier": job.tier,
        "priority": job.priority,
        "backend": job.backend,
        "startedAt": job.started_at,
        "completedAt": job.completed_at,
        "duration": None if job.duration is None else round(job.duration.total_seconds() * 1000),
        "createdAt": job.created_at,
        "updatedAt": job.updated_at,
        "createdBy": job.created_by.email if job.created_by else None,
        "estimatedCostUsd": None
        if job.estimated_cost_usd is None
        else float(job.estimated_cost_usd),
        "costUsd": float(job.cost_usd),
    }


def progress(job: CertificationJob, counts: Mapping[str, int]) -> Progress:
    """A job with the counts of its runs per state (`CertificationJob.counts`)."""
    return {
        "id": job.pk,
        "status": job.status,
        "totalModels": job.total_runs,
        "processedModels": job.processed_runs,
        "successCount": job.succeeded_runs,
        "failureCount": job.failed_runs,
        "progress": job.progress,
        "costUsd": float(job.cost_usd),
        "startedAt": job.started_at,
        "completedAt": job.completed_at,
        "updatedAt": job.updated_at,
        "runs": cast("Counts", dict(counts)),
    }


# The columns that `run` reads: a sweep has thousands of runs, and the rest of a run is large.
RUN_FIELDS = (
    "job_id", "model_id", "region_id", "status", "verdict", "passed", "score", "rating", "route", "started_at",
    "completed_at", "error_message", "error_category", "error_reason", "fix", "attempt", "model__name",
    "model__api_model_id",
)  # fmt: skip


def run(row: CertificationRun) -> RunJSON:
    """A run whose model is loaded."""
    ended = row.is_finished
    duration = row.duration
    return {
        "id": row.pk,
        "modelId": row.model_id,
        "region": row.region_id,
        "status": row.status,
        "verdict": row.verdict or None,
        "passed": row.passed if ended else None,
        "score": row.score,
        "rating": row.rating or None,
        "route": row.route or None,
        "duration": None if duration is None else round(duration.total_seconds() * 1000),
        "startedAt": row.started_at,
        "completedAt": row.completed_at,
        "errorMessage": _why(row) if ended and not row.passed else None,
        "errorCategory": row.error_category or None,
        "errorReason": row.error_reason or None,
        "fix": fix(row.fix),
        "attempts": row.attempt,
        "model": {"id": row.model_id, "name": row.model.name, "apiModelId": row.model.api_model_id},
    }


def _why(row: CertificationRun) -> str:
    return row.error_message or _("The run ended without saying why.")


def runs(rows: Iterable[CertificationRun]) -> list[RunJSON]:
    return [run(row) for row in rows]


class ActiveRun(TypedDict):
    id: UUID
    jobId: UUID
    status: Annotated[str, OneOf(*ACTIVE)]


class Certification(TypedDict):
    """Where a model stands in a region now. Figures are those of the run that the standing rests
    on.
    """

    id: Annotated[str, "For a pair that was never tested: `<modelUuid>:<region>`."]
    modelId: Annotated[str, "The API model id."]
    modelUuid: UUID
    modelName: str
    vendor: str
    providerId: str
    region: str
    regionName: str
    offered: Annotated[bool, "Whether the catalogue knows a route."]
    status: Annotated[
        VerdictName, "`not_tested` once expired: `previousStatus` then is what it was."
    ]
    previousStatus: VerdictName | None
    passed: Annotated[bool, "Certified now."]
    score: Annotated[int | None, "0-100; an expired certification keeps it."]
    rating: RatingName | None
    badge: Annotated[str, "Address of the public picture that shows it, on this server."]
    successRate: Annotated[
        float | None, "Per cent of the pair's verdicts so far that were `certified`."
    ]
    testsPassed: Annotated[int, "Cases that passed, those that needed a retry included."]
    testsFailed: int
    attempts: Annotated[int, "Runs so far."]
    avgLatencyMs: Annotated[float | None, "Median time of a call."]
    ttftMs: Annotated[float | None, "Median time to the first token."]
    tokensPerSecond: Annotated[float | None, "Median output speed after the first token."]
    errorMessage: Annotated[str | None, "One sentence that says why, whenever `passed` is false."]
    errorCategory: str | None
    errorReason: str | None
    fix: FixJSON | None
    heldBack: Annotated[str | None, "Why a later, worse verdict does not count yet."]
    confirmAfter: Annotated[
        datetime | None, "From when on a second run decides about the one held back."
    ]
    certifiedAt: datetime | None
    expiresAt: datetime | None
    isExpired: bool
    lastTestedAt: datetime | None
    tier: TierName | None
    backend: BackendName | None
    runId: UUID | None
    jobId: UUID | None
    activeRun: Annotated[ActiveRun | None, "What waits or works for this pair at the moment."]
    createdAt: datetime | None
    updatedAt: datetime | None


class CertificationPage(TypedDict):
    """By vendor, model and region; pairs that were never tested come last."""

    certifications: list[Certification]
    pagination: Pagination


@dataclass(frozen=True)
class ModelRegion:
    """A model in a region, with its certification, if any, as `ModelCertificationQuerySet.told`
    reads it.

    `tally` counts the cases of the certification's run that passed and failed.
    """

    model: AIModel
    region: Region
    offered: bool
    active_run: Mapping[str, Any] | None = None
    row: ModelCertification | None = None
    tally: tuple[int, int] = (0, 0)


class Cause(TypedDict):
    """The call that kept a trial from counting, or failed it."""

    category: str
    reason: str
    message: str
    code: str
    httpStatus: int | None
    operation: str


class TrialJSON(TypedDict):
    """One execution of a case."""

    trial: int
    variant: Annotated[Any, "Which of the case's wordings was asked."]
    passed: bool
    valid: Annotated[
        bool, "False where infrastructure kept it from saying anything about the model."
    ]
    sentence: str
    evidence: Annotated[dict[str, Any], "What the sentence was drawn from."]
    lacks: Annotated[str | None, "The capability that the trial proved absent."]
    cause: Cause | None
    hasTranscript: Annotated[bool, "Whether requests and replies are still stored."]
    calls: Annotated[
        list[dict[str, Any]] | None,
        "Requests and replies; null without `transcripts=true`, where none are kept, and beyond what an answer may hold.",
    ]


class CaseResult(TypedDict):
    caseId: str
    title: Annotated[str, "'' for a case that the suite no longer has."]
    category: str
    kind: Annotated[str, OneOf("gate", "scored", "performance", "information")]
    verdict: Annotated[str, OneOf("passed", "failed", "flaky", "invalid", "skipped")]
    sentence: str
    passes: int
    trialsValid: int
    score: Annotated[float | None, "0-1."]
    trials: list[TrialJSON]


class RunDetail(RunJSON):
    """A run with its figures. The four parts of the score are 0-1."""

    jobId: UUID
    tier: TierName
    backend: BackendName
    routeKind: str | None
    lowerBound: Annotated[float | None, "Of quality: what it surely reaches."]
    quality: float | None
    contract: float | None
    performance: float | None
    reliability: float | None
    avgLatencyMs: float | None
    ttftMs: float | None
    tokensPerSecond: float | None
    calls: int
    retries: int
    tokensIn: int
    tokensOut: int
    costUsd: float | None
    errorCode: str | None
    requestId: Annotated[str | None, "AWS's own, of the call that failed."]
    unmet: Annotated[list[str], "Conditions of a certificate that were not met."]
    suiteVersion: str
    policyVersion: str


class CertificationDetail(Certification):
    """With the run it rests on (else the last finished one), that run's results, and the runs of
    the pair, newest first.
    """

    run: RunDetail | None
    results: list[CaseResult]
    history: list[RunJSON]
    pagination: Annotated[Pagination, "Of `history`."]


def run_detail(row: CertificationRun) -> RunDetail:
    """A run whose model is loaded."""
    return {
        **run(row),
        "jobId": row.job_id,
        "tier": row.tier,
        "backend": row.backend,
        "routeKind": row.route_kind or None,
        "lowerBound": row.lower_bound,
        "quality": row.quality,
        "contract": row.contract,
        "performance": row.performance,
        "reliability": row.reliability,
        "avgLatencyMs": _rounded(row.latency_p50_ms),
        "ttftMs": _rounded(row.ttft_ms),
        "tokensPerSecond": _rounded(row.output_tps),
        "calls": row.calls,
        "retries": row.retries,
        "tokensIn": row.tokens_in,
        "tokensOut": row.tokens_out,
        "costUsd": None if row.cost_usd is None else float(row.cost_usd),
        "errorCode": row.error_code or None,
        "requestId": row.request_id or None,
        "unmet": list(row.environment.get("unmet", ())),
        "suiteVersion": row.suite_version,
        "policyVersion": row.policy_version,
    }


def results(rows: Iterable[TestResult], *, transcripts: bool) -> list[CaseResult]:
    """Results in their order, with `summaries` for trials (see `TestResultQuerySet`), or, for
    `transcripts`, the trials.

    The transcripts of failed trials come first; those beyond MOST_TRANSCRIPTS characters are left
    out.
    """
    rows = list(rows)
    trials = {row.pk: row.trials if transcripts else row.summaries for row in rows}  # type: ignore[attr-defined]
    shown = _that_fit([trial for row in rows for trial in trials[row.pk]]) if transcripts else set()
    return [_result(row, trials[row.pk], shown) for row in rows]


def _that_fit(trials: list[Mapping[str, Any]]) -> set[int]:
    """The identities of the trials whose transcripts fit into an answer."""
    shown, left = set(), MAX_TRANSCRIPTS
    for trial in sorted(trials, key=lambda trial: bool(trial.get("passed"))):
        size = len(json.dumps(trial.get("calls") or []))
        if trial.get("calls") and size <= left:
            shown.add(id(trial))
            left -= size
    return shown


def _result(row: TestResult, trials: Iterable[Mapping[str, Any]], shown: set[int]) -> CaseResult:
    case = registry.BY_ID.get(row.case_id)
    return {
        "caseId": row.case_id,
        "title": case.title if case else "",
        "category": row.category,
        "kind": row.kind,
        "verdict": row.verdict,
        "sentence": row.sentence,
        "passes": row.passes,
        "trialsValid": row.trials_valid,
        "score": row.score,
        "trials": [_trial(trial, shown) for trial in trials],
    }


def _trial(kept: Mapping[str, Any], shown: set[int]) -> TrialJSON:
    return {
        "trial": kept.get("trial", 0),
        "variant": kept.get("variant"),
        "passed": bool(kept.get("passed")),
        "valid": bool(kept.get("valid", True)),
        "sentence": kept.get("sentence", ""),
        "evidence": kept.get("evidence") or {},
        "lacks": kept.get("lacks") or None,
        "cause": _cause(kept["cause"]) if kept.get("cause") else None,
        "hasTranscript": bool(kept.get("has_transcript")),
        "calls": kept["calls"] if id(kept) in shown else None,
    }


def _cause(kept: Mapping[str, Any]) -> Cause:
    return {
        "category": kept.get("category", ""),
        "reason": kept.get("reason", ""),
        "message": kept.get("message", ""),
        "code": kept.get("code", ""),
        "httpStatus": kept.get("http_status"),
        "operation": kept.get("operation", ""),
    }


def certification(pair: ModelRegion, now: datetime) -> Certification:
    row = pair.row or ModelCertification(model=pair.model, region=pair.region)
    run, model, region = row.run, pair.model, pair.region
    status, expired = row.current(now), row.is_expired(now)
    reason, category, why = _trouble(row) if not expired else ("", "", "")
    passed = status == Status.CERTIFIED
    return {
        "id": str(row.pk or f"{model.pk}:{region.pk}"),
        "modelId": model.api_model_id,
        "modelUuid": model.pk,
        "modelName": model.name,
        "vendor": model.vendor,
        "providerId": model.provider_id,
        "region": region.pk,
        "regionName": region.name,
        "offered": pair.offered,
        "status": status,
        "previousStatus": row.before(now) or None,
        "passed": passed,
        "score": row.score,
        "rating": row.rating or None,
        "badge": f"/badges/{quote(model.api_model_id, safe=':/')}/{region.pk}.svg",
        "successRate": _rounded(row.success_rate),
        "testsPassed": pair.tally[0],
        "testsFailed": pair.tally[1],
        "attempts": row.attempts,
        "avgLatencyMs": _rounded(run.latency_p50_ms) if run else None,
        "ttftMs": _rounded(run.ttft_ms) if run else None,
        "tokensPerSecond": _rounded(run.output_tps) if run else None,
        "errorMessage": None if passed else why or _standing_in_words(pair, status, expired),
        "errorCategory": None if passed else category or None,
        "errorReason": None if passed else reason or None,
        "fix": fix(run.fix) if run and not passed and not expired else None,
        "heldBack": row.held_back or None,
        "confirmAfter": row.confirm_after,
        "certifiedAt": row.certified_at,
        "expiresAt": row.expires_at,
        "isExpired": expired,
        "lastTestedAt": row.last_tested_at,
        "tier": row.tier or None,
        "backend": row.backend or None,
        "runId": row.run_id,
        "jobId": run.job_id if run else None,
        "activeRun": cast("ActiveRun | None", pair.active_run),
        "createdAt": row.created_at,
        "updatedAt": row.updated_at,
    }


def _trouble(row: ModelCertification) -> tuple[str, str, str]:
    """Reason, category and sentence of the run, or of the later judgement that the status is from."""
    rejudged, run = getattr(row, "rejudged", None), row.run
    if rejudged:
        reason = rejudged["reason"]
        return reason, Reason(reason).category if reason else "", rejudged["message"]
    return (run.error_reason, run.error_category, run.error_message) if run else ("", "", "")


def _standing_in_words(pair: ModelRegion, status: str, expired: bool) -> str:
    """A sentence for what no run says."""
    if expired and pair.row:
        return (
            _("It expired on %s and must be tested again.")
            % f"{pair.row.expires_at or pair.row.expired_at:%Y-%m-%d}"
        )
    if status == Status.NOT_TESTED:
        return (
            _("It was never tested in this region.")
            if pair.offered
            else _("It is not offered in this region.")
        )
    return _("The run that led to this is no longer stored. Test it again to learn why.")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


class QueueCountsJSON(TypedDict):
    """Runs by where they are."""

    waiting: int
    active: int
    completed: Annotated[int, "Ended with a verdict, good or bad."]
    failed: Annotated[int, "Ended without a verdict."]
    delayed: Annotated[int, "Waiting, and not yet on the queue."]
    paused: Annotated[int, "Waiting until credentials work again."]


class JobCount(TypedDict):
    status: StateName
    count: int


class QueueStats(TypedDict):
    queue: QueueCountsJSON
    database: Annotated[list[JobCount], "Jobs by status."]
    workers: Annotated[int | None, "Seconds old. null when the broker does not answer: see `note`."]
    oldestWaitingSeconds: float
    note: Annotated[str | None, "What is not known, and why."]


class StatusCount(TypedDict):
    status: VerdictName
    count: int


class RegionCount(TypedDict):
    region: str
    status: VerdictName
    count: int


class Stats(TypedDict):
    """The last 24 hours are those of finished runs that nobody cancelled; null when there are none."""

    queue: QueueStats
    certificationsByRegion: list[RegionCount]
    certificationsByStatus: list[StatusCount]
    recentCertifications: Annotated[list[Certification], "The ten tested last."]
    successRate24h: Annotated[float | None, "Per cent that were certified."]
    averageDurationSeconds24h: float | None
    retryRate24h: Annotated[float | None, "Per cent that took more than one attempt."]


class AwsStatus(TypedDict):
    configured: Annotated[bool, "Whether credentials were found. The emulator takes any."]
    valid: Annotated[bool, "Whether ListFoundationModels answered."]
    message: str
    region: Annotated[str, "Where it was asked."]
    modelsAvailable: int
    accessKeyPreview: Annotated[str | None, "The first four characters of the key."]
    backend: BackendName
    error: Annotated[str | None, "What was said instead of an answer."]
    errorReason: str | None


class Account(TypedDict):
    id: str
    email: str
    name: str
    role: Annotated[str, OneOf("", *Role.values)]


def account(user: User, role: str | None = None) -> Account:
    """A user, with the role of the credential where it differs from their own."""
    return {
        "id": str(user.pk),
        "email": user.email,
        "name": user.name,
        "role": user.role if role is None else role,
    }


class LoggedIn(TypedDict):
    token: Annotated[str, "A JWT with userId, email, role and exp."]
    user: Account


class Done(TypedDict):
    message: str
