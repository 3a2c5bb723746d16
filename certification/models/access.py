"""The credentials of programs and browsers: API keys of service accounts, and tokens that were
revoked early.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import datetime, timedelta
from functools import cache

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from certification.lib import clock
from certification.models import sql
from certification.models.accounts import Role, User, group_names

KEY_PREFIX = "myia_"
SHOWN = len(KEY_PREFIX) + 8  # characters of a key that stay readable
USE_NOTED_EVERY = timedelta(minutes=1)
USER_COLUMNS = sql.Columns(User, "holder")


class ApiKey(models.Model):
    """A key of a service account. Only its hash is kept: the key itself is shown once, when it is
    issued.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="api_keys",
        verbose_name=_("acts as"),
        help_text=_(
            "Jobs started with the key belong to this user; the key can never do more than "
            "they can."
        ),
    )
    name = models.CharField(_("name"), max_length=100, help_text=_("What the key is for."))
    role = models.CharField(_("role"), max_length=20, choices=Role.choices, default=Role.VIEWER)
    shown = models.CharField(_("prefix"), max_length=20, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.shown}…)"

    def issue(self) -> str:
        """Draw the key, save the row with its hash, and return the key: the only time that anybody
        sees it.
        """
        key = KEY_PREFIX + secrets.token_urlsafe(32)
        self.shown, self.digest = key[:SHOWN], _digest(key)
        self.save()
        return key

    @classmethod
    def find(cls, key: str) -> ApiKey | None:
        """The row of a key that works now, with its user and the user's groups; None for any other
        text.
        """
        now = clock.now()
        rows = cls.objects.filter(
            Q(expires_at=None) | Q(expires_at__gt=now), digest=_digest(key), revoked_at=None
        )
        row = rows.select_related("user").annotate(names=group_names("user_id")).first()
        if row is None or not row.user.is_active:
            return None
        row.user.__dict__["group_names"] = row.__dict__["names"]
        if row.last_used_at is None or now - row.last_used_at > USE_NOTED_EVERY:
            cls.objects.filter(pk=row.pk).update(last_used_at=now)
        return row

    def revoke(self) -> bool:
        """Revoke the key. True if this call did."""
        return (
            type(self).objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=clock.now())
            == 1
        )

    @property
    def is_working(self) -> bool:
        """Neither revoked nor expired, and its user may still log in."""
        expired = self.expires_at is not None and self.expires_at <= clock.now()
        return self.revoked_at is None and not expired and self.user.is_active

    @property
    def effective_role(self) -> str:
        """The lower of the key's role and its user's; '' when the user has none."""
        return min(
            self.role, self.user.role, key=lambda role: Role.values.index(role) if role else -1
        )


@cache
def holder_statement() -> str:
    return sql.LOGIN_HOLDER.format(columns=USER_COLUMNS)


def _digest(key: str) -> str:
    """SHA-256, unsalted: a key has 256 random bits, so there is nothing to guess from its hash."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


class RevokedToken(models.Model):
    """A login token, or the family of all tokens of one login, that ended before it expired. Kept
    until it would have expired anyway.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.pk)

    @classmethod
    def holder(cls, token_id: uuid.UUID, family: uuid.UUID, user_id: int) -> User | None:
        """The active user with their role, unless the token or its family was revoked. One
        written-out query: every request asks it.
        """
        if not -(2**63) <= user_id < 2**63:
            return None
        rows = sql.prepared(holder_statement(), user=user_id, token=token_id, family=family)
        if not rows:
            return None
        [row] = rows
        user = USER_COLUMNS.instance(row)
        user.__dict__["group_names"] = row["group_names"]
        return user

    @classmethod
    def revoke(cls, token_id: uuid.UUID, user: User, expires_at: datetime) -> bool:
        """Refuse the token, or a family of tokens, from now on. False when it was refused before.
        Forgets those that have expired meanwhile.
        """
        _row, was_valid = cls.objects.get_or_create(
            id=token_id, defaults={"user": user, "expires_at": expires_at}
        )
        cls.objects.filter(expires_at__lt=clock.now()).delete()
        return was_valid
