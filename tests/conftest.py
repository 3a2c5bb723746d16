"""What every test may use: a few named people, the catalogue, the emulator."""

from __future__ import annotations

import atexit
import functools
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from certification.engine import backend
from certification.engine.worker import reset_worker
from certification.lib import counters, shared_cache
from certification.models import AIModel, ModelAlias, Provider, Region, Route, User
from certification.stack import embedded, processes
from tests import database, forks, seed
from tests.processes import QUEUE, LiveStack

# How fast examples are made says something of the machine, nothing of the code. Fixtures that are
# made once for all examples of a test change nothing here.
hypothesis_settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
hypothesis_settings.load_profile("any machine")
# Every session of boto3 would read and unpack the descriptions of the services anew.
botocore.loaders.create_loader = functools.cache(botocore.loaders.create_loader)


def pytest_configure() -> None:
    forks.install(forks.start_server)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that start processes: they take minutes in which they mostly wait, while
    the other workers of pytest-xdist compute. Last, they would wait alone. A crowded machine can
    disturb any of them: each may fail once, which is printed and counted.
    """
    waits = set()
    for item in items:
        if item.get_closest_marker("processes"):
            waits.add(item.path)
            item.add_marker(pytest.mark.flaky(reruns=1))
    items.sort(key=lambda item: item.path not in waits)


def pytest_collection_finish() -> None:
    """Spare every later garbage collection the modules and tests that stay to the end: looking at
    them took a tenth of the time.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers of every process that ran tests, those of one that crashed included."""
    if not hasattr(config, "workerinput"):
        root = django_settings.MYIA_ROOT
        for folder in (root, *root.glob("gw*")):
            embedded.stop(folder)


@pytest.fixture(scope="session", autouse=True)
def servers() -> Iterator[None]:
    """PostgreSQL and Valkey of this process."""
    root = django_settings.MYIA_ROOT
    root.mkdir(parents=True, exist_ok=True)
    seed.plant(root)
    expected = embedded.urls(root)
    assert embedded.ensure(root, durable=False) == expected, "A port was taken: run the tests again"
    yield
    atexit.unregister(counters.counters.flush)  # the servers are gone by then


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: None) -> None:
    """Begin with a copy of the database that the cluster was seeded with."""
    test = django_settings.DATABASES["default"]["TEST"]
    test |= {"TEMPLATE": seed.TEMPLATE, "MIGRATE": False}


@pytest.fixture(scope="session")
def django_db_setup(servers: None, django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database with the shipped catalogue, which every test finds as it was shipped."""
    with django_db_blocker.unblock():
        database.restore_after_commits(database.Baseline.take())
    yield
    database.end_sessions(str(connection.settings_dict["NAME"]))  # of threads: it is dropped now


@pytest.fixture(autouse=True)
def closed_breaker() -> None:
    """No test finds Redis left alone because it did not answer in an earlier one."""
    shared_cache.breaker.close()


@pytest.fixture
def catalogue(db: None) -> None:
    """The shipped catalogue, which is always in the database, for tests that need it."""


@pytest.fixture
def empty_catalogue(db: None) -> None:
    """A database without the shipped catalogue, for tests that bring a little one of their own."""
    for rows in (Route, ModelAlias, AIModel, Region, Provider):
        rows.objects.all()._raw_delete("default")


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
        embedded.ensure(settings.MYIA_ROOT, durable=False)
        connection.close()
        backend.name.cache_clear()
