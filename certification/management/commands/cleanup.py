"""`manage.py cleanup`: let go of what nobody needs any more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from certification.management import terminal
from certification.models import TestResult


class Command(BaseCommand):
    help = (
        "Drops the transcripts (requests and replies) of runs that ended more than --days ago. Verdicts, grades, sentences "
        "and figures stay: old runs can still be read, compared and judged again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=90)
        parser.add_argument("--dry-run", action="store_true", help="only say what it would do")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @terminal.sentences
    def handle(self, *args: Any, **options: Any) -> None:
        if options["days"] < 1:
            raise CommandError("--days must be at least 1.")
        before = timezone.now() - timedelta(days=options["days"])
        if options["dry_run"]:
            results = TestResult.objects.with_transcripts(before).count()
        else:
            results = TestResult.objects.drop_transcripts(before)
        if options["json"]:
            terminal.say_json({"results": results, "before": before, "dryRun": options["dry_run"]})
        else:
            verb = "Would drop" if options["dry_run"] else "Dropped"
            self.stdout.write(f"{verb} the transcripts of {results} results from before {before:%Y-%m-%d %H:%M} UTC.")
