"""`manage.py load_catalogue`: load the shipped catalogue into the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from certification import checks
from certification.management.guard import friendly_errors
from certification.models.catalogue import load_shipped


class Command(BaseCommand):
    help = (
        "Loads the shipped catalogue of models, regions and routes. Can be repeated: newer facts "
        "and what you enabled or disabled stay."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("",)

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        counts = load_shipped()
        self.stdout.write(
            f"Models: {counts.models_created} new, {counts.models_updated} updated. "
            f"Routes: {counts.routes_created} new. Regions: {counts.regions_created} new."
        )
