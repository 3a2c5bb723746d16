"""`manage.py recertify_stale`: start a job for pairs that were last tested long ago."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification import checks
from certification.engine import dispatch
from certification.engine.estimate import estimate_pairs
from certification.management import follow, terminal
from certification.management.guard import friendly_errors
from certification.models import Priority, Region, Tier

MAX_DAYS = 3650


class Command(BaseCommand):
    help = (
        "Starts a job for every pair that was last tested more than --days ago or whose "
        "certification has expired."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=30, help="default: %(default)s")
        parser.add_argument(
            "--regions",
            nargs="+",
            default=[],
            metavar="REGION",
            help="default: all enabled regions",
        )
        parser.add_argument("--tier", choices=Tier.values, default=Tier.FULL)
        parser.add_argument(
            "--dry-run", action="store_true", help="only print what it would do and cost"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 <= options["days"] <= MAX_DAYS:
            raise CommandError(f"--days must be between 0 and {MAX_DAYS}.")
        regions = dispatch.find_regions(options["regions"]) or list(Region.objects.enabled())
        pairs = dispatch.stale_pairs(regions, options["days"])
        if options["dry_run"] or not pairs:
            estimate = estimate_pairs(pairs, options["tier"])
            if options["json"]:
                figures = {"runs": len(pairs), "calls": estimate.calls, "usd": estimate.usd}
                return terminal.print_json({**figures, "jobId": None})
            size = terminal.describe_estimate(estimate)
            self.stdout.write(f"Would start a job: {size}" if pairs else "Nothing is stale.")
            return None
        workers = follow.workers_for(Priority.BULK)
        result = dispatch.recertify(pairs, options["tier"], options["days"])
        if options["json"]:
            return terminal.print_json(follow.summary(result.job))
        self.stdout.write(f"Job {result.job.pk}: {terminal.describe_estimate(result.estimate)}")
        self.stdout.write(follow.queued_hint(result.job, workers))
        return None
