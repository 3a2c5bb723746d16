"""Following a job as it happens: server-sent events, a thread for each stream, and few streams.

The rows are the truth: a message through Redis only says that it is time to look at them, and
without one they are looked at every few seconds. An event's id is a `Cursor`: what its reader has
seen.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from uuid import UUID

import structlog
from django.conf import settings
from django.db import Error as DatabaseProblem
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from psycopg_pool import PoolTimeout
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from certification.api import representations, views
from certification.api.authentication import BearerAuthentication
from certification.api.envelope import ApiError
from certification.api.jobs import find_job
from certification.api.views import View
from certification.lib import pubsub
from certification.lib.database import returning_connection
from certification.models import TERMINAL, CertificationJob, CertificationRun, Role
from certification.models.change_feed import Cursor, changes

log = structlog.get_logger(__name__)

CONTENT_TYPE = "text/event-stream"
RETRY_MS = 3000  # before a browser connects again
WAIT_S = 30  # before it is worth asking for a stream again when there are too many
GAP_S = 0.25  # between two looks at a job, however often it changes
SLICE_S = 1.0  # how soon a stream notices that its client is gone or that the process is to end
SEND_S = 20.0  # how long a client may take to read what was sent
THE_END = "done"  # the id of the last event

_must_stop: Callable[[], bool] = lambda: False  # noqa: E731 - until a server says otherwise


def set_shutdown_check(stopping: Callable[[], bool]) -> None:
    """End every stream of this process within a second of this becoming true: its web server is to
    stop.
    """
    global _must_stop  # noqa: PLW0603 - there is one web server around us
    _must_stop = stopping


class TooManyStreams(ApiError):
    """429 for a user who has enough of them, 503 for a process that has."""

    wait = WAIT_S

    def __init__(self, status: int) -> None:
        super().__init__(
            status,
            "too_many_streams",
            _("Too many event streams are open. Ask GET /jobs/:jobId every few seconds instead."),
        )


class StreamSlots:
    """The streams that are open in this process, by user."""

    def __init__(self) -> None:
        self._taken: Counter[int] = Counter()
        self._lock = threading.Lock()

    def take(self, user: int) -> None:
        """Raises TooManyStreams."""
        with self._lock:
            if self._taken[user] >= settings.EVENT_STREAMS_PER_USER:
                raise TooManyStreams(429)
            if self._taken.total() >= settings.EVENT_STREAMS_PER_PROCESS:
                raise TooManyStreams(503)
            self._taken[user] += 1

    def release(self, user: int) -> None:
        with self._lock:
            self._taken[user] -= 1
            self._taken += Counter()  # forget those at 0

    @property
    def taken(self) -> int:
        return self._taken.total()


places = StreamSlots()


def event(name: Literal["progress", "run", "done"], data: Any, last_id: Cursor | str) -> bytes:
    """One event as it is sent."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (
        name.encode(),
        str(last_id).encode(),
        JSONRenderer().render(data),
    )


@dataclass
class Stream:
    """The events of one job, for one client. Takes a place for its user, which `close` gives back;
    raises TooManyStreams.
    """

    job_id: UUID
    cursor: Cursor
    user: int
    allowed: Callable[[], bool]  # whether the client may still listen; asked at each heartbeat
    client: socket.socket | None = None
    _told: representations.Progress | None = None
    _over: bool = False
    _sent: Iterator[bytes] | None = None
    _closed: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        places.take(self.user)

    def close(self) -> None:
        """Django calls this when the response is over, however it ended and whether or not it
        began.
        """
        if not self._closed.acquire(blocking=False):
            return
        try:
            if self._sent is not None:
                self._sent.close()  # type: ignore[attr-defined]  # a generator
        finally:
            places.release(self.user)

    def __iter__(self) -> Iterator[bytes]:
        self._sent = self._events()
        return self._sent

    def _events(self) -> Iterator[bytes]:
        if self.client is not None:
            self.client.settimeout(SEND_S)
        yield b"retry: %d\n\n" % RETRY_MS
        with closing(pubsub.Subscription(self.job_id)) as watch:
            now = time.monotonic()
            look_at, beat_at = now, now + settings.EVENT_HEARTBEAT
            while not self._over:
                if now >= look_at:
                    yield from self._look()
                    earliest, look_at = now + GAP_S, now + settings.EVENT_POLL
                elif watch.wait(min(SLICE_S, look_at - now)):
                    look_at = min(look_at, earliest)
                now = time.monotonic()
                if now >= beat_at:
                    if not self.allowed():
                        return
                    yield b": \n\n"
                    beat_at = now + settings.EVENT_HEARTBEAT
                if _must_stop() or self._client_disconnected():
                    return

    def _look(self) -> list[bytes]:
        """What is new, as events. Nothing while the database is away: the next look finds it."""
        try:
            with returning_connection():
                return list(self._changed_events())
        except (DatabaseProblem, PoolTimeout) as error:
            log.warning("events_without_database", job=str(self.job_id), error=str(error).strip())
            return []

    def _changed_events(self) -> Iterator[bytes]:
        # The job before its runs: once it has ended, none of them is missed.
        job = CertificationJob.objects.select_related("created_by").filter(pk=self.job_id).first()
        if job is None:
            self._over = True
            return
        runs = (
            CertificationRun.objects.filter(job=job)
            .select_related("model")
            .only(*representations.RUN_FIELDS)
        )
        changed = list(changes(runs, self.cursor))
        if self._told is None or changed or job.updated_at != self._told["updatedAt"]:
            progress = representations.progress(job, job.counts())
            first = self._told is None
            if first:
                yield event("progress", progress, self.cursor)
            for run, cursor in changed:
                yield event("run", representations.run(run), cursor)
                self.cursor = cursor
            if not first and progress != self._told:
                yield event("progress", progress, self.cursor)
            self._told = progress
        if job.status in TERMINAL:
            yield event("done", representations.job_summary(job), THE_END)
            self._over = True

    def _client_disconnected(self) -> bool:
        """Whether the client has hung up, as far as its socket knows."""
        if self.client is None:
            return False
        try:
            poll = select.poll()
            poll.register(self.client, select.POLLIN)
            return bool(poll.poll(0)) and self.client.recv(1, socket.MSG_PEEK) == b""
        except (OSError, ValueError):
            return True


def still_authorized(request: Request) -> bool:
    """Whether what let the request in still does: the token is not revoked or expired, the user not
    disabled.
    """
    try:
        with returning_connection():
            found = BearerAuthentication().authenticate(request)
    except APIException:
        return False
    except (DatabaseProblem, PoolTimeout):  # nobody can tell, and nothing is sent meanwhile
        return True
    return found is not None and found[1].reaches(Role.VIEWER)


STREAM = """A stream of events, each with an `id` to resume from. The data of each is JSON:

- `progress`: first of all, and whenever the counts have changed: `id`, `status`, `totalModels`, `processedModels`,
  `successCount`, `failureCount`, `progress`, `costUsd`, `startedAt`, `completedAt`, `updatedAt` as in `JobSummary`, and `runs`,
  the number of runs in each state.
- `run` (`Run`): a worker took it or handed it back, or it has ended; the whole run as it is now.
- `done` (`JobSummary`): the job has ended. The stream ends after it.

A comment every 15 seconds shows that the stream is alive."""


class JobEvents(View):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"GET": (404,)}

    @extend_schema(
        operation_id="followJob",
        tags=["certification queue"],
        responses={
            (200, CONTENT_TYPE): OpenApiResponse(OpenApiTypes.STR, description=STREAM),
            204: OpenApiResponse(
                None,
                description="The job has ended, and `done` has been received: do not connect again.",
            ),
        },
        parameters=[
            OpenApiParameter(
                "Last-Event-ID",
                str,
                OpenApiParameter.HEADER,
                description="Resume after the event with this id: browsers send it by themselves.",
            ),
            OpenApiParameter(
                "lastEventId",
                str,
                description="The same, where the header cannot be sent; the header goes first.",
            ),
            OpenApiParameter(
                "token",
                str,
                description="The token or API key, where the `Authorization` header cannot be sent.",
            ),
        ],
    )
    def get(self, request: Request, job_id: UUID) -> HttpResponseBase:
        """Follow a job: server-sent events. Without an id to resume from, only what changes from
        now on is sent.
        """
        job = find_job(job_id)
        given = request.headers.get("Last-Event-ID") or request.query_params.get("lastEventId", "")
        if given == THE_END and job.status in TERMINAL:
            return HttpResponse(status=204)
        cursor = _cursor(given)
        if request.method == "HEAD":
            return HttpResponse(content_type=CONTENT_TYPE)
        stream = Stream(
            job.pk,
            cursor,
            views.current_user(request).pk,
            lambda: still_authorized(request),
            request.META.get("gunicorn.socket"),
        )
        return StreamingHttpResponse(
            stream,
            content_type=CONTENT_TYPE,
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )


def _cursor(given: str) -> Cursor:
    """Where to go on from. Raises 400 for an id that no event had."""
    now = Cursor.now()
    if given in {"", THE_END}:
        return now
    try:
        cursor = Cursor.parse(given)
    except ValueError:
        raise views.invalid("header.Last-Event-ID", _("No event has this id."), "invalid") from None
    # of a database that was since restored: everything is new
    return cursor if cursor.end <= now.end else Cursor(1)
