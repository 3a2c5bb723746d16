"""Load the status of one model in one region, with its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from certification.models import (
    TERMINAL,
    AIModel,
    CertificationRun,
    ModelCertification,
    Region,
    Route,
    RunJudgement,
    TestResult,
    validity,
)
from certification.reasons import Status

RUNS_SHOWN = 10


@dataclass(frozen=True)
class Detail:
    """A pair's certification (None when it was never tested), the run that says why, its results,
    and the last runs.

    `judged_again` is the last judgement of that run after its own: under a newer policy, or
    compared with other regions.
    """

    model: AIModel
    region: Region
    certification: ModelCertification | None
    routes: Sequence[Route]
    runs: Sequence[CertificationRun]
    results: Sequence[TestResult]
    now: datetime
    judged_again: RunJudgement | None = None
    best_region: str = ""  # where else the model stands best

    @property
    def status(self) -> str:
        """The standing; for an expired one, what it was."""
        row = self.certification
        if row is None:
            return Status.NOT_TESTED
        return validity.shown_status(row, self.now)

    @property
    def expired(self) -> bool:
        return self.certification is not None and self.certification.is_expired(self.now)

    @property
    def active(self) -> CertificationRun | None:
        return next((run for run in self.runs if not run.is_finished), None)

    @property
    def last(self) -> CertificationRun | None:
        """The last finished run, which is the one whose results are shown."""
        return next((run for run in self.runs if run.is_finished), None)

    @property
    def proof(self) -> CertificationRun | None:
        """The run that the standing rests on; the last one where none does."""
        return (self.certification.run if self.certification else None) or self.last

    @property
    def later_without_verdict(self) -> bool:
        """Whether a newer run ended without moving the standing."""
        return self.last is not None and self.proof is not None and self.last.pk != self.proof.pk


def load(model: AIModel, region: Region, now: datetime) -> Detail:
    """Everything about a model in a region, in six queries."""
    certification = (
        ModelCertification.objects.filter(model=model, region=region)
        .select_related("run", "run__job")
        .first()
    )
    runs = list(
        CertificationRun.objects.filter(model=model, region=region).order_by("-created_at")[
            :RUNS_SHOWN
        ]
    )
    last = next((run for run in runs if run.status in TERMINAL), None)
    proof = (certification.run if certification else None) or last
    return Detail(
        model=model,
        region=region,
        certification=certification,
        routes=sorted(model.routes.filter(region=region), key=lambda route: route.preference),
        runs=runs,
        results=list(last.results.defer("trials").order_by("pk")) if last else [],
        now=now,
        judged_again=RunJudgement.objects.filter(run=proof).order_by("judged_at").last()
        if proof
        else None,
        best_region=best_region(model, region.code) if certification else "",
    )


def best_region(model: AIModel, region: str) -> str:
    """Return the region where a model stands best besides this one; "" where none is certified."""
    certified = ModelCertification.objects.filter(
        model=model, status=Status.CERTIFIED, run__isnull=False
    ).exclude(region=region)
    best = certified.order_by("-score", "region").values_list("region_id", flat=True).first()
    return best or ""
