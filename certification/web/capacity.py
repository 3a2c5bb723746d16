"""Growth, use and limits on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from django.http import QueryDict
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from certification.monitoring import capacity
from certification.monitoring.capacity import Limit, Report
from certification.web import charts, polling

FORECASTS = (30, 90, 365)


@dataclass(frozen=True)
class LimitRow:
    """A limit, and in words when it is reached."""

    limit: Limit
    until: date

    @property
    def when(self) -> str:
        limit = self.limit
        if limit.state == "critical":
            return _("The limit is reached now.")
        if limit.missing_days:
            return _("Too little data for a forecast: %(days)d of %(needed)d days.") % {
                "days": limit.days,
                "needed": capacity.MIN_DAYS,
            }
        if limit.critical_on is None:
            return _("Never at this pace.")
        if limit.critical_on > self.until:
            return _("Not before %(day)s.") % {"day": self.until}
        return _("On %(day)s at this pace.") % {"day": limit.critical_on}

    @property
    def needs_action(self) -> bool:
        is_soon = self.limit.critical_on is not None and self.limit.critical_on <= self.until
        return is_soon or self.limit.state in ("warning", "critical")

    @property
    def share(self) -> float:
        """The part of the critical value that is in use, from 0 to 1."""
        return min(1.0, (self.limit.value or 0) / self.limit.trigger.critical)

    @property
    def warning_share(self) -> float:
        return self.limit.trigger.warning / self.limit.trigger.critical


@dataclass(frozen=True)
class CapacityTab:
    report: Report

    @property
    def forecasts(self) -> Sequence[int]:
        return FORECASTS

    @property
    def limits(self) -> list[LimitRow]:
        until = self.report.today + timedelta(days=self.report.forecast_days)
        return [LimitRow(limit, until) for limit in self.report.limits]

    @property
    def chart(self) -> SafeString | None:
        """Runs by day, oldest first; None of fewer than two days."""
        runs = {day.day: float(day.runs) for day in self.report.days}
        if len(runs) < 2:
            return None
        first, last = min(runs).toordinal(), max(runs).toordinal()
        days = map(date.fromordinal, range(first, last + 1))
        values = [(str(day), runs.get(day, 0.0)) for day in days]
        return charts.columns(_("Runs by day"), values)

    @property
    def total(self) -> dict[str, str]:
        total = self.report.total
        return {name: number_format(round(total[name]), 0) for name in ("runs", "calls")}

    @property
    def sentence(self) -> str:
        report = self.report
        names = ", ".join(str(limit.trigger.label) for limit in report.reached)
        if names:
            return _("A limit is reached: %(names)s.") % {"names": names}
        if report.soon:
            first = min(report.soon, key=lambda limit: limit.critical_on or report.today)
            return _("%(name)s reaches its limit on %(day)s at this pace.") % {
                "name": first.trigger.label,
                "day": first.critical_on,
            }
        if report.stored_days < capacity.MIN_DAYS:
            return _("Too little data for a forecast: %(days)d of %(needed)d days.") % {
                "days": report.stored_days,
                "needed": capacity.MIN_DAYS,
            }
        return _("No limit is reached within %(n)d days.") % {"n": report.forecast_days}

    @property
    def version(self) -> str:
        report = self.report
        return polling.fingerprint(
            [(limit.trigger.name, limit.value) for limit in report.limits],
            report.days[:1],
            report.total,
            report.forecast_days,
        )


def load(query: QueryDict) -> CapacityTab:
    """Read the report for the days ahead that the address names, in two queries."""
    text = query.get("forecast", "")
    ahead = next((days for days in FORECASTS if str(days) == text), 90)
    return CapacityTab(capacity.report(ahead))
