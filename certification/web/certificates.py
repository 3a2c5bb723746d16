"""Load what the pages of a certificate and of its check show."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils.dateparse import parse_datetime

from certification.certificates import codes, document, envelopes, verification
from certification.certificates.verification import Answer, Verification
from certification.lib import shared_cache
from certification.models import (
    Backend,
    Certificate,
    CertificateDocument,
    CertificateStatus,
)

PARTS = ("quality", "contract", "performance", "reliability")


@dataclass(frozen=True)
class CertificatePage:
    """A certificate as it was signed, and what became of it since."""

    certificate: Certificate
    status: CertificateStatus
    predicate: Mapping[str, Any]

    @property
    def is_emulated(self) -> bool:
        return bool(self.predicate["backend"] == Backend.EMULATOR)

    @property
    def completed_at(self) -> datetime | None:
        return parse_datetime(self.predicate["run"]["completedAt"] or "")

    @property
    def parts(self) -> list[tuple[str, float]]:
        """The parts of the score that there are, 0-100."""
        score = self.predicate["score"]
        return [(name, 100 * score[name]) for name in PARTS if score[name] is not None]

    @property
    def address(self) -> str:
        """Where the page is for everybody."""
        return address_of(self.certificate.code)


def address_of(code: str) -> str:
    return f"{settings.PUBLIC_URL}/certificates/{code}/"


def load(code: str, now: datetime) -> CertificatePage | None:
    """Return the page of a code, in one query; None where no certificate has it."""
    row = Certificate.objects.with_status().filter(code=code).first()
    if row is None:
        return None
    predicate = verification.predicate_of(envelopes.decode(bytes(row.envelope)))
    return CertificatePage(row, row.status_at(now), predicate)


@dataclass(frozen=True)
class ChainEnd:
    """The newest certificate; number 0 before the first."""

    number: int = 0
    digest: str = ""
    issued_at: datetime | None = None


def chain_end() -> ChainEnd:
    """Return the end of the chain, which is cached until another one is issued."""
    entry = shared_cache.get("certificate-chain-end:1", ChainEnd)
    if entry.value is not None:
        return entry.value
    row = Certificate.objects.only("number", "digest", "issued_at").newest()
    end = ChainEnd(row.number, row.digest, row.issued_at) if row else ChainEnd()
    shared_cache.set(
        "certificate-chain-end:1", entry.generation, end, settings.PUBLIC_CACHE_SECONDS
    )
    return end


def pdf_of(row: Certificate, language: str) -> bytes:
    """Return the certificate's PDF in a language, made once: its hash is how it is known."""
    documents = CertificateDocument.objects.filter(certificate=row, language=language)
    stored = documents.values_list("pdf", flat=True).first()
    if stored is None:
        envelope = bytes(row.envelope)
        predicate = verification.predicate_of(envelopes.decode(envelope))
        pdf = document.make(envelope, predicate, address_of(row.code), language)
        digest = hashlib.sha256(pdf).hexdigest()
        new = CertificateDocument(certificate=row, language=language, pdf=pdf, digest=digest)
        # the first of two requests at once stores its own
        CertificateDocument.objects.bulk_create([new], ignore_conflicts=True)
        stored = documents.values_list("pdf", flat=True).get()
    return bytes(stored)


def verify_typed(typed: str, now: datetime) -> Verification:
    """Check the certificate of a code that somebody typed, and count the look-up."""
    code = codes.read(typed)
    if code is None:
        return Verification(Answer.MISTYPED)
    return counted(verification.verify_code(code, now))


def verify_upload(file: bytes, now: datetime) -> Verification:
    """Check a file that somebody sent, and count the look-up. Nothing of it is stored."""
    return counted(verification.verify_file(file, now))


def counted(result: Verification) -> Verification:
    if result.certificate:
        Certificate.objects.count_lookup(result.certificate.code)
    return result
