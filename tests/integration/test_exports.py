"""Pages as files: CSV, JSON, and pictures of the matrix."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.test import Client

from certification.models import AIModel, CertificationRun
from certification.reasons import Status
from certification.web import matrix_picture
from tests.factories import certify, start_job
from tests.paths import PROJECT

pytestmark = pytest.mark.django_db

NOVA = "amazon.nova-lite-v1:0"
FORMULA = "=HYPERLINK(1)"
HOSTILE = 'Nova <script>"&\u202e\x1b\ufffe'


def nova() -> AIModel:
    return AIModel.objects.get(api_model_id=NOVA)


@pytest.fixture
def run(catalogue: None) -> CertificationRun:
    """A failed run of Nova with two cases, of which one has a trial; one sentence is a formula."""
    return certify(
        nova(),
        "us-east-1",
        Status.FAILED,
        message=FORMULA,
        results=[("G01", "passed", "It answered."), ("G05", "failed", FORMULA)],
        trials={"G05": [{"trial": 0, "valid": True, "passed": False, "calls": [{"secret": 1}]}]},
    )


def rows_of(client: Client, path: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file, after its notes."""
    response = client.get(path)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert 'attachment; filename="' in response["Content-Disposition"]
    assert response.content.startswith(b"\xef\xbb\xbf")
    lines = response.content.decode("utf-8-sig").splitlines(keepends=True)
    notes = [line for line in lines if line.startswith("# ")]
    assert len(notes) == 3
    assert "http://testserver/" in notes[0]
    assert "backend in use: emulator" in notes[2]
    return list(csv.DictReader(io.StringIO("".join(lines[len(notes) :]))))


def data_of(client: Client, path: str) -> Any:
    response = client.get(path)
    assert response.status_code == 200
    data = response.json()
    assert data["backend"] == "emulator"
    assert data["address"].startswith("http://testserver/")
    return data


def test_jobs(as_viewer: Client, run: CertificationRun) -> None:
    start_job([nova()], ["us-west-2"])
    rows = rows_of(as_viewer, "/jobs/export.csv")
    assert [row["status"] for row in rows] == ["PENDING", "COMPLETED"]
    assert rows[1]["id"] == str(run.job_id)
    assert rows[1]["regions"] == "us-east-1"
    data = data_of(as_viewer, "/jobs/export.json?status=COMPLETED&after=0.1.x")
    assert [job["id"] for job in data["jobs"]] == [str(run.job_id)]
    assert data["address"].endswith("/jobs/?status=COMPLETED&after=0.1.x")


def test_a_job(as_viewer: Client, run: CertificationRun) -> None:
    [row] = rows_of(as_viewer, f"/jobs/{run.job_id}/export.csv")
    assert row["apiModelId"] == NOVA
    assert row["verdict"] == "failed"
    assert row["passed"] == "false"
    assert row["errorMessage"] == f"'{FORMULA}"
    data = data_of(as_viewer, f"/jobs/{run.job_id}/export.json?region=sa-east-1")
    assert data["runs"] == []
    assert data["job"]["id"] == str(run.job_id)


def test_a_run_with_its_trials_and_no_requests(as_viewer: Client, run: CertificationRun) -> None:
    rows = rows_of(as_viewer, f"/runs/{run.pk}/export.csv")
    assert [row["caseId"] for row in rows] == ["G05", "G01"]  # worst first
    assert rows[0]["sentence"].startswith("'=")
    data = data_of(as_viewer, f"/runs/{run.pk}/export.json?verdict=failed")
    [case] = data["results"]
    assert case["trials"] == [{"trial": 0, "valid": True, "passed": False}]
    assert data["run"]["id"] == str(run.pk)


def test_a_certification(as_viewer: Client, run: CertificationRun) -> None:
    rows = rows_of(as_viewer, f"/certifications/{NOVA}/us-east-1/export.csv")
    assert {row["caseId"] for row in rows} == {"G01", "G05"}
    data = data_of(as_viewer, f"/certifications/{NOVA}/us-east-1/export.json?q=G05")
    assert [case["caseId"] for case in data["results"]] == ["G05"]
    assert data["status"] == "failed"


def test_a_comparison(as_viewer: Client, run: CertificationRun) -> None:
    other = certify(nova(), "us-west-2", results=[("G05", "passed", "It is right.")])
    query = f"?a={run.pk}&b={other.pk}"
    rows = rows_of(as_viewer, f"/compare/export.csv{query}")
    assert [(row["caseId"], row["group"]) for row in rows] == [("G05", "mended"), ("G01", "only_a")]
    assert rows[0]["verdictA"] == "failed"
    assert rows[0]["verdictB"] == "passed"
    assert rows[1]["verdictB"] == ""
    data = data_of(as_viewer, f"/compare/export.json{query}&only=mended")
    assert [case["caseId"] for case in data["cases"]] == ["G05"]


@pytest.mark.parametrize(
    "path",
    [
        "/compare/export.csv",
        "/compare/export.json?a=x&b=y",
        "/jobs/export.csv?status=%00&region=%00&from=x&q=%00",
    ],
)
def test_what_names_nothing_is_an_empty_file(as_viewer: Client, catalogue: None, path: str) -> None:
    assert as_viewer.get(path).status_code == 200


@pytest.mark.parametrize("page", ["jobs/{0}", "runs/{0}", "certifications/no.model/us-east-1"])
def test_what_there_is_not_answers_404(as_viewer: Client, catalogue: None, page: str) -> None:
    path = page.format("00000000-0000-4000-8000-000000000000")
    for form in ("csv", "json"):
        assert as_viewer.get(f"/{path}/export.{form}").status_code == 404


def test_strangers_log_in_first(client: Client, run: CertificationRun) -> None:
    for path in ("jobs", "compare", "matrix", f"jobs/{run.job_id}", f"runs/{run.pk}"):
        assert client.get(f"/{path}/export.csv").status_code == 302


def test_the_page_links_to_its_files(as_viewer: Client, run: CertificationRun) -> None:
    for page in ("jobs/", f"jobs/{run.job_id}/", f"runs/{run.pk}/"):
        html = as_viewer.get(f"/{page}").content.decode()
        assert f'href="/{page}export.csv"' in html
        assert f'href="/{page}export.json"' in html


class TestMatrixPicture:
    def test_svg_shows_the_matching_rows_and_escapes_names(
        self, as_viewer: Client, run: CertificationRun
    ) -> None:
        AIModel.objects.filter(api_model_id=NOVA).update(name=HOSTILE)
        response = as_viewer.get("/matrix/export.svg?q=nova-lite")
        assert response["Content-Type"] == "image/svg+xml"
        assert response["Content-Disposition"].startswith("attachment")
        drawing = ElementTree.fromstring(response.content)
        texts = ["".join(element.itertext()) for element in drawing.iter() if element.text]
        assert any('Nova <script>"&' in text for text in texts)
        assert any("us-east-1: failed" in text for text in texts)
        assert any("emulated" in text and "/matrix/?q=nova-lite" in text for text in texts)
        assert not [element for element in drawing.iter() if element.tag.endswith("script")]
        assert "\u202e" not in response.content.decode()

    def test_png_is_the_same_drawing(self, as_viewer: Client, run: CertificationRun) -> None:
        response = as_viewer.get("/matrix/export.png?q=nova-lite")
        assert response["Content-Type"] == "image/png"
        assert response.content.startswith(b"\x89PNG\r\n\x1a\n")

    def test_its_colours_are_those_of_the_pages(self) -> None:
        css = (Path(PROJECT) / "static/css/tokens.css").read_text()
        light = dict(re.findall(r"--([\w-]+): light-dark\((#\w+),", css))
        names = ["ok", "warn", "bad", "act", "act", "wait"]
        paints = list(matrix_picture.PAINTS.values())[: len(names)]
        assert paints == [(light[name], light[f"on-{name}"]) for name in names]
        assert (light["idle"], light["on-idle"]) == matrix_picture.EXPIRED
        assert (light["text"], light["quiet"]) == (matrix_picture.TEXT, matrix_picture.QUIET)

    def test_every_status_has_a_sign_and_a_colour(self) -> None:
        assert set(matrix_picture.SIGNS) == set(matrix_picture.PAINTS) == set(Status)
