"""How fast and how well runs ended lately, compared with the time before, from the stored runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import psutil
from django.db.models import Count

from certification.lib import clock
from certification.models import CertificationRun, State, Tier, sql
from certification.monitoring.findings import Finding

MIN_RUNS = 20  # shares and comparisons of fewer say nothing
SUCCESS_PERCENT, RETRIED_PERCENT, QUICK_S = 95.0, 10.0, 10.0  # the targets of operations
THROTTLED_PERCENT = 1.0
SLOWER = 1.5  # times the time before
WAIT_SHARE = 0.5  # of a run's own time


@dataclass(frozen=True)
class Figures:
    """Of the runs of one group in one period: times in seconds, of calls in milliseconds; None
    where nothing was measured.
    """

    runs: int = 0
    certified: int = 0
    failed: int = 0
    retried: int = 0
    throttled: int = 0
    calls: int = 0
    call_retries: int = 0
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    waited_p95_s: float | None = None
    s_per_call: float | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Figures:
        p50, p95, p99 = row["seconds"] or (None, None, None)
        counts = ("runs", "certified", "failed", "retried", "throttled", "calls", "call_retries")
        return cls(
            **{name: row[name] or 0 for name in counts},
            p50_s=rounded(p50),
            p95_s=rounded(p95),
            p99_s=rounded(p99),
            waited_p95_s=rounded(row["waited_p95"]),
            s_per_call=rounded(row["seconds_per_call"]),
            latency_ms=rounded(row["latency_ms"], 1),
            ttft_ms=rounded(row["ttft_ms"], 1),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures under names in camel case: p95S, sPerCall."""
        return {
            re.sub(r"_(\w)", lambda match: match[1].upper(), name): value
            for name, value in asdict(self).items()
        }

    def percent(self, name: str) -> float | None:
        """Return the share of the runs that one of the counts is; None without runs."""
        return round(100 * int(getattr(self, name)) / self.runs, 1) if self.runs else None


@dataclass(frozen=True)
class Compared:
    """One group now and in the time before; `name` is a tier, a model or a region."""

    name: str
    now: Figures
    before: Figures

    @property
    def slower(self) -> float | None:
        """How many times as long a call takes as before; None where too few runs tell."""
        if min(self.now.runs, self.before.runs) < MIN_RUNS or not self.before.s_per_call:
            return None
        return round((self.now.s_per_call or 0) / self.before.s_per_call, 2)

    def to_json(self) -> dict[str, Any]:
        periods = {"now": self.now, "before": self.before}
        return {
            **{period: figures.to_json() for period, figures in periods.items()},
            "slower": self.slower,
        }


@dataclass(frozen=True)
class Report:
    """What happened from `start` on, compared with as long a time before it. Models and regions
    are ordered by how long a call takes, the slowest first.
    """

    start: datetime
    end: datetime
    all: Compared
    tiers: Sequence[Compared]
    models: Sequence[Compared]
    regions: Sequence[Compared]
    causes: Mapping[str, int]
    statements: Sequence[Mapping[str, Any]]
    load_per_cpu: float
    memory_percent: float

    @property
    def findings(self) -> list[Finding]:
        """What is below a target or slower than before, why it may be, and what to do."""
        return [*missed_targets(self), *slower_groups(self)]

    def to_json(self) -> dict[str, Any]:
        groups = {"tiers": self.tiers, "models": self.models, "regions": self.regions}
        return {
            "start": self.start,
            "end": self.end,
            **self.all.to_json(),
            **{
                kind: [{"name": one.name, **one.to_json()} for one in members]
                for kind, members in groups.items()
            },
            "causes": self.causes,
            "statements": self.statements,
            "machine": {"loadPerCpu": self.load_per_cpu, "memoryPercent": self.memory_percent},
            "findings": [finding.to_json() for finding in self.findings],
        }


def analyse(age: timedelta, limit: int) -> Report:
    """Read the runs of this time and of the time before it: three queries, by the index of
    finished runs. At most `limit` models, causes and statements.
    """
    end = clock.now()
    start = end - age
    rows = sql.fetch_all(sql.PERFORMANCE, start=start - age, middle=start, end=end)
    recent = CertificationRun.objects.filter(completed_at__gt=start, completed_at__lte=end)
    causes = recent.exclude(status=State.CANCELLED).exclude(error_reason="")
    by_cause = causes.order_by().values_list("error_reason").annotate(runs=Count("pk"))
    has_statements = sql.fetch_one(sql.HAS_STATEMENTS)
    statements = []
    if has_statements and has_statements["has_statements"]:
        statements = sql.fetch_all(sql.STATEMENTS, limit=limit)
    return Report(
        start=start,
        end=end,
        all=next(iter(compare(rows, "")), Compared("", Figures(), Figures())),
        tiers=compare(rows, "tier"),
        models=compare(rows, "model")[:limit],
        regions=compare(rows, "region")[:limit],
        causes=dict(by_cause.order_by("-runs", "error_reason")[:limit]),
        statements=statements,
        load_per_cpu=round(os.getloadavg()[1] / (os.cpu_count() or 1), 2),
        memory_percent=psutil.virtual_memory().percent,
    )


def compare(rows: Sequence[Mapping[str, Any]], group: str) -> list[Compared]:
    """Return the groups of one kind that had runs now, the slowest first; "" is all runs."""
    kinds = ("tier", "model", "region")
    periods: dict[bool, dict[str, Figures]] = {True: {}, False: {}}
    for row in rows:
        if [kind for kind in kinds if row[kind] is not None] == ([group] if group else []):
            periods[row["is_recent"]][row[group] if group else ""] = Figures.of(row)
    result = [
        Compared(name, figures, periods[False].get(name, Figures()))
        for name, figures in periods[True].items()
    ]
    return sorted(result, key=lambda one: (-(one.now.s_per_call or 0), one.name))


def missed_targets(report: Report) -> list[Finding]:
    now, findings = report.all.now, []
    cause = next(iter(report.causes), "").replace("_", " ") or "no reason was stored"
    enough = now.runs >= MIN_RUNS
    success = now.percent("certified") or 0
    if enough and success < SUCCESS_PERCENT:
        what = f"{success:g} % of the runs were certified; the target is {SUCCESS_PERCENT:g} %."
        findings.append(Finding(what, f"Most often: {cause}.", "manage.py logs --by reason"))
    retried = now.percent("retried") or 0
    if enough and retried > RETRIED_PERCENT:
        what = f"{retried:g} % of the runs were tried again; the target is {RETRIED_PERCENT:g} %."
        findings.append(Finding(what, "Workers ended or stood still.", "manage.py status"))
    throttled = now.percent("throttled") or 0
    if enough and throttled > THROTTLED_PERCENT:
        what = f"{throttled:g} % of the runs ended because AWS throttled them."
        fix = "Lower CERTIFICATION_CALLS_PER_RUN, or have the quota raised."
        findings.append(Finding(what, "The quota of calls or tokens is used up.", fix))
    for tier in report.tiers:
        if tier.name == Tier.QUICK and (tier.now.p95_s or 0) > QUICK_S:
            what = f"A quick run takes {tier.now.p95_s:g} s (95 %); the target is {QUICK_S:g} s."
            findings.append(Finding(what, *slow_because(tier.now)))
    if now.waited_p95_s and now.p50_s and now.waited_p95_s > WAIT_SHARE * now.p50_s:
        what = f"Runs wait {now.waited_p95_s:g} s (95 %) for a worker."
        fix = "More workers: CERTIFICATION_BULK_WORKERS, or more machines."
        findings.append(Finding(what, "There are more runs than workers take.", fix))
    return findings


def slow_because(figures: Figures) -> tuple[str, str]:
    """Return where the time of runs goes, as far as the figures tell, and what to do."""
    if figures.call_retries > figures.calls / 10:
        return "Calls were tried again.", "manage.py logs --by reason"
    if (figures.latency_ms or 0) > 1000 * (figures.s_per_call or 0) / 2:
        return "Bedrock answers slowly.", "See the slowest models and regions of this report."
    return "The time goes by outside of the calls.", "Look at the load: manage.py status"


def slower_groups(report: Report) -> list[Finding]:
    findings = []
    for kind, groups in (("model", report.models), ("region", report.regions)):
        for group in groups:
            if group.slower and group.slower >= SLOWER:
                what = f"The {kind} {group.name} takes {group.slower:g} times as long per call."
                findings.append(Finding(what, *slow_because(group.now)))
    return findings


def rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
