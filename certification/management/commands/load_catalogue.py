"""`manage.py load_catalogue`: the shipped catalogue into the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from certification.management.guard import friendly_errors
from certification.models.catalogue import load_shipped


class Command(BaseCommand):
    help = "Loads the shipped catalogue of models, regions and routes. Repeatable; newer facts and your switches are kept."

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        done = load_shipped()
        self.stdout.write(
            f"Models: {done.models_created} new, {done.models_updated} updated. Routes: {done.routes_created} new. "
            f"Regions: {done.regions_created} new."
        )
