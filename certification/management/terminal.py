"""Print jobs, verdicts and the matrix in a terminal."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.utils import timezone
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from certification import labels
from certification.engine.estimate import JobEstimate
from certification.inference import Endpoint
from certification.lib import foreign_text
from certification.models import CertificationJob, CertificationRun, ModelCertification, State

RICH_COLOURS = {"orange": "dark_orange", "grey": "bright_black"}
WIDTH_OF_FILES = 160


class Terminal(Console):
    """A console that shows every text as it is: no text is markup, and none acts on the terminal.

    It leaves it to `manage.py` what to do when the reader of its output is gone.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(foreign_text.clean(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(foreign_text.clean(text), style)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise BrokenPipeError


def console(stderr: bool = False) -> Console:
    """Return a console on the current stdout or stderr; wide where no window limits it."""
    file = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() else WIDTH_OF_FILES
    return Terminal(file=file, highlight=False, markup=False, emoji=False, width=width)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    document = json.dumps(value, indent=2, default=str, ensure_ascii=False)
    print(foreign_text.escape_json(document))


def pluralize(n: int, noun: str) -> str:
    """Return a number with its noun: "1 run", "2 runs"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def describe_estimate(estimate: JobEstimate) -> str:
    """Say what a job will take, and what the figures rest on."""
    if not estimate.pairs:
        return "0 runs."
    unpriced = ""
    if estimate.unpriced:
        unpriced = f" {pluralize(estimate.unpriced, 'run')} without a known price."
    return (
        f"{pluralize(estimate.pairs, 'run')}, about {pluralize(estimate.calls, 'call')} and "
        f"{estimate.usd:.4f} USD, at most {estimate.usd_at_most:.4f} USD. {estimate.basis}"
        f"{unpriced}"
    )


def symbol(verdict: str) -> tuple[str, str]:
    """Return the symbol and the colour of a verdict; the symbol alone must be enough."""
    sign = labels.STATUSES.get(verdict)
    return (sign.symbol, RICH_COLOURS.get(sign.colour, sign.colour)) if sign else ("?", "red")


def runs_table(runs: Iterable[CertificationRun]) -> Table:
    """Show one line per run: verdict, score, route, and why it was not certified."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Model", overflow="fold", min_width=20, ratio=3)
    for heading in ("Region", "Verdict", "Score", "Route"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "Score" else "left")
    table.add_column("Why", overflow="fold", min_width=20, ratio=4)
    for run in runs:
        sign, colour = symbol(run.verdict)
        no_verdict = "no verdict" if run.status == State.FAILED else run.status.lower()
        verdict = (run.verdict or no_verdict).replace("_", " ")
        route = run.route_kind.replace("_", " ").lower()
        if run.route_kind == "INFERENCE_PROFILE":
            route = f"{run.route.split('.', 1)[0]}. profile"
        if run.api:
            route += f", {api_words(run.endpoint, run.api)}"
        why = Text(foreign_text.clean(run.error_message))
        if advice := run.fix.get("text"):
            why.append(f"\n{advice}", "dim")
        table.add_row(
            run.model.api_model_id,
            run.region_id,
            Text(f"{sign} {verdict}", colour),
            f"{run.score} {run.rating}" if run.score is not None else "",
            route,
            why,
        )
    return table


def api_words(endpoint: str | None, api: str | None) -> str:
    """Name an API, and the endpoint where it is not the usual one; "" for no call."""
    suffix = " on mantle" if endpoint == Endpoint.MANTLE else ""
    return f"{labels.APIS[api]}{suffix}" if api else ""


def routes(counts: Mapping[tuple[str, str], int]) -> str:
    """Show how many runs called each endpoint by each API, and how many called nothing."""
    parts = [
        f"{count} by {labels.APIS[api]} on {endpoint}"
        for (endpoint, api), count in counts.items()
        if api
    ]
    parts.append(f"{counts.get(('', ''), 0)} without a call")
    return ", ".join(parts)


def matrix(runs: Sequence[CertificationRun]) -> Table:
    """Show models down, regions across, and in each cell the verdict's symbol with rating and
    score.
    """
    regions = sorted({run.region_id for run in runs})
    cells = {(run.model.api_model_id, run.region_id): run for run in runs}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("Model", no_wrap=True, overflow="ellipsis", max_width=46)
    for region in regions:
        table.add_column(region, justify="center", no_wrap=True)
    for model in sorted({run.model.api_model_id for run in runs}):
        row = []
        for region in regions:
            cell = Text("·", "bright_black")
            if run := cells.get((model, region)):
                sign, colour = symbol(run.verdict)
                score = f" {run.rating}{run.score}" if run.score is not None else ""
                cell = Text(f"{sign}{score}", colour)
            row.append(cell)
        table.add_row(model, *row)
    return table


def legend() -> Text:
    """Say what the symbols mean."""
    text = Text()
    for verdict in labels.STATUSES:
        sign, colour = symbol(verdict)
        text.append(f"{sign} ", colour)
        text.append(f"{verdict.replace('_', ' ')}   ")
    return text.append("? no verdict   · not offered", "bright_black")


def diagnoses(runs: Iterable[CertificationRun], limit: int = 12) -> Table:
    """Show the most frequent reasons why runs were not certified, each with an example and its
    fix.
    """
    explained = [run for run in runs if run.error_reason]
    by_reason = Counter(run.error_reason for run in explained)
    title = "What prevents certification"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("Runs", justify="right")
    for heading in ("Reason", "For example", "What to do"):
        table.add_column(heading, overflow="fold")
    for reason, count in by_reason.most_common(limit):
        run = next(run for run in explained if run.error_reason == reason)
        message = run.error_message
        if len(message) > 160:
            message = f"{message[:159]}…"
        table.add_row(
            str(count),
            reason.replace("_", " "),
            f"{run.model.api_model_id} in {run.region_id}: {message}",
            run.fix.get("text", ""),
        )
    return table


def jobs_table(jobs: Iterable[CertificationJob]) -> Table:
    """Show one line per job."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    headings = "Job Type Tier Status Runs Certified Other Cancelled Backend Created"
    for heading in headings.split():
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
            str(job.cancelled_runs),
            job.backend,
            timezone.localtime(job.created_at).strftime("%Y-%m-%d %H:%M:%S"),
        )
    return table


def held_back(job: CertificationJob) -> list[str]:
    """Return a sentence for each certification that is unchanged although this job's run reached
    another verdict.
    """
    rows = ModelCertification.objects.held_back_after(job).select_related("model")
    return [f"{row.model.api_model_id} in {row.region_id}: {row.held_back}" for row in rows]


def parity_sentence(difference: Mapping[str, Any]) -> str:
    """Say what a region lacks in comparison with the reference region (a row of a job's
    `comparison.parity`).
    """
    losses = [
        f"{name.replace('_', ' ')}: supported in {difference['reference']} but not here"
        for name in difference["losses"]
    ]
    text = "; ".join([*losses, *filter(None, [difference["sentence"]])])
    return f"{difference['model']} in {difference['region']}: {text}."


def fingerprints_table(fingerprints: Iterable[Mapping[str, Any]]) -> Table:
    """Show one line per region whose short answers were compared with the reference region's."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Fingerprints", title_justify="left")
    for heading in ("Model", "Region", "Compared with", "Distance", "p", "Corrected", "Answers"):
        table.add_column(heading, no_wrap=heading == "Region")
    for row in fingerprints:
        table.add_row(
            row["model"],
            row["region"],
            row["reference"],
            f"{row['distance']:.3f}",
            f"{row['pValue']:.4f}",
            f"{row.get('adjusted', row['pValue']):.4f}",
            "differ" if row.get("sentence") else "alike",
        )
    return table


def exit_code(job: CertificationJob) -> int:
    """Return 0 when the job reached a verdict, else 1."""
    return 0 if job.status == State.COMPLETED else 1
