"""The pairs of the matrix as rows of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from certification.reasons import Status
from certification.web.matrix import Matrix

# Named as the API names them.
COLUMNS = (
    "modelId", "modelName", "vendor", "kind", "region", "status", "expired", "score", "rating",
    "tier", "backend", "reason", "endpoint", "api", "route", "routeKind", "lastTestedAt",
    "expiresAt", "ttftMs", "outputTps", "costUsd", "runId",
)  # fmt: skip


def pairs(matrix: Matrix) -> Iterator[dict[str, Any]]:
    """Return the pairs that are shown, by the names of COLUMNS. An expired one is `not_tested` with
    the score that it had.
    """
    for row in matrix.rows:
        for cell in row.cells:
            if not cell.status or cell.dimmed:
                continue
            yield {
                "modelId": row.model.api_model_id,
                "modelName": row.model.name,
                "vendor": row.model.vendor,
                "kind": row.model.kind,
                "region": cell.region,
                "status": str(Status.NOT_TESTED if cell.expired else cell.status),
                "expired": cell.expired,
                "score": cell.score,
                "rating": cell.rating or None,
                "tier": cell.tier or None,
                "backend": cell.backend or None,
                "reason": cell.reason or None,
                "endpoint": cell.endpoint or None,
                "api": cell.api or None,
                "route": cell.route or None,
                "routeKind": cell.route_kind or None,
                "lastTestedAt": cell.tested_at,
                "expiresAt": cell.expires_at,
                "ttftMs": cell.ttft_ms,
                "outputTps": cell.output_tps,
                "costUsd": None if cell.cost_usd is None else float(cell.cost_usd),
                "runId": str(cell.run_id) if cell.run_id else None,
            }
