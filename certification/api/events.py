"""Follow a job as it happens: server-sent events, a thread for each stream, and few streams.

The rows are the truth: a message through Redis only says that it is time to read them, and without
one they are read every few seconds. An event's id is a `Cursor`: what its reader has received.
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
from django.db import Error as DatabaseError
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from certification.api import representations, views
from certification.api.authentication import BearerAuthentication
from certification.api.envelope import ApiError
from certification.api.jobs import JOB_ID, find_job
from certification.api.views import View
from certification.lib import pubsub
from certification.lib.database import returning_connection
from certification.models import TERMINAL, CertificationJob, CertificationRun, Role
from certification.models.change_feed import Cursor, changes

log = structlog.get_logger(__name__)

CONTENT_TYPE = "text/event-stream"
RETRY_MS = 3000  # before a browser connects again
RETRY_AFTER_S = 30  # before trying again when too many streams are open
MIN_READ_INTERVAL_S = 0.25  # between two reads of a job, however often it changes
SLICE_S = 1.0  # how soon a stream notices that its client or its web server is gone
SEND_TIMEOUT_S = 20.0  # how long a client may take to read what was sent
LAST_ID = "done"  # the id of the last event

_is_shutting_down: Callable[[], bool] = lambda: False  # noqa: E731 - until a server sets it


def set_shutdown_check(check: Callable[[], bool]) -> None:
    """End every stream of this process within a second of `check` becoming true: its web server is
    to stop.
    """
    global _is_shutting_down  # noqa: PLW0603 - there is one web server around us
    _is_shutting_down = check


class TooManyStreams(ApiError):
    """429 for a user with too many streams, 503 for a process with too many."""

    wait = RETRY_AFTER_S

    def __init__(self, status: int) -> None:
        super().__init__(
            status,
            "too_many_streams",
            _("Too many event streams are open. Call GET /jobs/:jobId every few seconds instead."),
        )


class StreamSlots:
    """The streams that are open in this process, by user."""

    def __init__(self) -> None:
        self._taken: Counter[int] = Counter()
        self._lock = threading.Lock()

    def acquire(self, user: int) -> None:
        """Count a stream of this user. Raises TooManyStreams."""
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


slots = StreamSlots()


def event(name: Literal["progress", "run", "done"], data: Any, last_id: Cursor | str) -> bytes:
    """Return one event as it is sent."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (
        name.encode(),
        str(last_id).encode(),
        JSONRenderer().render(data),
    )


@dataclass
class Stream:
    """The events of one job, for one client. Acquires a slot for its user, which `close` releases.
    Raises TooManyStreams.
    """

    job_id: UUID
    cursor: Cursor
    user: int
    authorized: Callable[[], bool]  # called at each heartbeat
    client: socket.socket | None = None
    _last_progress: representations.Progress | None = None
    _ended: bool = False
    _events: Iterator[bytes] | None = None
    _closed: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        slots.acquire(self.user)

    def close(self) -> None:
        """Django calls this when the response is over, however it ended and whether or not it
        began.
        """
        if not self._closed.acquire(blocking=False):
            return
        try:
            if self._events is not None:
                self._events.close()  # type: ignore[attr-defined]  # a generator
        finally:
            slots.release(self.user)

    def __iter__(self) -> Iterator[bytes]:
        self._events = self.events()
        return self._events

    def events(self) -> Iterator[bytes]:
        """Send what changes until the job has ended, the client is gone, or the server stops."""
        if self.client is not None:
            self.client.settimeout(SEND_TIMEOUT_S)
        yield b"retry: %d\n\n" % RETRY_MS
        with closing(pubsub.Subscription(self.job_id)) as subscription:
            now = time.monotonic()
            read_at, heartbeat_at = now, now + settings.EVENT_HEARTBEAT
            while not self._ended:
                if now >= read_at:
                    yield from self.read()
                    earliest, read_at = now + MIN_READ_INTERVAL_S, now + settings.EVENT_POLL
                elif subscription.wait(min(SLICE_S, read_at - now)):
                    read_at = min(read_at, earliest)
                now = time.monotonic()
                if now >= heartbeat_at:
                    if not self.authorized():
                        return
                    yield b": \n\n"
                    heartbeat_at = now + settings.EVENT_HEARTBEAT
                if _is_shutting_down() or self.client_disconnected():
                    return

    def read(self) -> list[bytes]:
        """Return what is new, as events; nothing while the database does not answer."""
        try:
            with returning_connection():
                return list(self.changed_events())
        except DatabaseError as error:
            log.warning("events_without_database", job=str(self.job_id), error=str(error).strip())
            return []

    def changed_events(self) -> Iterator[bytes]:
        # The job before its runs: once it has ended, none of them is missed.
        job = CertificationJob.objects.select_related("created_by").filter(pk=self.job_id).first()
        if job is None:
            self._ended = True
            return
        runs = (
            CertificationRun.objects.filter(job=job)
            .select_related("model")
            .only(*representations.RUN_FIELDS)
        )
        changed = list(changes(runs, self.cursor))
        if (
            self._last_progress is None
            or changed
            or job.updated_at != self._last_progress["updatedAt"]
        ):
            progress = representations.progress(job, job.counts())
            first = self._last_progress is None
            if first:
                yield event("progress", progress, self.cursor)
            for run, cursor in changed:
                yield event("run", representations.run(run), cursor)
                self.cursor = cursor
            if not first and progress != self._last_progress:
                yield event("progress", progress, self.cursor)
            self._last_progress = progress
        if job.status in TERMINAL:
            yield event("done", representations.job_summary(job), LAST_ID)
            self._ended = True

    def client_disconnected(self) -> bool:
        """Return whether the client has closed the connection, as far as its socket knows."""
        if self.client is None:
            return False
        try:
            poll = select.poll()
            poll.register(self.client, select.POLLIN)
            return bool(poll.poll(0)) and self.client.recv(1, socket.MSG_PEEK) == b""
        except (OSError, ValueError):
            return True


def still_authorized(request: Request) -> bool:
    """Return whether the request's token or key still works and its user is not disabled."""
    try:
        with returning_connection():
            authenticated = BearerAuthentication().authenticate(request)
    except APIException:
        return False
    except DatabaseError:  # unknown, and nothing is sent meanwhile
        return True
    return authenticated is not None and authenticated[1].reaches(Role.VIEWER)


STREAM = """\
A stream of events, each with an `id` to resume from. The data of each is JSON:

- `progress`: at the start, and whenever the counts change: `id`, `status`, `totalModels`,
  `processedModels`, `successCount`, `failureCount`, `cancelledCount`, `progress`, `costUsd`,
  `startedAt`, `completedAt`, `updatedAt` as in `JobSummary`, and
  `runs`, the number of runs in each state.
- `run` (`Run`): a worker started it or gave it back, or it has ended; the whole run as it is now.
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
                description="The job has ended and `done` was received: do not connect again.",
            ),
        },
        parameters=[
            JOB_ID,
            OpenApiParameter(
                "Last-Event-ID",
                str,
                OpenApiParameter.HEADER,
                description="Resume after the event with this id: browsers send it by themselves.",
            ),
            OpenApiParameter(
                "lastEventId",
                str,
                description="Where the header cannot be sent; the header takes precedence.",
            ),
            OpenApiParameter(
                "token",
                str,
                description="The token or API key, if the `Authorization` header cannot be sent.",
            ),
        ],
    )
    def get(self, request: Request, job_id: str) -> HttpResponseBase:
        """Follow a job: server-sent events.

        Without an id to resume from, only what changes from now on is sent.
        """
        job = find_job(job_id)
        last_id = request.headers.get("Last-Event-ID") or request.query_params.get(
            "lastEventId", ""
        )
        if last_id == LAST_ID and job.status in TERMINAL:
            return HttpResponse(status=204)
        cursor = now = Cursor.now()
        if last_id not in {"", LAST_ID}:
            try:
                cursor = Cursor.parse(last_id)
            except ValueError:
                raise views.invalid("header.Last-Event-ID", _("Invalid Last-Event-ID.")) from None
            if cursor.end > now.end:  # of a database that was since restored: everything is new
                cursor = Cursor(1)
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
