"""The matrix, what its cells open, and the page of a job."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from certification.models import (
    AIModel,
    ModelAlias,
    ModelCertification,
    ModelKind,
    Provider,
    Region,
    Route,
)
from certification.reasons import Reason, Status
from certification.web import matrix, matrix_filters
from tests.factories import certify, finish, start_job

pytestmark = pytest.mark.django_db
FRAGMENT = {"HX-Request": "true"}
SESSION_USER_AND_ROLE = 3
HEADER = 1  # open alerts and read-only mode


@pytest.fixture
def world(empty_catalogue: None) -> dict[str, AIModel]:
    """Three models of two vendors; two regions offer something, a third nothing, a fourth is
    disabled.
    """
    provider = Provider.objects.create(slug="bedrock", name="AWS Bedrock")
    for code, name in (
        ("us-east-1", "Virginia"),
        ("sa-east-1", "São Paulo"),
        ("eu-west-3", "Paris"),
    ):
        Region.objects.create(code=code, name=name)
    Region.objects.create(code="us-west-2", name="Oregon", enabled=False)
    models = {}
    for vendor, name, kind in (
        ("Amazon", "Nova", ModelKind.TEXT),
        ("Amazon", "Titan Embed", ModelKind.EMBEDDING),
        ("Meta", "Llama", ModelKind.TEXT),
    ):
        row = AIModel.objects.create(
            provider=provider, vendor=vendor, name=name, kind=kind, api_model_id=f"x.{name}"
        )
        Route.objects.create(
            model=row, region_id="us-east-1", kind="ON_DEMAND", target_id=row.api_model_id
        )
        Route.objects.create(
            model=row, region_id="us-west-2", kind="ON_DEMAND", target_id=row.api_model_id
        )
        models[name] = row
    Route.objects.create(
        model=models["Nova"],
        region_id="sa-east-1",
        kind="INFERENCE_PROFILE",
        target_id="global.x.Nova",
    )
    return models


def body(client: Client, path: str = "/matrix/", **kwargs: Any) -> str:
    response = client.get(path, **kwargs)
    assert response.status_code == 200, response.status_code
    return str(response.content.decode())


def cell_of(html: str, model: AIModel, region: str) -> str:
    """The opening tag and content of one cell's link."""
    start = html.index(f'href="/certifications/{model.pk}/{region}/"')
    return html[html.rindex("<a ", 0, start) : html.index("</a>", start)]


class TestMatrix:
    def test_it_wants_a_login(self, client: Client) -> None:
        assert client.get("/matrix/").headers["Location"] == "/login/?next=/matrix/"

    def test_an_empty_catalogue_says_what_to_do(
        self, as_viewer: Client, empty_catalogue: None
    ) -> None:
        assert "manage.py load_catalogue" in body(as_viewer)

    def test_an_untested_catalogue_says_what_to_do(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        assert "manage.py certify x.Nova --regions us-east-1" in body(as_viewer)

    def test_rows_are_active_models_by_vendor(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        AIModel.objects.filter(pk=world["Llama"].pk).update(is_active=False)
        html = body(as_viewer)
        assert "Nova" in html
        assert "Amazon" in html
        assert "Llama" not in html

    def test_columns_are_enabled_regions_that_have_anything(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        response = as_viewer.get("/matrix/")
        assert [r.code for r in response.context["matrix"].regions] == ["us-east-1", "sa-east-1"]
        assert 'title="São Paulo"' in response.content.decode()

    def test_a_search_finds_a_model_by_its_alias(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        ModelAlias.objects.create(alias="x.nova-as-mantle-says", model=world["Nova"])
        page = body(as_viewer, "/matrix/?q=as-mantle")
        assert "x.Nova" in page
        assert "No model matches" not in page

    def test_a_cell_shows_sign_words_rating_and_score(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        certify(world["Nova"], "us-east-1", score=86, rating="B", tier="full")
        cell = cell_of(body(as_viewer), world["Nova"], "us-east-1")
        words = "certified, rating B, score 86, tested today, by Converse on bedrock-runtime"
        assert f'aria-label="us-east-1: {words}"' in cell
        assert "<i>B</i>" in cell
        assert "✓" in cell
        assert "s-certified" in cell

    def test_a_quick_run_shows_no_grade_but_its_age(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        certify(world["Nova"], "us-east-1", score=89, rating="B")
        days_ago = timezone.now() - timedelta(days=3, hours=1)
        ModelCertification.objects.update(last_tested_at=days_ago)
        cell = cell_of(body(as_viewer), world["Nova"], "us-east-1")
        assert "us-east-1: certified, gates only, score 89, tested 3 days ago" in cell
        assert "<i>" not in cell
        html = body(as_viewer, f"/certifications/{world['Nova'].pk}/us-east-1/")
        assert "only the gates were tested" in html

    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            (Status.FAILED, Reason.GATE_FAILED),
            (Status.QUALITY_WARNING, Reason.QUALITY_BELOW_LINE),
            (Status.PERMISSION_REQUIRED, Reason.IAM_DENIED),
            (Status.CONFIGURATION_REQUIRED, Reason.END_OF_LIFE),
            (Status.PENDING, Reason.THROTTLED_TOKENS),
        ],
    )
    def test_every_status_has_its_own_words(
        self, as_viewer: Client, world: dict[str, AIModel], status: Status, reason: Reason
    ) -> None:
        certify(world["Nova"], "us-east-1", status, reason=reason)
        words = str(matrix_filters.STATUSES[status].label)
        assert f"us-east-1: {words}" in cell_of(body(as_viewer), world["Nova"], "us-east-1")

    def test_a_pair_without_a_route_is_hollow_and_leads_nowhere(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        html = body(as_viewer)
        assert f"/certifications/{world['Llama'].pk}/sa-east-1/" not in html
        assert "not offered" in html

    def test_a_verdict_that_was_held_back_is_marked_and_explained(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        certify(world["Nova"], "us-east-1", score=86, rating="B")
        sentence, at = (
            "The certification remains valid: one run may be luck.",
            datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
        )
        ModelCertification.objects.update(held_back=sentence, confirm_after=at)
        cell = cell_of(body(as_viewer), world["Nova"], "us-east-1")
        assert "held-back" in cell
        words = "score 86, tested today, by Converse on bedrock-runtime, a later run was held back"
        assert words in cell
        html = body(as_viewer, f"/certifications/{world['Nova'].pk}/us-east-1/")
        assert sentence in html
        assert "2026-03-04 05:06 UTC</time> decides:" in html

    @pytest.mark.parametrize("reconciled", [False, True])
    def test_an_expired_cell_is_grey_and_says_what_it_was(
        self, as_viewer: Client, world: dict[str, AIModel], reconciled: bool
    ) -> None:
        certify(world["Nova"], "us-east-1")
        ModelCertification.objects.update(expires_at=timezone.now() - timedelta(hours=1))
        if reconciled:
            assert ModelCertification.objects.expire() == 1
        response = as_viewer.get("/matrix/")
        cell = cell_of(response.content.decode(), world["Nova"], "us-east-1")
        assert "expired, was: certified" in cell
        assert "s-certified expired" in cell
        assert response.context["matrix"].counts == {"expired": 1, "not_tested": 3}

    def test_a_pair_with_an_active_run_says_running(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        start_job([world["Nova"]], ["us-east-1"])
        assert "us-east-1: not tested, running" in cell_of(
            body(as_viewer), world["Nova"], "us-east-1"
        )

    def test_the_legend_counts_by_status(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        certify(world["Nova"], "us-east-1")
        certify(world["Llama"], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        start_job([world["Titan Embed"]], ["us-east-1"])
        counts = as_viewer.get("/matrix/").context["matrix"].counts
        assert counts == {"certified": 1, "failed": 1, "not_tested": 2, "running": 1}

    def test_results_of_the_emulator_are_called_so(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        assert "Results from the emulator" not in body(as_viewer)
        certify(world["Nova"], "us-east-1")
        assert "Results from the emulator, not from AWS." in body(as_viewer)

    def test_results_of_aws_are_not(self, as_viewer: Client, world: dict[str, AIModel]) -> None:
        certify(world["Nova"], "us-east-1")
        ModelCertification.objects.update(backend="aws")
        assert "Results from the emulator" not in body(as_viewer)

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("q=nova", ["Nova"]),
            ("q=amazon+embed", ["Titan Embed"]),
            ("q=x.llama", ["Llama"]),
            ("vendor=Amazon", ["Nova", "Titan Embed"]),
            ("kind=embedding", ["Titan Embed"]),
            ("region=sa-east-1", ["Nova"]),
            ("status=certified", ["Nova"]),
            ("status=running", ["Llama"]),
            ("status=expiring", []),
            ("reason=gate_failed", ["Titan Embed"]),
            ("reason=nonsense", ["Nova", "Titan Embed", "Llama"]),
            ("status=nonsense", ["Nova", "Titan Embed", "Llama"]),
            ("vendor=Nobody", ["Nova", "Titan Embed", "Llama"]),
            ("page=99", ["Nova", "Titan Embed", "Llama"]),
            ("q=%00", []),
        ],
    )
    def test_filters_narrow_the_rows(
        self, as_viewer: Client, world: dict[str, AIModel], query: str, names: list[str]
    ) -> None:
        certify(world["Nova"], "us-east-1")
        certify(world["Titan Embed"], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        start_job([world["Llama"]], ["us-east-1"])
        page = as_viewer.get(f"/matrix/?{query}").context["matrix"].page
        assert [row.model.name for row in page] == names

    def test_a_status_sets_the_cells_of_others_aside(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        certify(world["Nova"], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        certify(world["Nova"], "sa-east-1")
        html = body(as_viewer, "/matrix/?status=failed")
        assert "dimmed" not in cell_of(html, world["Nova"], "us-east-1")
        assert "dimmed" in cell_of(html, world["Nova"], "sa-east-1")
        assert "dimmed" not in body(as_viewer)

    def test_no_match_offers_to_clear_the_filters(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        assert "Clear all filters" in body(as_viewer, "/matrix/?q=nothing-like-it")

    def test_the_parameter_page_is_a_part_of_many_models(
        self, as_viewer: Client, catalogue: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert as_viewer.get("/matrix/").context["matrix"].page.paginator.per_page == 250
        monkeypatch.setattr(matrix, "MODELS_PER_PAGE", 60)
        response = as_viewer.get("/matrix/?page=2")
        assert len(response.context["matrix"].page) == 60
        assert "page=3" in response.content.decode()

    def test_names_are_escaped(self, as_viewer: Client, world: dict[str, AIModel]) -> None:
        evil = "<script>alert(1)</script>"
        AIModel.objects.filter(pk=world["Nova"].pk).update(
            name=evil, vendor=evil, api_model_id=evil
        )
        certify(world["Nova"], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED, message=evil)
        for path in (f"/matrix/?q={evil}", f"/certifications/{world['Nova'].pk}/us-east-1/"):
            html = body(as_viewer, path)
            assert evil not in html
            assert "&lt;script&gt;" in html

    def test_what_cells_show_is_escaped(self, as_viewer: Client, world: dict[str, AIModel]) -> None:
        Region.objects.create(code='"><b>eu', name="<i>Nowhere</i>")
        nova = world["Nova"]
        AIModel.objects.filter(pk=nova.pk).update(name='"><b>Nova', api_model_id='x"><b>')
        run = certify(nova, '"><b>eu', score=86, rating="B", tier="full").pk
        ModelCertification.objects.filter(run=run).update(rating="<")
        for query in ("", "select=1", "show=route", "size=map"):
            html = body(as_viewer, f"/matrix/?{query}")
            assert "<b>eu" not in html
            assert "<b>Nova" not in html
            assert "<i>Nowhere" not in html
            assert "rating <" not in html
        assert "rating &lt;, score 86" in body(as_viewer)

    def test_a_narrow_screen_folds_the_groups_of_many_rows(
        self, as_viewer: Client, world: dict[str, AIModel], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certify(world["Nova"], "us-east-1")
        folds = re.findall(r"<details class=\"fold\"[^>]*>", body(as_viewer))
        assert [" open" in fold for fold in folds] == [True, True]
        monkeypatch.setattr(matrix, "ROWS_UNFOLDED", 2)
        html = " ".join(body(as_viewer).split())
        folds = re.findall(r"<details class=\"fold\"[^>]*>", html)
        assert [" open" in fold for fold in folds] == [False, False]
        assert "2 models, 1 of 3 certified" in html
        assert "fold" not in body(as_viewer, "/matrix/?group=none")

    def test_it_takes_five_queries(
        self, as_viewer: Client, catalogue: None, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        for model in AIModel.objects.active().filter(routes__region="us-east-1").distinct()[:8]:
            certify(model, "us-east-1")
        start_job(AIModel.objects.active()[:3], ["us-east-1"])
        with django_assert_num_queries(5 + HEADER + SESSION_USER_AND_ROLE):
            body(as_viewer)

    def test_nothing_inline_for_the_content_policy(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        response = as_viewer.get("/matrix/")
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        html = response.content.decode()
        assert "style=" not in html
        assert "<style" not in html
        assert "onclick" not in html


class TestLiveMatrix:
    def poll(self, client: Client, version: str, path: str = "/matrix/") -> Any:
        return client.get(path, headers=FRAGMENT | {"Page-Version": version})

    def test_a_page_polls_its_own_address(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        html = body(as_viewer, "/matrix/?vendor=Amazon")
        assert 'hx-get="/matrix/?vendor=Amazon"' in html
        assert 'data-poll="15"' in html

    def test_nothing_is_sent_while_nothing_changed_and_the_results_when_something_did(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        version = as_viewer.get("/matrix/").context["matrix"].version
        assert self.poll(as_viewer, version).status_code == 204
        job = start_job([world["Nova"]], ["us-east-1"])
        answer = self.poll(as_viewer, version)
        assert answer.status_code == 200
        html = answer.content.decode()
        assert html.lstrip().startswith("<div")
        assert 'data-poll="3"' in html
        version = answer.context["version"]
        assert self.poll(as_viewer, version).status_code == 204
        finish(job.runs.get(), Status.CERTIFIED, score=90, rating="A")
        assert self.poll(as_viewer, version).status_code == 200

    @pytest.mark.parametrize("change", ["expire", "model", "region"])
    def test_other_changes_are_noticed_too(
        self, as_viewer: Client, world: dict[str, AIModel], change: str
    ) -> None:
        certify(world["Nova"], "us-east-1")
        version = as_viewer.get("/matrix/").context["matrix"].version
        if change == "expire":
            ModelCertification.objects.update(expires_at=timezone.now() - timedelta(hours=1))
            ModelCertification.objects.expire()
        elif change == "model":
            AIModel.objects.filter(name="Llama").update(is_active=False)
        else:
            Region.objects.filter(code="us-east-1").update(enabled=False)
        assert self.poll(as_viewer, version).status_code == 200

    def test_an_unchanged_poll_takes_three_queries(
        self,
        as_viewer: Client,
        world: dict[str, AIModel],
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        version = as_viewer.get("/matrix/").context["matrix"].version
        with django_assert_num_queries(3 + SESSION_USER_AND_ROLE):
            assert self.poll(as_viewer, version).status_code == 204


class TestCertificationPage:
    def path(self, model: AIModel, region: str = "us-east-1") -> str:
        return f"/certifications/{model.pk}/{region}/"

    def test_it_wants_a_login(self, client: Client, world: dict[str, AIModel]) -> None:
        assert client.get(self.path(world["Nova"])).status_code == 302

    def test_it_says_status_score_why_and_what_to_do(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        certify(
            world["Nova"],
            "us-east-1",
            Status.PERMISSION_REQUIRED,
            reason=Reason.IAM_DENIED,
            message="User is not authorized.",
            fix={"text": "Attach a policy.", "command": "aws iam x", "who": "operator"},
        )
        html = body(as_viewer, self.path(world["Nova"]))
        for text in (
            "permission required",
            "denied by an IAM policy",
            "User is not authorized.",
            "Attach a policy.",
            "aws iam x",
            "on demand",
            "from the emulator, not from AWS",
        ):
            assert text in html, text

    def test_it_lists_the_last_ten_runs(self, as_viewer: Client, world: dict[str, AIModel]) -> None:
        for _ in range(12):
            certify(world["Nova"], "us-east-1")
        assert len(as_viewer.get(self.path(world["Nova"])).context["detail"].runs) == 10

    def test_a_run_without_a_verdict_is_told_beside_the_standing(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        certify(world["Nova"], "us-east-1")
        certify(
            world["Nova"], "us-east-1", "", reason=Reason.THROTTLED_TOKENS, message="Slow down."
        )
        html = body(as_viewer, self.path(world["Nova"]))
        assert "certified" in html
        assert "The last run reached no verdict" in html
        assert "Slow down." in html

    def test_an_expired_standing_says_what_it_was(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        certify(world["Nova"], "us-east-1")
        ModelCertification.objects.update(expires_at=timezone.now() - timedelta(hours=1))
        ModelCertification.objects.expire()
        detail = as_viewer.get(self.path(world["Nova"])).context["detail"]
        assert (detail.status, detail.expired) == (Status.CERTIFIED, True)

    def test_a_running_pair_links_its_job(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        job = start_job([world["Nova"]], ["us-east-1"])
        html = body(as_viewer, self.path(world["Nova"]))
        assert "Being certified now" in html
        assert f"/jobs/{job.pk}/" in html

    def test_a_pair_never_certified_says_how_to_start(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        html = body(as_viewer, self.path(world["Nova"], "sa-east-1"))
        assert "Operators can start a certification." in html
        assert "/jobs/new/" not in html

    def test_an_operator_starts_it_from_there(
        self, as_operator: Client, world: dict[str, AIModel]
    ) -> None:
        html = body(as_operator, self.path(world["Nova"], "sa-east-1"))
        assert 'href="/jobs/new/?pair=x.Nova@sa-east-1"' in html

    def test_a_pair_not_offered_says_so(self, as_viewer: Client, world: dict[str, AIModel]) -> None:
        assert "has no route to this model" in body(
            as_viewer, self.path(world["Llama"], "eu-west-3")
        )

    def test_htmx_gets_a_fragment_and_others_a_page(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        fragment = as_viewer.get(self.path(world["Nova"]), headers=FRAGMENT)
        assert "<html" not in fragment.content.decode()
        assert "HX-Request" in fragment.headers["Vary"]
        assert "<html" in body(as_viewer, self.path(world["Nova"]))

    def test_an_address_in_a_fix_is_a_link_only_when_it_is_one(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        fix = {"text": "Look.", "url": "javascript:alert(1)"}
        certify(world["Nova"], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED, fix=fix)
        assert "javascript:" not in body(as_viewer, self.path(world["Nova"]))

    @pytest.mark.parametrize("region", ["nowhere-1", "us-east-1"])
    def test_an_unknown_pair_is_not_found(
        self, as_viewer: Client, world: dict[str, AIModel], region: str
    ) -> None:
        assert as_viewer.get(f"/certifications/{uuid.uuid4()}/{region}/").status_code == 404


def test_every_command_that_a_page_names_exists() -> None:
    pages = [path.read_text() for path in (Path(settings.BASE_DIR) / "templates").rglob("*.html")]
    named = {name for page in pages for name in re.findall(r"manage\.py (\w+)", page)}
    assert {"load_catalogue", "certify"} <= named <= set(get_commands())
    parser = load_command_class("certification", "certify").create_parser("manage.py", "certify")
    assert parser.parse_args(["x.Nova", "--regions", "us-east-1"]).regions == ["us-east-1"]


class TestStylesheet:
    CSS = (Path(settings.BASE_DIR) / "static" / "css" / "base.css").read_text()

    def test_nothing_is_written_twice(self) -> None:
        lines = [line.strip() for line in self.CSS.splitlines()]
        blocks = Counter("\n".join(lines[at : at + 7]) for at in range(len(lines) - 6))
        assert [block for block, times in blocks.items() if times > 1] == []
