"""The shapes of responses that the frontends rely on, and the functions that make them from rows.

The schema is generated from these types, and mypy checks the functions against them: there is no
second description to maintain. A datetime becomes ISO 8601 in UTC with `Z`; money is in USD.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, TypedDict, cast
from urllib.parse import quote
from uuid import UUID

from django.utils.translation import gettext as _

from certification.inference import API, Endpoint
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
from certification.models.jobs import SUMMARY_FIELDS
from certification.reasons import Reason, Status
from certification.suite import registry


class OneOf:
    """In an annotation: the values that a text may have, as the rows' own constraints ensure."""

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
RATINGS = ("A", "B", "C", "D", "F")  # those of the scoring policy
RatingName = Annotated[str, OneOf(*RATINGS)]
TierName = Annotated[str, OneOf(*Tier.values)]
EndpointName = Annotated[str, OneOf(*(endpoint.value for endpoint in Endpoint))]
APIName = Annotated[str, OneOf(*(api.value for api in API))]
BackendName = Annotated[str, OneOf(*Backend.values)]

MILLISECOND = timedelta(milliseconds=1)
MAX_TRANSCRIPTS = 500_000  # characters of transcripts in one response


class Pagination(TypedDict):
    page: int
    limit: int
    total: int
    totalPages: Annotated[int, "Pages that can be requested."]


class LongPagination(Pagination, total=False):
    estimated: Annotated[
        bool, "There are more than 100,000 entries: `total` is an estimate. Absent otherwise."
    ]


class JobPage(TypedDict):
    """Newest first."""

    jobs: list[JobWithRuns]
    pagination: LongPagination


class RegionName(TypedDict):
    id: str
    name: str


class FixJSON(TypedDict):
    """What to do about it, and who has to do it."""

    text: str
    command: str
    who: str
    url: str
    wait: Annotated[str, "How long until a retry can help; '' when waiting does not help."]


class ModelName(TypedDict):
    id: UUID
    name: str
    apiModelId: str


class RunSummary(TypedDict):
    """One model in one region, as a job ran it: what a list of runs shows."""

    id: UUID
    modelId: UUID
    region: str
    status: StateName
    verdict: VerdictName | None
    passed: Annotated[bool | None, "null until the run has ended."]
    score: int | None
    rating: RatingName | None
    duration: Annotated[int | None, "Milliseconds."]
    startedAt: datetime | None
    completedAt: datetime | None
    errorMessage: Annotated[str | None, "One sentence that says why, whenever `passed` is false."]
    model: ModelName


class RunJSON(RunSummary):
    """One model in one region, as a job ran it."""

    route: Annotated[str | None, "What was called: a model id, an inference profile or an ARN."]
    endpoint: Annotated[EndpointName | None, "Where it was called."]
    api: Annotated[APIName | None, "The API it was called by."]
    errorCategory: str | None
    errorReason: str | None
    fix: FixJSON | None
    attempts: int


class JobSummary(TypedDict):
    """A job without its runs. `totalModels` and the counts below it count runs; `processedModels`
    and `progress` only those that ended by running, not the cancelled ones.
    """

    id: UUID
    type: Annotated[str, OneOf(*JobType.values)]
    status: StateName
    regions: list[str]
    modelIds: list[UUID]
    totalModels: int
    processedModels: int
    successCount: Annotated[int, "Runs with the verdict `certified`."]
    failureCount: Annotated[int, "Every other run that ended by running."]
    cancelledCount: int
    progress: Annotated[int, "Per cent, 0-100."]
    tier: TierName
    priority: Annotated[str, OneOf(*Priority.values)]
    backend: BackendName
    note: Annotated[str, "What it is for, in the words of who started it."]
    startedAt: datetime | None
    completedAt: datetime | None
    duration: Annotated[int | None, "Milliseconds; until now while it runs."]
    createdAt: datetime
    updatedAt: datetime
    createdBy: Annotated[str | None, "E-mail address."]
    estimatedCostUsd: float | None
    costUsd: float


class JobWithRuns(JobSummary):
    """A job with its first runs, those that need attention before the others."""

    certifications: Annotated[list[RunSummary], "At most 100; `GET jobs/<id>` has all."]
    certificationsTotal: Annotated[int, "Runs of the job."]


class Counts(TypedDict):
    """How many runs are in each state."""

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
    cancelledCount: int
    progress: Annotated[int, "Per cent, 0-100."]
    costUsd: float
    startedAt: datetime | None
    completedAt: datetime | None
    updatedAt: datetime
    runs: Counts


class JobJSON(JobSummary):
    certifications: list[RunJSON]


def fix(stored: Mapping[str, Any]) -> FixJSON | None:
    """Return a stored fix; None where there is none."""
    if not stored.get("text"):
        return None
    return cast(
        "FixJSON",
        {name: stored.get(name, "") for name in ("text", "command", "who", "url", "wait")},
    )


def job_summary(job: CertificationJob) -> JobSummary:
    """Represent a job whose `created_by` is loaded, without its runs."""
    author = job.created_by.email if job.created_by else None
    return cast("JobSummary", {**job.to_dict(), "createdBy": author})


def job_with_runs(job: CertificationJob) -> JobWithRuns:
    """Represent a job that was read `with_first_runs`."""
    first: list[dict[str, Any]] = job.first_runs  # type: ignore[attr-defined]
    return {
        **job_summary(job),
        "certifications": [run_summary(values) for values in first],
        "certificationsTotal": job.total_runs,
    }


def run_summary(values: Mapping[str, Any]) -> RunSummary:
    """Represent one of a job's `first_runs`."""
    started, completed = (
        datetime.fromisoformat(values[name]) if values[name] else None
        for name in ("started_at", "completed_at")
    )
    is_finished = completed is not None
    duration = (completed - started) / MILLISECOND if completed and started else None
    return {
        "id": values["id"],
        "modelId": values["model_id"],
        "region": values["region_id"],
        "status": values["status"],
        "verdict": values["verdict"] or None,
        "passed": values["passed"] if is_finished else None,
        "score": values["score"],
        "rating": values["rating"] or None,
        "duration": None if duration is None else round(duration),
        "startedAt": started,
        "completedAt": completed,
        "errorMessage": failure_message(values["error_message"])
        if is_finished and not values["passed"]
        else None,
        "model": {
            "id": values["model_id"],
            "name": values["model__name"],
            "apiModelId": values["model__api_model_id"],
        },
    }


def failure_message(stored: str | None) -> str:
    """Return the sentence of a run that ended without passing."""
    return stored or _("The run ended without an error message.")


def progress(job: CertificationJob, counts: Mapping[str, int]) -> Progress:
    """Represent how far a job is; `counts` are its runs per state (`CertificationJob.counts`)."""
    values = {**job.to_dict(), "runs": dict(counts)}
    return cast("Progress", {name: values[name] for name in Progress.__annotations__})


# The columns that `run` reads.
RUN_FIELDS = (*SUMMARY_FIELDS, "model__name", "model__api_model_id")


def run(row: CertificationRun) -> RunJSON:
    """Represent a run whose model is loaded."""
    values: dict[str, Any] = {
        **row.to_dict(),
        "fix": fix(row.fix),
        "model": {"id": row.model_id, "name": row.model.name, "apiModelId": row.model.api_model_id},
    }
    failed = row.is_finished and not row.passed
    values["errorMessage"] = failure_message(row.error_message) if failed else None
    return cast("RunJSON", values)


def runs(rows: Iterable[CertificationRun]) -> list[RunJSON]:
    return [run(row) for row in rows]


class ActiveRun(TypedDict):
    id: UUID
    jobId: UUID
    status: Annotated[str, OneOf(*ACTIVE)]


class Certification(TypedDict):
    """The status of a model in a region now. Figures are those of the run that decided it."""

    id: Annotated[str, "For a pair that was never tested: `<modelUuid>:<region>`."]
    modelId: Annotated[str, "The API model id."]
    modelUuid: UUID
    modelName: str
    vendor: str
    providerId: str
    region: str
    regionName: str
    offered: Annotated[bool, "Whether the catalogue has a route."]
    status: Annotated[
        VerdictName, "`not_tested` once expired: `previousStatus` then is what it was."
    ]
    previousStatus: VerdictName | None
    passed: Annotated[bool, "Certified now."]
    score: Annotated[int | None, "0-100; an expired certification keeps it."]
    rating: RatingName | None
    badge: Annotated[str, "Address of its public badge on this server."]
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
    heldBack: Annotated[str | None, "Why a later, worse verdict is held back."]
    confirmAfter: Annotated[
        datetime | None, "When a second run can decide about the verdict held back."
    ]
    certifiedAt: datetime | None
    expiresAt: datetime | None
    isExpired: bool
    lastTestedAt: datetime | None
    tier: TierName | None
    backend: BackendName | None
    endpoint: Annotated[EndpointName | None, "Where the run that decided it called the model."]
    api: Annotated[APIName | None, "The API of those calls: the status says nothing of others."]
    runId: UUID | None
    jobId: UUID | None
    activeRun: Annotated[ActiveRun | None, "The run that is waiting or active for this pair."]
    createdAt: datetime | None
    updatedAt: datetime | None


class CertificationPage(TypedDict):
    """By vendor, model and region; pairs that were never tested come last. Without `modelId` and
    `region` the newest certification of each model comes before the others.
    """

    certifications: list[Certification]
    pagination: Pagination


@dataclass(frozen=True)
class ModelRegion:
    """A model in a region, with its certification, if any, as
    `ModelCertificationQuerySet.with_details` reads it.

    `tally` counts the cases of the certification's run that passed and failed.
    """

    model: AIModel
    region: Region
    offered: bool
    active_run: Mapping[str, Any] | None = None
    row: ModelCertification | None = None
    tally: tuple[int, int] = (0, 0)


class Cause(TypedDict):
    """The call that made a trial invalid or failed."""

    category: str
    reason: str
    message: str
    code: str
    httpStatus: int | None
    operation: str


class TrialJSON(TypedDict):
    """One execution of a case."""

    trial: int
    variant: Annotated[Any, "Which variant of the prompt was used."]
    passed: bool
    valid: Annotated[bool, "False where an infrastructure error kept it from judging the model."]
    sentence: str
    evidence: Annotated[dict[str, Any], "What the sentence is based on."]
    lacks: Annotated[str | None, "The capability that the trial proved missing."]
    cause: Cause | None
    hasTranscript: Annotated[bool, "Whether requests and replies are still stored."]
    calls: Annotated[
        list[dict[str, Any]] | None,
        "Requests and replies; null without `transcripts=true`, where none are stored, and beyond "
        "the largest size of a response.",
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
    lowerBound: Annotated[float | None, "Of quality: its lower confidence bound."]
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
    requestId: Annotated[str | None, "The AWS request id of the call that failed."]
    unmet: Annotated[list[str], "Conditions of certification that were not met."]
    suiteVersion: str
    policyVersion: str


class CertificationDetail(Certification):
    """With the run that decided it (else the last finished one), its results, and the runs of the
    pair, newest first.
    """

    run: RunDetail | None
    results: list[CaseResult]
    history: list[RunJSON]
    pagination: Annotated[Pagination, "Of `history`."]


def run_detail(row: CertificationRun) -> RunDetail:
    """Represent a run whose model is loaded, with its figures."""
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
        "avgLatencyMs": rounded(row.latency_p50_ms),
        "ttftMs": rounded(row.ttft_ms),
        "tokensPerSecond": rounded(row.output_tps),
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
    """Represent results in their order, with `summaries` for trials (see `TestResultQuerySet`), or,
    for `transcripts`, the trials.

    The transcripts of failed trials come first; those beyond MAX_TRANSCRIPTS characters are left
    out.
    """
    rows = list(rows)
    trials = {row.pk: row.trials if transcripts else row.summaries for row in rows}  # type: ignore[attr-defined]
    shown: set[int] = set()  # the identities of the trials whose transcripts fit
    left = MAX_TRANSCRIPTS if transcripts else 0
    everything = [stored for row in rows for stored in trials[row.pk]]
    for stored in sorted(everything, key=lambda stored: bool(stored.get("passed"))):
        size = len(json.dumps(stored["calls"])) if left and stored.get("calls") else 0
        if 0 < size <= left:
            shown.add(id(stored))
            left -= size
    return [
        {
            "caseId": row.case_id,
            "title": registry.BY_ID[row.case_id].title if row.case_id in registry.BY_ID else "",
            "category": row.category,
            "kind": row.kind,
            "verdict": row.verdict,
            "sentence": row.sentence,
            "passes": row.passes,
            "trialsValid": row.trials_valid,
            "score": row.score,
            "trials": [trial(stored, id(stored) in shown) for stored in trials[row.pk]],
        }
        for row in rows
    ]


def trial(stored: Mapping[str, Any], with_calls: bool) -> TrialJSON:
    cause: Mapping[str, Any] | None = stored.get("cause")
    return {
        "trial": stored.get("trial", 0),
        "variant": stored.get("variant"),
        "passed": bool(stored.get("passed")),
        "valid": bool(stored.get("valid", True)),
        "sentence": stored.get("sentence", ""),
        "evidence": stored.get("evidence") or {},
        "lacks": stored.get("lacks") or None,
        "cause": {
            "category": cause.get("category", ""),
            "reason": cause.get("reason", ""),
            "message": cause.get("message", ""),
            "code": cause.get("code", ""),
            "httpStatus": cause.get("http_status"),
            "operation": cause.get("operation", ""),
        }
        if cause
        else None,
        "hasTranscript": bool(stored.get("has_transcript")),
        "calls": stored["calls"] if with_calls else None,
    }


def certification(pair: ModelRegion, now: datetime) -> Certification:
    row = pair.row or ModelCertification(model=pair.model, region=pair.region)
    run, model, region = row.run, pair.model, pair.region
    status, expired = row.current(now), row.is_expired(now)
    reason, category, message = ("", "", "") if expired else cause_of_status(row)
    passed = status == Status.CERTIFIED
    values: dict[str, Any] = {
        **row.to_dict(now),
        "providerId": model.provider_id,
        "offered": pair.offered,
        "badge": f"/badges/{quote(model.api_model_id, safe=':/')}/{region.pk}.svg",
        "successRate": rounded(row.success_rate),
        "testsPassed": pair.tally[0],
        "testsFailed": pair.tally[1],
        "attempts": row.attempts,
        "avgLatencyMs": rounded(run.latency_p50_ms) if run else None,
        "ttftMs": rounded(run.ttft_ms) if run else None,
        "tokensPerSecond": rounded(run.output_tps) if run else None,
        "errorMessage": None if passed else message or message_without_run(pair, status, expired),
        "errorCategory": None if passed else category or None,
        "errorReason": None if passed else reason or None,
        "fix": fix(run.fix) if run and not passed and not expired else None,
        "heldBack": row.held_back or None,
        "confirmAfter": row.confirm_after,
        "isExpired": expired,
        "activeRun": pair.active_run,
        "createdAt": row.created_at,
        "updatedAt": row.updated_at,
    }
    return cast("Certification", values)


def cause_of_status(row: ModelCertification) -> tuple[str, str, str]:
    """Return reason, category and message of the run, or of the later judgement, that decided the
    status.
    """
    rejudged, run = getattr(row, "rejudged", None), row.run
    if rejudged:
        reason = rejudged["reason"]
        return reason, Reason(reason).category if reason else "", rejudged["message"]
    return (run.error_reason, run.error_category, run.error_message) if run else ("", "", "")


def message_without_run(pair: ModelRegion, status: str, expired: bool) -> str:
    """Return the sentence for a status that no run explains."""
    if expired and pair.row:
        day = f"{pair.row.expires_at or pair.row.expired_at:%Y-%m-%d}"
        return _("The certification expired on %s. Test the model again.") % day
    if status == Status.NOT_TESTED and pair.offered:
        return _("The model was never tested in this region.")
    if status == Status.NOT_TESTED:
        return _("The model is not offered in this region.")
    return _("The run that decided this is no longer stored. Test the model again to learn why.")


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


class QueueCountsJSON(TypedDict):
    """Runs by what happens to them."""

    waiting: int
    active: int
    completed: Annotated[int, "Ended with a verdict, good or bad."]
    failed: Annotated[int, "Ended without a verdict."]
    delayed: Annotated[int, "Waiting, and not yet on the queue."]
    paused: Annotated[int, "Held by a pause of the queue."]


class JobCount(TypedDict):
    status: StateName
    count: int


class QueueStats(TypedDict):
    queue: QueueCountsJSON
    database: Annotated[list[JobCount], "Jobs by status."]
    workers: Annotated[int | None, "Seconds old. null when the broker does not answer: see `note`."]
    oldestWaitingSeconds: float
    note: Annotated[str | None, "What is unknown, and why."]


class StatusCount(TypedDict):
    status: VerdictName
    count: int


class RegionCount(TypedDict):
    region: str
    status: VerdictName
    count: int


class Stats(TypedDict):
    """Figures of the last 24 hours leave out cancelled runs; null without finished runs."""

    queue: QueueStats
    certificationsByRegion: list[RegionCount]
    certificationsByStatus: list[StatusCount]
    recentCertifications: Annotated[list[Certification], "The ten most recently tested."]
    successRate24h: Annotated[float | None, "Per cent that were certified."]
    averageDurationSeconds24h: float | None
    retryRate24h: Annotated[float | None, "Per cent that took more than one attempt."]


class AwsStatus(TypedDict):
    configured: Annotated[bool, "Whether credentials were found. The emulator takes any."]
    valid: Annotated[bool, "Whether ListFoundationModels answered."]
    message: str
    region: Annotated[str, "The region that was called."]
    modelsAvailable: int
    accessKeyPreview: Annotated[str | None, "The first four characters of the key."]
    backend: BackendName
    error: Annotated[str | None, "The error message, if there was one."]
    errorReason: str | None


class Account(TypedDict):
    id: str
    email: str
    name: str
    role: Annotated[str, OneOf("", *Role.values)]


def account(user: User, role: str | None = None) -> Account:
    """Represent a user, with the role of the credential where it differs from their own."""
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
