"""What every test may use: a few named people, the catalogue, the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client

from certification.engine import backend
from certification.engine.worker import reset_worker
from certification.models import User
from certification.models.catalogue import load_shipped
from certification.stack import embedded, processes
from tests.processes import QUEUE, LiveStack


def pytest_unconfigure() -> None:
    embedded.stop(django_settings.MYIA_ROOT)


@pytest.fixture
def catalogue(db: None) -> None:
    """The shipped catalogue in the database."""
    load_shipped()


def _person(role: str) -> User:
    return User.objects.create_user(
        f"{role}@example.org", "a-long-test-password", role=role, is_staff=role != "viewer"
    )


@pytest.fixture
def viewer(db: None) -> User:
    return _person("viewer")


@pytest.fixture
def operator(db: None) -> User:
    return _person("operator")


@pytest.fixture
def administrator(db: None) -> User:
    return _person("administrator")


@pytest.fixture
def as_viewer(viewer: User) -> Client:
    return _logged_in(viewer)


@pytest.fixture
def as_operator(operator: User) -> Client:
    return _logged_in(operator)


@pytest.fixture
def as_administrator(administrator: User) -> Client:
    return _logged_in(administrator)


def _logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture(scope="session")
def emulator_url() -> Iterator[str]:
    """An emulator without latency and without faults, for the whole test session."""
    with processes.emulator() as (url, _process):
        yield url


@pytest.fixture
def emulator(emulator_url: str, settings: Any) -> Iterator[str]:
    """The engine talks to the session's emulator."""
    settings.BEDROCK_ENDPOINT_URL = emulator_url
    reset_worker()
    yield emulator_url
    reset_worker()
    backend.name.cache_clear()


@pytest.fixture
def live_stack(transactional_db: None, settings: Any, tmp_path: Path) -> Iterator[LiveStack]:
    """An emulator with some latency, no worker yet, and no job of an earlier test."""
    load_shipped()
    settings.CERTIFICATION_QUEUE_NAME = QUEUE
    settings.CERTIFICATION_HEARTBEAT_TIMEOUT = 5
    settings.CERTIFICATION_RESEND_AFTER = 1
    redis.Redis.from_url(settings.REDIS_URL).flushall()
    stack = LiveStack(tmp_path)
    settings.BEDROCK_ENDPOINT_URL = stack.url
    try:
        yield stack
    finally:
        stack.stop(0)
        embedded.ensure(settings.MYIA_ROOT)
        connection.close()
        backend.name.cache_clear()
