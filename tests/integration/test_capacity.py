"""Capacity: each figure of the report can be computed again from stored rows."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from certification.lib import clock
from certification.models import (
    AIModel,
    CapacityDay,
    CertificationJob,
    CertificationRun,
    RunTotal,
    sql,
)
from certification.monitoring import capacity
from certification.monitoring.capacity import Line, fit
from tests.factories import certify, earlier_run

pytestmark = pytest.mark.django_db
TODAY = date(2026, 11, 30)
DAY = timedelta(days=1)


@pytest.fixture
def runs(catalogue: None) -> None:
    """Runs of today, of three days ago, and of last year."""
    nova = AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")
    run = certify(nova, "us-east-1", calls=12, cost_usd=0.25)
    certify(nova, "us-west-2", calls=3, cost_usd=0.5)
    for days in (3, 3, 400):
        earlier_run(run, "certified", days)


def stored(name: str) -> dict[date, float]:
    return dict(CapacityDay.objects.filter(name=name).values_list("day", "value"))


def report_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = 0
    try:
        call_command("capacity_report", "--json", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def test_days_are_counted_from_their_rows_and_again_only_from_the_last_one(runs: None) -> None:
    unknown = capacity.record()
    assert unknown == []
    ended = CertificationRun.objects.exclude(completed_at=None)
    by_day = Counter(run.completed_at.astimezone(UTC).date() for run in ended if run.completed_at)
    assert stored("runs") == by_day
    assert sum(stored("calls").values()) == sum(run.calls or 0 for run in ended)
    assert sum(stored("cost_usd").values()) == pytest.approx(0.75)
    assert sum(stored("jobs").values()) == CertificationJob.objects.count()
    CapacityDay.objects.filter(name="runs", day=min(by_day)).update(value=99)
    earlier_run(ended[0], "certified", 0)
    capacity.record()
    assert stored("runs")[min(by_day)] == 99  # an old day is not counted again
    assert stored("runs")[max(by_day)] == by_day[max(by_day)] + 1


def test_levels_and_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = iter([50.0, 20.0])
    monkeypatch.setitem(capacity.PEAKS, "load_percent", lambda: next(loads))
    monkeypatch.setitem(capacity.LEVELS, "requests_within:", lambda: {"requests_within:0.5": 7})
    capacity.record()
    capacity.record()
    today = clock.now().date()
    assert stored("load_percent") == {today: 50}
    assert stored("requests_within:0.5") == {today: 7}
    size = sql.fetch_one(sql.DATABASE_FACTS)
    assert size
    assert stored("database_bytes")[today] == pytest.approx(size["bytes"], rel=0.05)
    assert len(CapacityDay.objects.filter(name__startswith="table_bytes:")) == capacity.TABLES


def test_what_cannot_be_measured_is_named_and_the_rest_is_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away() -> float:
        raise ConnectionError

    monkeypatch.setitem(capacity.PEAKS, "redis_percent", away)
    assert capacity.record() == ["redis_percent"]
    assert stored("disk_percent")


def test_the_report_follows_from_the_stored_rows(
    runs: None, capsys: pytest.CaptureFixture[str]
) -> None:
    capacity.record()
    _code, report = report_of(capsys)
    rows = list(CapacityDay.objects.values_list("name", "day", "value"))
    year_ago = clock.now().date() - timedelta(days=31 * 13)
    for month in report["months"]:
        of_month = [
            (name, value) for name, day, value in rows
            if f"{day:%Y-%m}" == month["month"][:7] and day >= year_ago
        ]  # fmt: skip
        for figure in ("runs", "jobs", "calls", "cost_usd"):
            assert month[figure] == pytest.approx(sum(v for n, v in of_month if n == figure))
    first = clock.now().date() - timedelta(days=29)
    assert sum(day["runs"] for day in report["days"]) == sum(
        value for name, day, value in rows if name == "runs" and day >= first
    )
    sizes = {n.partition(":")[2]: v for n, _day, v in rows if n.startswith("table_bytes:")}
    assert {table["name"]: table["bytes"] for table in report["tables"]} == sizes
    totals = RunTotal.of_all_runs()
    assert report["total"]["runs"] == sum(row["runs"] for row in totals)
    assert report["total"]["calls"] == sum(row["calls"] for row in totals)
    assert {limit["missingDays"] for limit in report["limits"]} == {6, 7}


def store_line(name: str, start: float, a_day: float, number: int) -> None:
    today = timezone.now().date()
    for ago in range(number):
        CapacityDay.write(today - ago * DAY, {name: start - a_day * ago})


def test_a_limit_is_reached_where_the_line_meets_it(
    capsys: pytest.CaptureFixture[str], as_viewer: Client
) -> None:
    today = timezone.now().date()
    store_line("disk_percent", 65, 0.5, 20)
    store_line("redis_percent", 30, -1, 20)
    store_line("runs_waiting", 600, 0, 6)
    code, report = report_of(capsys, "--forecast", "30")
    limits = {limit["name"]: limit for limit in report["limits"]}
    disk = limits["disk_percent"]
    assert (disk["state"], disk["perDay"]) == ("ok", pytest.approx(0.5))
    assert disk["warningOn"] == str(today + 10 * DAY)
    assert disk["criticalOn"] == str(today + 40 * DAY)
    assert limits["redis_percent"]["criticalOn"] is None
    assert (limits["runs_waiting"]["state"], limits["runs_waiting"]["missingDays"]) == (
        "warning",
        1,
    )
    assert limits["load_percent"]["state"] == "unknown"
    assert code == 1
    CapacityDay.objects.filter(name="runs_waiting").delete()
    assert report_of(capsys, "--forecast", "30")[0] == 0
    assert report_of(capsys, "--forecast", "60")[0] == 1
    html = as_viewer.get("/operations/?tab=capacity&forecast=30").content.decode()
    assert "No limit is reached within 30 days." in html
    html = as_viewer.get("/operations/?tab=capacity&forecast=x").content.decode()
    assert "Disk reaches its limit on" in html
    assert "manage.py cleanup --dry-run" in html


def test_the_response_time_is_that_of_the_day(capsys: pytest.CaptureFixture[str]) -> None:
    today = timezone.now().date()
    for ago, within in ((2, (100, 0, 0)), (1, (190, 10, 0)), (0, (5, 3, 2))):
        names = ("requests_within:0.2", "requests_within:0.5", "requests_within:+Inf")
        CapacityDay.write(today - ago * DAY, dict(zip(names, within, strict=True)))
    assert capacity.response_times(capacity.stored()) == {today - DAY: 500}  # 90 + 10
    CapacityDay.write(today, {"requests_within:+Inf": 0})  # began anew: 5 and 3
    assert capacity.response_times(capacity.stored())[today] == 500


def test_without_anything_stored_it_says_so(
    capsys: pytest.CaptureFixture[str], as_viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "PEAKS", {"disk_percent": lambda: 10.0})
    call_command("capacity_report")
    assert "Nothing is stored yet" in capsys.readouterr().out
    html = as_viewer.get("/operations/?tab=capacity").content.decode()
    assert "Too little data for a forecast: 0 of 7 days." in html
    capacity.record()
    call_command("capacity_report")
    assert "too little data: 1 of 7 days" in capsys.readouterr().out
    with pytest.raises(CommandError) as refused:
        call_command("capacity_report", "--forecast", "0")
    assert refused.value.returncode == 2


def test_a_line_through_too_little_or_far_away() -> None:
    assert fit({TODAY: 1}) is None
    flat = fit({TODAY + n * DAY: 5.0 for n in range(7)})
    assert flat == Line(5, 0)
    assert flat.day_of(6, TODAY) is None
    assert flat.day_of(5, TODAY) == TODAY
    slow = Line(0, 1e-12)
    assert slow.day_of(1, TODAY) == capacity.LAST_DAY
