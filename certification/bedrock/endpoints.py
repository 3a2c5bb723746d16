"""Where a call goes: the address of each endpoint of Bedrock in a region, as botocore's own rules
give it.
"""

from __future__ import annotations

import ipaddress
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import NoRegionError
from botocore.utils import ensure_boolean, is_valid_endpoint_url, validate_region_name

from certification.bedrock import errors
from certification.inference import Endpoint
from certification.reasons import Reason


def base_url(
    session: botocore.session.Session, endpoint: Endpoint, region: str, configured: str = ""
) -> str:
    """Return the address of an endpoint in a region, without a path.

    `configured` comes first, then what the session's environment and profile name, then AWS's own
    host with the session's choice of FIPS and dual stack. Raises BedrockError and botocore's
    errors for an address or a region that cannot be.
    """
    if not region:
        raise NoRegionError
    validate_region_name(region)
    url = configured or configured_url(session, endpoint) or own_url(session, endpoint, region)
    if not is_valid_endpoint_url(url):
        raise errors.error(Reason.CLIENT_MISCONFIGURED, f"Invalid endpoint: {url}")
    return url.rstrip("/")


def configured_url(session: botocore.session.Session, endpoint: Endpoint) -> str:
    """Return the address that AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_BEDROCK_RUNTIME or the profile
    names; "" without one.
    """
    if ensure_boolean(session.get_config_variable("ignore_configured_endpoint_urls")):
        return ""
    config, profile = session.full_config, session.get_scoped_config()
    return ConfiguredEndpointProvider(config, profile, endpoint.value).provide() or ""


def own_url(session: botocore.session.Session, endpoint: Endpoint, region: str) -> str:
    """Return AWS's own address. Raises BedrockError where FIPS is wanted and there is none."""
    fips = ensure_boolean(session.get_config_variable("use_fips_endpoint"))
    dual_stack = ensure_boolean(session.get_config_variable("use_dualstack_endpoint"))
    if endpoint is Endpoint.MANTLE:
        if fips:
            raise errors.error(
                Reason.CLIENT_MISCONFIGURED,
                "bedrock-mantle has no FIPS endpoint. Unset AWS_USE_FIPS_ENDPOINT to call it.",
            )
        return f"https://bedrock-mantle.{region}.api.aws"
    rules = runtime_rules()
    resolved = rules.resolve_endpoint(Region=region, UseFIPS=fips, UseDualStack=dual_stack)
    return str(resolved.url)


@cache
def runtime_rules() -> Any:
    """Return botocore's rules for the addresses of bedrock-runtime, in all partitions."""
    loader = botocore.session.Session().get_component("data_loader")
    rules = loader.load_service_model("bedrock-runtime", "endpoint-rule-set-1")
    return EndpointProvider(rules, loader.load_data("partitions"))


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
