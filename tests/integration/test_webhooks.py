"""Webhooks: told once with the change, signed, sent again until taken, never to addresses that are
not public.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from certification import tasks
from certification.engine import backend, parity, queue, runner, webhooks
from certification.engine.worker import get_worker
from certification.inference import Failure
from certification.lib import clock, safe_http, task_signal, url_safety
from certification.models import (
    AIModel,
    CertificationJob,
    DeliveryStatus,
    ModelCertification,
    QueuePause,
    State,
    User,
    WebhookDelivery,
    WebhookEvent,
    WebhookSubscription,
)
from certification.models import webhooks as outbox
from certification.monitoring.alert_rules import RULES
from certification.monitoring.alerts import run_round
from certification.reasons import Reason, Status
from certification.suite.parity import Parity
from tests.factories import certify, finish, start_job

committed = pytest.mark.django_db(transaction=True)


@dataclass
class ReceivedRequest:
    """One request that a receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """A real server on 127.0.0.1. `answers` are (status, headers, body) in turn, 200 after the
    last; `hold` delays them.
    """

    scheme: str = "http"
    requests: list[ReceivedRequest] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    hold: threading.Event | None = None
    server: Any = None

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook?key=in-the-url"

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.requests.append(
            ReceivedRequest(handler.path, {k.lower(): v for k, v in handler.headers.items()}, body)
        )
        if self.hold:
            self.hold.wait(20)
        status, headers, text = self.answers.pop(0) if self.answers else (200, {}, b"thanks")
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(text)


@pytest.fixture
def receivers() -> Iterator[Callable[..., Receiver]]:
    running: list[Receiver] = []

    def start(tls: ssl.SSLContext | None = None) -> Receiver:
        receiver = Receiver("https" if tls else "http")

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.take(self)

            def log_message(self, *_args: object) -> None: ...

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_args: object) -> None:
                """A caller that hangs up is no news."""

        receiver.server = Server(("127.0.0.1", 0), Handler)
        if tls:
            receiver.server.socket = tls.wrap_socket(receiver.server.socket, server_side=True)
        threading.Thread(target=receiver.server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(receiver)
        return receiver

    yield start
    for receiver in running:
        if receiver.hold:
            receiver.hold.set()
        receiver.server.shutdown()
        receiver.server.server_close()


@pytest.fixture
def receiver(receivers: Callable[..., Receiver]) -> Receiver:
    return receivers()


@pytest.fixture(autouse=True)
def at_home(settings: Any) -> None:
    """These receivers are on this machine and speak plain HTTP, which has to be allowed."""
    settings.WEBHOOK_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    settings.WEBHOOK_ALLOW_HTTP = True
    outbox.clear_no_subscribers_cache()


@pytest.fixture
def model(catalogue: None) -> AIModel:
    return AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")


def subscribe(url: str, *events: str) -> WebhookSubscription:
    return WebhookSubscription.objects.create(url=url, events=list(events or WebhookEvent.values))


def the_only(**expected: Any) -> WebhookDelivery:
    return WebhookDelivery.objects.get(**expected)


def later(monkeypatch: pytest.MonkeyPatch, **by: float) -> datetime:
    """Move the clock that the rows are read and written by."""
    moment = timezone.now() + timedelta(**by)
    monkeypatch.setattr(timezone, "now", lambda: moment)
    monkeypatch.setattr(clock, "now", lambda: moment)
    return moment


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.django_db
class TestEvents:
    def test_a_changed_certification_in_the_words_of_the_api(
        self, receiver: Receiver, model: AIModel
    ) -> None:
        subscribe(receiver.url, WebhookEvent.CERTIFICATION_CHANGED)
        run = certify(
            model,
            "us-east-1",
            Status.FAILED,
            reason=Reason.GATE_FAILED,
            message="It says no.",
            score=12,
        )
        assert webhooks.deliver() == 1
        message = receiver.requests[0].json
        assert set(message) == {"id", "event", "createdAt", "data"}
        assert (message["event"], message["data"]["cause"]) == ("certification.changed", "run")
        published = message["data"]["certification"]
        assert published["modelId"] == "amazon.nova-lite-v1:0"
        assert (published["region"], published["status"], published["previousStatus"]) == (
            "us-east-1",
            "failed",
            "not_tested",
        )
        assert (published["passed"], published["score"], published["errorMessage"]) == (
            False,
            12,
            "It says no.",
        )
        assert (published["runId"], published["jobId"]) == (str(run.pk), str(run.job_id))
        assert published["lastTestedAt"].endswith("Z")

    def test_a_standing_that_stays_is_not_told(self, receiver: Receiver, model: AIModel) -> None:
        certify(model, "us-east-1")
        subscribe(receiver.url, WebhookEvent.CERTIFICATION_CHANGED)
        certify(model, "us-east-1")
        assert not WebhookDelivery.objects.exists()

    def test_an_expired_certification(
        self, receiver: Receiver, model: AIModel, monkeypatch: Any
    ) -> None:
        certify(model, "us-east-1")
        subscribe(receiver.url, WebhookEvent.CERTIFICATION_CHANGED)
        later(monkeypatch, days=31)
        assert ModelCertification.objects.expire() == 1
        data = the_only().payload["data"]
        published = data["certification"]
        assert (data["cause"], published["status"], published["previousStatus"]) == (
            "expired",
            "not_tested",
            "certified",
        )
        assert ModelCertification.objects.expire() == 0

    def test_a_certification_that_was_judged_again(
        self, receiver: Receiver, model: AIModel
    ) -> None:
        run = certify(model, "us-east-1")
        subscribe(receiver.url, WebhookEvent.CERTIFICATION_CHANGED)
        assert ModelCertification.rejudge(run, Status.CERTIFIED, 90, "A")
        assert not WebhookDelivery.objects.exists()
        assert ModelCertification.rejudge(run, Status.QUALITY_WARNING, 70, "C")
        assert the_only().payload["data"]["cause"] == "rejudged"

    def test_a_job_with_its_last_run_only(self, receiver: Receiver, model: AIModel) -> None:
        subscribe(receiver.url, WebhookEvent.JOB_COMPLETED)
        job = start_job([model], ["us-east-1", "us-west-2"])
        first, second = job.runs.all()
        finish(first, Status.CERTIFIED)
        assert not WebhookDelivery.objects.exists()
        finish(second, "", reason=Reason.READ_TIMEOUT)
        published = the_only().payload["data"]["job"]
        assert (published["id"], published["status"], published["progress"]) == (
            str(job.pk),
            "COMPLETED",
            100,
        )
        assert (published["totalModels"], published["successCount"], published["failureCount"]) == (
            2,
            1,
            1,
        )

    def test_a_cancelled_job_once(self, receiver: Receiver, model: AIModel) -> None:
        subscribe(receiver.url, WebhookEvent.JOB_COMPLETED)
        job = start_job([model], ["us-east-1"])
        job.cancel()
        job.cancel()
        assert the_only().payload["data"]["job"]["status"] == State.CANCELLED

    def test_a_job_whose_run_was_given_up(self, receiver: Receiver, model: AIModel) -> None:
        subscribe(receiver.url, WebhookEvent.JOB_COMPLETED)
        start_job([model], ["us-east-1"]).runs.get().mark_failed(Reason.UNKNOWN, "It died.")
        assert the_only().payload["data"]["job"]["status"] == State.FAILED

    def test_a_queue_paused_by_credentials_is_one_alert(self, receiver: Receiver) -> None:
        subscribe(receiver.url, WebhookEvent.ALERT_RAISED)
        refused = Failure(Reason.CREDENTIALS_EXPIRED, "The token has expired.")
        assert QueuePause.begin(backend.name(), refused)
        assert not QueuePause.begin(backend.name(), refused)
        names = ("credentials_invalid", "queue_paused")
        for _ in range(2):
            run_round([rule for rule in RULES if rule.name in names])
        alert = the_only().payload["data"]["alert"]
        assert (alert["name"], alert["severity"]) == ("credentials_invalid", "critical")
        assert alert["subject"]["command"] == "aws sts get-caller-identity"

    def test_lost_parity_is_one_alert_however_often_it_is_compared(
        self, receiver: Receiver, model: AIModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = start_job([model], ["us-east-1"])
        CertificationJob.objects.filter(pk=job.pk).update(tier="full")
        job.refresh_from_db()
        lost = Parity(
            model=model.api_model_id,
            region="us-east-1",
            reference="us-west-2",
            compared=9,
            flips=(),
            gains=(),
            p_value=0.001,
            adjusted=0.001,
            losses=frozenset({"tools"}),
            sentence="us-east-1 lost tools.",
        )
        monkeypatch.setattr(parity, "comparable_cells", lambda _job: iter([]))
        monkeypatch.setattr(parity.parity, "adjust", lambda _pairs: (lost,))
        monkeypatch.setattr(parity, "judge_again", lambda *_args: None)
        subscribe(receiver.url, WebhookEvent.ALERT_RAISED)
        parity.compare(job)
        parity.compare(job)
        alert = the_only().payload["data"]["alert"]
        assert (alert["name"], alert["message"]) == ("parity_lost", "us-east-1 lost tools.")

    def test_only_what_was_subscribed_to(
        self, receivers: Callable[..., Receiver], model: AIModel
    ) -> None:
        changes, jobs, off = receivers(), receivers(), receivers()
        subscribe(changes.url, WebhookEvent.CERTIFICATION_CHANGED)
        subscribe(jobs.url, WebhookEvent.JOB_COMPLETED)
        subscribe(off.url).switch_off("Enough.")
        certify(model, "us-east-1")
        while webhooks.deliver():
            pass
        assert [a.headers["x-myia-event"] for a in changes.requests] == ["certification.changed"]
        assert [a.headers["x-myia-event"] for a in jobs.requests] == ["job.completed"]
        assert off.requests == []

    @committed
    def test_a_real_run_tells_of_its_certification_and_its_job(
        self, receiver: Receiver, model: AIModel, emulator: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queue, "publish_job", lambda _job: True)
        subscribe(receiver.url)
        run = start_job([model], ["us-east-1"]).runs.get()
        assert runner.run(run.pk, get_worker())
        assert webhooks.deliver() == 2
        published = {request.json["event"]: request.json["data"] for request in receiver.requests}
        assert published["certification.changed"]["certification"]["status"] == "certified"
        assert published["job.completed"]["job"]["successCount"] == 1

    def test_what_is_rolled_back_is_not_told(self, receiver: Receiver, model: AIModel) -> None:
        subscribe(receiver.url)
        with transaction.atomic():
            certify(model, "us-east-1")
            assert WebhookDelivery.objects.count() == 2
            transaction.set_rollback(True)
        assert not WebhookDelivery.objects.exists()
        assert webhooks.deliver() == 0

    def test_nobody_listening_costs_a_query_a_second_at_most(
        self, model: AIModel, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
    ) -> None:
        monkeypatch.setattr(outbox, "NO_SUBSCRIBERS_TTL_S", 3600)  # this machine may be slow
        job = start_job([model], ["us-east-1"])
        with django_assert_num_queries(1):
            job.enqueue_completed_event()
        with django_assert_num_queries(0):
            job.enqueue_completed_event()
        subscribe("https://hooks.example/x")
        job.enqueue_completed_event()
        assert WebhookDelivery.objects.count() == 1

    @committed
    def test_a_subscription_that_is_deleted_meanwhile_does_not_cost_the_run(
        self, model: AIModel
    ) -> None:
        """Deletion waits for the transaction that is writing a delivery, and takes the delivery
        along.
        """
        one = subscribe("https://hooks.example/x")
        thread = threading.Thread(target=lambda: (one.delete(), connection.close()))
        with transaction.atomic():
            certify(model, "us-east-1")
            thread.start()
            thread.join(0.3)
            assert thread.is_alive()
        thread.join(10)
        assert ModelCertification.objects.get().status == Status.CERTIFIED
        assert not WebhookSubscription.objects.exists()
        assert not WebhookDelivery.objects.exists()


@pytest.mark.django_db
class TestSending:
    def test_it_is_delivered_once_with_a_signature_that_the_receiver_can_check(
        self, receiver: Receiver
    ) -> None:
        subscription = subscribe(receiver.url)
        delivery = subscription.send_test()
        assert webhooks.deliver() == 1
        assert webhooks.deliver() == 0
        [request] = receiver.requests
        assert request.path == "/hook?key=in-the-url"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["x-myia-event"] == "webhook.test"
        assert request.headers["x-myia-delivery"] == str(delivery.pk)
        timestamp = request.headers["x-myia-timestamp"]
        assert abs(int(timestamp) - time.time()) < 60
        signed = hmac.new(
            subscription.secret.encode(), timestamp.encode() + b"." + request.body, hashlib.sha256
        )
        assert request.headers["x-myia-signature"] == f"v1={signed.hexdigest()}"
        row = the_only()
        assert (row.status, row.attempts, row.response_status, row.response_body) == (
            "delivered",
            1,
            200,
            "thanks",
        )
        subscription.refresh_from_db()
        assert subscription.last_success_at
        assert subscription.busy_until is None

    @pytest.mark.parametrize("status", [302, 400, 410, 429, 500])
    def test_anything_but_a_success_is_tried_again(
        self, receiver: Receiver, status: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receiver.answers = [(status, {}, b"no")]
        subscribe(receiver.url).send_test()
        assert webhooks.deliver() == 1
        row = the_only()
        assert (row.status, row.response_status, row.response_body) == ("pending", status, "no")
        assert str(status) in row.error
        assert webhooks.deliver() == 0
        later(monkeypatch, seconds=11)
        assert webhooks.deliver() == 1
        assert (the_only().status, the_only().attempts) == ("delivered", 2)
        first, second = receiver.requests
        assert first.body == second.body
        assert first.headers["x-myia-delivery"] == second.headers["x-myia-delivery"]

    def test_a_receiver_that_is_not_there_is_tried_again(self) -> None:
        subscribe(f"http://127.0.0.1:{closed_port()}/").send_test()
        webhooks.deliver()
        assert (the_only().status, the_only().error) == (
            "pending",
            "The connection failed: Connection refused.",
        )

    def test_a_receiver_that_keeps_silent_is_cut_off(
        self, receiver: Receiver, settings: Any
    ) -> None:
        settings.WEBHOOK_TIMEOUT = 1
        receiver.hold = threading.Event()
        subscribe(receiver.url).send_test()
        webhooks.deliver()
        assert (the_only().status, the_only().error) == (
            "pending",
            "The receiver did not answer within 1 s.",
        )

    @pytest.mark.parametrize(
        ("scheme", "first", "then"),
        [("http", b"HTTP/1.1 200 OK\r\n", b"X"), ("https", b"\x16\x03\x03\x40\x00", b"\x00")],
        ids=["in its headers", "in the TLS handshake"],
    )
    def test_a_receiver_that_drips_is_cut_off(
        self, settings: Any, scheme: str, first: bytes, then: bytes
    ) -> None:
        settings.WEBHOOK_TIMEOUT = 1
        stop = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as server:

            def drip() -> None:
                client, _address = server.accept()
                with client, contextlib.suppress(OSError):
                    client.sendall(first)
                    while not stop.wait(0.05):
                        client.sendall(then)

            thread = threading.Thread(target=drip)
            thread.start()
            with pytest.raises(safe_http.ReceiverUnreachable, match=r"did not answer within 1 s\."):
                safe_http.post(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/", b"{}", {})
            stop.set()
            thread.join()

    @pytest.mark.parametrize("sent", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 999999 x\r\n\r\n"])
    def test_what_does_not_speak_http_is_told_in_a_sentence(self, sent: bytes) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                client, _address = server.accept()
                with client:
                    client.recv(65_536)
                    client.sendall(sent)

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(safe_http.ReceiverUnreachable) as caught:
                safe_http.post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {})
            thread.join()
        assert str(caught.value).endswith(".")

    def test_it_is_given_up_after_the_last_attempt(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receiver.answers = [(500, {}, b"")] * 20
        subscribe(receiver.url).send_test()
        waits = []
        for _attempt in range(7):
            assert webhooks.deliver() == 1
            row = the_only()
            if row.next_attempt_at:
                waits.append(round((row.next_attempt_at - timezone.now()).total_seconds()))
                later(monkeypatch, seconds=waits[-1] + 61)
        assert waits == [10, 60, 300, 1800, 7200, 21600]
        assert (the_only().status, the_only().attempts) == ("given_up", 7)

    def test_a_huge_answer_is_neither_read_nor_kept(self, receiver: Receiver) -> None:
        receiver.answers = [(200, {}, b"x" * 5_000_000)]
        subscribe(receiver.url).send_test()
        webhooks.deliver()
        assert the_only().status == "delivered"
        assert len(the_only().response_body) == safe_http.MAX_BODY

    def test_an_answer_s_control_characters_are_replaced(self, receiver: Receiver) -> None:
        receiver.answers = [(500, {}, b"a\x00b\x1b[31m\xff")]
        subscribe(receiver.url).send_test()
        webhooks.deliver()
        assert the_only().response_body == "a\ufffdb\ufffd[31m\ufffd"

    @committed
    def test_two_workers_do_not_send_twice(self, receiver: Receiver) -> None:
        subscription = subscribe(receiver.url)
        sent = {str(subscription.send_test().pk) for _ in range(10)}
        together = threading.Barrier(4)

        def work() -> None:
            together.wait()
            webhooks.deliver()
            connection.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(a.headers["x-myia-delivery"] for a in receiver.requests) == sorted(sent)

    def test_a_delivery_is_claimed_once(self, receiver: Receiver) -> None:
        delivery = subscribe(receiver.url).send_test()
        same = the_only()
        assert delivery.claim(timedelta(seconds=60))
        assert not same.claim(timedelta(seconds=60))
        assert not the_only().claim(timedelta(seconds=60))

    def test_what_a_dead_worker_was_sending_is_sent_again(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        delivery = subscribe(receiver.url).send_test()
        assert WebhookSubscription.objects.claim_next_due(timedelta(minutes=2))
        assert delivery.claim(timedelta(seconds=60))
        assert webhooks.deliver() == 0
        later(monkeypatch, minutes=3)
        assert webhooks.deliver() == 1
        assert not delivery.mark_failed(outbox.AttemptResult(1, "Too late: the lease is over."))
        assert the_only().status == DeliveryStatus.DELIVERED

    def test_a_message_that_breaks_its_worker_is_given_up_in_the_end(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        subscribe(receiver.url).send_test()
        WebhookDelivery.objects.update(attempts=7)
        assert webhooks.deliver() == 0
        assert (the_only().status, the_only().error) == (
            "given_up",
            "Every attempt was interrupted.",
        )

    def test_the_task_survives_a_defect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> int:
            raise RuntimeError

        monkeypatch.setattr(webhooks, "deliver", broken)
        tasks.deliver_webhooks()

    @committed
    def test_it_is_announced_on_commit(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        messages: list[str] = []
        monkeypatch.setattr(
            task_signal.current_app, "send_task", lambda name, **_: messages.append(name)
        )
        task_signal.begin(outbox.DELIVER)
        with transaction.atomic():
            subscribe(receiver.url).send_test()
            assert messages == []
        assert messages == ["certification.tasks.deliver_webhooks"]
        WebhookSubscription.objects.get().send_test()
        assert len(messages) == 1  # the first has not been taken yet
        webhooks.deliver()
        WebhookSubscription.objects.get().send_test()
        assert len(messages) == 2
        assert messages[0] in task_signal.current_app.tasks

    @committed
    def test_a_broker_that_is_away_costs_nothing(self, receiver: Receiver, settings: Any) -> None:
        settings.REDIS_URL = f"redis://127.0.0.1:{closed_port()}/0"
        subscribe(receiver.url).send_test()
        assert webhooks.deliver() == 1  # beat's next round

    def test_only_some_threads_wait_for_receivers(self, receiver: Receiver) -> None:
        subscribe(receiver.url).send_test()
        for _ in range(webhooks.SLOTS):
            assert webhooks._slots.acquire(blocking=False)
        try:
            assert webhooks.deliver() == 0
        finally:
            webhooks._slots.release(webhooks.SLOTS)
        assert webhooks.deliver() == 1

    def test_a_struggling_receiver_is_tried_once_a_minute_not_once_per_message(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receiver.answers = [(500, {}, b"")] * 50
        subscription = subscribe(receiver.url)
        for _ in range(20):
            subscription.send_test()
        assert webhooks.deliver() == outbox.BACKOFF_AFTER_FAILURES
        later(monkeypatch, seconds=61)
        assert webhooks.deliver() == 1
        receiver.answers = []
        later(monkeypatch, seconds=61)
        assert webhooks.deliver() >= 14

    def test_a_subscription_that_fails_for_days_is_switched_off(
        self, receivers: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad, good = receivers(), receivers()
        bad.answers = [(500, {}, b"")] * 50
        subscription, other = subscribe(bad.url), subscribe(good.url, WebhookEvent.ALERT_RAISED)
        for _ in range(12):
            subscription.send_test()
            webhooks.deliver()
            later(monkeypatch, hours=5)
        subscription.refresh_from_db()
        assert subscription.is_active
        later(monkeypatch, days=1)
        webhooks.deliver()
        subscription.refresh_from_db()
        assert not subscription.is_active
        assert subscription.disabled_reason == "No message was accepted for 3 days."
        assert not subscription.deliveries.filter(status="pending").exists()
        alert = the_only(subscription=other).payload["data"]["alert"]
        assert alert["name"] == "webhook_switched_off"
        assert "in-the-url" not in json.dumps(alert)
        assert subscription.switch_on()
        assert not subscription.switch_on()
        subscription.refresh_from_db()
        assert (subscription.consecutive_failures, subscription.disabled_reason) == (0, "")

    def test_one_success_ends_the_count(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receiver.answers = [(500, {}, b"")]
        subscription = subscribe(receiver.url)
        subscription.send_test()
        webhooks.deliver()
        subscription.refresh_from_db()
        assert subscription.consecutive_failures == 1
        later(monkeypatch, seconds=11)
        webhooks.deliver()
        subscription.refresh_from_db()
        assert (subscription.consecutive_failures, subscription.failing_since) == (0, None)

    def test_neither_secrets_nor_bodies_nor_addresses_are_logged(
        self, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        receiver.answers = [(500, {"X-Broken": "a\r\n\x00junk"}, b"body-of-the-answer")]
        subscription = subscribe(receiver.url)
        subscription.send_test()
        webhooks.deliver()
        subscription.rotate_secret()
        assert "webhook_failed" in caplog.text
        for secret in (
            subscription.secret,
            "whsec_",
            subscription.secret_salt,
            "in-the-url",
            "body-of",
            "test of your",
        ):
            assert secret not in caplog.text

    def test_cleanup_drops_old_deliveries(
        self,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def dropped(*options: str) -> int:
            capsys.readouterr()
            call_command("cleanup", "webhook_deliveries", "--json", *options)
            [row] = json.loads(capsys.readouterr().out)["deleted"]
            return int(row["number"])

        subscription = subscribe(receiver.url)
        subscription.send_test()
        webhooks.deliver()
        assert dropped() == 0
        later(monkeypatch, days=31)
        waiting = subscription.send_test()
        assert (dropped("--dry-run"), dropped(), dropped()) == (1, 1, 0)
        assert the_only().pk == waiting.pk


@pytest.mark.django_db
class TestSecrets:
    def test_a_secret_is_not_in_the_database(self, receiver: Receiver) -> None:
        subscription = subscribe(receiver.url)
        secret = subscription.secret
        assert secret.startswith("whsec_")
        assert len(secret) > 40
        with connection.cursor() as cursor:
            cursor.execute("SELECT row_to_json(w)::text FROM certification_webhooksubscription w")
            assert secret.removeprefix("whsec_") not in cursor.fetchone()[0]
        assert WebhookSubscription.objects.get().secret == secret

    def test_each_subscription_has_its_own(self, receiver: Receiver) -> None:
        assert subscribe(receiver.url).secret != subscribe(receiver.url).secret

    def test_a_new_one_signs_the_next_attempt(self, receiver: Receiver) -> None:
        subscription = subscribe(receiver.url)
        old = subscription.secret
        subscription.send_test()
        new = subscription.rotate_secret()
        assert new != old
        webhooks.deliver()
        [request] = receiver.requests
        timestamp = int(request.headers["x-myia-timestamp"])
        assert request.headers["x-myia-signature"] == webhooks.sign(request.body, new, timestamp)

    def test_it_survives_a_change_of_secret_key_with_the_old_one_as_fallback(
        self, receiver: Receiver, settings: Any
    ) -> None:
        subscription = subscribe(receiver.url)
        secret = subscription.secret
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = (
            "another-key" * 5,
            [settings.SECRET_KEY],
        )
        assert WebhookSubscription.objects.get().secret == secret

    def test_without_it_the_delivery_says_what_to_do(
        self, receiver: Receiver, settings: Any
    ) -> None:
        subscribe(receiver.url).send_test()
        settings.SECRET_KEY = "another-key" * 5
        webhooks.deliver()
        assert "Generate a new secret" in the_only().error
        assert receiver.requests == []


class TestTheGuide:
    """The code that docs/webhooks.md gives receivers works."""

    BODY = '{"id":"ç"}'.encode()

    def code(self, language: str) -> str:
        guide = (Path(django_settings.BASE_DIR) / "docs" / "webhooks.md").read_text()
        return guide.split(f"```{language}\n")[1].split("```")[0]

    def headers(self, timestamp: int) -> dict[str, str]:
        return {
            "X-MyIA-Timestamp": str(timestamp),
            "X-MyIA-Signature": webhooks.sign(self.BODY, "whsec_x", timestamp),
        }

    def test_in_python(self) -> None:
        scope: dict[str, Any] = {}
        exec(self.code("python"), scope)
        now = int(time.time())
        assert scope["is_genuine"]("whsec_x", self.headers(now), self.BODY)
        assert not scope["is_genuine"]("whsec_y", self.headers(now), self.BODY)
        assert not scope["is_genuine"]("whsec_x", self.headers(now), self.BODY + b" ")
        assert not scope["is_genuine"]("whsec_x", self.headers(now - 301), self.BODY)

    def test_in_javascript(self) -> None:
        if not shutil.which("node"):
            pytest.skip("node is not installed")
        now = int(time.time())
        lower = {name.lower(): value for name, value in self.headers(now).items()}
        old = {name.lower(): value for name, value in self.headers(now - 301).items()}
        script = (
            self.code("javascript")
            + f"""
            const body = Buffer.from({json.dumps(self.BODY.decode())});
            console.log(isGenuine("whsec_x", {json.dumps(lower)}, body),
                        isGenuine("whsec_y", {json.dumps(lower)}, body),
                        isGenuine("whsec_x", {json.dumps(old)}, body));
        """
        )
        output = subprocess.run(
            ["node", "-e", script], check=True, capture_output=True, text=True, timeout=60
        )
        assert output.stdout.split() == ["true", "false", "false"]

    @pytest.mark.django_db
    def test_its_examples_have_the_fields_that_are_sent(self, model: AIModel) -> None:
        subscribe("https://hooks.example/x")
        certify(model, "us-east-1")
        outbox.raise_alert("x", "info", "X.", subject={"a": 1})
        guide = (Path(django_settings.BASE_DIR) / "docs" / "webhooks.md").read_text()
        examples = [json.loads(part.split("```")[0]) for part in guide.split("```json\n")[1:]]
        for example in examples:
            sent = the_only(event=example["event"]).payload
            assert sent.keys() == example.keys()
            assert sent["data"].keys() == example["data"].keys()
            for name, value in example["data"].items():
                if isinstance(value, dict):
                    assert sent["data"][name].keys() == value.keys()
        assert {example["event"] for example in examples} == set(WebhookEvent.values)


FORBIDDEN = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "192.88.99.1", "198.18.0.1", "192.0.2.1", "203.0.113.9", "224.0.0.1", "239.1.1.1",
    "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "::ffff:0:7f00:1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1",
    "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "5f00::1",
]  # fmt: skip


class TestWhichAddresses:
    @pytest.mark.parametrize("address", FORBIDDEN)
    def test_what_is_not_public_is_refused(self, address: str) -> None:
        assert not url_safety.is_permitted(address)

    @pytest.mark.parametrize(
        "address", ["8.8.8.8", "52.94.236.248", "2600:1f18::1", "2a00:1450:4001::200e"]
    )
    def test_what_is_public_is_permitted(self, address: str) -> None:
        assert url_safety.is_permitted(address)

    def test_a_network_of_one_s_own_is_permitted_and_no_other(self) -> None:
        assert url_safety.is_permitted("10.1.2.3", ["10.1.0.0/16"])
        assert url_safety.is_permitted("fd00::5", ["10.1.0.0/16", "fd00::/64"])
        assert not url_safety.is_permitted("10.2.2.3", ["10.1.0.0/16"])
        assert not url_safety.is_permitted("::ffff:10.1.2.3", ["10.1.0.0/16"])

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://example.com/",
            "file:///etc/passwd",
            "example.com/hook",
            "https://",
            "https:///x",
            "",
            "http://[::1",
            "https://user:pass@example.com/",
            "https://example.com/#part",
            "https://exämple.com/",
            "https://a b.com/",
            "https://example.com/\r\nX: y",
            "https://example.com\\@127.0.0.1/",
            "https://example.com:22/",
            "https://example.com:0/",
            "https://example.com:99999/",
            "https://[fe80::1%25eth0]/",
            "//example.com/",
            "javascript:alert(1)",
            "https://example.com:25/",
        ],
    )
    def test_what_is_not_a_receiver_s_address_is_refused(self, url: str) -> None:
        with pytest.raises(url_safety.BadAddress):
            url_safety.parse(url, allow_http=True)

    @given(
        st.sampled_from(["", "https://", "http://", "https://[", "https://a:", "https://a/"]),
        st.text(max_size=80),
    )
    def test_any_text_is_an_address_or_a_bad_one(self, start: str, text: str) -> None:
        with contextlib.suppress(url_safety.BadAddress):
            target = url_safety.parse(start + text, allow_http=True)
            assert target.host
            assert target.path.startswith("/")
            assert 0 < target.port < 65_536
            sent = f"{target.authority}{target.path}"
            assert all("!" <= character <= "~" for character in sent)

    def test_plain_http_has_to_be_allowed(self) -> None:
        with pytest.raises(url_safety.BadAddress, match="https"):
            url_safety.parse("http://example.com/", allow_http=False)
        assert url_safety.parse("http://example.com/", allow_http=True).port == 80

    @pytest.mark.parametrize(
        ("url", "authority", "path"),
        [
            ("https://Example.com", "example.com", "/"),
            ("https://example.com:443/a?b=c", "example.com", "/a?b=c"),
            ("https://example.com:8443/a", "example.com:8443", "/a"),
            ("https://[2600:1f18::1]:8443/a", "[2600:1f18::1]:8443", "/a"),
        ],
    )
    def test_a_url_is_taken_apart(self, url: str, authority: str, path: str) -> None:
        target = url_safety.parse(url, allow_http=False)
        assert (target.authority, target.path) == (authority, path)


@pytest.mark.django_db
class TestReaching:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "2130706433",
            "0x7f000001",
            "127.1",
            "0177.0.0.1",
            "0",
            "169.254.169.254",
            "[64:ff9b::7f00:1]",
        ],
    )
    def test_no_way_of_writing_this_machine_gets_through(
        self, receiver: Receiver, settings: Any, host: str
    ) -> None:
        settings.WEBHOOK_ALLOWED_NETWORKS = []
        subscribe(f"http://{host}:{receiver.port}/").send_test()
        webhooks.deliver()
        assert (
            "not a public address" in the_only().error
            or "could not be resolved" in the_only().error
        )
        assert receiver.requests == []

    @pytest.mark.parametrize(
        "resolved", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:127.0.0.1"], ["fd00::1"]]
    )
    def test_a_name_that_leads_inside_is_refused(
        self,
        receiver: Receiver,
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
        resolved: list[str],
    ) -> None:
        settings.WEBHOOK_ALLOWED_NETWORKS = []
        monkeypatch.setattr(safe_http, "resolve", lambda _host, _port: resolved)
        subscribe(f"http://public.example:{receiver.port}/").send_test()
        webhooks.deliver()
        assert the_only().error.startswith(
            f"public.example resolves to {resolved[-1]}, which is not a public address."
        )
        assert receiver.requests == []

    def test_a_name_is_looked_up_once_and_that_answer_is_called(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An answer that changes between the check and the call (DNS rebinding) changes nothing."""
        answers = [["127.0.0.1"], ["10.0.0.1"]]
        monkeypatch.setattr(safe_http, "resolve", lambda _host, _port: answers.pop(0))
        subscribe(f"http://public.example:{receiver.port}/hook").send_test()
        webhooks.deliver()
        assert receiver.requests[0].headers["host"] == f"public.example:{receiver.port}"
        assert answers == [["10.0.0.1"]]

    def test_another_address_of_the_name_is_tried(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(safe_http, "resolve", lambda _host, _port: ["127.0.0.2", "127.0.0.1"])
        subscribe(f"http://public.example:{receiver.port}/hook").send_test()
        webhooks.deliver()
        assert the_only().status == "delivered"
        assert len(receiver.requests) == 1

    def test_an_ipv6_address_is_called_where_its_network_is_allowed(self, settings: Any) -> None:
        try:
            server = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            pytest.skip("this machine has no IPv6")
        settings.WEBHOOK_ALLOWED_NETWORKS = ["::1/128"]
        observed = []

        def answer() -> None:
            client, _address = server.accept()
            with client:
                observed.append(client.recv(65_536))
                client.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        with server:
            thread = threading.Thread(target=answer)
            thread.start()
            port = server.getsockname()[1]
            assert safe_http.post(f"http://[::1]:{port}/", b"{}", {}).status == 204
            thread.join()
        assert f"Host: [::1]:{port}\r\n".encode() in observed[0]

    def test_a_redirect_is_not_followed(
        self, receivers: Callable[..., Receiver], settings: Any
    ) -> None:
        front, inside = receivers(), receivers()
        front.answers = [(307, {"Location": inside.url}, b"")]
        subscribe(front.url).send_test()
        webhooks.deliver()
        assert (
            the_only().error
            == "The receiver answered 307. Redirects are not followed: enter the final address."
        )
        assert inside.requests == []

    def test_proxies_of_the_environment_are_not_used(
        self, receivers: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy, receiver = receivers(), receivers()
        for name in (
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
        ):
            monkeypatch.setenv(name, proxy.url)
        subscribe(receiver.url).send_test()
        webhooks.deliver()
        assert (len(proxy.requests), len(receiver.requests)) == (0, 1)

    def test_a_name_that_nobody_knows(self) -> None:
        with pytest.raises(safe_http.ReceiverUnreachable, match="could not be resolved"):
            safe_http.resolve("a" * 64 + ".invalid", 443)

    def test_a_form_says_at_once_what_will_never_be_called(self, settings: Any) -> None:
        settings.WEBHOOK_ALLOWED_NETWORKS = []
        for url in (
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://10.0.0.1:8443/",
            "gopher://x/",
        ):
            with pytest.raises(ValidationError):
                WebhookSubscription(url=url, events=["job.completed"]).full_clean()
        WebhookSubscription(url="https://hooks.example/x", events=["job.completed"]).full_clean()

    @pytest.mark.parametrize("events", [[], ["everything"], "job.completed", None])
    def test_events_are_a_closed_list(self, events: Any) -> None:
        with pytest.raises(ValidationError):
            WebhookSubscription(url="https://hooks.example/x", events=events).full_clean()


@pytest.mark.django_db
class TestTLS:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        if not shutil.which("openssl"):
            pytest.skip("openssl is not installed")
        file = tmp_path / "hook.pem"
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=hooks.example",
                "-addext",
                "subjectAltName=DNS:hooks.example",
                "-keyout",
                str(file.with_suffix(".key")),
                "-out",
                str(file),
            ],
            check=True,
            capture_output=True,
        )
        return file

    @pytest.fixture
    def secure(
        self, receivers: Callable[..., Receiver], certificate: Path, monkeypatch: Any
    ) -> Receiver:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        names: list[str | None] = []
        context.sni_callback = lambda _socket, name, _context: names.append(name)
        receiver = receivers(context)
        receiver.names = names  # type: ignore[attr-defined]
        monkeypatch.setattr(safe_http, "resolve", lambda _host, _port: ["127.0.0.1"])
        return receiver

    def test_the_name_is_what_the_certificate_is_checked_for(
        self, secure: Receiver, certificate: Path, settings: Any
    ) -> None:
        settings.WEBHOOK_CA_BUNDLE = str(certificate)
        settings.WEBHOOK_ALLOW_HTTP = False
        subscribe(f"https://hooks.example:{secure.port}/x").send_test()
        webhooks.deliver()
        assert (the_only().status, the_only().error) == ("delivered", "")
        assert secure.requests[0].headers["host"] == f"hooks.example:{secure.port}"
        assert secure.names == ["hooks.example"]  # type: ignore[attr-defined]

    def test_another_name_is_refused(
        self, secure: Receiver, certificate: Path, settings: Any
    ) -> None:
        settings.WEBHOOK_CA_BUNDLE = str(certificate)
        subscribe(f"https://other.example:{secure.port}/x").send_test()
        webhooks.deliver()
        assert "certificate was not accepted: Hostname mismatch" in the_only().error
        assert secure.requests == []

    def test_an_address_is_not_a_name(
        self, secure: Receiver, certificate: Path, settings: Any
    ) -> None:
        settings.WEBHOOK_CA_BUNDLE = str(certificate)
        subscribe(f"https://127.0.0.1:{secure.port}/x").send_test()
        webhooks.deliver()
        assert "certificate was not accepted: IP address mismatch" in the_only().error

    def test_an_unknown_issuer_is_refused(self, secure: Receiver) -> None:
        subscribe(f"https://hooks.example:{secure.port}/x").send_test()
        webhooks.deliver()
        assert "certificate was not accepted: self-signed certificate" in the_only().error
        assert secure.requests == []

    def test_plain_text_where_tls_is_meant_is_told(self, receiver: Receiver) -> None:
        subscribe(f"https://127.0.0.1:{receiver.port}/x").send_test()
        webhooks.deliver()
        assert the_only().error.startswith("The TLS connection failed")


SUBSCRIPTIONS = "/admin/certification/webhooksubscription/"
DELIVERIES = "/admin/certification/webhookdelivery/"


@pytest.mark.django_db
class TestAdmin:
    @pytest.fixture
    def one(self, receiver: Receiver) -> WebhookSubscription:
        return subscribe(receiver.url)

    def act(self, client: Client, path: str, action: str, pk: object) -> str:
        form = {"action": action, "_selected_action": [str(pk)], "confirmed": "yes"}
        response = client.post(path, form, follow=True)
        return str(response.content.decode())

    def test_the_secret_is_shown_once(self, as_administrator: Client, administrator: User) -> None:
        form = {"url": "https://hooks.example/x", "events": ["job.completed", "alert.raised"]}
        html = as_administrator.post(f"{SUBSCRIPTIONS}add/", form, follow=True).content.decode()
        subscription = WebhookSubscription.objects.get()
        assert (subscription.created_by, subscription.events) == (
            administrator,
            ["job.completed", "alert.raised"],
        )
        assert html.count(subscription.secret) == 1
        for path in (
            SUBSCRIPTIONS,
            f"{SUBSCRIPTIONS}{subscription.pk}/change/",
            f"{SUBSCRIPTIONS}{subscription.pk}/history/",
        ):
            assert subscription.secret not in as_administrator.get(path).content.decode()
        log = as_administrator.get("/admin/").content.decode()
        assert subscription.secret not in log

    @pytest.mark.parametrize(
        ("form", "sentence"),
        [
            ({"url": "http://127.0.0.1/", "events": ["job.completed"]}, "start with https://"),
            ({"url": "https://127.0.0.1/", "events": ["job.completed"]}, "not a public address"),
            ({"url": "https://hooks.example/", "events": []}, "required"),
            (
                {"url": "https://hooks.example/", "events": ["x"]},
                "not one of the available choices",
            ),
        ],
    )
    def test_a_bad_form_says_why(
        self, as_administrator: Client, settings: Any, form: dict[str, Any], sentence: str
    ) -> None:
        settings.WEBHOOK_ALLOWED_NETWORKS, settings.WEBHOOK_ALLOW_HTTP = [], False
        response = as_administrator.post(f"{SUBSCRIPTIONS}add/", form)
        assert sentence in response.content.decode()
        assert not WebhookSubscription.objects.exists()

    def test_a_change_keeps_the_secret(
        self, as_administrator: Client, one: WebhookSubscription
    ) -> None:
        form = {"url": "https://hooks.example/new", "events": ["job.completed"]}
        html = as_administrator.post(
            f"{SUBSCRIPTIONS}{one.pk}/change/", form, follow=True
        ).content.decode()
        changed = WebhookSubscription.objects.get()
        assert (changed.url, changed.secret) == ("https://hooks.example/new", one.secret)
        assert one.secret not in html

    def test_a_test_event_is_sent(
        self, as_administrator: Client, one: WebhookSubscription, receiver: Receiver
    ) -> None:
        assert "1 test event is on its way." in self.act(
            as_administrator, SUBSCRIPTIONS, "send_test", one.pk
        )
        webhooks.deliver()
        assert receiver.requests[0].headers["x-myia-event"] == "webhook.test"

    def test_a_new_secret_is_shown_once(
        self, as_administrator: Client, one: WebhookSubscription
    ) -> None:
        old = one.secret
        html = self.act(as_administrator, SUBSCRIPTIONS, "rotate_secret", one.pk)
        one.refresh_from_db()
        assert one.secret != old
        assert html.count(one.secret) == 1
        assert one.secret not in as_administrator.get(SUBSCRIPTIONS).content.decode()

    def test_it_is_switched_off_and_on(
        self, as_administrator: Client, one: WebhookSubscription
    ) -> None:
        assert "1 subscription changed." in self.act(
            as_administrator, SUBSCRIPTIONS, "switch_off", one.pk
        )
        one.refresh_from_db()
        assert (one.is_active, one.disabled_reason) == (
            False,
            "Disabled by administrator@example.org.",
        )
        self.act(as_administrator, SUBSCRIPTIONS, "switch_on", one.pk)
        one.refresh_from_db()
        assert one.is_active

    def test_a_subscription_is_deleted_with_its_log(
        self, as_administrator: Client, one: WebhookSubscription
    ) -> None:
        one.send_test()
        path = f"{SUBSCRIPTIONS}{one.pk}/delete/"
        assert as_administrator.get(path).status_code == 200
        assert as_administrator.post(path, {"post": "yes"}).status_code == 302
        assert not WebhookSubscription.objects.exists()
        assert not WebhookDelivery.objects.exists()

    def test_a_delivery_is_sent_again_under_its_own_id(
        self, as_administrator: Client, one: WebhookSubscription, receiver: Receiver
    ) -> None:
        delivery = one.send_test()
        assert "0 deliveries will be sent again." in self.act(
            as_administrator, DELIVERIES, "send_again", delivery.pk
        )
        webhooks.deliver()
        assert "1 delivery will be sent again." in self.act(
            as_administrator, DELIVERIES, "send_again", delivery.pk
        )
        webhooks.deliver()
        assert len({request.headers["x-myia-delivery"] for request in receiver.requests}) == 1
        assert len(receiver.requests) == 2

    def test_the_log_is_readable_escaped_and_read_only(
        self, as_administrator: Client, one: WebhookSubscription, receiver: Receiver
    ) -> None:
        receiver.answers = [(500, {}, b"<script>alert(1)</script>")]
        delivery = one.send_test()
        webhooks.deliver()
        path = f"{DELIVERIES}{delivery.pk}/change/"
        html = as_administrator.get(path).content.decode()
        assert "This is a test of your webhook." in html
        assert "&lt;script&gt;" in html
        assert "<script>alert" not in html
        assert as_administrator.post(path, {"status": "delivered"}).status_code == 403
        assert as_administrator.get(f"{DELIVERIES}add/").status_code == 403
        assert as_administrator.get(f"{DELIVERIES}?q={uuid.uuid4()}").status_code == 200
        assert as_administrator.get(f"{DELIVERIES}?q=answered").status_code == 200

    @pytest.mark.parametrize("role", ["viewer", "operator"])
    def test_nobody_else_sees_any_of_it(
        self, request: Any, role: str, one: WebhookSubscription
    ) -> None:
        delivery = one.send_test()
        client: Client = request.getfixturevalue(f"as_{role}")
        User.objects.update(is_staff=True)
        for path in (
            SUBSCRIPTIONS,
            f"{SUBSCRIPTIONS}add/",
            f"{SUBSCRIPTIONS}{one.pk}/change/",
            f"{SUBSCRIPTIONS}{one.pk}/delete/",
            DELIVERIES,
            f"{DELIVERIES}{delivery.pk}/change/",
        ):
            assert client.get(path).status_code == 403, path
        salt = one.secret_salt
        self.act(client, SUBSCRIPTIONS, "rotate_secret", one.pk)
        one.refresh_from_db()
        assert one.secret_salt == salt

    def test_a_stranger_is_asked_to_log_in(self, client: Client, one: WebhookSubscription) -> None:
        response = client.get(SUBSCRIPTIONS)
        assert response.status_code == 302
        assert response["Location"].startswith(reverse("login"))

    def test_the_list_does_not_ask_once_per_row(
        self, as_administrator: Client, one: WebhookSubscription, django_assert_max_num_queries: Any
    ) -> None:
        for _ in range(15):
            one.send_test()
        with django_assert_max_num_queries(12):
            assert as_administrator.get(DELIVERIES).status_code == 200
