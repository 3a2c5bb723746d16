"""Who may do what: users who log in with their e-mail address, and the three groups."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

from django.contrib.auth.models import (
    AbstractBaseUser,
    BaseUserManager,
    Group,
    Permission,
    PermissionsMixin,
)
from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    """The three groups, from least to most."""

    VIEWER = "viewer", _("viewer")
    OPERATOR = "operator", _("operator")
    ADMINISTRATOR = "administrator", _("administrator")


def group_names(user: str) -> ArraySubquery:
    """For a query: the names of the groups of the user whose key is in the column `user`."""
    return ArraySubquery(Group.objects.filter(user=models.OuterRef(user)).order_by().values("name"))


class UserManager(BaseUserManager["User"]):
    def create_user(
        self, email: str, password: str | None = None, role: str = "", **fields: Any
    ) -> User:
        """A user; e-mail addresses are kept in lower case. ValueError without an e-mail."""
        if not email:
            raise ValueError("A user needs an e-mail address.")
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        if role:
            user.groups.add(Group.objects.get(name=role))
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email__iexact=username)


class User(AbstractBaseUser, PermissionsMixin):
    email = models.EmailField(_("e-mail address"), unique=True)
    name = models.CharField(_("name"), max_length=150, blank=True)
    is_staff = models.BooleanField(_("staff status"), default=False)
    is_active = models.BooleanField(_("active"), default=True)
    date_joined = models.DateTimeField(_("joined"), default=timezone.now, editable=False)

    # Part of what a session or a token holds: a new one ends them all.
    session_salt = models.CharField(max_length=32, blank=True, default="", editable=False)

    objects = UserManager()

    EMAIL_FIELD = "email"
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_ci_unique")]

    def __str__(self) -> str:
        return self.email

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """Return what each session holds of its user: it changes with the password, and when all
        sessions are ended.
        """
        if not self.session_salt:
            return super()._get_session_auth_hash(secret)  # type: ignore[misc]
        return salted_hmac(
            "certification.session", self.password + self.session_salt, secret, algorithm="sha256"
        ).hexdigest()

    def end_sessions(self) -> None:
        """End every session and every API login of the user."""
        self.session_salt = secrets.token_hex(8)
        self.save(update_fields=["session_salt"])

    def read_groups(self) -> None:
        """Read the groups once, for a user of one request."""
        self.__dict__["group_names"] = list(self.groups.values_list("name", flat=True))

    @property
    def is_operator(self) -> bool:
        return self.role in (Role.OPERATOR, Role.ADMINISTRATOR)

    @property
    def role(self) -> str:
        """The highest of the user's groups; superusers are administrators, users without a group
        viewers of nothing: ''.
        """
        if self.is_superuser:
            return Role.ADMINISTRATOR
        names = self.__dict__.get("group_names")  # when they were read with the user
        if names is None:
            names = [group.name for group in self.groups.all()]
        return next((role for role in reversed(Role.values) if role in names), "")


READ = ("view",)
WRITE = ("view", "add", "change", "delete")
# Model name -> what a group may do with it. Runs and results are evidence: nobody adds or changes
# them by hand.
PERMISSIONS: dict[str, dict[str, tuple[str, ...]]] = {
    Role.VIEWER: dict.fromkeys(
        (
            "provider",
            "region",
            "aimodel",
            "modelalias",
            "route",
            "certificationjob",
            "certificationrun",
            "testresult",
            "modelcertification",
            "queuepause",
            "runjudgement",
            "customcase",
            "parametersupport",
            "certificate",
            "certificatekey",
        ),
        READ,
    ),
    Role.OPERATOR: {
        "customcase": ("view", "add", "change"),
        "certificationjob": ("view", "add", "change"),
        "aimodel": ("view", "change"),
        "region": ("view", "change"),
        "auditentry": READ,
    },
    Role.ADMINISTRATOR: {
        **dict.fromkeys(
            (
                "provider",
                "region",
                "aimodel",
                "modelalias",
                "route",
                "user",
                "customcase",
                "apikey",
                "contact",
            ),
            WRITE,
        ),
        "certificate": ("view", "change"),  # to withdraw it
        "webhooksubscription": WRITE,
        "webhookdelivery": READ,
    },
}


def sync_groups(**_kwargs: object) -> None:
    """Create the three groups and give them their permissions. Runs after every migrate,
    repeatable.
    """
    granted: dict[str, set[str]] = {}
    for role, by_model in PERMISSIONS.items():
        codenames = {
            f"{action}_{model}" for model, actions in by_model.items() for action in actions
        }
        # each role has all of the roles below it
        granted[role] = set().union(codenames, *granted.values())
        permissions = Permission.objects.filter(
            content_type__app_label="certification", codename__in=granted[role]
        )
        group, _created = Group.objects.get_or_create(name=role)
        group.permissions.set(permissions)
