"""Go to: what a few words lead to."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from certification.models import AIModel, ModelAlias
from certification.web import goto
from tests.factories import certify

pytestmark = pytest.mark.django_db
SESSION_USER_AND_ROLE = 3


def hits(text: str, *, is_operator: bool = False) -> dict[str, list[str]]:
    results = goto.search(text, is_operator=is_operator)
    return {str(group.name): [hit.url for hit in group.hits] for group in results.groups}


@pytest.fixture
def nova(catalogue: None) -> AIModel:
    return AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")


def test_a_model_is_found_by_name_id_vendor_and_alias(nova: AIModel) -> None:
    ModelAlias.objects.create(alias="x.as-mantle-says", model=nova)
    url = "/matrix/?q=amazon.nova-lite-v1%3A0"
    for text in ("nova lite", "LITE nova", "amazon.nova-lite", "as-mantle", "amazon nova lite"):
        assert url in hits(text)["Models"], text


def test_words_for_a_model_and_a_region_find_the_pair(nova: AIModel) -> None:
    result = hits("nova-lite us-east-1")
    assert result["Models in regions"] == ["/certifications/amazon.nova-lite-v1:0/us-east-1/"]
    assert "Models" not in result


def test_a_region_is_found_by_code_and_name(nova: AIModel) -> None:
    assert hits("sa-east")["Regions"] == ["/matrix/?region=sa-east-1"]
    assert "/matrix/?region=sa-east-1" in hits("são paulo")["Regions"]


def test_jobs_and_runs_are_found_by_the_beginning_of_their_ids(nova: AIModel) -> None:
    run = certify(nova, "us-east-1")
    assert hits(str(run.pk)[:10])["Runs"] == [f"/runs/{run.pk}/"]
    assert hits(str(run.job_id).upper())["Jobs"] == [f"/jobs/{run.job_id}/"]
    assert "Jobs" not in hits("xyz")
    assert "Jobs" not in hits("abc")  # too short to be the beginning of an id


def test_only_operators_are_offered_actions(nova: AIModel) -> None:
    assert "Actions" not in hits("nova-lite us-east-1")
    [url] = hits("nova-lite us-east-1", is_operator=True)["Actions"]
    assert url == "/jobs/new/?pair=amazon.nova-lite-v1%3A0%40us-east-1"


def test_without_words_come_pages_and_the_last_jobs(nova: AIModel) -> None:
    run = certify(nova, "us-east-1")
    assert hits("") == {"Jobs": [f"/jobs/{run.job_id}/"], "Pages": hits("")["Pages"]}
    assert "/matrix/" in hits("")["Pages"]


def test_ten_of_a_kind_are_shown_and_more_are_named(as_viewer: Client, catalogue: None) -> None:
    response = as_viewer.get("/search/?q=a")
    assert len(response.context["results"].groups[0].hits) == 10
    assert "There are more" in response.content.decode()


@pytest.mark.parametrize("text", ["%00", "<script>", "%F0%9F%A6%84", "(((", "a" * 5000, "%5Cx"])
def test_no_text_is_too_strange(as_viewer: Client, catalogue: None, text: str) -> None:
    response = as_viewer.get(f"/search/?q={text}")
    assert response.status_code == 200
    assert "<script>" not in response.content.decode().split("</head>")[1]


def test_the_dialog_gets_the_results_alone_in_four_queries(
    as_operator: Client, catalogue: None, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(4 + SESSION_USER_AND_ROLE):
        response = as_operator.get("/search/?q=abcdef12", headers={"HX-Request": "true"})
    assert response.content.decode().lstrip().startswith('<div id="hits">')
