"""The channels of the settings on which people are notified: mail, chats, webhooks and what else
Apprise knows.

Addresses of channels are secrets: they are stored nowhere, and hidden in everything that is shown.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import structlog
from django.conf import settings
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from certification.lib import foreign_text
from certification.lib.counters import counters
from certification.models import AlertChannel

log = structlog.get_logger(__name__)

MESSAGES = "alert_messages_total"
LEVELS = {"": 1, "CRITICAL": 1, "L2": 2, "L3": 3, "L4": 4}
# kinds of addresses whose host is no secret
HOSTS = frozenset({"json", "jsons", "form", "forms", "xml", "xmls", "mailto", "mailtos"})
KIND = re.compile(r"[A-Za-z0-9+.-]{1,20}")
MIN_SECRET = 3  # letters: what is shorter is not hidden in the reason of a failure
FAILED = 2  # attempts in a row after which a channel counts as failed


@dataclass(frozen=True)
class Channel:
    """A configured channel. `name` and `key` are no secrets."""

    url: str = field(repr=False)
    level: int
    is_critical_only: bool

    @property
    def key(self) -> str:
        return salted_hmac("alert channel", self.url).hexdigest()[:12]

    @property
    def kind(self) -> str:
        kind, separator, _rest = self.url.partition("://")
        return kind.lower() if separator and KIND.fullmatch(kind) else "unknown"

    @property
    def host(self) -> str:
        """The host, "" where it may be a secret."""
        if self.kind in HOSTS:
            with suppress(ValueError):
                return foreign_text.clean(urlsplit(self.url).hostname or "")
        return ""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.host[:60]}".strip() + f" ({self.key[:4]})"

    @property
    def row(self) -> AlertChannel:
        """How it went with this channel; not stored yet when it was never used."""
        stored = AlertChannel.objects.filter(pk=self.key).first()
        return stored or AlertChannel(key=self.key, name=self.name)


def configured() -> list[Channel]:
    """Return the channels of the settings, each once, the first levels first."""
    channels: dict[tuple[str, int], Channel] = {}
    for name, level in LEVELS.items():
        for url in settings.ALERT_SECRET_URLS.get(name, ()):
            channels.setdefault((url, level), Channel(url, level, is_critical_only=name != ""))
    return list(channels.values())


def failed(channels: Iterable[Channel]) -> set[str]:
    """Return the keys of those of the channels that failed FAILED times in a row."""
    keys = [channel.key for channel in channels]
    rows = AlertChannel.objects.filter(pk__in=keys, failures__gte=FAILED)
    return set(rows.values_list("pk", flat=True))


def send(channel: Channel, title: str, body: str) -> str:
    """Send one message and record how it went; return "" or why it was not accepted."""
    error = attempt(channel, title, body)
    channel.row.record(error)
    counters.add(MESSAGES, {"channel": channel.name, "outcome": "failed" if error else "sent"})
    if error:
        log.warning("alert_message_failed", channel=channel.name, error=error)
    else:
        log.info("alert_message_sent", channel=channel.name)
    return error


def attempt(channel: Channel, title: str, body: str) -> str:
    """Send by Apprise; return "" or why it was not accepted."""
    import apprise  # noqa: PLC0415 - 40 MB, which only who has channels should pay

    service = apprise.Apprise()
    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as captured:
        try:
            is_known = service.add(channel.url)
            is_sent = is_known and service.notify(title=title, body=body)
        except Exception as problem:  # noqa: BLE001 - plugins of many hands; a round must go on
            is_known, is_sent = True, False
            captured.write(type(problem).__name__)
        lines = captured.getvalue()
    if is_sent:
        return ""
    if not is_known:
        return "Apprise does not know this kind of address, or something in it is missing."
    reason = foreign_text.clean(hide(channel, " ".join(lines.split())))
    return reason[:300] or "The channel did not accept the message."


def hide(channel: Channel, text: str) -> str:
    """Return a text without anything that is part of a channel's address, but for its kind and a
    host that is no secret.
    """
    parts = {channel.url}
    for form in (channel.url, unquote(channel.url)):
        parts |= {*re.split(r"[/:@?&=,;#+%\s]+", form), *re.split(r"[/@?&\s]+", form)}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= MIN_SECRET and part.lower() not in (channel.kind, channel.host.lower()):
            text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    return text


def send_test(channel: Channel) -> str:
    """Send a test message now; return "" or why it was not accepted."""
    return send(channel, "MyIA: test", _("This is a test of your alerts."))
