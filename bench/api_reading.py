"""Measure how fast the API is read with a million runs stored: certifications, the matrix, badges;
uncached, cached, and not modified.

    python -m bench.api_reading [--repeat 3] [--json] [--runs 1000000]

The web command of the product with two processes, no limit of reads, and its logs written as in
production. Uncached: nothing is cached between requests (API_CACHE_SECONDS=0). Not modified: the
client sends the ETag and gets 304. The baselines are a bare Django view and a bare FastAPI endpoint
that do one query for the same rows, two processes each, without authentication. The load comes from
a process of its own with keep-alive connections, on the same machine; every request has a token,
which is checked each time.

Takes about two minutes, storing the runs included. With MYIA_ROOT naming a folder they stay there
for the next time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.message import Message
from statistics import median

from bench import dataset, harness
from bench.environment import PROJECT, ROOT
from bench.harness import Row
from certification.api import tokens
from certification.models import AIModel, ModelCertification, User
from certification.stack import embedded, programs
from certification.stack.control import files
from certification.stack.processes import Processes, Program
from certification.stack.programs import run_module

RUNS, TINY_RUNS = 1_000_000, 5_000
PER_SECOND, P99_MS = 500, 50
CONNECTIONS, TINY_CONNECTIONS = 8, 2
START_S = 60
MODELS, TINY_MODELS = 40, 4  # requested in turn
Request = tuple[str, dict[str, str]]


@dataclass(frozen=True)
class Measurement:
    """What the load generator measured; `unexpected` counts answers with another status than
    expected and broken connections.
    """

    per_second: float
    p50: float
    p99: float
    unexpected: int

    @property
    def note(self) -> str:
        return f"p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms, {self.unexpected} unexpected answers"


def rows(options: Namespace) -> list[Row]:
    """Return answers per second, the bare Django view as the baseline, and the promised p99."""
    runs = TINY_RUNS if options.tiny else getattr(options, "runs", RUNS)
    seconds = dataset.fill(runs)
    message = f"{runs} runs stored in {seconds:.0f} s" if seconds else f"{runs} runs already stored"
    print(message, file=sys.stderr)
    paths = request_paths(TINY_MODELS if options.tiny else MODELS)
    models = [
        path.partition("modelId=")[2].partition("&")[0]
        for path in paths["certifications of a model"]
    ]
    bare = {}
    for name, program, port in baseline_servers():
        with serve(program, port):
            bare[name] = load(options, port, [(f"/?model={model}", {}) for model in models])
    django, fastapi = bare["Django"], bare["FastAPI"]
    result, p99 = [], []
    for (what, how), measured in measure(options, paths).items():
        is_promised = what != "matrix" and how == "cached"
        result.append(
            Row(
                f"{what}, {how}",
                measured.per_second,
                "/s",
                PER_SECOND if is_promised else None,
                django.per_second,
                f"{measured.note}; baseline: a bare Django view (p99 {django.p99:.1f} ms); "
                f"bare FastAPI {fastapi.per_second:.0f}/s (p99 {fastapi.p99:.1f} ms)",
                goal_is_maximum=False,
            )
        )
        if is_promised:
            name = f"{what}, {how}: 99 of 100 within"
            p99.append(Row(name, measured.p99, "ms", P99_MS, django.p99, measured.note))
    return result + p99


def request_paths(count: int) -> dict[str, list[str]]:
    """Return the paths to request, `count` of each kind, by what they return."""
    certified = ModelCertification.objects.order_by().values("model").distinct()
    ids = list(
        AIModel.objects.filter(pk__in=certified).values_list("api_model_id", flat=True)[:count]
    )
    base = "/api/certification-queue/certifications"
    return {
        "certifications of a model": [f"{base}?modelId={model}&limit=100" for model in ids],
        "a page of all certifications": [
            f"{base}?page={page}&limit=20" for page in range(1, count + 1)
        ],
        "matrix": ["/api/matrix"],
        "badge": [f"/badges/{model}/us-east-1.svg" for model in ids],
    }


def measure(
    options: Namespace, paths: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], Measurement]:
    """Measure the product, by what is requested and how."""
    user = User.objects.filter(email="reader@bench.example").first()
    user = user or User.objects.create_user("reader@bench.example", None, role="viewer")
    headers = {"Authorization": f"Bearer {tokens.issue(user)}"}
    result: dict[tuple[str, str], Measurement] = {}
    with serve(*web(options, API_CACHE_SECONDS="0", BADGE_CACHE_SECONDS="0")) as port:
        for what, group in paths.items():
            warm_up(port, group[0], headers)
            result[what, "uncached"] = load(options, port, [(path, headers) for path in group])
    with serve(*web(options)) as port:
        for what, group in paths.items():
            warm_up(port, group[0], headers)
            etags = {path: str(fetch(port, path, headers)["ETag"]) for path in group}
            known = [(path, {**headers, "If-None-Match": etags[path]}) for path in group]
            result[what, "cached"] = load(options, port, [(path, headers) for path in group])
            result[what, "not modified (304)"] = load(options, port, known, expected="304")
    return result


def load(
    options: Namespace, port: int, requests: Sequence[Request], expected: str = "200"
) -> Measurement:
    """Return the median of the repetitions."""
    seconds, warm_up = ("0.05", "0") if options.tiny else ("3", "1")
    connections = TINY_CONNECTIONS if options.tiny else CONNECTIONS
    command = [sys.executable, "-m", "bench.load", "--port", str(port), "--seconds", seconds]
    command += ["--warm-up", warm_up, "--connections", str(connections)]
    samples = []
    for _ in range(options.repeat):
        process = subprocess.run(
            command,
            cwd=PROJECT,
            input=json.dumps(requests),
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode:
            raise SystemExit(process.stderr)
        output = json.loads(process.stdout)
        others = sum(n for status, n in output["statuses"].items() if status != expected)
        unexpected = others + output["broken"]
        samples.append((output["perSecond"], output["p50"], output["p99"], unexpected))
    return Measurement(*(median(values) for values in zip(*samples, strict=True)))


def warm_up(port: int, path: str, headers: Mapping[str, str]) -> None:
    """Request a few times what is measured next: the first answers of a new process wait for its
    database connections, on a crowded machine so long that they are a 503.
    """
    for _ in range(4):
        fetch(port, path, headers)


def fetch(port: int, path: str, headers: Mapping[str, str]) -> Message:
    """Return the headers of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=dict(headers))
        return connection.getresponse().headers
    finally:
        connection.close()


def free_port() -> int:
    """Return a port that no program uses."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def web(options: Namespace, **env: str) -> tuple[Program, int]:
    """Return the web program of the stack on a port of its own."""
    port = free_port()
    program = programs.web(port, processes=1 if options.tiny else 2)
    limits = {"API_READS_PER_MINUTE": "0", "LOG_LEVEL": "INFO", **env}
    return replace(program, name="bench-web", env=limits), port


def baseline_servers() -> Iterator[tuple[str, Program, int]]:
    """Yield the baselines, with as many processes: name, program, port."""
    env = {"DATABASE_URL": embedded.urls(ROOT).database_url}
    port = free_port()
    argv = run_module(
        "gunicorn bench.api_baseline:django --config python:bench --worker-class gthread "
        f"--workers 2 --threads 16 --bind 127.0.0.1:{port} --no-control-socket --log-level warning"
    )
    yield "Django", Program("bench-django", argv, env=env, drain_seconds=20), port
    port = free_port()
    argv = run_module(
        "uvicorn bench.api_baseline:fast --workers 2 --no-access-log --log-level warning "
        f"--port {port}"
    )
    yield "FastAPI", Program("bench-fastapi", argv, env=env), port


@contextlib.contextmanager
def serve(program: Program, port: int) -> Iterator[int]:
    """Run the program for the block, which starts once it answers on the port. Raises NotReady when
    it does not within START_S.
    """
    answered = 0

    def has_answered() -> bool:
        nonlocal answered
        with contextlib.suppress(OSError, http.client.HTTPException):
            fetch(port, "/", {})
            answered += 1
        # each process answers its first request late, and may not be there yet
        return answered >= 8

    with Processes(files().logs) as processes:
        processes.start(program)
        processes.wait_until(has_answered, program.name, seconds=START_S)
        yield port


if __name__ == "__main__":
    parser = harness.parser(__doc__, repeat=1)
    parser.add_argument("--runs", type=int, default=RUNS, help="runs to have stored")
    harness.run(rows, parser.parse_args())
