"""Every address of the API answers in the envelope, whatever it is asked, also where no view is
reached.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg_pool import PoolTimeout

from certification.api import tokens
from certification.models import CertificationJob, User
from tests.api import Api, enveloped

pytestmark = pytest.mark.django_db

PLAIN = {"api/schema", "api/docs", "api/health"}  # read by tools and people: no envelope
OPEN = {
    ("api/auth/login", "POST"),
    ("api/logs", "POST"),
    ("api/models/capabilities", "GET"),
    ("api/models/nobody.knows-this-v1:0/capabilities", "GET"),
}
WRITES = ("certify-model", "certify-multiple", "certify-all")


def _routes(resolver: URLResolver, prefix: str = "") -> list[tuple[str, Any]]:
    routes = []
    for entry in resolver.url_patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            routes.append((path, entry.callback))
        else:
            routes += _routes(entry, path)
    return routes


VIEWS = [
    (path, callback.view_class)
    for path, callback in _routes(get_resolver())
    if path.startswith("api/") and path not in PLAIN
]
ADDRESSES = sorted(path for path, _view in VIEWS)


def filled(path: str) -> str:
    """The address with something in its places that nobody has."""
    path = path.replace("<str:job_id>", str(uuid.UUID(int=1)))
    path = re.sub(r"<(?:str|path|model):\w+>", "nobody.knows-this-v1:0", path)
    assert "<" not in path, f"a new kind of place: {path}"
    return path


def methods(view: Any) -> set[str]:
    return {name.upper() for name in ("get", "post", "put", "delete") if hasattr(view, name)}


CALLS = sorted((filled(path), method) for path, view in VIEWS for method in methods(view))


def call(method: str, path: str, user: User | None = None, **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {tokens.issue(user)}"} if user else {}
    client = Client(raise_request_exception=False)
    body = more.pop("body", "{}")
    return client.generic(
        method, f"/{path}", body, more.pop("content_type", "application/json"), headers=headers
    )


@pytest.mark.parametrize(("path", "method"), CALLS)
def test_every_address_requires_a_login(path: str, method: str) -> None:
    if (path, method) in OPEN:
        return
    answer = call(method, path)
    assert answer.status_code == 401
    assert enveloped(answer)["errorCode"] == "not_authenticated"
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("path", "method"), CALLS)
def test_a_user_without_a_role_may_do_nothing(path: str, method: str) -> None:
    if (path, method) in OPEN:
        return
    user = User.objects.create_user("new@example.org", None)
    assert enveloped(call(method, path, user))["code"] == 403


@pytest.mark.parametrize("path", sorted(filled(p) for p in ADDRESSES))
@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE"])
def test_other_methods_are_not_allowed(administrator: User, path: str, method: str) -> None:
    if (path, method) in CALLS:
        return
    answer = call(method, path, administrator)
    assert enveloped(answer)["errorCode"] == "method_not_allowed"
    assert answer.status_code == 405
    assert {"GET", "POST", "DELETE"} & set(answer["Allow"].split(", "))


@pytest.mark.parametrize("path", sorted({path for path, method in CALLS if method == "POST"}))
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "line 1, column 2"),
        ("[]", "object"),
        ('{"a":1,"a":2}', 'Duplicate key in an object: "a"'),
        ('{"a":NaN}', "NaN"),
        ('{"a":' + "[" * 20_000 + "]" * 20_000 + "}", "deeply"),
        ('{"a":"\\ud800"}', "cannot be stored"),
        ('{"a":' + "9" * 5000 + "}", "cannot be stored"),
        (b'{"a":"\xff"}', "UTF-8"),
    ],
)
def test_a_body_that_is_not_json_is_refused(
    administrator: User, path: str, body: Any, message: str
) -> None:
    if path.endswith(("/retry", "/refresh", "/logout")):  # they take no body, and read none
        return
    answer = call("POST", path, administrator, body=body)
    refusal = enveloped(answer)
    assert answer.status_code == 400
    assert refusal["errorCode"] == "malformed_json"
    assert message in refusal["message"]


@pytest.mark.parametrize("path", sorted({path for path, method in CALLS if method == "POST"}))
def test_another_kind_of_body_and_one_too_large_are_refused(administrator: User, path: str) -> None:
    if path.endswith(("/retry", "/refresh", "/logout")):
        return
    form = call(
        "POST", path, administrator, body="a=1", content_type="application/x-www-form-urlencoded"
    )
    assert enveloped(form)["errorCode"] == "unsupported_media_type"
    large = call("POST", path, administrator, body=json.dumps({"email": "x" * 1_100_000}))
    assert (large.status_code, enveloped(large)["errorCode"]) == (413, "too_large")


@pytest.mark.parametrize("path", sorted(PLAIN))
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_is_only_read_says_so_in_the_envelope(path: str, method: str) -> None:
    answer = Client(enforce_csrf_checks=True).generic(method, f"/{path}")
    assert enveloped(answer)["errorCode"] == "method_not_allowed"
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


def test_a_duplicate_key_among_many_is_found_in_one_pass() -> None:
    # comparing all of them takes minutes
    body = "{" + ",".join(f'"k{i}":1' for i in range(60_000)) + ',"k59999":2}'
    refusal = enveloped(call("POST", "api/auth/login", body=body))
    assert '"k59999"' in refusal["message"]


@pytest.mark.parametrize(
    "path", ["api/", "api/nothing", "api/certification-queue/jobs/7/x", "api/auth/login/x"]
)
def test_an_unknown_address_is_not_found(path: str) -> None:
    answer = call("GET", path)
    assert (answer.status_code, enveloped(answer)["errorCode"]) == (404, "not_found")


def test_a_host_that_is_not_ours_is_a_bad_request() -> None:
    answer = Client(raise_request_exception=False).get(
        "/api/auth/me", headers={"Host": "evil.example"}
    )
    assert (answer.status_code, enveloped(answer)["errorCode"]) == (400, "bad_request")


@pytest.mark.parametrize("path", sorted({path for path, method in CALLS if method == "GET"}))
def test_too_many_requests_are_refused_with_retry_after(
    administrator: User, path: str, settings: Any
) -> None:
    settings.API_RATES = dict.fromkeys(settings.API_RATES, 1)
    call("GET", path if (path, "GET") in OPEN else "api/auth/me", administrator)
    answer = call("GET", path, administrator)
    assert (answer.status_code, enveloped(answer)["errorCode"]) == (429, "throttled")
    assert 0 < int(answer["Retry-After"]) <= 61


def test_a_bug_shows_nothing_but_the_request_id(
    viewer: User, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("select password from users; account 123456789012")

    monkeypatch.setattr("certification.api.representations.account", broken)
    answer = call("GET", "api/auth/me", viewer)
    assert answer.status_code == 500
    refusal = enveloped(answer)
    assert refusal["requestId"] == answer["X-Request-Id"]
    assert "password" not in answer.content.decode()
    assert "select password" in caplog.text


def test_a_database_that_does_not_answer_is_a_503_with_retry_after(
    viewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("connection to server at 10.0.0.7 failed")

    monkeypatch.setattr("certification.api.representations.account", away)
    answer = call("GET", "api/auth/me", viewer)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert "10.0.0.7" not in answer.content.decode()
    enveloped(answer)


def test_a_callers_request_id_is_used_when_it_is_plain() -> None:
    client = Client()
    assert client.get("/api/auth/me", headers={"X-Request-Id": "abc-1"})["X-Request-Id"] == "abc-1"
    for bad in ("x" * 65, "a b", "é"):
        assert client.get("/api/auth/me", headers={"X-Request-Id": bad})["X-Request-Id"] != bad


def test_the_frontends_origins_are_let_in_and_others_are_not() -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    answer = Client().options("/api/certification-queue/certify-all", headers=headers)
    assert answer["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert "authorization" in answer["Access-Control-Allow-Headers"]
    evil = Client().options(
        "/api/certification-queue/certify-all", headers={**headers, "Origin": "http://evil.example"}
    )
    assert "Access-Control-Allow-Origin" not in evil


@pytest.fixture
def unlimited(settings: Any) -> None:
    settings.API_RATES = dict.fromkeys(settings.API_RATES, 0)


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = (
    "modelId",
    "region",
    "modelIds",
    "regions",
    "tier",
    "priority",
    "maxCostUsd",
    "includeUnlisted",
)


@pytest.mark.slow
@given(body=st.dictionaries(st.sampled_from(FIELDS), odd), which=st.sampled_from(WRITES))
@settings(max_examples=80)
def test_no_body_breaks_a_start(operator: User, unlimited: None, body: Any, which: str) -> None:
    try:
        text = json.dumps(body)
    except UnicodeEncodeError:  # pragma: no cover
        return
    answer = call("POST", f"api/certification-queue/{which}", operator, body=text)
    assert 400 <= answer.status_code < 500
    enveloped(answer)
    assert not CertificationJob.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {"modelIds": [f"m{i}" for i in range(10_000)], "regions": ["us-east-1"]},
        {"modelIds": ["x" * 1_000_000], "regions": ["us-east-1"]},
        {"modelIds": ["a\u0000b"], "regions": ["us-east-1"]},
        {"modelIds": ["m"], "regions": [["us-east-1"]]},
        {"modelIds": {"a": 1}, "regions": 7},
        {"modelIds": ["\u202e\u0007"], "regions": ["\n"]},
    ],
)
def test_large_and_odd_bodies_are_refused_with_a_sentence(operator: User, body: Any) -> None:
    refusal = Api(operator).post("certification-queue/certify-multiple", body, status=400)
    assert refusal["errorCode"] == "invalid_request"
    assert len(refusal["message"]) < 2000
    assert len(refusal["data"]["validation"]) <= 50


@pytest.mark.django_db(transaction=True)
def test_a_full_connection_pool_is_an_operational_error() -> None:
    """Django translates psycopg's PoolTimeout: nobody has to catch it besides OperationalError."""
    connection.ensure_connection()
    pool, timeout = connection.pool, connection.pool.timeout
    borrowed, errors = [], []

    def connect() -> None:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            errors.append(type(error.__cause__))

    try:
        while len(borrowed) < pool.max_size - 1:  # this thread has one
            borrowed.append(pool.getconn())
        pool.timeout = 0.1
        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
    finally:
        pool.timeout = timeout
        for one in borrowed:
            pool.putconn(one)
    assert errors == [PoolTimeout]
