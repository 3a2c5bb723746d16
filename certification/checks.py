"""System checks: every misconfiguration has an id and a sentence that says what to do."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register


@register()
def certification_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Values that cannot work, whatever the environment."""
    found: list[CheckMessage] = []
    for name in (
        "CERTIFICATION_CONCURRENCY",
        "CERTIFICATION_CALLS_PER_RUN",
        "CERTIFICATION_TIMEOUT",
        "CERTIFICATION_TTL_DAYS",
    ):
        if getattr(settings, name) < 1:
            found.append(Error(f"{name} must be at least 1.", id="certification.E001"))
    for name in (
        "CERTIFICATION_MAX_RETRIES",
        "CERTIFICATION_CALLS_IN_FLIGHT",
        "BADGE_MAX_AGE",
        "BADGE_CACHE_SECONDS",
        "API_CACHE_SECONDS",
    ):
        if getattr(settings, name) < 0:
            found.append(Error(f"{name} must not be negative.", id="certification.E001"))
    if settings.BEDROCK_BACKEND not in ("auto", "aws", "emulator"):
        found.append(
            Error(
                f"BEDROCK_BACKEND is {settings.BEDROCK_BACKEND!r}; it must be auto, aws or emulator.",
                id="certification.E002",
            )
        )
    url = settings.BEDROCK_ENDPOINT_URL
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        found.append(
            Error(
                f"BEDROCK_ENDPOINT_URL is {url!r}; it must look like http://127.0.0.1:4599.",
                id="certification.E003",
            )
        )
    if not settings.DATABASE_URL.startswith(("postgres://", "postgresql://")):
        found.append(
            Error(
                "DATABASE_URL must be a postgresql:// address: only PostgreSQL is supported.",
                id="certification.E004",
            )
        )
    if not settings.REDIS_URL.startswith(("redis://", "rediss://", "unix://", "redis+socket://")):
        found.append(
            Error(
                "REDIS_URL must start with redis://, rediss:// or unix://.", id="certification.E005"
            )
        )
    strangers = sorted(set(settings.WORKER_REGIONS) - set(settings.PINNED_REGIONS))
    if strangers:
        found.append(
            Error(
                f"WORKER_REGIONS names {', '.join(strangers)}, which PINNED_REGIONS does not: nobody would send runs there. "
                "Give every process the same PINNED_REGIONS.",
                id="certification.E007",
            )
        )
    found += _webhook_settings()
    if settings.CERTIFICATION_HEARTBEAT_TIMEOUT < 5:
        found.append(
            Error(
                "CERTIFICATION_HEARTBEAT_TIMEOUT must be at least 5 seconds: workers show themselves every second.",
                id="certification.E006",
            )
        )
    return found


def _webhook_settings() -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for network in settings.WEBHOOK_ALLOWED_NETWORKS:
        try:
            ip_network(network)
        except ValueError as error:
            found.append(Error(f"WEBHOOK_ALLOWED_NETWORKS: {error}.", id="certification.E020"))
    for name in ("WEBHOOK_TIMEOUT", "WEBHOOK_DISABLE_AFTER_DAYS", "WEBHOOK_LOG_DAYS"):
        if getattr(settings, name) < 1:
            found.append(Error(f"{name} must be at least 1.", id="certification.E021"))
    if settings.WEBHOOK_CA_BUNDLE and not Path(settings.WEBHOOK_CA_BUNDLE).is_file():
        found.append(
            Error("WEBHOOK_CA_BUNDLE names no file that can be read.", id="certification.E022")
        )
    return found


@register()
def production_settings(**_kwargs: Any) -> list[CheckMessage]:
    """What must not be so outside development."""
    if settings.DEBUG:
        return []
    found: list[CheckMessage] = []
    if "*" in settings.ALLOWED_HOSTS:
        found.append(
            Error(
                "ALLOWED_HOSTS contains '*'. Name the hosts this server answers for.",
                id="certification.E010",
            )
        )
    if len(settings.SECRET_KEY) < 32 or settings.SECRET_KEY.startswith(
        ("django-insecure", "change", "secret")
    ):
        found.append(
            Error(
                "SECRET_KEY is short or a placeholder. Use a long random value.",
                id="certification.E011",
            )
        )
    password = urlsplit(settings.DATABASE_URL).password
    if not settings.EMBEDDED_POSTGRES and password in (
        "postgres",
        "password",
        "admin",
        "myia",
        "changeme",
    ):
        found.append(
            Error(
                "DATABASE_URL carries a well-known password. Choose another.",
                id="certification.E012",
            )
        )
    if not settings.EMBEDDED_POSTGRES and not settings.HTTPS:
        found.append(
            Warning(
                "HTTPS is off although the database is not the embedded one: set HTTPS=1 behind TLS.",
                id="certification.W013",
            )
        )
    return found
