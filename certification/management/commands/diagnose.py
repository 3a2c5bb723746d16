"""Say what pasted errors mean."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification.bedrock.diagnosis import diagnose_json


class Command(BaseCommand):
    help = (
        'Reads errors from standard input, one a line: JSON objects {"message", "code", "http_status", "operation"} or the '
        "bare text of an error. Prints, as JSON lines, their category, reason, whether a retry helps, and what to do. Needs "
        "neither database nor Redis."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--model", default="", help="model or profile id to fill into the commands"
        )
        parser.add_argument("--region", default="", help="AWS region to fill into the commands")

    def handle(self, *args: Any, **options: Any) -> None:
        if sys.stdin.isatty():
            self.stderr.write("Reading errors, one a line; end with Ctrl-D.")
        malformed = 0
        for line in _lines():
            answer = diagnose_json(line, model_id=options["model"], region=options["region"])
            malformed += "error" in answer
            try:
                self.stdout.write(json.dumps(answer))
                self.stdout.flush()
            # the reader has seen enough; what is still buffered goes nowhere
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return
        if malformed:
            lines = (
                "1 malformed line; it was"
                if malformed == 1
                else f"{malformed} malformed lines; each was"
            )
            raise CommandError(f"{lines} answered with what to do.")


def _lines() -> Iterator[str]:
    """The non-empty lines of standard input; bytes that are no UTF-8 spoil no more than themselves."""
    raw = getattr(sys.stdin, "buffer", None)
    for line in raw if raw is not None else sys.stdin:
        text = line.decode("utf-8-sig", errors="replace") if isinstance(line, bytes) else line
        if text.strip():
            yield text
