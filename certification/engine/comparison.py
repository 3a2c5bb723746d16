"""The regions of a finished job beside each other: a region that serves a model worse than another one loses by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import structlog
from django.db.models import Count

from certification.engine import evidence, rescore
from certification.models import CertificationJob, CertificationRun, State, Tier
from certification.reasons import Status
from certification.suite import parity, registry, scoring
from certification.suite.parity import Cell, Parity

log = structlog.get_logger(__name__)

VERSION = f"{registry.POLICY_VERSION}+parity"


def compare(job: CertificationJob) -> tuple[Parity, ...]:
    """Compare a finished job's regions, model by model, and judge again what stands out. Repeatable.

    The comparisons with an alarm or a lost capability; their later judgements stand beside the runs' own.
    """
    if job.tier == Tier.QUICK:
        return ()
    found = parity.adjust([p for cells in _models(job) for p in _beside(cells)])
    remarkable = tuple(p for p in found if p.alarm or p.losses)
    for one in remarkable:
        _judge_again(job, one)
    if remarkable:
        log.warning("parity_lost", job=str(job.pk), cells=len(remarkable))
    return remarkable


def _models(job: CertificationJob) -> Iterator[list[Cell]]:
    """The cells of every model that was judged in two regions or more, in the order of the job's regions."""
    done = job.runs.filter(status=State.COMPLETED).exclude(verdict=Status.NOT_TESTED)
    several = done.order_by().values("model").annotate(n=Count("pk")).filter(n__gt=1).values_list("model", flat=True)
    order = {code: position for position, code in enumerate(job.regions)}
    for model in list(several):
        runs = done.filter(model=model).select_related("model").prefetch_related("results")
        cells = [cell for run in sorted(runs, key=lambda r: order.get(r.region_id, 0)) if (cell := _cell(run))]
        if len(cells) > 1:
            yield cells


def _cell(run: CertificationRun) -> Cell | None:
    try:
        outcomes = evidence.outcomes_of(run.results.all())
    except LookupError:
        return None
    return Cell(
        model=run.model.api_model_id,
        region=run.region_id,
        seed=run.variant_seed,
        suite_version=run.suite_version,
        trials=parity.trials_of(outcomes),
        proved=parity.proved_capabilities(outcomes),
        lacks=frozenset(run.environment.get("lacks", ())),
        certified=run.verdict == Status.CERTIFIED,
    )


def _beside(cells: list[Cell]) -> tuple[Parity, ...]:
    reference = parity.reference_of(cells)
    same = [c for c in cells if reference and (c.seed, c.suite_version) == (reference.seed, reference.suite_version)]
    return parity.compare(reference, same) if reference else ()


def _judge_again(job: CertificationJob, one: Parity) -> None:
    run = job.runs.select_related("model", "region").get(model__api_model_id=one.model, region=one.region)
    seen = replace(rescore.restore(run, list(run.results.all())), parity_losses=one.losses, parity_alarm=one.sentence)
    rescore.write([rescore.Change(run, scoring.judge(seen))], version=VERSION)
