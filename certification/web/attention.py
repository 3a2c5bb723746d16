"""What somebody must do something about: one entry for a cause, however many pairs it touches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import translation
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification import labels
from certification.bedrock import fixes
from certification.models import AlertEpisode, QueuePause
from certification.monitoring.alert_rules import describe
from certification.reasons import Reason, Status
from certification.web import polling

# What somebody must do something about, worst first; a smaller number is worse.
CRITICAL, WARNING, INFO = 0, 1, 2
SEVERITIES = {CRITICAL: "critical", WARNING: "warning", INFO: "info"}


class StatusGroup(NamedTuple):
    """The pairs with one status for one reason, in the order of its query."""

    status: str
    reason: str
    pairs: int
    models: int
    regions: int
    vendors: list[str]
    since: datetime | None  # of the oldest result among them
    expired: int
    expire_soon: int
    emulated: int


class RetiringModel(NamedTuple):
    name: str
    api_model_id: str
    end_of_life_on: date


@dataclass(frozen=True)
class Attention:
    """One cause that somebody must do something about, however many pairs it touches."""

    key: str  # which cause it is, whatever its extent
    severity: int
    title: str
    scope: str
    count: int = 1
    since: datetime | None = None
    who: str | Promise = ""
    fix: str = ""
    wait: str = ""
    quote: str = ""  # the words of AWS
    url: str = ""
    start: str = ""  # where an operator starts what may end it

    @property
    def state(self) -> str:
        """What it was when somebody set it aside: another extent brings it back."""
        return polling.fingerprint(self.severity, self.scope, self.count, str(self.since or ""))

    @property
    def css(self) -> str:
        return SEVERITIES[self.severity]

    @property
    def sign(self) -> str:
        return labels.SEVERITIES[self.css].symbol

    @property
    def word(self) -> str | Promise:
        return labels.SEVERITIES[self.css].label


def matrix_url(**parameters: str) -> str:
    return f"{reverse('matrix')}?{urlencode(parameters)}"


def start_url(preset: str) -> str:
    return f"{reverse('job-new')}?{urlencode({'preset': preset})}"


def scope_of(group: StatusGroup) -> str:
    """Say how many pairs a group has and where: "14 pairs in 5 regions: Anthropic, Meta"."""
    pairs = ngettext("%(n)d pair", "%(n)d pairs", group.pairs) % {"n": group.pairs}
    regions = ngettext("%(n)d region", "%(n)d regions", group.regions) % {"n": group.regions}
    vendors = ", ".join(sorted(group.vendors)[:3])
    if len(group.vendors) > 3:
        vendors += " …"
    return _("%(pairs)s in %(regions)s: %(vendors)s") % {
        "pairs": pairs,
        "regions": regions,
        "vendors": vendors,
    }


GROUP_SEVERITIES = {
    Status.PERMISSION_REQUIRED: WARNING,
    Status.CONFIGURATION_REQUIRED: WARNING,
    Status.FAILED: WARNING,
    Status.PENDING: INFO,
}
GROUP_PRESETS = {Status.FAILED: "failed", Status.PENDING: "pending"}


def of_group(group: StatusGroup) -> Attention:
    """Return what a group of pairs needs: by the fix of its reason where it has one."""
    known = group.reason in set(Reason)
    fix = fixes.fix_for(Reason(group.reason)) if known else None
    status = Status(group.status)
    query = {"status": group.status} | ({"reason": group.reason} if known else {})
    return Attention(
        key=f"{group.status}:{group.reason}",
        severity=GROUP_SEVERITIES[status],
        title=capfirst(
            str(labels.REASONS[group.reason] if known else labels.STATUSES[status].label)
        ),
        scope=scope_of(group),
        count=group.pairs,
        since=group.since,
        who=labels.DOERS.get(fix.who, fix.who) if fix else "",
        fix=translation.gettext(fix.text) if fix else "",
        wait=translation.gettext(fix.wait) if fix and fix.wait else "",
        url=matrix_url(**query),
        start=start_url(GROUP_PRESETS[status]) if status in GROUP_PRESETS else "",
    )


def of_pause(pause: QueuePause) -> Attention:
    if not pause.is_by_itself:
        return Attention(
            key=f"pause:{pause.pk}",
            severity=CRITICAL,
            title=_("Nothing is certified at the moment"),
            scope=pause.sentence,
            since=pause.opened_at,
            who=pause.opened_by or labels.DOERS["operator"],
            fix=_("End it once the reason is gone."),
            url=f"{reverse('operations')}?tab=queue",
        )
    fix = fixes.fix_for(Reason(pause.error_reason))
    return Attention(
        key=f"pause:{pause.pk}",
        severity=CRITICAL,
        title=_("The queue is paused (%(backend)s)") % {"backend": pause.get_backend_display()},
        scope=_("%(reason)s: bulk runs wait and resume by themselves once the credentials work.")
        % {"reason": capfirst(str(labels.REASONS[pause.error_reason]))},
        since=pause.opened_at,
        who=labels.DOERS.get(fix.who, fix.who),
        fix=translation.gettext(fix.text),
        wait=translation.gettext(fix.wait) if fix.wait else "",
        quote=pause.message,
        url=reverse("runbook", args=["credentials_invalid"]),
    )


def of_alert(episode: AlertEpisode) -> Attention:
    """Return what an open alert needs: its rule says it, its runbook what to do."""
    return Attention(
        key=f"alert:{episode.pk}",
        severity=CRITICAL if episode.severity == "critical" else WARNING,
        title=_("Alert %(rule)s") % {"rule": str(episode)},
        scope=describe(episode),
        since=episode.opened_at,
        who=episode.acknowledged_by or labels.DOERS["operator"],
        url=f"{reverse('operations')}?tab=alerts#alert-{episode.pk}",
    )


def of_retiring(models: Sequence[RetiringModel]) -> Attention:
    names = [f"{model.name} ({model.end_of_life_on.isoformat()})" for model in models[:3]]
    return Attention(
        key="retiring",
        severity=WARNING,
        title=ngettext(
            "AWS retires %(n)d model within 30 days",
            "AWS retires %(n)d models within 30 days",
            len(models),
        )
        % {"n": len(models)},
        scope=", ".join(names) + (" …" if len(models) > 3 else ""),
        count=len(models),
        who=labels.DOERS["operator"],
        fix=_("Move what uses them to a newer model before that day."),
        url=matrix_url(q=models[0].api_model_id) if len(models) == 1 else reverse("matrix"),
    )


def of_expiry(groups: Iterable[StatusGroup]) -> Attention | None:
    """Return what has expired or soon will; None where nothing does."""
    expired = sum(group.expired for group in groups)
    soon = sum(group.expire_soon for group in groups)
    if not expired and not soon:
        return None
    return Attention(
        key="expiry",
        severity=WARNING if expired else INFO,
        title=_("Certifications expire"),
        scope=_("%(expired)d expired, %(soon)d expire within 7 days")
        % {"expired": expired, "soon": soon},
        count=expired + soon,
        who=labels.DOERS["operator"],
        fix=_("Certify these pairs again."),
        url=matrix_url(status="expired" if expired else "expiring"),
        start=start_url("expired") if expired else "",
    )


def of_worse(pairs: int, days: int) -> Attention:
    return Attention(
        key="worse",
        severity=WARNING,
        title=ngettext("%(n)d pair got worse", "%(n)d pairs got worse", pairs) % {"n": pairs},
        scope=ngettext("in the last %(n)d day", "in the last %(n)d days", days) % {"n": days},
        count=pairs,
        who=labels.DOERS["operator"],
        fix=_("See what changed, and compare with the run before."),
        url=matrix_url(since=f"{days}d", status="worse"),
    )


def without_verdict(reasons: Mapping[str, int]) -> Attention:
    runs = sum(reasons.values())
    by_number = sorted(reasons.items(), key=lambda item: -item[1])
    words = [f"{labels.REASONS.get(reason, _('unknown cause'))} {n}" for reason, n in by_number[:3]]
    return Attention(
        key="no-verdict",
        severity=INFO,
        title=ngettext(
            "%(n)d run ended without a verdict", "%(n)d runs ended without a verdict", runs
        )
        % {"n": runs},
        scope=_("in the last 24 hours: %(reasons)s") % {"reasons": ", ".join(words)},
        count=runs,
        who=labels.DOERS["operator"],
        fix=_("Retry them once the cause is gone."),
        url=reverse("jobs"),
        start=start_url("pending"),
    )
