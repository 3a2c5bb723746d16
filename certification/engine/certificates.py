"""Issue certificates, and remind of those that end soon.

One is issued after the transaction that certified, from the rows that it wrote: a key
that cannot be read must not cost a run its verdict, regions are compared in between, and whatever
was not issued (a worker died, the key was away) is due the next time that `reconcile` looks.
"""

from __future__ import annotations

import hashlib
import time

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from certification.certificates import codes, envelopes, keys, statements
from certification.certificates.statements import Issuer, Place
from certification.engine import parity
from certification.lib import clock, shared_cache
from certification.models import (
    Certificate,
    CertificateKey,
    ModelCertification,
    RunJudgement,
    State,
    TestResult,
)
from certification.models.webhooks import raise_alert

log = structlog.get_logger(__name__)
BATCH, MAX_S = 50, 10.0


def issue_due() -> int:
    """Issue what is due, the oldest first, for MAX_S at most: a sweep brings thousands at once, and
    whoever calls has other work. Returns how many; 0 and a line in the log when the key cannot be
    used.
    """
    issued, deadline = 0, time.monotonic() + MAX_S
    while pairs := list(due_pairs()[:BATCH]):
        try:
            key = keys.signing_key()
        except keys.KeyFault as fault:
            log.error("certificates_not_issued", error=str(fault))
            break
        count = sum(issue(pair, key) is not None for pair in pairs)
        issued += count
        if count == 0 or time.monotonic() > deadline:
            break
    return issued


def due_pairs() -> QuerySet[ModelCertification]:
    """Return the pairs that are due for a certificate: of jobs whose regions were compared, where
    there is something to compare, since that may judge a run again.
    """
    is_compared = (
        Q(run__job__regions__1__isnull=True)  # one region
        | Q(run__job__config__has_key="comparison")
        | Q(run__job__created_at__lt=clock.now() - parity.MAX_AGE)
        | ~Q(run__job__status=State.COMPLETED)  # nobody compares those of a cancelled one
    )
    pairs = ModelCertification.objects.without_certificate(clock.now()).filter(is_compared)
    return pairs.select_related("model", "region", "run").order_by("run__completed_at", "pk")


def remind() -> int:
    """Raise an alert for each certificate that ends soon, once. Returns how many."""
    due = Certificate.objects.due_for_reminder(clock.now())
    for row in due:
        order = f"{settings.PUBLIC_URL}/jobs/new/?pair={row.model.api_model_id}@{row.region_id}"
        with transaction.atomic():
            Certificate.objects.filter(pk=row.pk).update(reminded_at=clock.now())
            raise_alert(
                "certificate_expires",
                "info",
                f"The certificate {row.code} of {row.model.api_model_id} in {row.region_id} ends "
                f"on {row.expires_at:%Y-%m-%d %H:%M} UTC. Renew it with a full run: {order}",
                subject={
                    "code": row.code,
                    "modelId": row.model.api_model_id,
                    "region": row.region_id,
                    "expiresAt": row.expires_at,
                    "jobId": str(row.run.job_id),
                },
                once=row.code,
            )
    return len(due)


def issue(pair: ModelCertification, key: Ed25519PrivateKey) -> Certificate | None:
    """Issue the certificate of a pair as it stands. None when another process just did."""
    run = pair.run
    assert run is not None  # noqa: S101 - of `without_certificate`
    assert pair.expires_at is not None  # noqa: S101 - as above
    results = list(TestResult.objects.filter(run=run).order_by("case_id"))
    judged = RunJudgement.objects.filter(run=run, verdict=pair.status).order_by("judged_at").last()
    policy_version = judged.policy_version if judged else run.policy_version
    issuer = Issuer(settings.CERTIFICATE_ISSUER, settings.PUBLIC_URL)
    public = key.public_key()
    with transaction.atomic():
        Certificate.lock_chain()
        if Certificate.objects.filter(run=run).exists():
            return None
        last = Certificate.objects.only("number", "digest").newest()
        place = Place(
            number=last.number + 1 if last else 1,
            code=codes.draw(),
            previous=last.digest if last else "",
            issued_at=clock.now().replace(microsecond=0),
        )
        payload = envelopes.canonical_json(
            statements.build(pair, policy_version, results, place, issuer)
        )
        signer, _is_new = CertificateKey.objects.get_or_create(
            pk=envelopes.key_id(public), defaults={"public_key": keys.public_pem(public)}
        )
        certificate = Certificate.objects.create(
            number=place.number,
            code=place.code,
            digest=hashlib.sha256(payload).hexdigest(),
            previous=last,
            model=pair.model,
            region=pair.region,
            run=run,
            key=signer,
            issued_at=place.issued_at,
            expires_at=pair.expires_at,
            envelope=envelopes.sign(payload, key).encode(),
        )
    shared_cache.invalidate()
    log.info("certificate_issued", code=place.code, number=place.number, run=str(run.pk))
    return certificate
