"""What must hold when things die under load: real workers, servers and an emulator, killed and
restarted while they work.

Workers are celery processes on the tests' own PostgreSQL and Valkey; `reconcile` is called here as
beat would. What is checked after every blow is the same: each run ended once, results are whole and
not doubled, the job's counts are right, nothing is left open, and the certifications say what the
newest runs say.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psycopg
import pytest
import redis
from celery import current_app
from django.conf import settings as django_settings
from django.db import OperationalError, connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from certification.emulator import process as emulator
from certification.engine import backend, dispatch, queue, reconcile
from certification.engine.dispatch import CertifyOptions
from certification.engine.reconcile import Reconciled
from certification.models import (
    ACTIVE,
    CertificationJob,
    CertificationRun,
    ModelCertification,
    State,
    TestResult,
)
from certification.models.catalogue import load_shipped
from certification.reasons import ErrorCategory, Status
from certification.stack import embedded
from certification.suite import registry

QUEUE = "reliability"
MODELS = ("amazon.nova-lite-v1:0", "amazon.nova-micro-v1:0", "openai.gpt-oss-20b-1:0")
REGIONS = ("us-east-1", "us-west-2", "eu-central-1", "ap-northeast-1")
LATENCY_MS = 120
PATIENCE_S = 90  # a bound for what must happen, never a measure of how fast


def wait_until(holds: Callable[[], Any], what: str, pause_s: float = 0.1) -> Any:
    """The first true value of `holds()`; a database or Redis that is away counts as not yet."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if value := holds():
                return value
        except (OperationalError, psycopg.OperationalError, redis.RedisError):
            connection.close()
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S} s: {what}")
        time.sleep(pause_s)


@dataclass
class House:
    """The processes of one test: an emulator, and workers that are started and ended by the test."""

    folder: Path
    url: str
    emulator: subprocess.Popen[str]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def worker(self, *, concurrency: int = 3, **env: str) -> subprocess.Popen[bytes]:
        """A celery worker that takes every queue, ready to work."""
        name = f"worker-{len(self.workers) + 1}"
        process = self.celery(
            name,
            "worker",
            "--pool",
            "threads",
            "--concurrency",
            str(concurrency),
            "--without-gossip",
            "--without-mingle",
            "--queues",
            f"{QUEUE},{QUEUE}.bulk,maintenance",
            "--hostname",
            f"{name}@%h",
            **env,
        )
        self.workers.append(process)
        self._await_ready(name, process)
        return process

    def beat(self) -> None:
        """A celery beat with the schedule in the database."""
        scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
        self.others.append(
            self.celery(
                "beat", "beat", "--scheduler", scheduler, "--max-interval", "1", "--pidfile="
            )
        )

    def celery(self, name: str, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "celery", "--quiet", "-A", "myia", *arguments],
                cwd=django_settings.BASE_DIR,
                env={**os.environ, **self.environment(), **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def environment(self) -> dict[str, str]:
        database = django_settings.DATABASES["default"]
        address = django_settings.DATABASE_URL.rsplit("/", 1)[0]
        return {
            "DJANGO_SETTINGS_MODULE": "myia.settings",
            "DATABASE_URL": f"{address}/{database['NAME']}",
            "REDIS_URL": django_settings.REDIS_URL,
            "SECRET_KEY": django_settings.SECRET_KEY,
            "BEDROCK_BACKEND": "emulator",
            "BEDROCK_ENDPOINT_URL": self.url,
            "CERTIFICATION_QUEUE_NAME": QUEUE,
            "CERTIFICATION_HEARTBEAT_TIMEOUT": str(django_settings.CERTIFICATION_HEARTBEAT_TIMEOUT),
            "CERTIFICATION_RESEND_AFTER": str(django_settings.CERTIFICATION_RESEND_AFTER),
            "WORKER_HEALTH_PORT": "0",
            "LOG_FORMAT": "json",
        }

    def _await_ready(self, name: str, process: subprocess.Popen[bytes]) -> None:
        def answers() -> bool:
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()
            replies = current_app.control.inspect(timeout=0.3).ping() or {}
            return any(worker.startswith(f"{name}@") for worker in replies)

        wait_until(answers, f"{name} takes work")

    def restart_emulator(self, latency_ms: float | None = None) -> None:
        """Another emulator at the address of the one that ended."""
        port = int(self.url.rsplit(":", 1)[1])
        latency = LATENCY_MS if latency_ms is None else latency_ms
        self.url, self.emulator = emulator.start(
            scenario="healthy", fixed_latency_ms=latency, port=port
        )

    def trouble(self, scenario: str) -> None:
        """From now on the emulator follows this scenario (TOML)."""
        with urlopen(Request(f"{self.url}/_emulator/scenario", scenario.encode()), timeout=10):
            pass

    def calls_seen(self) -> int:
        """Runtime calls that the emulator answered since it started."""
        with urlopen(f"{self.url}/_emulator/stats", timeout=10) as answer:
            calls = json.loads(answer.read())["calls"]
        return sum(
            c["calls"]
            for c in calls
            if c["operation"] in ("Converse", "ConverseStream", "InvokeModel")
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of this event over all workers."""
        found = []
        for log in self.folder.glob("worker-*.log"):
            for line in log.read_text().splitlines():
                if line.startswith("{") and (event := json.loads(line)).get("event") == name:
                    found.append(event)
        return found

    def close(self) -> None:
        for process in (*self.workers, *self.others):
            if process.poll() is None:
                process.kill()
            process.wait()
        self.emulator.terminate()
        self.emulator.wait(15)


@pytest.fixture
def house(transactional_db: None, settings: Any, tmp_path: Path) -> Iterator[House]:
    """An emulator with some latency, no worker yet, and no job from an earlier test."""
    load_shipped()
    settings.CERTIFICATION_QUEUE_NAME = QUEUE
    settings.CERTIFICATION_HEARTBEAT_TIMEOUT = 5
    settings.CERTIFICATION_RESEND_AFTER = 1
    url, process = emulator.start(scenario="healthy", fixed_latency_ms=LATENCY_MS)
    settings.BEDROCK_ENDPOINT_URL = url
    redis.Redis.from_url(settings.REDIS_URL).flushall()
    ours = House(tmp_path, url, process)
    try:
        yield ours
    finally:
        ours.close()
        embedded.ensure(settings.MYIA_ROOT)
        connection.close()
        backend.name.cache_clear()


def start(
    models: tuple[str, ...] = MODELS, regions: tuple[str, ...] = REGIONS, **options: Any
) -> CertificationJob:
    """A quick job over models x regions."""
    found = dispatch.find_models(models), dispatch.find_regions(regions)
    return dispatch.certify(*found, CertifyOptions(tier="quick", **options)).job


def run_states(job: CertificationJob) -> Counter[str]:
    return Counter(job.runs.values_list("status", flat=True))


def in_the_middle(job: CertificationJob) -> bool:
    """Some runs are done, some at work."""
    states = run_states(job)
    return states[State.COMPLETED] >= 1 and states[State.PROCESSING] >= 2


def finish(job: CertificationJob) -> CertificationJob:
    """Reconcile every second, as beat does more rarely, until the job has ended."""

    def is_over() -> bool:
        reconcile.reconcile()
        job.refresh_from_db()
        return job.status not in ACTIVE

    wait_until(is_over, "the job ends", pause_s=1.0)
    return job


def assert_in_order(job: CertificationJob, house: House) -> None:
    """Each run ended once, nothing is lost or doubled, the job is closed with the right counts."""
    runs = list(job.runs.select_related("model"))
    assert not CertificationRun.objects.filter(status__in=ACTIVE).exists()
    assert job.completed_at is not None
    assert job.total_runs == len(runs)
    certified = sum(run.verdict == Status.CERTIFIED for run in runs)
    assert (job.succeeded_runs, job.failed_runs) == (certified, len(runs) - certified)
    assert round(float(job.cost_usd), 6) == pytest.approx(
        sum(float(run.cost_usd or 0) for run in runs), abs=1e-5
    )
    # Told once each; a worker killed between its commit and its log line leaves a run untold, never
    # one told twice.
    told = Counter(e["run"] for e in house.events("run_finished"))
    assert set(told.values()) <= {1}
    assert set(told) <= {
        str(run.pk) for run in runs if run.status == State.COMPLETED or run.verdict
    }
    for run in runs:
        assert run.completed_at is not None
        if run.status == State.COMPLETED:
            _assert_whole(run)
    _assert_certifications(runs)


def _assert_whole(run: CertificationRun) -> None:
    """A completed run has one result for each case, with trials, and its calls add up."""
    expected = {case.id for case in registry.cases(run.model.kind, run.tier)}
    results = list(TestResult.objects.filter(run=run))
    assert Counter(r.case_id for r in results) == dict.fromkeys(expected, 1)
    trials = sum(len(trial["calls"]) for result in results for trial in result.trials)
    assert trials == run.calls


def _assert_certifications(runs: list[CertificationRun]) -> None:
    """Every pair says what its newest run with a verdict says, and nothing is said where none was
    reached.
    """
    for run in runs:
        newest = (
            CertificationRun.objects.filter(
                model=run.model, region=run.region, status=State.COMPLETED
            )
            .order_by("-completed_at")
            .first()
        )
        standing = ModelCertification.objects.filter(model=run.model, region=run.region).first()
        if newest is None:
            assert standing is None or standing.status == Status.PENDING
            continue
        assert standing is not None
        assert (standing.run_id, standing.status, standing.score) == (
            newest.pk,
            newest.verdict,
            newest.score,
        )
        verdicts = CertificationRun.objects.filter(
            model=run.model, region=run.region, status=State.COMPLETED
        )
        assert standing.completed_attempts == verdicts.count()


def test_a_worker_killed_mid_run_loses_nothing(house: House) -> None:
    first = house.worker()
    job = start()
    wait_until(lambda: in_the_middle(job), "runs are at work")
    first.kill()
    first.wait()
    orphans = set(job.runs.filter(status=State.PROCESSING).values_list("pk", flat=True))
    assert orphans
    house.worker()
    finish(job)
    assert job.status == State.COMPLETED
    assert_in_order(job, house)
    again = job.runs.filter(pk__in=orphans)
    assert set(again.values_list("status", "attempt")) == {(State.COMPLETED, 2)}


def test_workers_that_die_again_and_again_give_a_run_up_with_the_reason(
    house: House, settings: Any
) -> None:
    settings.CERTIFICATION_MAX_RETRIES = 0
    worker = house.worker()
    job = start(MODELS[:1], REGIONS[:2])
    wait_until(lambda: run_states(job)[State.PROCESSING] == 2, "both runs are at work")
    worker.kill()
    worker.wait()
    finish(job)
    assert job.status == State.FAILED
    assert set(job.runs.values_list("status", "verdict")) == {(State.FAILED, "")}
    assert all("died" in message for message in job.runs.values_list("error_message", flat=True))
    assert not ModelCertification.objects.exists()
    assert_in_order(job, house)


def test_flushing_all_of_redis_mid_job_loses_nothing(house: House) -> None:
    house.worker()
    job = start()
    wait_until(lambda: in_the_middle(job), "runs are at work")
    redis.Redis.from_url(django_settings.REDIS_URL).flushall()
    finish(job)
    assert job.status == State.COMPLETED
    assert_in_order(job, house)
    assert set(job.runs.values_list("attempt", flat=True)) == {1}


def test_restarting_both_servers_mid_job_loses_nothing(house: House) -> None:
    house.worker()
    job = start()
    for stop in (stop_redis, stop_postgres):
        wait_until(lambda: run_states(job)[State.PROCESSING] >= 2, "runs are at work")
        stop()
        # long enough for calls, heartbeats and results to meet a server that is away
        time.sleep(1.5)
        embedded.ensure(django_settings.MYIA_ROOT)
    finish(job)
    assert job.status == State.COMPLETED
    assert_in_order(job, house)


def stop_redis() -> None:
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    client.shutdown()
    client.close()


def stop_postgres() -> None:
    """Killed, not asked: every connection breaks in whatever it was doing."""
    [postgres] = [s for s in embedded.status(django_settings.MYIA_ROOT) if s.name == "postgres"]
    assert postgres.pid
    os.kill(postgres.pid, signal.SIGQUIT)
    wait_until(
        lambda: not embedded.running(django_settings.MYIA_ROOT, redis=False), "PostgreSQL is away"
    )


def test_a_message_delivered_three_times_is_worked_on_once(house: House) -> None:
    job = start(MODELS[:2])
    ids = list(job.runs.values_list("pk", flat=True))
    for _ in range(2):
        queue.publish(ids, job.priority)
    assert queue.queued_messages(job.priority) == 3 * len(ids)
    house.worker(concurrency=6)
    finish(job)
    wait_until(lambda: queue.queued_messages(job.priority) == 0, "every message was taken")
    assert job.status == State.COMPLETED
    assert_in_order(job, house)
    assert set(job.runs.values_list("attempt", flat=True)) == {1}
    assert house.calls_seen() == sum(job.runs.values_list("calls", flat=True))


def test_cancelling_a_running_job_stops_its_runs_and_writes_nothing_more(house: House) -> None:
    worker = house.worker()
    job = start()
    wait_until(lambda: in_the_middle(job), "runs are at work")
    house.trouble("[[rule]]\nslow = 8.0")  # what is at work now would go on for long
    wait_until(lambda: run_states(job)[State.PROCESSING] == 3, "runs are at work")
    cancelled = job.cancel()
    assert cancelled
    job.refresh_from_db()
    done = list(job.runs.filter(status=State.COMPLETED))
    wait_until(lambda: len(house.events("run_lost")) >= 2, "the worker lets go of its runs")
    worker.terminate()
    worker.wait(30)
    job.refresh_from_db()
    assert job.status == State.CANCELLED
    assert (job.succeeded_runs, job.failed_runs) == (len(done), cancelled)
    assert run_states(job) == {State.COMPLETED: len(done), State.CANCELLED: cancelled}
    assert not TestResult.objects.filter(run__status=State.CANCELLED).exists()
    assert ModelCertification.objects.count() == len(done)
    assert_in_order(job, house)


def test_a_worker_told_to_end_hands_its_runs_back_and_another_finishes_them(house: House) -> None:
    house.emulator.terminate()
    house.emulator.wait(15)
    # so slow that no run can end by itself before the signal is heard
    house.restart_emulator(latency_ms=1000)
    first = house.worker()
    job = start()
    wait_until(lambda: run_states(job)[State.PROCESSING] >= 2, "runs are at work")
    first.terminate()
    assert first.wait(60) == 0
    assert run_states(job)[State.PROCESSING] == 0
    assert house.events("run_released")
    house.emulator.terminate()
    house.emulator.wait(15)
    house.restart_emulator()
    house.worker()
    finish(job)
    assert job.status == State.COMPLETED
    assert_in_order(job, house)
    # handing back is no failed attempt
    assert set(job.runs.values_list("attempt", flat=True)) == {1}


def test_an_emulator_that_ends_mid_run_says_nothing_about_any_model(house: House) -> None:
    house.worker(concurrency=8)
    job = start()
    wait_until(lambda: in_the_middle(job), "runs are at work")
    house.emulator.terminate()
    house.emulator.wait(15)
    finish(job)
    house.restart_emulator()
    failed = job.runs.filter(status=State.FAILED)
    assert failed
    assert set(failed.values_list("verdict", "error_category")) == {
        (Status.PENDING, ErrorCategory.NETWORK_ERROR)
    }
    assert set(ModelCertification.objects.values_list("status", flat=True)) == {Status.CERTIFIED}
    assert_in_order(job, house)
    again = finish(dispatch.retry(job).job)
    assert again.total_runs == again.succeeded_runs == failed.count()


def test_reconciliations_side_by_side_send_a_lost_message_once(house: House) -> None:
    job = start(MODELS[:1])
    redis.Redis.from_url(django_settings.REDIS_URL).flushall()
    time.sleep(django_settings.CERTIFICATION_RESEND_AFTER + 0.2)
    together = threading.Barrier(4)

    def one() -> Reconciled:
        together.wait()
        try:
            return reconcile.reconcile()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        done = [future.result() for future in [pool.submit(one) for _ in range(4)]]
    assert sum(r.resent for r in done) == job.total_runs == queue.queued_messages(job.priority)
    assert reconcile.reconcile().resent == 0
    house.worker()
    finish(job)
    assert_in_order(job, house)


def test_beat_finishes_what_nobody_else_looks_after(house: House) -> None:
    """No `reconcile` is called here: a worker dies, Redis forgets everything, and a beat and a
    worker put it right.
    """
    first = house.worker()
    job = start(MODELS[:1])
    wait_until(lambda: run_states(job)[State.PROCESSING], "runs are at work")
    first.kill()
    first.wait()
    redis.Redis.from_url(django_settings.REDIS_URL).flushall()
    every_second, _ = IntervalSchedule.objects.get_or_create(
        every=1, period=IntervalSchedule.SECONDS
    )
    PeriodicTask.objects.create(
        name="reconcile often", task="certification.tasks.reconcile", interval=every_second
    )
    house.worker()
    house.beat()
    try:
        wait_until(
            lambda: not job.runs.filter(status__in=ACTIVE).exists(), "beat has the job finished"
        )
    finally:
        PeriodicTask.objects.all().delete()
    job.refresh_from_db()
    assert job.status == State.COMPLETED
    assert_in_order(job, house)
