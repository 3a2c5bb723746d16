"""`manage.py suite`: list, show, try, cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from certification.models import CertificationRun
from certification.suite import docs_page, registry
from tests.paths import PROJECT


def suite(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    call_command("suite", *arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_it_lists_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert {row["id"] for row in suite(capsys, "list")} == set(registry.BY_ID)


def test_it_lists_the_cases_of_a_tier(capsys: pytest.CaptureFixture[str]) -> None:
    rows = suite(capsys, "list", "--kind", "text", "--tier", "quick")
    assert [row["id"] for row in rows] == [f"G{n:02d}" for n in range(1, 13)]


@pytest.mark.parametrize("case_id", [case.id for case in registry.BY_ID.values()])
def test_it_shows_every_case(case_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = suite(capsys, "show", case_id, "--seed", "5")
    assert output["case"]["id"] == case_id
    assert output["seed"] == 5


def test_it_says_where_to_find_the_cases() -> None:
    with pytest.raises(CommandError, match="suite list"):
        call_command("suite", "show", "Z99")


@pytest.mark.django_db(transaction=True)
def test_it_tries_a_case_and_stores_nothing(
    catalogue: None, emulator: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = suite(
        capsys,
        "try",
        "G11",
        "--model",
        "amazon.nova-lite-v1:0",
        "--region",
        "us-east-1",
        "--seed",
        "3",
    )
    assert result["passed"]
    assert [call["request"]["operation"] for call in result["calls"]] == [
        "Converse",
        "ConverseStream",
    ]
    assert not CertificationRun.objects.exists()


@pytest.mark.django_db
def test_it_estimates_what_a_run_costs(catalogue: None, capsys: pytest.CaptureFixture[str]) -> None:
    size = suite(capsys, "cost", "--model", "amazon.nova-lite-v1:0", "--tier", "quick")
    assert size["calls"] == 14
    assert 0 < size["usd"] < 0.01


def test_the_page_about_the_suite_is_up_to_date() -> None:
    page = PROJECT / "docs" / "suite.md"
    assert page.read_text(encoding="utf-8") == docs_page.document(), (
        "Run: manage.py suite doc > docs/suite.md"
    )


def test_every_case_has_a_reason() -> None:
    assert set(docs_page.WHY) == set(registry.BY_ID)
