"""The OpenAPI description: complete, valid, true. A property-based tester walks it as each role and
as nobody.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from hypothesis import HealthCheck, settings
from schemathesis import checks

from certification.api import docs, examples, tokens
from certification.models import AIModel, Provider, Region, User

document: dict[str, Any] = json.loads(docs.schema()[0])
described = schemathesis.openapi.from_wsgi("/api/schema", get_wsgi_application())

# Examples for each call and role; more of them find more: MYIA_SCHEMA_EXAMPLES=200 for a long walk.
EXAMPLES = int(os.environ.get("MYIA_SCHEMA_EXAMPLES", "8"))
ROLES = ("nobody", "viewer", "operator", "administrator")
# What these two report is correct here: unknown query parameters are ignored by contract, and an
# example may be valid for the schema and yet name a model that does not exist.
EXCLUDED_CHECKS = [checks.negative_data_rejection, checks.positive_data_acceptance]


# for tools and people, without an envelope
NOT_DESCRIBED = {"api/schema", "api/docs", "api/health"}


def paths(resolver: URLResolver, prefix: str = "") -> list[str]:
    below = []
    for entry in resolver.url_patterns:
        path = prefix + str(entry.pattern)
        below += [path] if isinstance(entry, URLPattern) else paths(entry, path)
    return below


def test_every_address_of_the_api_is_described() -> None:
    routes = {p for p in paths(get_resolver()) if p.startswith("api/")} - NOT_DESCRIBED
    assert len(document["paths"]) == len(routes)


def test_every_call_has_a_name_a_sentence_and_a_tag() -> None:
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            assert call["operationId"].isidentifier(), (method, path)
            assert call["description"].strip().endswith((".", ":")), (method, path)
            assert call["tags"], (method, path)


def test_every_request_and_named_answer_has_a_valid_example() -> None:
    components = document["components"]
    without = set()
    for name, component in components["schemas"].items():
        within = {"$ref": f"#/components/schemas/{name}", "components": components}
        for example in component.get("examples", ()):
            jsonschema.Draft202012Validator(within).validate(example)
        if name.endswith("Request") and not component.get("examples"):
            without.add(name)
    assert not without
    unused = examples.ANSWERS.keys() | examples.BODIES.keys() - components["schemas"].keys()
    assert unused <= components["schemas"].keys() | {"Pagination", "JobSummary"}


def test_the_schema_is_read_again_only_when_it_changed() -> None:
    first = Client().get("/api/schema")
    assert first["Content-Type"] == "application/vnd.oai.openapi+json"
    assert Client().get("/api/schema", headers={"If-None-Match": first["ETag"]}).status_code == 304


def test_the_pages_to_browse_take_nothing_from_elsewhere() -> None:
    page = Client().get("/api/docs").content.decode()
    assert "//" not in page.replace("<!doctype html>", "")
    assert "<script>" not in page


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("role", ROLES)
@described.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
def test_every_call_answers_as_described(case: Any, headers: dict[str, str]) -> None:
    case.call_and_validate(headers=headers, excluded_checks=EXCLUDED_CHECKS)


@pytest.fixture
def headers(role: str, stocked: None, settings: Any) -> dict[str, str]:
    """Log the role in, once for all examples: each change of the settings within a test adds a
    layer through which every later look at a setting goes.
    """
    settings.API_RATES = dict.fromkeys(settings.API_RATES, 0)
    if role == "nobody":
        return {}
    user = User.objects.create_user(f"{role}@example.org", None, role=role)
    return {"Authorization": f"Bearer {tokens.issue(user)}"}


@pytest.fixture
def stocked(empty_catalogue: None) -> Iterator[None]:
    """A little catalogue, on one connection: a served request would close it, and the test's
    transaction with it.
    """
    provider = Provider.objects.create(slug="bedrock", name="AWS Bedrock")
    for region in ("us-east-1", "us-west-2"):
        Region.objects.create(code=region, name=region)
    for name in ("amazon.nova-lite-v1:0", "amazon.nova-micro-v1:0"):
        AIModel.objects.create(provider=provider, name=name, vendor="Amazon", api_model_id=name)
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)
