"""A model's page for people outside, and the page that helps to show its badge."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from certification.lib import shared_cache
from certification.models import AIModel, ModelCertification
from certification.reasons import Reason, Status
from certification.web import public_model
from certification.web.public_model import PUBLIC_STATES, USABLE
from tests.factories import certify

pytestmark = pytest.mark.django_db
NOVA = "amazon.nova-lite-v1:0"
ADDRESS = f"/m/{NOVA}/"


def text_of(answer: Any) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode())))


@pytest.fixture
def model() -> AIModel:
    return AIModel.objects.get(api_model_id=NOVA)


class TestPublicModel:
    def test_a_stranger_sees_where_it_works_in_three_queries(
        self, client: Client, model: AIModel, django_assert_max_num_queries: Any
    ) -> None:
        certify(model, "us-east-1", tier="full")
        with django_assert_max_num_queries(3):
            answer = client.get(ADDRESS)
        text = text_of(answer)
        assert re.search(r"Usable in 1 of \d+ regions\.", text)
        assert "United States us-east-1" in text
        assert "Usable for: chat" in text
        assert "EMULATED" in text
        assert not answer.cookies

    def test_no_reason_is_told(self, client: Client, model: AIModel) -> None:
        reason, message = Reason.PAYMENT_INSTRUMENT, "Account 123456789012 has no card."
        certify(
            model, "us-east-1", Status.PERMISSION_REQUIRED, reason=reason, message=message,
            fix={"text": "Pay."},
        )  # fmt: skip
        text = text_of(client.get(f"{ADDRESS}?region=us-east-1"))
        assert "In us-east-1: not available here." in text
        for internal in ("card", "payment", "permission", "Pay."):
            assert internal not in text

    @pytest.mark.parametrize("status", PUBLIC_STATES)
    def test_it_says_the_same_as_the_operators_see(self, model: AIModel, status: Status) -> None:
        certify(model, "us-east-1")
        pairs = ModelCertification.objects.filter(model=model)
        now = timezone.now()
        for expires_at in (now + timedelta(days=1), now - timedelta(days=1)):
            pairs.update(status=status, expires_at=expires_at)
            page = public_model.load(NOVA, "us-east-1", now)
            assert page is not None
            assert page.chosen is not None
            current = Status(pairs.get().current(now))
            assert page.chosen.state == PUBLIC_STATES[current]
            assert page.usable == int(PUBLIC_STATES[current] in USABLE)

    def test_an_unchanged_page_is_not_sent_again(self, client: Client) -> None:
        answer = client.get(ADDRESS)
        again = client.get(ADDRESS, headers={"If-None-Match": answer["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again["Cache-Control"] == answer["Cache-Control"]
        assert {"Accept-Language", "Cookie"} <= set(answer["Vary"].split(", "))
        other = client.get(f"{ADDRESS}?lang=pt-br", headers={"If-None-Match": answer["ETag"]})
        assert other.status_code == 200

    def test_it_is_read_once_in_a_minute(
        self, client: Client, settings: Any, django_assert_num_queries: Any
    ) -> None:
        settings.PUBLIC_CACHE_SECONDS = 60
        shared_cache.begin_generation()
        first = client.get(ADDRESS).content
        with django_assert_num_queries(0):
            assert client.get(ADDRESS).content == first
        shared_cache.begin_generation()

    def test_an_unknown_region_is_told_and_an_alias_finds_the_model(
        self, client: Client, model: AIModel
    ) -> None:
        assert "No region xx-1 for this model" in text_of(client.get(f"{ADDRESS}?region=xx-1"))
        model.aliases.create(alias="my/alias:1")
        assert NOVA in text_of(client.get("/m/my/alias:1/"))

    def test_an_unknown_model_is_answered_with_near_names(self, client: Client) -> None:
        answer = client.get("/m/amazon.nova-lite/")
        assert answer.status_code == 404
        assert NOVA in text_of(answer)

    @pytest.mark.parametrize("name", ["x" * 5000, "%00", "%F0%9F%92%A5", "%3Cscript%3E", "a//b"])
    def test_any_other_name_is_no_defect(self, client: Client, name: str) -> None:
        answer = client.get(f"/m/{name}/")
        assert answer.status_code == 404
        assert "<script>" not in answer.content.decode()


class TestBadgeBuilder:
    @pytest.fixture(autouse=True)
    def uncached(self, settings: Any) -> None:
        settings.BADGE_CACHE_SECONDS = 0

    def test_it_gives_texts_to_copy_in_three_queries(
        self, client: Client, model: AIModel, django_assert_max_num_queries: Any
    ) -> None:
        certify(model, "us-east-1")
        query = "model=amazon.nova-lite-v1:0&region=us-east-1&style=flat-square&badge=pt-br"
        with django_assert_max_num_queries(3):
            page = client.get(f"/badges/?{query}").content.decode()
        path = "/badges/amazon.nova-lite-v1%3A0/us-east-1.svg?style=flat-square&lang=pt-br"
        assert f'<img src="{html.escape(path)}"' in page
        text = html.unescape(page)
        assert f"(http://localhost:3001{path})" in text
        assert "https://img.shields.io/endpoint?url=http%3A%2F%2Flocalhost%3A3001%2Fbadges" in text
        assert client.get(path).status_code == 200

    def test_every_state_is_shown(self, client: Client) -> None:
        page = client.get("/badges/").content.decode()
        for message in ("certified · A 94", "expired", "2/3 regions", "unknown", "unavailable"):
            assert f'alt="{message}' in page

    @pytest.mark.parametrize(
        "query", ["model=%00", "model=nope", f"model={NOVA}/us-east-1", f"model={NOVA}&region=%00",
                  f"model={NOVA}&style=x&badge=y&label=%3Cb%3E", "model=" + "x" * 5000],
    )  # fmt: skip
    def test_strange_choices_are_no_defect(self, client: Client, query: str) -> None:
        answer = client.get(f"/badges/?{query}")
        assert answer.status_code == 200
        assert "<b>" not in answer.content.decode().replace('<b aria-hidden="true">', "")

    def test_a_name_is_text_in_every_snippet(self, client: Client, model: AIModel) -> None:
        AIModel.objects.filter(pk=model.pk).update(name='](x) <script> "] [`*_\u202e')
        page = html.unescape(client.get(f"/badges/?model={NOVA}").content.decode())
        [markdown] = re.findall(r"\[!\[.*?\n", page)
        assert r"\]" in markdown
        assert r"\<script\>" in markdown
        [asciidoc] = re.findall(r"image:http.*", page)
        assert asciidoc.count('"') == 4
        assert "&lt;script&gt;" in re.findall(r'<a href="http://localhost:3001/m/.*', page)[0]

    def test_a_badge_speaks_english_unless_it_is_told(self, client: Client, model: AIModel) -> None:
        certify(model, "us-east-1")
        address = f"/badges/{NOVA}/us-east-1.json"
        asks = {"Accept-Language": "pt-BR"}
        english = client.get(address, headers=asks).json()["message"]
        assert english == client.get(f"{address}?lang=xx").json()["message"]
        assert english.startswith("certified")
        assert client.get(f"{address}?lang=pt-br").json()["message"] != english
