"""Send the webhook deliveries that are due: signed, to each receiver by one worker at a time."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
import uuid
from datetime import timedelta

import structlog
from django.conf import settings

from certification.lib import clock, safe_http, task_signal
from certification.lib.database import returning_connection
from certification.lib.safe_http import ReceiverUnreachable
from certification.lib.url_safety import BadAddress
from certification.models import WebhookDelivery, WebhookSubscription
from certification.models.webhooks import (
    DELIVER,
    AttemptResult,
    Payload,
    SecretLost,
    WebhookEvent,
    message,
    request_delivery,
)

log = structlog.get_logger(__name__)

SLOTS = 4  # threads of a worker that may wait for receivers; the others are for runs
BUDGET_S = 20.0  # of one task; another task goes on with the rest
RESOLVER_S = 40.0  # the system's resolver knows no time limit but its own

_slots = threading.BoundedSemaphore(SLOTS)


def deliver() -> int:
    """Send what is due, for BUDGET_S at most, and return the number of attempts.

    Safe to call from anywhere at any time: a receiver that another call serves is left to it.
    """
    task_signal.begin(DELIVER)
    if not _slots.acquire(blocking=False):
        return 0
    try:
        attempts, ends = 0, time.monotonic() + BUDGET_S
        while time.monotonic() < ends:
            with returning_connection():
                subscription = WebhookSubscription.objects.claim_next_due(
                    attempt_lease() + timedelta(seconds=BUDGET_S)
                )
            if subscription is None:
                return attempts
            try:
                attempts += serve(subscription, ends)
            finally:
                with returning_connection():
                    subscription.release()
        request_delivery()
        return attempts
    finally:
        _slots.release()


def attempt_lease() -> timedelta:
    """Return a time that is longer than any attempt takes."""
    return timedelta(seconds=settings.WEBHOOK_TIMEOUT + RESOLVER_S)


def serve(subscription: WebhookSubscription, ends: float) -> int:
    """Send to one receiver until nothing is due, it is paused, or the time `ends` (monotonic) has
    come. Return the number of attempts.
    """
    attempts = 0
    while time.monotonic() < ends:
        with returning_connection():
            delivery = subscription.next_due()
            if delivery is None:
                break
            won = delivery.claim(attempt_lease())
        if won and delivery.is_spent:
            with returning_connection():
                delivery.mark_failed(AttemptResult(0, "Every attempt was interrupted."))
        elif won:
            attempt(subscription, delivery)
            attempts += 1
    return attempts


def attempt(subscription: WebhookSubscription, delivery: WebhookDelivery) -> None:
    """Send a claimed delivery once and record how it went."""
    started = time.perf_counter()
    response, error = None, ""
    try:
        body = encode(delivery)
        response = safe_http.post(
            subscription.url,
            body,
            headers(delivery, body, subscription.secret, int(clock.now().timestamp())),
        )
        if not response.is_success:
            error = f"The receiver answered {response.status}."
            if 300 <= response.status < 400:
                error += " Redirects are not followed: enter the final address."
    except (BadAddress, ReceiverUnreachable, SecretLost) as problem:
        error = str(problem)
    result = AttemptResult(
        duration_ms=round((time.perf_counter() - started) * 1000),
        error=error,
        response_status=response.status if response else None,
        response_body=response.body if response else "",
    )
    with returning_connection():
        if error:
            delivery.mark_failed(result)
            subscription.record_failure()
        else:
            delivery.mark_delivered(result)
            subscription.record_success()
    log.info(
        "webhook_failed" if error else "webhook_sent",
        subscription=str(subscription.pk),
        delivery=str(delivery.pk),
        webhook_event=delivery.event,
        attempt=delivery.attempts,
        status=result.response_status,
        ms=result.duration_ms,
        error=error,
    )


def send_now(subscription: WebhookSubscription, event: WebhookEvent, data: Payload) -> str:
    """Send an event once and at once, without database and worker; return why it did not arrive,
    empty when it did. For who watches over both.
    """
    event_id = uuid.uuid4()
    delivery = WebhookDelivery(event=event, payload=message(event, event_id, data))
    try:
        body = encode(delivery)
        signed = headers(delivery, body, subscription.secret, int(time.time()))
        response = safe_http.post(subscription.url, body, signed)
    except (BadAddress, ReceiverUnreachable, SecretLost) as problem:
        return str(problem)
    return "" if response.is_success else f"The receiver answered {response.status}."


def encode(delivery: WebhookDelivery) -> bytes:
    """Return the body of a delivery's requests, the same in every attempt."""
    return json.dumps(delivery.payload, ensure_ascii=False, separators=(",", ":")).encode()


def headers(delivery: WebhookDelivery, body: bytes, secret: str, timestamp: int) -> dict[str, str]:
    """Return the headers of one attempt at `timestamp`, in seconds since 1970."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "MyIA-Certification-Webhook/1",
        "X-MyIA-Event": delivery.event,
        "X-MyIA-Delivery": str(delivery.pk),
        "X-MyIA-Timestamp": str(timestamp),
        "X-MyIA-Signature": sign(body, secret, timestamp),
    }


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """Return `v1=` and the hexadecimal HMAC-SHA256 of "<timestamp>.<body>"."""
    return "v1=" + hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()
