"""How fast the API is read with a million runs stored: certifications, the matrix, badges; cold,
kept, and already known.

    python -m bench.api_reading [--repeat 3] [--json] [--runs 1000000]

The product's own web command with two processes, no limit of reads, and its logs written as in
production. Cold: nothing is kept between requests (API_CACHE_SECONDS=0). Known: the caller sends
the ETag and gets 304. Beside them a bare Django view and a bare FastAPI endpoint that do one query
for the same rows, two processes each, without asking who asks. The load comes from a process of its
own with keep-alive connections, on the same machine; every request has a token, which is checked
each time.

Takes some two minutes, the runs included. With MYIA_ROOT naming a folder they stay there for the
next time.
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
from dataclasses import dataclass
from email.message import Message
from statistics import median

from bench import dataset, harness
from bench.environment import PROJECT, ROOT
from bench.harness import Row
from certification.api import tokens
from certification.models import AIModel, ModelCertification, User
from certification.stack import embedded
from certification.stack.control import files
from certification.stack.processes import Processes, Program
from certification.stack.programs import programs, run_module

RUNS, TINY_RUNS = 1_000_000, 5_000
PER_SECOND, P99_MS = 500, 50
CONNECTIONS = 8
START_S = 60
MODELS = 40  # asked for in turn
Request = tuple[str, dict[str, str]]


@dataclass(frozen=True)
class Seen:
    """What the load generator told; `odd` are answers other than expected."""

    per_second: float
    p50: float
    p99: float
    odd: int

    @property
    def note(self) -> str:
        return f"p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms, {self.odd} odd answers"


def rows(given: Namespace) -> list[Row]:
    """Answers a second, with the bare Django view as the floor, and the two promised p99."""
    runs = TINY_RUNS if given.tiny else getattr(given, "runs", RUNS)
    took = dataset.fill(runs)
    print(
        f"{runs} runs stored in {took:.0f} s" if took else f"{runs} runs are there already",
        file=sys.stderr,
    )
    asked = questions()
    bare = {name: _bare(given, program, port) for name, program, port in bare_servers()}
    floor = bare["Django"].per_second
    beside = f"bare FastAPI {bare['FastAPI'].per_second:.0f}/s (p99 {bare['FastAPI'].p99:.1f} ms)"
    seen = measure(given, asked)
    found = [
        Row(
            f"{what}, {how}",
            one.per_second,
            "/s",
            PER_SECOND if _promised(what, how) else None,
            floor,
            f"{one.note}; floor: a bare Django view (p99 {bare['Django'].p99:.1f} ms); {beside}",
            most=False,
        )
        for (what, how), one in seen.items()
    ]
    late = [
        Row(f"{what}, {how}: 99 of 100 within", one.p99, "ms", P99_MS, bare["Django"].p99, one.note)
        for (what, how), one in seen.items()
        if _promised(what, how)
    ]
    return found + late


def _promised(what: str, how: str) -> bool:
    return what != "matrix" and how == "kept"


def questions() -> dict[str, list[str]]:
    """Paths by what they ask for."""
    certified = ModelCertification.objects.order_by().values("model").distinct()
    ids = list(
        AIModel.objects.filter(pk__in=certified).values_list("api_model_id", flat=True)[:MODELS]
    )
    base = "/api/certification-queue/certifications"
    return {
        "certifications of a model": [f"{base}?modelId={model}&limit=100" for model in ids],
        "a page of all certifications": [
            f"{base}?page={page}&limit=20" for page in range(1, MODELS + 1)
        ],
        "matrix": ["/api/matrix"],
        "badge": [f"/badges/{model}/us-east-1.svg" for model in ids],
    }


def measure(given: Namespace, asked: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], Seen]:
    """The product, by what is asked and how."""
    user = User.objects.filter(email="reader@bench.example").first()
    user = user or User.objects.create_user("reader@bench.example", None, role="viewer")
    headers = {"Authorization": f"Bearer {tokens.issue(user)}"}
    found: dict[tuple[str, str], Seen] = {}
    with served(*web(API_CACHE_SECONDS="0", BADGE_CACHE_SECONDS="0")) as port:
        for what, paths in asked.items():
            found[what, "cold"] = load(given, port, [(path, headers) for path in paths])
    with served(*web()) as port:
        for what, paths in asked.items():
            known = [
                (path, {**headers, "If-None-Match": _etag(port, path, headers)}) for path in paths
            ]
            found[what, "kept"] = load(given, port, [(path, headers) for path in paths])
            found[what, "known (304)"] = load(given, port, known, expected="304")
    return found


def load(given: Namespace, port: int, requests: Sequence[Request], expected: str = "200") -> Seen:
    """The median of the repetitions."""
    seconds, warm_up = ("0.3", "0.1") if given.tiny else ("3", "1")
    command = [
        sys.executable,
        "-m",
        "bench.load",
        "--port",
        str(port),
        "--seconds",
        seconds,
        "--warm-up",
        warm_up,
    ]
    command += ["--connections", str(CONNECTIONS)]
    seen = []
    for _ in range(given.repeat):
        done = subprocess.run(
            command,
            cwd=PROJECT,
            input=json.dumps(requests),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        told = json.loads(done.stdout)
        odd = (
            sum(count for status, count in told["statuses"].items() if status != expected)
            + told["broken"]
        )
        seen.append(Seen(told["perSecond"], told["p50"], told["p99"], odd))
    return Seen(
        *(
            median(values)
            for values in zip(*((s.per_second, s.p50, s.p99, s.odd) for s in seen), strict=True)
        )
    )


def _etag(port: int, path: str, headers: Mapping[str, str]) -> str:
    return str(_get(port, path, headers)["ETag"])


def _get(port: int, path: str, headers: Mapping[str, str]) -> Message:
    """The headers of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=dict(headers))
        return connection.getresponse().headers
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def web(**env: str) -> tuple[Program, int]:
    """The stack's web program on a port of its own."""
    port, [program] = free_port(), [program for program in programs() if program.name == "web"]
    argv = [f"127.0.0.1:{port}" if word.startswith("127.0.0.1:") else word for word in program.argv]
    limits = {"API_READS_PER_MINUTE": "0", "LOG_LEVEL": "INFO", **env}
    return Program("bench-web", tuple(argv), stage=2, env=limits, drain_seconds=20), port


def bare_servers() -> Iterator[tuple[str, Program, int]]:
    """The floors, with as many processes."""
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


def _bare(given: Namespace, program: Program, port: int) -> Seen:
    ids = [
        path.partition("modelId=")[2].partition("&")[0]
        for path in questions()["certifications of a model"]
    ]
    with served(program, port):
        return load(given, port, [(f"/?model={model}", {}) for model in ids])


@contextlib.contextmanager
def served(program: Program, port: int) -> Iterator[int]:
    """The program while it answers on the port. NotReady when it does not within START_S."""
    answered = 0

    def has_answered() -> bool:
        nonlocal answered
        with contextlib.suppress(OSError, http.client.HTTPException):
            _get(port, "/", {})
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
