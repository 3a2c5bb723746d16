"""The alert engine: what opens, when, and who is notified."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import translation
from django.utils.functional import Promise

from certification.engine import queue
from certification.lib import clock
from certification.models import (
    AIModel,
    AlertEpisode,
    AlertSilence,
    Priority,
    QueuePause,
    RoutineMark,
    WebhookDelivery,
    WebhookSubscription,
)
from certification.models.webhooks import WebhookEvent
from certification.monitoring import alert_rules, machine, queue_stats
from certification.monitoring.alert_rules import CRITICAL, RULES, WARNING, Level, Rule
from certification.monitoring.alerts import run_round
from certification.monitoring.runbooks import BY_NAME, RUNBOOKS, address, document
from tests.factories import start_job

pytestmark = pytest.mark.django_db

values: dict[str, float] = {}
RULE = Rule(
    "queue_waiting",
    "{value} wait{subject}.",
    lambda _facts: dict(values),
    "queue_waiting",
    (Level(CRITICAL, 100, 300), Level(WARNING, 10, 60)),
    "manage.py queue",
)
CAUSE = replace(RULE, name="redis_unreachable", levels=(Level(CRITICAL, 0),))


@pytest.fixture(autouse=True)
def _nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    values.clear()
    monkeypatch.setattr(queue_stats, "REPLY_TIMEOUT_S", 0.05)
    # the machine of the tests may be busy
    monkeypatch.setattr(machine, "cpu_percent", lambda: 5.0)
    monkeypatch.setattr(machine, "memory_free_percent", lambda: 50.0)
    monkeypatch.setattr(machine, "process_memory", dict)


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let seconds pass."""
    passed = [0.0]
    now = clock.now

    def later(seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(seconds=passed[0]))
    return later


@pytest.fixture
def subscription() -> WebhookSubscription:
    events = [WebhookEvent.ALERT_RAISED.value]
    return WebhookSubscription.objects.create(url="https://a.example", events=events)


def notifications() -> list[tuple[str, str]]:
    rows = WebhookDelivery.objects.order_by("created_at")
    return [
        (row.payload["data"]["alert"]["name"], row.payload["data"]["alert"]["severity"])
        for row in rows
    ]


def test_an_alert_opens_after_its_condition_held_and_gets_worse(
    wait: Callable[[float], None], subscription: WebhookSubscription
) -> None:
    values[""] = 50
    assert run_round([RULE]).opened == []
    wait(61)
    assert run_round([RULE]).opened == ["queue_waiting"]
    values[""] = 200
    run_round([RULE])
    assert AlertEpisode.objects.get().severity == "warning"
    wait(301)
    run_round([RULE])
    run_round([RULE])
    episode = AlertEpisode.objects.get()
    assert (episode.severity, episode.message) == ("critical", "200 wait.")
    assert (episode.value_at_open, episode.value) == (50, 200)
    assert notifications() == [("queue_waiting", "warning"), ("queue_waiting", "critical")]


def test_what_ends_in_time_is_no_alert_and_what_comes_back_is_the_same(
    wait: Callable[[float], None], subscription: WebhookSubscription
) -> None:
    values[""] = 50
    run_round([RULE])
    values.clear()
    run_round([RULE])
    assert not AlertEpisode.objects.exists()
    for _ in range(3):  # it flaps
        values[""] = 50
        run_round([RULE])
        wait(61)
        run_round([RULE])
        values[""] = 5
        assert run_round([RULE]).resolved == ["queue_waiting"]
    assert AlertEpisode.objects.count() == 1
    assert notifications() == [("queue_waiting", "warning")]
    wait(601)
    values[""] = 50
    run_round([RULE])
    assert AlertEpisode.objects.count() == 2


def test_what_comes_back_opens_when_it_has_held_again(wait: Callable[[float], None]) -> None:
    rule = replace(RULE, levels=(Level(WARNING, 10, 900),))
    values[""] = 50
    run_round([rule])
    wait(901)
    assert run_round([rule]).opened == ["queue_waiting"]
    values.clear()
    run_round([rule])
    values[""] = 60
    run_round([rule])
    assert not AlertEpisode.objects.open().exists()
    wait(60)
    values.clear()
    run_round([rule])  # too short
    values[""] = 70
    run_round([rule])
    wait(890)  # so long that it has been well for more than REOPEN
    run_round([rule])
    assert not AlertEpisode.objects.open().exists()
    wait(10)
    run_round([rule])
    episode = AlertEpisode.objects.get()
    assert (episode.resolved_at, episode.value_at_open, episode.value) == (None, 50, 70)


def test_limits_are_settings(wait: Callable[[float], None], settings: Any) -> None:
    settings.ALERT_LIMITS = {"queue_waiting": (60.0,)}
    values[""] = 50
    run_round([RULE])
    assert not AlertEpisode.objects.exists()
    settings.ALERT_LIMITS = {"queue_waiting": (20.0, 40.0)}
    assert [level.beyond for level in RULE.current_levels()] == [40, 20]
    run_round([RULE])
    wait(301)
    run_round([RULE])
    assert AlertEpisode.objects.get().severity == "critical"


def test_subjects_have_episodes_of_their_own(wait: Callable[[float], None]) -> None:
    values.update({" in us-east-1": 50, " in eu-west-1": 5})
    run_round([RULE])
    wait(61)
    assert run_round([RULE]).opened == ["queue_waiting  in us-east-1"]
    assert AlertEpisode.objects.get().message == "50 wait in us-east-1."


def test_nobody_is_notified_of_a_consequence_or_a_silenced_rule(
    wait: Callable[[float], None], subscription: WebhookSubscription
) -> None:
    consequence = replace(RULE, because_of=(CAUSE.name,), levels=(Level(WARNING, 10),))
    values[""] = 50
    run_round([CAUSE, consequence])
    assert notifications() == [("redis_unreachable", "critical")]
    assert AlertEpisode.objects.get(rule="queue_waiting").cause == "redis_unreachable"
    AlertEpisode.objects.all().delete()
    until = clock.now() + timedelta(hours=1)
    AlertSilence.objects.create(rule="queue_waiting", reason="a sweep", until=until)
    run_round([consequence])
    assert len(notifications()) == 1
    wait(3601)
    run_round([consequence])
    assert notifications()[1:] == [("queue_waiting", "warning")]


def test_a_rule_that_cannot_be_measured_stays_as_it_was(settings: Any) -> None:
    values[""] = 50
    open_rule = replace(RULE, levels=(Level(WARNING, 10),))
    run_round([open_rule])

    def away(_facts: alert_rules.Facts) -> alert_rules.Values:
        raise ConnectionError

    assert run_round([replace(open_rule, measure=away)]).unknown == ["queue_waiting"]
    assert AlertEpisode.objects.open().count() == 1


def test_every_rule_is_measured_on_an_installation_that_is_well(catalogue: None) -> None:
    result = run_round()
    assert result.unknown == []
    assert set(result.opened) <= {"disk_space"}  # this machine's
    assert RoutineMark.ages().keys() >= {"alerts"}


def test_the_rules_see_what_is_wrong(
    catalogue: None, wait: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_job([AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")], ["us-east-1"])
    QueuePause.objects.create(backend="emulator", error_category="x", error_reason="x")
    RoutineMark.record("reconcile")
    monkeypatch.setattr(queue_stats.workers, "compute", lambda: 0)
    run_round()
    wait(3700)
    run_round()
    severities = dict(AlertEpisode.objects.open().values_list("rule", "severity"))
    severities.pop("disk_space", None)
    assert severities == {
        "worker_offline": "critical",
        "nothing_completed": "critical",
        "queue_oldest": "critical",
        "credentials_invalid": "critical",
        "routine_late": "critical",
    }
    causes = dict(AlertEpisode.objects.open().values_list("rule", "cause"))
    assert causes["nothing_completed"]
    assert causes["worker_offline"] == ""


def test_a_pinned_region_without_a_worker_is_an_alert(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PINNED_REGIONS = ["sa-east-1", "us-east-1"]
    taken: dict[str, int] | None = {
        queue.name_for(priority, region): 1
        for priority in Priority.values
        for region in settings.PINNED_REGIONS
    }
    monkeypatch.setattr(queue_stats.workers_by_queue, "get", lambda: taken)
    assert alert_rules.region_unserved(alert_rules.Facts()) == {}
    assert taken
    del taken[queue.name_for(Priority.BULK, "us-east-1")]  # single runs go on, sweeps wait
    assert alert_rules.region_unserved(alert_rules.Facts()) == {"us-east-1": 1.0}
    taken = None  # Redis is away: nobody knows
    assert alert_rules.region_unserved(alert_rules.Facts()) == {}


def test_redis_that_is_away_is_an_alert(settings: Any, wait: Callable[[float], None]) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    rules = [rule for rule in RULES if rule.name in ("redis_unreachable", "redis_memory")]
    assert run_round(rules).unknown == ["redis_memory"]
    wait(61)
    assert run_round(rules).opened == ["redis_unreachable"]


def test_every_rule_has_a_runbook_with_the_time_it_may_take() -> None:
    rules = [rule.name for rule in RULES]
    assert [book.name for book in RUNBOOKS if book.name in rules] == rules
    assert all(re.match(r"\*\*[^*]+\.\*\* \w", str(book.text)) for book in RUNBOOKS)
    named = {name for book in RUNBOOKS for name in re.findall(r"\(see `(\w+)`\)", str(book.text))}
    assert named <= set(BY_NAME)
    assert address("slow") == settings.PUBLIC_URL + reverse("runbook", args=["slow"])


def test_the_page_of_the_runbooks_is_what_they_say() -> None:
    page = (Path(settings.BASE_DIR) / "docs" / "runbooks.md").read_text(encoding="utf-8")
    assert page == document(), "Run: manage.py alerts runbooks > docs/runbooks.md"


def test_severities_come_most_severe_first_and_have_sane_limits() -> None:
    for rule in RULES:
        limits = [level.beyond for level in rule.levels]
        assert limits == sorted(limits, reverse=not rule.is_below), rule.name
        assert [level.severity for level in rule.levels] in (
            [CRITICAL],
            [WARNING],
            [CRITICAL, WARNING],
        )
        assert set(rule.because_of) <= {other.name for other in RULES} - {rule.name}


def test_sentences_are_in_the_language_of_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Translated when it is shown, not when the module is loaded."""
    for rule in RULES:
        assert isinstance(rule.sentence, Promise), rule.name
    monkeypatch.setattr(translation._trans, "gettext", lambda text: f"<{text}>")
    rule = next(rule for rule in RULES if rule.name == "queue_waiting")
    assert rule.describe(7, "") == "<7 runs wait for a worker.>"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = 0
    try:
        call_command("alerts", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().out


def test_the_command_lists_acknowledges_and_silences(
    capsys: pytest.CaptureFixture[str], subscription: WebhookSubscription
) -> None:
    assert run(capsys) == (0, "No alert is open.\n")
    values[""] = 50
    run_round([replace(RULE, levels=(Level(WARNING, 10),))])
    code, text = run(capsys, "list", "--json")
    [alert] = json.loads(text)["alerts"]
    assert (code, alert["rule"], alert["severity"]) == (1, "queue_waiting", "warning")
    assert alert["runbook"] == f"{settings.PUBLIC_URL}/operations/runbooks/queue_waiting/"
    assert "queue_waiting" in run(capsys)[1]
    assert "acknowledged" in run(capsys, "ack", alert["id"][:8])[1]
    assert AlertEpisode.objects.get().acknowledged_by
    run(capsys, "silence", "queue_waiting", "--for", "2h", "--reason", "a sweep")
    assert AlertSilence.objects.get().rule == "queue_waiting"
    assert "a.example" in run(capsys, "test")[1]
    assert ("test", "info") in notifications()
    for wrong in (["ack", "zz"], ["silence", "x", "--reason", "x"]):
        with pytest.raises(CommandError) as refused:
            call_command("alerts", *wrong)
        assert refused.value.returncode == 2


def test_health_says_when_a_round_of_alerts_is_late(client: Client) -> None:
    assert client.get("/live").json() == {"status": "ok"}
