"""Start certifications: check a request, estimate it, create the job and its runs, queue them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from certification.engine import backend, queue
from certification.engine.estimate import JobEstimate, estimate_pairs
from certification.lib import clock, shared_cache
from certification.models import (
    ACTIVE,
    AIModel,
    CertificationJob,
    CertificationRun,
    JobType,
    ModelCertification,
    Priority,
    QueuePause,
    Region,
    Route,
    State,
    Tier,
    User,
)
from certification.models.jobs import MAX_NOTE

log = structlog.get_logger(__name__)

# characters of a caller's key; the column also holds the caller's id
MAX_IDEMPOTENCY_KEY = 128
MAX_COST_USD = 1_000_000
MAX_SEED = 2**32 - 1

Pair = tuple[AIModel, Region]


class DispatchError(Exception):
    """A request that cannot be carried out. The message says what happened.

    `code` is stable, `names` lists what the error is about. What to do about it depends on where
    the request came from: commands and pages add that themselves.
    """

    code = "cannot_dispatch"

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class ReadOnly(DispatchError):
    """Nothing new is accepted at the moment."""

    code = "read_only"


class ModelNotFound(DispatchError):
    code = "model_not_found"


class RegionNotFound(DispatchError):
    code = "region_not_found"


class NothingToRun(DispatchError):
    code = "nothing_to_run"


class NotOffered(NothingToRun):
    """The catalogue knows no route for any of the models in these regions."""


class NothingFailed(NothingToRun):
    """A job has no failed runs to retry, but perhaps `cancelled` ones."""

    def __init__(self, message: str, job: CertificationJob, cancelled: int) -> None:
        super().__init__(message)
        self.job, self.cancelled = job, cancelled


class AlreadyRunning(DispatchError):
    """Every pair has an active run; `job` is one that runs them."""

    code = "already_running"

    def __init__(self, message: str, job: CertificationJob) -> None:
        super().__init__(message)
        self.job = job


class TooExpensive(DispatchError):
    """The estimate is over the limit, or the limit means nothing for `unpriced` of the pairs."""

    code = "too_expensive"

    def __init__(self, message: str, unpriced: int = 0) -> None:
        super().__init__(message)
        self.unpriced = unpriced


class BadOption(DispatchError):
    """An option out of its range; `names` has its name."""

    code = "bad_option"


@dataclass(frozen=True)
class DispatchResult:
    """The job of a request. `skipped` pairs already have an active run; `not_offered` counts pairs
    without a route.
    """

    job: CertificationJob
    created: bool
    estimate: JobEstimate
    skipped: tuple[tuple[str, str], ...] = ()
    not_offered: int = 0


@dataclass(frozen=True)
class CertifyOptions:
    """Options shared by commands, API and admin."""

    tier: str = Tier.FULL
    by: User | None = None
    priority: str = ""  # chosen by size when empty
    idempotency_key: str = ""  # one user's key is not another's
    max_cost_usd: float | None = None
    allow_unpriced: bool = False  # start models without a known price in spite of max_cost_usd
    # shared by all runs of the job, so that regions get the same prompts; drawn when None
    seed: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""  # what it is for

    @property
    def stored_key(self) -> str:
        return f"{self.by.pk}:{self.idempotency_key}" if self.by else self.idempotency_key

    def check(self) -> None:
        """Raise BadOption for a value out of its range."""
        key, cost, seed = self.idempotency_key, self.max_cost_usd, self.seed
        if len(key) > MAX_IDEMPOTENCY_KEY or (key and not key.isprintable()):
            raise BadOption(
                _("An idempotency key can have at most %d printable characters.")
                % MAX_IDEMPOTENCY_KEY,
                ["idempotency_key"],
            )
        if cost is not None and not 0 <= cost < MAX_COST_USD:
            raise BadOption(
                _("The maximum cost must be between 0 and %d USD.") % (MAX_COST_USD - 1),
                ["max_cost_usd"],
            )
        if len(self.note) > MAX_NOTE:
            raise BadOption(_("A note can have at most %d characters.") % MAX_NOTE, ["note"])
        if seed is not None and not 0 <= seed <= MAX_SEED:
            raise BadOption(_("A seed must be between 0 and %d.") % MAX_SEED, ["seed"])

    def check_cost(self, estimate: JobEstimate, pairs: int) -> None:
        """Raise TooExpensive for an estimate over the limit, or one that leaves prices unknown."""
        if self.max_cost_usd is None:
            return
        limit = number_format(round(self.max_cost_usd, 2), 2)
        if estimate.usd > self.max_cost_usd:
            raise TooExpensive(
                _(
                    "The estimated cost is %(usd)s USD (calls: %(calls)d), over the limit of "
                    "%(limit)s USD. Choose fewer models or regions, a lower tier, or a higher "
                    "limit."
                )
                % {
                    "usd": number_format(round(estimate.usd, 2), 2),  # it cuts digits off
                    "calls": estimate.calls,
                    "limit": limit,
                }
            )
        if estimate.unpriced and not self.allow_unpriced:
            raise TooExpensive(
                _(
                    "%(unpriced)d of %(pairs)d pairs have no known price, so the limit of "
                    "%(limit)s USD cannot be checked. Leave these models out, enter their prices "
                    "in the admin, or allow models without a price."
                )
                % {"unpriced": estimate.unpriced, "pairs": pairs, "limit": limit},
                estimate.unpriced,
            )


def find_models(names: Iterable[str]) -> list[AIModel]:
    """Return the models with these UUIDs or api_model_ids, in this order, each once.

    ModelNotFound names those that the catalogue does not have.
    """
    names = list(dict.fromkeys(names))
    models = AIModel.objects.named(name for name in names if name.isprintable())
    missing = [name for name in names if name not in models]
    if missing:
        raise ModelNotFound(_("Unknown model: %s.") % ", ".join(missing), missing)
    return list(dict.fromkeys(models[name] for name in names))


def find_regions(codes: Iterable[str]) -> list[Region]:
    """Return the enabled regions with these codes, in this order.

    RegionNotFound names unknown and disabled ones.
    """
    codes = list(dict.fromkeys(codes))
    printable = [code for code in codes if code.isprintable()]
    regions = {region.code: region for region in Region.objects.filter(code__in=printable)}
    unknown = [code for code in codes if code not in regions]
    if unknown:
        raise RegionNotFound(
            _(
                "Unknown region: %(regions)s. Regions look like us-east-1; the admin lists all "
                "%(n)d."
            )
            % {"regions": ", ".join(unknown), "n": Region.objects.count()},
            unknown,
        )
    disabled = [code for code in codes if not regions[code].enabled]
    if disabled:
        raise RegionNotFound(
            _("Disabled region: %s. Enable it in the admin first.") % ", ".join(disabled), disabled
        )
    return [regions[code] for code in codes]


def pairs_of(models: Iterable[AIModel], regions: Sequence[Region]) -> list[Pair]:
    """Return every model in every region, models first."""
    return [(model, region) for model in models for region in regions]


def offered_pairs(models: Iterable[AIModel], regions: Sequence[Region]) -> list[Pair]:
    """Return the pairs for which the catalogue knows a route, models first."""
    offered = set(Route.objects.filter(region__in=regions).values_list("model_id", "region_id"))
    return [(m, r) for m, r in pairs_of(models, regions) if (m.pk, r.pk) in offered]


def certify(
    pairs: Sequence[Pair], options: CertifyOptions, *, job_type: str = ""
) -> DispatchResult:
    """Start certifying these pairs. Raise DispatchError; then nothing is written."""
    options.check()
    check_not_read_only()
    if existing := find_by_idempotency_key(options):
        return existing
    if not pairs:
        raise NothingToRun(_("Nothing to certify: no model and region were given."))
    estimate = estimate_pairs(pairs, options.tier)
    options.check_cost(estimate, len(pairs))
    if not job_type:  # one model in however many regions is a job of one model
        is_single = len({model.pk for model, _region in pairs}) == 1
        job_type = JobType.SINGLE_MODEL if is_single else JobType.MULTIPLE_MODELS
    is_bulk = len(pairs) > settings.CERTIFICATION_BULK_RUNS
    try:
        with transaction.atomic():
            job = CertificationJob.objects.create(
                type=job_type,
                tier=options.tier,
                priority=options.priority or (Priority.BULK if is_bulk else Priority.INTERACTIVE),
                backend=backend.name(),
                regions=list(dict.fromkeys(region.code for _model, region in pairs)),
                model_ids=list(dict.fromkeys(str(model.pk) for model, _region in pairs)),
                total_runs=0,
                idempotency_key=options.stored_key if options.idempotency_key else None,
                max_cost_usd=options.max_cost_usd,
                estimated_cost_usd=round(estimate.usd, 6),
                config={"queue": settings.CERTIFICATION_QUEUE_NAME, **options.config},
                note=options.note,
                created_by=options.by,
            )
            skipped = create_runs(job, pairs, options.seed)
            if not job.total_runs:
                raise already_running(*skipped[0])
            shared_cache.invalidate()
            transaction.on_commit(lambda: queue.publish_job(job))
    except IntegrityError:
        # two identical requests at the same instant: the other one's job holds the key
        if existing := find_by_idempotency_key(options):
            return existing
        raise
    log.info(
        "job_created",
        job=str(job.pk),
        type=job_type,
        tier=options.tier,
        runs=job.total_runs,
        skipped=len(skipped),
    )
    return DispatchResult(job, True, estimate, tuple((m.api_model_id, r.code) for m, r in skipped))


def check_not_read_only() -> None:
    """Raise ReadOnly while nothing new is accepted."""
    if pause := QueuePause.objects.read_only():
        raise ReadOnly(pause.sentence)


def certify_all(
    regions: Sequence[Region], options: CertifyOptions, *, include_unlisted: bool = False
) -> DispatchResult:
    """Start certifying every active model in each region where it has a route (anywhere, with
    `include_unlisted`).
    """
    models = list(AIModel.objects.active())
    pairs = (pairs_of if include_unlisted else offered_pairs)(models, regions)
    if not pairs:
        raise NotOffered(_("No active model is offered in these regions."))
    result = certify(pairs, options, job_type=JobType.ALL_MODELS)
    return replace(result, not_offered=len(models) * len(regions) - len(pairs))


def stale_pairs(regions: Sequence[Region], days: int) -> list[Pair]:
    """Return the pairs that were last tested more than so many days ago, or have expired."""
    before = clock.now() - timedelta(days=days)
    rows = ModelCertification.objects.in_regions(regions).stale(before)
    return [(row.model, row.region) for row in rows.select_related("model", "region")]


def recertify(pairs: Sequence[Pair], tier: str, days: int) -> DispatchResult:
    """Start a job that certifies what is stale again."""
    options = CertifyOptions(tier=tier, config={"days": days})
    return certify(pairs, options, job_type=JobType.RECERTIFY)


def retry(
    job: CertificationJob, by: User | None = None, *, cancelled: bool = False
) -> DispatchResult:
    """Create a job for the runs of `job` that failed (ended without a verdict); with `cancelled`
    for the cancelled ones too.
    """
    states = [State.FAILED, State.CANCELLED] if cancelled else [State.FAILED]
    runs = job.runs.filter(status__in=states).select_related("model", "region")
    pairs = [(run.model, run.region) for run in runs.order_by("created_at")]
    if not pairs:
        left = job.runs.filter(status=State.CANCELLED).count()
        raise NothingFailed(
            _("This job has no failed runs to retry, but %d cancelled ones.") % left
            if left
            else _("This job has no failed runs to retry."),
            job,
            left,
        )
    options = CertifyOptions(tier=job.tier, by=by, config={"retry_of": str(job.pk)})
    return certify(pairs, options, job_type=job.type)


def retry_run(run: CertificationRun, by: User | None = None) -> DispatchResult:
    """Create a job for one run that ended without a verdict or was cancelled."""
    if run.status not in (State.FAILED, State.CANCELLED):
        raise NothingToRun(
            _("Only a run that was cancelled or ended without a verdict can be tried again.")
        )
    config = {"retry_of": str(run.job_id), "retry_of_run": str(run.pk)}
    options = CertifyOptions(tier=run.tier, by=by, config=config)
    return certify([(run.model, run.region)], options)


def find_by_idempotency_key(options: CertifyOptions) -> DispatchResult | None:
    """Return the job that an earlier request with the same key created."""
    if not options.idempotency_key:
        return None
    job = CertificationJob.objects.filter(idempotency_key=options.stored_key).first()
    if job is None:
        return None
    usd = float(job.estimated_cost_usd or 0)
    return DispatchResult(job, False, JobEstimate(job.total_runs, 0, usd, usd, 0))


def create_runs(job: CertificationJob, pairs: Sequence[Pair], seed: int | None) -> list[Pair]:
    """Create the job's runs and return the pairs that got none, because they have an active run
    (partial unique index).

    In one order everywhere, so that two sweeps that start together wait for each other and never
    lock crosswise.
    """
    if seed is None:
        seed = secrets.randbits(32)
    ordered = sorted(pairs, key=lambda pair: (pair[0].api_model_id, pair[1].code))
    created = CertificationRun.objects.create_pending(
        job, [(model.pk, region.code) for model, region in ordered], seed
    )
    job.total_runs = len(created)
    job.save(update_fields=["total_runs"])
    return [(m, r) for m, r in pairs if (m.pk, r.code) not in created]


def already_running(model: AIModel, region: Region) -> DispatchError:
    """Return the error that names the job which is running this pair."""
    active = CertificationRun.objects.filter(model=model, region=region, status__in=ACTIVE)
    run = active.select_related("job").first()
    if run is None:  # it ended this very moment
        return NothingToRun(_("The conflicting run has just finished. Try again."))
    return AlreadyRunning(
        _(
            "Already running: %(model)s in %(region)s, job %(job)s. "
            "Wait for that job, or cancel it first."
        )
        % {"model": model.api_model_id, "region": region.code, "job": run.job_id},
        run.job,
    )
