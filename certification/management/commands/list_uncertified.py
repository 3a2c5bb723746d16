"""`manage.py list_uncertified`: list the offered pairs that are not certified."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.paginator import Paginator
from rich import box
from rich.table import Table
from rich.text import Text

from certification import checks
from certification.engine import dispatch
from certification.management import terminal
from certification.management.guard import friendly_errors
from certification.models import AIModel, ModelCertification, Region
from certification.reasons import Status

PAGE = 200


class Command(BaseCommand):
    help = "Lists the active models that are not certified in the regions that offer them."
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--regions", nargs="+", default=[], metavar="REGION")
        parser.add_argument("--vendor", default="")
        parser.add_argument("--all", action="store_true", help="include certified pairs")
        parser.add_argument("--page", type=int, default=1, help=f"{PAGE} pairs per page")
        parser.add_argument(
            "--json", action="store_true", help="print every pair as one JSON document"
        )

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        rows = self.find_rows(options)
        if options["json"]:
            return terminal.print_json(rows)
        page = Paginator(rows, PAGE).get_page(options["page"])
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("Model", "Region", "Status", "Score", "API", "Last tested"):
            table.add_column(heading, overflow="fold")
        for row in page:
            symbol, colour = terminal.symbol(row["status"])
            status = Text(f"{symbol} {row['status'].replace('_', ' ')}", colour)
            if row["heldBack"]:
                status.append(f"\n{row['heldBack']}", "dim")
            api = terminal.api_words(row["endpoint"], row["api"])
            score = "" if row["score"] is None else f"{row['score']} {row['rating']}"
            tested = row["lastTestedAt"].strftime("%Y-%m-%d %H:%M") if row["lastTestedAt"] else ""
            table.add_row(row["model"], row["region"], status, score, api, tested)
        out = terminal.console()
        out.print(table if rows else "Every offered pair is certified.")
        pairs = terminal.pluralize(len(rows), "pair")
        out.print(f"{pairs}, page {page.number} of {page.paginator.num_pages}")
        return None

    def find_rows(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the chosen pairs as the command prints them with --json. Raises CommandError."""
        regions = dispatch.find_regions(options["regions"]) or list(Region.objects.enabled())
        models = AIModel.objects.active()
        if options["vendor"]:
            models = models.filter(vendor__iexact=options["vendor"])
            if not models.exists():
                vendors = AIModel.objects.order_by("vendor").values_list("vendor", flat=True)
                raise CommandError(
                    f"No active model has the vendor {options['vendor']!r}. Vendors: "
                    f"{', '.join(vendors.distinct())}."
                )
        certifications = {
            (row.model_id, row.region_id): row
            for row in ModelCertification.objects.in_regions(regions)
            .select_related("run")
            .defer("run__environment")
        }
        untested = ModelCertification(status=Status.NOT_TESTED)
        rows = []
        for model, region in dispatch.offered_pairs(models, regions):
            certification = certifications.get((model.pk, region.pk), untested)
            run = certification.run
            if certification.status != Status.CERTIFIED or options["all"]:
                rows.append(
                    {
                        "model": model.api_model_id,
                        "region": region.pk,
                        "status": str(certification.status),
                        "score": certification.score,
                        "rating": certification.rating,
                        "endpoint": (run.endpoint or None) if run else None,
                        "api": (run.api or None) if run else None,
                        "lastTestedAt": certification.last_tested_at,
                        "heldBack": certification.held_back or None,
                        "confirmAfter": certification.confirm_after,
                    }
                )
        return rows
