"""`manage.py job`: look at jobs, retry and cancel them."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.paginator import Paginator

from certification import checks
from certification.engine import dispatch
from certification.management import follow, terminal
from certification.management.guard import friendly_errors
from certification.models import CertificationJob, Priority, State

PAGE = 100


class Command(BaseCommand):
    help = "Shows, retries and cancels certification jobs."
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("cancel", "retry")

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb, text in (
            ("show", "one job with its runs"),
            (
                "retry",
                "start a new job for the runs that failed: those that ended without a verdict",
            ),
            ("cancel", "cancel the runs that have not finished"),
        ):
            one = verbs.add_parser(verb, help=text)
            one.add_argument("id", help="the job's id, or its first characters")
            one.add_argument("--json", action="store_true", help="print one JSON document")
            if verb == "retry":
                one.add_argument(
                    "--cancelled", action="store_true", help="retry the cancelled runs too"
                )
            if verb == "show":
                one.add_argument(
                    "--page", type=int, default=1, help=f"page of runs, {PAGE} per page"
                )
        many = verbs.add_parser("list", help="the newest jobs")
        many.add_argument(
            "--failed",
            action="store_true",
            help="only failed jobs: those without a verdict for any run",
        )
        many.add_argument("--page", type=int, default=1, help="20 jobs per page")
        many.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, options["verb"])(options)

    def show(self, options: dict[str, Any]) -> None:
        job = find_job(options["id"])
        if options["json"]:
            return terminal.print_json(follow.summary(job))
        out = terminal.console()
        out.print(terminal.jobs_table([job]))
        pages = Paginator(
            job.runs.select_related("model").order_by("model__api_model_id", "region_id"), PAGE
        )
        page = pages.get_page(options["page"])
        out.print(terminal.runs_table(page))
        if pages.num_pages > 1:
            out.print(
                f"Page {page.number} of {pages.num_pages}; next page: --page {page.number + 1}"
            )
        for sentence in terminal.held_back(job):
            out.print(sentence)
        comparison = job.config.get("comparison") or {}
        for difference in comparison.get("parity", ()):
            out.print(terminal.parity_sentence(difference))
        if comparison.get("fingerprints"):
            out.print(terminal.fingerprints_table(comparison["fingerprints"]))
        return None

    def list(self, options: dict[str, Any]) -> None:
        jobs = CertificationJob.objects.all()
        if options["failed"]:
            jobs = jobs.filter(status=State.FAILED)
        page = Paginator(jobs, 20).get_page(options["page"])
        if options["json"]:
            fields = (
                "id",
                "type",
                "tier",
                "status",
                "total_runs",
                "succeeded_runs",
                "failed_runs",
                "cancelled_runs",
                "backend",
                "created_at",
            )
            return terminal.print_json(
                [{name: getattr(job, name) for name in fields} for job in page]
            )
        out = terminal.console()
        out.print(terminal.jobs_table(page) if page else "There are no such jobs.")
        if page.paginator.num_pages > 1:
            out.print(f"Page {page.number} of {page.paginator.num_pages}")
        return None

    def retry(self, options: dict[str, Any]) -> None:
        job = find_job(options["id"])
        workers = follow.workers_for(Priority.BULK)
        result = dispatch.retry(job, cancelled=options["cancelled"])
        if options["json"]:
            return terminal.print_json(follow.summary(result.job))
        self.stdout.write(
            f"Job {result.job.pk}: {terminal.pluralize(result.job.total_runs, 'run')}."
        )
        self.stdout.write(follow.queued_hint(result.job, workers))
        return None

    def cancel(self, options: dict[str, Any]) -> None:
        job = find_job(options["id"])
        cancelled = job.cancel()
        if cancelled is None:
            raise CommandError(f"Job {job.pk} has already ended: {job.status}.")
        if options["json"]:
            return terminal.print_json(
                {"jobId": str(job.pk), "status": State.CANCELLED, "cancelled": cancelled}
            )
        self.stdout.write(
            f"Cancelled job {job.pk}: {terminal.pluralize(cancelled, 'run')} had not finished."
        )
        return None


def find_job(prefix: str) -> CertificationJob:
    """Return the job with this id, or the only one whose id starts so. Raises CommandError."""
    try:
        matches = list(CertificationJob.objects.filter(pk=uuid.UUID(prefix)))
    except ValueError:
        matches = [
            job
            for job in CertificationJob.objects.all()[:5000]
            if str(job.pk).startswith(prefix.lower())
        ]
    if len(matches) != 1:
        problem = "No job has" if not matches else "Several jobs have"
        raise CommandError(f"{problem} an id that starts with {prefix!r}. See: manage.py job list")
    return matches[0]
