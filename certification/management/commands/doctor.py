"""`manage.py doctor`: everything that can be wrong, with its fix; safe repairs; the archive for who
helps.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich import box
from rich.table import Table

from certification.engine import backend
from certification.management import smoke, support, terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.models import Backend
from certification.monitoring import doctor
from certification.monitoring.checks import FAILURES
from certification.monitoring.findings import Finding, Repair
from certification.operations.site import Site

MAX_COST_USD, PATIENCE_S = 0.05, 120.0  # of the certification after a deployment, as of `smoke`


@dataclass(frozen=True)
class Done:
    """A repair and how it went; `done` is false where it failed, or was not made."""

    check: str
    repair: str
    done: bool
    result: str


class Command(BaseCommand):
    help = (
        "Checks settings, tables, servers, workers, routines, runs, clock, disk, files, accounts, "
        "Bedrock and open alerts, and says why each finding matters and what to do. Exit code 0: "
        "all well, 1: findings, 2: cannot look. Changes nothing without --fix, which makes the "
        "repairs that lose nothing."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--data", action="store_true", help="compare counts with rows: slow")
        parser.add_argument(
            "--after-deploy",
            action="store_true",
            help="then the steps of `smoke`; calls of AWS cost money: pages only without --model",
        )
        parser.add_argument("--model", default="", help="with --after-deploy: what is certified")
        parser.add_argument("--region", default="", help="with --model: where")
        parser.add_argument("--fix", action="store_true", help="repair what is safe, one by one")
        parser.add_argument("--yes", action="store_true", help="with --fix: do not ask")
        parser.add_argument(
            "--dry-run", action="store_true", help="with --fix or --support: only print it"
        )
        parser.add_argument(
            "--support",
            nargs="?",
            const="",
            metavar="FILE",
            help="write an archive (zip) without secrets for who helps",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        check_options(options)
        if options["support"] is not None:
            return self.write_archive(options)
        examinations = doctor.CHECKS | (doctor.DATA if options["data"] else {})
        results = list(doctor.examine(examinations))
        repairs: list[Done] = []
        if options["fix"]:
            repairs = self.repair(results, options)
            names = {repair.check for repair in repairs if repair.done}
            again = {name: examinations[name] for name in names}
            anew = {result.check: result for result in doctor.examine(again)}
            results = [anew.get(result.check, result) for result in results]
        if options["after_deploy"]:
            results += smoke_test(options["model"], options["region"])
        has_findings = any(result.findings for result in results)
        if options["json"]:
            document: dict[str, Any] = {
                "well": not has_findings,
                "checks": [result.to_json() for result in results],
            }
            if options["fix"]:
                document["repairs"] = [asdict(repair) for repair in repairs]
            terminal.print_json(document)
        else:
            terminal.console().print(table_of(results))
            for done in repairs:
                self.stdout.write(f"{done.check}: {done.repair} {done.result}")
            if not options["fix"] and any(repairs_in(results)):
                self.stdout.write("Some of it can be repaired safely: manage.py doctor --fix")
        if has_findings:
            sys.exit(1)
        return None

    def repair(self, results: Sequence[doctor.Result], options: dict[str, Any]) -> list[Done]:
        """Make the repairs that are agreed to, each once."""
        repairs: list[Done] = []
        once = {repair.what: (check, repair) for check, repair in repairs_in(results)}
        for check, repair in once.values():
            if options["dry_run"]:
                repairs.append(Done(check, repair.what, False, "It was not made (--dry-run)."))
            elif options["yes"] or self.agrees(repair):
                repairs.append(make(check, repair))
            else:
                repairs.append(Done(check, repair.what, False, "It was not made."))
        return repairs

    def agrees(self, repair: Repair) -> bool:
        try:
            return input(f"{repair.what} [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            return False

    def write_archive(self, options: dict[str, Any]) -> None:
        name = options["support"] or f"myia-support-{timezone.now():%Y%m%d-%H%M%S}.zip"
        path = Path(name)
        if options["dry_run"]:
            files, verb = ["README.txt", *support.sections(), "logs.jsonl"], "Would write"
        else:
            files, verb = support.write(path), "Wrote"
        if options["json"]:
            return terminal.print_json(
                {"file": str(path), "files": files, "dryRun": options["dry_run"]}
            )
        self.stdout.write(f"{verb} {path}: {', '.join(files)}.")
        return None


def check_options(options: dict[str, Any]) -> None:
    """Raise CommandError for options that do not fit together."""
    fix, has_archive = options["fix"], options["support"] is not None
    if (options["yes"] and not fix) or (options["dry_run"] and not (fix or has_archive)):
        raise CommandError("--yes belongs to --fix, --dry-run to --fix or --support.")
    if options["after_deploy"] and (options["dry_run"] or has_archive):
        raise CommandError("--after-deploy changes more than --dry-run and --support may.")
    if (options["model"] or options["region"]) and not options["after_deploy"]:
        raise CommandError("--model and --region belong to --after-deploy.")
    if fix and has_archive:
        raise CommandError("--fix and --support are two commands: repair first.")
    asks = fix and not (options["yes"] or options["dry_run"])
    if asks and (options["json"] or not sys.stdin.isatty()):
        raise CommandError("--fix asks before each repair: add --yes, or --dry-run to see them.")


def smoke_test(model: str, region: str) -> list[doctor.Result]:
    """Do the steps of `manage.py smoke` on this installation, and return each as a check."""
    is_free = backend.name() != Backend.AWS
    pair = smoke.cheapest_pair(region, model) if model or is_free else None
    site = Site(f"http://127.0.0.1:{settings.PORT}", "")
    steps = smoke.Smoke(site, pair, remote=False, max_cost_usd=MAX_COST_USD, patience_s=PATIENCE_S)
    results = []
    try:
        for step in steps.run():
            why = "Whoever uses the installation meets it."
            findings = () if step.ok else (Finding(step.detail, why, "manage.py logs --errors"),)
            results.append(doctor.Result(f"smoke: {step.name}", findings))
    except KeyboardInterrupt:
        steps.cancel()
        raise
    return results


def repairs_in(results: Iterable[doctor.Result]) -> list[tuple[str, Repair]]:
    return [
        (result.check, finding.repair)
        for result in results
        for finding in result.findings
        if finding.repair
    ]


def make(check: str, repair: Repair) -> Done:
    """Make one repair; one that fails leaves the others to be made."""
    try:
        return Done(check, repair.what, True, repair.run())
    except FAILURES as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return Done(check, repair.what, False, f"It failed ({reason}).")


def table_of(results: list[doctor.Result]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "finding", "why", "fix"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "check")
    for result in results:
        if not result.findings:
            table.add_row(result.check, "well", "", "")
        for finding in result.findings:
            table.add_row(result.check, finding.what, finding.why, finding.fix)
    return table
