"""`manage.py alerts`: what is wrong, who looks after it, and silences."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich import box
from rich.table import Table

from certification import checks
from certification.lib import clock
from certification.management import terminal
from certification.management.arguments import duration
from certification.management.guard import cannot_look, friendly_errors
from certification.models import AlertEpisode, AlertSilence, sql, webhooks
from certification.models.webhooks import WebhookEvent, WebhookSubscription
from certification.monitoring import alerts, prometheus_files
from certification.monitoring.alert_rules import RULES

MAX_ROWS = 100


class Command(BaseCommand):
    help = (
        "Shows the alerts that are open. Exit code 0: none, 1: some, 2: cannot look. What each one "
        "means and what to do is in docs/runbooks.md."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        actions = parser.add_subparsers(dest="action", metavar="ACTION")
        listing = actions.add_parser("list", help="open alerts, the default")
        listing.add_argument("--all", action="store_true", help="the latest ended ones too")
        actions.add_parser("check", help="look at every rule now, as beat does every minute")
        ack = actions.add_parser("ack", help="say that you look after an alert")
        ack.add_argument("alert", help="the beginning of its id")
        silence = actions.add_parser("silence", help="notify nobody of a rule for some time")
        silence.add_argument("rule", help="its name, or `all`")
        silence.add_argument("--subject", default="", help="of this subject only")
        silence.add_argument("--for", dest="duration", default="1h", help="30m, 2h, 7d (1h)")
        silence.add_argument("--reason", required=True)
        actions.add_parser("test", help="send a test alert to every webhook that takes alerts")
        files = actions.add_parser("files", help="write the rules for Prometheus, and its like")
        files.add_argument("--folder", type=Path, default=prometheus_files.FOLDER)
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        match options["action"]:
            case "ack":
                self.acknowledge(options["alert"])
            case "silence":
                self.silence(options)
            case "test":
                self.send_test()
            case "files":
                self.write_files(options["folder"])
            case "check":
                self.check_now(as_json=options["json"])
            case _:
                self.show(as_json=options["json"], every=options.get("all", False))

    def show(self, *, as_json: bool, every: bool) -> None:
        """Print the open alerts; exit with 1 when there are any."""
        rows = AlertEpisode.objects.filter(opened_at__isnull=False) if every else None
        episodes = list((AlertEpisode.objects.open() if rows is None else rows)[:MAX_ROWS])
        if as_json:
            terminal.print_json({"alerts": [to_json(episode) for episode in episodes]})
        elif episodes:
            terminal.console().print(table_of(episodes))
        else:
            self.stdout.write("No alert is open.")
        if any(episode.resolved_at is None for episode in episodes):
            sys.exit(1)

    def check_now(self, *, as_json: bool) -> None:
        """Look at every rule, then show what is open."""
        with sql.advisory_lock(alerts.ADVISORY_LOCK) as is_ours:
            if not is_ours:
                raise CommandError("Another round is looking at the rules. Try again in a moment.")
            result = alerts.run_round()
        for name in result.unknown:
            self.stderr.write(f"{name} could not be measured: a server is away.")
        self.show(as_json=as_json, every=False)

    def acknowledge(self, beginning: str) -> None:
        rows = [e for e in AlertEpisode.objects.open() if str(e.pk).startswith(beginning)]
        if len(rows) != 1:
            raise CommandError(
                f"{len(rows)} open alerts have an id that begins with {beginning!r}. "
                "List them with: manage.py alerts list"
            )
        won = rows[0].acknowledge(getpass.getuser())
        by = rows[0].acknowledged_by
        self.stdout.write(
            f"{rows[0]}: acknowledged." if won else f"{rows[0]}: {by} has it already."
        )

    def silence(self, options: dict[str, Any]) -> None:
        rule = "" if options["rule"] == "all" else options["rule"]
        if rule and rule not in {known.name for known in RULES}:
            names = ", ".join(known.name for known in RULES)
            raise CommandError(f"There is no rule {rule!r}. There are: {names}.")
        until = clock.now() + duration(options["duration"])
        AlertSilence.objects.create(
            rule=rule, subject=options["subject"], reason=options["reason"], until=until
        )
        self.stdout.write(f"Silent until {until:%Y-%m-%d %H:%M} UTC: {rule or 'every rule'}.")

    def write_files(self, folder: Path) -> None:
        """Write the files that follow from the rules."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in prometheus_files.files().items():
                (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{folder} cannot be written: {error.strerror}.") from None
        self.stdout.write(f"Written to {folder}: {', '.join(prometheus_files.files())}")

    def send_test(self) -> None:
        subscriptions = WebhookSubscription.objects.listening_to(WebhookEvent.ALERT_RAISED)
        if not subscriptions:
            raise CommandError(
                "No webhook takes alerts. Add one with the event alert.raised: "
                "/admin/certification/webhooksubscription/"
            )
        webhooks.raise_alert(
            "test", "info", "This is a test of your alerts.", subject={"subject": "", "value": 0}
        )
        hosts = ", ".join(subscription.host for subscription in subscriptions)
        self.stdout.write(f"A test alert is on its way to {hosts}. Its delivery shows how it went.")


def to_json(episode: AlertEpisode) -> dict[str, Any]:
    """Return an alert as the command's JSON has it."""
    return {
        "id": str(episode.pk),
        "rule": episode.rule,
        "subject": episode.subject,
        "severity": episode.severity,
        "message": episode.message,
        "value": episode.value,
        "valueAtOpen": episode.value_at_open,
        "openedAt": episode.opened_at,
        "resolvedAt": episode.resolved_at,
        "acknowledgedBy": episode.acknowledged_by,
        "cause": episode.cause,
        "command": next((rule.command for rule in RULES if rule.name == episode.rule), ""),
        "runbook": f"{alerts.RUNBOOKS}#{episode.rule}",
    }


def table_of(episodes: list[AlertEpisode]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("id", "severity", "rule", "since", "what", "first"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("id", "severity", "since"))
    for episode in episodes:
        opened = episode.opened_at
        state = "resolved" if episode.resolved_at else episode.severity
        follows = f" (follows from {episode.cause})" if episode.cause else ""
        table.add_row(
            str(episode.pk)[:8],
            state,
            episode.rule,
            timezone.localtime(opened).strftime("%m-%d %H:%M") if opened else "",
            episode.message + follows,
            to_json(episode)["command"],
        )
    return table
