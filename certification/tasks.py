"""The tasks of the queue; each takes its arguments and makes one call."""

from __future__ import annotations

import uuid
from typing import Any

import structlog
from celery import shared_task
from celery.signals import worker_shutting_down
from celery.worker.control import inspect_command
from django.conf import settings

from certification.engine import backend, certificates, parity, queue, runner, webhooks
from certification.engine import reconcile as reconciliation
from certification.engine.worker import get_worker
from certification.lib.database import returning_connection
from certification.models import CertificationJob, State, Tier

log = structlog.get_logger(__name__)


@shared_task(ignore_result=True)
def certify_run(run_id: str) -> None:
    """Work on one run, unless the message is a duplicate or the queue is paused. The run that
    closes a job compares regions and issues certificates.
    """
    try:
        run = runner.run(uuid.UUID(run_id), get_worker())
        if run is not None and run.job.status == State.COMPLETED and run.tier != Tier.QUICK:
            with returning_connection():
                parity.compare(run.job)
                certificates.issue_due()
    except Exception:  # reconcile tries it again: the run, or what follows its job
        log.exception("run_crashed", run=run_id)


@shared_task(ignore_result=True)
def publish_job(job_id: str) -> None:
    """Put every waiting run of a large job on its queue."""
    job = CertificationJob.objects.get(pk=job_id)
    runs = job.runs.filter(status=State.PENDING).order_by("created_at", "pk")
    queue.publish(list(runs.values_list("pk", flat=True)), job.priority)


@shared_task(ignore_result=True)
def reconcile() -> None:
    """Repair what got lost."""
    reconciliation.reconcile()


@shared_task(ignore_result=True)
def deliver_webhooks() -> None:
    """Send the messages that are due."""
    try:
        webhooks.deliver()
    except Exception:  # what was being sent is due again later
        log.exception("webhooks_crashed")


@inspect_command()
def work_taken(state: Any) -> dict[str, Any]:
    """Answer an inspection: runs of which backend this worker takes, from which queues, where its
    health pages are, and which release it is.
    """
    worker = get_worker()
    return {
        "backend": str(backend.name()),
        "queues": [queue.name for queue in state.consumer.task_consumer.queues],
        "active": worker.active,
        "healthPort": worker.health_port,
        "claimant": worker.name,
        "version": settings.VERSION,
        "draining": worker.draining.is_set(),
    }


@worker_shutting_down.connect
def drain(**_kwargs: Any) -> None:
    """On SIGTERM, let running calls end and hand unfinished runs back to the queue."""
    get_worker().drain()
