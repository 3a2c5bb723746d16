"""`manage.py alerts`: what is wrong, who looks after it, and silences."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
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
from certification.monitoring import alerts, channels, notifications, prometheus_files, runbooks
from certification.monitoring.alert_rules import RULES
from certification.monitoring.channels import Channel

MAX_ROWS = 100


class Command(BaseCommand):
    help = (
        "Shows the alerts that are open. Exit code 0: none, 1: some, 2: cannot look. What each one "
        "means and what to do is in its runbook."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("ack", "silence")

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
        test = actions.add_parser("test", help="send a test to every channel and webhook of alerts")
        test.add_argument("--channel", default="", help="only to this one: its name or key")
        actions.add_parser("channels", help="who is notified, and how it went last")
        files = actions.add_parser("files", help="write the rules for Prometheus, and its like")
        files.add_argument("--folder", type=Path, default=prometheus_files.FOLDER)
        actions.add_parser("runbooks", help="print what to do about each, as Markdown")
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
                self.send_test(options["channel"], as_json=options["json"])
            case "channels":
                self.show_channels(channels.configured(), as_json=options["json"])
            case "files":
                self.write_files(options["folder"])
            case "runbooks":
                self.stdout.write(runbooks.document(), ending="")
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
        notifications.deliver()
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

    def send_test(self, only: str, *, as_json: bool) -> None:
        """Send a test and show how it went; exit with 1 when a channel did not accept it."""
        tested = [
            channel
            for channel in channels.configured()
            if only in ("", channel.name, channel.key, channel.key[:4])
        ]
        hosts = [] if only else self.test_webhooks()
        if not tested and not hosts:
            raise CommandError(
                f"There is no channel {only!r}. List them with: manage.py alerts channels"
                if only
                else "Nobody is notified of alerts. Set ALERT_URLS, or add a webhook with the "
                "event alert.raised: /admin/certification/webhooksubscription/"
            )
        for channel in {channel.key: channel for channel in tested}.values():
            channels.send_test(channel)
        if tested or as_json:
            self.show_channels(tested, as_json=as_json)
        if hosts and not as_json:
            self.stdout.write(
                f"A test alert is on its way to {', '.join(hosts)}. Its delivery shows how it went."
            )
        if any(channel.row.error for channel in tested):
            sys.exit(1)

    def test_webhooks(self) -> list[str]:
        """Send a test to every webhook of alerts; return their hosts."""
        subscriptions = WebhookSubscription.objects.listening_to(WebhookEvent.ALERT_RAISED)
        if subscriptions:
            text = "This is a test of your alerts."
            webhooks.raise_alert("test", "info", text, subject={"subject": "", "value": 0})
        return [subscription.host for subscription in subscriptions]

    def show_channels(self, shown: Sequence[Channel], *, as_json: bool) -> None:
        if as_json:
            terminal.print_json({"channels": [channel_json(channel) for channel in shown]})
        elif shown:
            terminal.console().print(table_of_channels(shown))
        else:
            self.stdout.write("No channel is configured. Set ALERT_URLS: docs/operations.md")


def channel_json(channel: Channel) -> dict[str, Any]:
    """Return a channel as the command's JSON has it: without its address."""
    row = channel.row
    return {
        "key": channel.key,
        "name": channel.name,
        "level": channel.level,
        "severities": ["critical"] if channel.is_critical_only else ["warning", "critical"],
        "lastSuccessAt": row.last_success_at,
        "lastAttemptAt": row.last_attempt_at,
        "failures": row.failures,
        "error": row.error,
    }


def table_of_channels(shown: Sequence[Channel]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("channel", "level", "of", "worked last", "failed since, why"):
        table.add_column(heading, overflow="fold")
    for channel in shown:
        row = channel.row
        worked = timezone.localtime(row.last_success_at) if row.last_success_at else None
        table.add_row(
            channel.name,
            f"L{channel.level}",
            "critical" if channel.is_critical_only else "every alert",
            worked.strftime("%m-%d %H:%M") if worked else "never",
            f"{row.failures} times: {row.error}" if row.error else "",
        )
    return table


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
        "runbook": runbooks.address(episode.rule),
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
