"""`manage.py demo`: the whole main job on real input, with nothing needed beforehand and nothing
left running.
"""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console

from certification.emulator import process as emulator
from certification.emulator import scenario
from certification.emulator.__main__ import duration
from certification.engine import dispatch
from certification.engine.dispatch import CertifyOptions
from certification.management import follow, terminal
from certification.models import CertificationJob, Priority, Tier
from certification.stack import temporary
from certification.stack.control import files

REGIONS = (
    "us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1", "ap-northeast-1", "sa-east-1",
)  # fmt: skip
TIME_SCALE = 0.25
RUNS_AT_ONCE = 32
QUEUES = "demo-"


class Command(BaseCommand):
    help = (
        "Certifies every active model in seven regions against the emulator: real catalogue, boto3, queue, database. "
        "Prints the matrix, and leaves nothing running."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--regions", nargs="+", default=list(REGIONS), metavar="REGION")
        parser.add_argument(
            "--scenario", default="default", help="the emulator's scenario (name or .toml file)"
        )
        parser.add_argument(
            "--time-scale",
            type=duration,
            default=TIME_SCALE,
            help="1 answers at the recorded speed of each model, 0 at once (default %(default)s)",
        )
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument(
            "--json", action="store_true", help="print the summary as one JSON document"
        )

    @terminal.friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.EMBEDDED_POSTGRES:
            raise CommandError(
                "The demo writes emulated results, and DATABASE_URL names a database of yours. Unset it to use the "
                "embedded one."
            )
        out = terminal.console(stderr=options["json"])
        try:
            scenario.load(options["scenario"])
        except scenario.ScenarioError as error:
            raise CommandError(str(error)) from error
        with _alone(), temporary.servers():
            job = self._demonstrate(out, options)
        if options["json"]:
            terminal.say_json(self.summary)
        if terminal.exit_code(job):
            sys.exit(1)

    def _demonstrate(self, out: Console, options: dict[str, Any]) -> CertificationJob:
        temporary.database(out.print)
        end_broken_off_demos()
        self.regions = dispatch.find_regions(options["regions"])
        with _emulator(options) as url:
            return self._certify(out, url, options)

    def _certify(self, out: Console, url: str, options: dict[str, Any]) -> CertificationJob:
        """On a queue of the demo's own, so that workers with real credentials never take its runs."""
        ours: dict[str, Any] = {
            "CERTIFICATION_CONCURRENCY": RUNS_AT_ONCE,
            "BEDROCK_BACKEND": "emulator",
            "BEDROCK_ENDPOINT_URL": url,
            "CERTIFICATION_QUEUE_NAME": f"{QUEUES}{server_tag(url)}",
        }
        for name, value in ours.items():
            setattr(settings, name, value)
        out.print(
            f"Emulator at {url}: recorded latencies x {options['time_scale']:g}, scenario {options['scenario']}"
        )
        env = {name: str(value) for name, value in ours.items()}
        with temporary.processes(temporary.own_workers(), env) as running:
            temporary.wait_for_workers(f"{settings.CERTIFICATION_QUEUE_NAME}.bulk", running)
            follow.resume_queue()
            certify_options = CertifyOptions(
                tier=Tier.QUICK, priority=Priority.BULK, seed=options["seed"]
            )
            done = dispatch.certify_all(self.regions, certify_options)
            out.print(
                f"{terminal.pluralize(done.job.total_runs, 'model x region pair')}, about {terminal.pluralize(done.estimate.calls, 'call')}; "
                f"not offered: {done.not_offered}"
            )
            try:
                job = terminal.follow_job(done.job, out, quiet=options["json"])
            except BaseException:
                terminal.cancel(done.job, "The demo ended early.")  # nobody else serves its queue
                raise
        self._report(out, job)
        return job

    def _report(self, out: Console, job: CertificationJob) -> None:
        runs = list(job.runs.select_related("model"))
        summary = follow.summary(job)
        verdicts = job.verdict_counts()
        self.summary = {**summary, "verdicts": verdicts}
        if out.stderr:
            return
        out.print(terminal.matrix(runs))
        out.print(terminal.legend())
        out.print()
        out.print(terminal.diagnoses(runs))
        counts = ", ".join(
            f"{n} {v.replace('_', ' ')}" for v, n in sorted(verdicts.items(), key=lambda i: -i[1])
        )
        out.print(
            f"{terminal.pluralize(job.total_runs, 'run')} in {summary['seconds']:.1f} s, {terminal.pluralize(summary['calls'], 'call')}, "
            f"{summary['retries']} retried: "
            f"{counts}. Every result is from the emulator."
        )
        out.print(f"Open the pages: `make up`, then http://127.0.0.1:{settings.PORT}")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Held for as long as a demo runs here: another would want the same pairs, and lose its servers
    when this one ends.
    """
    where = files()
    where.make()
    with (where.state.parent / "demo.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                "A demo is running here already. Wait for it, end it with Ctrl-C, or give this one a folder of its own "
                "with MYIA_ROOT."
            ) from None
        yield


@contextlib.contextmanager
def _emulator(options: dict[str, Any]) -> Iterator[str]:
    """The address of an emulator of the demo's own, for as long as the block runs."""
    server: subprocess.Popen[str] | None = None
    try:
        with temporary.uninterrupted():
            url, server = emulator.start(
                scenario=options["scenario"], seed=options["seed"], time_scale=options["time_scale"]
            )
        yield url
    finally:
        if server:
            server.terminate()
            server.wait(10)


def end_broken_off_demos() -> None:
    """Cancel what a demo that was killed left open: its pairs stay taken, and its emulator is gone."""
    for job in CertificationJob.objects.open().filter(config__queue__startswith=QUEUES):
        port = job.config["queue"].removeprefix(QUEUES)
        if port.isdigit() and not temporary.listens(int(port)):
            job.cancel("The demo that asked for it was broken off.")


def server_tag(url: str) -> str:
    """A short name for this demo's queue: the port of its emulator, which nobody else has."""
    return url.rsplit(":", 1)[-1]
