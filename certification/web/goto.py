"""Find models, regions, pairs, jobs, runs, certificates, pages and actions by a few words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certification.certificates import codes
from certification.models import AIModel, Certificate, CertificationJob, CertificationRun, Region

T = TypeVar("T")
Pair = tuple[AIModel, Region]
MAX_HITS = 10  # of a kind
MIN_ID = 4  # hexadecimal digits that may be the beginning of an id
MAX_TEXT = 200
PAGES: tuple[tuple[str | Promise, str], ...] = (
    (gettext_lazy("Overview"), "overview"),
    (gettext_lazy("Matrix"), "matrix"),
    (gettext_lazy("Jobs"), "jobs"),
    (gettext_lazy("Compare"), "compare"),
    (gettext_lazy("Operations"), "operations"),
    (gettext_lazy("Runbooks"), "runbooks"),
    (gettext_lazy("Account"), "account"),
    (gettext_lazy("Change the password"), "password"),
    (gettext_lazy("Verify a certificate"), "verify"),
)


class Hit(NamedTuple):
    """A place to go to."""

    label: str
    detail: str
    url: str


@dataclass(frozen=True)
class Group:
    """The places of one kind. `more`: there are more than are shown."""

    name: str | Promise
    hits: Sequence[Hit]
    more: bool = False


@dataclass(frozen=True)
class Results:
    text: str
    groups: Sequence[Group]

    @property
    def count(self) -> int:
        return sum(len(group.hits) for group in self.groups)


def search(text: str, *, is_operator: bool) -> Results:
    """Find what matches all words of a text, in at most five queries: models, regions, jobs, runs,
    certificates.
    Without one: the pages and the last jobs.
    """
    words = plain(text.replace("\0", "")[:MAX_TEXT]).split()
    every_model = AIModel.objects.active().only("id", "name", "vendor", "api_model_id")
    models = list(every_model.with_offered_in().with_other_ids())
    regions = list(Region.objects.enabled())
    found_models = [m for m in models if words and matches(words, model_text(m))]
    found_regions = [r for r in regions if words and matches(words, region_text(r))]
    pairs = list(islice(find_pairs(words, models, regions), MAX_HITS + 1))
    pages = [page for page in PAGES if matches(words, plain(str(page[0])))]
    groups = [
        group_of(_("Models"), found_models, model_hit),
        group_of(_("Regions"), found_regions, region_hit),
        group_of(_("Models in regions"), pairs, pair_hit),
        group_of(_("Jobs"), find_jobs(words), job_hit),
        group_of(_("Runs"), find_runs(words), run_hit),
        group_of(_("Certificates"), find_certificates(words), certificate_hit),
        group_of(_("Pages"), pages, page_hit),
    ]
    if is_operator:
        actions = [certify_pair(pair) for pair in pairs] or [certify_model(m) for m in found_models]
        groups.append(group_of(_("Actions"), actions, lambda hit: hit))
    return Results(" ".join(text.split())[:MAX_TEXT], [group for group in groups if group.hits])


def group_of(name: str, rows: Sequence[T], hit: Callable[[T], Hit]) -> Group:
    return Group(name, [hit(row) for row in rows[:MAX_HITS]], more=len(rows) > MAX_HITS)


def plain(text: str) -> str:
    """Return a text without accents and capitals: people type "sao paulo" and "São Paulo"."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in parts if not unicodedata.combining(c))


def matches(words: Iterable[str], text: str) -> bool:
    return all(word in text for word in words)


def model_text(model: AIModel) -> str:
    ids = " ".join([model.api_model_id, *model.other_ids])  # type: ignore[attr-defined]
    return plain(f"{model.name} {model.vendor} {ids}")


def region_text(region: Region) -> str:
    return plain(f"{region.code} {region.name}")


def find_pairs(
    words: Sequence[str], models: Sequence[AIModel], regions: Sequence[Region]
) -> Iterable[Pair]:
    """Yield the offered pairs for words of which some name the model and the others the region:
    "sonnet sa-east".
    """
    for model in models:
        rest = [word for word in words if word not in model_text(model)]
        if not rest or len(rest) == len(words):
            continue
        for region in regions:
            is_offered = region.code in model.offered_in  # type: ignore[attr-defined]
            if is_offered and matches(rest, region_text(region)):
                yield model, region


def with_id(rows: QuerySet[T], words: Sequence[str]) -> QuerySet[T] | None:  # type: ignore[type-var]
    """Return the rows whose id begins with the one word; None where it is no such beginning."""
    digits = "".join(words).replace("-", "") if len(words) == 1 else ""
    if not re.fullmatch(f"[0-9a-f]{{{MIN_ID},32}}", digits):
        return None
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    return rows.filter(Q(pk__gte=first, pk__lte=last))


def find_jobs(words: Sequence[str]) -> list[CertificationJob]:
    """Return the jobs with an id; the last ones for no words."""
    rows = CertificationJob.objects.defer("model_ids", "config").order_by("-created_at")
    result = with_id(rows, words) if words else rows
    return [] if result is None else list(result[: MAX_HITS + 1])


def find_runs(words: Sequence[str]) -> list[CertificationRun]:
    rows = with_id(CertificationRun.objects.select_related("model"), words)
    return [] if rows is None else list(rows.defer("environment", "fix")[: MAX_HITS + 1])


def find_certificates(words: Sequence[str]) -> list[Certificate]:
    """Return the certificate with a code, as people type it."""
    code = codes.read(words[0]) if len(words) == 1 else None
    rows = Certificate.objects.filter(code=code).select_related("model") if code else ()
    return list(rows)


def certificate_hit(certificate: Certificate) -> Hit:
    detail = f"{certificate.model.name} · {certificate.region_id}"
    return Hit(certificate.code, detail, reverse("certificate", args=[certificate.code]))


def model_hit(model: AIModel) -> Hit:
    query = urlencode({"q": model.api_model_id})
    return Hit(model.name, model.api_model_id, f"{reverse('matrix')}?{query}")


def region_hit(region: Region) -> Hit:
    query = urlencode({"region": region.code})
    return Hit(region.code, region.name, f"{reverse('matrix')}?{query}")


def pair_hit(pair: Pair) -> Hit:
    model, region = pair
    url = reverse("certification", args=[model.api_model_id, region.code])
    return Hit(f"{model.name} · {region.code}", model.api_model_id, url)


def job_hit(job: CertificationJob) -> Hit:
    detail = f"{job.get_type_display()}, {job.get_status_display()}"
    return Hit(str(job.pk), detail, reverse("job", args=[job.pk]))


def run_hit(run: CertificationRun) -> Hit:
    return Hit(str(run.pk), f"{run.model.name} · {run.region_id}", reverse("run", args=[run.pk]))


def page_hit(page: tuple[str | Promise, str]) -> Hit:
    return Hit(str(page[0]), "", reverse(page[1]))


def certify_pair(pair: Pair) -> Hit:
    model, region = pair
    query = urlencode({"pair": f"{model.api_model_id}@{region.code}"})
    label = _("Certify %(what)s") % {"what": f"{model.name} · {region.code}"}
    return Hit(label, model.api_model_id, f"{reverse('job-new')}?{query}")


def certify_model(model: AIModel) -> Hit:
    query = urlencode({"model": model.api_model_id})
    label = _("Certify %(what)s") % {"what": model.name}
    return Hit(label, model.api_model_id, f"{reverse('job-new')}?{query}")
