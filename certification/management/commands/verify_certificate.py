"""`manage.py verify_certificate`: check a certificate's file without the network, or the chain."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from django.utils import timezone

from certification import checks
from certification.certificates import keys, verification
from certification.certificates.keys import KeyFault
from certification.certificates.statements import fact
from certification.certificates.verification import Answer, FileCheck
from certification.lib import foreign_text
from certification.management import terminal
from certification.management.guard import friendly_errors
from certification.models import Certificate

EXIT = {Answer.GENUINE: 0, Answer.ALTERED: 3, Answer.NOT_OURS: 4}
BROKEN_CHAIN = 5
SENTENCES = {
    Answer.GENUINE: "Genuine: signed by key {key}, and not a byte was changed.",
    Answer.ALTERED: "ALTERED: the file is not as it was issued. Believe nothing in it.",
    Answer.NOT_OURS: "Not a certificate that these keys signed. If it was, it is damaged.",
}


class Command(BaseCommand):
    help = (
        "Checks the JSON of a certificate against public keys, without the network. Ends with 0 "
        "when it is genuine (also when it has expired), 3 when it was altered, 4 when none of the "
        "keys signed it, 1 when it cannot be checked. --chain checks every certificate in the "
        "database instead, and ends with 5 when one is missing or wrong."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("file", nargs="?", metavar="FILE", help="the JSON; - reads it from stdin")
        what.add_argument("--chain", action="store_true", help="check the chain in the database")
        parser.add_argument(
            "--key",
            action="append",
            default=[],
            metavar="PEM",
            help="a file with a public key of the issuer (repeat for more; the issuer shows them "
            "at /certificates/keys.pem); default: those in the database",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        code = check_chain(options) if options["chain"] else self.check_file(options)
        if code:
            raise SystemExit(code)

    def check_file(self, options: dict[str, Any]) -> int:
        """Print what the file is, and return the exit code."""
        file = read(options["file"])
        if file.startswith(verification.PDF_MARK):
            raise CommandError(
                "A PDF is checked at /verify/, by its hash. Its attachment is the certificate's "
                "JSON: save that (for example with `pdfdetach -saveall FILE`) and check it here."
            )
        check = verification.check_file(file, read_keys(options["key"]))
        if options["json"]:
            terminal.print_json(as_json(check))
        else:
            self.stdout.write(SENTENCES[check.answer].format(key=check.key_id))
            for line in lines(check):
                self.stdout.write(foreign_text.escape(line))
        return EXIT[check.answer]


def read(name: str) -> bytes:
    """Return the file's bytes. CommandError when there is none, or more than MAX_FILE."""
    limit = verification.MAX_FILE + 1
    try:
        if name == "-":
            file = sys.stdin.buffer.read(limit)
        else:
            with Path(name).open("rb") as opened:
                file = opened.read(limit)
    except (OSError, ValueError) as error:
        raise CommandError(f"The file {name} cannot be read: {error}.") from error
    if len(file) == limit:
        raise CommandError("The file is larger than 1 MB: it is no certificate.")
    return file


def read_keys(names: list[str]) -> dict[str, Ed25519PublicKey]:
    """Return the public keys in these files, else those in the database. CommandError without."""
    try:
        if names:
            pems = {name: read(name) for name in names}
            return keys.by_id({name: pem.decode(errors="replace") for name, pem in pems.items()})
        known = verification.known_keys()
    except KeyFault as fault:
        raise CommandError(str(fault)) from fault
    except DatabaseError as error:
        raise CommandError(
            "The database cannot be reached. Name the issuer's public key: --key FILE"
        ) from error
    if not known:
        raise CommandError("This database knows no key. Name the issuer's public key: --key FILE")
    return known


def has_expired(check: FileCheck) -> bool:
    until = str(fact(check.predicate, "inForceUntil"))
    try:
        return datetime.strptime(until, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) <= timezone.now()
    except ValueError:
        return False


def as_json(check: FileCheck) -> dict[str, Any]:
    is_genuine = check.answer == Answer.GENUINE
    return {
        "answer": check.answer,
        "keyId": check.key_id or None,
        "sha256": check.digest or None,
        "isExpired": has_expired(check) if is_genuine else None,
        "statement": check.predicate or None,
    }


def lines(check: FileCheck) -> list[str]:
    """Return what a genuine certificate says, a fact a line."""
    if check.answer != Answer.GENUINE:
        return []
    expired = " (expired)" if has_expired(check) else ""
    values = {
        name: fact(check.predicate, *path.split("."))
        for name, path in {
            "code": "code", "verdict": "verdict", "rating": "score.rating", "total": "score.total",
            "model": "model.name", "id": "model.id", "region": "region.code", "number": "number",
            "backend": "backend", "until": "inForceUntil", "url": "issuer.url",
        }.items()
    }  # fmt: skip
    return [
        "{code}: {verdict}, {rating} {total} of 100".format(**values),
        "{model} ({id}) in {region}, backend {backend}".format(**values),
        "In force until {until}{expired}. Whether it was replaced or withdrawn since: "
        "{url}/certificates/{code}/".format(**values, expired=expired),
        "Number {number}, hash {digest}".format(**values, digest=check.digest),
    ]


@friendly_errors
def check_chain(options: dict[str, Any]) -> int:
    """Print every fault of the chain and its newest hash, and return the exit code."""
    faults = list(verification.chain_faults())
    newest = Certificate.objects.only("number", "digest").newest()
    if options["json"]:
        terminal.print_json(
            {
                "certificates": Certificate.objects.count(),
                "newest": newest.digest if newest else None,
                "faults": [{"number": f.number, "sentence": f.sentence} for f in faults],
            }
        )
        return BROKEN_CHAIN if faults else 0
    out = terminal.console()
    for fault in faults:
        out.print(f"Number {fault.number}: {fault.sentence}", markup=False)
    if newest:
        out.print(f"Newest: number {newest.number}, hash {newest.digest}", markup=False)
    out.print("The chain is BROKEN." if faults else "The chain is whole.")
    return BROKEN_CHAIN if faults else 0
