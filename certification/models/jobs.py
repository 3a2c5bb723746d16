"""Requests (jobs), their executions (runs) and what these observed (results).

The whole life cycle is here.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.indexes import GinIndex
from django.db import connection, models, transaction
from django.db.models import Case, Count, F, Func, OuterRef, Q, Sum, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, JSONObject, Now
from django.utils.translation import gettext_lazy as _

from certification.lib import clock, pubsub, shared_cache
from certification.models import sql, webhooks
from certification.models.catalogue import APIS, ENDPOINTS, AIModel, Region, Route
from certification.models.parameter_support import Observation
from certification.reasons import ErrorCategory, Reason, Status


class State(models.TextChoices):
    """The states of a job and of a run: one vocabulary for both."""

    PENDING = "PENDING", _("pending")
    QUEUED = "QUEUED", _("queued")
    PROCESSING = "PROCESSING", _("processing")
    COMPLETED = "COMPLETED", _("completed")
    FAILED = "FAILED", _("failed")
    CANCELLED = "CANCELLED", _("cancelled")


ACTIVE = (State.PENDING, State.QUEUED, State.PROCESSING)
WAITING = (State.PENDING, State.QUEUED)
TERMINAL = (State.COMPLETED, State.FAILED, State.CANCELLED)


class JobType(models.TextChoices):
    SINGLE_MODEL = "SINGLE_MODEL", _("one model")
    MULTIPLE_MODELS = "MULTIPLE_MODELS", _("several models")
    ALL_MODELS = "ALL_MODELS", _("all models")
    RECERTIFY = "RECERTIFY", _("recertification")


class Tier(models.TextChoices):
    QUICK = "quick", _("quick")
    FULL = "full", _("full")
    DEEP = "deep", _("deep")


class Priority(models.TextChoices):
    INTERACTIVE = "interactive", _("interactive")
    BULK = "bulk", _("bulk")


class Backend(models.TextChoices):
    AWS = "aws", "AWS"
    EMULATOR = "emulator", _("emulator")


MAX_NOTE = 200  # characters

VERDICTS = [(status.value, status.value.replace("_", " ")) for status in Status]
CATEGORIES = [(category.value, category.value) for category in ErrorCategory]
REASONS = [(reason.value, reason.value.replace("_", " ")) for reason in Reason]


Moment = datetime | Combinable
"""A time, or an expression of the database for one: what is compared with heartbeats is the latter,
so that no process's own clock has a say.
"""


class CertificationJobQuerySet(models.QuerySet["CertificationJob"]):
    def open(self) -> CertificationJobQuerySet:
        return self.filter(status__in=ACTIVE)

    def with_first_runs(self, limit: int) -> Any:
        """Add `first_runs`, at most so many of each job's runs, in the same query.

        Each is a dictionary of FIRST_RUN_FIELDS, with times as ISO 8601. Those that need attention
        come first: without a verdict, not certified, still to run; then the others.
        """
        attention = Case(
            When(status=State.FAILED, then=Value(0)),
            When(status=State.COMPLETED, passed=False, then=Value(1)),
            When(status__in=ACTIVE, then=Value(2)),
            When(status=State.COMPLETED, then=Value(3)),
            default=Value(4),
        )
        runs = CertificationRun.objects.filter(job=OuterRef("pk"))
        first = runs.order_by(attention, "created_at", "pk")[:limit]
        fields = JSONObject(**dict(zip(FIRST_RUN_FIELDS, FIRST_RUN_FIELDS, strict=True)))
        return self.annotate(first_runs=ArraySubquery(first.values(json=fields)))


FIRST_RUN_FIELDS = (
    "id", "model_id", "region_id", "status", "verdict", "passed", "score", "rating", "started_at",
    "completed_at", "error_message", "model__name", "model__api_model_id",
)  # fmt: skip


class CertificationJob(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    type = models.CharField(_("type"), max_length=20, choices=JobType.choices)
    tier = models.CharField(_("tier"), max_length=10, choices=Tier.choices, default=Tier.FULL)
    status = models.CharField(
        _("status"), max_length=12, choices=State.choices, default=State.PENDING
    )
    priority = models.CharField(
        _("priority"), max_length=12, choices=Priority.choices, default=Priority.INTERACTIVE
    )
    backend = models.CharField(_("backend"), max_length=10, choices=Backend.choices)
    regions = models.JSONField(_("regions"), default=list)
    model_ids = models.JSONField(_("model ids"), default=list)
    total_runs = models.PositiveIntegerField(_("runs"), default=0)
    succeeded_runs = models.PositiveIntegerField(_("certified runs"), default=0)
    failed_runs = models.PositiveIntegerField(_("other finished runs"), default=0)
    cancelled_runs = models.PositiveIntegerField(_("cancelled runs"), default=0)
    idempotency_key = models.CharField(
        _("idempotency key"), max_length=200, null=True, blank=True, unique=True
    )
    celery_task_id = models.CharField(_("task id"), max_length=64, blank=True)
    max_cost_usd = models.DecimalField(
        _("maximum cost (USD)"), max_digits=12, decimal_places=6, null=True, blank=True
    )
    estimated_cost_usd = models.DecimalField(
        _("estimated cost (USD)"), max_digits=12, decimal_places=6, null=True, blank=True
    )
    cost_usd = models.DecimalField(_("cost (USD)"), max_digits=12, decimal_places=6, default=0)
    config = models.JSONField(_("configuration"), default=dict, blank=True)
    note = models.CharField(_("note"), max_length=MAX_NOTE, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        verbose_name=_("created by"),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    completed_at = models.DateTimeField(_("completed"), null=True, blank=True)

    objects = CertificationJobQuerySet.as_manager()

    class Meta:
        verbose_name = _("certification job")
        verbose_name_plural = _("certification jobs")
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["-created_at"]),
            models.Index(fields=["status", "-created_at"]),
            models.Index(fields=["type", "-created_at"], name="job_type_idx"),
            GinIndex(fields=["model_ids"], opclasses=["jsonb_path_ops"], name="job_models_idx"),
            GinIndex(fields=["regions"], opclasses=["jsonb_path_ops"], name="job_regions_idx"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=TERMINAL, completed_at__isnull=False)
                | Q(~Q(status__in=TERMINAL), completed_at__isnull=True),
                name="job_terminal_iff_completed_at",
            ),
            models.CheckConstraint(
                condition=Q(
                    total_runs__gte=F("succeeded_runs") + F("failed_runs") + F("cancelled_runs")
                ),
                name="job_counts_within_total",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_type_display()} {str(self.pk)[:8]}"

    @property
    def processed_runs(self) -> int:
        """The runs that ended by running; cancelled ones did not."""
        return self.succeeded_runs + self.failed_runs

    @property
    def progress(self) -> int:
        """Per cent of the runs that are processed, 0-100."""
        return 100 * self.processed_runs // self.total_runs if self.total_runs else 100

    @property
    def duration(self) -> timedelta | None:
        return (self.completed_at or clock.now()) - self.started_at if self.started_at else None

    def mark_queued(self, task_id: str = "") -> bool:
        """PENDING -> QUEUED: its messages are out. True if this call won.

        `task_id` is the task that queues the runs of a large job.
        """
        changed = type(self).objects.filter(pk=self.pk, status=State.PENDING)
        return (
            changed.update(status=State.QUEUED, celery_task_id=task_id, updated_at=clock.now()) == 1
        )

    def record_finished_runs(
        self, runs: int, certified: int, cost_usd: float = 0, *, cancelled: int = 0
    ) -> bool:
        """Count `runs` more finished runs, of which some were certified and some cancelled, and
        close the job with the last one. Call inside the runs' own transaction.

        The row lock of the first update serialises finishing runs, so exactly one of them sees the
        job complete. True if this call closed the job.
        """
        now = clock.now()
        pubsub.notify(self.pk)
        counted = sql.prepared(
            sql.COUNT_FINISHED_RUNS,
            certified=certified,
            others=runs - certified - cancelled,
            cancelled=cancelled,
            cost_usd=f"{cost_usd:.6f}",
            now=now,
            job=self.pk,
        )
        if not counted or not counted[0]["was_last"]:
            return False
        ends = set(self.runs.order_by().values_list("status", flat=True).distinct())
        order = (State.COMPLETED, State.FAILED, State.CANCELLED)
        self.status = next((state for state in order if state in ends), State.FAILED)
        self.completed_at = now
        done = type(self).objects.filter(pk=self.pk, status__in=ACTIVE)
        closed = (
            done.update(
                status=self.status, completed_at=now, started_at=Coalesce(F("started_at"), now)
            )
            == 1
        )
        if closed:
            self.enqueue_completed_event()
        return closed

    def cancel(self, message: str = "The job was cancelled.") -> int | None:
        """Cancel every unfinished run and the job. The number of runs cancelled, or None when the
        job had already ended.
        """
        with transaction.atomic():
            runs = list(
                self.runs.filter(status__in=ACTIVE)
                .order_by("pk")
                .select_for_update()
                .values_list("pk", flat=True)
            )
            now = clock.now()
            self.runs.filter(pk__in=runs).update(
                status=State.CANCELLED, completed_at=now, claimed_by="", error_message=message
            )
            won = (
                type(self)
                .objects.filter(pk=self.pk, status__in=ACTIVE)
                .update(
                    status=State.CANCELLED,
                    completed_at=now,
                    cancelled_runs=F("cancelled_runs") + len(runs),
                    updated_at=now,
                )
            )
            if won:
                self.enqueue_completed_event()
            shared_cache.invalidate()
            pubsub.notify(self.pk)
            return len(runs) if won else None

    def enqueue_completed_event(self) -> None:
        """Write the webhook event of a job that completed, failed or was cancelled."""
        fresh = type(self).objects.filter(pk=self.pk)
        webhooks.enqueue(
            webhooks.WebhookEvent.JOB_COMPLETED, lambda: ({"job": job.to_dict()} for job in fresh)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the job as API, webhooks and commands publish it: times are aware, amounts in USD,
        the duration in milliseconds.
        """
        duration, estimate = self.duration, self.estimated_cost_usd
        return {
            "id": self.pk,
            "type": self.type,
            "status": self.status,
            "regions": self.regions,
            "modelIds": self.model_ids,
            "totalModels": self.total_runs,
            "processedModels": self.processed_runs,
            "successCount": self.succeeded_runs,
            "failureCount": self.failed_runs,
            "cancelledCount": self.cancelled_runs,
            "progress": self.progress,
            "tier": self.tier,
            "priority": self.priority,
            "backend": self.backend,
            "note": self.note,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
            "startedAt": self.started_at,
            "completedAt": self.completed_at,
            "duration": None if duration is None else round(duration.total_seconds() * 1000),
            "estimatedCostUsd": None if estimate is None else float(estimate),
            "costUsd": float(self.cost_usd),
        }

    def counts(self) -> dict[str, int]:
        """Count the runs in each state."""
        rows = self.runs.values("status").annotate(n=Count("pk")).values_list("status", "n")
        return {**dict.fromkeys(State.values, 0), **dict(rows)}

    def verdict_counts(self) -> dict[str, int]:
        """How many finished runs reached each verdict."""
        rows = self.runs.exclude(verdict="").order_by().values("verdict").annotate(n=Count("pk"))
        return dict(rows.values_list("verdict", "n"))

    def route_counts(self) -> dict[tuple[str, str], int]:
        """Count the finished runs by the endpoint and the API that they called, which are "" for
        those that called nothing; the most frequent first.
        """
        finished = self.runs.filter(status__in=[State.COMPLETED, State.FAILED]).order_by()
        rows = finished.values("endpoint", "api").annotate(n=Count("pk")).order_by("-n")
        return {(endpoint, api): n for endpoint, api, n in rows.values_list("endpoint", "api", "n")}

    def totals(self) -> dict[str, int]:
        """Calls and retries over all runs of the job."""
        sums = self.runs.aggregate(calls=Sum("calls"), retries=Sum("retries"))
        return {name: value or 0 for name, value in sums.items()}


@dataclass(frozen=True)
class RunOutcome:
    """Everything a finished run knows: what `CertificationRun.finish` writes in one statement."""

    status: State
    verdict: str = ""
    passed: bool = False
    score: int | None = None
    rating: str = ""
    lower_bound: float | None = None
    quality: float | None = None
    contract: float | None = None
    performance: float | None = None
    reliability: float | None = None
    ttft_ms: float | None = None
    latency_p50_ms: float | None = None
    output_tps: float | None = None
    calls: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
    route: str = ""
    route_kind: str = ""
    endpoint: str = ""
    api: str = ""
    error_category: str = ""
    error_reason: str = ""
    error_message: str = ""
    error_code: str = ""
    request_id: str = ""
    fix: Mapping[str, Any] = field(default_factory=dict)
    suite_version: str = ""
    policy_version: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)


# a sweep's are long, and no run needs them
JOB_LISTS = frozenset({"model_ids", "regions", "config"})


class CertificationRunQuerySet(models.QuerySet["CertificationRun"]):
    def active(self) -> CertificationRunQuerySet:
        return self.filter(status__in=ACTIVE)

    def create_pending(
        self, job: CertificationJob, pairs: Sequence[tuple[uuid.UUID, str]], seed: int
    ) -> set[tuple[uuid.UUID, str]]:
        """A PENDING run of `job` for each (model id, region code) that has no active run. The pairs
        that got one.

        One statement for all of them: a sweep has thousands of pairs and its caller waits.
        """
        draft = CertificationRun(job=job, tier=job.tier, backend=job.backend, variant_seed=seed)
        fields = [
            field
            for field in self.model._meta.concrete_fields
            if field.attname not in ("id", "model_id", "region_id")
        ]
        statement = sql.CREATE_PENDING_RUNS.format(
            columns=", ".join(f'"{field.column}"' for field in fields),
            values=", ".join(f"%({field.attname})s" for field in fields),
        )
        values = {
            field.attname: field.get_db_prep_save(field.pre_save(draft, add=True), connection)
            for field in fields
        } | {"created_at": clock.now()}
        rows = sql.fetch_all(
            statement,
            **values,
            models=[model for model, _ in pairs],
            regions=[region for _, region in pairs],
        )
        return {(row["model_id"], row["region_id"]) for row in rows}

    def claim(
        self, run_id: uuid.UUID | str, worker: str, backend: str = ""
    ) -> CertificationRun | None:
        """Take a waiting run: PENDING or QUEUED -> PROCESSING. None when somebody else has it or it
        is over.

        With `backend` only a run of that backend, and none of a bulk job while its queue is paused.
        The run comes with its model, its job (but for the long lists of JOB_LISTS), the region's
        `routes` to the model and what is known of its `support`, all in one statement. Filters of
        the queryset have no say.
        """
        rows = sql.prepared(claim_statement(), run=str(run_id), worker=worker, backend=backend)
        if not rows:
            return None
        [row] = rows
        run = RUN_COLUMNS.instance(row)
        run.job = JOB_COLUMNS.instance(row)
        run.model = MODEL_COLUMNS.instance(row)
        run.routes = [
            Route(
                model=run.model,
                region_id=run.region_id,
                kind=kind,
                target_id=target_id,
                endpoint=endpoint,
                api=api,
                path_prefix=path_prefix,
                last_refusal=last_refusal,
            )
            for kind, target_id, endpoint, api, path_prefix, last_refusal in json.loads(
                row["routes"]
            )
        ]
        run.support = {
            (operation, feature): Observation(accepted, refusal, datetime.fromisoformat(seen_at))
            for operation, feature, accepted, refusal, seen_at in json.loads(row["support"])
        }
        if run.job.status in WAITING:
            CertificationJob.objects.filter(pk=run.job_id, status__in=WAITING).update(
                status=State.PROCESSING, started_at=Now(), updated_at=Now()
            )
        pubsub.notify(run.job_id)
        return run

    def heartbeat(self, claims: Mapping[uuid.UUID, str]) -> set[uuid.UUID]:
        """Show that these claimed runs are being worked on. The ids that still belong to their
        claimant; the others are lost.
        """
        with transaction.atomic():
            held = (
                self.filter(status=State.PROCESSING)
                ._lock_by_pk(claims)
                .values_list("pk", "claimed_by")
            )
            mine = {pk for pk, claimant in held if claims[pk] == claimant}
            self.filter(pk__in=mine).update(heartbeat_at=Now())
        return mine

    def stalled(self, before: Moment) -> CertificationRunQuerySet:
        """Runs whose worker gave no sign of life since `before`."""
        return self.filter(status=State.PROCESSING, heartbeat_at__lt=before)

    def undelivered(self, before: Moment) -> CertificationRunQuerySet:
        """Waiting runs whose message, if any, is older than `before`."""
        stale = Q(enqueued_at__lt=before) | Q(enqueued_at__isnull=True, created_at__lt=before)
        return self.filter(stale, status__in=WAITING)

    def mark_queued(self, ids: Iterable[uuid.UUID]) -> int:
        """Note that a message for these waiting runs is out (PENDING -> QUEUED). The number of
        rows.
        """
        with transaction.atomic():
            waiting = list(
                self.filter(status__in=WAITING)._lock_by_pk(ids).values_list("pk", flat=True)
            )
            return self.filter(pk__in=waiting).update(status=State.QUEUED, enqueued_at=Now())

    def _lock_by_pk(self, ids: Iterable[uuid.UUID]) -> CertificationRunQuerySet:
        """Those of these runs, locked in the order in which `CertificationJob.cancel` locks: in any
        other, both may wait forever.
        """
        return self.filter(pk__in=list(ids)).order_by("pk").select_for_update(of=("self",))


# What `CertificationRun.to_dict` reads: a sweep has thousands of runs, and the rest is large.
SUMMARY_FIELDS = (
    "job_id", "model_id", "region_id", "status", "verdict", "passed", "score", "rating", "route",
    "endpoint", "api", "started_at", "completed_at", "error_message", "error_category",
    "error_reason", "fix", "attempt",
)  # fmt: skip


class CertificationRun(models.Model):
    """One model in one region of a job. The database also has `changed_in`, a column for
    models/change_feed.py alone.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(
        CertificationJob, on_delete=models.CASCADE, related_name="runs", verbose_name=_("job")
    )
    model = models.ForeignKey(
        AIModel, on_delete=models.PROTECT, related_name="runs", verbose_name=_("model")
    )
    region = models.ForeignKey(
        Region, on_delete=models.PROTECT, related_name="runs", verbose_name=_("region")
    )
    tier = models.CharField(_("tier"), max_length=10, choices=Tier.choices)
    backend = models.CharField(_("backend"), max_length=10, choices=Backend.choices)
    status = models.CharField(
        _("status"), max_length=12, choices=State.choices, default=State.PENDING
    )
    route = models.CharField(_("route"), max_length=300, blank=True)
    route_kind = models.CharField(_("route kind"), max_length=20, blank=True)
    endpoint = models.CharField(_("endpoint"), max_length=20, choices=ENDPOINTS, blank=True)
    api = models.CharField(_("API"), max_length=20, choices=APIS, blank=True)
    attempt = models.PositiveSmallIntegerField(_("attempt"), default=0)
    claimed_by = models.CharField(_("claimed by"), max_length=100, blank=True)
    heartbeat_at = models.DateTimeField(_("last heartbeat"), null=True, blank=True)
    enqueued_at = models.DateTimeField(_("enqueued"), null=True, blank=True)
    variant_seed = models.PositiveBigIntegerField(_("variant seed"))

    verdict = models.CharField(_("verdict"), max_length=24, choices=VERDICTS, blank=True)
    passed = models.BooleanField(_("passed"), default=False)
    score = models.PositiveSmallIntegerField(_("score"), null=True, blank=True)
    rating = models.CharField(_("rating"), max_length=1, blank=True)
    lower_bound = models.FloatField(_("lower bound"), null=True, blank=True)
    quality = models.FloatField(_("quality"), null=True, blank=True)
    contract = models.FloatField(_("contract"), null=True, blank=True)
    performance = models.FloatField(_("performance"), null=True, blank=True)
    reliability = models.FloatField(_("reliability"), null=True, blank=True)
    ttft_ms = models.FloatField(_("time to first token (ms)"), null=True, blank=True)
    latency_p50_ms = models.FloatField(_("median latency (ms)"), null=True, blank=True)
    output_tps = models.FloatField(_("output tokens per second"), null=True, blank=True)
    calls = models.PositiveIntegerField(_("calls"), default=0)
    retries = models.PositiveIntegerField(_("retries"), default=0)
    tokens_in = models.PositiveIntegerField(_("input tokens"), default=0)
    tokens_out = models.PositiveIntegerField(_("output tokens"), default=0)
    cost_usd = models.DecimalField(
        _("cost (USD)"), max_digits=12, decimal_places=6, null=True, blank=True
    )
    error_category = models.CharField(
        _("error category"), max_length=24, choices=CATEGORIES, blank=True
    )
    error_reason = models.CharField(_("error reason"), max_length=32, choices=REASONS, blank=True)
    error_message = models.TextField(_("error message"), blank=True)
    error_code = models.CharField(_("error code"), max_length=100, blank=True)
    request_id = models.CharField(_("AWS request id"), max_length=100, blank=True)
    fix = models.JSONField(_("fix"), default=dict, blank=True)
    suite_version = models.CharField(_("suite version"), max_length=40, blank=True)
    policy_version = models.CharField(_("policy version"), max_length=40, blank=True)
    environment = models.JSONField(_("environment"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    completed_at = models.DateTimeField(_("completed"), null=True, blank=True)

    objects = CertificationRunQuerySet.as_manager()
    # as `claim` found them: the routes to the model in the region, what it takes and refuses
    routes: Sequence[Route]
    support: Mapping[tuple[str, str], Observation]

    class Meta:
        verbose_name = _("certification run")
        verbose_name_plural = _("certification runs")
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["job", "status"]),
            models.Index(fields=["model", "region", "-completed_at"]),
            models.Index(
                fields=["status", "heartbeat_at"],
                condition=Q(status__in=ACTIVE),
                name="run_active_idx",
            ),
            # The figures of the last day and hour are read from this index alone.
            models.Index(
                fields=["completed_at"],
                include=["status", "verdict", "attempt", "started_at"],
                condition=Q(completed_at__isnull=False),
                name="run_finished_idx",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=TERMINAL, completed_at__isnull=False)
                | Q(~Q(status__in=TERMINAL), completed_at__isnull=True),
                name="run_terminal_iff_completed_at",
            ),
            models.CheckConstraint(
                condition=~Q(status=State.PROCESSING) | ~Q(claimed_by=""),
                name="run_processing_is_claimed",
            ),
            models.CheckConstraint(
                condition=Q(score__isnull=True) | Q(score__lte=100), name="run_score_within_100"
            ),
            models.CheckConstraint(
                condition=Q(status=State.COMPLETED) & ~Q(verdict__in=["", Status.PENDING])
                | Q(status=State.FAILED, verdict__in=["", Status.PENDING])
                | ~Q(status__in=[State.COMPLETED, State.FAILED]) & Q(verdict=""),
                name="run_completed_iff_verdict",
            ),
            models.UniqueConstraint(
                fields=["model", "region"],
                condition=Q(status__in=ACTIVE),
                name="one_active_run_per_model_region",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} @ {self.region_id}"

    @property
    def duration(self) -> timedelta | None:
        return (
            self.completed_at - self.started_at if self.completed_at and self.started_at else None
        )

    @property
    def is_finished(self) -> bool:
        return self.status in TERMINAL

    def to_dict(self) -> dict[str, Any]:
        """Return the run as API and commands publish it: times are aware, the duration in
        milliseconds. Reads the columns of SUMMARY_FIELDS only.
        """
        duration = self.duration
        return {
            "id": self.pk,
            "modelId": self.model_id,
            "region": self.region_id,
            "status": self.status,
            "verdict": self.verdict or None,
            "passed": self.passed if self.is_finished else None,
            "score": self.score,
            "rating": self.rating or None,
            "route": self.route or None,
            "endpoint": self.endpoint or None,
            "api": self.api or None,
            "duration": None if duration is None else round(duration.total_seconds() * 1000),
            "startedAt": self.started_at,
            "completedAt": self.completed_at,
            "errorMessage": self.error_message or None,
            "errorCategory": self.error_category or None,
            "errorReason": self.error_reason or None,
            "fix": self.fix or None,
            "attempts": self.attempt,
        }

    def finish(self, outcome: RunOutcome, results: Sequence[TestResult] = ()) -> bool:
        """Move PROCESSING to a terminal state, with the run's outcome and its results.

        Call inside a transaction that also counts the run: `job.record_finished_runs`. False when
        the run is no longer this claimant's (cancelled, or given to another worker): then nothing
        is written.
        """
        values: dict[str, Any] = dict(outcome.__dict__)
        values["cost_usd"] = None if outcome.cost_usd is None else round(outcome.cost_usd, 6)
        values["fix"], values["environment"] = (
            dict(outcome.fix),
            {**self.environment, **outcome.environment},
        )
        rows = [{name: getattr(result, name) for name in RESULT_COLUMNS} for result in results]
        finished = sql.prepared(
            finish_statement(),
            outcome=json.dumps(values),
            run=self.pk,
            worker=self.claimed_by,
            results=json.dumps(rows),
        )
        if not finished:
            return False
        for name, value in values.items():
            setattr(self, name, value)
        self.completed_at = finished[0]["completed_at"]
        return True

    def release(self) -> bool:
        """Hand an unfinished run back: PROCESSING -> PENDING; the attempt does not count. True if
        it was still ours.
        """
        mine = type(self).objects.filter(
            pk=self.pk, status=State.PROCESSING, claimed_by=self.claimed_by
        )
        won = mine.update(
            status=State.PENDING,
            claimed_by="",
            heartbeat_at=None,
            enqueued_at=None,
            attempt=F("attempt") - 1,
        )
        pubsub.notify(self.job_id)
        return won == 1

    def requeue(self) -> bool:
        """Hand a run back that our own program failed on: PROCESSING -> PENDING; the attempt
        counts. True if it was still ours.
        """
        mine = type(self).objects.filter(
            pk=self.pk, status=State.PROCESSING, claimed_by=self.claimed_by
        )
        won = mine.update(status=State.PENDING, claimed_by="", heartbeat_at=None, enqueued_at=None)
        pubsub.notify(self.job_id)
        return won == 1

    def retry_stalled(self, before: Moment) -> bool:
        """Give a run whose worker died to the queue again. True if this call won."""
        stalled = type(self).objects.filter(
            pk=self.pk, status=State.PROCESSING, heartbeat_at__lt=before
        )
        won = stalled.update(
            status=State.PENDING, claimed_by="", heartbeat_at=None, enqueued_at=None
        )
        pubsub.notify(self.job_id)
        return won == 1

    def cancel(self, message: str = "The run was cancelled.") -> bool:
        """Stop an unfinished run -> CANCELLED, and close its job if it was the last one. True if
        this call won.
        """
        active = type(self).objects.filter(pk=self.pk, status__in=ACTIVE)
        with transaction.atomic():
            won = active.update(
                status=State.CANCELLED,
                completed_at=clock.now(),
                claimed_by="",
                error_message=message,
            )
            if won:
                self.job.record_finished_runs(1, 0, cancelled=1)
                shared_cache.invalidate()
            return won == 1

    def mark_failed(
        self, reason: Reason, message: str, unless_alive_since: Moment | None = None
    ) -> bool:
        """End a run without a verdict from outside its worker -> FAILED. True if this call won."""
        rows = type(self).objects.filter(pk=self.pk, status__in=ACTIVE)
        if unless_alive_since:
            rows = rows.filter(status=State.PROCESSING, heartbeat_at__lt=unless_alive_since)
        with transaction.atomic():
            won = rows.update(
                status=State.FAILED,
                completed_at=clock.now(),
                claimed_by="",
                error_category=reason.category,
                error_reason=reason,
                error_message=message,
            )
            if won:
                self.job.record_finished_runs(1, 0)
            return won == 1


RUN_COLUMNS = sql.Columns(CertificationRun, "run")
JOB_COLUMNS = sql.Columns(CertificationJob, "job", JOB_LISTS)
MODEL_COLUMNS = sql.Columns(AIModel, "model")


@cache
def claim_statement() -> str:
    return sql.CLAIM_RUN.format(columns=f"{RUN_COLUMNS}, {JOB_COLUMNS}, {MODEL_COLUMNS}")


class TrialsWithoutCalls(Func):
    template = sql.TRIALS_WITHOUT_CALLS
    output_field = models.JSONField()


class HasCallLasting(Func):
    """Whether any call of these trials took at least so many milliseconds."""

    template = sql.HAS_CALL_LASTING
    output_field = models.BooleanField()

    def __init__(self, trials: str, ms: int) -> None:
        super().__init__(trials, ms=int(ms))


class TestResultQuerySet(models.QuerySet["TestResult"]):
    def tallies(self, runs: Iterable[uuid.UUID]) -> dict[uuid.UUID, tuple[int, int]]:
        """{run: (cases passed, cases failed)}. A flaky case passed in the end; skipped and invalid
        ones count in neither.
        """
        counted = self.filter(run__in=list(runs)).order_by().values("run_id")
        passed, failed = Q(verdict__in=("passed", "flaky")), Q(verdict="failed")
        rows = counted.annotate(
            passed=Count("pk", filter=passed), failed=Count("pk", filter=failed)
        )
        return {
            run: (passed, failed)
            for run, passed, failed in rows.values_list("run_id", "passed", "failed")
        }

    def without_transcripts(self) -> TestResultQuerySet:
        """With `summaries`: the trials without their calls, which make up nearly all of them and
        stay in the database.
        """
        return self.defer("trials").annotate(summaries=TrialsWithoutCalls("trials"))

    def grades_of(self, run: OuterRef) -> ArraySubquery:
        """Return an expression: the results of a run of the outer query, as `from_grades` reads
        them.
        """
        fields = {name: F(name) for name in RESULT_COLUMNS if name != "trials"}
        rows = self.filter(run=run).order_by("case_id")
        grades = JSONObject(**fields, summaries=TrialsWithoutCalls("trials"))
        return ArraySubquery(rows.values(json=grades))

    def from_grades(self, grades: Iterable[Mapping[str, Any]]) -> list[TestResult]:
        """Return the results that `grades_of` read, as `without_transcripts` gives them."""
        results: list[TestResult] = []
        for stored in grades:
            fields = dict(stored)
            summaries, score = fields.pop("summaries"), fields.pop("score")
            # JSON does not tell 1.0 from 1
            result = TestResult(**fields, score=None if score is None else float(score))
            result.__dict__["summaries"] = summaries
            results.append(result)
        return results

    def with_call_lasting(self, ms: int) -> TestResultQuerySet:
        """Results with a call that took at least so many milliseconds."""
        return self.filter(HasCallLasting("trials", ms))

    def with_transcripts(self, before: datetime) -> TestResultQuerySet:
        """Results of runs that ended before then and still hold requests and replies."""
        return self.filter(
            run__completed_at__lt=before, trials__contains=[{"has_transcript": True}]
        )

    def drop_transcripts(self, after: datetime, until: datetime) -> int:
        """Drop requests and replies of the runs that ended in this time; grades, sentences and
        figures stay, so that they can still be judged.
        """
        return sql.execute(sql.DROP_TRANSCRIPTS, after=after, until=until)


# A result's columns and their types in PostgreSQL, as `finish` writes them.
RESULT_COLUMNS = {
    "case_id": "text", "category": "text", "kind": "text", "verdict": "text", "sentence": "text",
    "passes": "smallint", "trials_valid": "smallint", "score": "float", "trials": "jsonb",
}  # fmt: skip


@cache
def finish_statement() -> str:
    fields = [
        field
        for field in CertificationRun._meta.concrete_fields
        if field.name in RunOutcome.__dataclass_fields__
    ]
    assignments = [f"{field.column} = outcome.{field.column}" for field in fields]
    return sql.FINISH_RUN.format(
        assignments=", ".join((*assignments, "completed_at = statement_timestamp()")),
        outcome_types=", ".join(f"{field.column} {field.db_type(connection)}" for field in fields),
        result_columns=", ".join(RESULT_COLUMNS),
        result_types=", ".join(f"{name} {kind}" for name, kind in RESULT_COLUMNS.items()),
    )


class TestResult(models.Model):
    """How one case went in one run, with its trials as evidence."""

    __test__ = False  # not a test class, whatever its name looks like

    run = models.ForeignKey(
        CertificationRun, on_delete=models.CASCADE, related_name="results", verbose_name=_("run")
    )
    case_id = models.CharField(_("case"), max_length=40)
    category = models.CharField(_("category"), max_length=20)
    kind = models.CharField(_("kind"), max_length=12)
    # passed, failed, flaky, invalid, skipped
    verdict = models.CharField(_("verdict"), max_length=10)
    sentence = models.TextField(_("observation"), blank=True)
    passes = models.PositiveSmallIntegerField(_("passes"), default=0)
    trials_valid = models.PositiveSmallIntegerField(_("valid trials"), default=0)
    score = models.FloatField(_("score"), null=True, blank=True)
    trials = models.JSONField(_("evidence"), default=list)

    objects = TestResultQuerySet.as_manager()

    class Meta:
        verbose_name = _("test result")
        verbose_name_plural = _("test results")
        ordering = ["run", "case_id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "case_id"], name="one_result_per_case_and_run"),
            models.CheckConstraint(
                condition=Q(passes__lte=F("trials_valid")), name="result_passes_within_valid"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.case_id}: {self.verdict}"
