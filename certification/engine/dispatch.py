"""From a wish to a job: check it, estimate it, write the job and its runs, put them on the queue."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from certification.engine import backend, queue
from certification.lib import shared_cache
from certification.models import (
    ACTIVE,
    AIModel,
    CertificationJob,
    CertificationRun,
    JobType,
    OperatorCase,
    Priority,
    Region,
    Route,
    State,
    Tier,
    User,
)
from certification.suite import registry

log = structlog.get_logger(__name__)

MAX_IDEMPOTENCY_KEY = 200  # characters
MAX_COST_USD = 1_000_000
MAX_SEED = 2**32 - 1


class DispatchError(Exception):
    """A wish that cannot be granted; the text says what to do. `code` is stable, `names` what it is
    about.
    """

    code = "cannot_dispatch"

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class ModelNotFound(DispatchError):
    code = "model_not_found"


class RegionNotFound(DispatchError):
    code = "region_not_found"


class NothingToRun(DispatchError):
    code = "nothing_to_run"


class AlreadyRunning(DispatchError):
    """Every pair has an active run; `job` is one that runs them."""

    code = "already_running"

    def __init__(self, message: str, job: CertificationJob) -> None:
        super().__init__(message)
        self.job = job


class TooExpensive(DispatchError):
    code = "too_expensive"


class BadOption(DispatchError):
    """An option of the wish that cannot be kept; `names` has its name."""

    code = "bad_option"


@dataclass(frozen=True)
class Estimate:
    """What a job will cost before it starts. `usd` covers the priced pairs only; `unpriced` counts
    the others.
    """

    calls: int
    usd: float
    unpriced: int


@dataclass(frozen=True)
class DispatchResult:
    """What came of a wish. `skipped` pairs already have an active run; `not_offered` counts pairs
    without a route.
    """

    job: CertificationJob
    created: bool
    estimate: Estimate
    skipped: tuple[tuple[str, str], ...] = ()
    not_offered: int = 0


@dataclass(frozen=True)
class CertifyOptions:
    """Options that every way of asking shares."""

    tier: str = Tier.FULL
    by: User | None = None
    priority: str = ""  # chosen by size when empty
    idempotency_key: str = ""
    max_cost_usd: float | None = None
    # shared by all runs of the job, so that regions get the same prompts; drawn when None
    seed: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


def find_models(names: Iterable[str]) -> list[AIModel]:
    """The models with these UUIDs or api_model_ids, in the order given. ModelNotFound names those
    nobody knows.
    """
    names = list(dict.fromkeys(names))
    found = AIModel.objects.named(name for name in names if name.isprintable())
    missing = [name for name in names if name not in found]
    if missing:
        raise ModelNotFound(
            f"Unknown model: {', '.join(missing)}. See the ids with: manage.py list_uncertified --all, "
            "or bring new ones in with: manage.py sync_catalogue",
            missing,
        )
    return list(dict.fromkeys(found[name] for name in names))


def find_regions(codes: Iterable[str]) -> list[Region]:
    """The enabled regions with these codes, in the order given. RegionNotFound names unknown and
    disabled ones.
    """
    codes = list(dict.fromkeys(codes))
    found = {
        r.code: r
        for r in Region.objects.filter(code__in=[code for code in codes if code.isprintable()])
    }
    unknown = [code for code in codes if code not in found]
    if unknown:
        raise RegionNotFound(
            _(
                "Unknown region: %(regions)s. Regions look like us-east-1; the admin lists all %(n)d."
            )
            % {"regions": ", ".join(unknown), "n": Region.objects.count()},
            unknown,
        )
    disabled = [code for code in codes if not found[code].enabled]
    if disabled:
        raise RegionNotFound(
            _("Disabled region: %s. Enable it in the admin first.") % ", ".join(disabled), disabled
        )
    return [found[code] for code in codes]


def certify(
    models: Sequence[AIModel],
    regions: Sequence[Region],
    options: CertifyOptions,
    *,
    job_type: str = "",
    pairs: Sequence[tuple[AIModel, Region]] | None = None,
) -> DispatchResult:
    """Start certifying models x regions (or just `pairs`). Raises DispatchError; nothing is written
    then.
    """
    _check(options)
    earlier = _earlier(options)
    if earlier:
        return earlier
    wanted = list(pairs) if pairs is not None else [(m, r) for m in models for r in regions]
    if not wanted:
        raise NothingToRun(_("Nothing to certify: no model and region were given."))
    estimate = estimate_pairs(wanted, options.tier)
    if options.max_cost_usd is not None and estimate.usd > options.max_cost_usd:
        raise TooExpensive(
            _(
                "This is estimated at %(usd)s USD (calls: %(calls)d), over the limit of %(limit)s USD. "
                "Ask for fewer models or regions, a lower tier, or a higher limit."
            )
            % {
                "usd": number_format(estimate.usd, 2),
                "calls": estimate.calls,
                "limit": number_format(options.max_cost_usd, 2),
            }
        )
    one = len({model.pk for model, _region in wanted}) == 1  # in however many regions
    kind = job_type or (JobType.SINGLE_MODEL if one else JobType.MULTIPLE_MODELS)
    try:
        with transaction.atomic():
            job = _job(wanted, options, kind, estimate)
            skipped = _skipped(job, wanted, options)
            if not job.total_runs:
                raise _already_running(skipped)
            shared_cache.invalidate()
            transaction.on_commit(lambda: queue.publish_job(job))
    except IntegrityError:
        # Two identical requests at the same instant: the other one's job holds the key.
        earlier = _earlier(options)
        if earlier:
            return earlier
        raise
    log.info(
        "job_created",
        job=str(job.pk),
        type=kind,
        tier=options.tier,
        runs=job.total_runs,
        skipped=len(skipped),
    )
    return DispatchResult(job, True, estimate, tuple((m.api_model_id, r.code) for m, r in skipped))


def certify_all(
    regions: Sequence[Region], options: CertifyOptions, *, include_unlisted: bool = False
) -> DispatchResult:
    """Start certifying every active model in each region where it has a route (anywhere, with
    `include_unlisted`).
    """
    models = list(AIModel.objects.active())
    pairs = (
        [(m, r) for m in models for r in regions]
        if include_unlisted
        else offered_pairs(models, regions)
    )
    if not pairs:
        raise NothingToRun(
            _("No active model is offered in these regions. Run manage.py sync_catalogue first.")
        )
    done = certify(models, regions, options, job_type=JobType.ALL_MODELS, pairs=pairs)
    not_offered = len(models) * len(regions) - len(pairs)
    return DispatchResult(done.job, done.created, done.estimate, done.skipped, not_offered)


def offered_pairs(
    models: Iterable[AIModel], regions: Iterable[Region]
) -> list[tuple[AIModel, Region]]:
    """The pairs for which the catalogue knows a route, models first."""
    regions = list(regions)
    offered = set(Route.objects.filter(region__in=regions).values_list("model_id", "region_id"))
    return [(m, r) for m in models for r in regions if (m.pk, r.pk) in offered]


def retry(
    job: CertificationJob, by: User | None = None, *, cancelled: bool = False
) -> DispatchResult:
    """A new job for the runs of `job` that failed (ended without a verdict); with `cancelled` for
    the cancelled ones too.
    """
    states = [State.FAILED, State.CANCELLED] if cancelled else [State.FAILED]
    again = (
        job.runs.filter(status__in=states).select_related("model", "region").order_by("created_at")
    )
    pairs = [(run.model, run.region) for run in again]
    if not pairs:
        left = 0 if cancelled else job.runs.filter(status=State.CANCELLED).count()
        said = _("This job has no failed runs to retry.")
        if left:
            hint = _(
                "Cancelled runs: %(n)d. This takes them too: manage.py job retry %(job)s --cancelled"
            )
            said = f"{said} {hint % {'n': left, 'job': job.pk}}"
        raise NothingToRun(said)
    return certify(
        [],
        [],
        CertifyOptions(tier=job.tier, by=by, config={"retry_of": str(job.pk)}),
        job_type=job.type,
        pairs=pairs,
    )


def estimate_pairs(pairs: Sequence[tuple[AIModel, Region]], tier: str) -> Estimate:
    """Calls and money for these pairs, from the suite's own figures and the catalogue's prices."""
    own = OperatorCase.objects.specs() if tier != Tier.QUICK else ()
    calls, usd, unpriced = 0, 0.0, 0
    per_model: dict[uuid.UUID, tuple[int, float | None]] = {}
    for model, _region in pairs:
        if model.pk not in per_model:
            size = registry.estimate(model.kind, tier, frozenset(model.capabilities), own)
            per_model[model.pk] = size.calls, model.cost_usd(size.input_tokens, size.output_tokens)
        n, cost = per_model[model.pk]
        calls += n
        usd += cost or 0.0
        unpriced += n > 0 and cost is None
    return Estimate(calls, usd, unpriced)


def _check(options: CertifyOptions) -> None:
    key, cost, seed = options.idempotency_key, options.max_cost_usd, options.seed
    if len(key) > MAX_IDEMPOTENCY_KEY or (key and not key.isprintable()):
        raise BadOption(
            f"An idempotency key has at most {MAX_IDEMPOTENCY_KEY} printable characters.",
            ["idempotency_key"],
        )
    if cost is not None and not 0 <= cost < MAX_COST_USD:
        raise BadOption(
            f"The limit of what a job may cost lies between 0 and {MAX_COST_USD - 1} USD.",
            ["max_cost_usd"],
        )
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise BadOption(f"A seed lies between 0 and {MAX_SEED}.", ["seed"])


def _earlier(options: CertifyOptions) -> DispatchResult | None:
    if not options.idempotency_key:
        return None
    job = CertificationJob.objects.filter(idempotency_key=options.idempotency_key).first()
    return (
        DispatchResult(job, False, Estimate(0, float(job.estimated_cost_usd or 0), 0))
        if job
        else None
    )


def _job(
    pairs: Sequence[tuple[AIModel, Region]], options: CertifyOptions, kind: str, estimate: Estimate
) -> CertificationJob:
    bulk = len(pairs) > settings.CERTIFICATION_BULK_RUNS
    return CertificationJob.objects.create(
        type=kind,
        tier=options.tier,
        priority=options.priority or (Priority.BULK if bulk else Priority.INTERACTIVE),
        backend=backend.name(),
        regions=list(dict.fromkeys(r.code for _m, r in pairs)),
        model_ids=list(dict.fromkeys(str(m.pk) for m, _r in pairs)),
        total_runs=0,
        idempotency_key=options.idempotency_key or None,
        max_cost_usd=options.max_cost_usd,
        estimated_cost_usd=round(estimate.usd, 6),
        config={"queue": settings.CERTIFICATION_QUEUE_NAME, **options.config},
        created_by=options.by,
    )


def _skipped(
    job: CertificationJob, pairs: Sequence[tuple[AIModel, Region]], options: CertifyOptions
) -> list[tuple[AIModel, Region]]:
    """Create the job's runs. The pairs that got none: one with an active run keeps that one
    (partial unique index).

    In one order everywhere, so that two sweeps that start together wait for each other and never
    lock crosswise.
    """
    seed = secrets.randbits(32) if options.seed is None else options.seed
    ordered = sorted(pairs, key=lambda pair: (pair[0].api_model_id, pair[1].code))
    made = CertificationRun.objects.create_pending(job, [(m.pk, r.code) for m, r in ordered], seed)
    job.total_runs = len(made)
    job.save(update_fields=["total_runs"])
    return [(m, r) for m, r in pairs if (m.pk, r.code) not in made]


def _already_running(skipped: Sequence[tuple[AIModel, Region]]) -> DispatchError:
    model, region = skipped[0]
    run = (
        CertificationRun.objects.filter(model=model, region=region, status__in=ACTIVE)
        .select_related("job")
        .first()
    )
    if run is None:  # it ended this very moment
        return NothingToRun(_("The run that stood in the way has just ended. Ask again."))
    return AlreadyRunning(
        _(
            "Already running: %(model)s in %(region)s, job %(job)s. "
            "Wait for it, or cancel it with: manage.py job cancel %(job)s"
        )
        % {"model": model.api_model_id, "region": region.code, "job": run.job_id},
        run.job,
    )
