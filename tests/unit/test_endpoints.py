"""Where calls go: AWS's own hosts in every partition, and what the user configured instead."""

from __future__ import annotations

from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.exceptions import InvalidRegionError, NoRegionError

from certification.bedrock import endpoints, errors
from certification.bedrock.transport import host_of
from certification.inference import Endpoint
from certification.reasons import Reason

REGIONS = ("us-east-1", "sa-east-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1", "xx-new-9")
VARIABLES = {
    "plain": {},
    "fips": {"AWS_USE_FIPS_ENDPOINT": "true"},
    "dual stack": {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
    "both": {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
    "for all": {"AWS_ENDPOINT_URL": "https://proxy.example"},
    "for the runtime": {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "https://runtime.example:8443"},
    "ignored": {
        "AWS_ENDPOINT_URL": "https://proxy.example",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    },
}


def address(endpoint: Endpoint, region: str, configured: str = "") -> str:
    return endpoints.base_url(botocore.session.Session(), endpoint, region, configured)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("names", VARIABLES)
def test_the_runtimes_address_is_the_one_that_boto3_calls(
    monkeypatch: pytest.MonkeyPatch, names: str, region: str
) -> None:
    for name, value in VARIABLES[names].items():
        monkeypatch.setenv(name, value)
    client = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b").client(
        "bedrock-runtime", region_name=region
    )
    assert address(Endpoint.RUNTIME, region) == client.meta.endpoint_url


def test_mantle_has_one_address_in_a_region_and_none_with_fips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert address(Endpoint.MANTLE, "eu-west-1") == "https://bedrock-mantle.eu-west-1.api.aws"
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    with pytest.raises(errors.Misconfigured, match="FIPS"):
        address(Endpoint.MANTLE, "eu-west-1")


def test_a_configured_address_is_used_for_both_endpoints() -> None:
    for endpoint in Endpoint:
        url = address(endpoint, "us-east-1", "http://127.0.0.1:4599/")
        assert url == "http://127.0.0.1:4599"


def test_what_cannot_be_an_address_or_a_region_says_so() -> None:
    for url in ("http://", "no address"):
        with pytest.raises(errors.BedrockError) as caught:
            address(Endpoint.RUNTIME, "us-east-1", url)
        assert caught.value.reason is Reason.CLIENT_MISCONFIGURED
    with pytest.raises(InvalidRegionError):
        address(Endpoint.RUNTIME, "../x")
    with pytest.raises(NoRegionError):
        address(Endpoint.RUNTIME, "")


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://bedrock-runtime.us-east-1.amazonaws.com", None),
        ("https://proxy.example:8443", "proxy.example:8443"),
        ("http://127.0.0.1:80", "127.0.0.1"),
        ("http://[::1]:4599", "[::1]:4599"),
    ],
)
def test_the_host_that_is_signed_is_the_one_that_is_sent(url: str, authority: str | None) -> None:
    host = host_of(botocore.session.Session(), url, use_proxies=False)
    assert host.authority == (authority or url.removeprefix("https://"))


def test_a_ca_bundle_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = tmp_path / "none.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", str(missing))
    with pytest.raises(errors.BedrockError, match=str(missing)) as caught, errors.translated():
        host_of(botocore.session.Session(), "https://bedrock.example", use_proxies=True)
    assert caught.value.reason is Reason.CLIENT_MISCONFIGURED
