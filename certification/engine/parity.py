"""Compare the regions of a finished job: a region that serves a model worse than another one is
judged again.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Count

from certification.engine import evidence, rescore
from certification.lib import clock
from certification.models import CertificationJob, CertificationRun, State, TestResult, Tier
from certification.models.webhooks import raise_alert
from certification.reasons import Status
from certification.suite import parity, scoring, statistics, versions
from certification.suite.parity import MeasuredPair, Parity

log = structlog.get_logger(__name__)

FINGERPRINT = "F1"
OVERDUE_AFTER = timedelta(minutes=2)
MAX_AGE = timedelta(days=7)
BATCH = 2  # overdue jobs compared at a time
MIN_PERMUTATIONS, MAX_PERMUTATIONS = 1999, 19_999  # of one fingerprint
# What a later judgement of a job's run is stored under: whether regions were compared by their
# trials, or by words alone.
PARITY_VERSION = f"{versions.POLICY_VERSION}+parity"
FINGERPRINT_VERSION = f"{versions.POLICY_VERSION}+fingerprint"


def compare(job: CertificationJob) -> tuple[Parity, ...]:
    """Compare a finished job's regions, model by model, and judge again what stands out.
    Repeatable.

    Returns the comparisons with an alarm or a lost capability; the later judgements are added to
    the runs' own. The job's configuration stores the comparisons under `comparison`, with the
    fingerprints of a deep job. A fingerprint that differs is named in a later judgement too, and
    changes no verdict.
    """
    if job.tier == Tier.QUICK:
        return ()
    models = list(comparable_cells(job))
    comparisons = parity.adjust([p for cells in models for p in compare_to_reference(cells)])
    notable = tuple(p for p in comparisons if p.alarm or p.losses)
    fingerprints = compare_fingerprints(job, models) if job.tier == Tier.DEEP else []
    different = {(f["model"], f["region"]): f["sentence"] for f in fingerprints if f["sentence"]}
    for comparison in notable:
        cell = (comparison.model, comparison.region)
        judge_again(job, *cell, comparison, different.get(cell, ""))
    judged = {(p.model, p.region) for p in notable}
    for cell, difference in different.items():
        if cell not in judged:
            judge_again(job, *cell, None, difference)
    if notable:
        log.warning("parity_lost", job=str(job.pk), cells=len(notable))
    if different:
        log.warning("fingerprints_differ", job=str(job.pk), cells=len(different))
    job.config["comparison"] = {
        "parity": [parity_json(p) for p in notable],
        "fingerprints": fingerprints,
    }
    with transaction.atomic():
        job.save(update_fields=["config"])
        if notable:
            more = f" And {len(notable) - 1} more." if len(notable) > 1 else ""
            raise_alert(
                "parity_lost",
                "warning",
                (notable[0].sentence or "A region lost a capability that another has.") + more,
                subject={
                    "jobId": str(job.pk),
                    "cells": [
                        {"model": p.model, "region": p.region, "reference": p.reference}
                        for p in notable
                    ],
                },
                once=str(job.pk),
            )
    return notable


def compare_overdue() -> int:
    """Compare the regions of finished jobs that nobody has compared. Returns the number compared.

    The worker of a job's last run compares at once; it may have died on the way, or the last run
    may have ended elsewhere. A comparison that fails is tried again after OVERDUE_AFTER, when its
    turn comes, for as long as the job is younger than MAX_AGE.
    """
    now = clock.now()
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


def comparable_cells(job: CertificationJob) -> Iterator[list[MeasuredPair]]:
    """Yield the cells of every model that was judged in two regions or more, in the order of the
    job's regions. Runs whose evidence is incomplete are left out.
    """
    judged = job.runs.filter(status=State.COMPLETED).exclude(verdict=Status.NOT_TESTED)
    several = judged.order_by().values("model").annotate(n=Count("pk")).filter(n__gt=1)
    order = {code: position for position, code in enumerate(job.regions)}
    for model_id in list(several.values_list("model", flat=True)):
        runs = judged.filter(model=model_id).select_related("model").prefetch_related("results")
        cells = []
        for run in sorted(runs, key=lambda r: order.get(r.region_id, 0)):
            with contextlib.suppress(LookupError):
                cells.append(cell_of(run))
        if len(cells) > 1:
            yield cells


def cell_of(run: CertificationRun) -> MeasuredPair:
    """Build a run's cell. LookupError when its evidence is incomplete.

    `tokens` are the input tokens that the service counted for the prompts that are compared.
    """
    results = list(run.results.all())
    outcomes = evidence.outcomes_of(results)
    tokens = {
        trial["trial"]: trial["evidence"]["input_tokens"]
        for result in results
        if result.case_id == parity.TOKENS_COMPARED_BY
        for trial in result.trials
        if trial["passed"] and isinstance(trial["evidence"].get("input_tokens"), int)
    }
    return MeasuredPair(
        model=run.model.api_model_id,
        region=run.region_id,
        seed=run.variant_seed,
        suite_version=run.suite_version,
        trials=parity.trials_of(outcomes),
        proved=parity.proved_capabilities(outcomes),
        lacks=frozenset(run.environment.get("lacks", ())),
        certified=run.verdict == Status.CERTIFIED,
        tokens=tokens,
    )


def compare_to_reference(cells: list[MeasuredPair]) -> tuple[Parity, ...]:
    """Compare one model's regions with the best one, where they were given the same prompts."""
    reference = parity.reference_of(cells)
    if reference is None:
        return ()
    same = (reference.seed, reference.suite_version)
    return parity.compare(reference, [c for c in cells if (c.seed, c.suite_version) == same])


def compare_fingerprints(
    job: CertificationJob, models: Iterable[list[MeasuredPair]]
) -> list[dict[str, Any]]:
    """Measure how far each region's short answers are from the reference's, corrected over all of
    the job's comparisons. Returns them as JSON.

    The first region is the reference where none is certified.
    """
    samples: list[tuple[MeasuredPair, MeasuredPair, list[list[str]], list[list[str]]]] = []
    for cells in models:
        reference = parity.reference_of(cells) or cells[0]
        answers = fingerprint_answers(job, reference.model)
        theirs = answers.get(reference.region, {})
        for cell in cells:
            ours = answers.get(cell.region, {})
            prompts = sorted(theirs.keys() & ours.keys())
            if cell is reference or cell.suite_version != reference.suite_version or not prompts:
                continue
            samples.append(
                (cell, reference, [theirs[p] for p in prompts], [ours[p] for p in prompts])
            )
    # A p value of m comparisons can reach 0.01 after the correction only where 1 / permutations is
    # 0.01 / m.
    permutations = min(max(MIN_PERMUTATIONS, 100 * len(samples) - 1), MAX_PERMUTATIONS)
    fingerprints = [
        statistics.fingerprint(theirs, ours, permutations) for _c, _r, theirs, ours in samples
    ]
    adjusted = statistics.benjamini_hochberg([f.p_value for f in fingerprints])
    return [
        fingerprint_json(cell, reference, fingerprint, q)
        for (cell, reference, _theirs, _ours), fingerprint, q in zip(
            samples, fingerprints, adjusted, strict=True
        )
    ]


def fingerprint_answers(
    job: CertificationJob, api_model_id: str
) -> dict[str, dict[int, list[str]]]:
    """Read a model's short answers by region and by the prompt's number."""
    answers: dict[str, dict[int, list[str]]] = {}
    results = TestResult.objects.filter(
        run__job=job, run__model__api_model_id=api_model_id, case_id=FINGERPRINT
    )
    for result in results.select_related("run"):
        by_prompt = answers[result.run.region_id] = defaultdict(list)
        for trial in result.trials:
            if trial["valid"] and "answer" in trial["evidence"]:
                by_prompt[trial["evidence"]["prompt"]].append(trial["evidence"]["answer"])
    return answers


def parity_json(comparison: Parity) -> dict[str, Any]:
    """Encode a comparison for the job's configuration."""
    return {
        "model": comparison.model,
        "region": comparison.region,
        "reference": comparison.reference,
        "compared": comparison.compared,
        "flips": [list(flip) for flip in comparison.flips],
        "gains": [list(gain) for gain in comparison.gains],
        "pValue": comparison.p_value,
        "adjusted": comparison.adjusted,
        "losses": sorted(comparison.losses),
        "sentence": comparison.sentence,
    }


def fingerprint_json(
    cell: MeasuredPair,
    reference: MeasuredPair,
    fingerprint: statistics.Fingerprint,
    adjusted: float,
) -> dict[str, Any]:
    """Encode a fingerprint for the job's configuration; with a sentence where it differs."""
    sentence = ""
    if adjusted <= parity.ALARM:
        sentence = (
            f"The short answers differ from those in {reference.region} "
            f"(distance {fingerprint.distance:.2f}, p = {adjusted:.2g} after the correction): "
            "the two may not serve the same model."
        )
    return {
        "model": cell.model,
        "region": cell.region,
        "reference": reference.region,
        "distance": fingerprint.distance,
        "pValue": fingerprint.p_value,
        "adjusted": adjusted,
        "permutations": fingerprint.permutations,
        "sentence": sentence,
    }


def judge_again(
    job: CertificationJob,
    api_model_id: str,
    region: str,
    comparison: Parity | None,
    difference: str,
) -> None:
    """Add a later judgement to a run: with what the comparison showed, and the sentence of a
    fingerprint that differs.
    """
    runs = job.runs.select_related("model", "region")
    run = runs.get(model__api_model_id=api_model_id, region=region)
    judged = rescore.restore(run, list(run.results.all()))
    if comparison:
        judged = replace(judged, parity_losses=comparison.losses, parity_alarm=comparison.sentence)
    judgement = scoring.judge(judged)
    if difference:
        judgement = replace(judgement, message=f"{judgement.message} {difference}")
    rescore.write(
        [rescore.Change(run, judgement)],
        version=PARITY_VERSION if comparison else FINGERPRINT_VERSION,
    )
