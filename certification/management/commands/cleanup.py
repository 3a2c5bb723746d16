"""`manage.py cleanup`: let go of what nobody needs any more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from certification.management import terminal
from certification.management.guard import friendly_errors
from certification.models import TestResult, WebhookDelivery

MOST_DAYS = 36500


class Command(BaseCommand):
    help = (
        "Drops the transcripts (requests and replies) of runs that ended more than --days ago. Verdicts, grades, sentences "
        "and figures stay: old runs can still be read, compared and judged again. Also drops webhook deliveries that ended "
        "more than WEBHOOK_LOG_DAYS ago."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=90)
        parser.add_argument("--dry-run", action="store_true", help="only print what it would do")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["days"] <= MOST_DAYS:
            raise CommandError(f"--days lies between 1 and {MOST_DAYS}.")
        before = timezone.now() - timedelta(days=options["days"])
        if options["dry_run"]:
            results = TestResult.objects.with_transcripts(before).count()
        else:
            results = TestResult.objects.drop_transcripts(before)
        deliveries = _drop_deliveries(dry_run=options["dry_run"])
        if options["json"]:
            terminal.print_json(
                {
                    "results": results,
                    "before": before,
                    "deliveries": deliveries,
                    "dryRun": options["dry_run"],
                }
            )
        else:
            verb = "Would drop" if options["dry_run"] else "Dropped"
            of_results = terminal.pluralize(results, "result")
            self.stdout.write(
                f"{verb} the transcripts of {of_results} from before {before:%Y-%m-%d %H:%M} UTC."
            )
            sent, days = (
                "webhook delivery" if deliveries == 1 else "webhook deliveries",
                settings.WEBHOOK_LOG_DAYS,
            )
            self.stdout.write(
                f"{verb} {deliveries} {sent} older than {terminal.pluralize(days, 'day')}."
            )


def _drop_deliveries(*, dry_run: bool) -> int:
    """Webhook deliveries that ended more than WEBHOOK_LOG_DAYS ago: how many there are, or were."""
    old = WebhookDelivery.objects.ended_before(
        timezone.now() - timedelta(days=settings.WEBHOOK_LOG_DAYS)
    )
    return old.count() if dry_run else old.delete()[0]
