"""`manage.py certify`: start a job and follow it to its verdicts."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console

from certification import checks
from certification.engine import dispatch, queue
from certification.engine.dispatch import CertifyOptions, DispatchResult
from certification.engine.estimate import estimate_pairs
from certification.management import follow, terminal
from certification.management.guard import friendly_errors
from certification.models import (
    AIModel,
    CertificationJob,
    JobType,
    ModelCertification,
    Priority,
    Region,
    Tier,
)
from certification.stack import temporary


class Command(BaseCommand):
    help = (
        "Certifies models in regions. Exit code 1 when the job reaches no verdict, or one below "
        "--require."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("models", nargs="*", metavar="MODEL", help="API model ids or UUIDs")
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--all", action="store_true", help="every active model where it has a route"
        )
        which.add_argument(
            "--failed", action="store_true", help="every pair whose status is failed"
        )
        which.add_argument(
            "--uncertified", action="store_true", help="every pair that is tested and not certified"
        )
        which.add_argument(
            "--stale", action="store_true", help="every pair whose certification has expired"
        )
        parser.add_argument(
            "--regions",
            nargs="+",
            default=[],
            metavar="REGION",
            help="default: all enabled regions",
        )
        parser.add_argument(
            "--tier",
            choices=Tier.values,
            default=Tier.FULL,
            help="default: full (about 133 calls per pair)",
        )
        parser.add_argument(
            "--priority", choices=Priority.values, default="", help="default: by the job's size"
        )
        parser.add_argument(
            "--max-cost",
            type=float,
            metavar="USD",
            help="refuse a job estimated at more than this, or whose models have no known price",
        )
        parser.add_argument(
            "--allow-unpriced",
            action="store_true",
            help="with --max-cost: also start models without a known price, whatever they cost",
        )
        parser.add_argument(
            "--seed", type=int, help="use the prompts of an earlier run (0 to 4294967295)"
        )
        parser.add_argument(
            "--idempotency-key", default="", metavar="KEY", help="the same key returns the same job"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only print what it would do and cost"
        )
        parser.add_argument(
            "--wait", action="store_true", help="follow the job to its end; Ctrl-C cancels it"
        )
        parser.add_argument(
            "--require",
            choices=["certified", "quality_warning"],
            help="the lowest verdict that counts as success",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        out = terminal.console(stderr=options["json"])
        temporary.database(out.print)
        pairs, job_type = self.choose_pairs(options)
        if options["dry_run"]:
            return self.print_estimate(out, pairs, options)
        waits = options["wait"] or options["require"]
        if waits:
            # without Redis there is nothing to wait for: no job is written
            queue.ping_broker()
        follow.resume_queue()
        certify_options = CertifyOptions(
            tier=options["tier"],
            priority=options["priority"],
            idempotency_key=options["idempotency_key"],
            max_cost_usd=options["max_cost"],
            allow_unpriced=options["allow_unpriced"],
            seed=options["seed"],
            config={"concurrency": settings.CERTIFICATION_CONCURRENCY},
        )
        workers = 0 if waits else follow.workers_for(options["priority"] or Priority.BULK)
        result = dispatch.certify(pairs, certify_options, job_type=job_type)
        self.print_start(out, result)
        if waits:
            job = self.wait_for(out, result, quiet=options["json"])
            self.print_end(out, job, options)
        elif options["json"]:
            terminal.print_json(follow.summary(result.job))
        else:
            out.print(follow.queued_hint(result.job, workers))
        return None

    def choose_pairs(self, options: dict[str, Any]) -> tuple[list[tuple[AIModel, Region]], str]:
        """Return the pairs that the options name, and the type of their job."""
        codes = split_commas(options["regions"])
        regions = dispatch.find_regions(codes) or list(Region.objects.enabled())
        selections = [name for name in ("all", "failed", "uncertified", "stale") if options[name]]
        if selections and options["models"]:
            raise CommandError(
                f"--{selections[0]} chooses the models itself: leave out "
                f"{', '.join(options['models'][:3])}."
            )
        if options["all"]:
            return dispatch.offered_pairs(AIModel.objects.active(), regions), JobType.ALL_MODELS
        if selections:
            certifications = ModelCertification.objects.in_regions(regions)
            rows, condition = {
                "failed": (certifications.failed(), "has failed"),
                "uncertified": (certifications.not_certified(), "is tested and not certified"),
                "stale": (certifications.expired(), "has expired"),
            }[selections[0]]
            pairs = [(row.model, row.region) for row in rows.select_related("model", "region")]
            if not pairs:
                raise CommandError(f"Nothing to certify: no pair {condition} in these regions.")
            return pairs, JobType.RECERTIFY
        if not options["models"]:
            raise CommandError(
                "Name at least one model, or use --all, --failed, --uncertified or --stale."
            )
        models = dispatch.find_models(split_commas(options["models"]))
        if options["regions"]:
            return dispatch.pairs_of(models, regions), ""
        return dispatch.offered_pairs(models, regions), ""

    def wait_for(self, out: Console, result: DispatchResult, *, quiet: bool) -> CertificationJob:
        """Return the job once it has ended, run by the running workers or by our own."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(temporary.workers(result.job.priority, out.print))
            except BaseException:
                # otherwise its pairs would stay taken by a job that nobody waits for
                if result.created:
                    follow.cancel(result.job, "No worker was started for it.")
                raise
            return follow.follow_job(result.job, out, quiet=quiet)

    def print_estimate(
        self, out: Console, pairs: list[tuple[AIModel, Region]], options: dict[str, Any]
    ) -> None:
        estimate = estimate_pairs(pairs, options["tier"])
        if options["json"]:
            figures = {
                "runs": len(pairs),
                "calls": estimate.calls,
                "usd": estimate.usd,
                "usdAtMost": estimate.usd_at_most,
                "unpriced": estimate.unpriced,
                "measured": estimate.measured,
            }
            return terminal.print_json(figures)
        out.print(f"{terminal.describe_estimate(estimate)} Nothing was started.")
        return None

    def print_start(self, out: Console, result: DispatchResult) -> None:
        job = result.job
        if result.created:
            out.print(
                f"Job {job.pk} on the {job.get_backend_display()} backend: "
                f"{terminal.describe_estimate(result.estimate)}"
            )
        else:
            out.print(f"Job {job.pk} was already created with this idempotency key.")
        for model, region in result.skipped[:20]:
            out.print(f"Skipped, already running: {model} in {region}")

    def print_end(self, out: Console, job: CertificationJob, options: dict[str, Any]) -> None:
        if options["json"]:
            terminal.print_json(follow.summary(job))
        else:
            runs = job.runs.select_related("model").order_by("model__api_model_id", "region_id")
            out.print(terminal.runs_table(runs[:200]))
            for sentence in terminal.held_back(job):
                out.print(sentence)
            if job.total_runs > 200:
                out.print(
                    f"The first 200 of {job.total_runs} runs. All of them: "
                    f"manage.py job show {job.pk}"
                )
        below = follow.unmet(job, options["require"]) if options["require"] else []
        if below:
            out.print(
                f"{len(below)} of {terminal.pluralize(job.total_runs, 'run')} "
                f"{'is' if len(below) == 1 else 'are'} below '{options['require']}'."
            )
        if below or terminal.exit_code(job):
            sys.exit(1)


def split_commas(names: list[str]) -> list[str]:
    """Split names at commas: `a,b c` is the same as `a b c`."""
    return [part for name in names for part in name.split(",") if part]
