"""Measure /metrics with a million runs stored, certifications of every pair, and the counters of
processes that have answered on every route of pages and API and called every region.

    python -m bench.metrics [--repeat 15] [--json] [--runs 1000000]

What counts is the CPU of the process that answers: Prometheus asks every 15 s. The baseline is the
client library alone, writing as many series that are in memory already.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from statistics import median

from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from bench import dataset, harness
from bench.api_reading import RUNS, TINY_RUNS
from bench.harness import Row
from certification.engine import calls
from certification.inference import Operation
from certification.lib import request_metrics, shared_cache
from certification.lib.counters import Counters, Histogram
from certification.models import Region

ADDRESS, HOST = "/metrics", "localhost"
GOAL_MS, GOAL_BYTES = 100, 2_000_000
STATUSES, OUTCOMES = ("200", "304", "404", "500"), ("ok", "throttled_requests", "timeout")


def rows(options: Namespace) -> list[Row]:
    """Return what a scrape costs: the first one, those while nothing has changed, and those after
    a certification has.
    """
    runs = TINY_RUNS if options.tiny else getattr(options, "runs", RUNS)
    if seconds := dataset.fill(runs):
        print(f"{runs} runs stored in {seconds:.0f} s", file=sys.stderr)
    count_everything()
    client = Client(SERVER_NAME=HOST)
    client.get("/live")  # whoever is asked for metrics has its pages loaded
    shared_cache.begin_generation()
    first, body = scrape(client)
    same = [scrape(client)[0] for _ in range(options.repeat)]
    anew = []
    for _ in range(options.repeat):
        shared_cache.begin_generation()
        anew.append(scrape(client)[0])
    series = sum(not line.startswith(b"#") for line in body.splitlines())
    bare = median(bare_library(series) for _ in range(options.repeat))
    note = f"CPU; {series} series"
    return [
        Row("metrics: first scrape", first, "ms", None, bare, note),
        Row("metrics: scrape, nothing changed", median(same), "ms", GOAL_MS, bare, note),
        Row("metrics: scrape, certifications changed", median(anew), "ms", GOAL_MS, bare, note),
        Row("metrics: size", len(body), "bytes", GOAL_BYTES),
    ]


def scrape(client: Client) -> tuple[float, bytes]:
    """Return the milliseconds of this process's CPU that a scrape takes, and its answer."""
    began = time.process_time()
    response = client.get(ADDRESS)
    used = time.process_time() - began
    if response.status_code != 200:
        raise SystemExit(f"{ADDRESS} answered {response.status_code}.")
    return 1000 * used, response.content


def bare_library(series: int) -> float:
    """Return the milliseconds of CPU that the client library takes for so many gauges."""
    registry = CollectorRegistry()
    gauge = Gauge("bench", "Of nothing", ["model", "region"], registry=registry)
    for number in range(series):
        gauge.labels(f"model-{number}", "us-east-1").set(number)
    began = time.process_time()
    generate_latest(registry)
    return 1000 * (time.process_time() - began)


def count_everything() -> None:
    """Count requests of every route but the admin's and calls in every region, in each bucket of
    their times.
    """
    process = Counters()
    every = {route for route in routes(get_resolver().url_patterns) if "admin/" not in route}
    for route, status in product(every, STATUSES):
        labels = {"endpoint": route, "method": "GET"}
        process.add(request_metrics.REQUESTS, {**labels, "status": status})
        observe_all(process, request_metrics.DURATION, labels)
    regions = Region.objects.enabled().values_list("pk", flat=True)
    for region, operation in product(regions, Operation):
        labels = {"region": region, "operation": str(operation)}
        for outcome in OUTCOMES:
            process.add(calls.CALLS, {**labels, "outcome": outcome})
        observe_all(process, calls.DURATION, labels)
        observe_all(process, calls.FIRST_TOKEN, labels)
    process.flush()


def observe_all(process: Counters, histogram: Histogram, labels: Mapping[str, str]) -> None:
    for seconds in (*histogram.edges, 2 * histogram.edges[-1]):
        process.observe(histogram, seconds, labels)


def routes(patterns: Sequence[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    """Yield the routes of all views, as metrics name them."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        else:
            yield route


if __name__ == "__main__":
    options = harness.parser(__doc__, repeat=15)
    options.add_argument("--runs", type=int, default=RUNS)
    harness.run(rows, options.parse_args())
