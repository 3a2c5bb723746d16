"""Following a job as it happens, through the web server as it runs in production."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection

from certification.api import events, tokens
from certification.lib import pubsub
from certification.models import (
    AIModel,
    ApiKey,
    CertificationJob,
    CertificationRun,
    User,
)
from certification.reasons import Reason, Status
from tests.api import Api
from tests.factories import finish, start_job
from tests.streams import Event, Listener, Web

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

REGIONS = ("us-east-1", "us-west-2")
NOBODY = uuid.UUID(int=0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def start(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any
) -> Iterator[Callable[..., Web]]:
    """Starts web servers, whose signs of life come every second; all are stopped in the end."""
    started: list[Web] = []

    def start(**options: Any) -> Web:
        log = tmp_path_factory.mktemp("web") / "web.log"
        with django_db_blocker.unblock():
            started.append(
                Web(free_port(), log, **{"EVENT_HEARTBEAT": "1", "EVENT_POLL": "1", **options})
            )
        return started[-1]

    yield start
    for web in started:  # all at once: each has streams and processes to end
        web.process.terminate()
    for web in started:
        web.stop()


@pytest.fixture(scope="module")
def web(start: Callable[..., Web]) -> Web:
    """One for the tests that leave it as it is."""
    return start()


@pytest.fixture
def job(operator: User) -> CertificationJob:
    return start_job(
        AIModel.objects.filter(api_model_id__startswith="amazon.nova-")[:2], REGIONS, operator
    )


@pytest.fixture
def token(viewer: User) -> str:
    return tokens.issue(viewer)


@pytest.fixture(autouse=True)
def hang_up() -> Iterator[None]:
    """Nobody listens on after a test."""
    yield
    while Listener.opened:
        Listener.opened.pop().close()


def address(job: Any) -> str:
    return f"/api/certification-queue/jobs/{getattr(job, 'pk', job)}/events"


def runs(job: CertificationJob) -> list[CertificationRun]:
    return list(job.runs.select_related("model", "job").order_by("pk"))


def names(received: list[Event]) -> list[str]:
    return [event.name for event in received]


def settled(condition: Callable[[], bool]) -> None:
    """Wait until it holds; the test fails when that takes too long."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# The story of a stream


def test_a_job_is_followed_to_its_end(web: Web, job: CertificationJob, token: str) -> None:
    listener = Listener(web.port, address(job), token)
    headers = listener.response.headers
    assert (listener.status, headers["Content-Type"]) == (200, "text/event-stream")
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-cache", "no")
    assert "Content-Encoding" not in headers
    assert headers["X-Request-Id"]
    first = listener.next()
    assert first is not None
    assert (first.name, listener.retry_ms) == ("progress", 3000)
    assert first.data["processedModels"] == 0
    assert sum(first.data["runs"].values()) == first.data["totalModels"] == 4
    one, two, *others = runs(job)
    finish(one, Status.CERTIFIED, score=97, rating="A")
    [*_claims, run, progress] = listener.until("progress")
    while run.data["status"] != "COMPLETED":
        [*_claims, run, progress] = listener.until("progress")
    assert (
        run.data
        == Api(User.objects.get(email="viewer@example.org")).get(
            f"certification-queue/jobs/{job.pk}"
        )["certifications"][-1]
    )
    assert (run.data["id"], run.data["verdict"], run.data["score"]) == (
        str(one.pk),
        "certified",
        97,
    )
    assert (progress.data["successCount"], progress.data["progress"]) == (1, 25)
    two.mark_failed(Reason.DEADLINE, "The time was over.")
    for other in others:
        finish(other, Status.FAILED, message="It answered with nothing.")
    received = listener.until("done")
    assert {e.data["id"] for e in received if e.name == "run" and e.data["completedAt"]} == {
        str(r.pk) for r in [two, *others]
    }
    assert names(received)[-2:] == ["progress", "done"]
    assert (received[-1].data["status"], received[-1].data["processedModels"], received[-1].id) == (
        "COMPLETED",
        4,
        "done",
    )
    assert listener.next() is None
    listener.close()


def test_a_cancelled_job_is_done(web: Web, job: CertificationJob, token: str) -> None:
    listener = Listener(web.port, address(job), token)
    listener.next()
    job.cancel()
    assert names(listener.rest()) == ["run"] * 4 + ["progress", "done"]


def test_a_finished_job_is_sent_at_once_and_once(
    web: Web, job: CertificationJob, token: str
) -> None:
    job.cancel()
    assert names(Listener(web.port, address(job), token).rest()) == ["progress", "done"]
    again = Listener(web.port, address(job), token, Last_Event_ID="done")
    assert (again.status, again.response.read()) == (204, b"")  # a browser does not connect again


def test_every_id_resumes_where_it_stood(web: Web, job: CertificationJob, token: str) -> None:
    listener = Listener(web.port, address(job), token)
    [start] = listener.until("progress")
    one, *_others = runs(job)
    finish(one, Status.CERTIFIED)
    while True:
        received = listener.until("progress")
        if received[-1].data["successCount"]:
            break
    job.cancel()
    received += listener.rest()
    finished = [event for event in received if event.name == "run" and event.data["completedAt"]]
    assert len(finished) == 4
    for i, event in enumerate(finished):
        rest = Listener(web.port, address(job), token, Last_Event_ID=event.id).rest()
        assert [e.data for e in rest if e.name == "run"] == [e.data for e in finished[i + 1 :]]
    everything = Listener(web.port, f"{address(job)}?lastEventId={start.id}", token).rest()
    assert [e.data for e in everything][1:-1] == [e.data for e in finished]
    assert names(everything) == ["progress", *["run"] * 4, "done"]


def test_a_stream_survives_its_web_process(
    start: Callable[..., Web], job: CertificationJob, token: str
) -> None:
    web = start(workers=1)
    listener = Listener(web.port, address(job), token)
    listener.until("progress")
    one, *others = runs(job)
    finish(one, Status.CERTIFIED)
    last = listener.until("run")[-1]
    [pid] = web.workers()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises((OSError, AssertionError)):
        listener.until("done")
    for other in others:
        finish(other, Status.CERTIFIED)
    settled(lambda: bool(web.workers()) and web.workers() != [pid])
    rest = Listener(web.port, address(job), token, Last_Event_ID=last.id).rest()
    ended = [e.data["id"] for e in rest if e.name == "run" and e.data["completedAt"]]
    assert sorted({*ended, str(one.pk)}) == sorted(str(run.pk) for run in runs(job))
    assert len(set(ended)) == len(ended)
    assert rest[-1].name == "done"


def test_an_id_of_a_database_that_was_replaced_starts_over(
    web: Web, job: CertificationJob, token: str
) -> None:
    job.cancel()
    rest = Listener(
        web.port, address(job), token, Last_Event_ID="900000000000:900000000000:"
    ).rest()
    assert names(rest) == ["progress", *["run"] * 4, "done"]


def test_without_redis_the_database_is_polled(
    start: Callable[..., Web], job: CertificationJob, token: str
) -> None:
    web = start(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    listener = Listener(web.port, address(job), token)
    listener.next()
    job.cancel()
    assert names(listener.rest()) == ["run"] * 4 + ["progress", "done"]


def test_a_change_wakes_who_watches(
    web: Web, start: Callable[..., Web], job: CertificationJob, token: str
) -> None:
    """Here nobody looks again within the test: only the message can tell."""
    web = start(EVENT_POLL="3600")
    listener = Listener(web.port, address(job), token)
    listener.next()
    one, *_others = runs(job)
    finish(one, Status.CERTIFIED)
    listener.until("run")
    job.cancel()
    assert listener.until("done")


# Who may listen


def test_a_token_in_the_address_works_and_is_never_logged(
    web: Web, job: CertificationJob, token: str, viewer: User
) -> None:
    key = ApiKey(user=viewer, name="ci").issue()
    job.cancel()
    for secret in (token, key):
        assert names(Listener(web.port, f"{address(job)}?x=1&token={secret}").rest()) == [
            "progress",
            "done",
        ]
        assert (
            Listener(web.port, f"{address(job)}?lastEventId=nonsense&token={secret}").status == 400
        )
        assert Listener(web.port, f"{address(NOBODY)}?token={secret}").status == 404
        assert Listener(web.port, f"{address(job)}/?%74oken={secret}").status == 404
        assert Listener(web.port, f"{address(job)}?token={secret}x").status == 401
        assert Listener(web.port, f"/api/auth/me?token={secret}").status == 401
    log = web.log.read_text()
    assert "request_finished" in log
    assert "x=1" in log
    assert "token" not in log.replace("[redacted]", "")
    for secret in (token, key, token[-20:], key[-20:]):
        assert secret not in log


def test_an_access_log_and_an_error_mail_do_not_show_the_token(
    start: Callable[..., Web], job: CertificationJob, token: str, settings: Any, mailoutbox: Any
) -> None:
    web = start(GUNICORN_CMD_ARGS="--access-logfile - --log-level debug")
    job.cancel()
    Listener(web.port, f"{address(job)}?token={token}").rest()
    settled(lambda: "events HTTP/1.1" in web.log.read_text())
    assert token not in web.log.read_text()
    settings.ADMINS = [("A", "admin@example.org")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(events, "find_job", lambda _id: 1 / 0)
        assert Api().client.get(f"{address(job)}?token={token}").status_code == 500
    [mail] = mailoutbox
    assert "ZeroDivisionError" in mail.body
    assert token not in mail.body + mail.subject


@pytest.mark.parametrize("how", ["revoked", "disabled", "key revoked", "no role"])
def test_who_may_no_longer_listen_hears_nothing_more(
    web: Web, job: CertificationJob, viewer: User, how: str
) -> None:
    key = ApiKey(user=viewer, name="ci")
    secret = key.issue() if "key" in how else tokens.issue(viewer)
    listener = Listener(web.port, address(job), secret)
    listener.next()
    match how:
        case "revoked":
            tokens.read(secret).end_family()
        case "disabled":
            User.objects.filter(pk=viewer.pk).update(is_active=False)
        case "key revoked":
            key.revoke()
        case "no role":
            viewer.groups.clear()
    assert listener.rest() == []
    assert Listener(web.port, address(job), secret).status in {401, 403}


def test_refusals_come_in_the_envelope(job: CertificationJob, viewer: User) -> None:
    path = address(job).removeprefix("/api/")
    assert Api().get(path, status=401)["errorCode"] == "not_authenticated"
    assert (
        Api(viewer).get(address(NOBODY).removeprefix("/api/"), status=404)["errorCode"]
        == "job_not_found"
    )
    nobody = User.objects.create_user("none@example.org", "a-long-test-password", role="")
    assert Api(nobody).get(path, status=403)["errorCode"] == "not_allowed"
    refusal = Api(viewer).get(path, status=400, Last_Event_ID="5:3:")
    assert refusal["data"]["validation"][0]["path"] == "header.Last-Event-ID"
    assert Api(viewer).post(path, status=405)["errorCode"] == "method_not_allowed"


def test_head_opens_no_stream(job: CertificationJob, viewer: User) -> None:
    caller = Api(viewer)
    response = caller.client.head(address(job), headers=caller.headers)
    assert (response.status_code, response["Content-Type"]) == (200, "text/event-stream")
    assert events.slots.taken == 0


# How many


def test_streams_are_bounded_and_leave_room_for_everything_else(
    start: Callable[..., Web],
    job: CertificationJob,
    token: str,
    operator: User,
    administrator: User,
) -> None:
    web = start(EVENT_STREAMS_PER_PROCESS="8", EVENT_STREAMS_PER_USER="4")
    callers = [token, tokens.issue(operator), tokens.issue(administrator)]
    listeners = [Listener(web.port, address(job), callers[i % 3]) for i in range(60)]
    open_ones = [each for each in listeners if each.status == 200]
    refused = [each for each in listeners if each.status != 200]
    # 8 in each of 2 processes, unless one of them never saw the third user
    assert len(open_ones) == 16
    assert {each.status for each in refused} <= {429, 503}
    for each in refused:
        assert int(each.response.headers["Retry-After"]) > 0
    for _time in range(20):
        assert web.get("/api/auth/me", token)[0] == 200
    job.cancel()
    assert all(each.rest()[-1].name == "done" for each in open_ones)
    # all slots were released
    assert all(Listener(web.port, address(job), token).rest() for _time in range(20))


def test_one_user_does_not_take_every_place(
    start: Callable[..., Web], job: CertificationJob, token: str
) -> None:
    web = start(workers=1, EVENT_STREAMS_PER_USER="2")
    listeners = [Listener(web.port, address(job), token) for _each in range(3)]
    assert [each.status for each in listeners] == [200, 200, 429]
    status, refusal = web.get(address(job), token)
    assert (status, refusal["status"], refusal["errorCode"]) == (429, "fail", "too_many_streams")
    # a page that is left gives its place back within seconds, without an event
    listeners[0].close()
    settled(lambda: Listener(web.port, address(job), token).status == 200)


def test_a_full_process_says_so(
    start: Callable[..., Web], job: CertificationJob, token: str
) -> None:
    web = start(workers=1, EVENT_STREAMS_PER_PROCESS="1")
    listener = Listener(web.port, address(job), token)
    status, refusal = web.get(address(job), token)
    assert (status, refusal["status"], refusal["code"]) == (503, "error", 503)
    assert "GET /jobs" in refusal["message"]
    listener.close()


def test_a_stream_that_waits_holds_no_database_connection(
    start: Callable[..., Web], job: CertificationJob, token: str
) -> None:
    """Eight streams on a pool of one connection, and ordinary requests beside them."""
    web = start(workers=1, DATABASE_POOL_SIZE="1", EVENT_STREAMS_PER_USER="8")
    listeners = [Listener(web.port, address(job), token) for _each in range(8)]
    assert all(each.next() for each in listeners)
    assert web.get("/api/auth/me", token)[0] == 200
    job.cancel()
    assert all(each.rest()[-1].name == "done" for each in listeners)


def test_connections_to_redis_are_given_back(web: Web, job: CertificationJob, token: str) -> None:
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    channel = f"myia:job:{job.pk}"
    listeners = [Listener(web.port, address(job), token) for _each in range(3)]
    settled(lambda: client.pubsub_numsub(channel)[0][1] == 3)
    for each in listeners:
        each.close()
    settled(lambda: client.pubsub_numsub(channel)[0][1] == 0)
    client.close()


def test_a_client_that_does_not_read_loses_its_place(
    job: CertificationJob, viewer: User, monkeypatch: Any
) -> None:
    monkeypatch.setattr(events, "SEND_TIMEOUT_S", 0.2)
    near, far = socket.socketpair()
    stream = events.Stream(job.pk, events.Cursor.now(), viewer.pk, lambda: True, near)
    chunks = iter(stream)
    next(chunks)
    with pytest.raises(TimeoutError):
        near.sendall(b"x" * 10_000_000)
    stream.close()
    stream.close()  # twice is once
    assert events.slots.taken == 0
    near.close()
    far.close()


# The end of the web server


@pytest.mark.flaky(reruns=1)  # measures time
def test_the_web_server_stops_at_once_with_streams_open(
    start: Callable[..., Web], job: CertificationJob, token: str
) -> None:
    web = start()
    listeners = [Listener(web.port, address(job), token) for _each in range(4)]
    for each in listeners:
        each.next()
    assert web.stop() < 10  # the graceful timeout is 15
    assert all(each.rest() == [] for each in listeners)
    assert "rror" not in web.log.read_text()


# Waking


def test_a_change_notifies_once_it_is_committed_and_never_fails(
    job: CertificationJob, monkeypatch: Any
) -> None:
    watch = pubsub.Subscription(job.pk)
    assert not watch.wait(0.2)
    [one, *_others] = runs(job)
    CertificationRun.objects.claim(one.pk, "w")
    assert watch.wait(5)
    watch.close()


def test_a_hundred_changes_are_a_few_messages(job: CertificationJob) -> None:
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    subscription = client.pubsub()
    subscription.subscribe(f"myia:job:{job.pk}")
    assert subscription.get_message(timeout=5)
    for _each in range(1000):
        pubsub.notify(job.pk)
    assert subscription.get_message(timeout=5)
    time.sleep(0.5)
    messages = 1
    while subscription.get_message(timeout=0):
        messages += 1
    assert messages < 10
    subscription.close()
    client.close()


def test_a_wakeup_without_redis_costs_the_run_nothing(
    job: CertificationJob, settings: Any, monkeypatch: Any
) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setattr(pubsub, "_outbox", pubsub.Outbox())
    [one, *_others] = runs(job)
    finish(one, Status.CERTIFIED)
    one.refresh_from_db()
    assert one.verdict == Status.CERTIFIED
    subscription = pubsub.Subscription(job.pk)
    assert not subscription.wait(0.01)
    subscription.close()


def test_a_waiting_stream_asks_few_questions(
    job: CertificationJob, viewer: User, django_assert_num_queries: Any
) -> None:
    stream = events.Stream(job.pk, events.Cursor.now(), viewer.pk, lambda: True)
    with django_assert_num_queries(3):  # job, changed runs, counts
        assert len(stream.read()) == 1
    with django_assert_num_queries(2):
        assert stream.read() == []
    job.cancel()
    with django_assert_num_queries(3):
        assert len(stream.read()) == 6
    stream.close()
    connection.close()
    assert threading.active_count()
