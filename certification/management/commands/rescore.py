"""`manage.py rescore`: stored evidence under today's policy, without a call."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.progress import track
from rich.table import Table

from certification.engine import rescore
from certification.engine.rescore import Change
from certification.management import terminal
from certification.management.guard import friendly_errors
from certification.suite import registry


class Command(BaseCommand):
    help = (
        "Judges stored runs again under today's policy, without a call. Shows what would change; --write keeps the new "
        "judgements beside the old ones and lets certifications follow."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--job",
            type=uuid.UUID,
            help="the runs of one job; default: those certifications stand on",
        )
        parser.add_argument(
            "--policy",
            type=int,
            help="the policy's number, as a safeguard: refuse when it is another",
        )
        parser.add_argument("--write", action="store_true")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        number = int(registry.POLICY_VERSION.split("-", 1)[0])
        if options["policy"] not in (None, number):
            raise CommandError(
                f"This code judges by policy {number} ({registry.POLICY_VERSION}), no other."
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
            return terminal.print_json(_as_json(changes, different, written=options["write"]))
        out.print(_table(different[:200]))
        incomplete = sum(change.judgement is None for change in changes)
        written = (
            "The new judgements were kept."
            if options["write"]
            else "Nothing was written (--write)."
        )
        out.print(
            f"{terminal.pluralize(len(changes), 'run')} judged by policy {registry.POLICY_VERSION}: with another result "
            f"{len(different)}, impossible to judge {incomplete}. {written}"
        )
        return None


def _table(changes: list[Change]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Model", "Region", "Then", "Now", "Why"):
        table.add_column(heading, overflow="fold")
    for change in changes:
        new = change.judgement
        if new is not None:
            now = f"{new.verdict} {'' if new.score is None else int(new.score)} {new.rating}"
            then = f"{change.run.verdict} {'' if change.run.score is None else change.run.score} {change.run.rating}"
            table.add_row(
                change.run.model.api_model_id, change.run.region_id, then, now, new.message
            )
    return table


def _as_json(changes: list[Change], different: list[Change], *, written: bool) -> dict[str, Any]:
    return {
        "policy": registry.POLICY_VERSION,
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
