"""One row per model, and the endpoint and API of the routes and runs that there are.

Until now the id of a model on bedrock-mantle had a row of its own beside the model's, and routes
there were of a kind MANTLE that nothing could call. The other ids become aliases; certifications,
runs, parameter support and jobs follow. Of two certifications of a pair the one stays whose run has
a verdict from calls, else the newer one; every run stays. Going back leaves the rows as they are.
"""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.utils import CursorWrapper
from django.db.migrations.state import StateApps

# {other id: the model's id}
SAME_MODEL = {
    "anthropic.claude-haiku-4-5": "anthropic.claude-haiku-4-5-20251001-v1:0",
    "deepseek.v3.1": "deepseek.v3-v1:0",
    "moonshotai.kimi-k2-thinking": "moonshot.kimi-k2-thinking",
    "openai.gpt-5.4-2026-03-05": "openai.gpt-5.4",
    "openai.gpt-5.5-2026-04-23": "openai.gpt-5.5",
    "openai.gpt-oss-120b": "openai.gpt-oss-120b-1:0",
    "openai.gpt-oss-20b": "openai.gpt-oss-20b-1:0",
    "qwen.qwen3-235b-a22b-2507": "qwen.qwen3-235b-a22b-2507-v1:0",
    "qwen.qwen3-32b": "qwen.qwen3-32b-v1:0",
    "qwen.qwen3-coder-30b-a3b-instruct": "qwen.qwen3-coder-30b-a3b-v1:0",
    "qwen.qwen3-coder-480b-a35b-instruct": "qwen.qwen3-coder-480b-a35b-v1:0",
    "qwen.qwen3-next-80b-a3b-instruct": "qwen.qwen3-next-80b-a3b",
    "qwen.qwen3-vl-235b-a22b-instruct": "qwen.qwen3-vl-235b-a22b",
}

# A finished run never changes (0002): here only the row that it points to does, and two columns
# that it did not have get what was true of every call so far.
LET_RUNS_CHANGE = """
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE certification_certificationrun DISABLE TRIGGER certification_run_is_final;
"""
RUNS_ARE_FINAL = """
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE certification_certificationrun ENABLE TRIGGER certification_run_is_final;
"""

NAME_ENDPOINT_AND_API = """
UPDATE certification_certificationrun AS run
SET endpoint = 'bedrock-runtime',
    api = CASE model.kind WHEN 'text' THEN 'converse' ELSE 'invoke' END
FROM certification_aimodel AS model
WHERE model.id = run.model_id AND run.route <> '';

UPDATE certification_route AS route SET api = 'invoke'
FROM certification_aimodel AS model
WHERE model.id = route.model_id AND model.kind <> 'text';

-- The words of the listing, not a way to call: that is the ARN of the account's own capacity.
DELETE FROM certification_route WHERE kind = 'PROVISIONED' AND target_id NOT LIKE 'arn:%';

-- The first API to try there; loading the catalogue adds the others.
UPDATE certification_route SET
    kind = 'ON_DEMAND',
    endpoint = 'bedrock-mantle',
    api = CASE
        WHEN target_id LIKE 'anthropic.%' THEN 'messages'
        WHEN target_id ~ '^(openai[.]gpt-[56]|google[.]gemma-4|xai[.])' THEN 'responses'
        ELSE 'chat_completions'
    END,
    path_prefix = CASE
        WHEN target_id LIKE 'anthropic.%' THEN '/anthropic/v1'
        WHEN target_id ~ '^(openai[.]gpt-[56]|google[.]gemma-4|xai[.])' THEN '/openai/v1'
        ELSE '/v1'
    END
WHERE kind = 'MANTLE';
"""

# A pair has one active run. Where both rows have one, that of the other id ends.
CANCEL_SECOND_RUNS = """
WITH ended AS (
    UPDATE certification_certificationrun AS run
    SET status = 'CANCELLED', completed_at = now(), claimed_by = '',
        error_message = 'Both ids of the model had a run in this region. Only one goes on.'
    WHERE run.model_id = %(other)s AND run.completed_at IS NULL AND EXISTS (
        SELECT FROM certification_certificationrun AS first
        WHERE first.model_id = %(model)s AND first.region_id = run.region_id
          AND first.completed_at IS NULL)
    RETURNING run.job_id
), counted AS (
    SELECT job_id, count(*) AS runs FROM ended GROUP BY job_id
)
UPDATE certification_certificationjob AS job
SET failed_runs = job.failed_runs + counted.runs,
    status = CASE WHEN job.total_runs > job.succeeded_runs + job.failed_runs + counted.runs
        THEN job.status ELSE 'COMPLETED' END,
    completed_at = CASE WHEN job.total_runs > job.succeeded_runs + job.failed_runs + counted.runs
        THEN job.completed_at ELSE now() END
FROM counted WHERE job.id = counted.job_id AND job.completed_at IS NULL
"""

# The counts of both are those of the pair.
MERGE_CERTIFICATIONS = """
WITH ranked AS (
    SELECT row.id, row.region_id, row_number() OVER (
        PARTITION BY row.region_id
        ORDER BY (run.calls > 0 AND run.verdict <> '') IS TRUE DESC,
                 row.last_tested_at DESC NULLS LAST, row.model_id = %(model)s DESC
    ) AS place
    FROM certification_modelcertification AS row
    LEFT JOIN certification_certificationrun AS run ON run.id = row.run_id
    WHERE row.model_id IN (%(model)s, %(other)s)
), sums AS (
    SELECT region_id, sum(attempts) AS attempts, sum(completed_attempts) AS completed,
           sum(certified_attempts) AS certified
    FROM certification_modelcertification
    WHERE model_id IN (%(model)s, %(other)s) GROUP BY region_id
), counted AS (
    UPDATE certification_modelcertification AS row
    SET attempts = sums.attempts, completed_attempts = sums.completed,
        certified_attempts = sums.certified
    FROM sums, ranked WHERE ranked.id = row.id AND ranked.place = 1
      AND sums.region_id = row.region_id
)
DELETE FROM certification_modelcertification AS row
USING ranked WHERE ranked.id = row.id AND ranked.place > 1
"""

# The last observation of a feature counts.
MERGE_SUPPORT = """
DELETE FROM certification_acceptance AS older
USING certification_acceptance AS newer
WHERE older.model_id IN (%(model)s, %(other)s) AND newer.model_id IN (%(model)s, %(other)s)
  AND older.operation = newer.operation AND older.feature = newer.feature
  AND (older.seen_at, older.id) < (newer.seen_at, newer.id)
"""

MERGE_ROUTES = """
DELETE FROM certification_route AS route
WHERE route.model_id = %(other)s AND EXISTS (
    SELECT FROM certification_route AS same
    WHERE same.model_id = %(model)s AND same.region_id = route.region_id
      AND same.endpoint = route.endpoint AND same.api = route.api
      AND same.target_id = route.target_id)
"""

POINT_JOBS_TO = """
UPDATE certification_certificationjob AS job
SET model_ids = (
    SELECT jsonb_agg(id ORDER BY first) FROM (
        SELECT CASE id WHEN %(other)s::text THEN %(model)s::text ELSE id END AS id,
               min(position) AS first
        FROM jsonb_array_elements_text(job.model_ids) WITH ORDINALITY AS t(id, position)
        GROUP BY 1
    ) AS named)
WHERE job.model_ids @> jsonb_build_array(%(other)s::text)
"""

MOVED = (
    "certification_certificationrun", "certification_modelcertification",
    "certification_acceptance", "certification_route",
)  # fmt: skip


def forwards(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(LET_RUNS_CHANGE)
        cursor.execute(NAME_ENDPOINT_AND_API)
        for alias, model_id in SAME_MODEL.items():
            merge(cursor, alias, model_id)
        cursor.execute(RUNS_ARE_FINAL)


def merge(cursor: CursorWrapper, alias: str, model_id: str) -> None:
    """Make `alias` another id of the model `model_id`, with all that its own row had."""
    cursor.execute(
        "SELECT api_model_id, id FROM certification_aimodel WHERE api_model_id IN (%s, %s)",
        [alias, model_id],
    )
    rows = dict(cursor.fetchall())
    if alias not in rows:
        return
    if model_id not in rows:
        cursor.execute(
            "UPDATE certification_aimodel SET api_model_id = %s WHERE id = %s",
            [model_id, rows[alias]],
        )
        cursor.execute(
            "INSERT INTO certification_modelalias (alias, model_id) VALUES (%s, %s)",
            [alias, rows[alias]],
        )
        return
    pair = {"other": rows[alias], "model": rows[model_id]}
    for statement in (
        CANCEL_SECOND_RUNS, MERGE_CERTIFICATIONS, MERGE_SUPPORT, MERGE_ROUTES, POINT_JOBS_TO,
    ):  # fmt: skip
        cursor.execute(statement, pair)
    for table in MOVED:
        cursor.execute(f"UPDATE {table} SET model_id = %(model)s WHERE model_id = %(other)s", pair)
    cursor.execute(
        "INSERT INTO certification_modelalias (alias, model_id, former_id) "
        "VALUES (%(alias)s, %(model)s, %(other)s)",
        pair | {"alias": alias},
    )
    cursor.execute("DELETE FROM certification_aimodel WHERE id = %(other)s", pair)


class Migration(migrations.Migration):
    dependencies = [("certification", "0013_routes_by_endpoint_and_api")]

    operations = [migrations.RunPython(forwards, migrations.RunPython.noop)]
