"""Tell an outside watcher, after each good round of alerts, that this installation is alive: it
notices when everything here is dead. Its address may hold a secret and is never logged whole.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import structlog
from django.conf import settings

from certification.lib import safe_http
from certification.lib.safe_http import ReceiverUnreachable
from certification.lib.url_safety import BadAddress

log = structlog.get_logger(__name__)


def send() -> bool:
    """Call HEARTBEAT_URL once, as webhooks are called: public addresses only, no redirects. Return
    whether the watcher accepted it.
    """
    if not settings.HEARTBEAT_URL:
        return False
    try:
        answer = safe_http.post(settings.HEARTBEAT_URL, b"", {"User-Agent": "MyIA-Heartbeat/1"})
        fault = "" if answer.is_success else f"The watcher answered {answer.status}."
    except (BadAddress, ReceiverUnreachable) as error:
        fault = str(error)
    if fault:
        host = urlsplit(settings.HEARTBEAT_URL).hostname
        log.warning("heartbeat_not_sent", host=host, error=fault)
    return not fault
