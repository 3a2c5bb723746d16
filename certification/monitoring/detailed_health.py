"""What operators look at when something is slow or full: each part read by itself, side by side,
and cut after a second.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from typing import Any

import psutil
from django.conf import settings
from django.db import connection

from certification.lib import clock, counters, redis_client, request_metrics
from certification.lib.counters import INFINITE
from certification.lib.database import returning_connection
from certification.lib.postgresql import replica
from certification.lib.redis_client import Purpose
from certification.models import sql
from certification.monitoring import queue_stats
from certification.monitoring.checks import Reading

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def database() -> Mapping[str, Any]:
    """Return which server answers, connections by state, long queries, sizes, dead rows, and how
    far it is from wraparound. Raises DatabaseError.
    """
    with returning_connection():
        facts = dict(sql.fetch_one(sql.DATABASE_FACTS) or {})
        info = connection.connection.info
        states = sql.fetch_all(sql.CONNECTION_STATES)
        return {
            **facts,
            "server": f"{info.host}:{info.port}",
            "connections": {row["state"]: row["n"] for row in states},
            "slow_queries": sql.fetch_all(sql.LONG_QUERIES),
            "tables": sql.fetch_all(sql.LARGEST_TABLES),
        }


def redis() -> Mapping[str, Any]:
    """Return memory, clients, operations and what is stored. Raises UNAVAILABLE."""
    client = redis_client.client(Purpose.BROKER)
    info = client.info()
    names = {
        "memory_used": "used_memory",
        "maxmemory": "maxmemory",
        "connected_clients": "connected_clients",
        "ops_per_sec": "instantaneous_ops_per_sec",
        "evicted": "evicted_keys",
        "append_only": "aof_enabled",
        "last_save": "rdb_last_save_time",
    }
    return {ours: info.get(theirs) for ours, theirs in names.items()} | {"keys": client.dbsize()}


def workers() -> Mapping[str, Any]:
    """Return the workers that answer and what they have to do. Raises what servers raise."""
    with returning_connection():
        counts = queue_stats.queue_counts()
    replies = queue_stats.ask_workers()
    return {
        "active": replies and [vars(reply) for reply in replies],
        "busy_runs": counts.active,
        "queue_size": counts.waiting + counts.delayed + counts.paused,
        "failed_runs": counts.failed,
        "oldest_waiting_seconds": counts.oldest_waiting_s,
    }


def api() -> Mapping[str, Any]:
    """Return what all web processes counted since counting began. Raises UNAVAILABLE."""
    requests = errors = seconds = 0.0
    buckets: dict[float, float] = {}
    for series, value in counters.read():
        if series.name == request_metrics.REQUESTS:
            requests += value
            is_error = dict(series.labels).get("status", "").startswith("5")
            errors += value if is_error else 0.0
        elif series.name == request_metrics.DURATION.name and series.le == "sum":
            seconds += value
        elif series.name == request_metrics.DURATION.name:
            edge = float("inf") if series.le == INFINITE else float(series.le)
            buckets[edge] = buckets.get(edge, 0.0) + value
    return {
        "requests": round(requests),
        "error_rate": errors / requests if requests else None,
        "average_response_time": seconds / requests if requests else None,
        **{name: quantile(buckets, part) for name, part in QUANTILES.items()},
    }


def quantile(buckets: Mapping[float, float], part: float) -> float | None:
    """Return the upper edge in seconds of the bucket in which this part of all is reached; None
    beyond the last edge, or of nothing.
    """
    total, reached = sum(buckets.values()), 0.0
    for edge in sorted(buckets):
        reached += buckets[edge]
        if reached >= part * total:
            return None if edge == float("inf") else edge
    return None


def machine() -> Mapping[str, Any]:
    """Return what this machine uses: CPU and disk in per cent, memory and traffic in bytes."""
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(settings.MYIA_ROOT)
    disk_io, network = psutil.disk_io_counters(), psutil.net_io_counters()
    return {
        "cpu_percent": psutil.cpu_percent(),
        "load": psutil.getloadavg(),
        "memory_available": memory.available,
        "memory_total": memory.total,
        "disk_free": disk.free,
        "disk_total": disk.total,
        "disk_read": disk_io and disk_io.read_bytes,
        "disk_written": disk_io and disk_io.write_bytes,
        "network_received": network and network.bytes_recv,
        "network_sent": network and network.bytes_sent,
        "open_files": psutil.Process().num_fds(),
        "clock_offset_seconds": round(clock.offset_s(), 1),
    }


def read_replica() -> Mapping[str, Any]:
    """Return how far the read replica is behind, in seconds, and whether it is read. Raises
    DatabaseError.
    """
    with returning_connection():
        is_used = replica.freshness.covers(0)
        behind_s = replica.freshness.behind_s()
    return {"behind_seconds": round(behind_s, 1) if math.isfinite(behind_s) else None,
            "is_used": is_used}  # fmt: skip


SECTIONS: tuple[Reading[Mapping[str, Any]], ...] = (
    Reading("database", database),
    Reading("redis", redis),
    Reading("workers", workers),
    Reading("api", api),
    Reading("machine", machine),
    *((Reading("replica", read_replica),) if replica.exists() else ()),
)
