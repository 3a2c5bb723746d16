"""Every route of the catalogue answers in the emulator, and over every API the answers are good
enough for the suite: our dialects, the emulator and the answer key together, without a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import pytest

from certification.bedrock import catalogue, errors
from certification.bedrock.catalogue import CatalogueModel
from certification.bedrock.dialects import dialect_for
from certification.bedrock.dialects.dialect import NotExpressible, WireResponse
from certification.bedrock.errors import BedrockError
from certification.emulator import scenario
from certification.emulator.http import FullResponse, HttpRequest, StreamResponse
from certification.emulator.server import Emulator
from certification.inference import (
    API,
    AnyRequest,
    Endpoint,
    Operation,
    Outcome,
    Request,
    RouteTarget,
    Timing,
    user,
)
from certification.suite import registry
from certification.suite.case import Context, Ref, execute

SERVICES = {Endpoint.RUNTIME: "bedrock", Endpoint.MANTLE: "bedrock-mantle"}
HELLO = Request((user("Hello"),), max_tokens=100)


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator(scenario.load("healthy"))


def call(emulator: Emulator, target: RouteTarget, region: str, request: Request) -> Outcome:
    """Send a request by a route's dialect. Raises NotExpressible, and BedrockError for refusals."""
    dialect = dialect_for(target.api)
    wire = dialect.encode(request, target)
    scope = f"Credential=A/20260101/{region}/{SERVICES[target.endpoint]}/aws4_request"
    headers = {b"authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=h".encode()}
    headers |= {name.lower().encode(): value.encode() for name, value in wire.headers.items()}
    reply = emulator.handle(HttpRequest(wire.method, wire.path.encode(), headers, wire.body))
    assert isinstance(reply, FullResponse | StreamResponse)
    named = {name.lower(): value for name, value in reply.headers}
    named["content-type"] = reply.content_type
    if isinstance(reply, FullResponse):
        response = WireResponse(reply.status, named, reply.body)
        if reply.status >= 400:
            raise errors.from_response(response, model_id=target.target_id, region=region)
        return dialect.decode(response, Timing(1.0))
    reader = dialect.stream_reader(0.0, named)
    for number, (_, part) in enumerate(reply.parts):
        reader.feed(part, number / 1000)
    reader.end()
    return reader.reply(len(reply.parts) / 1000)


def chat_models() -> Iterator[CatalogueModel]:
    for model in catalogue.load().models.values():
        if model.kind == "text" and model.lifecycle != "EOL" and model.regions:
            yield model


def test_every_route_of_the_catalogue_answers(emulator: Emulator) -> None:
    refused = []
    for model in chat_models():
        for region in model.regions:
            for target in model.routes_in(region):
                try:
                    outcome = call(emulator, target, region, HELLO)
                except BedrockError as error:
                    refused.append((region, str(target), str(error)))
                else:
                    assert "emulator of MyIA" in outcome.text  # type: ignore[union-attr]
    assert refused == []


def test_no_other_api_and_path_of_a_listed_model_answers(emulator: Emulator) -> None:
    prefixes = {API.MESSAGES: ("/anthropic/v1",)}
    for model in chat_models():
        region = min(model.regions)
        routes = model.routes_in(region)
        served = {(r.target_id, r.endpoint, r.api, r.path_prefix) for r in routes}
        targets = {(r.target_id, r.kind) for r in routes}
        for target_id, kind in sorted(targets):
            for endpoint in Endpoint:
                for api in (API.CHAT_COMPLETIONS, API.RESPONSES, API.MESSAGES):
                    for prefix in prefixes.get(api, ("/openai/v1", "/v1")):
                        if (target_id, endpoint, api, prefix) in served:
                            continue
                        target = RouteTarget(target_id, kind, endpoint, api, prefix)
                        with pytest.raises((BedrockError, AssertionError)):
                            call(emulator, target, region, HELLO)


def one_of_each_family() -> list[Any]:
    """Return a model and a route for each endpoint, API, path prefix and vendor."""
    ways: list[tuple[tuple[str, ...], CatalogueModel, str, RouteTarget]] = []
    for model in chat_models():
        region = min(model.regions)
        for target in model.routes_in(region):
            if target.api != API.CONVERSE:  # tried with every model elsewhere
                way = (target.endpoint, target.api, target.path_prefix, model.vendor)
                ways.append((way, model, region, target))
    ways.sort(key=lambda row: row[0])
    return [
        pytest.param(*next(group)[1:], id="-".join(way).replace("/", ""))
        for way, group in groupby(ways, key=lambda row: row[0])
    ]


@pytest.mark.parametrize(("model", "region", "target"), one_of_each_family())
def test_a_healthy_model_passes_the_suite_by_every_api(
    emulator: Emulator, model: CatalogueModel, region: str, target: RouteTarget
) -> None:
    failures = []
    for case in registry.cases(model.kind, "full", model.capabilities):
        for trial in range(2):
            script = case.script(Ref(7, case.id, trial))
            try:
                outcomes = execute(script, sender(emulator, target, region), model.capabilities)
            except NotExpressible:
                continue
            context = Context(reasoning="reasoning" in model.capabilities)
            grade = script.grade(outcomes, context)
            if not grade.passed and not grade.lacks and grade.valid:
                failures.append((case.id, grade.sentence))
    assert failures == []


def sender(emulator: Emulator, target: RouteTarget, region: str) -> Callable[[AnyRequest], Outcome]:
    def send(request: AnyRequest) -> Outcome:
        assert isinstance(request, Request)
        assert request.operation in (Operation.CONVERSE, Operation.STREAM)
        try:
            return call(emulator, target, region, request)
        except BedrockError as error:
            return error.to_failure()

    return send
