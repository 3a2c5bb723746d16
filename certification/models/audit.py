"""The audit trail: who did or changed what, when and from where. The database adds entries, refuses
to change them, and deletes none that is younger than LEAST_DAYS.

Two kinds of entries: what somebody did (a request that writes, a command), and each row of the
models below that was changed by it, with its values before and after. The engine's own work leaves
no entries: runs, jobs and certifications have histories of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from django.apps import apps
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, models, transaction
from django.db.models.functions import Now
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from django.utils.translation import gettext_lazy as _

from certification.lib import actor

log = structlog.get_logger(__name__)

LEAST_DAYS = 30
CREATED, CHANGED, DELETED = "created", "changed", "deleted"
TRACKED = (
    "certification.User",
    "certification.ApiKey",
    "certification.Provider",
    "certification.Region",
    "certification.AIModel",
    "certification.ModelAlias",
    "certification.Route",
    "certification.CustomCase",
    "certification.WebhookSubscription",
    "certification.AlertSilence",
    "certification.Contact",
    "django_celery_beat.PeriodicTask",
)
# Their values are never stored, only that they changed. An address of a webhook may hold a secret.
SECRET = frozenset({"password", "session_salt", "digest", "secret_salt", "secret_check", "url"})
# What changes without anybody's doing.
IGNORED = frozenset(
    {"last_login", "last_used_at", "updated_at", "date_changed", "last_run_at", "total_run_count"}
)
HIDDEN = "***"
MAX_TEXT = 200
BEFORE = "_before_save"  # where an instance carries its stored values until it is saved

Changes = Mapping[str, tuple[Any, Any]]


class AuditEntry(models.Model):
    """`changes` are the values before and after by field. `actor_id` is no foreign key: an entry
    outlives its user.
    """

    at = models.DateTimeField(_("when"), db_default=Now(), db_index=True)
    actor_id = models.BigIntegerField(null=True, blank=True)
    actor = models.CharField(_("who"), max_length=254, db_index=True)
    via = models.CharField(_("from"), max_length=10)
    place = models.CharField(_("place"), max_length=MAX_TEXT)
    address = models.CharField(_("address"), max_length=64, blank=True)
    request_id = models.CharField(_("request"), max_length=64, blank=True)
    action = models.CharField(_("action"), max_length=64)
    kind = models.CharField(_("kind"), max_length=64, blank=True)
    key = models.CharField(_("key"), max_length=64, blank=True)
    subject = models.CharField(_("subject"), max_length=MAX_TEXT, blank=True)
    changes = models.JSONField(_("changes"), default=dict, encoder=DjangoJSONEncoder)

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit trail")
        ordering = ["-at", "-pk"]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.subject}".strip()


def record(
    action: str, kind: str = "", key: str = "", subject: str = "", changes: Changes | None = None
) -> None:
    """Add an entry for who acts now; nothing where nobody does. What cannot be recorded is logged:
    the work itself is done.
    """
    who = actor.current()
    if who is None:
        return
    identity, name = who.identify()
    entry = AuditEntry(
        actor_id=identity,
        actor=name[:254],
        via=who.via,
        place=who.place[:MAX_TEXT],
        address=who.address[:64],
        request_id=who.request_id[:64],
        action=action[:64],
        kind=kind,
        key=key[:64],
        subject=subject[:MAX_TEXT],
        changes=changes or {},
    )
    try:
        with transaction.atomic():
            entry.save(force_insert=True)
    except DatabaseError as error:
        log.error("audit_not_recorded", action=action, actor=name, error=str(error))


def values_of(instance: models.Model) -> dict[str, Any]:
    """Return the values of a row that entries may hold."""
    return {
        field.name: getattr(instance, field.attname)
        for field in instance._meta.concrete_fields
        if field.name not in IGNORED
    }


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """Return the fields that differ, without the values of secret ones."""
    return {
        name: (HIDDEN, HIDDEN) if name in SECRET else (before.get(name), after.get(name))
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    }


def remember(
    instance: models.Model, raw: bool, update_fields: Iterable[str] | None, **_kwargs: Any
) -> None:
    """Before a row is saved: read what is stored."""
    if actor.current() is None or raw or (update_fields and IGNORED.issuperset(update_fields)):
        return
    stored = type(instance)._base_manager.filter(pk=instance.pk).first() if instance.pk else None
    instance.__dict__[BEFORE] = values_of(stored) if stored else None


def record_save(instance: models.Model, created: bool, **_kwargs: Any) -> None:
    """After a row is saved: record what that changed."""
    if BEFORE not in instance.__dict__:
        return
    before = instance.__dict__.pop(BEFORE) or {}
    if changes := difference(before, values_of(instance)):
        record_row(CREATED if created else CHANGED, instance, changes)


def record_deletion(instance: models.Model, **_kwargs: Any) -> None:
    if actor.current() is not None:
        record_row(DELETED, instance, difference(values_of(instance), {}))


def record_row(action: str, instance: models.Model, changes: Changes) -> None:
    meta = instance._meta
    subject = getattr(instance, "host", "") if "url" in changes else ""
    record(action, meta.model_name or "", str(instance.pk), str(subject or instance), changes)


def record_groups(
    instance: Any, action: str, reverse: bool, pk_set: Iterable[Any] | None, **_kwargs: Any
) -> None:
    """Record which groups a user has now: the roles."""
    if actor.current() is None or reverse:
        return
    names = sorted(instance.groups.values_list("name", flat=True))
    if action.startswith("pre_"):
        instance.__dict__.setdefault(BEFORE + "_groups", names)
    elif (before := instance.__dict__.pop(BEFORE + "_groups", names)) != names:
        record_row(CHANGED, instance, {"groups": (before, names)})


def connect() -> None:
    """Record what is saved and deleted from now on."""
    for name in TRACKED:
        model = apps.get_model(name)
        pre_save.connect(remember, sender=model, dispatch_uid=f"audit.pre.{name}")
        post_save.connect(record_save, sender=model, dispatch_uid=f"audit.save.{name}")
        post_delete.connect(record_deletion, sender=model, dispatch_uid=f"audit.delete.{name}")
    through = apps.get_model("certification.User").groups.through
    m2m_changed.connect(record_groups, sender=through, dispatch_uid="audit.groups")
