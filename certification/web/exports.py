"""Pages as files: what an address shows, all rows of it, as CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404

from certification import statements
from certification.lib import csv_text
from certification.models import CertificationJob, CertificationRun, TestResult
from certification.suite import registry
from certification.web import certifications, compare, job_detail, jobs, matrix, matrix_export, runs

JOB_COLUMNS = (
    "id", "type", "status", "tier", "priority", "backend", "regions", "modelIds", "totalModels",
    "processedModels", "successCount", "failureCount", "cancelledCount", "createdAt", "startedAt",
    "completedAt", "duration", "estimatedCostUsd", "costUsd", "createdBy", "note",
)  # fmt: skip
RUN_COLUMNS = (
    "id", "modelId", "apiModelId", "modelName", "region", "status", "verdict", "passed", "score",
    "rating", "route", "endpoint", "api", "attempts", "calls", "costUsd", "startedAt",
    "completedAt", "duration", "errorCategory", "errorReason", "errorMessage",
)  # fmt: skip
CASE_COLUMNS = (
    "caseId", "title", "category", "kind", "verdict", "passes", "trialsValid", "score", "sentence",
)  # fmt: skip
COMPARED_COLUMNS = (
    "a", "b", "group", "caseId", "title", "category", "verdictA", "passesA", "trialsValidA",
    "sentenceA", "verdictB", "passesB", "trialsValidB", "sentenceB",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """What a file holds: rows by the names of `columns`, and what stands beside them in JSON. Rows
    are called `name` there.
    """

    stem: str  # of the file's name
    name: str
    columns: Sequence[str]
    rows: Iterable[Mapping[str, Any]]
    at: datetime
    about: Mapping[str, Any] = field(default_factory=dict)


def of_matrix(query: QueryDict, now: datetime) -> Table:
    page = matrix.load(query, now, with_details=True)
    rows, columns = matrix_export.pairs(page), matrix_export.COLUMNS
    return Table("matrix", "certifications", columns, rows, page.filters.at or now)


def of_jobs(query: QueryDict, now: datetime) -> Table:
    """Return the jobs that pass the filters of their page, as listed there."""
    rows = ({**job.to_dict(), "createdBy": email_of(job)} for job in jobs.matching_jobs(query))
    return Table("jobs", "jobs", JOB_COLUMNS, rows, now)


def of_job(query: QueryDict, now: datetime, pk: UUID) -> Table:
    """Return the runs of a job that pass the filters of its page."""
    job = get_object_or_404(CertificationJob.objects.select_related("created_by"), pk=pk)
    rows = (
        {
            **run.to_dict(),
            "apiModelId": run.model.api_model_id,
            "modelName": run.model.name,
            "calls": run.calls,
            "costUsd": run.cost_usd,
        }
        for run in job_detail.matching_runs(job, query)
    )
    about = {"job": {**job.to_dict(), "createdBy": email_of(job)}}
    return Table(f"job-{pk}", "runs", RUN_COLUMNS, rows, now, about)


def of_run(query: QueryDict, now: datetime, pk: UUID) -> Table:
    """Return the cases of a run that pass the filters of its page; in JSON with their trials."""
    run = get_object_or_404(CertificationRun.objects.select_related("model"), pk=pk)
    detail = runs.load(run, query)
    columns = (*CASE_COLUMNS, "trials")
    rows = ({**case_fields(r), "trials": r.__dict__["summaries"]} for r in detail.shown)
    return Table(f"run-{pk}", "results", columns, rows, now, {"run": run.to_dict()})


def of_certification(query: QueryDict, now: datetime, model_id: str, region: str) -> Table:
    """Return the cases that a status rests on, with the points that each cost, worst first."""
    detail = certifications.load(model_id, region, query, now)
    account = detail.explanation.account if detail.explanation else None
    lost = account.by_case if account else {}
    rows = (
        {**case_fields(result), "pointsLost": round(lost.get(result.case_id, 0.0), 2)}
        for _category, _points, results in detail.case_groups
        for result in results
    )
    certification = detail.certification
    about = {
        "modelId": detail.model.api_model_id,
        "region": detail.region.code,
        "status": str(detail.status),
        "expired": detail.expired,
        "score": certification.score if certification else None,
        "rating": certification.rating or None if certification else None,
        "run": detail.proof.to_dict() if detail.proof else None,
    }
    stem = f"{detail.model.api_model_id}-{detail.region.code}"
    return Table(stem, "results", (*CASE_COLUMNS, "pointsLost"), rows, now, about)


def of_comparison(query: QueryDict, now: datetime) -> Table:
    """Return the cases of each comparison that pass the filters of its page."""
    page = compare.load(query)
    return Table("compare", "cases", COMPARED_COLUMNS, compared_cases(page), now)


def compared_cases(page: compare.ComparePage) -> Iterator[dict[str, Any]]:
    for comparison in page.comparisons:
        sides = {"a": comparison.a.address, "b": comparison.b.address}
        for group, _title, cases in comparison.shown_groups:
            for case in cases:
                a, b = (case_fields(result) if result else {} for result in (case.a, case.b))
                known = a or b
                yield {
                    **sides,
                    "group": group,
                    **{name: known[name] for name in ("caseId", "title", "category")},
                    **{
                        f"{name}{side}": fields.get(name)
                        for side, fields in (("A", a), ("B", b))
                        for name in ("verdict", "passes", "trialsValid", "sentence")
                    },
                }


def case_fields(result: TestResult) -> dict[str, Any]:
    """Return a case of a run as the API names its fields, with its sentence in the reader's
    language.
    """
    case = registry.BY_ID.get(result.case_id)
    return {
        "caseId": result.case_id,
        "title": case.title if case else "",
        "category": result.category,
        "kind": result.kind,
        "verdict": result.verdict,
        "passes": result.passes,
        "trialsValid": result.trials_valid,
        "score": result.score,
        "sentence": statements.of_result(result).text,
    }


def email_of(job: CertificationJob) -> str | None:
    return job.created_by.email if job.created_by else None


# By the name of the page's address; each takes its parameters, the time, and what the path names.
TABLES: dict[str, Callable[..., Table]] = {
    "matrix": of_matrix,
    "jobs": of_jobs,
    "job": of_job,
    "run": of_run,
    "certification": of_certification,
    "compare": of_comparison,
}


def response(table: Table, form: str, address: str, backend: str) -> HttpResponse:
    """Return the file in the form "csv" or "json", with where and when it is from in its head."""
    answer: HttpResponse
    if form == "json":
        head = {"address": address, "at": table.at, "backend": backend}
        answer = JsonResponse({**head, **table.about, table.name: list(table.rows)})
    else:
        columns = [name for name in table.columns if name != "trials"]
        notes = [
            address,
            f"at {table.at.astimezone(UTC).isoformat(timespec='seconds')}",
            f"backend in use: {backend}",
        ]
        rows = ([cell(row[name]) for name in columns] for row in table.rows)
        answer = HttpResponse(
            csv_text.table(columns, rows, notes), content_type="text/csv; charset=utf-8"
        )
    return as_file(answer, f"{table.stem}-{table.at.astimezone(UTC):%Y-%m-%d}.{form}")


def as_file(answer: HttpResponse, name: str) -> HttpResponse:
    """Have a browser store an answer; ids become names of files."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    answer["Content-Disposition"] = f'attachment; filename="{safe}"'
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def cell(value: Any) -> csv_text.Value:
    """Return a field as a cell of a table: a list as its words, an object as JSON."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return float(value)
    if value is None or isinstance(value, int | float | str | datetime):
        return value
    if isinstance(value, list | tuple):
        return " ".join(str(item) for item in value)
    if isinstance(value, dict):
        return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)
    return str(value)
