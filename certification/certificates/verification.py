"""Say whether a certificate is genuine: a file by itself, a file or a code against what was issued,
and the whole chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db.models import OuterRef

from certification.certificates import envelopes, keys, statements
from certification.certificates.envelopes import Envelope, NotAnEnvelope
from certification.certificates.statements import fact
from certification.models import (
    Certificate,
    CertificateDocument,
    CertificateKey,
    CertificateStatus,
    TestResult,
)

MAX_FILE = 1_000_000  # bytes
PDF_MARK = b"%PDF-"


class Answer(StrEnum):
    """What is said of a file or a code."""

    GENUINE = "genuine"
    ALTERED = "altered"
    NOT_OURS = "not_ours"  # or printed anew
    NOT_IN_CHAIN = "not_in_chain"  # signed by us, and not among what we issued
    UNKNOWN_CODE = "unknown_code"
    MISTYPED = "mistyped"  # no code: its check character does not fit


@dataclass(frozen=True)
class FileCheck:
    """What a file by itself says. The predicate only of a genuine one."""

    answer: Answer
    digest: str = ""
    key_id: str = ""
    predicate: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checks:
    """The single checks of a certificate that was issued."""

    signature: bool
    chain: bool
    evidence: bool

    @property
    def all_passed(self) -> bool:
        return self.signature and self.chain and self.evidence


@dataclass(frozen=True)
class Verification:
    """The answer to a file or a code. Certificate, checks and status only of a genuine one."""

    answer: Answer
    certificate: Certificate | None = None
    status: CertificateStatus | None = None
    checks: Checks | None = None
    predicate: Mapping[str, Any] = field(default_factory=dict)


def check_file(file: bytes, known: Mapping[str, Ed25519PublicKey]) -> FileCheck:
    """Check a JSON file with these public keys, by key id. Needs no database.

    It is altered when one of the keys is involved, by its name or its signature, and any byte is
    not as issued.
    """
    try:
        envelope = envelopes.decode(file)
    except NotAnEnvelope:
        return FileCheck(Answer.NOT_OURS)
    signer = envelope.signer(known.values())
    if signer is None:
        return FileCheck(Answer.ALTERED if envelope.key_id in known else Answer.NOT_OURS)
    predicate = predicate_of(envelope)
    if not predicate or envelopes.key_id(signer) != envelope.key_id or envelope.encode() != file:
        return FileCheck(Answer.ALTERED)
    digest = hashlib.sha256(envelope.payload).hexdigest()
    return FileCheck(Answer.GENUINE, digest, envelope.key_id, predicate)


def predicate_of(envelope: Envelope) -> dict[str, Any]:
    """Return what the statement says; {} where it is none of ours."""
    try:
        statement = envelopes.read_json(envelope.payload)
        is_ours = statement["predicateType"] == statements.PREDICATE_TYPE
        predicate = statement["predicate"] if is_ours else {}
    except (NotAnEnvelope, LookupError, TypeError):
        return {}
    return predicate if isinstance(predicate, dict) else {}


def verify_file(file: bytes, now: datetime) -> Verification:
    """Check a file, of at most MAX_FILE bytes, against what was issued.

    A PDF is known by its hash and never read.
    """
    if file.startswith(PDF_MARK):
        digest = hashlib.sha256(file).hexdigest()
        codes = CertificateDocument.objects.filter(digest=digest).values_list(
            "certificate__code", flat=True
        )
        return verify_code(codes[0], now) if codes else Verification(Answer.NOT_OURS)
    check = check_file(file, known_keys())
    if check.answer == Answer.NOT_OURS and names_issued(file):
        return Verification(Answer.ALTERED)
    if check.answer != Answer.GENUINE:
        return Verification(check.answer)
    row = issued().filter(digest=check.digest).first()
    if row is None:
        return Verification(Answer.NOT_IN_CHAIN)
    if bytes(row.envelope) != file:  # another signature of the same statement
        return Verification(Answer.ALTERED)
    return verify(row, now)


def verify_code(code: str, now: datetime) -> Verification:
    """Check the certificate of a code."""
    row = issued().filter(code=code).first()
    return verify(row, now) if row else Verification(Answer.UNKNOWN_CODE)


def verify(row: Certificate, now: datetime) -> Verification:
    """Check an issued certificate as it is stored: ALTERED where one of its checks fails."""
    known = keys.by_id({row.key_id: row.key.public_key})
    check = check_file(bytes(row.envelope), known)
    predicate = check.predicate
    checks = Checks(
        signature=check.answer == Answer.GENUINE and check.digest == row.digest,
        chain=is_linked(row, predicate),
        evidence=evidence_matches(row, predicate),
    )
    if not checks.all_passed:
        return Verification(Answer.ALTERED, checks=checks)
    return Verification(Answer.GENUINE, row, row.status_at(now), checks, predicate)


def issued() -> Any:
    """Return the certificates with all that `verify` reads, `grades` of their runs included, for
    one query.
    """
    rows = Certificate.objects.with_status().select_related("previous", "next")
    return rows.defer("previous__envelope", "next__envelope").annotate(
        grades=TestResult.objects.grades_of(OuterRef("run"))
    )


def known_keys() -> dict[str, Ed25519PublicKey]:
    """Return every public key that certificates were signed with, by its id."""
    return keys.by_id(dict(CertificateKey.objects.values_list("pk", "public_key")))


def names_issued(file: bytes) -> bool:
    """Return whether a file that no key of ours signed bears the code of a certificate of ours."""
    try:
        code = predicate_of(envelopes.decode(file)).get("code")
    except NotAnEnvelope:
        return False
    is_code = isinstance(code, str) and "\0" not in code
    return is_code and Certificate.objects.filter(code=code).exists()


def is_linked(row: Certificate, predicate: Mapping[str, Any]) -> bool:
    """Return whether a certificate follows the one that its statement names, and is followed by the
    next number if by any.
    """
    previous = row.previous
    follows = row.number == (previous.number + 1 if previous else 1)
    following = getattr(row, "next", None)
    is_followed = following is None or following.number == row.number + 1
    return follows and is_followed and is_stated(row, predicate)


def is_stated(row: Certificate, predicate: Mapping[str, Any]) -> bool:
    """Return whether the statement names the row's place in the chain."""
    stated = (
        fact(predicate, "number"),
        fact(predicate, "code"),
        fact(predicate, "previous", "sha256"),
    )
    return stated == (row.number, row.code, row.previous_id or "")


def evidence_matches(row: Certificate, predicate: Mapping[str, Any]) -> bool:
    """Return whether the run's results, as they are stored now, have the hash that was signed."""
    results = TestResult.objects.from_grades(row.__dict__["grades"])
    return bool(fact(predicate, "evidence", "sha256") == statements.grades_digest(results))


@dataclass(frozen=True)
class ChainFault:
    """What is wrong at one place of the chain."""

    number: int
    sentence: str


def chain_faults() -> Iterator[ChainFault]:
    """Check every certificate, the oldest first: its number, the hash of the one before, its own
    hash, and its signature by the key that it names.
    """
    known = known_keys()
    number, digest = 0, None
    for row in Certificate.objects.order_by("number").iterator(chunk_size=200):
        if row.number != number + 1:
            missing = f"{number + 1}" + (f"-{row.number - 1}" if row.number > number + 2 else "")
            yield ChainFault(row.number, f"Before it, number {missing} is missing.")
        elif row.previous_id != digest:
            yield ChainFault(row.number, "It does not follow the one before it.")
        check = check_file(bytes(row.envelope), known)
        if check.answer != Answer.GENUINE or check.key_id != row.key_id:
            yield ChainFault(row.number, "Its signature does not fit its statement and its key.")
        elif check.digest != row.digest:
            yield ChainFault(row.number, "Its hash is not that of its statement.")
        elif not is_stated(row, check.predicate):
            yield ChainFault(row.number, "Its statement names another place in the chain.")
        number, digest = row.number, row.digest
