"""What a load test measures, and that it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from certification.operations import loadtest
from certification.operations.site import Answer, NotAnswered

pytestmark = pytest.mark.django_db


class FakeSite:
    """Answers with these statuses in turn; None is no answer."""

    statuses: Iterator[int | None] = cycle([200])

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, _path: str) -> Answer:
        status = next(type(self).statuses)
        if status is None:
            raise NotAnswered("It does not answer.")
        return Answer(status, "text/html", b"")


@pytest.fixture
def _site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSite, "statuses", cycle([200]))
    monkeypatch.setattr(loadtest, "Site", FakeSite)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = 0
    try:
        call_command("loadtest", "--json", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def test_figures_are_those_of_the_answers() -> None:
    times = [(200, n / 1000) for n in range(1, 101)]
    measured = [("/a", status, seconds) for status, seconds in (*times, (503, 9), (0, 9), (429, 9))]
    figures = loadtest.figures("/a", measured)
    assert (figures.requests, figures.failed, figures.refused) == (103, 2, 1)
    assert (figures.p50_ms, figures.p95_ms, figures.p99_ms) == (51.0, 96.0, 100.0)
    assert not figures.is_met  # 2 % failed
    assert loadtest.figures("/a", measured[:100]).is_met
    assert not loadtest.figures("/a", []).is_met


@pytest.mark.usefixtures("_site")
def test_it_asks_as_often_as_it_was_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loadtest, "TARGET_P95_MS", 1e9)  # no statement about time
    code, report = run(capsys, "--requests", "50", "--at-once", "3")
    assert (code, report["all"]["requests"], report["complete"]) == (0, 50, True)
    assert sum(row["requests"] for row in report["paths"]) == 50
    monkeypatch.setattr(FakeSite, "statuses", cycle([200, 500]))
    code, report = run(capsys, "--requests", "10", "--at-once", "1")
    assert (code, report["all"]["failed"], report["met"]) == (1, 5, False)


@pytest.mark.usefixtures("_site")
def test_it_ends_when_its_time_is_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loadtest, "LONGEST_S", -1)
    code, report = run(capsys, "--requests", "10")
    assert (code, report["complete"]) == (1, False)


@pytest.mark.usefixtures("_site")
def test_what_it_refuses_and_what_does_not_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (["--requests", "0"], ["--at-once", "101"], ["--requests", "1000000"]):
        with pytest.raises(CommandError, match="not an attack") as refused:
            call_command("loadtest", *arguments)
        assert refused.value.returncode == 2
    assert run(capsys, "--dry-run")[1]["paths"][0] == "/live"
    monkeypatch.setattr(FakeSite, "statuses", cycle([None]))
    with pytest.raises(CommandError, match="does not answer") as refused:
        call_command("loadtest")
    assert refused.value.returncode == 2
