"""The baselines of the reading benchmark: a Django view and a FastAPI endpoint that do one query
and nothing else.

Served by `gunicorn bench.api_baseline:django` and `uvicorn bench.api_baseline:fast`; DATABASE_URL
names the database. No middleware, no authentication, no checks. Both answer GET
/?model=<api model id>.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

QUERY = """
SELECT certification.id, model.api_model_id AS "modelId", model.name AS "modelName",
       model.vendor, region.code AS region,
       region.name AS "regionName", certification.status, certification.score, certification.rating,
       certification.certified_at::text AS "certifiedAt",
       certification.expires_at::text AS "expiresAt",
       certification.last_tested_at::text AS "lastTestedAt", certification.backend,
       run.id::text AS "runId", run.ttft_ms AS "ttftMs", run.latency_p50_ms AS "avgLatencyMs",
       run.output_tps AS "tokensPerSecond"
FROM certification_modelcertification AS certification
JOIN certification_aimodel AS model ON model.id = certification.model_id
JOIN certification_region AS region ON region.code = certification.region_id
LEFT JOIN certification_certificationrun AS run ON run.id = certification.run_id
WHERE model.api_model_id = %s
ORDER BY region.code LIMIT 100
"""
URL = os.environ.get("DATABASE_URL", "")


def django_app() -> Callable[..., Any]:
    """Return an application of one view, with the connection pool of the product."""
    import django.core.wsgi
    import environ
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    database = environ.Env.db_url_config(URL, engine="django.db.backends.postgresql")
    options = {**database.get("OPTIONS", {}), "pool": {"min_size": 1, "max_size": 10}}
    database |= {"CONN_MAX_AGE": 0, "OPTIONS": options}

    def view(request: HttpRequest) -> HttpResponse:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(QUERY, [request.GET["model"]])
            names = [column.name for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        body = json.dumps({"certifications": rows}).encode()
        headers = {"Content-Length": str(len(body))}
        return HttpResponse(body, content_type="application/json", headers=headers)

    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": database},
        INSTALLED_APPS=[],
        MIDDLEWARE=[],
        ROOT_URLCONF=(path("", view),),
        SECRET_KEY="bench",
        USE_TZ=True,
    )
    return django.core.wsgi.get_wsgi_application()


def fastapi_app() -> Any:
    """Return an application of one endpoint, with a pool of asynchronous connections."""
    from fastapi import FastAPI, Response
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    pool = AsyncConnectionPool(
        URL, min_size=1, max_size=10, open=False, kwargs={"autocommit": True}
    )

    @asynccontextmanager
    async def opened(_app: FastAPI) -> AsyncIterator[None]:
        async with pool:
            yield

    app = FastAPI(lifespan=opened)

    async def certifications(model: str) -> Response:
        async with (
            pool.connection() as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(QUERY, [model])
            rows = await cursor.fetchall()
        return Response(json.dumps({"certifications": rows}), media_type="application/json")

    app.get("/")(certifications)
    return app


def __getattr__(name: str) -> Any:
    """Return `django` or `fast`, created in the process that serves it."""
    if name in ("django", "fast"):
        return {"django": django_app, "fast": fastapi_app}[name]()
    raise AttributeError(name)
