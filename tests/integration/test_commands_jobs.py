"""The small commands: job, list_uncertified, recertify_stale, reconcile, load_catalogue, and
certify without a worker.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from certification.engine import dispatch, queue
from certification.engine.dispatch import CertifyOptions
from certification.management import follow, terminal
from certification.models import (
    AIModel,
    CertificationJob,
    ModelCertification,
    Priority,
    Route,
    State,
)
from certification.reasons import Reason, Status
from certification.stack import temporary
from tests import factories

NOVA, PRO, MICRO = "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0", "amazon.nova-micro-v1:0"
QUICK = ("--regions", "us-east-1", "--tier", "quick")

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _catalogue(catalogue: None, emulator: str, settings: Any) -> None:
    settings.CERTIFICATION_QUEUE_NAME = "command-tests"
    redis.Redis.from_url(settings.REDIS_URL).flushall()


@pytest.fixture
def run_command(capsys: Any) -> Any:
    """Run a command to its end and return what it printed on stdout."""

    def run(*arguments: str) -> str:
        call_command(*arguments)
        text: str = capsys.readouterr().out
        return text

    return run


def job(*models: str, regions: tuple[str, ...] = ("us-east-1",)) -> CertificationJob:
    pairs = dispatch.pairs_of(
        dispatch.find_models(models or (NOVA,)), dispatch.find_regions(regions)
    )
    return dispatch.certify(pairs, CertifyOptions(tier="quick")).job


def model(name: str = NOVA) -> AIModel:
    return AIModel.objects.get(api_model_id=name)


# certify


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("no.such-model", *QUICK),
            "Unknown model: no.such-model.*manage.py list_uncertified --all",
        ),
        (("a\x00b", *QUICK), "Unknown model"),
        ((NOVA, "--regions", "xx-1"), "Unknown region: xx-1"),
        ((), "Name at least one model"),
        ((NOVA, *QUICK, "--idempotency-key", "k" * 129), "at most 128"),
        ((NOVA, *QUICK, "--idempotency-key", "a\x00b"), "printable"),
        ((NOVA, *QUICK, "--max-cost", "nan"), "between 0 and 999999 USD"),
        ((NOVA, *QUICK, "--max-cost", "inf"), "between 0 and 999999 USD"),
        ((NOVA, *QUICK, "--max-cost=-1"), "between 0 and 999999 USD"),
        ((NOVA, *QUICK, "--max-cost", "0"), "over the limit of 0.00 USD"),
        (("zai.glm-4.6", *QUICK, "--max-cost", "9"), "--allow-unpriced"),
        ((NOVA, *QUICK, "--seed=-1"), "between 0 and 4294967295"),
        (("--failed", *QUICK), "no pair has failed"),
        (("--uncertified", *QUICK), "no pair is tested and not certified"),
        (("--stale", *QUICK), "no pair has expired"),
    ],
)
def test_certify_refuses_in_a_sentence_and_writes_nothing(
    arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("certify", *arguments)
    assert not CertificationJob.objects.exists()


def test_certify_dry_run_estimates_the_cost_and_starts_nothing(run_command: Any) -> None:
    report = json.loads(run_command("certify", "--all", *QUICK, "--dry-run", "--json"))
    assert report["runs"] > 60
    assert report["calls"] > 600
    assert report["usd"] > 0
    assert not CertificationJob.objects.exists()


def test_certify_names_the_job_that_already_runs_a_pair(run_command: Any) -> None:
    first = job()
    with pytest.raises(CommandError, match=f"Already running: {NOVA} in us-east-1, job {first.pk}"):
        call_command("certify", NOVA, *QUICK)
    assert f"Skipped, already running: {NOVA} in us-east-1" in run_command(
        "certify", NOVA, PRO, *QUICK
    )
    assert list(
        CertificationJob.objects.exclude(pk=first.pk).values_list("total_runs", flat=True)
    ) == [1]


def test_certify_says_that_no_worker_is_running(run_command: Any) -> None:
    output = run_command("certify", NOVA, *QUICK)
    assert "No worker is running: the job waits. Start the stack with: manage.py up" in output
    assert str(CertificationJob.objects.get().pk) in output


def test_certify_with_an_idempotency_key_returns_the_first_job(run_command: Any) -> None:
    first = json.loads(run_command("certify", NOVA, *QUICK, "--idempotency-key", "k", "--json"))
    second = json.loads(run_command("certify", NOVA, *QUICK, "--idempotency-key", "k", "--json"))
    assert first["jobId"] == second["jobId"]
    assert CertificationJob.objects.count() == 1


def test_certify_failed_and_uncertified_choose_pairs_by_their_status() -> None:
    factories.certify(model(), "us-east-1")
    factories.certify(model(PRO), "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
    factories.certify(
        model(MICRO), "us-east-1", Status.QUALITY_WARNING, reason=Reason.QUALITY_BELOW_LINE
    )
    for option, expected in (("--failed", {PRO}), ("--uncertified", {PRO, MICRO})):
        call_command("certify", option, *QUICK, "--json")
        latest = CertificationJob.objects.order_by("-created_at").first()
        assert latest
        assert {run.model.api_model_id for run in latest.runs.all()} == expected
        latest.cancel()


def test_no_job_is_left_to_workers_of_another_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would never run it. The replies are those of such workers; test_reliability has real
    ones.
    """
    replies = [{"worker@here": {"backend": "aws", "queues": [queue.name_for(Priority.BULK)]}}]
    monkeypatch.setattr(
        temporary.current_app.control, "broadcast", lambda *_args, **_options: replies
    )
    failed = job(NOVA)
    failed.runs.get().mark_failed(Reason.UNKNOWN, "It was given up.")
    factories.certify(model(PRO), "us-east-1")
    before = CertificationJob.objects.count()
    for command in (
        ("job", "retry", str(failed.pk)),
        ("recertify_stale", "--days", "0"),
        ("certify", NOVA, *QUICK),
    ):
        with pytest.raises(CommandError, match="The running workers use the backend aws"):
            call_command(*command)
    assert CertificationJob.objects.count() == before


def test_a_certification_held_back_from_a_later_verdict_is_shown(run_command: Any) -> None:
    factories.certify(model(), "us-east-1")
    run = factories.certify(
        model(), "us-east-1", Status.QUALITY_WARNING, reason=Reason.QUALITY_BELOW_LINE
    )
    row = ModelCertification.objects.get()
    row.status, row.held_back, row.confirm_after = (
        Status.CERTIFIED,
        "The certification remains valid: it may be luck.",
        timezone.now(),
    )
    row.save()
    assert "nova-lite-v1:0 in us-east-1: The certification remains valid" in run_command(
        "job", "show", str(run.job_id)
    )
    [row] = [
        r for r in json.loads(run_command("list_uncertified", "--all", "--json")) if r["heldBack"]
    ]
    assert (row["model"], row["status"], bool(row["confirmAfter"])) == (NOVA, "certified", True)


@pytest.mark.parametrize(("n", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs")])
def test_numbers_agree_with_their_nouns(n: int, text: str) -> None:
    assert terminal.pluralize(n, "run") == text


@pytest.mark.django_db(transaction=True)
def test_ctrl_c_in_the_middle_of_a_query_still_cancels_the_job(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    ours = job(NOVA, PRO)

    def slow_follow(_job_id: Any) -> Iterator[Any]:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(60)")
        yield

    monkeypatch.setattr(follow, "follow", slow_follow)
    with pytest.raises(SystemExit) as ended:
        follow.follow_job(ours, terminal.console())
    assert ended.value.code == 130
    assert "2 runs had not finished" in capsys.readouterr().out
    ours.refresh_from_db()
    assert ours.status == State.CANCELLED


# job


def test_job_show_prints_a_job_by_the_first_characters_of_its_id(run_command: Any) -> None:
    ours = job(NOVA, PRO)
    report = json.loads(run_command("job", "show", str(ours.pk)[:8], "--json"))
    assert report["jobId"] == str(ours.pk)
    assert [run["model"] for run in report["runs"]] == [NOVA, PRO]
    table = run_command("job", "show", str(ours.pk))
    assert NOVA in table
    assert "QUEUED" in table or "PENDING" in table


@pytest.mark.parametrize("wrong", ["zzz", "00000000-0000-0000-0000-000000000000", ""])
def test_job_show_of_an_unknown_job_says_where_to_look(wrong: str) -> None:
    with pytest.raises(CommandError, match=r"manage\.py job list"):
        call_command("job", "show", wrong)


def test_job_list_shows_the_newest_and_those_without_a_verdict(run_command: Any) -> None:
    ours, failed = job(NOVA), job(PRO)
    failed.runs.get().mark_failed(Reason.UNKNOWN, "It was given up.")
    assert {j["id"] for j in json.loads(run_command("job", "list", "--json"))} == {
        str(ours.pk),
        str(failed.pk),
    }
    assert [j["id"] for j in json.loads(run_command("job", "list", "--failed", "--json"))] == [
        str(failed.pk)
    ]
    CertificationJob.objects.all().delete()
    assert "There are no such jobs." in run_command("job", "list")


def test_job_cancel_cancels_once(run_command: Any) -> None:
    ours = job(NOVA, PRO)
    assert json.loads(run_command("job", "cancel", str(ours.pk), "--json"))["cancelled"] == 2
    with pytest.raises(CommandError, match="already ended: CANCELLED"):
        call_command("job", "cancel", str(ours.pk))


def test_job_retry_makes_a_new_job_of_runs_without_a_verdict(run_command: Any) -> None:
    ours = job(NOVA, PRO)
    for run in ours.runs.filter(model__api_model_id=NOVA):
        run.mark_failed(Reason.UNKNOWN, "It was given up.")
    report = json.loads(run_command("job", "retry", str(ours.pk), "--json"))
    assert [run["model"] for run in report["runs"]] == [NOVA]
    with pytest.raises(CommandError, match="no failed runs"):
        call_command("job", "retry", report["jobId"])


# list_uncertified, recertify_stale


def test_list_uncertified_lists_offered_pairs_that_are_not_certified(run_command: Any) -> None:
    factories.certify(model(), "us-east-1")
    factories.certify(
        model(PRO), "us-east-1", Status.FAILED, score=60, rating="F", reason=Reason.GATE_FAILED
    )
    rows = {
        r["model"]: r
        for r in json.loads(run_command("list_uncertified", "--regions", "us-east-1", "--json"))
    }
    assert NOVA not in rows
    assert (rows[PRO]["status"], rows[PRO]["score"], rows[PRO]["rating"]) == ("failed", 60, "F")
    assert {r["status"] for r in rows.values()} == {"failed", "not_tested"}
    everything = json.loads(
        run_command("list_uncertified", "--regions", "us-east-1", "--all", "--json")
    )
    assert len(everything) == len(rows) + 1
    assert "✕ failed" in run_command(
        "list_uncertified", "--regions", "us-east-1", "--vendor", "amazon"
    )


def test_list_uncertified_names_the_vendors() -> None:
    with pytest.raises(
        CommandError, match=r"No active model has the vendor 'Nobody'. Vendors: .*Amazon"
    ):
        call_command("list_uncertified", "--vendor", "Nobody")


def test_recertify_stale_takes_pairs_tested_long_ago_or_expired(run_command: Any) -> None:
    factories.certify(model(), "us-east-1")
    factories.certify(model(PRO), "us-east-1")
    factories.certify(model(), "us-west-2")
    long_ago = timezone.now() - timedelta(days=31)
    ModelCertification.objects.filter(model=model(PRO)).update(last_tested_at=long_ago)
    ModelCertification.objects.filter(region="us-west-2").update(expires_at=long_ago)
    report = json.loads(run_command("recertify_stale", "--dry-run", "--json"))
    assert (report["runs"], report["jobId"]) == (2, None)
    report = json.loads(run_command("recertify_stale", "--tier", "quick", "--json"))
    assert {(r["model"], r["region"]) for r in report["runs"]} == {
        (PRO, "us-east-1"),
        (NOVA, "us-west-2"),
    }
    assert CertificationJob.objects.get(pk=report["jobId"]).type == "RECERTIFY"


def test_recertify_stale_says_when_nothing_is_stale(run_command: Any) -> None:
    assert "Nothing is stale." in run_command("recertify_stale")


@pytest.mark.parametrize("days", ["-1", "99999999999"])
def test_recertify_stale_refuses_days_out_of_range(days: str) -> None:
    with pytest.raises(CommandError, match="between 0 and 3650"):
        call_command("recertify_stale", f"--days={days}")


# reconcile, load_catalogue


def test_reconcile_reports_what_it_repaired(run_command: Any, settings: Any) -> None:
    ours = job(NOVA, PRO)
    ours.runs.update(enqueued_at=timezone.now() - timedelta(minutes=5))
    report = json.loads(run_command("reconcile", "--json"))
    assert (report["resent"], report["broker_reachable"], report["busy"]) == (2, True, False)
    assert queue.queued_messages(ours.priority) == 2
    assert "Sent again: 0." in run_command("reconcile")


def test_load_catalogue_can_be_repeated_and_leaves_switches(run_command: Any) -> None:
    AIModel.objects.filter(api_model_id=NOVA).update(is_active=False)
    Route.objects.filter(model__api_model_id=PRO, region="us-east-1").delete()
    assert "Models: 0 new, 0 updated. Routes: 0 new. Regions: 0 new." in run_command(
        "load_catalogue"
    )
    assert not model().is_active
    assert not Route.objects.filter(model__api_model_id=PRO, region="us-east-1").exists()
