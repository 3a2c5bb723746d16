"""`manage.py rescore`: judge stored runs under the current policy."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.progress import track
from rich.table import Table

from certification import checks
from certification.engine import dispatch, rescore
from certification.engine.rescore import Change
from certification.management import terminal
from certification.management.guard import friendly_errors
from certification.suite import versions


class Command(BaseCommand):
    help = (
        "Judges stored runs again under the current policy, without calling any model. Shows what "
        "would change; --write stores the new judgements next to the old ones and updates the "
        "certifications."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--job",
            type=uuid.UUID,
            help="the runs of one job; default: the runs that certifications are based on",
        )
        parser.add_argument(
            "--policy",
            type=int,
            help="the expected policy number; a different one is refused",
        )
        parser.add_argument("--write", action="store_true", help="store the new judgements")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        dispatch.check_not_read_only()
        number = int(versions.POLICY_VERSION.split("-", 1)[0])
        if options["policy"] not in (None, number):
            raise CommandError(
                f"This version judges by policy {number} ({versions.POLICY_VERSION}) only."
            )
        out = terminal.console(stderr=options["json"])
        batches = rescore.finished(options["job"])
        changes: list[Change] = []
        for runs in track(batches, "Judging", console=out, disable=not out.is_terminal):
            judged = list(rescore.runs_to_judge(runs))
            if options["write"]:
                rescore.write(judged)
            changes += judged
        different = [change for change in changes if change.differs]
        if options["json"]:
            return terminal.print_json(changes_json(changes, different, written=options["write"]))
        out.print(changes_table(different[:200]))
        incomplete = sum(change.judgement is None for change in changes)
        written = (
            "The new judgements were stored."
            if options["write"]
            else "Nothing was written. Use --write to store the new judgements."
        )
        out.print(
            f"{terminal.pluralize(len(changes), 'run')} judged by policy "
            f"{versions.POLICY_VERSION}: {len(different)} with another result, "
            f"{incomplete} that could not be judged. {written}"
        )
        return None


def changes_table(changes: list[Change]) -> Table:
    """Show one line per run whose result differs."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Model", "Region", "Then", "Now", "Why"):
        table.add_column(heading, overflow="fold")
    for change in changes:
        run, new = change.run, change.judgement
        if new is not None:
            now = f"{new.verdict} {'' if new.score is None else int(new.score)} {new.rating}"
            then = f"{run.verdict} {'' if run.score is None else run.score} {run.rating}"
            table.add_row(run.model.api_model_id, run.region_id, then, now, new.message)
    return table


def changes_json(
    changes: list[Change], different: list[Change], *, written: bool
) -> dict[str, Any]:
    """Return the changes as the command prints them with --json."""
    return {
        "policy": versions.POLICY_VERSION,
        "judged": len(changes),
        "written": written,
        "changes": [
            {
                "run": str(change.run.pk),
                "model": change.run.model.api_model_id,
                "region": change.run.region_id,
                "before": {
                    "verdict": change.run.verdict,
                    "score": change.run.score,
                    "rating": change.run.rating,
                },
                "after": {
                    "verdict": new.verdict,
                    "score": new.score,
                    "rating": new.rating,
                    "message": new.message,
                },
            }
            for change in different
            if (new := change.judgement) is not None
        ],
        "problems": [
            {"run": str(c.run.pk), "problem": c.problem} for c in changes if c.judgement is None
        ],
    }
