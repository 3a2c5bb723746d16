"""What the benchmarks share: emulators with one latency, real workers, a job to measure, CPU by
part, and the report.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import psutil
import redis
from rich.console import Console
from rich.table import Table

from bench.environment import QUEUE, ROOT
from certification.engine import dispatch
from certification.engine.dispatch import CertifyOptions
from certification.inference import API
from certification.models import (
    AIModel,
    CertificationJob,
    Region,
    Route,
    TestResult,
    Tier,
)
from certification.stack import embedded, programs, temporary
from certification.stack.control import files
from certification.stack.processes import NotReady, Processes


@dataclass(frozen=True)
class Row:
    """One line of the report. Without a goal the figure is reported and not promised. `baseline` is
    the same figure of the simplest program that does the work; `note` says what the figure rests
    on.
    """

    what: str
    measured: float
    unit: str
    goal: float | None = None
    baseline: float | None = None
    note: str = ""
    goal_is_maximum: bool = True

    @property
    def holds(self) -> bool | None:
        if self.goal is None:
            return None
        if self.goal_is_maximum:
            return self.measured <= self.goal
        return self.measured >= self.goal


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table for the terminal."""
    headings = ("what", "measured", "goal", "baseline", "", "details")
    result = Table(*headings, title="Measured", title_justify="left")
    for row in rows:
        sign = "<=" if row.goal_is_maximum else ">="
        result.add_row(
            row.what,
            f"{row.measured:.4g} {row.unit}",
            "" if row.goal is None else f"{sign} {row.goal:.4g}",
            "" if row.baseline is None else f"{row.baseline:.4g}",
            {True: "holds", False: "MISSED", None: ""}[row.holds],
            row.note,
        )
    return result


def parser(doc: str | None, *, repeat: int = 3) -> ArgumentParser:
    """Return a parser with the options of every benchmark."""
    result = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    result.add_argument("--json", action="store_true", help="print one JSON document")
    result.add_argument(
        "--repeat", type=int, default=repeat, help="measurements to take the median of"
    )
    result.add_argument(
        "--tiny",
        action="store_true",
        help="as small as possible: shows that it works, measures nothing",
    )
    return result


def run(measure: Callable[[Namespace], list[Row]], options: Namespace) -> None:
    """Measure and print. SystemExit when something could not be started."""
    try:
        prepare()
        description, rows = machine(), measure(options)
    except NotReady as error:
        raise SystemExit(str(error)) from error
    if options.json:
        print(
            json.dumps(
                {
                    "machine": description,
                    "rows": [asdict(row) | {"holds": row.holds} for row in rows],
                }
            )
        )
    else:
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(table(rows))
        console.print(description)


def prepare() -> None:
    """Create the tables, load the catalogue, remove what an earlier measurement left."""
    temporary.database()
    for job in CertificationJob.objects.open():
        job.cancel("Left over from an earlier measurement.")
    purge()


def purge() -> None:
    """Delete all messages: none of one measurement may reach the workers of the next."""
    redis.Redis.from_url(embedded.urls(ROOT).redis_url).flushdb()


@contextlib.contextmanager
def emulators(count: int, latency_ms: float | None) -> Iterator[list[str]]:
    """Run emulators, each in a process of its own, whose calls take exactly `latency_ms` (None: as
    recorded); yield their URLs.
    """
    with Processes(files().logs) as processes:
        started = [
            processes.start_emulator(time_scale=1, fixed_latency_ms=latency_ms)
            for _ in range(count)
        ]
        Cpu.members["emulator"] = [process.pid for _url, process in started]
        try:
            yield [url for url, _process in started]
        finally:
            Cpu.members["emulator"] = []


@contextlib.contextmanager
def workers(
    urls: Sequence[str], runs_at_once: int, calls_in_flight: int, queues: Sequence[str] = ()
) -> Iterator[list[int]]:
    """Run worker processes that share these limits evenly, one for each emulator in `urls`; yield
    their pids.

    They take every queue, or worker i takes the queues named in `queues[i]`.
    """

    count = len(urls)
    taken = [names.split(",") for names in queues or [f"{QUEUE}.bulk,{QUEUE},maintenance"] * count]
    with Processes(files().logs) as processes:
        for i, url in enumerate(urls):
            concurrency = share(runs_at_once, count, i)
            env = {
                "BEDROCK_ENDPOINT_URL": url,
                "CERTIFICATION_CONCURRENCY": str(concurrency),
                "CERTIFICATION_CALLS_IN_FLIGHT": str(share(calls_in_flight, count, i)),
                "LOG_LEVEL": "INFO",
            }
            processes.start(
                programs.worker(f"bench-worker-{i}", taken[i], concurrency=concurrency, env=env)
            )
        for name in {names[0] for names in taken}:
            temporary.wait_for_workers(name, processes, sum(name in names for names in taken))
        Cpu.members["worker"] = [process.pid for process in processes.running]
        try:
            yield Cpu.members["worker"]
        finally:
            Cpu.members["worker"] = []


def share(total: int, among: int, position: int) -> int:
    """Return one of `among` parts of `total`; the parts differ by one at most and add up."""
    return total // among + (position < total % among)


def pairs(count: int, regions: Sequence[str] = ()) -> list[tuple[AIModel, Region]]:
    """Return up to `count` pairs of text models that take the whole quick tier, in the regions that
    offer most of them.
    """
    needed = {"system", "tools"}
    models = [
        m for m in AIModel.objects.active().filter(kind="text") if needed <= set(m.capabilities)
    ]
    enabled = Region.objects.filter(enabled=True)
    offered = dispatch.offered_pairs(
        models, enabled.filter(code__in=regions) if regions else enabled
    )
    callable_ = set(Route.objects.filter(api=API.CONVERSE).values_list("model_id", "region_id"))
    by_region: dict[str, list[tuple[AIModel, Region]]] = {}
    for pair in offered:
        if (pair[0].pk, pair[1].pk) in callable_:
            by_region.setdefault(pair[1].code, []).append(pair)
    ranked = sorted(by_region.values(), key=len, reverse=True)
    return [pair for group in ranked for pair in group][:count]


@dataclass(frozen=True)
class Cpu:
    """CPU seconds used so far, user and system, by part of the stack."""

    members: ClassVar[dict[str, list[int]]] = {"worker": [], "emulator": []}

    seconds: Mapping[str, float]

    @classmethod
    def now(cls) -> Cpu:
        used = {part: sum(cpu_seconds(pid) for pid in pids) for part, pids in cls.members.items()}
        for server in embedded.status(ROOT):
            used[server.name] = cpu_seconds(server.pid, with_children=True) if server.pid else 0.0
        return cls(used)

    def since(self, earlier: Cpu) -> dict[str, float]:
        """Return the seconds used between two readings."""
        return {part: self.seconds[part] - earlier.seconds.get(part, 0.0) for part in self.seconds}


def cpu_seconds(pid: int, with_children: bool = False) -> float:
    """Return the CPU seconds a process has used; 0 when it has ended."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        total = times.user + times.system
        if with_children:  # those that ended are in the parent's own account
            total += times.children_user + times.children_system
            total += sum(cpu_seconds(child.pid, True) for child in process.children())
    except psutil.NoSuchProcess:
        return 0.0
    return total


def machine() -> str:
    """Describe the processor, its cores, and how busy other programs are."""
    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), ""
        )
    busy = psutil.cpu_percent(interval=1.0)
    version = ".".join(map(str, sys.version_info[:3]))
    return (
        f"{psutil.cpu_count()} cores ({model or sys.platform}), {busy:.0f} % busy with other work, "
        f"Python {version}"
    )


def certify(
    chosen: Sequence[tuple[AIModel, Region]], priority: str = "bulk", tier: str = Tier.QUICK
) -> CertificationJob:
    """Start a job for these pairs, as a page or an endpoint does."""
    return dispatch.certify(chosen, CertifyOptions(tier=tier, priority=priority)).job


def follow(
    job: CertificationJob, patience_s: float = 600, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Wait until the job has ended, and read its row again. SystemExit after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while True:
        job.refresh_from_db()
        if job.completed_at:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"{job} did not end within {patience_s:g} s.")
        meanwhile()
        time.sleep(0.2)


def count_delayed_calls(job: CertificationJob, latency_ms: float) -> int:
    """Count the calls of a job that took the latency. The emulator refuses wrong requests at once,
    as AWS does.
    """
    trials = TestResult.objects.filter(run__job=job).values_list("trials", flat=True).iterator()
    totals = (
        call["timing"]["total"] for result in trials for trial in result for call in trial["calls"]
    )
    return sum(total >= latency_ms for total in totals)


def deviations(job: CertificationJob) -> str:
    """Return the runs that were not certified, counted by reason; empty when all were."""
    rows = job.runs.exclude(verdict="certified").values_list("error_reason", "verdict", "status")
    reasons = [reason or verdict or status for reason, verdict, status in rows]
    return ", ".join(f"{reasons.count(r)} x {r}" for r in sorted(set(reasons)))
