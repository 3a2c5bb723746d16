"""`manage.py queue`: what waits and what is worked on; purge."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count, Min
from rich import box
from rich.table import Table

from certification import checks
from certification.engine import backend, pauses
from certification.lib import clock
from certification.management import terminal
from certification.management.arguments import duration
from certification.management.guard import cannot_look, friendly_errors
from certification.models import (
    ACTIVE,
    WAITING,
    CertificationJob,
    CertificationRun,
    PauseCause,
    Priority,
    QueuePause,
)
from certification.monitoring import queue_stats

LONG_WAIT_S = 15 * 60


class Command(BaseCommand):
    help = (
        "Shows what waits and what is worked on, by region and priority, and the workers. Exit "
        "code 0: well, 1: paused, or runs wait for over 15 minutes, 2: cannot look."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("purge", "pause", "resume")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        actions = parser.add_subparsers(dest="action", metavar="ACTION")
        actions.add_parser("show", help="counts and workers, the default")
        actions.add_parser("waiting", help="the runs that wait, oldest first")
        actions.add_parser("active", help="the runs that are worked on")
        purge = actions.add_parser("purge", help="cancel what waits, rows and messages together")
        purge.add_argument("--bulk", action="store_true", required=True, help="of large jobs")
        purge.add_argument("--dry-run", action="store_true", help="only print what it would do")
        pause = actions.add_parser("pause", help="let no run begin; those that have begun go on")
        pause.add_argument("--reason", required=True, help="shown wherever runs wait")
        pause.add_argument("--for", dest="duration", help="it ends by itself after 30m, 2h, 7d")
        resume = actions.add_parser("resume", help="end a pause that a person began")
        for action in (pause, resume):
            action.add_argument(
                "--dry-run", action="store_true", help="only print what it would do"
            )
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        match options["action"]:
            case "waiting":
                self.list_runs(WAITING, as_json=options["json"])
            case "active":
                self.list_runs([s for s in ACTIVE if s not in WAITING], as_json=options["json"])
            case "purge":
                self.purge(dry_run=options["dry_run"])
            case "pause":
                self.pause(options)
            case "resume":
                self.resume(options)
            case _:
                self.show(as_json=options["json"])

    def show(self, *, as_json: bool) -> None:
        """Print counts, workers and regions; exit with 1 when runs wait for long."""
        counts, pause = queue_stats.queue_counts(), QueuePause.objects.current(backend.name())
        workers, regions = queue_stats.ask_workers() or [], count_regions()
        if as_json:
            terminal.print_json(
                {
                    "runs": asdict(counts),
                    "paused": pause.sentence if pause else None,
                    "workers": [asdict(worker) for worker in workers],
                    "regions": regions,
                }
            )
        else:
            self.stdout.write(
                f"{counts.waiting + counts.delayed} wait, {counts.active} active, "
                f"{counts.paused} paused; the oldest waits for {counts.oldest_waiting_s:.0f} s."
            )
            if pause:
                self.stdout.write(pause.sentence)
            for worker in workers:
                self.stdout.write(
                    f"{worker.name}: {worker.active} runs of {', '.join(worker.queues)}; "
                    f"health on port {worker.healthPort or '-'}"
                )
            if not workers:
                self.stdout.write("No worker answers. Start them with: manage.py up")
            if regions:
                terminal.console().print(table_of(regions))
        if pause or counts.oldest_waiting_s > LONG_WAIT_S:
            sys.exit(1)

    def list_runs(self, states: Sequence[str], *, as_json: bool) -> None:
        runs = CertificationRun.objects.filter(status__in=states).order_by("created_at")[:100]
        rows = [
            {
                "id": str(run.pk),
                "job": str(run.job_id),
                "model": run.model.api_model_id,
                "region": run.region_id,
                "priority": run.job.priority,
                "attempt": run.attempt,
                "seconds": round(
                    (clock.now() - (run.started_at or run.created_at)).total_seconds()
                ),
                "worker": run.claimed_by,
            }
            for run in runs.select_related("model", "job")
        ]
        if as_json:
            return terminal.print_json({"runs": rows})
        terminal.console().print(table_of(rows))
        return None

    def pause(self, options: dict[str, Any]) -> None:
        """Let no run begin; exit with 1 when somebody had paused the queue already."""
        reason, length = pauses.one_line(options["reason"]), options["duration"]
        lasts = duration(length) if length is not None else None
        if not reason:
            raise CommandError("--reason is empty. Say why no run may begin.")
        is_done = person_pause() is None
        if is_done and not options["dry_run"]:
            begun = pauses.begin(PauseCause.PERSON, getpass.getuser(), reason, lasts)
            is_done = begun is not None
        self.report("pause the queue", options, is_done=is_done)

    def resume(self, options: dict[str, Any]) -> None:
        """End a person's pause; exit with 1 when there is none."""
        is_done = person_pause() is not None
        if is_done and not options["dry_run"]:
            is_done = pauses.end(PauseCause.PERSON, getpass.getuser()) is not None
        self.report("resume the queue", options, is_done=is_done)

    def report(self, what: str, options: dict[str, Any], *, is_done: bool) -> None:
        """Print how the queue is now, or what a dry run would do, and end."""
        current = QueuePause.objects.current(backend.name())
        if options["json"]:
            changed = is_done and not options["dry_run"]
            terminal.print_json({"paused": current and current.sentence, "changed": changed})
        elif options["dry_run"]:
            self.stdout.write(f"Would {what}." if is_done else "Nothing would change.")
        else:
            self.stdout.write(current.sentence if current else "The queue is not paused.")
        sys.exit(0 if is_done else 1)

    def purge(self, *, dry_run: bool) -> None:
        """Cancel the large jobs that wait; runs that are worked on are cancelled with them."""
        jobs = CertificationJob.objects.filter(
            status__in=ACTIVE, priority=Priority.BULK, backend=backend.name()
        )
        waiting = CertificationRun.objects.filter(job__in=jobs, status__in=ACTIVE).count()
        number = jobs.count()
        if dry_run:
            self.stdout.write(
                f"Would cancel {waiting} runs of {terminal.pluralize(number, 'job')}."
            )
            return
        cancelled = sum(job.cancel() or 0 for job in jobs)
        self.stdout.write(f"Cancelled {cancelled} runs of {terminal.pluralize(number, 'job')}.")


def person_pause() -> QueuePause | None:
    """Return the pause of our queue that a person began."""
    ours = QueuePause.objects.open().filter(backend=backend.name(), cause=PauseCause.PERSON)
    return ours.first()


def count_regions() -> list[dict[str, Any]]:
    """Count the runs that wait or are worked on by region and priority."""
    rows = CertificationRun.objects.filter(status__in=ACTIVE).order_by("region_id", "job__priority")
    return [
        dict(row)
        for row in rows.values("region_id", "job__priority", "status").annotate(
            runs=Count("pk"), oldest=Min("created_at")
        )
    ]


def table_of(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in rows[0] if rows else ():
        table.add_column(str(heading).replace("job__", "").replace("_id", ""))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table
