"""Answers that processes share: the same bytes until something changes, 304 to who has them, the
database when Valkey is away.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from certification.api import caching
from certification.engine import sync
from certification.lib import shared_cache
from certification.lib.shared_cache import ComputedValue
from certification.models import AIModel, ModelCertification, Region, Route, User
from tests.api import Api
from tests.factories import certify, start_job

pytestmark = pytest.mark.django_db

NOVA = "amazon.nova-lite-v1:0"
AUTHENTICATION = 1


@pytest.fixture(autouse=True)
def shared_answers(settings: Any) -> Iterator[None]:
    settings.API_CACHE_SECONDS = 15
    shared_cache.client().flushdb()
    shared_cache.breaker.close()
    yield
    shared_cache.breaker.close()


@pytest.fixture
def api(viewer: User, catalogue: None) -> Api:
    return Api(viewer)


@pytest.fixture
def nova(catalogue: None) -> AIModel:
    return AIModel.objects.get(api_model_id=NOVA)


def etag(api: Api, path: str) -> str:
    api.get(path)
    return str(api.response["ETag"])


LIST = f"certification-queue/certifications?modelId={NOVA}&limit=100"
PATHS = ["matrix", "certification-queue/certifications", LIST]


@pytest.mark.parametrize("path", PATHS)
def test_a_cached_response_costs_one_query_for_the_user(
    api: Api, path: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    first, tag = api.get(path), api.response["ETag"]
    with django_assert_num_queries(AUTHENTICATION):
        assert api.get(path) == first
    assert api.response["ETag"] == tag
    assert tag.startswith('"')
    with django_assert_num_queries(AUTHENTICATION):
        api.get(path, status=304, If_None_Match=tag)
    with django_assert_num_queries(AUTHENTICATION):
        api.get(path, status=304, If_None_Match=f'"other", W/{tag}')
    assert api.response.content == b""
    assert (api.response["ETag"], api.response["Cache-Control"]) == (tag, "private, no-cache")
    assert "Authorization" in api.response["Vary"]
    api.get(path, If_None_Match='"other"')


@pytest.mark.parametrize("path", PATHS)
def test_others_get_the_same_and_the_disabled_nothing(
    api: Api,
    operator: User,
    viewer: User,
    path: str,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    tag = etag(api, path)
    other = Api(operator)
    with django_assert_num_queries(AUTHENTICATION):
        assert etag(other, path) == tag
    Api().get(path, status=401, If_None_Match=tag)
    User.objects.filter(pk=viewer.pk).update(is_active=False)
    api.get(path, status=401, If_None_Match=tag)
    nobody = User.objects.create_user("new@example.org", "a-long-test-password")
    Api(nobody).get(path, status=403, If_None_Match=tag)


def change_certification(nova: AIModel) -> None:
    certify(nova, "us-east-1")


def change_model(nova: AIModel) -> None:
    administrator = Client()
    administrator.force_login(
        User.objects.create_superuser("root@example.org", "a-long-test-password")
    )
    page = (
        administrator.get(f"/admin/certification/aimodel/{nova.pk}/change/")
        .context["adminform"]
        .form
    )
    fields = {name: "" if value is None else value for name, value in page.initial.items()}
    formset = {
        f"{inline}-{count}_FORMS": 0
        for inline in ("aliases", "routes", "parameter_support")
        for count in ("TOTAL", "INITIAL")
    }
    for name in ("input_modalities", "output_modalities", "capabilities"):
        fields[name] = "[]"
    response = administrator.post(
        f"/admin/certification/aimodel/{nova.pk}/change/",
        {**fields, **formset, "name": "Renamed", "is_active": "on"},
    )
    assert response.status_code == 302, response.context["adminform"].form.errors


def disable_region(_nova: AIModel) -> None:
    administrator = Client()
    administrator.force_login(
        User.objects.create_superuser("root@example.org", "a-long-test-password")
    )
    chosen = {"action": "disable", "_selected_action": ["us-east-1"], "confirmed": "yes"}
    assert administrator.post("/admin/certification/region/", chosen).status_code == 302


def delete_routes(nova: AIModel) -> None:
    administrator = Client()
    administrator.force_login(
        User.objects.create_superuser("root@example.org", "a-long-test-password")
    )
    chosen = {
        "action": "delete_selected",
        "post": "yes",
        "_selected_action": list(nova.routes.values_list("pk", flat=True)),
    }
    assert administrator.post("/admin/certification/route/", chosen).status_code == 302


def load_catalogue(nova: AIModel) -> None:
    AIModel.objects.filter(pk=nova.pk).delete()
    call_command("load_catalogue", verbosity=0)


CHANGES = [change_certification, change_model, disable_region, delete_routes, load_catalogue]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_shows_at_once(
    api: Api,
    nova: AIModel,
    change: Any,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    tags = {path: etag(api, path) for path in ("matrix", LIST)}
    with django_capture_on_commit_callbacks(execute=True):
        change(nova)
    for path, tag in tags.items():
        api.get(path, If_None_Match=tag)
        assert api.response["ETag"] != tag


def test_a_job_shows_at_once_and_so_does_its_end(
    api: Api, nova: AIModel, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    def active() -> Any:
        return api.get(f"{LIST}&region=us-east-1")["certifications"][0]["activeRun"]

    assert active() is None
    with django_capture_on_commit_callbacks(execute=True):
        job = start_job([nova], ["us-east-1"])
    assert active()["jobId"] == str(job.pk)
    with django_capture_on_commit_callbacks(execute=True):
        job.cancel()
    assert active() is None


def test_later_judgements_and_expiry_begin_a_generation(
    nova: AIModel, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    run = certify(nova, "us-east-1")
    generations = {shared_cache.get("x", str).generation}
    with django_capture_on_commit_callbacks(execute=True):
        assert ModelCertification.rejudge(run, "failed", 10, "F")
    generations.add(shared_cache.get("x", str).generation)
    ModelCertification.objects.update(expires_at=timezone.now() - timedelta(days=1))
    with django_capture_on_commit_callbacks(execute=True):
        assert ModelCertification.objects.expire() == 1
    generations.add(shared_cache.get("x", str).generation)
    with django_capture_on_commit_callbacks(execute=True):
        assert ModelCertification.objects.expire() == 0
        sync.apply([])
    generations.add(shared_cache.get("x", str).generation)
    assert len(generations) == 4


def test_a_change_invalidates_badges_too(
    nova: AIModel,
    client: Client,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    before = client.get(f"/badges/{NOVA}/us-east-1.json").json()
    with django_capture_on_commit_callbacks(execute=True):
        certify(nova, "us-east-1")
    after = client.get(f"/badges/{NOVA}/us-east-1.json").json()
    assert (before["status"], after["status"]) == ("not_tested", "certified")


def test_nothing_is_cached_past_the_next_expiry(api: Api, nova: AIModel) -> None:
    certify(nova, "us-east-1")
    ModelCertification.objects.update(expires_at=timezone.now() + timedelta(seconds=0.5))
    api.get("matrix")
    time.sleep(0.6)
    assert shared_cache.get(caching.cache_key("matrix", {}), caching.Rendered).value is None
    ModelCertification.objects.update(expires_at=timezone.now() - timedelta(seconds=0.5))
    row = next(
        row for row in api.get("matrix?region=us-east-1")["models"] if row["apiModelId"] == NOVA
    )
    assert row["cells"][0][3] & 1


@pytest.mark.parametrize("path", PATHS)
def test_without_valkey_the_database_answers(
    api: Api,
    nova: AIModel,
    path: str,
    settings: Any,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    tag = etag(api, path)
    settings.REDIS_URL = "redis://127.0.0.1:9"
    settings.API_RATES = dict.fromkeys(settings.API_RATES, 0)
    for _ in range(2):
        api.get(path)
        assert api.response["ETag"] == tag
    api.get(path, status=304, If_None_Match=tag)
    assert shared_cache.breaker.is_open
    with transaction.atomic():
        certify(nova, "us-west-2")  # a change that cannot be told is no error
    shared_cache.begin_generation()
    api.get(path, If_None_Match=tag)


def test_a_value_read_in_an_older_generation_is_not_believed(db: None) -> None:
    entry = shared_cache.get("key", str)
    shared_cache.begin_generation()
    shared_cache.set("key", entry.generation, "old", 15)
    assert shared_cache.get("key", str).value is None
    now = shared_cache.get("key", str)
    shared_cache.set("key", now.generation, "new", 15)
    assert shared_cache.get("key", str) == shared_cache.CacheEntry(now.generation, "new")
    shared_cache.client().delete(shared_cache.GENERATION_KEY)
    assert shared_cache.get("key", str).value is None


def test_each_set_of_parameters_has_its_own_cached_response(api: Api) -> None:
    whole = etag(api, "matrix")
    assert etag(api, "matrix?_t=1&vendor=") == whole
    column = etag(api, "matrix?region=us-east-1")
    assert etag(api, "matrix?region=us-west-2") != column != whole
    assert etag(api, "matrix?region=us-east-1&_t=2") == column


def test_regions_and_routes_decide_what_the_matrix_has(api: Api, nova: AIModel) -> None:
    Route.objects.filter(region="us-east-1").delete()
    Region.objects.filter(pk="us-west-2").update(enabled=False)
    codes = [region["id"] for region in api.get("matrix")["regions"]]
    assert not {"us-east-1", "us-west-2"} & set(codes)


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("what came from Redis was executed",))


@pytest.mark.parametrize(
    "stored",
    [
        pickle.dumps(Harm()),
        b"junk",
        b"",
        b"\xc1",
        b'{"json": 1}',
        b"\x92\xa1g\x05",
        b"\xdd\xff\xff\xff\xff",
    ],
    ids=["pickle", "text", "empty", "reserved", "json", "other-types", "endless"],
)
def test_whatever_redis_answers_is_a_value_of_the_type_or_none(db: None, stored: bytes) -> None:
    generation = shared_cache.get("key", str).generation
    shared_cache.client().set(shared_cache.PREFIX + "key", stored)
    assert shared_cache.get("key", str) == shared_cache.CacheEntry(generation, None)
    value = ComputedValue("test", dict[str, int], lambda _: 5, lambda: {"n": 1})
    shared_cache.client().set(shared_cache.PREFIX + value.key, stored)
    assert value.get() == {"n": 1}
    assert value.read() is not None  # stored by now


def test_a_generation_that_is_no_text_outdates_everything(db: None) -> None:
    shared_cache.client().set(shared_cache.GENERATION_KEY, pickle.dumps(Harm()))
    entry = shared_cache.get("key", str)
    shared_cache.set("key", entry.generation, "value", 15)
    assert shared_cache.get("key", str).value == "value"
