"""`manage.py bedrock_emulator`: run the emulator of Bedrock."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification.emulator import __main__ as emulator
from certification.emulator.process import CannotListen
from certification.emulator.scenario import ScenarioError


class Command(BaseCommand):
    help = (
        "Runs an emulator of Bedrock on one port: real wire protocol, the models of the catalogue, "
        "faults from a scenario."
    )
    requires_system_checks: list[str] = []  # it needs neither database nor settings

    def add_arguments(self, parser: CommandParser) -> None:
        emulator.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            emulator.run(Namespace(**options))
        except (ScenarioError, CannotListen) as error:
            raise CommandError(str(error)) from error
