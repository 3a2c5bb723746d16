"""The logins of browsers: Django's sessions, with whose they are, on what device, and when each was
last used. This module is `SESSION_ENGINE`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as DjangoSessionStore
from django.contrib.sessions.base_session import AbstractBaseSession, BaseSessionManager
from django.db import models
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext_lazy as _

from certification.lib import clock
from certification.models.accounts import User

USE_NOTED_EVERY = timedelta(minutes=10)
MAX_DEVICE = 300  # characters


class SessionManager(BaseSessionManager["Session"]):
    def of(self, user: User) -> list[Session]:
        """Return the sessions that a user is logged in by now, the last used first."""
        rows = self.filter(user=user, expire_date__gt=clock.now()).order_by("-seen_at")
        login = user.get_session_auth_hash()
        return [
            row
            for row in rows
            if constant_time_compare(row.get_decoded().get(HASH_SESSION_KEY, ""), login)
        ]


class Session(AbstractBaseSession):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        related_name="sessions",
        db_constraint=False,  # a request of somebody who is deleted meanwhile still ends well
    )
    device = models.CharField(max_length=MAX_DEVICE, blank=True, default="")  # its User-Agent
    seen_at = models.DateTimeField(default=clock.now)

    objects: SessionManager = SessionManager()  # type: ignore[misc]

    class Meta(AbstractBaseSession.Meta):
        verbose_name = _("session")  # type: ignore[assignment]
        verbose_name_plural = _("sessions")  # type: ignore[assignment]

    @classmethod
    def get_session_store_class(cls) -> type[SessionStore]:
        return SessionStore

    @property
    def public_id(self) -> str:
        """A name of the session that opens nothing, unlike its key."""
        return salted_hmac("certification.session", self.session_key).hexdigest()[:16]


class SessionStore(DjangoSessionStore):
    device: str = ""
    seen_at: datetime | None = None

    @classmethod
    def get_model_class(cls) -> type[Session]:
        return Session

    def _get_session_from_db(self) -> Any:
        row = super()._get_session_from_db()  # type: ignore[misc]
        if row is not None:
            self.device, self.seen_at = row.device, row.seen_at
        return row

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        row: Session = super().create_model_instance(data)  # type: ignore[assignment]
        self.seen_at = row.seen_at
        row.device = self.device
        row.user_id = data.get(SESSION_KEY)
        return row

    def note_use(self, user_agent: str) -> None:
        """Have the session saved when it comes from another device than noted, or was not noted as
        used for some minutes.
        """
        device = "".join(filter(str.isprintable, user_agent))[:MAX_DEVICE]
        is_old = self.seen_at is None or clock.now() - self.seen_at > USE_NOTED_EVERY
        if SESSION_KEY in self and (device != self.device or is_old):
            self.device, self.modified = device, True
