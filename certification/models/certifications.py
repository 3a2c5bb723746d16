"""The current status of each model in each region."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.db.models.functions import JSONObject
from django.utils.translation import gettext_lazy as _

from certification.lib import clock, shared_cache
from certification.models import sql, validity, webhooks
from certification.models.catalogue import AIModel, Region, Route
from certification.models.jobs import (
    ACTIVE,
    VERDICTS,
    Backend,
    CertificationJob,
    CertificationRun,
    State,
    Tier,
)
from certification.models.judgements import RunJudgement
from certification.reasons import Status
from certification.suite.publication_policy import Decision


def active_run(model: Any, region: Any) -> Subquery:
    """Return an expression: {id, jobId, status} of the pair's active run, null without one."""
    runs = CertificationRun.objects.active().filter(model=model, region=region).order_by()
    return Subquery(runs.values(json=JSONObject(id="id", jobId="job_id", status="status"))[:1])


class ModelCertificationQuerySet(models.QuerySet["ModelCertification"]):
    def expired(self, now: datetime | None = None) -> ModelCertificationQuerySet:
        return self.filter(validity.expired(now or clock.now()))

    def in_matrix(self) -> ModelCertificationQuerySet:
        """Filter to active models in enabled regions, in no order."""
        return self.filter(model__is_active=True, region__enabled=True).order_by()

    def valid(self, now: datetime | None = None) -> ModelCertificationQuerySet:
        """Certifications whose status holds: tested and not expired."""
        return self.filter(validity.valid(now or clock.now()))

    def in_regions(self, regions: Iterable[Region]) -> ModelCertificationQuerySet:
        return self.filter(region__in=regions)

    def with_run_at(
        self, moment: datetime, name: str = "run_then", fields: Sequence[str] = ("verdict",)
    ) -> ModelCertificationQuerySet:
        """Add the newest run with a verdict that each pair had at `moment`, as a JSON object of
        these fields; None before the first. One look into an index for each pair, however many runs
        there are.
        """
        until_then = CertificationRun.objects.filter(
            model=OuterRef("model"),
            region=OuterRef("region"),
            status=State.COMPLETED,
            completed_at__lte=moment,
        ).order_by("-completed_at")
        run = until_then.values(json=JSONObject(**{field: field for field in fields}))
        return self.annotate(**{name: Subquery(run[:1])})

    def may_have_changed_since(self, moment: datetime, now: datetime) -> ModelCertificationQuerySet:
        """Leave out pairs whose status is known to be older than `moment`."""
        is_newer = Q(status_since__gt=moment) | Q(status_since=None)
        return self.filter(is_newer | validity.expired(now))

    def failed(self) -> ModelCertificationQuerySet:
        """Pairs whose model failed; a run that failed brought no verdict, and says nothing here."""
        return self.filter(status=Status.FAILED)

    def held_back_after(self, job: CertificationJob) -> ModelCertificationQuerySet:
        """Pairs that stay certified although a run of this job disagreed, until a second
        run settles it.
        """
        of_job = job.runs.filter(
            model=OuterRef("model"),
            region=OuterRef("region"),
            completed_at=OuterRef("last_tested_at"),
        )
        return self.exclude(held_back="").filter(Exists(of_job))

    def without_certificate(self, now: datetime) -> ModelCertificationQuerySet:
        """Pairs that a run beyond the quick tier certifies and that no certificate was issued for,
        of jobs that ended.
        """
        certified = self.valid(now).filter(
            status=Status.CERTIFIED,
            tier__in=(Tier.FULL, Tier.DEEP),
            expires_at__isnull=False,
            run__isnull=False,
            run__certificate__isnull=True,
        )
        return certified.exclude(run__job__status__in=ACTIVE)

    def not_certified(self) -> ModelCertificationQuerySet:
        """Pairs that were tested and are not certified."""
        return self.exclude(status__in=[Status.CERTIFIED, Status.NOT_TESTED])

    def stale(self, before: datetime) -> ModelCertificationQuerySet:
        """Last tested before then, or expired."""
        return self.filter(Q(last_tested_at__lt=before) | Q(expires_at__lte=clock.now()))

    def with_current_status(
        self, statuses: Collection[str], now: datetime
    ) -> ModelCertificationQuerySet:
        """Certifications whose current status is one of these."""
        expired = validity.expired(now)
        matches = Q(status__in=statuses) & ~expired
        return self.filter(matches | expired if Status.NOT_TESTED in statuses else matches)

    def with_active_run(self, states: Collection[str]) -> ModelCertificationQuerySet:
        """Pairs that a run in one of these (active) states is for."""
        pair = {"model": OuterRef("model"), "region": OuterRef("region")}
        return self.filter(
            Exists(CertificationRun.objects.active().filter(**pair, status__in=states))
        )

    def with_details(self) -> ModelCertificationQuerySet:
        """With all that is published of a pair, in one query: model, region, run without its
        environment, and three annotations.

        `offered`: whether a route is known. `active_run` {id, jobId, status}: what works on it now.
        `rejudged` {message, reason}: the later judgement of the run that the status is from. The
        latter two may be None.
        """
        judgements = RunJudgement.objects.filter(run=OuterRef("run"), verdict=OuterRef("status"))
        return (
            self.select_related("model", "region", "run")
            .defer("run__environment")
            .annotate(
                offered=Exists(
                    Route.objects.filter(model=OuterRef("model"), region=OuterRef("region"))
                ),
                active_run=active_run(OuterRef("model"), OuterRef("region")),
                rejudged=Subquery(
                    judgements.exclude(verdict=OuterRef("run__verdict"))
                    .order_by("-judged_at")
                    .values(json=JSONObject(message="message", reason="reason"))[:1]
                ),
            )
        )

    def expire(self) -> int:
        """Take their standing from certifications past their date. The number of rows."""
        lapsed = self.expired().exclude(status=Status.NOT_TESTED).order_by("pk").select_for_update()
        with transaction.atomic():
            due = self.filter(pk__in=list(lapsed.values_list("pk", flat=True)))
            expired = due.update(
                previous_status=F("status"),
                status=Status.NOT_TESTED,
                status_since=clock.now(),
                expired_at=clock.now(),
            )
            enqueue_changed_events(due.select_related("model", "region", "run"), "expired")
        if expired:
            shared_cache.invalidate()
        return expired


def enqueue_changed_events(rows: Iterable[ModelCertification], cause: str) -> None:
    """Write the webhook events of certifications whose status changed, because of a `run`, because
    they were `rejudged`, or because they `expired`.
    """

    def payloads() -> Iterator[webhooks.Payload]:
        for row in rows:
            # the run that the status rests on; an expired one explains nothing
            run = row.run if row.run and row.run.verdict == row.status else None
            yield {
                "cause": cause,
                "certification": {
                    **row.to_dict(clock.now()),
                    "previousStatus": row.previous_status or Status.NOT_TESTED,
                    "errorMessage": run.error_message or None if run else None,
                    "errorCategory": run.error_category or None if run else None,
                    "errorReason": run.error_reason or None if run else None,
                    "fix": run.fix or None if run else None,
                },
            }

    webhooks.enqueue(webhooks.WebhookEvent.CERTIFICATION_CHANGED, payloads)


class ModelCertification(models.Model):
    model = models.ForeignKey(
        AIModel, on_delete=models.CASCADE, related_name="certifications", verbose_name=_("model")
    )
    region = models.ForeignKey(
        Region, on_delete=models.CASCADE, related_name="certifications", verbose_name=_("region")
    )
    status = models.CharField(
        _("status"), max_length=24, choices=VERDICTS, default=Status.NOT_TESTED
    )
    previous_status = models.CharField(
        _("previous status"), max_length=24, choices=VERDICTS, blank=True
    )
    # null: from before this was noted, until the next run
    status_since = models.DateTimeField(_("status since"), null=True, blank=True)
    score = models.PositiveSmallIntegerField(_("score"), null=True, blank=True)
    rating = models.CharField(_("rating"), max_length=1, blank=True)
    tier = models.CharField(_("tier"), max_length=10, choices=Tier.choices, blank=True)
    backend = models.CharField(_("backend"), max_length=10, choices=Backend.choices, blank=True)
    run = models.ForeignKey(
        CertificationRun,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("run"),
    )
    attempts = models.PositiveIntegerField(_("runs"), default=0)
    completed_attempts = models.PositiveIntegerField(_("runs with a verdict"), default=0)
    certified_attempts = models.PositiveIntegerField(_("certified runs"), default=0)
    certified_at = models.DateTimeField(_("certified"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    expired_at = models.DateTimeField(_("expired"), null=True, blank=True)
    last_tested_at = models.DateTimeField(_("last tested"), null=True, blank=True)
    held_back = models.TextField(_("reason for holding back a later verdict"), blank=True)
    confirm_after = models.DateTimeField(_("second run decides after"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = ModelCertificationQuerySet.as_manager()

    class Meta:
        verbose_name = _("certification")
        verbose_name_plural = _("certifications")
        ordering = ["model", "region"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "region"], name="one_certification_per_model_region"
            ),
            models.CheckConstraint(
                condition=Q(score__isnull=True) | Q(score__lte=100), name="certification_score_100"
            ),
        ]
        indexes = [models.Index(fields=["region", "status"]), models.Index(fields=["expires_at"])]

    def __str__(self) -> str:
        return f"{self.model} @ {self.region_id}: {self.status}"

    def is_expired(self, now: datetime) -> bool:
        return validity.is_expired(self, now)

    def current(self, now: datetime) -> str:
        return validity.current_status(self, now)

    @property
    def success_rate(self) -> float | None:
        """Share of verdicts that were `certified`, 0-100."""
        return (
            100 * self.certified_attempts / self.completed_attempts
            if self.completed_attempts
            else None
        )

    def to_dict(self, now: datetime) -> dict[str, Any]:
        """Return the certification at `now` as API, webhooks and commands publish it, without why.

        Reads model, region and run.
        """
        status = self.current(now)
        return {
            "id": str(self.pk or f"{self.model_id}:{self.region_id}"),
            "modelId": self.model.api_model_id,
            "modelUuid": self.model_id,
            "modelName": self.model.name,
            "vendor": self.model.vendor,
            "region": self.region_id,
            "regionName": self.region.name,
            "status": status,
            "previousStatus": validity.previous_status(self, now) or None,
            "passed": status == Status.CERTIFIED,
            "score": self.score,
            "rating": self.rating or None,
            "tier": self.tier or None,
            "backend": self.backend or None,
            "endpoint": (self.run.endpoint or None) if self.run else None,
            "api": (self.run.api or None) if self.run else None,
            "certifiedAt": self.certified_at,
            "expiresAt": self.expires_at,
            "lastTestedAt": self.last_tested_at,
            "runId": self.run_id,
            "jobId": self.run.job_id if self.run else None,
        }

    @classmethod
    def lock(cls, run: CertificationRun) -> ModelCertification:
        """The row of a run's pair, made if need be and locked until the transaction ends."""
        statement = lock_statement()
        pair = {"model": run.model_id, "region": run.region_id}
        rows = sql.prepared(statement, **pair)
        if not rows:
            new = ModelCertification(model_id=run.model_id, region_id=run.region_id)
            ModelCertification.objects.bulk_create([new], ignore_conflicts=True)
            rows = sql.prepared(statement, **pair)
        [row] = rows  # nobody deletes one
        return COLUMNS.instance(row)

    def record(
        self, run: CertificationRun, expires_at: datetime, decision: Decision | None = None
    ) -> bool:
        """Count a finished run and let it decide the pair's status. Call on a locked row, inside
        the run's own transaction. True if the status changed.

        A run without a verdict about the model (infrastructure, `pending`), or one whose verdict
        `decision` holds back, is counted but changes no status; only a newer run replaces an older
        one.
        """
        assert run.completed_at is not None  # noqa: S101 - as above
        if self.last_tested_at and self.last_tested_at > run.completed_at:
            return False
        before = self.status
        has_verdict = run.status == State.COMPLETED and run.verdict != Status.PENDING
        held_back = (
            decision
            if has_verdict and before == Status.CERTIFIED and decision and not decision.publish
            else None
        )
        is_unknown = before == Status.PENDING or (
            before == Status.NOT_TESTED and self.expired_at is None
        )
        values: dict[str, Any] = {"attempts": self.attempts + 1, "last_tested_at": run.completed_at}
        if held_back:
            if run.verdict != Status.CERTIFIED:
                values["held_back"] = held_back.sentence
                values["confirm_after"] = held_back.confirm_after
        elif has_verdict:
            until = expires_at if run.verdict != Status.NOT_TESTED else None
            values |= self.values_from(run, until)
        elif is_unknown:
            values |= self.values_from(run, None)  # it says at least why nothing is known
        # else: a status, or what an expired certification was, outlives a run without a verdict
        if has_verdict:
            values["completed_attempts"] = self.completed_attempts + 1
        if run.verdict == Status.CERTIFIED:
            values |= {
                "certified_at": run.completed_at,
                "certified_attempts": self.certified_attempts + 1,
            }
        if self.status_since is None or values.get("status", before) != before:
            values["status_since"] = run.completed_at
        for name, value in values.items():
            setattr(self, name, value)
        sql.update(self, **values, updated_at=clock.now())
        if self.status != before:
            enqueue_changed_events([self], "run")
        shared_cache.invalidate()
        return self.status != before

    def values_from(self, run: CertificationRun, expires_at: datetime | None) -> dict[str, Any]:
        """Return the values of a row whose status comes from this run."""
        values = {
            "status": run.verdict,
            "score": run.score,
            "rating": run.rating,
            "tier": run.tier,
            "backend": run.backend,
            "run": run,
            "expires_at": expires_at,
            "expired_at": None,
            "held_back": "",
            "confirm_after": None,
        }
        return values if self.status == run.verdict else values | {"previous_status": self.status}

    @classmethod
    def rejudge(cls, run: CertificationRun, verdict: str, score: int | None, rating: str) -> bool:
        """Let a later judgement of the run that a certification rests on replace its verdict.

        True if the certification still rested on that run. An expired one stays what it was.
        """
        with transaction.atomic():
            row = cls.objects.valid().filter(run=run).select_for_update(of=("self",)).first()
            if row is None:
                return False
            values: dict[str, Any] = {"status": verdict, "score": score, "rating": rating}
            if row.status != verdict:
                values |= {"previous_status": row.status, "status_since": clock.now()}
            cls.objects.filter(pk=row.pk).update(**values, updated_at=clock.now())
            if row.status != verdict:
                enqueue_changed_events(
                    cls.objects.filter(pk=row.pk).select_related("model", "region", "run"),
                    "rejudged",
                )
            shared_cache.invalidate()
        return True


COLUMNS = sql.Columns(ModelCertification, "pair")


@cache
def lock_statement() -> str:
    return sql.LOCK_CERTIFICATION.format(columns=COLUMNS)
