"""The public badges: what they say, how they look to a parser, and what they must never do."""

from __future__ import annotations

import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone, translation
from hypothesis import given, settings
from hypothesis import strategies as st

from certification import labels
from certification.badges import content, svg
from certification.inference import RouteTarget
from certification.lib import shared_cache
from certification.models import AIModel, ModelCertification, Region, Route
from certification.reasons import Status
from tests.factories import certify

SVG = "{http://www.w3.org/2000/svg}"
MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:us-east-1:111122223333:custom-model/anthropic.claude-v2/my-model-1"


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    shared_cache.client().flushdb()
    shared_cache.breaker.close()
    yield
    shared_cache.breaker.close()


@pytest.fixture
def model(catalogue: None) -> AIModel:
    return AIModel.objects.get(api_model_id=MODEL)


def stand(model: AIModel, region: str = "us-east-1", **values: Any) -> ModelCertification:
    """Where a model stands, on AWS unless told."""
    values = {"status": Status.CERTIFIED, "score": 93, "rating": "A", "backend": "aws", **values}
    values.setdefault("expires_at", timezone.now() + timedelta(days=30))
    return ModelCertification.objects.create(model=model, region_id=region, **values)


def texts(svg: bytes) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def test_a_certified_model_has_a_green_badge(model: AIModel, client: Client) -> None:
    stand(model)
    response = client.get(f"/badges/{MODEL}/us-east-1.svg")
    assert response.status_code == 200
    assert response["Content-Type"] == "image/svg+xml; charset=utf-8"
    assert texts(response.content) == ["Claude Sonnet 4.5 · us-east-1", "certified · A 93"]
    root = ET.fromstring(response.content)
    assert root.get("role") == "img"
    assert (
        root.get("aria-label")
        == root.findtext(f"{SVG}title")
        == "Claude Sonnet 4.5 · us-east-1: certified · A 93"
    )
    assert svg.PAINTS["green"].fill in response.content.decode()


@pytest.mark.parametrize(
    ("status", "message", "color"),
    [
        (Status.CERTIFIED, "certified · A 93", "green"),
        (Status.FAILED, "failed · A 93", "red"),
        (Status.QUALITY_WARNING, "quality warning · A 93", "yellow"),
        (Status.PENDING, "pending · A 93", "blue"),
        (Status.PERMISSION_REQUIRED, "permission required · A 93", "orange"),
        (Status.CONFIGURATION_REQUIRED, "configuration required · A 93", "orange"),
        (Status.NOT_TESTED, "not tested · A 93", "grey"),
    ],
)
def test_every_status_has_its_words_and_colour(
    model: AIModel, client: Client, status: str, message: str, color: str
) -> None:
    stand(model, status=status)
    facts = client.get(f"/badges/{MODEL}/us-east-1.json").json()
    assert (facts["status"], facts["message"], facts["color"]) == (status, message, color)


def test_every_status_is_known_to_the_colours() -> None:
    assert set(content.WORST_FIRST) == set(labels.STATUSES) == set(Status)
    assert {sign.colour for sign in labels.STATUSES.values()} == set(svg.PAINTS)


def test_the_facts_are_camel_case_and_dated_in_utc(model: AIModel, client: Client) -> None:
    at = timezone.now().replace(
        year=timezone.now().year + 1, month=3, day=5, hour=6, minute=7, second=8, microsecond=0
    )
    stand(model, certified_at=at - timedelta(days=3), expires_at=at)
    response = client.get(f"/badges/{MODEL}/us-east-1.json")
    assert response["Content-Type"] == "application/json"
    assert response.json() == {
        "modelId": MODEL,
        "modelName": "Claude Sonnet 4.5",
        "region": "us-east-1",
        "offered": True,
        "status": "certified",
        "score": 93,
        "rating": "A",
        "certifiedAt": f"{at.year}-03-02T06:07:08.000Z",
        "expiresAt": f"{at.year}-03-05T06:07:08.000Z",
        "isExpired": False,
        "backend": "aws",
        "endpoint": None,
        "api": None,
        "label": "Claude Sonnet 4.5 · us-east-1",
        "message": "certified · A 93",
        "color": "green",
    }


def test_shields_io_gets_what_its_schema_asks_for(model: AIModel, client: Client) -> None:
    stand(model)
    assert client.get(f"/badges/{MODEL}/us-east-1.shields.json").json() == {
        "schemaVersion": 1,
        "label": "Claude Sonnet 4.5 · us-east-1",
        "message": "certified · A 93",
        "color": "green",
        "isError": False,
        "cacheSeconds": 300,
    }


def test_an_emulated_result_says_so(model: AIModel, client: Client) -> None:
    certify(model, "us-east-1")
    facts = client.get(f"/badges/{MODEL}/us-east-1.json").json()
    assert facts["backend"] == "emulator"
    assert facts["message"] == "certified · B 89 · emulated"
    assert client.get(f"/badges/{MODEL}.json").json()["message"].endswith("regions · emulated")
    stand(model, "us-west-2")
    shared_cache.client().flushdb()
    assert (
        client.get(f"/badges/{MODEL}.json").json()["message"].endswith("regions · partly emulated")
    )


def test_an_expired_certification_is_grey_before_and_after_reconcile_takes_it_away(
    model: AIModel, client: Client
) -> None:
    stand(model, expires_at=timezone.now() - timedelta(seconds=1))
    for _ in range(2):
        facts = client.get(f"/badges/{MODEL}/us-east-1.json").json()
        assert (facts["status"], facts["isExpired"], facts["message"], facts["color"]) == (
            "not_tested",
            True,
            "expired",
            "grey",
        )
        assert client.get(f"/badges/{MODEL}.json").json()["regionsCertified"] == 0
        ModelCertification.objects.expire()
        shared_cache.client().flushdb()


def test_a_cached_badge_expires_in_time_and_so_does_the_browsers_copy(
    model: AIModel, client: Client, settings: Any
) -> None:
    settings.BADGE_CACHE_SECONDS = 60
    row = stand(model, expires_at=timezone.now() + timedelta(seconds=90))
    response = client.get(f"/badges/{MODEL}/us-east-1.svg")
    match = re.fullmatch(r"public, max-age=(\d+)", response["Cache-Control"])
    assert match is not None
    assert int(match[1]) <= 90
    known = content.find(f"{MODEL}/us-east-1")
    assert known is not None
    assert row.expires_at is not None
    assert known.message(row.expires_at) == "expired"


def test_a_pair_that_was_never_tested_is_grey(model: AIModel, client: Client) -> None:
    response = client.get(f"/badges/{MODEL}/us-east-1.json")
    facts = response.json()
    assert response.status_code == 200
    assert (facts["status"], facts["message"], facts["color"], facts["score"]) == (
        "not_tested",
        "not tested",
        "grey",
        None,
    )
    Route.objects.filter(model=model, region="us-east-1").delete()
    shared_cache.client().flushdb()
    assert client.get(f"/badges/{MODEL}/us-east-1.json").json()["offered"] is False


# All regions


def test_all_regions_are_counted_where_the_model_is_offered_or_was_tested(
    model: AIModel, client: Client
) -> None:
    offered = set(model.routes.values_list("region", flat=True))
    unlisted = Region.objects.exclude(code__in=offered)[0].code
    Region.objects.filter(code="us-west-2").update(enabled=False)
    stand(model, "us-east-1")
    stand(model, "us-west-2")
    stand(model, unlisted, status=Status.FAILED)
    facts = client.get(f"/badges/{MODEL}.json").json()
    assert facts["regionsCertified"] == 1
    assert facts["regionsTotal"] == len(offered) == len(offered - {"us-west-2"} | {unlisted})
    assert facts["message"] == f"1/{len(offered)} regions"
    assert facts["color"] == "yellow"
    assert facts["label"] == "Claude Sonnet 4.5"
    codes = [entry["region"] for entry in facts["regions"]]
    assert codes == sorted(codes)
    assert {entry["status"] for entry in facts["regions"]} == {"certified", "failed", "not_tested"}


@pytest.mark.parametrize(
    ("statuses", "message", "color"),
    [
        ([Status.CERTIFIED, Status.CERTIFIED], "2/2 regions", "green"),
        ([Status.CERTIFIED, Status.FAILED], "1/2 regions", "yellow"),
        ([Status.PENDING, Status.FAILED], "0/2 regions", "red"),
        ([Status.PENDING, Status.PERMISSION_REQUIRED], "0/2 regions", "orange"),
        ([Status.NOT_TESTED, Status.NOT_TESTED], "0/2 regions", "grey"),
        ([Status.CERTIFIED], "1/1 region", "green"),
        ([], "not offered", "grey"),
    ],
)
def test_all_regions_take_a_colour_from_all(
    model: AIModel, client: Client, statuses: list[str], message: str, color: str
) -> None:
    model.routes.all().delete()
    for region, status in zip(("us-east-1", "us-west-2"), statuses, strict=False):
        stand(model, region, status=status)
    facts = client.get(f"/badges/{MODEL}.json").json()
    assert (facts["message"], facts["color"]) == (message, color)


# Addresses


@pytest.mark.parametrize("path", [quote(MODEL, safe=""), MODEL, quote(MODEL).replace(".", "%2E")])
def test_ids_may_be_encoded_in_any_way(model: AIModel, client: Client, path: str) -> None:
    stand(model)
    assert client.get(f"/badges/{path}/us-east-1.json").json()["modelId"] == MODEL
    assert client.get(f"/badges/{path}.json").json()["region"] is None


@pytest.mark.parametrize("path", [ARN, quote(ARN, safe="")])
def test_an_arn_with_slashes_is_an_id(model: AIModel, client: Client, path: str) -> None:
    tuned = AIModel.objects.create(
        provider=model.provider, name="Tuned", vendor="Us", api_model_id=ARN
    )
    stand(tuned, "sa-east-1")
    assert client.get(f"/badges/{path}/sa-east-1.json").json()["message"] == "certified · A 93"
    assert client.get(f"/badges/{path}.json").json()["message"] == "1/1 region"


def test_an_id_may_end_like_a_form(model: AIModel, client: Client) -> None:
    for name in ("ours.json", "ours.svg", "ours.shields"):
        AIModel.objects.create(provider=model.provider, name=name, vendor="Us", api_model_id=name)
        assert client.get(f"/badges/{name}.svg").status_code == 200


def test_every_model_of_the_catalogue_has_badges(model: AIModel, client: Client) -> None:
    for name in AIModel.objects.values_list("api_model_id", flat=True):
        response = client.get(f"/badges/{name}.svg")
        assert response.status_code == 200, name
        ET.fromstring(response.content)


UNKNOWN = [
    *(
        "nobody.nothing-v1:0",
        f"{MODEL}/mars-north-1",
        "nobody/us-east-1",
        f"{MODEL}/",
        "/us-east-1",
    ),
    *(f"{MODEL}/us-east-1/", "a%00b", f"{MODEL}%00", "%0A", "%FF%FE", "x" * 5000),
    *("%F0%9F%A6%99", "..", "' OR 1=1 --", "%3Cscript%3E"),
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_unknown_gets_a_grey_badge_and_404(
    model: AIModel, client: Client, name: str
) -> None:
    picture = client.get(f"/badges/{name}.svg")
    assert picture.status_code == 404
    assert texts(picture.content) == ["certification", "unknown"]
    facts = client.get(f"/badges/{name}.json")
    assert (facts.status_code, facts.json()["status"], facts.json()["color"]) == (
        404,
        "unknown",
        "grey",
    )
    shields = client.get(f"/badges/{name}.shields.json")
    assert (shields.status_code, shields.json()["isError"], shields.json()["color"]) == (
        404,
        True,
        "lightgrey",
    )
    assert picture["Cache-Control"] == facts["Cache-Control"] == "public, max-age=60"


def test_an_unknown_form_is_an_unknown_badge(model: AIModel, client: Client) -> None:
    for path in (
        f"/badges/{MODEL}",
        f"/badges/{MODEL}.png",
        f"/badges/{MODEL}/us-east-1.SVG",
        "/badges/.svg",
    ):
        response = client.get(path)
        assert response.status_code == 404
        assert texts(response.content) == ["certification", "unknown"]


# HTTP


def test_an_unchanged_badge_is_304_and_a_changed_one_is_not(model: AIModel, client: Client) -> None:
    row = stand(model)
    for form in ("svg", "json", "shields.json"):
        path = f"/badges/{MODEL}/us-east-1.{form}"
        first = client.get(path)
        assert re.fullmatch(r'"[0-9a-f]{32}"', first["ETag"])
        assert first["Cache-Control"] == "public, max-age=300"
        again = client.get(path, headers={"If-None-Match": first["ETag"]})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
        assert again["Cache-Control"] == first["Cache-Control"]
        assert again["Access-Control-Allow-Origin"] == "*"
        assert (
            client.get(path, headers={"If-None-Match": f'W/{first["ETag"]}, "x"'}).status_code
            == 304
        )
        ModelCertification.objects.filter(pk=row.pk).update(score=int(first["Content-Length"]) % 90)
        shared_cache.client().flushdb()
        assert client.get(path, headers={"If-None-Match": first["ETag"]}).status_code == 200


def test_head_is_get_without_the_body(model: AIModel, client: Client) -> None:
    stand(model)
    path = f"/badges/{MODEL}/us-east-1.svg"
    same = {"X-Request-Id": "one-and-the-same"}
    got, head = client.get(path, headers=same), client.head(path, headers=same)
    assert head.content == b""
    assert dict(head.items()) == dict(got.items())
    assert int(head["Content-Length"]) == len(got.content)
    assert client.head("/badges/nobody.svg").status_code == 404


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_other_methods_are_405(model: AIModel, client: Client, method: str) -> None:
    response = getattr(Client(enforce_csrf_checks=True), method)(f"/badges/{MODEL}.svg")
    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD, OPTIONS"


def test_any_page_may_read_it(model: AIModel, client: Client) -> None:
    for path in (f"/badges/{MODEL}.json", "/badges/nobody.svg"):
        assert (
            client.get(path, headers={"Origin": "https://elsewhere.example"})[
                "Access-Control-Allow-Origin"
            ]
            == "*"
        )
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    preflight = client.options(f"/badges/{MODEL}.json", headers=headers)
    assert (preflight.status_code, preflight["Access-Control-Allow-Headers"]) == (
        204,
        "If-None-Match",
    )


def test_no_cookie_is_set_read_or_varied_on(
    model: AIModel, as_operator: Client, django_assert_num_queries: Any
) -> None:
    stand(model)
    stale = Client()
    stale.cookies["sessionid"] = "nobody-has-this-session"
    for client in (Client(), as_operator, stale):
        shared_cache.client().flushdb()
        with django_assert_num_queries(1):
            response = client.get(
                f"/badges/{MODEL}/us-east-1.svg", headers={"Accept-Language": "pt-BR"}
            )
        assert not response.cookies
        assert not response.has_header("Vary")
        assert texts(response.content)[1] == "certified · A 93"


def test_a_picture_opened_by_itself_may_run_nothing(model: AIModel, client: Client) -> None:
    response = client.get(f"/badges/{MODEL}.svg")
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_the_language_of_the_thread_before_changes_nothing(model: AIModel, client: Client) -> None:
    stand(model)
    path = f"/badges/{MODEL}/us-east-1.svg"
    svg.draw.cache_clear()
    english = client.get(path).content
    svg.draw.cache_clear()
    with translation.override("pt-br"):
        assert client.get(path).content == english


# Reading fast


@pytest.mark.parametrize(
    "path",
    [
        f"{MODEL}/us-east-1.svg",
        f"{MODEL}.svg",
        f"{MODEL}.json",
        "nobody.svg",
        "no/body/us-east-1.svg",
    ],
)
def test_a_badge_costs_one_query(
    model: AIModel, client: Client, django_assert_num_queries: Any, path: str
) -> None:
    for region in Region.objects.all():
        stand(model, region.code)
    with django_assert_num_queries(1):
        client.get(f"/badges/{path}")


def test_a_shared_reading_costs_none(
    model: AIModel, client: Client, django_assert_num_queries: Any
) -> None:
    stand(model)
    first = client.get(f"/badges/{MODEL}/us-east-1.svg").content
    with django_assert_num_queries(0):
        assert client.get(f"/badges/{MODEL}/us-east-1.svg").content == first
        client.get(f"/badges/{MODEL}/us-east-1.json?label=x")


@pytest.mark.parametrize("name", ["x" * 5000, "a%00b"])
def test_an_impossible_name_costs_none(
    db: None, client: Client, django_assert_num_queries: Any, name: str
) -> None:
    with django_assert_num_queries(0):
        assert client.get(f"/badges/{name}.svg").status_code == 404


def test_unknown_names_do_not_fill_the_cache(model: AIModel, client: Client) -> None:
    client.get("/badges/nobody.svg")
    assert shared_cache.get(content.cache_key("nobody"), content.BadgeContent).value is None


def test_without_the_cache_badges_still_work(
    model: AIModel, client: Client, settings: Any, django_assert_num_queries: Any
) -> None:
    stand(model)
    settings.REDIS_URL = "redis://127.0.0.1:9"
    for _ in range(2):
        with django_assert_num_queries(1):
            assert client.get(f"/badges/{MODEL}/us-east-1.svg").status_code == 200
    assert shared_cache.breaker.is_open


def test_without_the_database_a_grey_badge_says_so(db: None, client: Client) -> None:
    def away(*_arguments: object) -> None:
        raise OperationalError("away")

    with connection.execute_wrapper(away):
        response = client.get(f"/badges/{MODEL}.svg")
    assert (response.status_code, response["Cache-Control"]) == (503, "no-store")
    assert texts(response.content) == ["certification", "unavailable"]


# The picture


def test_label_and_style_can_be_chosen(model: AIModel, client: Client) -> None:
    stand(model)
    path = f"/badges/{MODEL}/us-east-1.svg"
    assert texts(client.get(path, {"label": "chat"}).content) == ["chat", "certified · A 93"]
    assert texts(client.get(path, {"label": ""}).content) == ["certified · A 93"]
    flat, square = client.get(path), client.get(path, {"style": "flat-square"})
    assert b"linearGradient" in flat.content
    assert b"linearGradient" not in square.content
    assert client.get(path, {"style": "<b>"}).content == flat.content
    assert (
        client.get(f"/badges/{MODEL}/us-east-1.shields.json?label=chat").json()["label"] == "chat"
    )


INJECTION = (
    "</text><script>alert(1)</script>\"' onload='x' &amp; <![CDATA[ ]]> {{ 7 }} {% now \"Y\" %}"
)


def test_a_label_or_a_name_cannot_inject(model: AIModel, client: Client) -> None:
    AIModel.objects.filter(pk=model.pk).update(name=INJECTION)
    cleaned = svg.clean(INJECTION)
    for query, whole in (({}, f"{cleaned} · us-east-1"), ({"label": INJECTION}, cleaned)):
        root = ET.fromstring(client.get(f"/badges/{MODEL}/us-east-1.svg", query).content)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
            "svg",
            "title",
            "rect",
            "path",
            "linearGradient",
            "stop",
            "g",
            "text",
        }
        assert not [
            name for element in root.iter() for name in element.attrib if name.startswith("on")
        ]
        assert root.findtext(f"{SVG}title") == f"{whole}: not tested"


def test_a_long_name_is_cut_but_not_its_region_and_the_title_has_it_whole(
    model: AIModel, client: Client
) -> None:
    AIModel.objects.filter(pk=model.pk).update(name="Long name " * 20)
    root = ET.fromstring(client.get(f"/badges/{MODEL}/us-east-1.svg").content)
    label = root.findtext(f".//{SVG}text") or ""
    assert label.startswith("Long name Long name")
    assert label.endswith("… · us-east-1")
    assert int(root.get("width", "")) <= svg.LABEL_PX + svg.MESSAGE_PX + 4 * svg.PADDING_PX
    assert root.get("aria-label") == ("Long name " * 20).strip() + " · us-east-1: not tested"


@settings(max_examples=300)
@given(
    label=st.text(st.characters(codec=None), max_size=200),
    message=st.text(max_size=60),
    color=st.sampled_from(sorted(svg.PAINTS)),
    style=st.sampled_from(svg.STYLES),
)
def test_any_text_makes_a_picture_that_a_parser_reads(
    label: str, message: str, color: str, style: str
) -> None:
    label, message = svg.clean(label), svg.clean(message) or "certified"
    short = svg.shorten(label)
    root = ET.fromstring(svg.draw(short, message, color, style, f"{label}: {message}").encode())
    parts = root.findall(f".//{SVG}text")
    assert [part.text for part in parts] == [
        text for text in (short, svg.fit(message, svg.MESSAGE_PX)) if text
    ]
    assert root.findtext(f"{SVG}title") == f"{label}: {message}"
    for part in parts:
        assert svg.PADDING_PX <= int(part.get("x", "")) < int(root.get("width", ""))
        assert int(part.get("textLength", "")) > 0
    last = parts[-1]
    assert int(last.get("x", "")) + int(last.get("textLength", "")) + svg.PADDING_PX == int(
        root.get("width", "")
    )


@settings(max_examples=60)
@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=200)
)
def test_any_name_a_model_can_have_is_drawn(model: AIModel, name: str) -> None:
    AIModel.objects.filter(pk=model.pk).update(name=name)
    shared_cache.client().flushdb()
    client = Client()
    root = ET.fromstring(client.get(f"/badges/{MODEL}/us-east-1.svg").content)
    assert (root.findtext(f"{SVG}title") or "").endswith(" · us-east-1: not tested")
    assert client.get(f"/badges/{MODEL}/us-east-1.json").json()["modelName"] == name


@settings(max_examples=100)
@given(
    address=st.text(max_size=260),
    form=st.sampled_from(["svg", "json", "shields.json"]),
    label=st.text(max_size=300),
)
def test_any_address_is_answered_in_its_form(
    model: AIModel, address: str, form: str, label: str
) -> None:
    path = quote(address.encode("utf-8", "surrogatepass"), safe="/")
    response = Client().get(f"/badges/{path}.{form}", {"label": label.encode("utf-8", "replace")})
    assert response.status_code == 404
    if form == "svg":
        ET.fromstring(response.content)
    else:
        assert response.json()["message"] == "unknown"


@given(st.text(st.characters(codec=None), max_size=100), st.integers(20, 400))
def test_what_is_cut_fits(text: str, width: int) -> None:
    text = svg.clean(text)
    cut = svg.fit(text, width)
    assert svg.text_px(cut) <= width
    assert cut == text or text.startswith(cut.removesuffix("…"))


def test_what_turns_letters_round_is_left_out() -> None:
    assert svg.clean("a\u202eb\u2066c\u200bd\x00e\x1b\ufffe\ud800 \n\t f\u2028g") == "abcd e f g"
    assert svg.clean("e\u0301") == unicodedata.normalize("NFC", "e\u0301")


# Legible


def _luminance(color: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rgb(hexed: str) -> tuple[float, ...]:
    return tuple(int(hexed[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["label", *svg.PAINTS])
def test_text_reads_on_its_colour_shading_included(name: str) -> None:
    paint = svg.LABEL if name == "label" else svg.PAINTS[name]
    fill = _rgb(paint.fill)
    lightest = tuple(c + (1 - c) * 0.1 for c in fill)
    darkest = tuple(c * 0.92 for c in fill)
    for shade in (fill, lightest, darkest):
        assert _contrast(shade, _rgb(paint.text)) >= 4.5


def test_an_alias_has_the_badge_of_its_model(catalogue: None, client: Client) -> None:
    gpt = AIModel.objects.get(api_model_id="openai.gpt-5.5")
    certify(gpt, "us-east-1", by=RouteTarget("us.openai.gpt-5.5", "INFERENCE_PROFILE"))
    facts = client.get("/badges/openai.gpt-5.5-2026-04-23/us-east-1.json").json()
    assert (facts["modelId"], facts["status"]) == ("openai.gpt-5.5", "certified")
    assert (facts["endpoint"], facts["api"]) == ("bedrock-runtime", "converse")
    assert client.get("/badges/openai.gpt-5.5-2026-04-23.json").json()["regionsCertified"] == 1
