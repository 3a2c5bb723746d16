"""`manage.py recertify_stale`: a job for what was last tested too long ago."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from certification.engine import dispatch
from certification.engine.dispatch import CertifyOptions
from certification.management import follow, terminal
from certification.management.guard import friendly_errors
from certification.models import JobType, ModelCertification, Priority, Region, Tier

MOST_DAYS = 3650


class Command(BaseCommand):
    help = "Starts a job for every pair that was last tested more than --days ago, or whose certification has expired."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=30)
        parser.add_argument("--regions", nargs="+", default=[], metavar="REGION")
        parser.add_argument("--tier", choices=Tier.values, default=Tier.FULL)
        parser.add_argument(
            "--dry-run", action="store_true", help="only print what it would do and cost"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 <= options["days"] <= MOST_DAYS:
            raise CommandError(f"--days lies between 0 and {MOST_DAYS}.")
        regions = dispatch.find_regions(options["regions"]) or list(Region.objects.enabled())
        before = timezone.now() - timedelta(days=options["days"])
        rows = (
            ModelCertification.objects.in_regions(regions)
            .stale(before)
            .select_related("model", "region")
        )
        pairs = [(row.model, row.region) for row in rows]
        estimate = dispatch.estimate_pairs(pairs, options["tier"])
        plan: dict[str, Any] = {
            "runs": len(pairs),
            "calls": estimate.calls,
            "usd": estimate.usd,
            "jobId": None,
        }
        started_job, alive = None, None
        if pairs and not options["dry_run"]:
            alive = follow.workers_for(Priority.BULK)
            certify_options = CertifyOptions(tier=options["tier"], config={"days": options["days"]})
            done = dispatch.certify(pairs, certify_options, job_type=JobType.RECERTIFY)
            if options["json"]:
                return terminal.print_json(follow.summary(done.job))
            started_job = done.job
            plan["jobId"] = str(done.job.pk)
        if options["json"]:
            return terminal.print_json(plan)
        if not pairs:
            self.stdout.write("Nothing is stale.")
        else:
            started = f"Job {plan['jobId']}" if plan["jobId"] else "Would start a job"
            size = f"{terminal.pluralize(len(pairs), 'run')}, about {terminal.pluralize(estimate.calls, 'call')}"
            self.stdout.write(f"{started}: {size} and {estimate.usd:.4f} USD.")
            if started_job:
                self.stdout.write(follow.queued_hint(started_job, alive))
        return None
