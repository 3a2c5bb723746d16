"""The queue, the certifications, and whether Bedrock can be reached."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from django.db.models import Count, F
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api import certifications, representations
from certification.api.representations import AwsStatus, Certification, QueueStats, Stats
from certification.api.views import View
from certification.bedrock import fixes
from certification.lib import clock
from certification.models import Backend, ModelCertification, State, validity
from certification.monitoring import queue_stats
from certification.monitoring.bedrock_status import BedrockStatus, bedrock_status

RECENT = 10


class QueueStatus(View):
    @extend_schema(operation_id="getStats", responses={200: Stats}, tags=["certification queue"])
    def get(self, request: Request) -> Response:
        """Return figures of the queue, the workers and the certifications."""
        now, totals = clock.now(), queue_stats.totals.get()
        by_region = count_by_region(now)
        by_status: Counter[str] = Counter()
        for (_region, status), n in by_region.items():
            by_status[status] += n
        body: Stats = {
            "queue": queue_figures(totals),
            "certificationsByRegion": [
                {"region": region, "status": status, "count": n}
                for (region, status), n in sorted(by_region.items())
            ],
            "certificationsByStatus": [
                {"status": status, "count": n} for status, n in sorted(by_status.items())
            ],
            "recentCertifications": recent(now),
            "successRate24h": totals.success_rate,
            "averageDurationSeconds24h": totals.average_s,
            "retryRate24h": totals.retry_rate,
        }
        return Response(body)


def queue_figures(totals: queue_stats.Totals) -> QueueStats:
    counts, workers = queue_stats.queue_counts(), queue_stats.workers.get()
    return {
        "queue": {
            "waiting": counts.waiting,
            "active": counts.active,
            "completed": counts.completed,
            "failed": counts.failed,
            "delayed": counts.delayed,
            "paused": counts.paused,
        },
        "database": [
            {"status": state.value, "count": totals.jobs.get(state, 0)} for state in State
        ],
        "workers": workers,
        "oldestWaitingSeconds": counts.oldest_waiting_s,
        "note": _("The number of workers is unknown: the broker (Redis) does not answer.")
        if workers is None
        else None,
    }


def count_by_region(now: datetime) -> Counter[tuple[str, str]]:
    """Return {(region, status): pairs}; what has expired is `not_tested`."""
    rows = (
        ModelCertification.objects.order_by()
        .values(at=F("region"), current=validity.current_status_expression(now))
        .annotate(n=Count("pk"))
    )
    return Counter(
        {(region, status): n for region, status, n in rows.values_list("at", "current", "n")}
    )


def recent(now: datetime) -> list[Certification]:
    newest = ModelCertification.objects.filter(last_tested_at__isnull=False).order_by(
        "-last_tested_at", "-pk"
    )
    return [
        representations.certification(pair, now) for pair in certifications.read(newest, 0, RECENT)
    ]


class AwsReach(View):
    @extend_schema(
        operation_id="getAwsStatus", responses={200: AwsStatus}, tags=["certification queue"]
    )
    def get(self, request: Request) -> Response:
        """Return whether Bedrock answers with the configured credentials.

        It is a real call, at most a minute old.
        """
        status = bedrock_status.get()
        body: AwsStatus = {
            "configured": status.configured,
            "valid": status.valid,
            "message": message_of(status),
            "region": status.region,
            "modelsAvailable": status.models,
            "accessKeyPreview": f"{status.key_preview}..." if status.key_preview else None,
            "backend": status.backend,
            "error": status.error or None,
            "errorReason": status.reason,
        }
        return Response(body)


def message_of(status: BedrockStatus) -> str:
    if status.backend == Backend.EMULATOR:
        if status.valid:
            return _(
                "AWS is not called: the local emulator answers instead, and results are marked as "
                "emulated. Set AWS credentials to certify on AWS."
            )
        return _(
            "The local emulator, which replaces AWS, does not answer. Start it with: manage.py up"
        )
    if status.valid:
        facts = {"region": status.region, "count": status.models}
        return _("AWS Bedrock answers in %(region)s and lists %(count)d models.") % facts
    assert status.reason is not None  # noqa: S101 - what is not valid has a reason
    return fixes.fix_for(status.reason, region=status.region, operation="ListFoundationModels").text
