"""What the parameters of the matrix's address show, what its files hold, and what is selected."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from certification.inference import RouteTarget
from certification.models import (
    AIModel,
    ModelCertification,
    ModelKind,
    Provider,
    Region,
    Route,
)
from certification.reasons import Reason, Status
from certification.web import start
from certification.web.matrix import Matrix
from tests.factories import certify, earlier_run, start_job

pytestmark = pytest.mark.django_db
SESSION_USER_AND_ROLE = 3
HEADER = 1  # open alerts and read-only mode


@pytest.fixture
def world(empty_catalogue: None) -> dict[str, AIModel]:
    """Three models of two vendors; all are offered in us-east-1, Nova in sa-east-1 too, none in
    eu-west-3.
    """
    provider = Provider.objects.create(slug="bedrock", name="AWS Bedrock")
    for code, name in (("us-east-1", "Virginia"), ("sa-east-1", "São Paulo")):
        Region.objects.create(code=code, name=name)
    models = {}
    for vendor, name, kind, capabilities in (
        ("Amazon", "Nova Lite", ModelKind.TEXT, ["tools", "vision"]),
        ("Amazon", "Titan Embed", ModelKind.EMBEDDING, []),
        ("Meta", "Llama 4", ModelKind.TEXT, ["tools"]),
    ):
        row = AIModel.objects.create(
            provider=provider, vendor=vendor, name=name, kind=kind, capabilities=capabilities,
            api_model_id=f"x.{name.split()[0].lower()}", lifecycle="ACTIVE",
        )  # fmt: skip
        Route.objects.create(
            model=row, region_id="us-east-1", kind="ON_DEMAND", target_id=row.api_model_id
        )
        models[name.split()[0]] = row
    Route.objects.create(
        model=models["Nova"], region_id="sa-east-1", kind="INFERENCE_PROFILE", target_id="us.x.nova"
    )
    return models


@pytest.fixture
def tested(world: dict[str, AIModel]) -> dict[str, AIModel]:
    """Nova is certified in both regions, Llama failed; Titan was never tested."""
    certify(world["Nova"], "us-east-1", score=95, rating="A", tier="full", cost_usd=0.02)
    certify(
        world["Nova"],
        "sa-east-1",
        score=81,
        rating="B",
        by=RouteTarget("us.x.nova", "INFERENCE_PROFILE"),
        results=[("T1", "passed", "Called."), ("S1", "failed", "Cut.")],
    )
    certify(world["Llama"], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED, score=40)
    return world


def load(client: Client, query: str = "") -> Matrix:
    response = client.get(f"/matrix/?{query}")
    assert response.status_code == 200
    page: Matrix = response.context["matrix"]
    return page


def html_of(client: Client, query: str = "") -> str:
    return str(client.get(f"/matrix/?{query}").content.decode())


class TestFilters:
    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("vendor=Amazon&vendor=Meta", ["Nova Lite", "Titan Embed", "Llama 4"]),
            ("kind=embedding&kind=image", ["Titan Embed"]),
            ("lifecycle=ACTIVE", ["Nova Lite", "Titan Embed", "Llama 4"]),
            ("lifecycle=LEGACY", []),
            ("capability=tools", ["Nova Lite", "Llama 4"]),
            ("capability=tools&capability=vision", ["Nova Lite"]),
            ("status=failed&status=certified", ["Nova Lite", "Llama 4"]),
            ("reason=gate_failed", ["Llama 4"]),
            ("geo=sa", ["Nova Lite"]),
            ("region=sa-east-1&region=us-east-1", ["Nova Lite", "Titan Embed", "Llama 4"]),
            ("route=INFERENCE_PROFILE", ["Nova Lite"]),
            ("backend=emulator", ["Nova Lite", "Llama 4"]),
            ("backend=aws", []),
            ("min_score=81", ["Nova Lite"]),
            ("min_score=0", ["Nova Lite", "Llama 4"]),
            ("tested=1d", ["Nova Lite", "Llama 4"]),
            ("sort=worst", ["Titan Embed", "Nova Lite", "Llama 4"]),
        ],
    )
    def test_each_narrows_the_rows(
        self, as_viewer: Client, tested: dict[str, AIModel], query: str, names: list[str]
    ) -> None:
        page = load(as_viewer, query)
        assert sorted(row.model.name for row in page.rows) == sorted(names)

    def test_a_value_that_there_is_not_is_left_out_and_the_page_says_so(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        html = html_of(as_viewer, "region=xx-1<b>")
        assert "There is no region “xx-1&lt;b&gt;”: shown without it." in html
        assert "Llama 4" in html

    def test_nothing_left_says_which_filter_removes_most(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        html = html_of(as_viewer, "vendor=Meta&status=certified&q=llama")
        assert "No model matches" in html
        assert "This removes most: status: certified" in html

    def test_what_is_on_can_be_removed_by_itself(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        html = html_of(as_viewer, "vendor=Meta&show=score")
        assert 'href="?show=score"' in html
        assert "Clear all" in html


class TestOrder:
    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("sort=name&group=none", ["Llama 4", "Nova Lite", "Titan Embed"]),
            ("sort=worst&group=none", ["Llama 4", "Nova Lite", "Titan Embed"]),
            ("sort=score&group=none", ["Nova Lite", "Llama 4", "Titan Embed"]),
            ("sort=tested&group=none", ["Llama 4", "Nova Lite", "Titan Embed"]),
            ("sort=worst", ["Nova Lite", "Titan Embed", "Llama 4"]),
            ("group=family", ["Llama 4", "Nova Lite", "Titan Embed"]),
        ],
    )
    def test_rows_are_sorted_within_their_group(
        self, as_viewer: Client, tested: dict[str, AIModel], query: str, names: list[str]
    ) -> None:
        assert [row.model.name for row in load(as_viewer, query).rows] == names

    def test_groups_have_names(self, as_viewer: Client, tested: dict[str, AIModel]) -> None:
        groups = {q: [g.name for g in load(as_viewer, f"group={q}").groups] for q in
                  ("vendor", "family", "none")}  # fmt: skip
        assert groups["vendor"] == ["Amazon", "Meta"]
        assert groups["family"] == ["Llama", "Nova", "Titan"]
        assert groups["none"] == [""]

    def test_columns_are_by_geography_and_pinned_ones_first(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        page = load(as_viewer)
        assert [region.code for region in page.regions] == ["us-east-1", "sa-east-1"]
        assert [(str(n), c) for n, c in page.geographies] == [
            ("United States", 1), ("South America", 1),
        ]  # fmt: skip
        pinned = load(as_viewer, "pin=sa-east-1")
        assert [region.code for region in pinned.regions] == ["sa-east-1", "us-east-1"]

    def test_columns_without_a_route_can_be_hidden(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        assert len(load(as_viewer, "vendor=Meta").regions) == 2
        page = load(as_viewer, "vendor=Meta&empty=hide")
        assert [region.code for region in page.regions] == ["us-east-1"]
        assert all(len(row.cells) == 1 for row in page.rows)

    def test_totals_are_over_all_that_match(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        page = load(as_viewer)
        assert page.totals == [("us-east-1", 1, 3), ("sa-east-1", 1, 1)]
        assert page.sentence == "2 of 4 offered pairs are certified."

    def test_a_certified_pair_without_a_route_is_none_of_those_offered(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        Route.objects.filter(region="sa-east-1").delete()
        page = load(as_viewer)
        assert page.totals == [("us-east-1", 1, 3), ("sa-east-1", 0, 0)]
        assert page.sentence == "1 of 3 offered pairs are certified."
        assert page.counts["certified"] == 2

    def test_a_picture_shows_the_whole_of_its_address(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        query = "&".join(f"vendor=Vendor-{n}" for n in range(20))
        drawing = as_viewer.get(f"/matrix/export.svg?q=nova&{query}").content.decode()
        lines = re.findall(r'<text x="8" y="\d+" fill="#566072">([^<]*)</text>', drawing)
        assert len(lines) > 1
        assert "".join(lines).endswith(query.replace("&", "&amp;"))


class TestShow:
    @pytest.mark.parametrize(
        ("show", "text"),
        [
            ("status", "<i>A</i><small>95</small>"),
            ("score", "<small>95</small>"),
            ("cost", "<small>0.0200</small>"),
            ("age", "<small>0</small>"),
            ("route", "<i>D</i>"),
            ("residency", "<i>R</i>"),
        ],
    )
    def test_a_cell_shows_what_is_asked_for(
        self, as_viewer: Client, tested: dict[str, AIModel], show: str, text: str
    ) -> None:
        html = html_of(as_viewer, f"show={show}&q=nova")
        start_of = html.index(f'href="/certifications/{tested["Nova"].pk}/us-east-1/"')
        assert text in html[start_of : html.index("</a>", start_of)]

    @pytest.mark.parametrize("show", ["ttft", "tps"])
    def test_what_was_not_measured_is_a_dash_and_what_was_not_tested_a_circle(
        self, as_viewer: Client, tested: dict[str, AIModel], show: str
    ) -> None:
        html = html_of(as_viewer, f"show={show}")
        table = html[html.index("<tbody") : html.index("<tfoot")]
        assert table.count("<small>–</small>") == 3
        assert table.count("<small>○</small>") == 1

    @pytest.mark.parametrize(
        ("show", "sign"), [("tools", "✓"), ("streaming", "✕"), ("vision", "–")]
    )
    def test_a_capability_is_as_measured(
        self, as_viewer: Client, tested: dict[str, AIModel], show: str, sign: str
    ) -> None:
        run = ModelCertification.objects.get(model=tested["Nova"], region="sa-east-1").run
        assert run is not None
        rows = run.results.all()
        categories = {"T1": "tools", "S1": "streaming"}
        for row in rows:  # results cannot be changed: new ones of the right category
            new = type(row)(run=run, case_id=f"{row.case_id}x", category=categories[row.case_id],
                            kind="quality", verdict=row.verdict)  # fmt: skip
            new.save()
        page = load(as_viewer, f"show={show}&q=nova")
        cells = {c.region: page.renderer.view(c).content for c in page.rows[0].cells}
        assert f"<i>{sign}</i>" in cells["sa-east-1"]
        assert "<i>–</i>" in cells["us-east-1"]

    def test_a_quantity_has_steps_and_a_scale(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        page = load(as_viewer, "show=score")
        classes = {
            c.score: page.renderer.view(c).css.split()[0]
            for row in page.rows
            for c in row.cells
            if c.score
        }
        assert classes[40] < classes[81] < classes[95] == "q5"
        html = html_of(as_viewer, "show=score")
        assert "more is better" in html

    def test_a_cell_says_in_words_what_it_shows(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        assert "where data may go: stays in the region" in html_of(as_viewer, "show=residency")
        assert "cost of the run: 0.0200 US$" in html_of(as_viewer, "show=cost")

    @pytest.mark.parametrize("size", ["normal", "compact", "map"])
    def test_sizes(self, as_viewer: Client, tested: dict[str, AIModel], size: str) -> None:
        html = html_of(as_viewer, f"size={size}")
        assert (f"size-{size}" in html) == (size != "map")
        assert ("<svg" in html) == (size == "map")
        assert ('href="?q=x.nova"' in html) == (size == "map")
        assert "style=" not in html

    def test_a_row_of_the_map_has_a_path_for_each_look(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        ModelCertification.objects.filter(model=tested["Nova"], region="sa-east-1").update(
            expires_at=timezone.now() - timedelta(hours=1)
        )
        html = html_of(as_viewer, "size=map&q=nova")
        drawn = html[html.index("<svg viewBox") :]
        paths = re.findall(r'<path class="([^"]+)" d="([^"]+)"', drawn)
        assert [css for css, _d in paths] == ["s-certified", "s-certified expired"]
        assert [d.count("M") for _css, d in paths] == [1, 1]


class TestTime:
    def test_since_marks_what_got_better_and_worse(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        rows = ModelCertification.objects
        earlier_run(rows.get(model=tested["Llama"]).run, Status.CERTIFIED, days=10)  # type: ignore[arg-type]
        nova = rows.get(model=tested["Nova"], region="us-east-1").run
        earlier_run(nova, Status.FAILED, days=10)  # type: ignore[arg-type]
        page = load(as_viewer, "since=7d")
        assert "1 got worse and 1 better in 7 days" in page.sentence
        [worse] = load(as_viewer, "since=7d&status=worse").rows
        assert worse.model == tested["Llama"]
        [better] = load(as_viewer, "since=7d&status=better").rows
        assert better.model == tested["Nova"]
        assert "before: certified" in html_of(as_viewer, "since=7d")
        assert load(as_viewer, "since=30d&status=worse").rows == []

    def test_at_shows_the_matrix_as_it_stood(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        nova = ModelCertification.objects.get(model=tested["Nova"], region="us-east-1").run
        earlier_run(nova, Status.QUALITY_WARNING, days=10)  # type: ignore[arg-type]
        start_job([tested["Titan"]], ["us-east-1"])
        day = (timezone.now() - timedelta(days=3)).date()
        page = load(as_viewer, f"at={day.isoformat()}")
        assert page.counts == {"quality_warning": 1, "not_tested": 3}
        html = html_of(as_viewer, f"at={day.isoformat()}")
        assert f"As it stood at the end of {day.isoformat()} (UTC)." in html
        assert "data-poll" not in html
        assert "tested 6 days ago" in html or "tested 7 days ago" in html
        before = (timezone.now() - timedelta(days=20)).date()
        assert load(as_viewer, f"at={before.isoformat()}").counts == {"not_tested": 4}

    def test_at_knows_what_had_expired_then(
        self, as_viewer: Client, tested: dict[str, AIModel], settings: Any
    ) -> None:
        settings.CERTIFICATION_TTL_DAYS = 2
        nova = ModelCertification.objects.get(model=tested["Nova"], region="us-east-1").run
        earlier_run(nova, Status.CERTIFIED, days=10)  # type: ignore[arg-type]
        day = (timezone.now() - timedelta(days=5)).date()
        assert load(as_viewer, f"at={day.isoformat()}").counts["expired"] == 1


@pytest.mark.parametrize(
    ("query", "queries"), [("", 5), ("since=7d&at=2026-01-01", 5), ("show=tools&since=7d", 6)]
)
def test_no_view_takes_more_than_six_queries(
    as_viewer: Client,
    tested: dict[str, AIModel],
    django_assert_num_queries: DjangoAssertNumQueries,
    query: str,
    queries: int,
) -> None:
    with django_assert_num_queries(queries + SESSION_USER_AND_ROLE + HEADER):
        load(as_viewer, query)


class TestFiles:
    def test_csv_has_what_the_address_shows_and_where_it_is_from(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        evil = "=HYPERLINK(1)"
        AIModel.objects.filter(pk=tested["Nova"].pk).update(name=evil)
        response = as_viewer.get("/matrix/export.csv?vendor=Amazon&status=certified&page=7")
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert response.headers["Content-Disposition"].startswith('attachment; filename="matrix-')
        text = response.content.decode("utf-8-sig")
        head, *table = text.splitlines()
        assert head == "# http://testserver/matrix/?vendor=Amazon&status=certified&page=7"
        rows = list(csv.DictReader(io.StringIO("\n".join(table[2:]))))
        assert [(row["modelName"], row["region"], row["score"]) for row in rows] == [
            (f"'{evil}", "us-east-1", "95"), (f"'{evil}", "sa-east-1", "81"),
        ]  # fmt: skip
        assert rows[0]["backend"] == "emulator"
        assert rows[0]["expired"] == "false"

    def test_json_has_the_same(self, as_viewer: Client, tested: dict[str, AIModel]) -> None:
        body = as_viewer.get("/matrix/export.json?q=llama").json()
        assert body["address"] == "http://testserver/matrix/?q=llama"
        [pair] = body["certifications"]
        assert (pair["modelId"], pair["status"], pair["score"]) == ("x.llama", "failed", 40)
        assert pair["lastTestedAt"].endswith("Z")

    def test_an_expired_pair_is_not_tested_and_has_its_score(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        ModelCertification.objects.update(expires_at=timezone.now() - timedelta(hours=1))
        body = as_viewer.get("/matrix/export.json?q=nova&region=us-east-1").json()
        [pair] = body["certifications"]
        assert (pair["status"], pair["expired"], pair["score"]) == ("not_tested", True, 95)

    def test_the_page_leads_to_both(self, as_viewer: Client, tested: dict[str, AIModel]) -> None:
        html = html_of(as_viewer, "q=nova")
        assert 'href="/matrix/export.csv?q=nova"' in html
        assert 'href="/matrix/export.json?q=nova"' in html


class TestSelection:
    URL = "/matrix/selection/"

    def test_boxes_to_tick_are_there_when_asked_for(
        self, as_operator: Client, tested: dict[str, AIModel]
    ) -> None:
        html = html_of(as_operator, "select=1")
        assert 'name="pair" value="x.nova@sa-east-1"' in html
        assert 'name="model" value="x.nova"' in html
        assert 'name="region" value="us-east-1"' in html
        assert 'type="checkbox" form="selection"' not in html_of(as_operator)

    @pytest.mark.parametrize(
        ("form", "pairs"),
        [
            ({"pair": ["x.nova@sa-east-1", "x.llama@us-east-1"]},
             ["x.nova@sa-east-1", "x.llama@us-east-1"]),
            ({"model": "x.nova"}, ["x.nova@us-east-1", "x.nova@sa-east-1"]),
            ({"region": "sa-east-1"}, ["x.nova@sa-east-1"]),
            ({"pair": ["x.llama@sa-east-1", "x.gone@us-east-1", "x.llama@us-east-1"]},
             ["x.llama@us-east-1"]),
        ],
    )  # fmt: skip
    def test_exactly_the_chosen_pairs_are_offered_to_start(
        self, as_operator: Client, tested: dict[str, AIModel], form: Any, pairs: list[str]
    ) -> None:
        response = as_operator.post(self.URL, form | {"action": "certify"}, follow=True)
        plan = response.context["plan"]
        assert [f"{m.api_model_id}@{r.code}" for m, r in plan.pairs] == pairs

    def test_all_that_match_are_those_of_the_address(
        self, as_operator: Client, tested: dict[str, AIModel]
    ) -> None:
        response = as_operator.post(f"{self.URL}?status=failed", {"all": "1"}, follow=True)
        [(model, region)] = response.context["plan"].pairs
        assert (model.api_model_id, region.code) == ("x.llama", "us-east-1")

    def test_a_choice_too_long_for_an_address_is_posted_on(
        self, as_operator: Client, tested: dict[str, AIModel], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(start, "PAIRS_IN_ADDRESS", 1)
        response = as_operator.post(self.URL, {"all": "1", "action": "certify"})
        assert response.status_code == 200
        html = response.content.decode()
        assert 'name="prefill"' in html
        form = {"prefill": "1", "pair": ["x.nova@us-east-1", "x.llama@us-east-1"], "tier": "quick"}
        response = as_operator.post("/jobs/new/", form, headers={"HX-Request": "true"})
        assert len(response.context["plan"].pairs) == 2
        assert response.context["plan"].choice.tier == "quick"

    def test_nothing_chosen_says_so(self, as_operator: Client, tested: dict[str, AIModel]) -> None:
        response = as_operator.post(f"{self.URL}?q=nova", {"action": "certify"}, follow=True)
        assert "Choose at least one pair." in response.content.decode()
        assert response.redirect_chain[-1][0] == "/matrix/?q=nova"

    def test_viewers_compare_and_start_nothing(
        self, as_viewer: Client, tested: dict[str, AIModel]
    ) -> None:
        assert as_viewer.post(self.URL, {"all": "1", "action": "certify"}).status_code == 403
        assert "Certify these" not in html_of(as_viewer, "select=1")
        response = as_viewer.post(self.URL, {"model": "x.nova", "action": "compare"})
        assert response.headers["Location"] == (
            "/compare/?a=x.nova%40us-east-1&b=x.nova%40sa-east-1"
        )

    def test_one_pair_is_not_compared(self, as_viewer: Client, tested: dict[str, AIModel]) -> None:
        form = {"pair": "x.nova@us-east-1", "action": "compare"}
        response = as_viewer.post(self.URL, form, follow=True)
        assert "Choose two to four pairs to compare." in response.content.decode()

    def test_it_takes_no_get(self, as_operator: Client, tested: dict[str, AIModel]) -> None:
        assert as_operator.get(self.URL).status_code == 405
