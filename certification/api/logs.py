"""The log: lines of our own files for operators, and where frontends send theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypedDict

import structlog
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api import envelope, filters, views
from certification.api.authentication import ANYBODY
from certification.api.filters import ChoiceListField, DateTimeOrDateField, Paged
from certification.api.representations import OneOf, Pagination
from certification.api.views import View
from certification.lib import foreign_text
from certification.models import Role
from certification.monitoring import log_files
from certification.monitoring.log_files import LEVELS, LogEntry, LogFilter

log = structlog.get_logger(__name__)

MAX_LINE_BYTES = 65_536  # of a frontend's line
MAX_TEXT = 500  # characters of its message that are logged
MAX_CONTEXT = 2_000
MAX_ENTRIES = 500  # of one request's lines
LEVEL_WORDS = (*LEVELS, "warn")  # as the frontends write it
ONLY_OPERATORS: dict[str, str] = {"GET": Role.OPERATOR}


class LogLine(serializers.Serializer[Any]):
    """A line of a frontend; whatever else it has is its context."""

    level = serializers.CharField(max_length=20, required=False, allow_blank=True)
    message = serializers.CharField(required=False, allow_blank=True)


class LogPeriod(serializers.Serializer[Any]):
    startDate = DateTimeOrDateField(help_text="This time or later: ISO 8601, or a day.")
    endDate = DateTimeOrDateField(
        end_of_day=True, help_text="This time or earlier: ISO 8601, or a day, which is included."
    )

    def validate(self, params: dict[str, Any]) -> dict[str, Any]:
        start, end = params.get("startDate"), params.get("endDate")
        if start and end and start > end:
            message = _("`endDate` is before `startDate`.")
            raise serializers.ValidationError({"endDate": message}, "before_start")
        return params


class LogQuery(LogPeriod, Paged):
    level = ChoiceListField(LEVEL_WORDS, help_text="Levels, separated by commas, in any case.")
    requestId = serializers.CharField(max_length=64, required=False)
    search = serializers.CharField(
        max_length=200, required=False, help_text="A part of the event or of the traceback."
    )
    sort = serializers.ChoiceField(["desc", "asc"], default="desc")


class RecentErrors(serializers.Serializer[Any]):
    limit = serializers.IntegerField(min_value=1, max_value=filters.MAX_PER_PAGE, default=50)


class LogEntryJSON(TypedDict):
    """One line of a log file, without secrets."""

    timestamp: datetime
    level: Annotated[str, OneOf(*LEVELS)]
    message: Annotated[str, "The event."]
    requestId: str | None
    logger: str | None
    source: Annotated[str, "The file: a process, or `combined`."]
    metadata: Annotated[dict[str, Any], "The fields of the line."]


class LogPage(TypedDict):
    logs: list[LogEntryJSON]
    pagination: Pagination
    complete: Annotated[bool, "false: only the newest lines were searched, older ones were not."]


class LogList(TypedDict):
    logs: list[LogEntryJSON]
    count: int


class LevelCount(TypedDict):
    level: Annotated[str, OneOf(*LEVELS)]
    count: int


class LogStats(TypedDict):
    stats: list[LevelCount]
    complete: Annotated[bool, "false: only the newest lines were counted."]


class Logs(View):
    max_body_bytes = MAX_LINE_BYTES
    roles: ClassVar[dict[str, str]] = {**ONLY_OPERATORS, "POST": ANYBODY}

    def rate_for(self, method: str | None) -> str:
        return "log" if method == "POST" else super().rate_for(method)

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Take lines from anybody: an expired token is no reason to refuse one."""
        current = getattr(self, "request", None)  # None while the schema is made
        is_post = current is not None and current.method == "POST"
        return [] if is_post else super().get_authenticators()

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Keep refused lines of frontends out of our own log, as those that were taken."""
        final = super().finalize_response(request, response, *args, **kwargs)
        final._has_been_logged = request.method == "POST" and final.status_code < 500
        return final

    @extend_schema(
        operation_id="searchLogs", parameters=[LogQuery], responses={200: LogPage}, tags=["logs"]
    )
    def get(self, request: Request) -> Response:
        """Search the log files of this installation, rotated ones too."""
        params = views.query(request, LogQuery)
        lines = log_files.read_logs(filter_of(params))
        page, limit = params["page"], params["limit"]
        ordered = lines.entries if params["sort"] == "desc" else lines.entries[::-1]
        body: LogPage = {
            "logs": entries(ordered[(page - 1) * limit : page * limit]),
            "pagination": filters.pagination(page, limit, len(ordered)),
            "complete": lines.complete,
        }
        return Response(body)

    @extend_schema(
        operation_id="sendLogLine",
        request=LogLine,
        responses={204: OpenApiResponse(None, description="Taken.")},
        tags=["logs"],
    )
    def post(self, request: Request) -> Response:
        """Take a line of a frontend's log, which is one line of ours at level debug."""
        fields = views.body(request, LogLine)
        sent = views.json_body(request)
        context = {name: value for name, value in sent.items() if name not in fields}
        log.debug(
            "frontend_line",
            request_id=envelope.request_id(),
            line_level=fields.get("level", ""),
            message=foreign_text.clean(fields.get("message", ""))[:MAX_TEXT],
            context=foreign_text.clean(json.dumps(context, ensure_ascii=False))[:MAX_CONTEXT],
        )
        return Response(status=204)


class LogStatistics(View):
    roles = ONLY_OPERATORS

    @extend_schema(
        operation_id="countLogs", parameters=[LogPeriod], responses={200: LogStats}, tags=["logs"]
    )
    def get(self, request: Request) -> Response:
        """Count the lines of each level."""
        lines = log_files.read_logs(filter_of(views.query(request, LogPeriod)))
        body: LogStats = {
            "stats": [{"level": level, "count": n} for level, n in lines.count_by_level().items()],
            "complete": lines.complete,
        }
        return Response(body)


class LogErrors(View):
    roles = ONLY_OPERATORS

    @extend_schema(
        operation_id="listRecentErrors",
        parameters=[RecentErrors],
        responses={200: LogList},
        tags=["logs"],
    )
    def get(self, request: Request) -> Response:
        """List the newest errors."""
        limit = views.query(request, RecentErrors)["limit"]
        selection = LogFilter(levels=frozenset({"error", "critical"}))
        return Response(log_list(log_files.read_logs(selection).entries[:limit]))


class LogsOfRequest(View):
    roles = ONLY_OPERATORS

    @extend_schema(
        operation_id="listLogsOfRequest",
        parameters=[
            OpenApiParameter(
                "request_id",
                str,
                OpenApiParameter.PATH,
                description="As in the header `X-Request-Id` of the response.",
            )
        ],
        responses={200: LogList},
        tags=["logs"],
    )
    def get(self, request: Request, request_id: str) -> Response:
        """List the lines of one request, the first one first."""
        if not envelope.ID.fullmatch(request_id):
            message = _("%s is not the id of a request.") % request_id[:60]
            raise views.invalid("path.requestId", message)
        lines = log_files.read_logs(LogFilter(request_id=request_id)).entries
        return Response(log_list(lines[:MAX_ENTRIES][::-1]))


def filter_of(params: Mapping[str, Any]) -> LogFilter:
    """Return the filter that checked parameters select."""
    levels = {"warning" if word == "warn" else word for word in params.get("level", ())}
    return LogFilter(
        levels=frozenset(levels),
        request_id=params.get("requestId", ""),
        search=params.get("search", ""),
        start=params.get("startDate"),
        end=params.get("endDate"),
    )


def log_list(lines: Sequence[LogEntry]) -> LogList:
    return {"logs": entries(lines), "count": len(lines)}


def entries(lines: Sequence[LogEntry]) -> list[LogEntryJSON]:
    """Represent lines, without secrets."""
    return [entry_json(entry, entry.shown) for entry in lines]


def entry_json(entry: LogEntry, shown: Mapping[str, Any]) -> LogEntryJSON:
    return {
        "timestamp": entry.at,
        "level": entry.level,
        "message": str(shown.get("event", "")),
        "requestId": str(shown.get("request_id") or "") or None,
        "logger": str(shown.get("logger") or "") or None,
        "source": entry.source,
        "metadata": {name: value for name, value in shown.items() if name not in log_files.COMMON},
    }
