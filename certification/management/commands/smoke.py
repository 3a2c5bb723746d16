"""`manage.py smoke`: does the whole installation work, from the page to the badge?"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification import checks
from certification.engine import backend
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.management.smoke import Pair, Smoke, cheapest_pair
from certification.models import Backend
from certification.operations.site import Site

MAX_KEY_BYTES = 1_000


class Command(BaseCommand):
    help = (
        "Checks a running installation after a deployment: health, pages, API, and one quick "
        "certification by its own workers, from the queue to evidence and badge. Its job has the "
        "note 'smoke test' and stays, as every run. Exit code 0: all steps went well, 1: one did "
        "not, 2: cannot look."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "model", nargs="?", help="a cheap one; default on the emulator: the cheapest"
        )
        parser.add_argument("--region", default="", help="default: the first that offers it")
        parser.add_argument(
            "--url", default="", help="another installation; its certification needs --key-file"
        )
        parser.add_argument(
            "--key-file", metavar="FILE", help="has an API key of an operator of --url"
        )
        parser.add_argument(
            "--max-cost", type=float, default=0.05, metavar="USD", help="0.05 by default"
        )
        parser.add_argument("--pages-only", action="store_true", help="certify nothing")
        parser.add_argument(
            "--timeout", type=float, default=120, help="seconds for the certification, 120"
        )
        parser.add_argument("--dry-run", action="store_true", help="only print the steps")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    def handle(self, *args: Any, **options: Any) -> None:
        remote = bool(options["url"])
        site = Site(options["url"] or f"http://127.0.0.1:{settings.PORT}", key_of(options))
        only_pages = options["pages_only"] or (remote and not site.key)
        if options["pages_only"] or remote:
            pair = None if only_pages else named_pair(options)
            return self.examine(site, pair, remote, options)
        return self.examine_here(site, options)

    @friendly_errors
    def examine_here(self, site: Site, options: dict[str, Any]) -> None:
        """Examine this installation, whose database is ours too."""
        self.examine(site, chosen_pair(options), False, options)

    def examine(self, site: Site, pair: Pair | None, remote: bool, options: dict[str, Any]) -> None:
        """Print each step as it ends; exit with 1 when one did not go well."""
        smoke = Smoke(site, pair, remote, options["max_cost"], options["timeout"])
        if options["dry_run"]:
            return self.show_plan(smoke, as_json=options["json"])
        steps = []
        try:
            for step in smoke.run():
                steps.append(step)
                if not options["json"]:
                    sign = self.style.SUCCESS("ok    ") if step.ok else self.style.ERROR("failed")
                    self.stdout.write(
                        f"{sign} {step.name:<13} {step.seconds:6.2f} s  {step.detail}"
                    )
        except KeyboardInterrupt:
            smoke.cancel()
            raise
        well = all(step.ok for step in steps)
        if options["json"]:
            document = {
                "well": well,
                "url": site.url,
                "model": pair.model if pair else None,
                "region": pair.region if pair else None,
                "jobId": smoke.job_id or None,
                "verdict": smoke.verdict or None,
                "steps": [asdict(step) for step in steps],
            }
            terminal.print_json(document)
        elif remote and pair is None and not options["pages_only"]:
            self.stdout.write("Nothing was certified: that needs --key-file.")
        if not well:
            sys.exit(1)
        return None

    def show_plan(self, smoke: Smoke, *, as_json: bool) -> None:
        """Say what would be done."""
        names = list(smoke.steps())
        pair = smoke.pair
        if as_json:
            plan = {"url": smoke.site.url, "steps": names, "maxCostUsd": smoke.max_cost_usd}
            plan |= {"model": pair and pair.model, "region": pair and pair.region}
            return terminal.print_json({**plan, "dryRun": True})
        what = (
            f" with {pair.model} in {pair.region}, at most {smoke.max_cost_usd:g} USD"
            if pair
            else ""
        )
        self.stdout.write(f"Would check {smoke.site.url}: {', '.join(names)}{what}.")
        return None


def key_of(options: dict[str, Any]) -> str:
    """Return the key in --key-file. Raises CommandError, which does not repeat it."""
    if not options["key_file"]:
        return ""
    if not options["url"]:
        raise CommandError("--key-file belongs to --url; this installation needs no key.")
    key = ""
    with suppress(OSError, ValueError), Path(options["key_file"]).open(encoding="ascii") as file:
        key = file.read(MAX_KEY_BYTES).strip()
    if not key or not key.isprintable() or " " in key:
        raise CommandError("--key-file is a file that has one API key and nothing else.")
    return key


def named_pair(options: dict[str, Any]) -> Pair:
    """Return the pair that the options name. Raises CommandError."""
    if not options["model"] or not options["region"]:
        raise CommandError("Name a cheap model, and --region: its certification costs money.")
    return Pair(options["model"], options["region"])


def chosen_pair(options: dict[str, Any]) -> Pair:
    """Return the pair that is named, or the cheapest where calls cost nothing. Raises
    CommandError.
    """
    if not options["model"] and backend.name() == Backend.AWS:
        raise CommandError(
            "Name a cheap model: calls of AWS cost money. For example: "
            "manage.py smoke amazon.nova-micro-v1:0 --region us-east-1"
        )
    pair = cheapest_pair(options["region"], options["model"] or "")
    if pair is None:
        raise CommandError(
            "No such model is offered in an enabled region. See: manage.py list_uncertified --all"
        )
    return pair
