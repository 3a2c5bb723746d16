"""Where a pair stands after a run: what is published at once, what waits for a second run, and
until when it is believed.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta

from django.utils import timezone

from certification.engine import evidence
from certification.models import CertificationRun, ModelCertification, State
from certification.reasons import Status
from certification.suite import parity, publication_policy
from certification.suite.publication_policy import Finished


def publish(run: CertificationRun, ttl: timedelta) -> bool:
    """Let a finished run say where its pair stands. Call inside the run's own transaction. True if
    the status changed.

    A certificate is not taken away by one bad run that may be luck: see `publishing.publish`.
    """
    row = ModelCertification.lock(run)
    # the only verdict that is compared with what was seen before
    doubtful = run.verdict == Status.QUALITY_WARNING
    certificate = _certificate(row, compared=doubtful)
    since = _since(row, certificate) if certificate and doubtful else []
    this = _finished(run, compared=certificate is not None and doubtful)
    decision = publication_policy.decide(certificate, since, this, timezone.now())
    assert run.completed_at is not None  # noqa: S101 - as above
    expires_at = publication_policy.expires_at(
        run.completed_at,
        run.model.api_model_id,
        lifecycle=run.model.lifecycle,
        end_of_life_on=run.model.end_of_life_on,
        ttl=ttl,
    )
    return row.record(run, expires_at, decision)


def _certificate(row: ModelCertification, *, compared: bool) -> Finished | None:
    """The run that a standing certificate rests on; None where none stands. From the row alone
    unless it is `compared`.
    """
    stands = row.status == Status.CERTIFIED and row.expires_at and row.expires_at > timezone.now()
    if not (stands and row.run_id):
        return None
    if compared and row.run:
        return _finished(row.run, compared=True)
    return Finished(Status(row.status), row.tier, row.certified_at or timezone.now())


def _since(row: ModelCertification, certificate: Finished) -> list[Finished]:
    later = CertificationRun.objects.filter(
        model=row.model_id,
        region=row.region_id,
        status=State.COMPLETED,
        completed_at__gt=certificate.completed_at,
    )
    return [_finished(run, compared=False) for run in later[:50]]


def _finished(run: CertificationRun, *, compared: bool) -> Finished:
    """A run as publishing sees it; with its trials only where they are `compared`."""
    assert run.completed_at is not None  # noqa: S101 - as above
    trials = {}
    # dropped, or of another shape: the paired test has nothing to compare
    with contextlib.suppress(LookupError):
        trials = parity.trials_of(evidence.outcomes_of(run.results.all())) if compared else {}
    return Finished(Status(run.verdict), run.tier, run.completed_at, trials)
