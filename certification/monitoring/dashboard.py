"""A Grafana dashboard of our metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

COLUMNS, WIDTH, HEIGHT = 3, 8, 7  # of a grid of 24 columns
WINDOW = "5m"
SOURCE = {"type": "prometheus", "uid": "${source}"}


class Panel(NamedTuple):
    """A graph: its title, Grafana's name of its unit, and PromQL by legend, which may name labels
    as `{{label}}`.
    """

    title: str
    unit: str
    queries: dict[str, str]


def rate(metric: str, by: str = "") -> str:
    """Return a counter's rate a second; several web hosts give the same counters."""
    return f"sum by ({by}) (max without (instance) (rate({metric}[{WINDOW}])))"


def quantile(share: float, histogram: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', labels)})"


def mean(total: str) -> dict[str, str]:
    """Return what a run had of a total, by tier."""
    return {"{{tier}}": f"{rate(total, 'tier')} / {rate(RUNS, 'tier')}"}


def ratio(part: str, whole: str) -> str:
    return f"100 * {rate(part)} / {rate(whole)}"


REQUESTS, CALLS = "http_requests_total", "bedrock_calls_total"
REQUEST_S, CALL_S = "http_request_duration_seconds", "bedrock_call_duration_seconds"
RUNS = "certification_runs_total"
ROWS: dict[str, tuple[Panel, ...]] = {
    "Service": (
        Panel("Requests by status", "reqps", {"{{status}}": rate(REQUESTS, "status")}),
        Panel(
            "Requests that failed",
            "percent",
            {"5xx": ratio('http_requests_total{status=~"5.."}', REQUESTS)},
        ),
        Panel(
            "Time until an answer",
            "s",
            {f"p{n}": quantile(n / 100, REQUEST_S) for n in (50, 95, 99)},
        ),
    ),
    "Queue and workers": (
        Panel("Runs", "short", {"waiting": "max(queue_waiting)", "active": "max(queue_active)"}),
        Panel(
            "How long runs wait",
            "s",
            {
                "oldest": "max(queue_oldest_seconds)",
                "none has ended for": "max(queue_idle_seconds)",
            },
        ),
        Panel(
            "Workers",
            "short",
            {"alive": "max(workers_alive)", "queue paused": "max(queue_paused)"},
        ),
    ),
    "Certification": (
        Panel(
            "Runs that ended, by verdict",
            "short",
            {"{{status}} {{verdict}}": rate(RUNS, "status, verdict")},
        ),
        Panel(
            "Runs without a verdict, runs handed on",
            "percent",
            {
                "failed": ratio('certification_runs_total{status="FAILED"}', RUNS),
                "handed on": ratio("run_retries_total", RUNS),
            },
        ),
        Panel(
            "Mean time of a run",
            "s",
            mean("certification_run_seconds_total"),
        ),
        Panel(
            "Cost by the hour",
            "currencyUSD",
            {"{{backend}}": f"3600 * {rate('certification_cost_usd_total', 'backend')}"},
        ),
        Panel(
            "Calls of a run",
            "short",
            mean("certification_calls_total"),
        ),
        Panel(
            "Certifications that expire in three days",
            "short",
            {"expire": "max(certifications_expiring)"},
        ),
    ),
    "Bedrock by region": (
        Panel("Calls by outcome", "reqps", {"{{outcome}}": rate(CALLS, "outcome")}),
        Panel("Calls", "reqps", {"{{region}}": rate(CALLS, "region")}),
        Panel("Throttled", "reqps", {"{{region}}": rate("bedrock_throttles_total", "region")}),
        Panel(
            "Calls that failed",
            "percent",
            {"failed": ratio('bedrock_calls_total{outcome!="ok"}', CALLS)},
        ),
        Panel("Time of a call, p95", "s", {"{{region}}": quantile(0.95, CALL_S, "region")}),
        Panel(
            "Time to the first word, p95",
            "s",
            {"{{region}}": quantile(0.95, "bedrock_time_to_first_token_seconds", "region")},
        ),
    ),
    "Machine and servers": (
        Panel(
            "Disk in use",
            "percent",
            {"{{instance}}": "100 - 100 * disk_free_bytes / disk_size_bytes"},
        ),
        Panel(
            "Memory of Redis",
            "bytes",
            {"used": "max(redis_memory_bytes)", "limit": "max(redis_memory_limit_bytes)"},
        ),
        Panel(
            "Connections of the database",
            "short",
            {"used": "max(database_connections)", "allowed": "max(database_connections_allowed)"},
        ),
    ),
    "Alerts and routines": (
        Panel(
            "Open alerts",
            "short",
            {"{{rule}} {{severity}}": "max by (rule, severity) (alerts_open)"},
        ),
        Panel(
            "Time since a routine ended well",
            "s",
            {"{{routine}}": "time() - max by (routine) (routine_last_success_timestamp_seconds)"},
        ),
        Panel(
            "Messages about alerts",
            "cps",
            {"{{channel}} {{outcome}}": rate("alert_messages_total", "channel, outcome")},
        ),
        Panel(
            "Channels that fail",
            "short",
            {"{{channel}}": "max by (channel) (alert_channel_failures)"},
        ),
        Panel("Releases", "short", {"{{version}}": "count by (version) (build_info)"}),
    ),
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "title": "MyIA Certification",
        "uid": "myia-certification",
        "tags": ["myia"],
        "timezone": "browser",
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "schemaVersion": 39,
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": list(panels()),
    }


def panels() -> Iterator[dict[str, Any]]:
    """Yield the panels, row by row from the top."""
    number, y = 0, 0
    for title, row in ROWS.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS * WIDTH, "h": 1},
        }
        y += 1
        for index, panel in enumerate(row):
            number += 1
            x, line = index % COLUMNS, index // COLUMNS
            yield graph(panel, number, x * WIDTH, y + line * HEIGHT)
        y += HEIGHT * -(-len(row) // COLUMNS)


def graph(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": legend,
            }
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }
