"""Sending what the outbox holds: signed, one attempt at a time, to each receiver by one worker at a
time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from datetime import timedelta

import structlog
from django.conf import settings

from certification.lib import safe_http
from certification.lib.database import returning_connection
from certification.lib.safe_http import Unreachable
from certification.lib.url_safety import BadAddress
from certification.models import WebhookDelivery, WebhookSubscription
from certification.models.webhooks import SecretLost, announce, begin_delivering

log = structlog.get_logger(__name__)

SLOTS = 4  # threads of a worker that may wait for receivers; the others are for runs
BUDGET_S = 20.0  # one task's; what is left is another task's
RESOLVER_S = 40.0  # the system's resolver knows no time limit but its own

_slots = threading.BoundedSemaphore(SLOTS)


def deliver() -> int:
    """Send what is due, for BUDGET_S at most. The number of attempts made.

    Safe to call from anywhere at any time: a receiver that another call serves is left to it.
    """
    begin_delivering()
    if not _slots.acquire(blocking=False):
        return 0
    try:
        return _deliver(time.monotonic() + BUDGET_S)
    finally:
        _slots.release()


def _deliver(ends: float) -> int:
    attempts = 0
    while time.monotonic() < ends:
        with returning_connection():
            subscription = WebhookSubscription.objects.claim_next_due(
                _lease() + timedelta(seconds=BUDGET_S)
            )
        if subscription is None:
            return attempts
        try:
            attempts += _serve(subscription, ends)
        finally:
            with returning_connection():
                subscription.release()
    announce()
    return attempts


def _lease() -> timedelta:
    """Longer than any attempt takes."""
    return timedelta(seconds=settings.WEBHOOK_TIMEOUT + RESOLVER_S)


def _serve(subscription: WebhookSubscription, ends: float) -> int:
    """Send to one receiver until nothing is due, it is given a rest, or time is up."""
    attempts = 0
    while time.monotonic() < ends:
        with returning_connection():
            delivery = subscription.next_due()
            if delivery is None:
                break
            won = delivery.claim(_lease())
        if won and delivery.is_spent:
            with returning_connection():
                delivery.mark_failed(0, "Every attempt broke off.")
        elif won:
            _attempt(subscription, delivery)
            attempts += 1
    return attempts


def _attempt(subscription: WebhookSubscription, delivery: WebhookDelivery) -> None:
    started = time.perf_counter()
    answer, error = None, ""
    try:
        body = encode(delivery)
        answer = safe_http.post(
            subscription.url, body, headers(delivery, body, subscription.secret, int(time.time()))
        )
        error = "" if answer.is_success else _refusal(answer.status)
    except (BadAddress, Unreachable, SecretLost) as problem:
        error = str(problem)
    took = round((time.perf_counter() - started) * 1000)
    status, text = (answer.status, answer.body) if answer else (None, "")
    with returning_connection():
        if answer and not error:
            delivery.mark_delivered(took, answer.status, text)
            subscription.note_success()
        else:
            delivery.mark_failed(took, error, status, text)
            subscription.note_failure()
    log.info(
        "webhook_sent" if not error else "webhook_failed",
        subscription=str(subscription.pk),
        delivery=str(delivery.pk),
        webhook_event=delivery.event,
        attempt=delivery.attempts,
        status=status,
        ms=took,
        error=error,
    )


def _refusal(status: int) -> str:
    if 300 <= status < 400:
        return (
            f"The receiver answered {status}. Redirects are not followed: enter the final address."
        )
    return f"The receiver answered {status}."


def encode(delivery: WebhookDelivery) -> bytes:
    """The body of a delivery's requests, the same in every attempt."""
    return json.dumps(delivery.payload, ensure_ascii=False, separators=(",", ":")).encode()


def headers(delivery: WebhookDelivery, body: bytes, secret: str, timestamp: int) -> dict[str, str]:
    """The headers of one attempt at `timestamp`, in seconds since 1970."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "MyIA-Certification-Webhook/1",
        "X-MyIA-Event": delivery.event,
        "X-MyIA-Delivery": str(delivery.pk),
        "X-MyIA-Timestamp": str(timestamp),
        "X-MyIA-Signature": sign(body, secret, timestamp),
    }


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """`v1=` and the hexadecimal HMAC-SHA256 of "<timestamp>.<body>"."""
    return "v1=" + hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()
