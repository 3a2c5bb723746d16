"""The regions of a finished job beside each other: a region that serves a model worse than another
one loses by it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from certification.engine import evidence, rescore
from certification.models import CertificationJob, CertificationRun, State, TestResult, Tier
from certification.models.webhooks import raise_alert
from certification.reasons import Status
from certification.suite import parity, scoring, statistics, versions
from certification.suite.parity import Cell, Parity

log = structlog.get_logger(__name__)

FINGERPRINT = "F1"
OVERDUE_AFTER = timedelta(minutes=2)
MAX_AGE = timedelta(days=7)
BATCH = 5  # overdue jobs compared at a time
PERMUTATIONS = (1999, 19_999)  # of one fingerprint, the fewest and the most
# What a later judgement of a job's run is kept under: whether regions were compared by their
# trials, or by words alone.
PARITY_VERSION = f"{versions.POLICY_VERSION}+parity"
FINGERPRINT_VERSION = f"{versions.POLICY_VERSION}+fingerprint"


def compare(job: CertificationJob) -> tuple[Parity, ...]:
    """Compare a finished job's regions, model by model, and judge again what stands out.
    Repeatable.

    The comparisons with an alarm or a lost capability; their later judgements stand beside the
    runs' own. They are kept in the job's configuration under `comparison`, with the fingerprints of
    a deep job. A fingerprint that differs is said in a later judgement too, and moves no verdict.
    """
    if job.tier == Tier.QUICK:
        return ()
    models = list(_models(job))
    found = parity.adjust([p for cells in models for p in _beside(cells)])
    notable = tuple(p for p in found if p.alarm or p.losses)
    fingerprints = _fingerprints(job, models) if job.tier == Tier.DEEP else []
    different = {(f["model"], f["region"]): f["sentence"] for f in fingerprints if f["sentence"]}
    for one in notable:
        _judge_again(job, one.model, one.region, one, different.pop((one.model, one.region), ""))
    for (model, region), said in different.items():
        _judge_again(job, model, region, None, said)
    if notable:
        log.warning("parity_lost", job=str(job.pk), cells=len(notable))
    if different:
        log.warning("fingerprints_differ", job=str(job.pk), cells=len(different))
    job.config["comparison"] = {
        "parity": [_kept(p) for p in notable],
        "fingerprints": fingerprints,
    }
    with transaction.atomic():
        job.save(update_fields=["config"])
        if notable:
            _raise_alert(job, notable)
    return notable


def compare_overdue() -> int:
    """Compare the regions of finished jobs that nobody has compared. Returns the number compared.

    The worker of a job's last run does it at once; it may have died on the way, or the last run may
    have ended elsewhere. A comparison that fails is tried again after OVERDUE_AFTER, when its turn
    comes, for as long as the job is younger than MAX_AGE.
    """
    now = timezone.now()
    jobs = CertificationJob.objects.filter(
        status=State.COMPLETED,
        tier__in=(Tier.FULL, Tier.DEEP),
        created_at__gt=now - MAX_AGE,
        updated_at__lt=now - OVERDUE_AFTER,
        regions__1__isnull=False,  # two or more
    ).exclude(config__has_key="comparison")
    compared = 0
    for job in jobs.order_by("updated_at")[:BATCH]:
        job.save(update_fields=["updated_at"])  # the others first, should this one fail
        try:
            compare(job)
            compared += 1
        except Exception:  # one job must not keep the others from being compared
            log.exception("comparison_failed", job=str(job.pk))
    return compared


def _raise_alert(job: CertificationJob, notable: tuple[Parity, ...]) -> None:
    cells = [
        {"model": one.model, "region": one.region, "reference": one.reference} for one in notable
    ]
    more = f" And {len(notable) - 1} more." if len(notable) > 1 else ""
    raise_alert(
        "parity_lost",
        "warning",
        (notable[0].sentence or "A region lost a capability that another has.") + more,
        subject={"jobId": str(job.pk), "cells": cells},
        once=str(job.pk),
    )


def _kept(one: Parity) -> dict[str, Any]:
    return {
        "model": one.model,
        "region": one.region,
        "reference": one.reference,
        "compared": one.compared,
        "flips": [list(flip) for flip in one.flips],
        "gains": [list(gain) for gain in one.gains],
        "pValue": one.p_value,
        "adjusted": one.adjusted,
        "losses": sorted(one.losses),
        "sentence": one.sentence,
    }


@dataclass(frozen=True)
class _Sample:
    """A region's short answers beside those of its reference, prompt by prompt."""

    model: str
    region: str
    reference: str
    theirs: Sequence[Sequence[str]]
    ours: Sequence[Sequence[str]]


def _fingerprints(job: CertificationJob, models: Iterable[list[Cell]]) -> list[dict[str, Any]]:
    """How far each region's short answers are from the reference's, corrected over all of the job's
    comparisons.
    """
    samples = [sample for cells in models for sample in _samples(job, cells)]
    # A p value of m comparisons can reach 0.01 after the correction only where 1 / permutations is
    # 0.01 / m.
    fewest, most = PERMUTATIONS
    permutations = min(max(fewest, 100 * len(samples) - 1), most)
    found = [statistics.fingerprint(s.theirs, s.ours, permutations) for s in samples]
    adjusted = statistics.benjamini_hochberg([f.p_value for f in found])
    return [_told(s, f, q) for s, f, q in zip(samples, found, adjusted, strict=True)]


def _told(sample: _Sample, found: statistics.Fingerprint, adjusted: float) -> dict[str, Any]:
    said = ""
    if adjusted <= parity.ALARM:
        said = (
            f"The short answers differ from those in {sample.reference} (distance {found.distance:.2f}, "
            f"p = {adjusted:.2g} after the correction): the two may not serve the same model."
        )
    return {
        "model": sample.model,
        "region": sample.region,
        "reference": sample.reference,
        "distance": found.distance,
        "pValue": found.p_value,
        "adjusted": adjusted,
        "permutations": found.permutations,
        "sentence": said,
    }


def _samples(job: CertificationJob, cells: list[Cell]) -> Iterator[_Sample]:
    """Each region's answers beside the reference's; the first region stands in where none is
    certified.
    """
    reference = parity.reference_of(cells) or cells[0]
    rows = TestResult.objects.filter(
        run__job=job, run__model__api_model_id=cells[0].model, case_id=FINGERPRINT
    )
    answers = {row.run.region_id: _answers(row) for row in rows.select_related("run")}
    theirs = answers.get(reference.region, {})
    for cell in cells:
        ours = answers.get(cell.region, {})
        common = sorted(theirs.keys() & ours.keys())
        if cell is not reference and cell.suite_version == reference.suite_version and common:
            yield _Sample(
                cell.model,
                cell.region,
                reference.region,
                [theirs[p] for p in common],
                [ours[p] for p in common],
            )


def _answers(row: TestResult) -> dict[int, list[str]]:
    """The answers of a run to each prompt, by the prompt's number."""
    found: dict[int, list[str]] = defaultdict(list)
    for trial in row.trials:
        if trial["valid"] and "answer" in trial["evidence"]:
            found[trial["evidence"]["prompt"]].append(trial["evidence"]["answer"])
    return found


def _models(job: CertificationJob) -> Iterator[list[Cell]]:
    """The cells of every model that was judged in two regions or more, in the order of the job's
    regions.
    """
    done = job.runs.filter(status=State.COMPLETED).exclude(verdict=Status.NOT_TESTED)
    several = (
        done.order_by()
        .values("model")
        .annotate(n=Count("pk"))
        .filter(n__gt=1)
        .values_list("model", flat=True)
    )
    order = {code: position for position, code in enumerate(job.regions)}
    for model in list(several):
        runs = done.filter(model=model).select_related("model").prefetch_related("results")
        cells = [
            cell
            for run in sorted(runs, key=lambda r: order.get(r.region_id, 0))
            if (cell := _cell(run))
        ]
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
        tokens=_tokens(run),
    )


def _tokens(run: CertificationRun) -> dict[int, int]:
    """The input tokens that the service counted for the prompts that are compared, by trial."""
    rows = [row for row in run.results.all() if row.case_id == parity.TOKENS_COMPARED_BY]
    return {
        trial["trial"]: trial["evidence"]["input_tokens"]
        for row in rows
        for trial in row.trials
        if trial["passed"] and isinstance(trial["evidence"].get("input_tokens"), int)
    }


def _beside(cells: list[Cell]) -> tuple[Parity, ...]:
    reference = parity.reference_of(cells)
    same = [
        c
        for c in cells
        if reference and (c.seed, c.suite_version) == (reference.seed, reference.suite_version)
    ]
    return parity.compare(reference, same) if reference else ()


def _judge_again(
    job: CertificationJob, model: str, region: str, one: Parity | None, different: str
) -> None:
    """A later judgement of a run: with what parity found, and the sentence of a fingerprint that
    differs.
    """
    run = job.runs.select_related("model", "region").get(model__api_model_id=model, region=region)
    seen = rescore.restore(run, list(run.results.all()))
    if one:
        seen = replace(seen, parity_losses=one.losses, parity_alarm=one.sentence)
    judgement = scoring.judge(seen)
    if different:
        judgement = replace(judgement, message=f"{judgement.message} {different}")
    rescore.write(
        [rescore.Change(run, judgement)], version=PARITY_VERSION if one else FINGERPRINT_VERSION
    )
