"""`manage.py demo`: certify every model against the emulator, from nothing and with nothing left
running.
"""

from __future__ import annotations

import contextlib
import fcntl
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console

from certification import checks
from certification.emulator import scenario
from certification.emulator.__main__ import duration
from certification.engine import dispatch
from certification.engine.dispatch import CertifyOptions
from certification.management import follow, terminal
from certification.management.guard import friendly_errors
from certification.models import CertificationJob, Priority, Region, Tier
from certification.stack import programs, temporary
from certification.stack.control import files
from certification.stack.processes import Processes

REGIONS = (
    "us-east-1",
    "us-west-2",
    "eu-west-1",
    "eu-central-1",
    "ap-southeast-1",
    "ap-northeast-1",
    "sa-east-1",
)
TIME_SCALE = 0.25
RUNS_AT_ONCE = 32
QUEUES = "demo-"


class Command(BaseCommand):
    help = (
        "Certifies every active model in seven regions against the emulator, with the real "
        "catalogue, boto3, queue and database. Prints the matrix and leaves nothing running."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--regions",
            nargs="+",
            default=list(REGIONS),
            metavar="REGION",
            help="default: seven regions",
        )
        parser.add_argument(
            "--scenario", default="default", help="the emulator's scenario (name or .toml file)"
        )
        parser.add_argument(
            "--time-scale",
            type=duration,
            default=TIME_SCALE,
            help="1 answers at the recorded speed of each model, 0 at once (default %(default)s)",
        )
        parser.add_argument("--seed", type=int, default=1, help="of the prompts; default: 1")
        parser.add_argument(
            "--json", action="store_true", help="print the summary as one JSON document"
        )

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.EMBEDDED_POSTGRES:
            raise CommandError(
                "The demo writes emulated results, and DATABASE_URL names a database of yours. "
                "Unset it to use the embedded one."
            )
        out = terminal.console(stderr=options["json"])
        try:
            scenario.load(options["scenario"])
        except scenario.ScenarioError as error:
            raise CommandError(str(error)) from error
        with only_demo(), temporary.servers():
            temporary.database(out.print)
            cancel_abandoned_demos()
            regions = dispatch.find_regions(options["regions"])
            with Processes(files().logs) as processes:
                url, _emulator = processes.start_emulator(
                    scenario=options["scenario"],
                    seed=options["seed"],
                    time_scale=options["time_scale"],
                )
                out.print(
                    f"Emulator at {url}: recorded latencies x {options['time_scale']:g}, "
                    f"scenario {options['scenario']}"
                )
                job = self.certify(out, url, regions, options)
            self.report(out, job, as_json=options["json"])
        if terminal.exit_code(job):
            sys.exit(1)

    def certify(
        self, out: Console, url: str, regions: Sequence[Region], options: dict[str, Any]
    ) -> CertificationJob:
        """Certify all models on a queue of the demo's own, so that workers with real credentials
        never take its runs; return the finished job.
        """
        queue = (
            f"{QUEUES}{url.rsplit(':', 1)[1]}"  # by the emulator's port, which no other demo has
        )
        overrides: dict[str, Any] = {
            "CERTIFICATION_CONCURRENCY": RUNS_AT_ONCE,
            "BEDROCK_BACKEND": "emulator",
            "BEDROCK_ENDPOINT_URL": url,
            "CERTIFICATION_QUEUE_NAME": queue,
        }
        for name, value in overrides.items():
            setattr(settings, name, value)
        env = {name: str(value) for name, value in overrides.items()}
        with Processes(files().logs, env) as processes:
            for program in programs.workers_for(Priority.BULK):
                processes.start(program)
            temporary.wait_for_workers(f"{queue}.bulk", processes)
            follow.resume_queue()
            result = dispatch.certify_all(
                regions,
                CertifyOptions(tier=Tier.QUICK, priority=Priority.BULK, seed=options["seed"]),
            )
            out.print(
                f"{terminal.pluralize(result.job.total_runs, 'model x region pair')}, about "
                f"{terminal.pluralize(result.estimate.calls, 'call')}; "
                f"not offered: {result.not_offered}"
            )
            try:
                return follow.follow_job(result.job, out, quiet=options["json"])
            except BaseException:
                # nobody else serves its queue
                follow.cancel(result.job, "The demo ended early.")
                raise

    def report(self, out: Console, job: CertificationJob, *, as_json: bool) -> None:
        summary = follow.summary(job)
        verdicts = job.verdict_counts()
        if as_json:
            return terminal.print_json({**summary, "verdicts": verdicts})
        runs = list(job.runs.select_related("model"))
        out.print(terminal.matrix(runs))
        out.print(terminal.legend())
        out.print()
        out.print(terminal.diagnoses(runs))
        counts = ", ".join(
            f"{count} {verdict.replace('_', ' ')}"
            for verdict, count in sorted(verdicts.items(), key=lambda item: -item[1])
        )
        out.print(
            f"{terminal.pluralize(job.total_runs, 'run')} in {summary['seconds']:.1f} s, "
            f"{terminal.pluralize(summary['calls'], 'call')}, {summary['retries']} retried: "
            f"{counts}. Every result is from the emulator."
        )
        out.print(f"Runs by endpoint and API: {terminal.routes(job.route_counts())}.")
        out.print(f"Open the pages: `make up`, then http://127.0.0.1:{settings.PORT}")
        return None


@contextlib.contextmanager
def only_demo() -> Iterator[None]:
    """Hold the lock of the one demo that may run here: another would want the same pairs, and lose
    its servers when this one ends.
    """
    stack = files()
    stack.make()
    with (stack.state.parent / "demo.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                "A demo is already running here. Wait for it, end it with Ctrl-C, or give this one "
                "its own folder with MYIA_ROOT."
            ) from None
        yield


def cancel_abandoned_demos() -> None:
    """Cancel the jobs of demos that were killed: their pairs stay taken, and their emulators are
    gone.
    """
    for job in CertificationJob.objects.open().filter(config__queue__startswith=QUEUES):
        port = job.config["queue"].removeprefix(QUEUES)
        if port.isdigit() and not temporary.listens(int(port)):
            job.cancel("The demo that created this job was interrupted.")
