"""Telling others: who wants to hear of what, and every message with what became of it.

A transactional outbox: `tell` writes deliveries in the transaction of the change they tell of, so
that both are kept or neither is; sending them is the engine's work (`engine.webhooks`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from celery import current_app
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy
from kombu.exceptions import OperationalError

from certification.lib import redis_client, url_safety
from certification.lib.redis_client import UNAVAILABLE, Purpose
from certification.reasons import Status

if TYPE_CHECKING:
    from certification.models.certifications import ModelCertification
    from certification.models.jobs import CertificationJob

log = structlog.get_logger(__name__)

DELIVER = "certification.tasks.deliver_webhooks"
# after the 1st, 2nd... failed attempt
BACKOFF = tuple(timedelta(seconds=s) for s in (10, 60, 300, 1800, 7200, 21_600))
# failures in a row after which a subscription is tried once per BREATHER instead of once per
# delivery
BACKOFF_AFTER_FAILURES = 5
BACKOFF_INTERVAL = timedelta(minutes=1)
# failures in a row without which nothing is switched off, however long ago the first of them was
DISABLE_AFTER_FAILURES = 10
NO_SUBSCRIBERS_TTL_S = 1.0  # how long a process believes that nobody listens
# how long a message to the workers that none has taken makes another one superfluous; beat's
# interval
ANNOUNCED_S = 10


class WebhookEvent(models.TextChoices):
    CERTIFICATION_CHANGED = "certification.changed", _("a certification changed its status")
    JOB_COMPLETED = "job.completed", _("a job ended")
    ALERT_RAISED = "alert.raised", _("an alert was raised")


TEST_EVENT = "webhook.test"  # sent on request, whatever a subscription listens to


class SecretLost(Exception):
    """The key that a subscription's secret was drawn under is no longer known."""


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
        """Active subscriptions to an event, held against deletion until the transaction ends. Call
        inside one.
        """
        return list(self.raw(LISTENING, [json.dumps([event])]))

    def claim_next_due(self, lease: timedelta) -> WebhookSubscription | None:
        """Take one subscription that has something to send and that nobody else is sending for.
        None when there is none.
        """
        while True:
            now = timezone.now()
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


# Django has no FOR KEY SHARE; what it has would let finishing runs wait for each other.
LISTENING = """
SELECT id FROM certification_webhooksubscription WHERE is_active AND events @> %s::jsonb FOR KEY SHARE
"""


class WebhookSubscription(models.Model):
    """Somebody who is told. The secret is not stored: it is derived from SECRET_KEY and the row's
    salt whenever needed.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    url = models.CharField(_("address"), max_length=500, validators=[validate_url])
    events = models.JSONField(_("events"), default=list, validators=[validate_events])
    is_active = models.BooleanField(pgettext_lazy("subscription", "active"), default=True)
    disabled_reason = models.TextField(_("why it was switched off"), blank=True)
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
        """Delete it with its deliveries, after the transactions that are writing some have ended."""
        with transaction.atomic():
            type(self).objects.select_for_update().filter(pk=self.pk).first()
            return super().delete(*args, **kwargs)

    @property
    def host(self) -> str:
        """Where it is, without what may be secret in a path."""
        try:
            return url_safety.parse(self.url, allow_http=True).authority
        except url_safety.BadAddress:
            return "?"

    @property
    def secret(self) -> str:
        """What requests are signed with. SecretLost when SECRET_KEY changed and
        SECRET_KEY_FALLBACKS does not know the old one.
        """
        for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
            secret = _derived(self.secret_salt, key)
            if hmac.compare_digest(_check(secret), self.secret_check):
                return secret
        raise SecretLost(
            "SECRET_KEY was changed. Draw a new secret for this subscription and give it to the receiver."
        )

    def rotate_secret(self) -> str:
        """Draw a new secret, which the next request is signed with; it is shown nowhere but here."""
        secret = self._generate_secret()
        self.save(update_fields=["secret_salt", "secret_check", "updated_at"])
        return secret

    def _generate_secret(self) -> str:
        self.secret_salt = secrets.token_urlsafe(32)
        secret = _derived(self.secret_salt, settings.SECRET_KEY)
        self.secret_check = _check(secret)
        return secret

    def send_test(self) -> WebhookDelivery:
        """Have a test message sent."""
        with transaction.atomic():
            message = _message(
                TEST_EVENT, uuid.uuid4(), {"message": "This is a test of your webhook."}
            )
            delivery = WebhookDelivery.objects.create(
                subscription=self,
                event=TEST_EVENT,
                event_id=message["id"],
                payload=message,
                next_attempt_at=timezone.now(),
            )
            transaction.on_commit(announce)
        return delivery

    def next_due(self) -> WebhookDelivery | None:
        """The oldest delivery to send now, or None."""
        return (
            WebhookDelivery.objects.due()
            .filter(subscription=self)
            .order_by("next_attempt_at", "created_at")
            .first()
        )

    def release(self) -> None:
        """Let others send for it."""
        type(self).objects.filter(pk=self.pk).update(busy_until=None)

    def note_success(self) -> None:
        """The receiver took a message."""
        values = {"consecutive_failures": 0, "failing_since": None, "paused_until": None}
        type(self).objects.filter(pk=self.pk).update(last_success_at=timezone.now(), **values)

    def note_failure(self) -> None:
        """The receiver took a message not. One that fails for days is switched off."""
        now = timezone.now()
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
        """Stop telling it; what waits is given up. True if this call won."""
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
                finished_at=timezone.now(),
                error="The subscription was switched off.",
            )
            raise_alert(
                "webhook_switched_off",
                "warning",
                f"The webhook to {self.host} was switched off. {reason}",
                subject={"subscriptionId": str(self.pk), "host": self.host},
            )
        log.warning("webhook_switched_off", subscription=str(self.pk), reason=reason)
        return True

    def switch_on(self) -> bool:
        """Tell it again, from now on. True if this call won."""
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


def _derived(salt: str, key: str | bytes) -> str:
    digest = salted_hmac(
        "certification.webhooks.secret", salt, secret=key, algorithm="sha256"
    ).digest()
    return "whsec_" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _check(secret: str) -> str:
    """Tells whether a derived secret is the one that was handed out, and nothing about it."""
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


class DeliveryStatus(models.TextChoices):
    PENDING = "pending", _("waiting")
    DELIVERED = "delivered", _("delivered")
    GIVEN_UP = "given_up", _("given up")


class WebhookDeliveryQuerySet(models.QuerySet["WebhookDelivery"]):
    def due(self, now: datetime | None = None) -> WebhookDeliveryQuerySet:
        """To be sent now, to subscriptions that are neither switched off nor given a rest."""
        now = now or timezone.now()
        rested = Q(subscription__paused_until__isnull=True) | Q(subscription__paused_until__lte=now)
        active = Q(subscription__is_active=True) | Q(event=TEST_EVENT)
        return self.filter(rested, active, status=DeliveryStatus.PENDING, next_attempt_at__lte=now)

    def ended_before(self, before: datetime) -> WebhookDeliveryQuerySet:
        """Delivered or given up before then."""
        return self.filter(finished_at__lt=before)


class WebhookDelivery(models.Model):
    """One message to one subscription. `pk` is its stable id for the receiver, however often it is
    sent.
    """

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
        now = timezone.now()
        values = {
            "attempts": self.attempts + 1,
            "next_attempt_at": now + lease,
            "attempted_at": now,
        }
        if not self._if_unchanged().filter(next_attempt_at__lte=now).update(**values):
            return False
        self.attempts += 1
        return True

    def mark_delivered(self, duration_ms: int, response_status: int, response_body: str) -> bool:
        """The receiver has it. True if the attempt was still ours."""
        return self._end(DeliveryStatus.DELIVERED, duration_ms, response_status, response_body, "")

    def mark_failed(
        self,
        duration_ms: int,
        error: str,
        response_status: int | None = None,
        response_body: str = "",
    ) -> bool:
        """The receiver has it not: due again after a while, or given up after the last attempt.
        True if it was still ours.
        """
        if self.attempts > len(BACKOFF):
            return self._end(
                DeliveryStatus.GIVEN_UP, duration_ms, response_status, response_body, error
            )
        values = self._seen(duration_ms, response_status, response_body, error)
        return (
            self._if_unchanged().update(
                next_attempt_at=timezone.now() + BACKOFF[self.attempts - 1], **values
            )
            == 1
        )

    def send_again(self) -> bool:
        """Send an ended delivery once more, under the same id. True if this call won."""
        ended = type(self).objects.filter(pk=self.pk).exclude(status=DeliveryStatus.PENDING)
        with transaction.atomic():
            won = ended.update(
                status=DeliveryStatus.PENDING,
                attempts=0,
                next_attempt_at=timezone.now(),
                finished_at=None,
            )
            transaction.on_commit(announce)
        return won == 1

    @property
    def is_spent(self) -> bool:
        """Whether this attempt is one more than there should be: the attempts before it broke off."""
        return self.attempts > len(BACKOFF) + 1

    def _if_unchanged(self) -> WebhookDeliveryQuerySet:
        return type(self).objects.filter(
            pk=self.pk, status=DeliveryStatus.PENDING, attempts=self.attempts
        )

    def _end(self, status: DeliveryStatus, *seen: Any) -> bool:
        values = self._seen(*seen)
        return (
            self._if_unchanged().update(
                status=status, next_attempt_at=None, finished_at=timezone.now(), **values
            )
            == 1
        )

    @staticmethod
    def _seen(
        duration_ms: int, response_status: int | None, response_body: str, error: str
    ) -> dict[str, Any]:
        return {
            "duration_ms": duration_ms,
            "response_status": response_status,
            "response_body": response_body,
            "error": error,
        }


# Writing the outbox

_no_subscribers_until: dict[str, float] = {}  # by event; nobody listened when we last looked


def clear_no_subscribers_cache() -> None:
    """Look again whether somebody listens."""
    _no_subscribers_until.clear()


Facts = Mapping[str, Any]


def enqueue_event(
    event: WebhookEvent, events: Callable[[], Iterable[tuple[uuid.UUID, Facts]]]
) -> None:
    """Write an event's deliveries; `events` gives (event id, data) and is asked only when somebody
    listens.

    Call inside the transaction of the change. An event id that was told before is not told again.
    Where nobody listens this costs a query per event, second and process.
    """
    if time.monotonic() < _no_subscribers_until.get(event, 0.0):
        return
    with transaction.atomic(savepoint=False):
        listeners = WebhookSubscription.objects.listening_to(event)
        if not listeners:
            _no_subscribers_until[event] = time.monotonic() + NO_SUBSCRIBERS_TTL_S
            return
        now = timezone.now()
        rows = [
            WebhookDelivery(
                subscription=one,
                event=event,
                event_id=event_id,
                payload=message,
                next_attempt_at=now,
            )
            for event_id, data in events()
            for message in [_message(event, event_id, data)]
            for one in listeners
        ]
        WebhookDelivery.objects.bulk_create(rows, ignore_conflicts=True, batch_size=500)
        transaction.on_commit(announce)


def certifications_changed(rows: Iterable[ModelCertification], cause: str) -> None:
    """The status of these certifications changed: by a `run`, by being judged again (`rejudged`),
    or they `expired`.
    """
    enqueue_event(
        WebhookEvent.CERTIFICATION_CHANGED,
        lambda: (
            (uuid.uuid4(), {"cause": cause, "certification": _certification(row)}) for row in rows
        ),
    )


def job_closed(job: CertificationJob) -> None:
    """A job completed, failed or was cancelled."""
    fresh = type(job).objects.filter(pk=job.pk)
    enqueue_event(
        WebhookEvent.JOB_COMPLETED, lambda: ((uuid.uuid4(), {"job": _job(one)}) for one in fresh)
    )


def raise_alert(name: str, severity: str, message: str, *, subject: Facts, once: str = "") -> None:
    """Something that people should look at: the one way in for alerts.

    `name` is a stable word, `severity` is info, warning or critical, `message` a sentence. Alerts
    with the same `once` are one alert, told once.
    """
    alert_id = uuid.uuid5(uuid.NAMESPACE_OID, f"{name}:{once}") if once else uuid.uuid4()
    data = {
        "id": str(alert_id),
        "name": name,
        "severity": severity,
        "message": message,
        "subject": dict(subject),
        "raisedAt": _iso(timezone.now()),
    }
    enqueue_event(WebhookEvent.ALERT_RAISED, lambda: [(alert_id, {"alert": data})])


def _announced() -> str:
    return f"{settings.CERTIFICATION_QUEUE_NAME}.webhooks"


def announce() -> None:
    """Have a worker send what is due. One message is out at a time; where the broker is away,
    beat's next round does it.
    """
    # the broker is asked first, which tells at once that it is away: kombu would try for seconds
    try:
        if redis_client.client(Purpose.BROKER).set(_announced(), 1, nx=True, ex=ANNOUNCED_S):
            current_app.send_task(DELIVER, retry=False, expires=ANNOUNCED_S)
    except (OperationalError, *UNAVAILABLE) as error:
        log.warning("broker_unreachable", error=str(error))


def begin_delivering() -> None:
    """What is announced from now on needs a message of its own. Call before looking for what is
    due.
    """
    with contextlib.suppress(*UNAVAILABLE):  # it expires by itself
        redis_client.client(Purpose.BROKER).delete(_announced())


# What is told, in the words of the JSON API


def _message(event: str, event_id: uuid.UUID, data: Facts) -> dict[str, Any]:
    return {
        "id": str(event_id),
        "event": event,
        "createdAt": _iso(timezone.now()),
        "data": dict(data),
    }


def _iso(moment: datetime | None) -> str | None:
    return (
        moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if moment
        else None
    )


def _certification(row: ModelCertification) -> dict[str, Any]:
    # the run that the status rests on
    run = row.run if row.run and row.run.verdict == row.status else None
    return {
        "id": str(row.pk),
        "modelId": row.model.api_model_id,
        "modelUuid": str(row.model_id),
        "modelName": row.model.name,
        "vendor": row.model.vendor,
        "region": row.region_id,
        "regionName": row.region.name,
        "status": row.status,
        "previousStatus": row.previous_status or Status.NOT_TESTED,
        "passed": row.status == Status.CERTIFIED,
        "score": row.score,
        "rating": row.rating or None,
        "tier": row.tier or None,
        "backend": row.backend or None,
        "errorMessage": run.error_message or None if run else None,
        "errorCategory": run.error_category or None if run else None,
        "errorReason": run.error_reason or None if run else None,
        "fix": run.fix or None if run else None,
        "certifiedAt": _iso(row.certified_at),
        "expiresAt": _iso(row.expires_at),
        "lastTestedAt": _iso(row.last_tested_at),
        "runId": str(row.run_id) if row.run_id else None,
        "jobId": str(row.run.job_id) if row.run else None,
    }


def _job(job: CertificationJob) -> dict[str, Any]:
    taken = job.duration
    return {
        "id": str(job.pk),
        "type": job.type,
        "status": job.status,
        "regions": job.regions,
        "modelIds": job.model_ids,
        "totalModels": job.total_runs,
        "processedModels": job.processed_runs,
        "successCount": job.succeeded_runs,
        "failureCount": job.failed_runs,
        "progress": job.progress,
        "tier": job.tier,
        "priority": job.priority,
        "backend": job.backend,
        "createdAt": _iso(job.created_at),
        "updatedAt": _iso(job.updated_at),
        "startedAt": _iso(job.started_at),
        "completedAt": _iso(job.completed_at),
        "duration": round(taken.total_seconds() * 1000) if taken else None,
        "estimatedCostUsd": None
        if job.estimated_cost_usd is None
        else float(job.estimated_cost_usd),
        "costUsd": float(job.cost_usd),
    }
