"""Webhooks: subscriptions, and an outbox with every message and its attempts.

A transactional outbox: `enqueue` writes deliveries in the transaction of the change itself, so that
both are stored or neither is. `engine.webhooks` sends them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from certification.lib import clock, task_signal, url_safety
from certification.models import sql

log = structlog.get_logger(__name__)

DELIVER = "certification.tasks.deliver_webhooks"
# after the 1st, 2nd... failed attempt
BACKOFF = tuple(timedelta(seconds=s) for s in (10, 60, 300, 1800, 7200, 21_600))
# failures in a row after which a subscription is tried once per BACKOFF_INTERVAL instead of once
# per delivery
BACKOFF_AFTER_FAILURES = 5
BACKOFF_INTERVAL = timedelta(minutes=1)
# failures in a row without which nothing is switched off, however long ago the first of them was
DISABLE_AFTER_FAILURES = 10
# how long a process remembers that an event has no subscribers: a new subscription misses up to a
# second of the events of other processes
NO_SUBSCRIBERS_TTL_S = 1.0
REQUEST_EXPIRES_S = 10  # beat's interval


class WebhookEvent(models.TextChoices):
    CERTIFICATION_CHANGED = "certification.changed", _("a certification changed its status")
    JOB_COMPLETED = "job.completed", _("a job ended")
    ALERT_RAISED = "alert.raised", _("an alert was raised")


TEST_EVENT = "webhook.test"  # sent on request, to any subscription
Payload = Mapping[str, Any]


class SecretLost(Exception):
    """The SECRET_KEY that a subscription's secret was derived from is no longer known."""


def validate_url(url: str) -> None:
    try:
        target = url_safety.parse(url, allow_http=settings.WEBHOOK_ALLOW_HTTP)
    except url_safety.BadAddress as error:
        raise ValidationError(str(error), code="address") from None
    ip = url_safety.literal(target.host)
    if ip and not url_safety.is_permitted(ip, settings.WEBHOOK_ALLOWED_NETWORKS):
        raise ValidationError(_("This is not a public address."), code="private")


def validate_events(events: Any) -> None:
    if not isinstance(events, list) or not events or set(events) - set(WebhookEvent.values):
        raise ValidationError(_("Choose one event or more."), code="events")


class WebhookSubscriptionQuerySet(models.QuerySet["WebhookSubscription"]):
    def listening_to(self, event: str) -> list[WebhookSubscription]:
        """Return the active subscriptions to an event, locked against deletion until the
        transaction ends. Call inside one.
        """
        return list(self.raw(sql.SUBSCRIPTIONS_TO, {"events": json.dumps([event])}))

    def claim_next_due(self, lease: timedelta) -> WebhookSubscription | None:
        """Claim a subscription with due deliveries that no other worker serves, if any."""
        while True:
            now = clock.now()
            free = Q(subscription__busy_until__isnull=True) | Q(subscription__busy_until__lt=now)
            due = WebhookDelivery.objects.due(now).filter(free).order_by("next_attempt_at")
            subscription_id = due.values_list("subscription", flat=True).first()
            if subscription_id is None:
                return None
            rows = self.filter(
                Q(busy_until__isnull=True) | Q(busy_until__lt=now), pk=subscription_id
            )
            if rows.update(busy_until=now + lease):
                return self.get(pk=subscription_id)


class WebhookSubscription(models.Model):
    """A receiver of events. Its secret is derived from SECRET_KEY and the row's salt."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    url = models.CharField(_("address"), max_length=500, validators=[validate_url])
    events = models.JSONField(_("events"), default=list, validators=[validate_events])
    is_active = models.BooleanField(pgettext_lazy("subscription", "active"), default=True)
    disabled_reason = models.TextField(_("reason for disabling"), blank=True)
    secret_salt = models.CharField(max_length=64, editable=False)
    secret_check = models.CharField(max_length=16, editable=False)
    consecutive_failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True)
    last_success_at = models.DateTimeField(_("last success"), null=True, blank=True)
    paused_until = models.DateTimeField(_("next attempt not before"), null=True, blank=True)
    busy_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        verbose_name=_("created by"),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = WebhookSubscriptionQuerySet.as_manager()

    class Meta:
        verbose_name = _("webhook subscription")
        verbose_name_plural = _("webhook subscriptions")
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(is_active=True, disabled_reason="") | Q(is_active=False),
                name="webhook_active_has_no_reason",
            )
        ]

    def __str__(self) -> str:
        return self.host

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self.secret_salt:
            self._generate_secret()
        super().save(*args, **kwargs)
        clear_no_subscribers_cache()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete it with its deliveries, once no open transaction is writing one."""
        with transaction.atomic():
            type(self).objects.select_for_update().filter(pk=self.pk).first()
            return super().delete(*args, **kwargs)

    @property
    def host(self) -> str:
        """The receiver's host and port, without the path, which may hold a secret."""
        try:
            return url_safety.parse(self.url, allow_http=True).authority
        except url_safety.BadAddress:
            return "?"

    @property
    def secret(self) -> str:
        """The key that requests are signed with. SecretLost when SECRET_KEY was changed and the old
        one is not among SECRET_KEY_FALLBACKS.
        """
        for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
            secret = derive_secret(self.secret_salt, key)
            if hmac.compare_digest(fingerprint(secret), self.secret_check):
                return secret
        raise SecretLost(
            "SECRET_KEY was changed. Generate a new secret for this subscription and give it to "
            "the receiver."
        )

    def rotate_secret(self) -> str:
        """Generate the secret that the next request is signed with. It is returned here only."""
        secret = self._generate_secret()
        self.save(update_fields=["secret_salt", "secret_check", "updated_at"])
        return secret

    def _generate_secret(self) -> str:
        self.secret_salt = secrets.token_urlsafe(32)
        secret = derive_secret(self.secret_salt, settings.SECRET_KEY)
        self.secret_check = fingerprint(secret)
        return secret

    def send_test(self) -> WebhookDelivery:
        """Enqueue a test message."""
        event_id = uuid.uuid4()
        with transaction.atomic():
            delivery = WebhookDelivery.objects.create(
                subscription=self,
                event=TEST_EVENT,
                event_id=event_id,
                payload=message(
                    TEST_EVENT, event_id, {"message": "This is a test of your webhook."}
                ),
                next_attempt_at=clock.now(),
            )
            transaction.on_commit(request_delivery)
        return delivery

    def next_due(self) -> WebhookDelivery | None:
        """Return the oldest delivery that is due, or None."""
        return (
            WebhookDelivery.objects.due()
            .filter(subscription=self)
            .order_by("next_attempt_at", "created_at")
            .first()
        )

    def release(self) -> None:
        """Let another worker serve it."""
        type(self).objects.filter(pk=self.pk).update(busy_until=None)

    def record_success(self) -> None:
        values = {"consecutive_failures": 0, "failing_since": None, "paused_until": None}
        type(self).objects.filter(pk=self.pk).update(last_success_at=clock.now(), **values)

    def record_failure(self) -> None:
        """Count a message that was not accepted; disable a receiver that fails for days."""
        now = clock.now()
        mine = type(self).objects.filter(pk=self.pk)
        mine.update(
            consecutive_failures=F("consecutive_failures") + 1,
            failing_since=Coalesce(F("failing_since"), now),
        )
        mine.filter(consecutive_failures__gte=BACKOFF_AFTER_FAILURES).update(
            paused_until=now + BACKOFF_INTERVAL
        )
        days = settings.WEBHOOK_DISABLE_AFTER_DAYS
        hopeless = mine.filter(
            failing_since__lt=now - timedelta(days=days),
            consecutive_failures__gte=DISABLE_AFTER_FAILURES,
        )
        if hopeless.exists():
            self.switch_off(f"No message was accepted for {days} days.")

    def switch_off(self, reason: str) -> bool:
        """Disable it and give up its pending deliveries. True if this call won."""
        with transaction.atomic():
            won = (
                type(self)
                .objects.filter(pk=self.pk, is_active=True)
                .update(is_active=False, disabled_reason=reason)
            )
            if not won:
                return False
            self.deliveries.filter(status=DeliveryStatus.PENDING).update(
                status=DeliveryStatus.GIVEN_UP,
                next_attempt_at=None,
                finished_at=clock.now(),
                error="The subscription was disabled.",
            )
            raise_alert(
                "webhook_switched_off",
                "warning",
                f"The webhook to {self.host} was disabled. {reason}",
                subject={"subscriptionId": str(self.pk), "host": self.host},
            )
        log.warning("webhook_switched_off", subscription=str(self.pk), reason=reason)
        return True

    def switch_on(self) -> bool:
        """Enable it again. True if this call won."""
        off = type(self).objects.filter(pk=self.pk, is_active=False)
        values = {
            "consecutive_failures": 0,
            "failing_since": None,
            "paused_until": None,
            "disabled_reason": "",
        }
        won = off.update(is_active=True, **values) == 1
        clear_no_subscribers_cache()
        return won


def derive_secret(salt: str, key: str | bytes) -> str:
    """Return the secret of a subscription with this salt under a SECRET_KEY."""
    digest = salted_hmac(
        "certification.webhooks.secret", salt, secret=key, algorithm="sha256"
    ).digest()
    return "whsec_" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def fingerprint(secret: str) -> str:
    """Return a digest that tells whether a derived secret is the one that was handed out."""
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


class DeliveryStatus(models.TextChoices):
    PENDING = "pending", _("waiting")
    DELIVERED = "delivered", _("delivered")
    GIVEN_UP = "given_up", _("given up")


class WebhookDeliveryQuerySet(models.QuerySet["WebhookDelivery"]):
    def due(self, now: datetime | None = None) -> WebhookDeliveryQuerySet:
        """Deliveries to send now: those of subscriptions that are neither disabled nor paused."""
        now = now or clock.now()
        not_paused = Q(subscription__paused_until__isnull=True) | Q(
            subscription__paused_until__lte=now
        )
        active = Q(subscription__is_active=True) | Q(event=TEST_EVENT)
        return self.filter(
            not_paused, active, status=DeliveryStatus.PENDING, next_attempt_at__lte=now
        )

    def ended_before(self, before: datetime) -> WebhookDeliveryQuerySet:
        """Delivered or given up before this time."""
        return self.filter(finished_at__lt=before)


@dataclass(frozen=True)
class AttemptResult:
    """The outcome of one attempt; the columns of a delivery by the same names."""

    duration_ms: int
    error: str = ""
    response_status: int | None = None
    response_body: str = ""


class WebhookDelivery(models.Model):
    """One message to one subscription. `pk` identifies it to the receiver in every attempt."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    subscription = models.ForeignKey(
        WebhookSubscription,
        on_delete=models.CASCADE,
        related_name="deliveries",
        verbose_name=_("subscription"),
    )
    event = models.CharField(_("event"), max_length=40)
    event_id = models.UUIDField(_("event id"))
    payload = models.JSONField(_("payload"))
    status = models.CharField(
        _("status"), max_length=10, choices=DeliveryStatus.choices, default=DeliveryStatus.PENDING
    )
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    next_attempt_at = models.DateTimeField(_("next attempt"), null=True, blank=True)
    attempted_at = models.DateTimeField(_("last attempt"), null=True, blank=True)
    duration_ms = models.PositiveIntegerField(_("duration (ms)"), null=True, blank=True)
    response_status = models.PositiveSmallIntegerField(_("response status"), null=True, blank=True)
    response_body = models.TextField(_("response"), blank=True)
    error = models.TextField(_("error"), blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    finished_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = WebhookDeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["-created_at"]),
            models.Index(
                fields=["subscription", "next_attempt_at"],
                condition=Q(status="pending"),
                name="webhook_pending_idx",
            ),
            models.Index(fields=["finished_at"]),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "event_id"], name="one_delivery_per_event"
            ),
            models.CheckConstraint(
                condition=Q(
                    status="pending", next_attempt_at__isnull=False, finished_at__isnull=True
                )
                | Q(~Q(status="pending"), next_attempt_at__isnull=True, finished_at__isnull=False),
                name="webhook_pending_iff_next_attempt",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} {str(self.pk)[:8]}"

    def claim(self, lease: timedelta) -> bool:
        """Take this delivery for one attempt; it is due again when the lease runs out. True if this
        call won.
        """
        now = clock.now()
        won = (
            self.unchanged()
            .filter(next_attempt_at__lte=now)
            .update(attempts=self.attempts + 1, next_attempt_at=now + lease, attempted_at=now)
        )
        self.attempts += won
        return won == 1

    def mark_delivered(self, result: AttemptResult) -> bool:
        """End it as delivered. True if the attempt was still ours."""
        return self.end(DeliveryStatus.DELIVERED, result)

    def mark_failed(self, result: AttemptResult) -> bool:
        """Schedule the next attempt, or give up after the last one. True if it was still ours."""
        if self.attempts > len(BACKOFF):
            return self.end(DeliveryStatus.GIVEN_UP, result)
        next_attempt_at = clock.now() + BACKOFF[self.attempts - 1]
        return self.unchanged().update(next_attempt_at=next_attempt_at, **asdict(result)) == 1

    def end(self, status: DeliveryStatus, result: AttemptResult) -> bool:
        """End it with this status. True if the attempt was still ours."""
        values = {"status": status, "next_attempt_at": None, "finished_at": clock.now()}
        return self.unchanged().update(**values, **asdict(result)) == 1

    def send_again(self) -> bool:
        """Send an ended delivery once more, under the same id. True if this call won."""
        ended = type(self).objects.filter(pk=self.pk).exclude(status=DeliveryStatus.PENDING)
        with transaction.atomic():
            won = ended.update(
                status=DeliveryStatus.PENDING,
                attempts=0,
                next_attempt_at=clock.now(),
                finished_at=None,
            )
            transaction.on_commit(request_delivery)
        return won == 1

    @property
    def is_spent(self) -> bool:
        """Whether this attempt is one too many: the attempts before it were cut off."""
        return self.attempts > len(BACKOFF) + 1

    def unchanged(self) -> WebhookDeliveryQuerySet:
        """This delivery's row, unless another worker has claimed or ended it meanwhile."""
        return type(self).objects.filter(
            pk=self.pk, status=DeliveryStatus.PENDING, attempts=self.attempts
        )


class PayloadEncoder(DjangoJSONEncoder):
    """Write times as the JSON API does, always with milliseconds."""

    def default(self, o: Any) -> Any:
        if isinstance(o, datetime):
            text = o.astimezone(UTC).isoformat(timespec="milliseconds")
            return text.replace("+00:00", "Z")
        return super().default(o)


def message(event: str, event_id: uuid.UUID, data: Payload) -> dict[str, Any]:
    """Return the body of an event's requests, in JSON's own types."""
    body = {"id": event_id, "event": event, "createdAt": clock.now(), "data": data}
    plain: dict[str, Any] = json.loads(json.dumps(body, cls=PayloadEncoder))
    return plain


_no_subscribers_until: dict[str, float] = {}  # by event


def clear_no_subscribers_cache() -> None:
    """Query for subscribers at the next event."""
    _no_subscribers_until.clear()


def enqueue(
    event: WebhookEvent,
    payloads: Callable[[], Iterable[Payload]],
    *,
    event_id: uuid.UUID | None = None,
) -> None:
    """Write the deliveries of an event for each of its payloads.

    `payloads` is called only when the event has subscribers. Call inside the transaction of the
    change. Events with the same `event_id` are one event. Without subscribers this costs one query
    per event, second and process.
    """
    if time.monotonic() < _no_subscribers_until.get(event, 0.0):
        return
    with transaction.atomic(savepoint=False):
        subscriptions = WebhookSubscription.objects.listening_to(event)
        if not subscriptions:
            _no_subscribers_until[event] = time.monotonic() + NO_SUBSCRIBERS_TTL_S
            return
        now = clock.now()
        rows = []
        for payload in payloads():
            this_id = event_id or uuid.uuid4()
            body = message(event, this_id, payload)
            rows += [
                WebhookDelivery(
                    subscription=subscription,
                    event=event,
                    event_id=this_id,
                    payload=body,
                    next_attempt_at=now,
                )
                for subscription in subscriptions
            ]
        WebhookDelivery.objects.bulk_create(rows, ignore_conflicts=True, batch_size=500)
        transaction.on_commit(request_delivery)


def raise_alert(
    name: str, severity: str, message: str, *, subject: Payload, once: str = ""
) -> None:
    """Enqueue an alert for people: the only way to raise one.

    `name` is a stable word, `severity` is info, warning or critical, `message` a sentence. Alerts
    with the same `once` are one alert, sent once.
    """
    alert_id = uuid.uuid5(uuid.NAMESPACE_OID, f"{name}:{once}") if once else uuid.uuid4()
    alert = {
        "id": alert_id,
        "name": name,
        "severity": severity,
        "message": message,
        "subject": subject,
        "raisedAt": clock.now(),
    }
    enqueue(WebhookEvent.ALERT_RAISED, lambda: [{"alert": alert}], event_id=alert_id)


# Have a worker send what is due.
request_delivery = partial(task_signal.request, DELIVER, REQUEST_EXPIRES_S)
