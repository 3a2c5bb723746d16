"""The emulator's control plane, listed with real boto3 and the AWS CLI, and its own pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from certification.bedrock import catalogue
from certification.emulator import scenario
from certification.emulator.http import FullResponse, HttpRequest
from certification.emulator.server import Emulator
from certification.stack import processes
from tests.emulators import CONTROL, MICRO, US_SONNET, Probe, call_converse

AWS = Path(sys.executable).parent / "aws"


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    with processes.emulator() as (url, _process):
        probe = Probe(url)
        yield probe
        probe.close()


@pytest.fixture(autouse=True)
def _healthy(probe: Probe) -> None:
    probe.scenario("")


def models(probe: Probe, region: str = "us-east-1", **filters: str) -> dict[str, dict[str, Any]]:
    actual = probe.client("bedrock", region).list_foundation_models(**filters)["modelSummaries"]
    return {model["modelId"]: model for model in actual}


def test_a_region_lists_what_the_catalogue_knows_there(probe: Probe) -> None:
    for region in ("us-east-1", "sa-east-1", "af-south-1"):
        known = {
            m.api_model_id
            for m in catalogue.load().models.values()
            if m.targets.get(region) and m.lifecycle != "EOL"
        }
        assert set(models(probe, region)) == known
    assert models(probe, "xx-nowhere-9") == {}


def test_an_entry_has_the_services_members(probe: Probe) -> None:
    entry = models(probe)[MICRO]
    assert entry["modelArn"] == f"arn:aws:bedrock:us-east-1::foundation-model/{MICRO}"
    assert entry["providerName"] == "Amazon"
    assert entry["outputModalities"] == ["TEXT"]
    assert entry["responseStreamingSupported"] is True
    assert entry["inferenceTypesSupported"] == ["ON_DEMAND", "INFERENCE_PROFILE"]
    assert entry["modelLifecycle"]["status"] == "ACTIVE"
    assert models(probe)["ai21.jamba-1-5-mini-v1:0"]["modelLifecycle"]["status"] == "LEGACY"


def test_the_four_filters_of_the_listing(probe: Probe) -> None:
    everything = models(probe)
    on_demand = models(probe, byInferenceType="ON_DEMAND")
    assert "anthropic.claude-sonnet-4-5-20250929-v1:0" in set(everything) - set(on_demand)
    assert set(models(probe, byOutputModality="EMBEDDING")) < set(everything)
    assert {m["providerName"] for m in models(probe, byProvider="amazon").values()} == {"Amazon"}
    assert models(probe, byCustomizationType="FINE_TUNING") == {}


def test_one_model_by_id_and_arn(probe: Probe) -> None:
    client = probe.client("bedrock")
    for name in (MICRO, f"arn:aws:bedrock:us-east-1::foundation-model/{MICRO}"):
        assert client.get_foundation_model(modelIdentifier=name)["modelDetails"]["modelId"] == MICRO
    with pytest.raises(ClientError, match="The provided model identifier is invalid"):
        client.get_foundation_model(modelIdentifier="nobody.nothing")


def test_profiles_come_page_by_page_and_all_of_them(probe: Probe) -> None:
    client = probe.client("bedrock")
    pages = list(
        client.get_paginator("list_inference_profiles").paginate(PaginationConfig={"PageSize": 7})
    )
    assert all(len(page["inferenceProfileSummaries"]) == 7 for page in pages[:-1])
    actual = [p["inferenceProfileId"] for page in pages for p in page["inferenceProfileSummaries"]]
    expected = {
        r
        for m in catalogue.load().models.values()
        for r in m.targets.get("us-east-1", ())
        if "." in r
    }
    assert len(actual) == len(expected)
    assert set(actual) == expected
    first = client.list_inference_profiles()
    assert first["nextToken"]
    assert (
        client.list_inference_profiles(typeEquals="APPLICATION")["inferenceProfileSummaries"] == []
    )


@pytest.mark.parametrize(
    "wrong", [{"maxResults": 0}, {"maxResults": 1001}, {"nextToken": "no"}, {"typeEquals": "ODD"}]
)
def test_page_requests_that_make_no_sense_are_refused(probe: Probe, wrong: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as caught:
        probe.client("bedrock").list_inference_profiles(**wrong)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_a_profile_by_id_and_arn_names_its_destinations(probe: Probe) -> None:
    client = probe.client("bedrock")
    profile = client.get_inference_profile(inferenceProfileIdentifier=US_SONNET)
    assert profile["type"] == "SYSTEM_DEFINED"
    regions = {model["modelArn"].split(":")[3] for model in profile["models"]}
    assert {"us-east-1", "us-west-2"} <= regions
    by_arn = client.get_inference_profile(inferenceProfileIdentifier=profile["inferenceProfileArn"])
    assert by_arn["inferenceProfileId"] == US_SONNET
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.get_inference_profile(inferenceProfileIdentifier="us.nobody.nothing")


def test_a_global_profile_has_one_destination_without_a_region(probe: Probe) -> None:
    name = "global.anthropic.claude-sonnet-4-6"
    actual = probe.client("bedrock").get_inference_profile(inferenceProfileIdentifier=name)[
        "models"
    ]
    assert [model["modelArn"].split(":")[3] for model in actual] == ["us-east-1", ""]


def test_availability_gives_four_verdicts(probe: Probe) -> None:
    client = probe.client("bedrock")
    good = client.get_foundation_model_availability(modelId=MICRO)
    assert good["modelId"] == "amazon.nova-micro-v1"
    assert good["authorizationStatus"] == "AUTHORIZED"
    assert good["agreementAvailability"]["status"] == "AVAILABLE"
    assert good["regionAvailability"] == good["entitlementAvailability"] == "AVAILABLE"
    away = probe.client("bedrock", "sa-east-1").get_foundation_model_availability(modelId=MICRO)
    assert away["regionAvailability"] == "NOT_AVAILABLE"
    probe.scenario(f'[[rule]]\nmodel = "{MICRO}"\naccess = "iam"')
    assert (
        client.get_foundation_model_availability(modelId=MICRO)["authorizationStatus"]
        == "NOT_AUTHORIZED"
    )
    probe.scenario(f'[[rule]]\nmodel = "{MICRO}"\naccess = "agreement"')
    denied = client.get_foundation_model_availability(modelId=MICRO)
    assert denied["agreementAvailability"]["status"] == "NOT_AVAILABLE"


def test_a_scenario_can_age_a_model_in_the_listing(probe: Probe) -> None:
    probe.scenario(f'[[rule]]\nmodel = "{MICRO}"\nregion = "us-*"\nlegacy = true')
    assert models(probe)[MICRO]["modelLifecycle"]["status"] == "LEGACY"
    assert models(probe, "eu-west-1")[MICRO]["modelLifecycle"]["status"] == "ACTIVE"


def test_a_scenario_can_throttle_the_listing_itself(probe: Probe) -> None:
    probe.scenario('[[rule]]\noperation = "List*"\nthrottle = "requests"')
    with pytest.raises(ClientError, match="ThrottlingException"):
        models(probe)
    assert call_converse(probe)["stopReason"] == "end_turn"


def test_sts_tells_who_calls(probe: Probe) -> None:
    identity = probe.client("sts").get_caller_identity()
    assert identity["Account"] == "123456789012"
    assert identity["Arn"].startswith("arn:aws:sts::123456789012:assumed-role/emulator/")


def test_an_operation_that_does_not_exist_is_a_404(probe: Probe) -> None:
    with pytest.raises(ClientError) as caught:
        probe.client("bedrock").list_guardrails()
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"


# Its own pages


def test_the_front_page_says_what_this_is(probe: Probe) -> None:
    for path in ("/", "/_emulator/health"):
        page = probe.page(path)
        assert page["backend"] == "emulator"
        assert page["status"] == "ok"
        assert page["models"] == len(catalogue.load().models)


def test_statistics_count_by_operation_model_region_and_outcome(probe: Probe) -> None:
    probe.page("/_emulator/reset", b"")
    call_converse(probe, model=US_SONNET)
    call_converse(probe, model=US_SONNET)
    with pytest.raises(ClientError):
        call_converse(probe, model="no-such-model")
    calls = probe.page("/_emulator/stats")
    assert calls["total"] == 3
    assert calls["byOutcome"] == {"ok": 2, "ValidationException": 1}
    assert {
        "operation": "Converse",
        "model": US_SONNET.removeprefix("us."),
        "region": "us-east-1",
        "outcome": "ok",
        "calls": 2,
    } in calls["calls"]


def test_a_scenario_is_switched_by_name_or_by_text(probe: Probe) -> None:
    assert probe.page("/_emulator/scenario", b'{"name": "access"}')["scenario"] == "access"
    probe.scenario('name = "mine"')
    assert probe.page("/")["scenario"] == "mine"


@pytest.mark.parametrize(
    "body", [b"[[rule]]\nbanana = 1", b"{", b'{"name": "absent"}', b'{"nom": 1}', b"\xff", b"[["]
)
def test_a_scenario_that_is_wrong_changes_nothing_and_says_why(probe: Probe, body: bytes) -> None:
    probe.scenario('name = "before"')
    with pytest.raises(urllib.error.HTTPError) as caught:
        probe.page("/_emulator/scenario", body)
    with caught.value as answer:
        assert answer.code == 400
        assert json.loads(answer.read())["message"]
    assert probe.page("/")["scenario"] == "before"


def control(probe: Probe, headers: dict[str, str], path: str = "scenario") -> int:
    request = urllib.request.Request(
        f"{probe.url}/_emulator/{path}", b'{"name": "access"}', headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize("path", ["scenario", "reset"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Emulator-Secret": "wrong"},
        {"X-Emulator-Secret": "\xff"},
        CONTROL | {"Origin": "https://evil.example"},
        CONTROL | {"Origin": "null", "Content-Type": "text/plain"},
        CONTROL | {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_nobody_controls_it_without_the_secret_or_from_a_browser(
    probe: Probe, path: str, headers: dict[str, str]
) -> None:
    probe.scenario('name = "before"')
    assert control(probe, headers, path) == 403
    assert probe.page("/")["scenario"] == "before"
    assert control(probe, CONTROL, path) == 200


def test_without_a_secret_nobody_controls_it() -> None:
    emulator = Emulator(scenario.parse(""))
    request = HttpRequest("POST", b"/_emulator/reset", {b"x-emulator-secret": b""}, b"", True)
    answer = emulator.handle(request)
    assert isinstance(answer, FullResponse)
    assert answer.status == 403
    assert b"EMULATOR_CONTROL_SECRET" in answer.body


def test_a_scenario_that_is_named_over_http_is_a_shipped_one(probe: Probe, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "own.toml").write_text("")
    for name in (str(tmp_path / "pipe.toml"), str(tmp_path / "own.toml"), "../scenarios/access"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            probe.page("/_emulator/scenario", json.dumps({"name": name}).encode())
        with caught.value as answer:
            assert answer.code == 400
    with pytest.raises(scenario.ScenarioError, match="There is no scenario file"):
        scenario.load(str(tmp_path / "pipe.toml"))


# The AWS CLI


@pytest.mark.skipif(not AWS.exists(), reason="the AWS CLI is not installed beside this Python")
def test_the_aws_cli_lists_and_converses(probe: Probe) -> None:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
        "AWS_ENDPOINT_URL": probe.url,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_PAGER": "",
    }

    def run(*arguments: str) -> Any:
        command = [str(AWS), *arguments, "--output", "json"]
        return json.loads(
            subprocess.run(
                command, env=environment, check=True, capture_output=True, timeout=60
            ).stdout
        )

    listed = run("bedrock", "list-foundation-models", "--by-provider", "Amazon")
    assert MICRO in {model["modelId"] for model in listed["modelSummaries"]}
    messages = json.dumps([{"role": "user", "content": [{"text": "Hello"}]}])
    answer = run("bedrock-runtime", "converse", "--model-id", MICRO, "--messages", messages)
    assert answer["stopReason"] == "end_turn"
    assert run("sts", "get-caller-identity")["Account"] == "123456789012"
