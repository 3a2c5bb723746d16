"""`manage.py certify`: start a job, and follow it to its verdicts."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification.engine import dispatch, queue
from certification.engine.dispatch import CertifyOptions, DispatchResult
from certification.management import follow, terminal
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
    help = "Certifies models in regions. Exit code 1 when the job brings no verdict, or one below --require."

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
            help="default: full (about 133 calls a pair)",
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
            help="with --max-cost: start models without a known price too, at whatever they cost",
        )
        parser.add_argument(
            "--seed", type=int, help="ask with the same prompts as an earlier run (0 to 4294967295)"
        )
        parser.add_argument(
            "--idempotency-key", default="", metavar="KEY", help="the same key returns the same job"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only say what it would do and cost"
        )
        parser.add_argument(
            "--wait", action="store_true", help="follow the job to its end; Ctrl-C cancels it"
        )
        parser.add_argument(
            "--require",
            choices=["certified", "quality_warning"],
            help="the verdict that must be met",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @terminal.friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        self.out = terminal.console(stderr=options["json"])
        temporary.database(self.out.print)
        regions = dispatch.find_regions(_split(options["regions"])) or list(
            Region.objects.enabled()
        )
        pairs, job_type = self._pairs(options, regions)
        certify_options = _wish(options)
        if options["dry_run"]:
            return self._tell_estimate(
                dispatch.estimate_pairs(pairs, certify_options.tier), len(pairs), options["json"]
            )
        waits = options["wait"] or options["require"]
        if waits:
            # without Redis there is nothing to wait for: no job is written
            queue.ping_broker()
        follow.resume_queue()
        alive = 0 if waits else terminal.workers_for(certify_options.priority or Priority.BULK)
        done = dispatch.certify(pairs, certify_options, job_type=job_type)
        self._tell_start(done)
        if waits:
            self._tell_end(self._follow(done, quiet=options["json"]), options)
        elif options["json"]:
            terminal.say_json(follow.summary(done.job))
        else:
            self.out.print(terminal.queued_hint(done.job, alive))
        return None

    def _follow(self, done: DispatchResult, *, quiet: bool) -> CertificationJob:
        """The job as it ended, worked on by the running workers, or by ones of our own."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(temporary.workers(self.out.print))
            except BaseException:
                # otherwise its pairs would stay taken by a job that nobody waits for
                if done.created:
                    terminal.cancel(done.job, "No worker was started for it.")
                raise
            return terminal.follow_job(done.job, self.out, quiet=quiet)

    def _pairs(
        self, options: dict[str, Any], regions: list[Region]
    ) -> tuple[list[tuple[AIModel, Region]], str]:
        every = next(
            (f"--{name}" for name in ("all", "failed", "uncertified", "stale") if options[name]), ""
        )
        if every and options["models"]:
            raise CommandError(
                f"{every} chooses the models itself: leave out {', '.join(options['models'][:3])}."
            )
        if options["all"]:
            return dispatch.offered_pairs(AIModel.objects.active(), regions), JobType.ALL_MODELS
        if every:
            standings = ModelCertification.objects.in_regions(regions)
            rows, what = {
                "--failed": (standings.failed(), "has failed"),
                "--uncertified": (standings.not_certified(), "is tested and not certified"),
                "--stale": (standings.expired(), "has expired"),
            }[every]
            pairs = [(row.model, row.region) for row in rows.select_related("model", "region")]
            if not pairs:
                raise CommandError(f"Nothing to certify: no pair {what} in these regions.")
            return pairs, JobType.RECERTIFY
        if not options["models"]:
            raise CommandError(
                "Name at least one model, or use --all, --failed, --uncertified or --stale."
            )
        models = dispatch.find_models(_split(options["models"]))
        if options["regions"]:
            return dispatch.pairs_of(models, regions), ""
        return dispatch.offered_pairs(models, regions), ""

    def _tell_estimate(self, estimate: dispatch.Estimate, runs: int, as_json: bool) -> None:
        if as_json:
            terminal.say_json(
                {
                    "runs": runs,
                    "calls": estimate.calls,
                    "usd": estimate.usd,
                    "unpriced": estimate.unpriced,
                }
            )
            return
        unpriced = (
            f"; {terminal.pluralize(estimate.unpriced, 'run')} without a known price"
            if estimate.unpriced
            else ""
        )
        self.out.print(
            f"{terminal.pluralize(runs, 'run')}, about {terminal.pluralize(estimate.calls, 'call')} and {estimate.usd:.4f} USD{unpriced}. Nothing was started."
        )

    def _tell_start(self, done: DispatchResult) -> None:
        job = done.job
        self.out.print(
            f"Job {job.pk}: {terminal.pluralize(job.total_runs, 'run')} on the {job.get_backend_display()} backend, about "
            f"{terminal.pluralize(done.estimate.calls, 'call')} and {done.estimate.usd:.4f} USD."
            if done.created
            else f"Job {job.pk} was already created with this idempotency key."
        )
        for model, region in done.skipped[:20]:
            self.out.print(f"Skipped, already running: {model} in {region}")

    def _tell_end(self, job: CertificationJob, options: dict[str, Any]) -> None:
        if options["json"]:
            terminal.say_json(follow.summary(job))
        else:
            runs = job.runs.select_related("model").order_by("model__api_model_id", "region_id")
            self.out.print(terminal.runs_table(runs[:200]))
            for sentence in terminal.held_back(job):
                self.out.print(sentence)
            if job.total_runs > 200:
                self.out.print(
                    f"The first 200 of {job.total_runs} runs. All of them: manage.py job show {job.pk}"
                )
        below = follow.unmet(job, options["require"]) if options["require"] else []
        if below:
            self.out.print(
                f"{len(below)} of {terminal.pluralize(job.total_runs, 'run')} {'is' if len(below) == 1 else 'are'} below '{options['require']}'."
            )
        if below or terminal.exit_code(job):
            sys.exit(1)


def _split(names: list[str]) -> list[str]:
    return [part for name in names for part in name.split(",") if part]


def _wish(options: dict[str, Any]) -> CertifyOptions:
    return CertifyOptions(
        tier=options["tier"],
        priority=options["priority"],
        idempotency_key=options["idempotency_key"],
        max_cost_usd=options["max_cost"],
        allow_unpriced=options["allow_unpriced"],
        seed=options["seed"],
        config={"concurrency": settings.CERTIFICATION_CONCURRENCY},
    )
