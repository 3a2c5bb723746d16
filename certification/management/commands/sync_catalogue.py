"""`manage.py sync_catalogue`: update models and routes from Bedrock's own listings."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.progress import track

from certification import checks
from certification.engine import backend, dispatch, sync
from certification.management import terminal
from certification.management.guard import friendly_errors
from certification.models import Region
from certification.stack import temporary

MAX_LINES = 30


class Command(BaseCommand):
    help = (
        "Reads ListFoundationModels and ListInferenceProfiles of every enabled region, and the "
        "models of bedrock-mantle where the region has it, into the catalogue; prints which models "
        "and routes appeared, vanished or changed their lifecycle, which are closed to the account "
        "and where the two endpoints disagree. Exit code 1 when no region answered."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--region", nargs="+", default=[], metavar="REGION", dest="regions")
        parser.add_argument("--dry-run", action="store_true", help="only print what would change")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        dispatch.check_not_read_only()
        out = terminal.console(stderr=options["json"])
        regions = dispatch.find_regions(options["regions"]) or list(Region.objects.enabled())
        with temporary.emulator():
            answers = sync.fetch_listings(backend.bedrock(), [region.code for region in regions])
            progress = track(
                answers,
                "Reading regions",
                total=len(regions),
                console=out,
                disable=not out.is_terminal,
            )
            listings = list(progress)
        changes = sync.apply(listings, dry_run=options["dry_run"])
        if options["json"]:
            terminal.print_json(
                {**asdict(changes), "backend": backend.name(), "dry_run": options["dry_run"]}
            )
        else:
            print_changes(out, changes, dry_run=options["dry_run"])
        if not changes.regions:
            sys.exit(1)


def print_changes(out: Console, changes: sync.Changes, *, dry_run: bool) -> None:
    """Print what a sync changed, up to MAX_LINES lines of each kind."""
    out.print(
        f"{terminal.pluralize(changes.regions, 'region')} answered ({backend.name()})."
        f"{' Nothing was changed.' if dry_run else ''}"
    )
    for title, lines in (
        ("New models", changes.new_models),
        (
            "Lifecycle",
            [f"{model}: {before} -> {after}" for model, before, after in changes.lifecycle],
        ),
        ("Appeared", [f"{target} in {region}" for region, target in changes.appeared]),
        ("Vanished", [f"{target} in {region}" for region, target in changes.vanished]),
        (
            "Closed to this account",
            [f"{model} in {region}: {why}" for region, model, why in changes.gated],
        ),
        (
            "Listed by one endpoint only",
            [f"{model} in {region}: {only}" for region, model, only in changes.disagreements],
        ),
        (
            "Perhaps another id of a model (add it to that model's aliases if it is)",
            [f"{new}: {model}" for new, model in changes.possible_aliases],
        ),
        (
            "Problems",
            [f"{region}: {reason}: {message}" for region, reason, message in changes.problems],
        ),
    ):
        if lines:
            out.print(f"\n{title} ({len(lines)})", style="bold")
            for line in lines[:MAX_LINES]:
                out.print(f"  {line}")
            if len(lines) > MAX_LINES:
                out.print(f"  and {len(lines) - MAX_LINES} more; all of them with --json")
    if not changes.regions:
        out.print("No region answered, so nothing was changed.")
    elif changes.is_empty:
        out.print("The catalogue is up to date.")
