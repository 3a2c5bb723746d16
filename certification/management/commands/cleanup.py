"""`manage.py cleanup`: delete old transcripts, logs of runs and webhook deliveries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification import checks
from certification.lib import clock
from certification.management import terminal
from certification.management.guard import friendly_errors
from certification.models import RunEvent, TestResult, WebhookDelivery

MAX_DAYS = 36500


class Command(BaseCommand):
    help = (
        "Deletes the transcripts (requests and replies) of runs that ended more than --days ago. "
        "Verdicts, grades, sentences and figures stay: old runs can still be read, compared and "
        "judged again. Also deletes the log of what happened to those runs, and webhook deliveries "
        "that ended more than WEBHOOK_LOG_DAYS ago."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=90, help="default: %(default)s")
        parser.add_argument("--dry-run", action="store_true", help="only print what it would do")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["days"] <= MAX_DAYS:
            raise CommandError(f"--days must be between 1 and {MAX_DAYS}.")
        before = clock.now() - timedelta(days=options["days"])
        log_days = settings.WEBHOOK_LOG_DAYS
        old = WebhookDelivery.objects.ended_before(clock.now() - timedelta(days=log_days))
        if options["dry_run"]:
            results = TestResult.objects.with_transcripts(before).count()
            deliveries, events = old.count(), RunEvent.objects.before(before).count()
        else:
            results = TestResult.objects.drop_transcripts(before)
            deliveries, events = old.delete()[0], RunEvent.objects.before(before).delete()[0]
        if options["json"]:
            return terminal.print_json(
                {
                    "results": results,
                    "before": before,
                    "deliveries": deliveries,
                    "runEvents": events,
                    "dryRun": options["dry_run"],
                }
            )
        verb = "Would delete" if options["dry_run"] else "Deleted"
        noun = "webhook delivery" if deliveries == 1 else "webhook deliveries"
        self.stdout.write(
            f"{verb} the transcripts of {terminal.pluralize(results, 'result')} from before "
            f"{before:%Y-%m-%d %H:%M} UTC."
        )
        self.stdout.write(f"{verb} {terminal.pluralize(events, 'event')} of such runs.")
        self.stdout.write(
            f"{verb} {deliveries} {noun} older than {terminal.pluralize(log_days, 'day')}."
        )
        return None
