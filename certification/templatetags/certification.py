"""Labels, symbols and figures for templates. An unknown word is shown as it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from django import template
from django.template.context import Context
from django.utils import translation
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification import labels, statements
from certification.certificates import qr
from certification.engine import backend
from certification.models import Backend, QueuePause, Role, RouteKind, TestResult, Tier, sql
from certification.reasons import Reason
from certification.suite import registry

register = template.Library()


@register.simple_tag
def backend_in_use() -> Backend:
    """Return where calls go now: `aws` or `emulator`."""
    return backend.name()


@register.simple_tag
def site_state() -> dict[str, Any]:
    """Return how many `alerts` are open, and the pause that is `read_only` mode, if it is on."""
    state = sql.fetch_one(sql.SITE_STATE) or {}
    if state.get("read_only"):
        state["read_only"] = QueuePause.objects.filter(pk=state["read_only"]).first()
    return state


@register.simple_tag(takes_context=True)
def moment(
    context: Context, at: datetime | None, precision: Literal["minutes", "seconds"] = "minutes"
) -> SafeString | str:
    """Format a time in the reader's zone, with UTC in its title. Empty for None."""
    if at is None:
        return ""
    looks = context.get("looks")
    utc, local = at.astimezone(UTC), at.astimezone(looks.zone if looks else UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{} {}</time>',
        utc.isoformat(timespec="seconds"),
        utc.strftime("%Y-%m-%d %H:%M:%S"),
        local.replace(tzinfo=None).isoformat(" ", precision),
        looks.zone_name if looks else "UTC",
    )


@register.filter
def ago(at: datetime | None) -> SafeString | str:
    """Format a time by its age, with the exact time in its title. Empty for None."""
    if at is None:
        return ""
    utc = at.astimezone(UTC)
    age = datetime.now(UTC) - utc
    just_now = age < timedelta(minutes=1)
    words = _("just now") if just_now else _("%(age)s ago") % {"age": timesince(at, depth=1)}
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        utc.isoformat(timespec="seconds"),
        utc.strftime("%Y-%m-%d %H:%M:%S"),
        words,
    )


@register.filter
def role_word(role: str) -> str:
    """Return the label of a user's role."""
    return labels.of_choice(Role, role)


@register.filter
def tier_word(tier: str) -> str:
    """Return the label of a tier."""
    return labels.of_choice(Tier, tier)


@register.filter
def backend_word(name: str) -> str:
    """Return the label of a backend."""
    return labels.of_choice(Backend, name)


@register.filter
def status_word(status: str) -> str | Promise:
    """Return the label of a certification status or a run's verdict."""
    sign = labels.STATUSES.get(status)
    return sign.label if sign else status


@register.filter
def status_symbol(status: str) -> str:
    sign = labels.STATUSES.get(status)
    return sign.symbol if sign else "?"


@register.filter
def case_word(verdict: str) -> str | Promise:
    sign = labels.CASE_VERDICTS.get(verdict)
    return sign.label if sign else verdict


@register.filter
def case_symbol(verdict: str) -> str:
    sign = labels.CASE_VERDICTS.get(verdict)
    return sign.symbol if sign else "?"


@register.filter
def case_title(case_id: str) -> str:
    """Return the suite's title of a case; empty for a case that is no longer in the suite."""
    case = registry.BY_ID.get(case_id)
    return translation.gettext(case.title) if case else ""


@register.filter
def case_purpose(case_id: str) -> str:
    """Return what a case asks of a model."""
    return statements.purpose(case_id)


@register.filter
def statement(result: TestResult) -> statements.Statement:
    """Return why a case passed or failed, in the reader's language where it is known in it."""
    return statements.of_result(result)


@register.filter
def case_category(category: str) -> str | Promise:
    return labels.CASE_CATEGORIES.get(category, category)


@register.filter
def reason_word(reason: str) -> str | Promise:
    return labels.REASONS.get(reason, reason)


@register.filter
def category_word(category: str) -> str | Promise:
    return labels.CATEGORIES.get(category, category)


@register.filter
def owner_word(reason: str) -> str | Promise:
    """Return who must act on a reason; empty for an unknown reason."""
    return labels.OWNERS[Reason(reason).facts.owner] if reason in labels.REASONS else ""


@register.filter
def doer_word(who: str) -> str | Promise:
    """Return who can carry out a fix."""
    return labels.DOERS.get(who, who)


@register.filter
def span(duration: timedelta | float | None) -> str:
    """Format a duration, or seconds: 4.2 s, 3 min 05 s, 2 h 07 min. Empty for None."""
    if duration is None:
        return ""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if seconds < 60:
        return _("%(seconds)s s") % {"seconds": number_format(seconds, 1)}
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return _("%(minutes)d min %(seconds)02d s") % {"minutes": minutes, "seconds": rest}
    hours, minutes = divmod(minutes, 60)
    return _("%(hours)d h %(minutes)02d min") % {"hours": hours, "minutes": minutes}


@register.filter
def whole(score: float | None) -> str:
    """Format a score as whole points, never rounded up. Empty for None."""
    return "" if score is None else str(int(score))


@register.filter
def usd(amount: float | Decimal | None) -> str:
    """Format an amount of money: US$ 0.42, a tiny one with all its digits. Empty for None."""
    if amount is None:
        return ""
    places = 2 if amount == 0 or amount >= 0.1 else 4
    return f"US$ {number_format(round(float(amount), places), places)}"


@register.filter
def minutes(seconds: float) -> str:
    """Format seconds as whole minutes, at least one."""
    whole = max(1, round(seconds / 60))
    return ngettext("%(minutes)d minute", "%(minutes)d minutes", whole) % {"minutes": whole}


@register.filter
def route_word(kind: str) -> str:
    """Return the label of a kind of route."""
    return labels.of_choice(RouteKind, kind)


@register.filter
def score_part(name: str) -> str | Promise:
    return labels.SCORE_PARTS.get(name, name)


@register.filter
def capability_word(name: str) -> str | Promise:
    return labels.CAPABILITIES.get(name, name.replace("_", " "))


@register.filter
def residency_word(residency: str) -> str | Promise:
    return labels.RESIDENCIES.get(residency, residency)


@register.filter
def public_word(state: str) -> str | Promise:
    return labels.PUBLIC_STATES[state].label


@register.filter
def public_sign(state: str) -> str:
    return labels.PUBLIC_STATES[state].symbol


@register.filter
def speed_word(speed: str) -> str | Promise:
    return labels.SPEEDS.get(speed, speed)


@register.filter
def qr_code(address: str) -> str:
    """Return the picture of an address as a QR code, as a `data:` address."""
    return qr.data_address(address)


@register.filter
def web_address(url: object) -> bool:
    """Return whether a stored address may become a link."""
    return str(url).startswith("https://")
