"""`manage.py health_monitor`: look at everything again and again, and print what changes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich import box
from rich.table import Table

from certification.checks import TAG
from certification.engine import webhooks
from certification.lib import foreign_text
from certification.management import terminal
from certification.management.guard import cannot_look, errors_only, sigterm_as_ctrl_c
from certification.models import Severity, WebhookSubscription
from certification.models.webhooks import WebhookEvent
from certification.monitoring import channels, checks, site_health
from certification.monitoring.checks import FAILURES
from certification.operations.site import NotAnswered, Site

MIN_INTERVAL_S = 1.0
CONFIRMED = 2  # looks in a row until somebody is alerted
States = Mapping[str, str]


class Command(BaseCommand):
    help = (
        "Looks at database, Redis, workers, beat, alerts, storage, Bedrock and web again and "
        "again, and prints what changes, until Ctrl-C. Exit code 0: well at the last look, 1: not, "
        "2: cannot look."
    )
    requires_system_checks: list[str] = [TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="look once")
        parser.add_argument("--interval", type=float, default=10.0, help="seconds, 10 by default")
        parser.add_argument(
            "--alert",
            action="store_true",
            help="send changes that two looks confirm to the channels of ALERT_URLS and to the "
            "webhooks that take alerts, from here: database and workers may be down",
        )
        parser.add_argument("--url", default="", help="of the web server; default: this machine's")
        parser.add_argument("--json", action="store_true", help="print one JSON document a line")

    @cannot_look
    def handle(self, *args: Any, **options: Any) -> None:
        if not options["interval"] >= MIN_INTERVAL_S:
            raise CommandError(f"--interval is at least {MIN_INTERVAL_S:g} second.")
        self.as_json = options["json"]
        web = Site(options["url"] or f"http://127.0.0.1:{settings.PORT}")
        states: States = {}
        with errors_only():
            alarm = Alarm() if options["alert"] else None
            # its own block: SIGTERM ends it as Ctrl-C does
            with suppress(KeyboardInterrupt), sigterm_as_ctrl_c():
                while True:
                    at, before, states = timezone.now(), states, read_states(web)
                    if not before and checks.OVERDUE in states.values():
                        # a process that just started connects and imports: ask once more
                        states = read_states(web)
                    self.show(at, before, states)
                    if alarm and (message := alarm.observe(states)):
                        self.stderr.write(message)
                    if options["once"]:
                        break
                    time.sleep(options["interval"])
        if not is_well(states):
            sys.exit(1)

    def show(self, at: datetime, before: States, states: States) -> None:
        """Print all states at first, then those that changed."""
        changed = {name: state for name, state in states.items() if before.get(name) != state}
        if not changed:
            return
        if self.as_json:
            document = {"at": at, "healthy": is_well(states), "checks": states}
            if before:
                document["changed"] = {
                    n: {"from": before.get(n), "to": s} for n, s in changed.items()
                }
            text = json.dumps(document, default=str, ensure_ascii=False)
            self.stdout.write(foreign_text.escape_json(text))
        elif not before:
            terminal.console().print(table_of(states))
        else:
            for name, state in changed.items():
                line = f"{timezone.localtime(at):%H:%M:%S} {name}: {before.get(name)} -> {state}"
                self.stdout.write(foreign_text.escape(line))
        self.stdout.flush()


class Alarm:
    """Notifies the channels of the settings, and the webhooks that take alerts as the database had
    them when it last answered.
    """

    def __init__(self) -> None:
        self._looks = 0
        self._is_well = self._notified = True
        self._subscriptions: Sequence[WebhookSubscription] = ()

    def observe(self, states: States) -> str:
        """Return what was sent, or why not; empty when there was nothing to send."""
        with suppress(*FAILURES):
            # whole rows: none can be read when the database is down
            active = WebhookSubscription.objects.filter(is_active=True)
            self._subscriptions = list(active.filter(events__contains=[WebhookEvent.ALERT_RAISED]))
        well = is_well(states)
        self._looks = self._looks + 1 if well == self._is_well else 1
        self._is_well = well
        if self._looks < CONFIRMED or well == self._notified:
            return ""
        self._notified = well
        return self.notify(states)

    def notify(self, states: States) -> str:
        faults = {name: state for name, state in states.items() if state != "ok"}
        message = "; ".join(f"{name}: {state}" for name, state in faults.items()) or "All is well."
        results = [
            f"{channel.name}: {channels.attempt(channel, 'MyIA: health', message) or 'sent'}"
            for channel in channels.configured()
            if channel.level == 1 and (faults or not channel.is_critical_only)
        ]
        alert = {
            "name": "health_monitor",
            "severity": Severity.CRITICAL if faults else "info",
            "message": message,
            "subject": dict(states),
            "raisedAt": timezone.now(),
        }
        for subscription in self._subscriptions:
            event = WebhookEvent.ALERT_RAISED
            fault = webhooks.send_now(subscription, event, {"alert": alert})
            results.append(f"{subscription.host}: {fault or 'sent'}")
        if not results:
            return "Nobody is to be notified: nothing was sent. Set ALERT_URLS, or add a webhook."
        return f"Alert ({message}) {'; '.join(results)}"


def read_states(web: Site) -> States:
    """Return the state of everything, 'ok' or what is wrong, each within a second."""
    site_health.everything.forget()
    states = dict(site_health.everything.get())
    try:
        answer = web.get("/live", answer_s=checks.CHECK_TIMEOUT_S)
        states["web"] = "ok" if answer.status == 200 else f"error: it answered {answer.status}"
    except NotAnswered as fault:
        states["web"] = f"error: {fault}"
    return states


def is_well(states: States) -> bool:
    return set(states.values()) == {"ok"}


def table_of(states: States) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "state"):
        table.add_column(heading, overflow="fold")
    for name, state in states.items():
        table.add_row(name, state)
    return table
