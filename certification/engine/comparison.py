"""The regions of a finished job beside each other: a region that serves a model worse than another one loses by it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Count

from certification.engine import evidence, rescore
from certification.models import CertificationJob, CertificationRun, State, TestResult, Tier
from certification.models.webhooks import raise_alert
from certification.reasons import Status
from certification.suite import parity, registry, scoring, statistics
from certification.suite.parity import Cell, Parity

log = structlog.get_logger(__name__)

FINGERPRINT = "F1"
VERSION = f"{registry.POLICY_VERSION}+parity"


def compare(job: CertificationJob) -> tuple[Parity, ...]:
    """Compare a finished job's regions, model by model, and judge again what stands out. Repeatable.

    The comparisons with an alarm or a lost capability; their later judgements stand beside the runs' own. They are kept
    in the job's configuration under `comparison`, with the fingerprints of a deep job.
    """
    if job.tier == Tier.QUICK:
        return ()
    models = list(_models(job))
    found = parity.adjust([p for cells in models for p in _beside(cells)])
    remarkable = tuple(p for p in found if p.alarm or p.losses)
    for one in remarkable:
        _judge_again(job, one)
    if remarkable:
        log.warning("parity_lost", job=str(job.pk), cells=len(remarkable))
    fingerprints = [f for cells in models for f in _fingerprints(job, cells)] if job.tier == Tier.DEEP else []
    job.config["comparison"] = {"parity": [_kept(p) for p in remarkable], "fingerprints": fingerprints}
    with transaction.atomic():
        job.save(update_fields=["config"])
        if remarkable:
            _raise_alert(job, remarkable)
    return remarkable


def _raise_alert(job: CertificationJob, remarkable: tuple[Parity, ...]) -> None:
    cells = [{"model": one.model, "region": one.region, "reference": one.reference} for one in remarkable]
    more = f" And {len(remarkable) - 1} more." if len(remarkable) > 1 else ""
    raise_alert(
        "parity_lost", "warning", (remarkable[0].sentence or "A region lost a capability that another has.") + more,
        subject={"jobId": str(job.pk), "cells": cells}, once=str(job.pk),
    )  # fmt: skip


def _kept(one: Parity) -> dict[str, Any]:
    return {
        "model": one.model, "region": one.region, "reference": one.reference, "compared": one.compared,
        "flips": [list(flip) for flip in one.flips], "gains": [list(gain) for gain in one.gains],
        "pValue": one.p_value, "adjusted": one.adjusted, "losses": sorted(one.losses), "sentence": one.sentence,
    }  # fmt: skip


def _fingerprints(job: CertificationJob, cells: list[Cell]) -> Iterator[dict[str, Any]]:
    """How far each region's short answers are from the reference's; the first region stands in where none is certified."""
    reference = parity.reference_of(cells) or cells[0]
    rows = TestResult.objects.filter(run__job=job, run__model__api_model_id=cells[0].model, case_id=FINGERPRINT)
    answers = {row.run.region_id: _answers(row) for row in rows.select_related("run")}
    theirs = answers.get(reference.region, {})
    for cell in cells:
        ours = answers.get(cell.region, {})
        common = sorted(theirs.keys() & ours.keys())
        if cell is reference or cell.suite_version != reference.suite_version or not common:
            continue
        found = statistics.fingerprint([theirs[p] for p in common], [ours[p] for p in common])
        yield {
            "model": cell.model, "region": cell.region, "reference": reference.region,
            "distance": found.distance, "pValue": found.p_value, "permutations": found.permutations,
        }  # fmt: skip


def _answers(row: TestResult) -> dict[int, list[str]]:
    """The answers of a run to each prompt, by the prompt's number."""
    found: dict[int, list[str]] = defaultdict(list)
    for trial in row.trials:
        if trial["valid"] and "answer" in trial["evidence"]:
            found[trial["evidence"]["prompt"]].append(trial["evidence"]["answer"])
    return found


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
