"""Of several beats one works and the others wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from celery import current_app
from django.conf import settings as django_settings
from django_celery_beat.models import PeriodicTask

from certification.engine.beat import HOLD_S, LOOK_S, Scheduler, Turn


@pytest.fixture
def broker(settings: Any) -> Iterator[redis.Redis]:
    settings.CERTIFICATION_QUEUE_NAME = "two-beats"
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    client.delete("two-beats.beat")
    yield client
    client.delete("two-beats.beat")


def test_one_has_the_turn_until_it_ends_or_is_silent(broker: redis.Redis) -> None:
    first, second = Turn(), Turn()
    assert [first.take(), second.take(), first.take()] == [True, False, True]
    assert 0 < broker.ttl("two-beats.beat") <= HOLD_S
    second.end()  # not its turn
    assert not second.take()
    first.end()
    assert [second.take(), first.take()] == [True, False]
    broker.delete("two-beats.beat")  # as after HOLD_S without a sign
    assert [first.take(), second.take()] == [True, False]


def test_nobody_has_it_without_redis(broker: redis.Redis, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    turn = Turn()
    assert not turn.take()
    turn.end()


@pytest.mark.django_db(transaction=True)
def test_who_waits_sends_nothing_and_goes_on_where_the_other_stopped(
    broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, str]] = []

    def beat(name: str) -> Scheduler:
        scheduler = Scheduler(app=current_app._get_current_object())
        monkeypatch.setattr(
            scheduler, "apply_entry", lambda entry, producer: sent.append((name, entry.name))
        )
        monkeypatch.setitem(scheduler.__dict__, "producer", None)
        return scheduler

    first, second = beat("first"), beat("second")
    PeriodicTask.objects.update(last_run_at=datetime(2020, 1, 1, tzinfo=UTC))
    while first.tick() == 0:
        assert second.tick() == LOOK_S
    assert {("first", "reconcile"), ("first", "alerts"), ("first", "webhooks")} <= set(sent)
    assert len(sent) == len(set(sent))
    assert {name for name, _task in sent} == {"first"}
    first.close()
    second.tick()
    assert second.turn.is_ours
    known = {name: entry.total_run_count for name, entry in second.schedule.items()}
    counts = Counter(name for _beat, name in sent)
    assert {name: known[name] for name in counts} == counts  # it knows what was sent
