"""How pages look to their reader. Cookies hold it, so that it is right before a login and costs no
query; a login and the account page write them from the preferences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from certification.models import Density, Motion, Preference, Theme
from certification.models.preferences import is_zone

THEME, ZONE, DENSITY, KEYS = "theme", "zone", "density", "keys"
MOTION, NOTICES = "motion", "notices"


@dataclass(frozen=True)
class Looks:
    theme: str
    zone: ZoneInfo
    density: str
    letter_keys: bool
    motion: str
    job_notices: bool

    @classmethod
    def of(cls, preference: Preference) -> Looks:
        return cls(
            preference.theme,
            ZoneInfo(preference.zone),
            preference.density,
            preference.letter_keys,
            preference.motion,
            preference.job_notices,
        )

    @property
    def zone_name(self) -> str:
        """The zone for people: UTC, Sao Paulo."""
        return self.zone.key.rpartition("/")[2].replace("_", " ")


def looks_of(request: HttpRequest) -> Looks:
    """Read the cookies; what is not one of the choices is the default."""
    cookies = request.COOKIES
    theme, zone, density = (cookies.get(name, "") for name in (THEME, ZONE, DENSITY))
    return Looks(
        theme if theme in Theme.values else Theme.AUTO.value,
        ZoneInfo(zone if is_zone(zone) else "UTC"),
        density if density in Density.values else Density.NORMAL.value,
        cookies.get(KEYS) != "off",
        Motion.NONE.value if cookies.get(MOTION) == Motion.NONE else Motion.AUTO.value,
        cookies.get(NOTICES) == "on",
    )


def context(request: HttpRequest) -> dict[str, Any]:
    """Give templates `looks` and the `themes` there are."""
    return {"looks": looks_of(request), "themes": Theme.choices}


def set_cookie(response: HttpResponse, name: str, value: str) -> None:
    response.set_cookie(
        name,
        value,
        max_age=settings.LANGUAGE_COOKIE_AGE or settings.SESSION_COOKIE_AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def store(response: HttpResponse, preference: Preference) -> None:
    """Write what a user prefers into the cookies of their browser."""
    set_cookie(response, THEME, preference.theme)
    set_cookie(response, ZONE, preference.zone)
    set_cookie(response, DENSITY, preference.density)
    set_cookie(response, KEYS, "on" if preference.letter_keys else "off")
    set_cookie(response, MOTION, preference.motion)
    set_cookie(response, NOTICES, "on" if preference.job_notices else "off")
    if preference.language:
        set_cookie(response, settings.LANGUAGE_COOKIE_NAME, preference.language)
