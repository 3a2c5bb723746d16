"""Publish a run's verdict: at once, or when a second run agrees; and decide until when it holds."""

from __future__ import annotations

import contextlib
from datetime import timedelta

from certification.engine import evidence
from certification.lib import clock
from certification.models import CertificationRun, ModelCertification, State
from certification.reasons import Status
from certification.suite import parity, publication_policy
from certification.suite.publication_policy import Finished


def publish(run: CertificationRun, ttl: timedelta) -> bool:
    """Let a finished run decide the status of its pair. Call inside the run's own transaction. True
    if the status changed.

    One bad run that may be chance does not end a certification: see `publication_policy.decide`.
    """
    assert run.completed_at is not None  # noqa: S101 - as above
    row, now = ModelCertification.lock(run), clock.now()
    # the only verdict that is compared with earlier runs, trial by trial
    is_doubtful = run.verdict == Status.QUALITY_WARNING
    certificate, since = None, []
    is_certified = row.status == Status.CERTIFIED and not row.is_expired(now)
    if is_certified and row.expires_at and row.run_id:
        if is_doubtful and row.run:
            certificate = finished_run(row.run, with_trials=True)
        else:
            certificate = Finished(Status(row.status), row.tier, row.certified_at or now)
        if is_doubtful:
            later = CertificationRun.objects.filter(
                model=row.model_id,
                region=row.region_id,
                status=State.COMPLETED,
                completed_at__gt=certificate.completed_at,
            )
            since = [finished_run(other, with_trials=False) for other in later[:50]]
    this = finished_run(run, with_trials=certificate is not None and is_doubtful)
    decision = publication_policy.decide(certificate, since, this, now)
    expires_at = publication_policy.expires_at(
        run.completed_at,
        run.model.api_model_id,
        lifecycle=run.model.lifecycle,
        end_of_life_on=run.model.end_of_life_on,
        ttl=ttl,
    )
    return row.record(run, expires_at, decision)


def finished_run(run: CertificationRun, *, with_trials: bool) -> Finished:
    """Return a run as the publication policy needs it."""
    assert run.completed_at is not None  # noqa: S101 - as above
    trials = {}
    # dropped, or of another shape: the paired test has nothing to compare
    with contextlib.suppress(LookupError):
        trials = parity.trials_of(evidence.outcomes_of(run.results.all())) if with_trials else {}
    return Finished(Status(run.verdict), run.tier, run.completed_at, trials)
