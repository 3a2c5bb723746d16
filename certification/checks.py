"""System checks: every misconfiguration has an id and a sentence that explains what to do."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from certification.lib import redis_address, url_safety

# The tag of these checks. Our commands run only them: the checks of the URLs would load every page
# and the whole API first.
TAG = "settings"

AT_LEAST_ONE = {
    "CERTIFICATION_CONCURRENCY": "E001",
    "CERTIFICATION_CALLS_PER_RUN": "E001",
    "CERTIFICATION_BULK_WORKERS": "E001",
    "CERTIFICATION_TIMEOUT": "E001",
    "CERTIFICATION_TTL_DAYS": "E001",
    "WEBHOOK_TIMEOUT": "E021",
    "WEBHOOK_DISABLE_AFTER_DAYS": "E021",
}
NOT_NEGATIVE = (
    "CERTIFICATION_MAX_RETRIES",
    "CERTIFICATION_CALLS_IN_FLIGHT",
    "BADGE_MAX_AGE",
    "BADGE_CACHE_SECONDS",
    "PUBLIC_CACHE_SECONDS",
    "VERIFICATIONS_PER_MINUTE",
    "API_CACHE_SECONDS",
)
MIN_HEARTBEAT_TIMEOUT_S = 5
MIN_SECRET = 16  # characters
WELL_KNOWN_PASSWORDS = ("postgres", "password", "admin", "myia", "changeme")
PLACEHOLDER_KEYS = ("django-insecure", "change", "secret")


def error(number: str, message: str) -> CheckMessage:
    return Error(message, id=f"certification.{number}")


@register(TAG)
def number_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Check that numbers are large enough."""
    issues = [
        error(number, f"{name} must be at least 1.")
        for name, number in AT_LEAST_ONE.items()
        if getattr(settings, name) < 1
    ]
    issues += [
        error("E001", f"{name} must not be negative.")
        for name in NOT_NEGATIVE
        if getattr(settings, name) < 0
    ]
    if settings.CERTIFICATION_HEARTBEAT_TIMEOUT < MIN_HEARTBEAT_TIMEOUT_S:
        issues.append(
            error(
                "E006",
                f"CERTIFICATION_HEARTBEAT_TIMEOUT must be at least {MIN_HEARTBEAT_TIMEOUT_S} "
                "seconds: a worker's heartbeat comes every second.",
            )
        )
    return issues


@register(TAG)
def address_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Check the backend, the addresses of servers, and the regions of workers."""
    issues: list[CheckMessage] = []
    if settings.BEDROCK_BACKEND not in ("auto", "aws", "emulator"):
        issues.append(
            error(
                "E002",
                f"BEDROCK_BACKEND is {settings.BEDROCK_BACKEND!r}; "
                "it must be auto, aws or emulator.",
            )
        )
    url = settings.BEDROCK_ENDPOINT_URL
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        issues.append(
            error(
                "E003", f"BEDROCK_ENDPOINT_URL is {url!r}; it must look like http://127.0.0.1:4599."
            )
        )
    if not settings.DATABASE_URL.startswith(("postgres://", "postgresql://")):
        issues.append(
            error(
                "E004",
                "DATABASE_URL must be a postgresql:// address: only PostgreSQL is supported.",
            )
        )
    schemes = ", ".join(f"{scheme}://" for scheme in redis_address.SCHEMES)
    issues += [
        error("E005", f"{name} must start with one of {schemes}.")
        for name in ("REDIS_URL", "CACHE_URL")
        if getattr(settings, name)
        and urlsplit(getattr(settings, name)).scheme not in redis_address.SCHEMES
    ]
    unknown = sorted(set(settings.WORKER_REGIONS) - set(settings.PINNED_REGIONS))
    if unknown:
        issues.append(
            error(
                "E007",
                f"WORKER_REGIONS has {', '.join(unknown)}, which is not in PINNED_REGIONS: "
                "no runs would be sent there. Give every process the same PINNED_REGIONS.",
            )
        )
    return issues


@register(TAG)
def webhook_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Check the networks and the certificates for calls to receivers."""
    issues: list[CheckMessage] = []
    for network in settings.WEBHOOK_ALLOWED_NETWORKS:
        try:
            ip_network(network)
        except ValueError as problem:
            issues.append(error("E020", f"WEBHOOK_ALLOWED_NETWORKS: {problem}."))
    if settings.WEBHOOK_CA_BUNDLE and not Path(settings.WEBHOOK_CA_BUNDLE).is_file():
        issues.append(error("E022", "WEBHOOK_CA_BUNDLE is not a readable file."))
    return issues


@register(TAG)
def metrics_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Check the networks that may read the metrics."""
    issues: list[CheckMessage] = []
    for network in settings.METRICS_NETWORKS:
        try:
            ip_network(network)
        except ValueError as problem:
            issues.append(error("E040", f"METRICS_NETWORKS: {problem}."))
    return issues


@register(TAG)
def production_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Check what would be unsafe outside development."""
    if settings.DEBUG:
        return []
    issues: list[CheckMessage] = []
    if "*" in settings.ALLOWED_HOSTS:
        issues.append(
            error("E010", "ALLOWED_HOSTS contains '*'. List the hosts of this server instead.")
        )
    if len(settings.SECRET_KEY) < 32 or settings.SECRET_KEY.startswith(PLACEHOLDER_KEYS):
        issues.append(
            error("E011", "SECRET_KEY is short or a placeholder. Use a long random value.")
        )
    if settings.EMBEDDED_POSTGRES:
        return issues
    if urlsplit(settings.DATABASE_URL).password in WELL_KNOWN_PASSWORDS:
        issues.append(error("E012", "DATABASE_URL contains a well-known password. Choose another."))
    if not settings.HTTPS:
        issues.append(
            Warning(
                "HTTPS is off although the database is not the embedded one: "
                "set HTTPS=1 behind TLS.",
                id="certification.W013",
            )
        )
    return issues


@register(TAG)
def certificate_key(**_kwargs: Any) -> list[CheckMessage]:
    """Check the key that signs certificates."""
    if not (settings.CERTIFICATE_KEY or settings.CERTIFICATE_KEY_FILE):
        return []
    from certification.certificates import keys  # noqa: PLC0415 - most commands sign nothing

    try:
        keys.signing_key()
    except keys.KeyFault as fault:
        return [error("E030", str(fault))]
    return []


@register(TAG, deploy=True)
def certificates_of_several_machines(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of a key and an address that only one machine knows, where the database is shared."""
    if settings.EMBEDDED_POSTGRES:
        return []
    issues: list[CheckMessage] = []
    if not (settings.CERTIFICATE_KEY or settings.CERTIFICATE_KEY_FILE):
        issues.append(
            Warning(
                "Each machine makes a key for certificates of its own, and a container a new one "
                "at each start: set CERTIFICATE_KEY or CERTIFICATE_KEY_FILE.",
                id="certification.W031",
            )
        )
    if urlsplit(settings.PUBLIC_URL).hostname in ("localhost", "127.0.0.1", "::1"):
        issues.append(
            Warning(
                "Certificates and badges name this machine alone: set PUBLIC_URL to the address "
                "where people reach it.",
                id="certification.W032",
            )
        )
    return issues


@register(TAG)
def outside_watcher(**_kwargs: Any) -> list[CheckMessage]:
    """Check the address of the outside watcher and the secret of the maintenance addresses, without
    showing either.
    """
    issues = []
    if settings.HEARTBEAT_URL:
        try:
            url_safety.parse(settings.HEARTBEAT_URL, allow_http=settings.WEBHOOK_ALLOW_HTTP)
        except url_safety.BadAddress as fault:
            issues.append(error("E040", f"HEARTBEAT_URL: {fault}"))
    if 0 < len(settings.MAINTENANCE_SECRET) < MIN_SECRET:
        issues.append(
            error("E041", f"MAINTENANCE_SECRET must have at least {MIN_SECRET} characters.")
        )
    return issues
