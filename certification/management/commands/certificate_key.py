"""`manage.py certificate_key`: list the public keys of certificates, or begin a new one."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification import checks
from certification.certificates import envelopes, keys
from certification.certificates.keys import KeyFault
from certification.management import terminal
from certification.management.guard import friendly_errors
from certification.models import CertificateKey


class Command(BaseCommand):
    help = (
        "Lists the public keys that certificates were signed with, and the one that signs now. "
        "--rotate replaces the key in .myia by a new one: its old private half is deleted, "
        "certificates that it signed remain genuine."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rotate", action="store_true", help="make a new key")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        try:
            key = keys.rotate() if options["rotate"] else keys.signing_key()
        except KeyFault as fault:
            raise CommandError(str(fault)) from fault
        current = envelopes.key_id(key.public_key())
        used = list(CertificateKey.objects.values_list("pk", "first_used_at"))
        if options["json"]:
            rows = [{"keyId": name, "firstUsedAt": at} for name, at in used]
            return terminal.print_json({"current": current, "keys": rows})
        for name, at in used:
            self.stdout.write(f"{name}  first used {at:%Y-%m-%d %H:%M} UTC")
        self.stdout.write(f"{current}  signs now")
        return None
