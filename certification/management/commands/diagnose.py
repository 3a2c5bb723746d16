"""`manage.py diagnose`: explain errors."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification.bedrock.diagnosis import diagnose_json


class Command(BaseCommand):
    help = (
        "Explains errors of AWS Bedrock. Reads them from standard input, one per line: JSON "
        'objects {"message", "code", "http_status", "operation"} or the bare text of an error. '
        "Prints, as JSON lines, their category, reason, whether a retry helps, and what to do. "
        "Needs neither database nor Redis."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", default="", help="model or profile id to use in the advice")
        parser.add_argument("--region", default="", help="AWS region to use in the advice")

    def handle(self, *args: Any, **options: Any) -> None:
        if sys.stdin.isatty():
            self.stderr.write("Reading errors, one per line; end with Ctrl-D.")
        malformed = 0
        for line in getattr(sys.stdin, "buffer", sys.stdin):
            # bytes that are not UTF-8 spoil no more than themselves
            text = line.decode("utf-8-sig", errors="replace") if isinstance(line, bytes) else line
            if not text.strip():
                continue
            answer = diagnose_json(text, model_id=options["model"], region=options["region"])
            malformed += "error" in answer
            try:
                self.stdout.write(json.dumps(answer))
                self.stdout.flush()
            except BrokenPipeError:
                # the reader is gone; what is still buffered goes nowhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return
        if malformed:
            lines = "1 malformed line" if malformed == 1 else f"{malformed} malformed lines"
            raise CommandError(f'{lines}: see "error" in the output for what to do.')
