"""A stack for measuring: embedded servers in a folder of their own, emulators of one latency, real workers; CPU by part.

`prepare` must run before Django's settings are imported: every bench calls it first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import django
import psutil

from certification.emulator import process as emulator
from certification.ops import embedded

if TYPE_CHECKING:
    from certification.models import AIModel, Region

FOREIGN = ("AWS_", "BEDROCK_", "CERTIFICATION_", "EMULATOR_", "DATABASE_", "REDIS_", "DJANGO_SETTINGS_MODULE")
QUEUE = "bench"


@contextlib.contextmanager
def prepared() -> Iterator[Path]:
    """Servers with the catalogue in an empty folder, Django ready; all of it gone after the block.

    MYIA_ROOT names another folder, which stays. Nothing else of the environment has a say.
    """
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            del os.environ[name]
    kept = os.environ.get("MYIA_ROOT")
    root = Path(kept or tempfile.mkdtemp(prefix="myia-bench-"))
    os.environ |= {
        "MYIA_ROOT": str(root), "BEDROCK_BACKEND": "emulator", "CERTIFICATION_QUEUE_NAME": QUEUE, "LOG_FORMAT": "json",
        "LOG_LEVEL": "WARNING", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "DJANGO_SETTINGS_MODULE": "myia.settings",
    }  # fmt: skip
    embedded.ensure(root)
    try:
        django.setup()
        _fill()
        yield root
    finally:
        _close()
        embedded.stop(root)
        if not kept:
            shutil.rmtree(root, ignore_errors=True)


def _fill() -> None:
    from certification.models import CertificationJob
    from certification.ops import borrowed

    borrowed.database()
    for job in CertificationJob.objects.open():
        job.cancel("Left over from an earlier measurement.")
    _purge()


def _purge() -> None:
    """No message of an earlier measurement may reach a worker of this one."""
    import redis
    from django.conf import settings

    redis.Redis.from_url(settings.REDIS_URL).flushdb()


def _close() -> None:
    from django.db import connections

    connections.close_all()


def servers(count: int, latency_ms: float) -> contextlib.AbstractContextManager[list[str]]:
    """URLs of `count` emulators, each a process, whose calls take exactly `latency_ms`."""
    return _emulators(count, latency_ms)


@contextlib.contextmanager
def _emulators(count: int, latency_ms: float) -> Iterator[list[str]]:
    started = []
    try:
        for _ in range(count):
            started.append(emulator.start(scenario="healthy", fixed_latency_ms=latency_ms))
            Cpu.members["emulator"].append(started[-1][1].pid)
        yield [url for url, _process in started]
    finally:
        for _url, process in started:
            process.terminate()
        for _url, process in started:
            process.wait()
        Cpu.members["emulator"].clear()


@contextlib.contextmanager
def workers(urls: Sequence[str], runs_at_once: int, calls_in_flight: int) -> Iterator[list[int]]:
    """Worker processes that share these limits evenly, one for each emulator named in `urls`. Their pids."""
    from certification.ops import borrowed
    from certification.ops.stack import Program

    count = len(urls)
    programs = [
        Program(
            name=f"bench-worker-{i}",
            argv=(
                *(sys.executable, "-m", "celery", "--quiet", "-A", "myia", "worker", "--pool", "threads"),
                *("--concurrency", str(share(runs_at_once, count, i)), "--queues", f"{QUEUE},{QUEUE}.bulk,maintenance"),
                *("--hostname", f"bench-{i}@%h", "--loglevel", "INFO", "--without-gossip", "--without-mingle"),
            ),
            stage=1,
            env={
                "WORKER_HEALTH_PORT": "0", "BEDROCK_ENDPOINT_URL": urls[i], "LOG_LEVEL": "INFO",
                "CERTIFICATION_CONCURRENCY": str(share(runs_at_once, count, i)),
                "CERTIFICATION_CALLS_IN_FLIGHT": str(share(calls_in_flight, count, i)),
            },
            drain_seconds=30,
        )
        for i in range(count)
    ]  # fmt: skip
    with borrowed.processes(programs) as running:
        borrowed.wait_for_workers(f"{QUEUE}.bulk", running, count)
        Cpu.members["worker"] = [process.pid for process in running]
        try:
            yield Cpu.members["worker"]
        finally:
            Cpu.members["worker"] = []


def share(total: int, among: int, position: int) -> int:
    """The part of `total` that falls to one of `among`; the parts differ by one at most and add up."""
    return total // among + (position < total % among)


def pairs(count: int, regions: Sequence[str] = ()) -> list[tuple[AIModel, Region]]:
    """`count` pairs of text models that take the whole quick tier, in the regions that offer most of them."""
    from certification.engine import dispatch
    from certification.models import AIModel, Region, Route, RouteKind

    needed = {"system", "tools"}
    models = [m for m in AIModel.objects.active().filter(kind="text") if needed <= set(m.capabilities)]
    enabled = Region.objects.filter(enabled=True)
    offered = dispatch.offered_pairs(models, enabled.filter(code__in=regions) if regions else enabled)
    callable_ = set(Route.objects.exclude(kind=RouteKind.MANTLE).values_list("model_id", "region_id"))
    by_region: dict[str, list[tuple[AIModel, Region]]] = {}
    for pair in offered:
        if (pair[0].pk, pair[1].pk) in callable_:
            by_region.setdefault(pair[1].code, []).append(pair)
    ranked = sorted(by_region.values(), key=len, reverse=True)
    found = [pair for group in ranked for pair in group][:count]
    if len(found) < count:
        raise SystemExit(f"The catalogue offers {len(found)} such pairs, not {count}.")
    return found


@dataclass(frozen=True)
class Cpu:
    """CPU seconds used so far, user and system, by part of the stack."""

    members = {"worker": [], "emulator": []}  # type: dict[str, list[int]]  # noqa: RUF012

    seconds: Mapping[str, float]

    @classmethod
    def now(cls) -> Cpu:
        used = {part: sum(_cpu(pid) for pid in pids) for part, pids in cls.members.items()}
        for server in embedded.status(Path(os.environ["MYIA_ROOT"])):
            used[server.name] = _cpu(server.pid, with_children=True) if server.pid else 0.0
        return cls(used)

    def since(self, earlier: Cpu) -> dict[str, float]:
        """Seconds used between two readings."""
        return {part: self.seconds[part] - earlier.seconds.get(part, 0.0) for part in self.seconds}


def _cpu(pid: int, with_children: bool = False) -> float:
    try:
        process = psutil.Process(pid)
        own = process.cpu_times()
        total = own.user + own.system
        if with_children:  # those that ended are in the parent's own account
            total += own.children_user + own.children_system
            total += sum(_cpu(child.pid, True) for child in process.children())
    except psutil.NoSuchProcess:
        return 0.0
    return total


def machine() -> str:
    """The processor, how many cores, and how busy others keep them right now."""
    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    busy = psutil.cpu_percent(interval=1.0)
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{psutil.cpu_count()} cores ({model or sys.platform}), {busy:.0f} % busy with other work, Python {version}"


def follow(job_id: object, patience_s: float = 600) -> None:
    """Return once the job is over. SystemExit after `patience_s`."""
    from certification.models import CertificationJob

    deadline = time.monotonic() + patience_s
    while CertificationJob.objects.open().filter(pk=job_id).exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"Job {job_id} did not end within {patience_s:g} s.")
        time.sleep(0.2)
