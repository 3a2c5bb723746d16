"""Measure every page with a million runs, ten thousand jobs and a certification of every pair
stored: how many queries it makes, and how long the server takes.

    python -m bench.pages [--repeat 15] [--json] [--runs 1000000]

Each page is requested from the product's own handler, middleware and login included, in this
process; a bare Django view with one query takes turns with them, and is the baseline. Queries are
those of a request with nothing cached, without those of every page: the login (session, user,
groups), and what the header says.
Takes about three minutes, storing the runs included. With MYIA_ROOT naming a folder they stay there
for the next time.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.test.client import ClientHandler
from django.test.utils import override_settings
from django.urls import ResolverMatch

from bench import dataset, harness
from bench.api_reading import RUNS, TINY_RUNS
from bench.harness import Row
from certification.certificates import keys
from certification.engine import certificates
from certification.lib import clock
from certification.models import Certificate, CertificationJob, ModelCertification, User
from certification.web import job_detail

LOGIN_TABLES = ('"certification_session"', '"certification_user"', '"auth_group"')
HOST = "localhost"


class Page(NamedTuple):
    """A page by name and path, with the queries and the milliseconds that it may take."""

    name: str
    path: str
    queries: int
    ms: float
    headers: dict[str, str] = {}


class Sample(NamedTuple):
    """Milliseconds of a request: by the clock, and of this process's CPU."""

    wall: float
    cpu: float


class Timing(NamedTuple):
    p50: float
    p95: float
    cpu: float  # median


def rows(options: Namespace) -> list[Row]:
    """Return the time and the queries of each page, the bare view's time as the baseline."""
    runs = TINY_RUNS if options.tiny else getattr(options, "runs", RUNS)
    seconds = dataset.fill(runs)
    if seconds:
        print(f"{runs} runs stored in {seconds:.0f} s", file=sys.stderr)
    client = logged_in()
    measured = pages()
    queries = {page.name: count_queries(client, page) for page in measured}
    times = time_pages(client, measured, options.repeat)
    bare = times["bare"]
    result = []
    for page in measured:
        timing, ratio = times[page.name], times[page.name].p50 / bare.p50
        note = f"p95 {timing.p95:.1f} ms, CPU {timing.cpu:.1f} ms; {ratio:.0f} x a bare view"
        result += [
            Row(f"{page.name}: time", timing.p50, "ms", page.ms, bare.p50, note),
            Row(f"{page.name}: queries", queries[page.name], "", page.queries),
        ]
    return result


def logged_in() -> Client:
    """Return a client with an operator's session."""
    user = User.objects.filter(email="operator@bench.example").first()
    user = user or User.objects.create_user("operator@bench.example", None, role="operator")
    client = Client(SERVER_NAME=HOST)
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


def pages() -> list[Page]:
    """Return the pages, each with the budget that the design gives it."""
    sweep = CertificationJob.objects.order_by("-total_runs").first()
    old = CertificationJob.objects.order_by("created_at").first()
    pair = ModelCertification.objects.select_related("model", "run").order_by("-pk").first()
    if sweep is None or old is None or pair is None:
        raise SystemExit("Nothing is stored; give --runs a number.")
    other = ModelCertification.objects.filter(model=pair.model).exclude(pk=pair.pk)[:1].get()
    model, code = pair.model.api_model_id, certificate_of(pair).code
    compared = urlencode({"a": f"{model}@{pair.region_id}", "b": f"{model}@{other.region_id}"})
    start = urlencode({"model": model, "where": "anywhere"})
    poll = {"HX-Request": "true", "Page-Version": job_detail.version(sweep, clock.now())}
    address = quote(model, safe=":")
    return [
        Page("overview", "/", 10, 150),
        Page("matrix", "/matrix/", 6, 300),
        Page("matrix as a map", "/matrix/?size=map", 6, 300),
        Page("start", f"/jobs/new/?{start}", 8, 200),
        Page("jobs", "/jobs/", 5, 150),
        Page("jobs with a filter", f"/jobs/?q={address}&tier=quick", 5, 150),
        Page("job of 100 runs", f"/jobs/{old.pk}/", 7, 200),
        Page("job of a sweep", f"/jobs/{sweep.pk}/", 7, 200),
        Page("poll of that job", f"/jobs/{sweep.pk}/", 7, 50, poll),
        Page("certification", f"/certifications/{address}/{pair.region_id}/", 7, 150),
        Page("run", f"/runs/{pair.run_id}/", 4, 150),
        Page("run, a case open", f"/runs/{pair.run_id}/?case=G01", 4, 150),
        Page("compare", f"/compare/?{compared}", 4, 200),
        Page("search", f"/search/?q={address}", 10, 100),
        Page("certificate", f"/certificates/{code}/", 2, 50),
        Page("verify", f"/verify/?code={code}", 2, 50),
        Page("badges", "/badges/", 3, 50),
        Page("public model", f"/m/{address}/", 3, 50),
        Page("account", "/account/", 5, 100),
    ]


def certificate_of(pair: ModelCertification) -> Certificate:
    """Return the certificate of a pair, issued if need be."""
    return Certificate.objects.filter(run=pair.run).first() or issued(pair)


def issued(pair: ModelCertification) -> Certificate:
    certificate = certificates.issue(pair, keys.signing_key())
    if certificate is None:
        raise SystemExit("Another process has just issued the certificate; run this again.")
    return certificate


def count_queries(client: Client, page: Page) -> int:
    """Count the queries of one request with nothing cached. SystemExit for an answer that is no
    page.
    """
    harness.purge()
    statements: list[str] = []

    def record(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        statements.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(record):
        request(client, page)
    return sum(not is_of_frame(statement) for statement in statements)


def is_of_frame(statement: str) -> bool:
    """Return whether every page makes this query."""
    is_login = any(f"FROM {table}" in statement[:2000] for table in LOGIN_TABLES)
    return is_login or "AS read_only" in statement


def request(client: Client, page: Page) -> None:
    response = client.get(page.path, headers=page.headers)
    if response.status_code not in (200, 204):
        raise SystemExit(f"{page.path} answered {response.status_code}.")


def time_pages(client: Client, measured: list[Page], repeat: int) -> dict[str, Timing]:
    """Return the times by name, the bare view's as "bare". Pages and view take turns."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    bare = bare_view()
    for _ in range(repeat + 1):
        for page in measured:
            with timed(samples["bare"]):
                bare()
            with timed(samples[page.name]):
                request(client, page)
    return {name: timing(values) for name, values in samples.items()}


def timing(samples: list[Sample]) -> Timing:
    """Return the figures of all but the first sample, which loads what the others find loaded."""
    warm = [sample.wall for sample in samples[1:]]
    p95 = quantiles(warm, n=20)[-1] if len(warm) > 1 else warm[0]
    return Timing(median(warm), p95, median(sample.cpu for sample in samples[1:]))


@contextmanager
def timed(samples: list[Sample]) -> Iterator[None]:
    started, cpu = time.perf_counter(), time.process_time()
    yield
    samples.append(
        Sample(1000 * (time.perf_counter() - started), 1000 * (time.process_time() - cpu))
    )


def bare_view() -> Callable[[], object]:
    """Return a request of a view that makes one query, without any middleware."""
    client = Client(SERVER_NAME=HOST)
    client.handler = BareHandler()
    with override_settings(MIDDLEWARE=[]):
        client.handler.load_middleware()
    return lambda: client.get("/")


class BareHandler(ClientHandler):
    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        return ResolverMatch(one_query, (), {})


def one_query(request: HttpRequest) -> HttpResponse:
    certifications = ModelCertification.objects.order_by("pk").values_list("pk", "status")[:20]
    return HttpResponse(str(list(certifications)))


if __name__ == "__main__":
    harness.run(rows, harness.parser(__doc__, repeat=15).parse_args())
