"""Misconfiguration is told before it harms."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks


def ids() -> set[str | None]:
    return {
        message.id
        for message in run_checks(include_deployment_checks=True)
        if (message.id or "").startswith("certification.")
    }


def test_the_defaults_are_fine() -> None:
    assert ids() == set()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"CERTIFICATION_CONCURRENCY": 0}, "certification.E001"),
        ({"CERTIFICATION_MAX_RETRIES": -1}, "certification.E001"),
        ({"BADGE_MAX_AGE": -1}, "certification.E001"),
        ({"BEDROCK_BACKEND": "azure"}, "certification.E002"),
        ({"BEDROCK_ENDPOINT_URL": "localhost:4599"}, "certification.E003"),
        ({"DATABASE_URL": "sqlite:///x"}, "certification.E004"),
        ({"REDIS_URL": "amqp://x"}, "certification.E005"),
        ({"CERTIFICATION_HEARTBEAT_TIMEOUT": 1}, "certification.E006"),
        ({"WORKER_REGIONS": ["sa-east-1"]}, "certification.E007"),
        ({"WEBHOOK_ALLOWED_NETWORKS": ["10.0.0.1/8"]}, "certification.E020"),
        ({"METRICS_NETWORKS": ["10.0.0.1/8"]}, "certification.E040"),
        ({"WEBHOOK_TIMEOUT": 0}, "certification.E021"),
        ({"WEBHOOK_CA_BUNDLE": "/nowhere.pem"}, "certification.E022"),
        ({"ALLOWED_HOSTS": ["*"]}, "certification.E010"),
        ({"SECRET_KEY": "changeme"}, "certification.E011"),
        (
            {"EMBEDDED_POSTGRES": False, "DATABASE_URL": "postgresql://a:postgres@h/d"},
            "certification.E012",
        ),
        ({"EMBEDDED_POSTGRES": False}, "certification.W013"),
        ({"CERTIFICATE_KEY": "hunter2"}, "certification.E030"),
        ({"CERTIFICATE_KEY_FILE": "/nowhere.pem"}, "certification.E030"),
        ({"EMBEDDED_POSTGRES": False}, "certification.W031"),
        ({"EMBEDDED_POSTGRES": False}, "certification.W032"),
    ],
)
def test_each_mistake_has_an_id(settings: Any, values: dict[str, Any], expected: str) -> None:
    for name, value in values.items():
        setattr(settings, name, value)
    assert expected in ids()
