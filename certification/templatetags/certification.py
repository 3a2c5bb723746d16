"""Words, signs and figures for templates."""

from __future__ import annotations

from datetime import timedelta

from django import template
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification import labels
from certification.engine import backend
from certification.models import Backend, RouteKind
from certification.reasons import Reason
from certification.suite import registry

register = template.Library()


@register.simple_tag
def backend_in_use() -> Backend:
    """Where calls go now: `aws` or `emulator`."""
    return backend.name()


@register.filter
def status_word(status: str) -> str | Promise:
    """The words for a certification status or a run's verdict; what nobody knows is shown as it is."""
    look = labels.STATUSES.get(status)
    return look.label if look else status


@register.filter
def status_symbol(status: str) -> str:
    look = labels.STATUSES.get(status)
    return look.symbol if look else "?"


@register.filter
def case_word(verdict: str) -> str | Promise:
    look = labels.CASE_VERDICTS.get(verdict)
    return look.label if look else verdict


@register.filter
def case_symbol(verdict: str) -> str:
    look = labels.CASE_VERDICTS.get(verdict)
    return look.symbol if look else "?"


@register.filter
def case_title(case_id: str) -> str:
    """The suite's name for a case; empty for a case that is no longer in it."""
    case = registry.BY_ID.get(case_id)
    return case.title if case else ""


@register.filter
def reason_word(reason: str) -> str | Promise:
    return labels.REASONS.get(reason, reason)


@register.filter
def category_word(category: str) -> str | Promise:
    return labels.CATEGORIES.get(category, category)


@register.filter
def owner_word(reason: str) -> str | Promise:
    """Who must act on a reason; empty for a reason that nobody knows."""
    return labels.OWNERS[Reason(reason).facts.owner] if reason in labels.REASONS else ""


@register.filter
def doer_word(who: str) -> str | Promise:
    """Who can do what a fix says; a word that nobody knows stays."""
    return labels.DOERS.get(who, who)


@register.filter
def span(duration: timedelta | None) -> str:
    """A duration as people read it: 4.2 s, 3 min 05 s, 2 h 07 min. Empty for None."""
    if duration is None:
        return ""
    seconds = duration.total_seconds()
    if seconds < 60:
        return _("%(seconds)s s") % {"seconds": number_format(seconds, 1)}
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return _("%(minutes)d min %(seconds)02d s") % {"minutes": minutes, "seconds": rest}
    hours, minutes = divmod(minutes, 60)
    return _("%(hours)d h %(minutes)02d min") % {"hours": hours, "minutes": minutes}


@register.filter
def minutes(seconds: float) -> str:
    """Seconds as whole minutes in words."""
    whole = max(1, round(seconds / 60))
    return ngettext("%(minutes)d minute", "%(minutes)d minutes", whole) % {"minutes": whole}


@register.filter
def route_word(kind: str) -> str | Promise:
    return RouteKind(kind).label if kind in RouteKind.values else kind


@register.filter
def web_address(url: object) -> bool:
    """Whether a stored address may become a link."""
    return str(url).startswith("https://")
