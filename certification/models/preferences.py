"""What each user prefers, on the pages and in the frontends."""

from __future__ import annotations

import zoneinfo
from functools import cache

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from certification.models.accounts import User
from certification.models.catalogue import Region

MAX_VIEWS = 50  # of one user for one page
MAX_VIEW_NAME, MAX_VIEW_QUERY = 80, 2_000


class Theme(models.TextChoices):
    AUTO = "auto", _("as the system")
    LIGHT = "light", _("light")
    DARK = "dark", _("dark")


class Density(models.TextChoices):
    NORMAL = "normal", _("normal")
    COMPACT = "compact", _("compact")


class Motion(models.TextChoices):
    AUTO = "auto", _("as the system")
    NONE = "none", _("none")


class StartPage(models.TextChoices):
    """The page after a login, by the name of its address."""

    OVERVIEW = "overview", _("overview")
    MATRIX = "matrix", _("matrix")
    JOBS = "jobs", _("jobs")


def is_zone(name: str) -> bool:
    return name in zones()


@cache
def zones() -> frozenset[str]:
    """Return the names of the time zones."""
    return frozenset(zoneinfo.available_timezones())


def validate_zone(name: str) -> None:
    if not is_zone(name):
        raise ValidationError(_("There is no time zone “%(name)s”."), params={"name": name[:80]})


class Preference(models.Model):
    """The preferences of one user. `enabled_models` are the API model ids that a frontend offers;
    they may name models that the catalogue does not have.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="preference",
        verbose_name=_("user"),
    )
    theme = models.CharField(_("theme"), max_length=5, choices=Theme.choices, default=Theme.AUTO)
    region = models.ForeignKey(
        Region,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("region"),
    )
    language = models.CharField(
        _("language"), max_length=10, choices=settings.LANGUAGES, blank=True, default=""
    )
    zone = models.CharField(
        _("time zone"), max_length=60, default="UTC", validators=[validate_zone]
    )
    density = models.CharField(
        _("density"), max_length=10, choices=Density.choices, default=Density.NORMAL
    )
    start_page = models.CharField(
        _("page after login"), max_length=10, choices=StartPage.choices, default=StartPage.OVERVIEW
    )
    letter_keys = models.BooleanField(_("single letters are keys"), default=True)
    motion = models.CharField(
        _("motion"), max_length=4, choices=Motion.choices, default=Motion.AUTO
    )
    job_notices = models.BooleanField(_("desktop notice when an open job ends"), default=False)
    enabled_models = models.JSONField(_("enabled models"), default=list, blank=True)

    class Meta:
        verbose_name = _("preference")
        verbose_name_plural = _("preferences")

    def __str__(self) -> str:
        return f"{self.user}: {self.theme}"


class Dismissal(models.Model):
    """A cause on the first page that a user has seen: it is set aside for them as long as its
    `state` is the same.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="dismissals"
    )
    key = models.CharField(max_length=100)
    state = models.CharField(max_length=20)
    at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("cause set aside")
        verbose_name_plural = _("causes set aside")
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="one_dismissal_per_user_and_key")
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.key}"


class TooManyViews(Exception):
    """A user has as many saved views of a page as there may be."""


class SavedViewQuerySet(models.QuerySet["SavedView"]):
    def visible_to(self, user: User | None, page: str) -> SavedViewQuerySet:
        """Return the views of a page that a user sees: their own, then those that others share."""
        visible = self.filter(models.Q(user=user) | models.Q(is_shared=True), page=page)
        is_own = models.Case(models.When(user=user, then=0), default=1)
        return visible.order_by(is_own, "name").select_related("user")


class SavedView(models.Model):
    """What an address of a page shows, under a name; `query` are its parameters."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views"
    )
    page = models.CharField(max_length=20)
    name = models.CharField(max_length=MAX_VIEW_NAME)
    query = models.CharField(max_length=MAX_VIEW_QUERY, blank=True)
    is_default = models.BooleanField(default=False)
    is_shared = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SavedViewQuerySet.as_manager()

    class Meta:
        verbose_name = _("saved view")
        verbose_name_plural = _("saved views")
        constraints = [
            models.UniqueConstraint(
                fields=["user", "page", "name"], name="one_saved_view_per_name"
            ),
            models.UniqueConstraint(
                fields=["user", "page"],
                condition=models.Q(is_default=True),
                name="one_default_view_per_page",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.page}: {self.name}"

    def is_default_of(self, user: object) -> bool:
        """Return whether the page begins with it for a user."""
        return self.is_default and self.user == user

    @classmethod
    def store(
        cls, user: User, page: str, name: str, query: str, *, default: bool, shared: bool
    ) -> None:
        """Save a view; one of the same name is replaced, and so is the default. Raise TooManyViews
        where the user has MAX_VIEWS others.
        """
        own = cls.objects.filter(user=user, page=page)
        if own.exclude(name=name).count() >= MAX_VIEWS:
            raise TooManyViews
        with transaction.atomic():
            if default:
                own.update(is_default=False)
            values = {"query": query, "is_default": default, "is_shared": shared}
            cls.objects.update_or_create(user=user, page=page, name=name, defaults=values)
