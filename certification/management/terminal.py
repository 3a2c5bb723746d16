"""How jobs, verdicts and the matrix look in a terminal, and the guard that turns errors into
sentences.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import psycopg
import redis
from celery.exceptions import OperationalError as BrokerError
from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.utils import timezone
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from certification.engine import dispatch, queue
from certification.management import follow
from certification.models import CertificationJob, CertificationRun, ModelCertification, State
from certification.reasons import Status
from certification.stack import embedded, temporary
from certification.stack.temporary import NotReady

P = ParamSpec("P")
T = TypeVar("T")

# Symbol and colour of each verdict; the symbol alone must be enough.
LOOKS: dict[str, tuple[str, str]] = {
    Status.CERTIFIED: ("✔", "green"),
    Status.QUALITY_WARNING: ("!", "yellow"),
    Status.FAILED: ("✘", "red"),
    Status.PENDING: ("…", "blue"),
    Status.PERMISSION_REQUIRED: ("P", "magenta"),
    Status.CONFIGURATION_REQUIRED: ("C", "dark_orange"),
    Status.NOT_TESTED: ("–", "bright_black"),
}
NO_VERDICT = ("?", "red")
WIDTH_OF_FILES = 160
# one WAL segment of PostgreSQL: it cannot go on without room for the next
MIN_FREE_BYTES = 16_000_000
CONNECT_S = 5
BROKER_ERRORS = (redis.RedisError, BrokerError)


class Terminal(Console):
    """A console that leaves it to `manage.py` what to do when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise BrokenPipeError


def console(stderr: bool = False) -> Console:
    """A console on the current stdout or stderr; wide where nobody's window limits it."""
    file = sys.stderr if stderr else sys.stdout
    return Terminal(file=file, highlight=False, width=None if file.isatty() else WIDTH_OF_FILES)


def friendly_errors(handle: Callable[P, T]) -> Callable[P, T]:
    """Make a command's foreseeable failures one sentence that says what to do, with exit code 1 and
    no traceback.
    """

    @functools.wraps(handle)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with _sigterm_as_ctrl_c(), _without_log_lines():
                _check_database()
                return handle(*args, **kwargs)
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            raise SystemExit(130) from None
        except dispatch.DispatchError as error:
            raise CommandError(f"{error} {advice(error)}".rstrip()) from error
        except (NotReady, embedded.EmbeddedError) as error:
            raise CommandError(str(error)) from error
        except (OperationalError, InterfaceError) as error:
            raise CommandError(_database_sentence(error)) from error
        except BROKER_ERRORS as error:
            raise CommandError(_broker_sentence(error)) from error
        except DatabaseError as error:
            if "does not exist" in str(error):
                raise CommandError(
                    "The database has no tables yet. Run: manage.py migrate"
                ) from error
            raise

    return guarded


def advice(error: dispatch.DispatchError) -> str:
    """Return which command helps after this error; '' when none does."""
    match error:
        case dispatch.ModelNotFound():
            return (
                "List the ids with: manage.py list_uncertified --all, "
                "or add new models with: manage.py sync_catalogue"
            )
        case dispatch.NotOffered():
            return "Update the catalogue first: manage.py sync_catalogue"
        case dispatch.AlreadyRunning():
            return f"To cancel it: manage.py job cancel {error.job.pk}"
        case dispatch.NothingFailed() if error.cancelled:
            return f"To retry those: manage.py job retry {error.job.pk} --cancelled"
        case dispatch.TooExpensive() if error.unpriced:
            return "To allow them: --allow-unpriced"
        case _:
            return ""


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A command that is told to end ends what it started, as with Ctrl-C. Only where signals can be
    heard.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _without_log_lines() -> Iterator[None]:
    """What a command has to say it says in sentences; log lines between them help nobody at a
    terminal.
    """
    chatty = [logging.getLogger(name) for name in ("certification", "psycopg.pool")]
    before = [logger.level for logger in chatty]
    for logger in chatty:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(chatty, before, strict=True):
            logger.setLevel(level)


def check_database() -> None:
    """Ask for one connection before Django does. Raises CommandError with a sentence when there is
    none to be had.
    """
    try:
        _check_database()
    except (OperationalError, InterfaceError) as error:
        raise CommandError(_database_sentence(error)) from error


def _check_database() -> None:
    """Ask a database of the operator's own for one connection: the pool would try for half a minute
    and hide the cause.
    """
    if settings.EMBEDDED_POSTGRES or connection.in_atomic_block:
        return
    parameters = connection.get_connection_params()
    parameters.pop("pool", None)
    with connection.wrap_database_errors:
        psycopg.connect(**parameters | {"connect_timeout": CONNECT_S}).close()


def _database_sentence(error: Exception) -> str:
    text = " ".join(str(error).split()).split(" Is the server running")[0].rstrip(".")
    if is_disk_full(text):
        return (
            f"The database's disk is full: {text}. Free some space and run the command again; what was stored before is "
            "kept."
        )
    if settings.EMBEDDED_POSTGRES:
        return f"The database cannot be reached: {text}. Start it again with: manage.py up"
    return f"The database cannot be reached: {text}. Start it, or correct DATABASE_URL."


def _broker_sentence(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    if "No space left on device" in text:
        return f"The disk of Redis is full: {text}. Free some space and run the command again; no job is lost."
    remedy = (
        "Start it with: manage.py up"
        if settings.EMBEDDED_VALKEY
        else "Start it, or correct REDIS_URL"
    )
    return (
        f"Redis cannot be reached: {text}. {remedy}. Nothing is lost: the database holds every job."
    )


def is_disk_full(text: str) -> bool:
    """Whether PostgreSQL speaks of a full disk, or went away from an embedded one that has no room
    left.
    """
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return True
    return (
        settings.EMBEDDED_POSTGRES and shutil.disk_usage(settings.MYIA_ROOT).free < MIN_FREE_BYTES
    )


def pluralize(n: int, noun: str) -> str:
    """A number with its noun: "1 run", "2 runs"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def workers_for(priority: str) -> int | None:
    """How many workers there are for a job of that priority; None when Redis cannot be reached.

    Raises NotReady when those that run use another backend: they would leave the job lying.
    """
    try:
        queue.ping_broker()
        return temporary.alive_workers(queue.name_for(priority))
    except BROKER_ERRORS:
        return None


def queued_hint(job: CertificationJob, alive: int | None) -> str:
    """What to tell about a job that was left to `alive` workers: one that nobody will work on soon
    is worth a word.
    """
    if alive is None:
        return (
            "Redis cannot be reached: the job waits in the database and is sent when Redis is back."
        )
    idle = (
        "" if alive else "No worker is running: the job waits. Start the stack with: manage.py up\n"
    )
    return f"{idle}Look at it with: manage.py job show {job.pk}"


def say_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def follow_job(job: CertificationJob, out: Console, *, quiet: bool = False) -> CertificationJob:
    """Show a job's progress until it has ended; cancel it on Ctrl-C, or when nobody reads on. The
    job as it ended.
    """
    try:
        return _follow_quietly(job) if quiet else _follow_live(job, out)
    except BrokenPipeError:
        cancel(job, "Cancelled: nobody followed it any more.")
        raise
    except KeyboardInterrupt:
        cancelled = cancel(job, "Cancelled from the terminal with Ctrl-C.")
        out.print(f"\nCancelled job {job.pk}: {pluralize(cancelled or 0, 'run')} had not finished.")
        raise SystemExit(130) from None


def cancel(job: CertificationJob, message: str) -> int | None:
    """Cancel a job when something broke off what we did, perhaps in the middle of a query: over a
    fresh connection.
    """
    if not connection.in_atomic_block:
        connection.close()
    return job.cancel(message)


def _follow_quietly(job: CertificationJob) -> CertificationJob:
    last = job
    for snapshot in follow.follow(job.pk):
        last = snapshot.job
        if snapshot.pause:
            raise CommandError(paused_sentence(snapshot))
    return last


def paused_sentence(snapshot: follow.Snapshot) -> str:
    """What to tell somebody who waits for a job of a paused queue."""
    assert snapshot.pause is not None  # noqa: S101
    return (
        f"The queue is paused: {snapshot.pause.message} ({snapshot.pause.error_reason}). Correct the AWS credentials; the "
        f"job goes on within a minute where manage.py up runs. To give it up: manage.py job cancel {snapshot.job.pk}"
    )


def _follow_live(job: CertificationJob, out: Console) -> CertificationJob:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[verdicts]}"),
    )
    last, told = job, -1
    with Progress(*columns, console=out, disable=not out.is_terminal) as progress:
        task = progress.add_task("Certifying", total=job.total_runs, verdicts="")
        for snapshot in follow.follow(job.pk):
            last = snapshot.job
            if snapshot.pause:
                raise CommandError(paused_sentence(snapshot))
            progress.update(
                task, completed=last.processed_runs, verdicts=_counts_markup(snapshot.verdicts)
            )
            step = last.progress // 10
            if not out.is_terminal and step != told:
                told = step
                out.print(
                    f"{last.processed_runs}/{pluralize(last.total_runs, 'run')}  {_counts_plain(snapshot.verdicts)}"
                )
    return last


def _counts_markup(verdicts: dict[str, int]) -> str:
    return "  ".join(f"[{LOOKS[v][1]}]{LOOKS[v][0]} {n}[/]" for v, n in sorted(verdicts.items()))


def _counts_plain(verdicts: dict[str, int]) -> str:
    return "  ".join(f"{v.replace('_', ' ')} {n}" for v, n in sorted(verdicts.items()))


def runs_table(runs: Iterable[CertificationRun], title: str = "") -> Table:
    """One line per run: verdict, score, route and why."""
    table = Table(title=title or None, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.add_column("Model", overflow="fold", min_width=20, ratio=3)
    for heading in ("Region", "Verdict", "Score", "Route"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "Score" else "left")
    table.add_column("Why", overflow="fold", min_width=20, ratio=4)
    for run in runs:
        symbol, colour = LOOKS.get(run.verdict, NO_VERDICT)
        verdict = (
            run.verdict or ("no verdict" if run.status == State.FAILED else run.status.lower())
        ).replace("_", " ")
        score = f"{run.score} {run.rating}" if run.score is not None else ""
        table.add_row(
            run.model.api_model_id,
            run.region_id,
            Text(f"{symbol} {verdict}", colour),
            score,
            _route(run),
            _why(run),
        )
    return table


def _why(run: CertificationRun) -> Text:
    """Why a run was not certified, and what to do."""
    text = Text(run.error_message)
    if advice := run.fix.get("text"):
        text.append(f"\n{advice}", "dim")
    return text


def _route(run: CertificationRun) -> str:
    """A route in few characters: on demand, or the profile's prefix."""
    if run.route_kind == "INFERENCE_PROFILE":
        return f"{run.route.split('.', 1)[0]}. profile"
    return run.route_kind.replace("_", " ").lower()


def matrix(runs: Sequence[CertificationRun]) -> Table:
    """Models down, regions across, each cell a verdict's symbol and the rating or score."""
    regions = sorted({run.region_id for run in runs})
    cells = {(run.model.api_model_id, run.region_id): run for run in runs}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("Model", no_wrap=True, overflow="ellipsis", max_width=46)
    for region in regions:
        table.add_column(region, justify="center", no_wrap=True)
    for model in sorted({run.model.api_model_id for run in runs}):
        table.add_row(model, *(_cell(cells.get((model, region))) for region in regions))
    return table


def _cell(run: CertificationRun | None) -> Text:
    if run is None:
        return Text("·", "bright_black")
    symbol, colour = LOOKS.get(run.verdict, NO_VERDICT)
    return Text(f"{symbol} {run.rating}{run.score}" if run.score is not None else symbol, colour)


def legend() -> Text:
    """What the symbols mean."""
    text = Text()
    for verdict, (symbol, colour) in LOOKS.items():
        text.append(f"{symbol} ", colour)
        text.append(f"{verdict.replace('_', ' ')}   ")
    return text.append("? no verdict   · not offered", "bright_black")


def diagnoses(runs: Iterable[CertificationRun], most: int = 12) -> Table:
    """The commonest reasons why runs were not certified, each with an example and its fix."""
    explained = [run for run in runs if run.error_reason]
    by_reason = Counter(run.error_reason for run in explained)
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title="What keeps models from being certified",
        title_justify="left",
    )
    table.add_column("Runs", justify="right")
    for heading in ("Reason", "For example", "What to do"):
        table.add_column(heading, overflow="fold")
    for reason, count in by_reason.most_common(most):
        example = next(run for run in explained if run.error_reason == reason)
        advice = example.fix.get("text", "")
        table.add_row(
            str(count),
            reason.replace("_", " "),
            f"{example.model.api_model_id} in {example.region_id}: {_shorten(example.error_message)}",
            advice,
        )
    return table


def _shorten(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def jobs_table(jobs: Iterable[CertificationJob]) -> Table:
    """One line per job."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (
        "Job",
        "Type",
        "Tier",
        "Status",
        "Runs",
        "Certified",
        "Other",
        "Backend",
        "Created",
    ):
        table.add_column(heading, no_wrap=heading in ("Job", "Created"))
    for job in jobs:
        table.add_row(
            str(job.pk),
            job.type,
            job.tier,
            job.status,
            f"{job.processed_runs}/{job.total_runs}",
            str(job.succeeded_runs),
            str(job.failed_runs),
            job.backend,
            timezone.localtime(job.created_at).strftime("%Y-%m-%d %H:%M:%S"),
        )
    return table


def held_back(job: CertificationJob) -> list[str]:
    """Sentences about the certificates that stand although this job's run said otherwise."""
    rows = ModelCertification.objects.held_back_after(job).select_related("model")
    return [f"{row.model.api_model_id} in {row.region_id}: {row.held_back}" for row in rows]


def parity_sentence(one: Mapping[str, Any]) -> str:
    """What a region lost beside its reference, as the comparison of a job keeps it."""
    lost = [
        f"{name.replace('_', ' ')} work in {one['reference']} and not here"
        for name in one["losses"]
    ]
    return f"{one['model']} in {one['region']}: {'; '.join([*lost, *filter(None, [one['sentence']])])}."


def fingerprints_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """One line per region whose short answers were compared with the reference region's."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Fingerprints", title_justify="left")
    for heading in ("Model", "Region", "Beside", "Distance", "p", "Corrected", "Answers"):
        table.add_column(heading, no_wrap=heading == "Region")
    for one in found:
        p, adjusted = one["pValue"], one.get("adjusted", one["pValue"])
        says = "differ" if one.get("sentence") else "alike"
        table.add_row(
            one["model"],
            one["region"],
            one["reference"],
            f"{one['distance']:.3f}",
            f"{p:.4f}",
            f"{adjusted:.4f}",
            says,
        )
    return table


def exit_code(job: CertificationJob) -> int:
    """0 when the job reached a verdict, else 1."""
    return 0 if job.status == State.COMPLETED else 1
