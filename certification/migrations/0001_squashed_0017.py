"""Every table at once: what migrations 0001 to 0017 lead to in an empty database, in less than half of their
time. A database that has some of them goes on with the rest; `tests/integration/test_upgrade.py`
holds both to the same schema.
"""

import certification.models.webhooks
import certification.reasons
import django.contrib.postgres.indexes
import django.core.validators
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.text
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models

# Finished runs and their results are evidence: the database refuses to change them.
FORBID = """
CREATE FUNCTION certification_run_is_final() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION 'Run % is finished and cannot be changed.', OLD.id USING ERRCODE = 'restrict_violation';
END $$ LANGUAGE plpgsql;

CREATE TRIGGER certification_run_is_final BEFORE UPDATE ON certification_certificationrun
FOR EACH ROW WHEN (OLD.completed_at IS NOT NULL) EXECUTE FUNCTION certification_run_is_final();

CREATE FUNCTION certification_result_is_final() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION 'Result % of run % cannot be changed; only its evidence may be dropped.', OLD.case_id, OLD.run_id
    USING ERRCODE = 'restrict_violation';
END $$ LANGUAGE plpgsql;

CREATE TRIGGER certification_result_is_final BEFORE UPDATE ON certification_testresult
FOR EACH ROW WHEN (to_jsonb(OLD) - 'trials' IS DISTINCT FROM to_jsonb(NEW) - 'trials')
EXECUTE FUNCTION certification_result_is_final();
"""

FORBIDDEN_NO_MORE = """
DROP TRIGGER certification_result_is_final ON certification_testresult;
DROP FUNCTION certification_result_is_final();
DROP TRIGGER certification_run_is_final ON certification_certificationrun;
DROP FUNCTION certification_run_is_final();
"""

# Each run bears the transaction that last changed its state, see models/changes.py. Django does not
# know the column: the database alone writes it, whichever way a row is changed.
ADD = """
ALTER TABLE certification_certificationrun ADD COLUMN changed_in xid8 NOT NULL DEFAULT pg_current_xact_id();

CREATE FUNCTION certification_run_changed() RETURNS trigger AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id();
    RETURN NEW;
END $$ LANGUAGE plpgsql;

CREATE TRIGGER certification_run_changed BEFORE UPDATE OF status ON certification_certificationrun
FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status <> 'QUEUED') EXECUTE FUNCTION certification_run_changed();

CREATE INDEX certification_run_changed_idx ON certification_certificationrun (job_id, changed_in);
"""

REMOVE = """
DROP TRIGGER certification_run_changed ON certification_certificationrun;
DROP FUNCTION certification_run_changed();
ALTER TABLE certification_certificationrun DROP COLUMN changed_in;
"""


class Migration(migrations.Migration):

    replaces = [
        ('certification', '0001_initial'),
        ('certification', '0002_finished_runs_never_change'),
        ('certification', '0003_own_cases_and_later_judgements'),
        ('certification', '0004_held_back_verdicts'),
        ('certification', '0005_learnt_acceptance'),
        ('certification', '0006_api_access'),
        ('certification', '0007_webhooks'),
        ('certification', '0008_refusals_are_remembered'),
        ('certification', '0009_indexes_for_the_api'),
        ('certification', '0010_runs_tell_of_changes'),
        ('certification', '0011_plain_names'),
        ('certification', '0012_reasons_of_the_other_apis'),
        ('certification', '0013_routes_by_endpoint_and_api'),
        ('certification', '0014_one_row_per_model'),
        ('certification', '0015_unique_routes'),
        ('certification', '0016_every_route_is_called'),
        ('certification', '0017_gateway_and_internal_errors'),
    ]

    initial = True

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [
        migrations.CreateModel(
            name='AIModel',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=200, verbose_name='name')),
                ('vendor', models.CharField(db_index=True, max_length=100, verbose_name='vendor')),
                ('api_model_id', models.CharField(max_length=200, unique=True, verbose_name='API model id')),
                ('kind', models.CharField(choices=[('text', 'text'), ('embedding', 'embedding'), ('image', 'image'), ('video', 'video'), ('speech', 'speech'), ('rerank', 'rerank')], default='text', max_length=20, verbose_name='kind')),
                ('input_modalities', models.JSONField(blank=True, default=list, verbose_name='input modalities')),
                ('output_modalities', models.JSONField(blank=True, default=list, verbose_name='output modalities')),
                ('capabilities', models.JSONField(blank=True, default=list, verbose_name='capabilities')),
                ('streaming', models.BooleanField(default=False, verbose_name='streaming')),
                ('context_window', models.PositiveIntegerField(blank=True, null=True, verbose_name='context window')),
                ('max_output_tokens', models.PositiveIntegerField(blank=True, null=True, verbose_name='max output tokens')),
                ('dimensions', models.PositiveIntegerField(blank=True, null=True, verbose_name='vector dimensions')),
                ('input_price', models.DecimalField(blank=True, decimal_places=6, max_digits=12, null=True, verbose_name='USD per million input tokens')),
                ('output_price', models.DecimalField(blank=True, decimal_places=6, max_digits=12, null=True, verbose_name='USD per million output tokens')),
                ('lifecycle', models.CharField(choices=[('ACTIVE', 'active'), ('LEGACY', 'legacy'), ('PREVIEW', 'preview'), ('EOL', 'end of life'), ('UNKNOWN', 'unknown')], default='UNKNOWN', max_length=10, verbose_name='lifecycle')),
                ('end_of_life_on', models.DateField(blank=True, null=True, verbose_name='end of life on')),
                ('is_active', models.BooleanField(default=True, help_text='Only active models are certified in sweeps.', verbose_name='active')),
                ('facts_as_of', models.DateField(blank=True, editable=False, null=True, verbose_name='facts as of')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('updated_at', models.DateTimeField(auto_now=True, verbose_name='updated')),
            ],
            options={
                'verbose_name': 'model',
                'verbose_name_plural': 'models',
                'ordering': ['vendor', 'name', 'api_model_id'],
            },
        ),
        migrations.CreateModel(
            name='Provider',
            fields=[
                ('slug', models.SlugField(primary_key=True, serialize=False, verbose_name='slug')),
                ('name', models.CharField(max_length=100, verbose_name='name')),
            ],
            options={
                'verbose_name': 'provider',
                'verbose_name_plural': 'providers',
                'ordering': ['slug'],
            },
        ),
        migrations.CreateModel(
            name='Region',
            fields=[
                ('code', models.CharField(max_length=32, primary_key=True, serialize=False, verbose_name='code')),
                ('name', models.CharField(max_length=100, verbose_name='name')),
                ('enabled', models.BooleanField(default=True, verbose_name='enabled')),
                ('opt_in', models.BooleanField(default=False, help_text='Accounts must enable this region first.', verbose_name='opt-in')),
            ],
            options={
                'verbose_name': 'region',
                'verbose_name_plural': 'regions',
                'ordering': ['code'],
            },
        ),
        migrations.CreateModel(
            name='User',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('password', models.CharField(max_length=128, verbose_name='password')),
                ('last_login', models.DateTimeField(blank=True, null=True, verbose_name='last login')),
                ('is_superuser', models.BooleanField(default=False, help_text='Designates that this user has all permissions without explicitly assigning them.', verbose_name='superuser status')),
                ('email', models.EmailField(max_length=254, unique=True, verbose_name='e-mail address')),
                ('name', models.CharField(blank=True, max_length=150, verbose_name='name')),
                ('is_staff', models.BooleanField(default=False, verbose_name='staff status')),
                ('is_active', models.BooleanField(default=True, verbose_name='active')),
                ('date_joined', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='joined')),
                ('groups', models.ManyToManyField(blank=True, help_text='The groups this user belongs to. A user will get all permissions granted to each of their groups.', related_name='user_set', related_query_name='user', to='auth.group', verbose_name='groups')),
                ('user_permissions', models.ManyToManyField(blank=True, help_text='Specific permissions for this user.', related_name='user_set', related_query_name='user', to='auth.permission', verbose_name='user permissions')),
            ],
            options={
                'verbose_name': 'user',
                'verbose_name_plural': 'users',
            },
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='What the key is for.', max_length=100, verbose_name='name')),
                ('role', models.CharField(choices=[('viewer', 'viewer'), ('operator', 'operator'), ('administrator', 'administrator')], default='viewer', max_length=20, verbose_name='role')),
                ('shown', models.CharField(editable=False, max_length=20, verbose_name='prefix')),
                ('digest', models.CharField(editable=False, max_length=64, unique=True)),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('expires_at', models.DateTimeField(blank=True, null=True, verbose_name='expires')),
                ('last_used_at', models.DateTimeField(blank=True, editable=False, null=True, verbose_name='last used')),
                ('revoked_at', models.DateTimeField(blank=True, editable=False, null=True, verbose_name='revoked')),
                ('user', models.ForeignKey(help_text='Jobs started with the key belong to this user; the key can never do more than they can.', on_delete=django.db.models.deletion.CASCADE, related_name='api_keys', to=settings.AUTH_USER_MODEL, verbose_name='acts as')),
            ],
            options={
                'verbose_name': 'API key',
                'verbose_name_plural': 'API keys',
                'ordering': ['-created_at'],
            },
        ),
        migrations.CreateModel(
            name='CertificationJob',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('type', models.CharField(choices=[('SINGLE_MODEL', 'one model'), ('MULTIPLE_MODELS', 'several models'), ('ALL_MODELS', 'all models'), ('RECERTIFY', 'recertification')], max_length=20, verbose_name='type')),
                ('tier', models.CharField(choices=[('quick', 'quick'), ('full', 'full'), ('deep', 'deep')], default='full', max_length=10, verbose_name='tier')),
                ('status', models.CharField(choices=[('PENDING', 'pending'), ('QUEUED', 'queued'), ('PROCESSING', 'processing'), ('COMPLETED', 'completed'), ('FAILED', 'failed'), ('CANCELLED', 'cancelled')], default='PENDING', max_length=12, verbose_name='status')),
                ('priority', models.CharField(choices=[('interactive', 'interactive'), ('bulk', 'bulk')], default='interactive', max_length=12, verbose_name='priority')),
                ('backend', models.CharField(choices=[('aws', 'AWS'), ('emulator', 'emulator')], max_length=10, verbose_name='backend')),
                ('regions', models.JSONField(default=list, verbose_name='regions')),
                ('model_ids', models.JSONField(default=list, verbose_name='model ids')),
                ('total_runs', models.PositiveIntegerField(default=0, verbose_name='runs')),
                ('succeeded_runs', models.PositiveIntegerField(default=0, verbose_name='certified runs')),
                ('failed_runs', models.PositiveIntegerField(default=0, verbose_name='other finished runs')),
                ('idempotency_key', models.CharField(blank=True, max_length=200, null=True, unique=True, verbose_name='idempotency key')),
                ('celery_task_id', models.CharField(blank=True, max_length=64, verbose_name='task id')),
                ('max_cost_usd', models.DecimalField(blank=True, decimal_places=6, max_digits=12, null=True, verbose_name='maximum cost (USD)')),
                ('estimated_cost_usd', models.DecimalField(blank=True, decimal_places=6, max_digits=12, null=True, verbose_name='estimated cost (USD)')),
                ('cost_usd', models.DecimalField(decimal_places=6, default=0, max_digits=12, verbose_name='cost (USD)')),
                ('config', models.JSONField(blank=True, default=dict, verbose_name='configuration')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('updated_at', models.DateTimeField(auto_now=True, verbose_name='updated')),
                ('started_at', models.DateTimeField(blank=True, null=True, verbose_name='started')),
                ('completed_at', models.DateTimeField(blank=True, null=True, verbose_name='completed')),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL, verbose_name='created by')),
            ],
            options={
                'verbose_name': 'certification job',
                'verbose_name_plural': 'certification jobs',
                'ordering': ['-created_at'],
            },
        ),
        migrations.CreateModel(
            name='CertificationRun',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('tier', models.CharField(choices=[('quick', 'quick'), ('full', 'full'), ('deep', 'deep')], max_length=10, verbose_name='tier')),
                ('backend', models.CharField(choices=[('aws', 'AWS'), ('emulator', 'emulator')], max_length=10, verbose_name='backend')),
                ('status', models.CharField(choices=[('PENDING', 'pending'), ('QUEUED', 'queued'), ('PROCESSING', 'processing'), ('COMPLETED', 'completed'), ('FAILED', 'failed'), ('CANCELLED', 'cancelled')], default='PENDING', max_length=12, verbose_name='status')),
                ('route', models.CharField(blank=True, max_length=300, verbose_name='route')),
                ('route_kind', models.CharField(blank=True, max_length=20, verbose_name='route kind')),
                ('attempt', models.PositiveSmallIntegerField(default=0, verbose_name='attempt')),
                ('claimed_by', models.CharField(blank=True, max_length=100, verbose_name='claimed by')),
                ('heartbeat_at', models.DateTimeField(blank=True, null=True, verbose_name='last heartbeat')),
                ('enqueued_at', models.DateTimeField(blank=True, null=True, verbose_name='enqueued')),
                ('variant_seed', models.PositiveBigIntegerField(verbose_name='variant seed')),
                ('verdict', models.CharField(blank=True, choices=[('not_tested', 'not tested'), ('pending', 'pending'), ('certified', 'certified'), ('quality_warning', 'quality warning'), ('failed', 'failed'), ('permission_required', 'permission required'), ('configuration_required', 'configuration required')], max_length=24, verbose_name='verdict')),
                ('passed', models.BooleanField(default=False, verbose_name='passed')),
                ('score', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='score')),
                ('rating', models.CharField(blank=True, max_length=1, verbose_name='rating')),
                ('lower_bound', models.FloatField(blank=True, null=True, verbose_name='lower bound')),
                ('quality', models.FloatField(blank=True, null=True, verbose_name='quality')),
                ('contract', models.FloatField(blank=True, null=True, verbose_name='contract')),
                ('performance', models.FloatField(blank=True, null=True, verbose_name='performance')),
                ('reliability', models.FloatField(blank=True, null=True, verbose_name='reliability')),
                ('ttft_ms', models.FloatField(blank=True, null=True, verbose_name='time to first token (ms)')),
                ('latency_p50_ms', models.FloatField(blank=True, null=True, verbose_name='median latency (ms)')),
                ('output_tps', models.FloatField(blank=True, null=True, verbose_name='output tokens per second')),
                ('calls', models.PositiveIntegerField(default=0, verbose_name='calls')),
                ('retries', models.PositiveIntegerField(default=0, verbose_name='retries')),
                ('tokens_in', models.PositiveIntegerField(default=0, verbose_name='input tokens')),
                ('tokens_out', models.PositiveIntegerField(default=0, verbose_name='output tokens')),
                ('cost_usd', models.DecimalField(blank=True, decimal_places=6, max_digits=12, null=True, verbose_name='cost (USD)')),
                ('error_category', models.CharField(blank=True, choices=[('UNAVAILABLE', 'UNAVAILABLE'), ('PERMISSION_ERROR', 'PERMISSION_ERROR'), ('MODEL_ACCESS', 'MODEL_ACCESS'), ('AUTHENTICATION_ERROR', 'AUTHENTICATION_ERROR'), ('CONFIGURATION_ERROR', 'CONFIGURATION_ERROR'), ('PROVISIONING_REQUIRED', 'PROVISIONING_REQUIRED'), ('RATE_LIMIT', 'RATE_LIMIT'), ('QUOTA_EXCEEDED', 'QUOTA_EXCEEDED'), ('TIMEOUT', 'TIMEOUT'), ('NETWORK_ERROR', 'NETWORK_ERROR'), ('SERVICE_ERROR', 'SERVICE_ERROR'), ('GATEWAY_ERROR', 'GATEWAY_ERROR'), ('CONTENT_BLOCKED', 'CONTENT_BLOCKED'), ('QUALITY_ISSUE', 'QUALITY_ISSUE'), ('INTERNAL_ERROR', 'INTERNAL_ERROR'), ('UNKNOWN_ERROR', 'UNKNOWN_ERROR')], max_length=24, verbose_name='error category')),
                ('error_reason', models.CharField(blank=True, choices=[('iam_denied', 'iam denied'), ('scp_denied', 'scp denied'), ('api_key_denied', 'api key denied'), ('marketplace_subscription', 'marketplace subscription'), ('payment_instrument', 'payment instrument'), ('use_case_form', 'use case form'), ('model_access_not_granted', 'model access not granted'), ('entitlement_mismatch', 'entitlement mismatch'), ('account_blocked', 'account blocked'), ('country_not_supported', 'country not supported'), ('data_retention_required', 'data retention required'), ('legacy_blocked', 'legacy blocked'), ('end_of_life', 'end of life'), ('not_in_region', 'not in region'), ('unknown_model', 'unknown model'), ('api_not_supported', 'api not supported'), ('wrong_route', 'wrong route'), ('region_not_enabled', 'region not enabled'), ('needs_inference_profile', 'needs inference profile'), ('needs_provisioned_throughput', 'needs provisioned throughput'), ('parameter_not_supported', 'parameter not supported'), ('modality_not_supported', 'modality not supported'), ('malformed_request', 'malformed request'), ('client_misconfigured', 'client misconfigured'), ('throttled_requests', 'throttled requests'), ('throttled_tokens', 'throttled tokens'), ('daily_tokens', 'daily tokens'), ('zero_quota', 'zero quota'), ('credentials_missing', 'credentials missing'), ('credentials_invalid', 'credentials invalid'), ('credentials_expired', 'credentials expired'), ('clock_skew', 'clock skew'), ('read_timeout', 'read timeout'), ('connect_timeout', 'connect timeout'), ('model_timeout', 'model timeout'), ('deadline', 'deadline'), ('dns', 'dns'), ('connection_refused', 'connection refused'), ('tls', 'tls'), ('proxy', 'proxy'), ('gateway_refused', 'gateway refused'), ('gateway_throttled', 'gateway throttled'), ('internal_error', 'internal error'), ('service_unavailable', 'service unavailable'), ('model_not_ready', 'model not ready'), ('model_error', 'model error'), ('stream_error', 'stream error'), ('stream_truncated', 'stream truncated'), ('stream_corrupt', 'stream corrupt'), ('bad_response', 'bad response'), ('guardrail', 'guardrail'), ('content_filter', 'content filter'), ('context_too_long', 'context too long'), ('gate_failed', 'gate failed'), ('quality_below_line', 'quality below line'), ('unexpected_exception', 'unexpected exception'), ('unknown', 'unknown')], max_length=32, verbose_name='error reason')),
                ('error_message', models.TextField(blank=True, verbose_name='error message')),
                ('error_code', models.CharField(blank=True, max_length=100, verbose_name='error code')),
                ('request_id', models.CharField(blank=True, max_length=100, verbose_name='AWS request id')),
                ('fix', models.JSONField(blank=True, default=dict, verbose_name='fix')),
                ('suite_version', models.CharField(blank=True, max_length=40, verbose_name='suite version')),
                ('policy_version', models.CharField(blank=True, max_length=40, verbose_name='policy version')),
                ('environment', models.JSONField(blank=True, default=dict, verbose_name='environment')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('started_at', models.DateTimeField(blank=True, null=True, verbose_name='started')),
                ('completed_at', models.DateTimeField(blank=True, null=True, verbose_name='completed')),
                ('api', models.CharField(blank=True, choices=[('converse', 'Converse'), ('invoke', 'InvokeModel'), ('chat_completions', 'Chat Completions'), ('responses', 'Responses'), ('messages', 'Messages')], max_length=20, verbose_name='API')),
                ('endpoint', models.CharField(blank=True, choices=[('bedrock-runtime', 'bedrock-runtime'), ('bedrock-mantle', 'bedrock-mantle')], max_length=20, verbose_name='endpoint')),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='certification.certificationjob', verbose_name='job')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='certification.aimodel', verbose_name='model')),
                ('region', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='certification.region', verbose_name='region')),
            ],
            options={
                'verbose_name': 'certification run',
                'verbose_name_plural': 'certification runs',
                'ordering': ['-created_at'],
            },
        ),
        migrations.CreateModel(
            name='CustomCase',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('case_id', models.CharField(help_text='X and 1 to 19 capital letters or digits, e.g. XINVOICE2.', max_length=20, unique=True, verbose_name='case')),
                ('title', models.CharField(max_length=100, verbose_name='title')),
                ('category', models.CharField(choices=[('tools', 'tools'), ('json', 'json'), ('instructions', 'instructions'), ('portuguese', 'portuguese'), ('streaming', 'streaming'), ('context', 'context'), ('reasoning', 'reasoning'), ('vision', 'vision')], max_length=20, verbose_name='category')),
                ('prompt', models.TextField(verbose_name='prompt')),
                ('system', models.TextField(blank=True, verbose_name='system prompt')),
                ('grader', models.CharField(choices=[('exact', 'exact'), ('normalised', 'normalised'), ('mentions', 'mentions'), ('without', 'without'), ('regex', 'regex'), ('number', 'number'), ('json_schema', 'json schema'), ('words', 'words'), ('lines', 'lines'), ('bullets', 'bullets'), ('language', 'language')], max_length=20, verbose_name='grader')),
                ('expected', models.JSONField(help_text='JSON: what the grader compares with, e.g. "Paris" or {"value": 42, "tolerance": 0.5}.', verbose_name='expected')),
                ('weight', models.FloatField(default=1.0, validators=[django.core.validators.MinValueValidator(0.1), django.core.validators.MaxValueValidator(10)], verbose_name='weight in its category')),
                ('repeats', models.PositiveSmallIntegerField(default=3, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(9)], verbose_name='repeats')),
                ('max_tokens', models.PositiveIntegerField(default=500, validators=[django.core.validators.MinValueValidator(16), django.core.validators.MaxValueValidator(8000)], verbose_name='max answer tokens')),
                ('good_sample', models.TextField(verbose_name='an answer that must pass')),
                ('bad_sample', models.TextField(verbose_name='an answer that must fail')),
                ('enabled', models.BooleanField(default=True, verbose_name='enabled')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('updated_at', models.DateTimeField(auto_now=True, verbose_name='updated')),
                ('created_by', models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL, verbose_name='created by')),
            ],
            options={
                'verbose_name': 'custom case',
                'verbose_name_plural': 'custom cases',
                'ordering': ['case_id'],
                'db_table': 'certification_operatorcase',
            },
        ),
        migrations.CreateModel(
            name='ModelAlias',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('alias', models.CharField(max_length=200, unique=True, verbose_name='alias')),
                ('former_id', models.UUIDField(blank=True, editable=False, null=True, unique=True, verbose_name='former UUID')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='aliases', to='certification.aimodel', verbose_name='model')),
            ],
            options={
                'verbose_name': 'model alias',
                'verbose_name_plural': 'model aliases',
                'ordering': ['alias'],
            },
        ),
        migrations.AddField(
            model_name='aimodel',
            name='provider',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='models', to='certification.provider', verbose_name='provider'),
        ),
        migrations.CreateModel(
            name='QueuePause',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('backend', models.CharField(choices=[('aws', 'AWS'), ('emulator', 'emulator')], max_length=10, verbose_name='backend')),
                ('error_category', models.CharField(choices=[('UNAVAILABLE', 'UNAVAILABLE'), ('PERMISSION_ERROR', 'PERMISSION_ERROR'), ('MODEL_ACCESS', 'MODEL_ACCESS'), ('AUTHENTICATION_ERROR', 'AUTHENTICATION_ERROR'), ('CONFIGURATION_ERROR', 'CONFIGURATION_ERROR'), ('PROVISIONING_REQUIRED', 'PROVISIONING_REQUIRED'), ('RATE_LIMIT', 'RATE_LIMIT'), ('QUOTA_EXCEEDED', 'QUOTA_EXCEEDED'), ('TIMEOUT', 'TIMEOUT'), ('NETWORK_ERROR', 'NETWORK_ERROR'), ('SERVICE_ERROR', 'SERVICE_ERROR'), ('GATEWAY_ERROR', 'GATEWAY_ERROR'), ('CONTENT_BLOCKED', 'CONTENT_BLOCKED'), ('QUALITY_ISSUE', 'QUALITY_ISSUE'), ('INTERNAL_ERROR', 'INTERNAL_ERROR'), ('UNKNOWN_ERROR', 'UNKNOWN_ERROR')], max_length=24, verbose_name='error category')),
                ('error_reason', models.CharField(choices=[('iam_denied', 'iam denied'), ('scp_denied', 'scp denied'), ('api_key_denied', 'api key denied'), ('marketplace_subscription', 'marketplace subscription'), ('payment_instrument', 'payment instrument'), ('use_case_form', 'use case form'), ('model_access_not_granted', 'model access not granted'), ('entitlement_mismatch', 'entitlement mismatch'), ('account_blocked', 'account blocked'), ('country_not_supported', 'country not supported'), ('data_retention_required', 'data retention required'), ('legacy_blocked', 'legacy blocked'), ('end_of_life', 'end of life'), ('not_in_region', 'not in region'), ('unknown_model', 'unknown model'), ('api_not_supported', 'api not supported'), ('wrong_route', 'wrong route'), ('region_not_enabled', 'region not enabled'), ('needs_inference_profile', 'needs inference profile'), ('needs_provisioned_throughput', 'needs provisioned throughput'), ('parameter_not_supported', 'parameter not supported'), ('modality_not_supported', 'modality not supported'), ('malformed_request', 'malformed request'), ('client_misconfigured', 'client misconfigured'), ('throttled_requests', 'throttled requests'), ('throttled_tokens', 'throttled tokens'), ('daily_tokens', 'daily tokens'), ('zero_quota', 'zero quota'), ('credentials_missing', 'credentials missing'), ('credentials_invalid', 'credentials invalid'), ('credentials_expired', 'credentials expired'), ('clock_skew', 'clock skew'), ('read_timeout', 'read timeout'), ('connect_timeout', 'connect timeout'), ('model_timeout', 'model timeout'), ('deadline', 'deadline'), ('dns', 'dns'), ('connection_refused', 'connection refused'), ('tls', 'tls'), ('proxy', 'proxy'), ('gateway_refused', 'gateway refused'), ('gateway_throttled', 'gateway throttled'), ('internal_error', 'internal error'), ('service_unavailable', 'service unavailable'), ('model_not_ready', 'model not ready'), ('model_error', 'model error'), ('stream_error', 'stream error'), ('stream_truncated', 'stream truncated'), ('stream_corrupt', 'stream corrupt'), ('bad_response', 'bad response'), ('guardrail', 'guardrail'), ('content_filter', 'content filter'), ('context_too_long', 'context too long'), ('gate_failed', 'gate failed'), ('quality_below_line', 'quality below line'), ('unexpected_exception', 'unexpected exception'), ('unknown', 'unknown')], max_length=32, verbose_name='error reason')),
                ('message', models.TextField(verbose_name='message')),
                ('opened_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='opened')),
                ('resumed_at', models.DateTimeField(blank=True, null=True, verbose_name='resumed')),
            ],
            options={
                'verbose_name': 'queue pause',
                'verbose_name_plural': 'queue pauses',
                'ordering': ['-opened_at'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('resumed_at__isnull', True)), fields=('backend',), name='one_open_pause_per_backend')],
            },
        ),
        migrations.CreateModel(
            name='ParameterSupport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('operation', models.CharField(max_length=40, verbose_name='operation')),
                ('feature', models.CharField(max_length=40, verbose_name='feature')),
                ('accepted', models.BooleanField(verbose_name='accepted')),
                ('seen_at', models.DateTimeField(verbose_name='observed')),
                ('refusal', models.JSONField(blank=True, default=dict, verbose_name='refusal')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='parameter_support', to='certification.aimodel', verbose_name='model')),
                ('region', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='certification.region', verbose_name='observed in')),
            ],
            options={
                'verbose_name': 'parameter support',
                'verbose_name_plural': 'parameter support',
                'ordering': ['model', 'operation', 'feature'],
                'db_table': 'certification_acceptance',
            },
        ),
        migrations.CreateModel(
            name='ModelCertification',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('not_tested', 'not tested'), ('pending', 'pending'), ('certified', 'certified'), ('quality_warning', 'quality warning'), ('failed', 'failed'), ('permission_required', 'permission required'), ('configuration_required', 'configuration required')], default=certification.reasons.Status['NOT_TESTED'], max_length=24, verbose_name='status')),
                ('previous_status', models.CharField(blank=True, choices=[('not_tested', 'not tested'), ('pending', 'pending'), ('certified', 'certified'), ('quality_warning', 'quality warning'), ('failed', 'failed'), ('permission_required', 'permission required'), ('configuration_required', 'configuration required')], max_length=24, verbose_name='previous status')),
                ('score', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='score')),
                ('rating', models.CharField(blank=True, max_length=1, verbose_name='rating')),
                ('tier', models.CharField(blank=True, choices=[('quick', 'quick'), ('full', 'full'), ('deep', 'deep')], max_length=10, verbose_name='tier')),
                ('backend', models.CharField(blank=True, choices=[('aws', 'AWS'), ('emulator', 'emulator')], max_length=10, verbose_name='backend')),
                ('attempts', models.PositiveIntegerField(default=0, verbose_name='runs')),
                ('completed_attempts', models.PositiveIntegerField(default=0, verbose_name='runs with a verdict')),
                ('certified_attempts', models.PositiveIntegerField(default=0, verbose_name='certified runs')),
                ('certified_at', models.DateTimeField(blank=True, null=True, verbose_name='certified')),
                ('expires_at', models.DateTimeField(blank=True, null=True, verbose_name='expires')),
                ('expired_at', models.DateTimeField(blank=True, null=True, verbose_name='expired')),
                ('last_tested_at', models.DateTimeField(blank=True, null=True, verbose_name='last tested')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('updated_at', models.DateTimeField(auto_now=True, verbose_name='updated')),
                ('confirm_after', models.DateTimeField(blank=True, null=True, verbose_name='second run decides after')),
                ('held_back', models.TextField(blank=True, verbose_name='reason for holding back a later verdict')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='certifications', to='certification.aimodel', verbose_name='model')),
                ('run', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='certification.certificationrun', verbose_name='run')),
                ('region', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='certifications', to='certification.region', verbose_name='region')),
            ],
            options={
                'verbose_name': 'certification',
                'verbose_name_plural': 'certifications',
                'ordering': ['model', 'region'],
            },
        ),
        migrations.CreateModel(
            name='RevokedToken',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='Route',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('ON_DEMAND', 'on demand'), ('INFERENCE_PROFILE', 'inference profile'), ('PROVISIONED', 'provisioned')], max_length=20, verbose_name='kind')),
                ('target_id', models.CharField(max_length=300, verbose_name='target id')),
                ('source', models.CharField(choices=[('catalogue', 'catalogue'), ('sync', 'sync')], default='catalogue', max_length=10, verbose_name='source')),
                ('last_seen_at', models.DateTimeField(blank=True, null=True, verbose_name='last seen')),
                ('api', models.CharField(choices=[('converse', 'Converse'), ('invoke', 'InvokeModel'), ('chat_completions', 'Chat Completions'), ('responses', 'Responses'), ('messages', 'Messages')], default='converse', max_length=20, verbose_name='API')),
                ('endpoint', models.CharField(choices=[('bedrock-runtime', 'bedrock-runtime'), ('bedrock-mantle', 'bedrock-mantle')], default='bedrock-runtime', max_length=20, verbose_name='endpoint')),
                ('last_refusal', models.JSONField(blank=True, editable=False, null=True, verbose_name='last refusal')),
                ('path_prefix', models.CharField(blank=True, max_length=40, verbose_name='path prefix')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='routes', to='certification.aimodel', verbose_name='model')),
                ('region', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='routes', to='certification.region', verbose_name='region')),
            ],
            options={
                'verbose_name': 'route',
                'verbose_name_plural': 'routes',
                'ordering': ['model', 'region', 'endpoint', 'api', 'kind', 'target_id'],
            },
        ),
        migrations.CreateModel(
            name='RunJudgement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('policy_version', models.CharField(max_length=40, verbose_name='policy version')),
                ('verdict', models.CharField(choices=[('not_tested', 'not tested'), ('pending', 'pending'), ('certified', 'certified'), ('quality_warning', 'quality warning'), ('failed', 'failed'), ('permission_required', 'permission required'), ('configuration_required', 'configuration required')], max_length=24, verbose_name='verdict')),
                ('score', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='score')),
                ('rating', models.CharField(blank=True, max_length=1, verbose_name='rating')),
                ('lower_bound', models.FloatField(blank=True, null=True, verbose_name='lower bound')),
                ('reason', models.CharField(blank=True, choices=[('iam_denied', 'iam denied'), ('scp_denied', 'scp denied'), ('api_key_denied', 'api key denied'), ('marketplace_subscription', 'marketplace subscription'), ('payment_instrument', 'payment instrument'), ('use_case_form', 'use case form'), ('model_access_not_granted', 'model access not granted'), ('entitlement_mismatch', 'entitlement mismatch'), ('account_blocked', 'account blocked'), ('country_not_supported', 'country not supported'), ('data_retention_required', 'data retention required'), ('legacy_blocked', 'legacy blocked'), ('end_of_life', 'end of life'), ('not_in_region', 'not in region'), ('unknown_model', 'unknown model'), ('api_not_supported', 'api not supported'), ('wrong_route', 'wrong route'), ('region_not_enabled', 'region not enabled'), ('needs_inference_profile', 'needs inference profile'), ('needs_provisioned_throughput', 'needs provisioned throughput'), ('parameter_not_supported', 'parameter not supported'), ('modality_not_supported', 'modality not supported'), ('malformed_request', 'malformed request'), ('client_misconfigured', 'client misconfigured'), ('throttled_requests', 'throttled requests'), ('throttled_tokens', 'throttled tokens'), ('daily_tokens', 'daily tokens'), ('zero_quota', 'zero quota'), ('credentials_missing', 'credentials missing'), ('credentials_invalid', 'credentials invalid'), ('credentials_expired', 'credentials expired'), ('clock_skew', 'clock skew'), ('read_timeout', 'read timeout'), ('connect_timeout', 'connect timeout'), ('model_timeout', 'model timeout'), ('deadline', 'deadline'), ('dns', 'dns'), ('connection_refused', 'connection refused'), ('tls', 'tls'), ('proxy', 'proxy'), ('gateway_refused', 'gateway refused'), ('gateway_throttled', 'gateway throttled'), ('internal_error', 'internal error'), ('service_unavailable', 'service unavailable'), ('model_not_ready', 'model not ready'), ('model_error', 'model error'), ('stream_error', 'stream error'), ('stream_truncated', 'stream truncated'), ('stream_corrupt', 'stream corrupt'), ('bad_response', 'bad response'), ('guardrail', 'guardrail'), ('content_filter', 'content filter'), ('context_too_long', 'context too long'), ('gate_failed', 'gate failed'), ('quality_below_line', 'quality below line'), ('unexpected_exception', 'unexpected exception'), ('unknown', 'unknown')], max_length=32, verbose_name='reason')),
                ('message', models.TextField(blank=True, verbose_name='explanation')),
                ('judged_at', models.DateTimeField(auto_now_add=True, verbose_name='judged')),
                ('judged_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL, verbose_name='judged by')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='judgements', to='certification.certificationrun', verbose_name='run')),
            ],
            options={
                'verbose_name': 'later judgement',
                'verbose_name_plural': 'later judgements',
                'ordering': ['-judged_at'],
            },
        ),
        migrations.CreateModel(
            name='TestResult',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('case_id', models.CharField(max_length=40, verbose_name='case')),
                ('category', models.CharField(max_length=20, verbose_name='category')),
                ('kind', models.CharField(max_length=12, verbose_name='kind')),
                ('verdict', models.CharField(max_length=10, verbose_name='verdict')),
                ('sentence', models.TextField(blank=True, verbose_name='observation')),
                ('passes', models.PositiveSmallIntegerField(default=0, verbose_name='passes')),
                ('trials_valid', models.PositiveSmallIntegerField(default=0, verbose_name='valid trials')),
                ('score', models.FloatField(blank=True, null=True, verbose_name='score')),
                ('trials', models.JSONField(default=list, verbose_name='evidence')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='results', to='certification.certificationrun', verbose_name='run')),
            ],
            options={
                'verbose_name': 'test result',
                'verbose_name_plural': 'test results',
                'ordering': ['run', 'case_id'],
            },
        ),
        migrations.CreateModel(
            name='WebhookSubscription',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('url', models.CharField(max_length=500, validators=[certification.models.webhooks.validate_url], verbose_name='address')),
                ('events', models.JSONField(default=list, validators=[certification.models.webhooks.validate_events], verbose_name='events')),
                ('is_active', models.BooleanField(default=True, verbose_name='active')),
                ('disabled_reason', models.TextField(blank=True, verbose_name='reason for disabling')),
                ('secret_salt', models.CharField(editable=False, max_length=64)),
                ('secret_check', models.CharField(editable=False, max_length=16)),
                ('consecutive_failures', models.PositiveIntegerField(default=0, verbose_name='failures in a row')),
                ('failing_since', models.DateTimeField(blank=True, null=True, verbose_name='failing since')),
                ('last_success_at', models.DateTimeField(blank=True, null=True, verbose_name='last success')),
                ('paused_until', models.DateTimeField(blank=True, null=True, verbose_name='next attempt not before')),
                ('busy_until', models.DateTimeField(blank=True, editable=False, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('updated_at', models.DateTimeField(auto_now=True, verbose_name='updated')),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL, verbose_name='created by')),
            ],
            options={
                'verbose_name': 'webhook subscription',
                'verbose_name_plural': 'webhook subscriptions',
                'ordering': ['created_at'],
            },
        ),
        migrations.CreateModel(
            name='WebhookDelivery',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('event', models.CharField(max_length=40, verbose_name='event')),
                ('event_id', models.UUIDField(verbose_name='event id')),
                ('payload', models.JSONField(verbose_name='payload')),
                ('status', models.CharField(choices=[('pending', 'waiting'), ('delivered', 'delivered'), ('given_up', 'given up')], default='pending', max_length=10, verbose_name='status')),
                ('attempts', models.PositiveSmallIntegerField(default=0, verbose_name='attempts')),
                ('next_attempt_at', models.DateTimeField(blank=True, null=True, verbose_name='next attempt')),
                ('attempted_at', models.DateTimeField(blank=True, null=True, verbose_name='last attempt')),
                ('duration_ms', models.PositiveIntegerField(blank=True, null=True, verbose_name='duration (ms)')),
                ('response_status', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='response status')),
                ('response_body', models.TextField(blank=True, verbose_name='response')),
                ('error', models.TextField(blank=True, verbose_name='error')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('finished_at', models.DateTimeField(blank=True, null=True, verbose_name='ended')),
                ('subscription', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='certification.webhooksubscription', verbose_name='subscription')),
            ],
            options={
                'verbose_name': 'webhook delivery',
                'verbose_name_plural': 'webhook deliveries',
                'ordering': ['-created_at'],
            },
        ),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.UniqueConstraint(django.db.models.functions.text.Lower('email'), name='user_email_ci_unique'),
        ),
        migrations.AddIndex(
            model_name='certificationjob',
            index=models.Index(fields=['-created_at'], name='certificati_created_4a755d_idx'),
        ),
        migrations.AddIndex(
            model_name='certificationjob',
            index=models.Index(fields=['status', '-created_at'], name='certificati_status_971d2a_idx'),
        ),
        migrations.AddIndex(
            model_name='certificationjob',
            index=models.Index(fields=['type', '-created_at'], name='job_type_idx'),
        ),
        migrations.AddIndex(
            model_name='certificationjob',
            index=django.contrib.postgres.indexes.GinIndex(fields=['model_ids'], name='job_models_idx', opclasses=['jsonb_path_ops']),
        ),
        migrations.AddIndex(
            model_name='certificationjob',
            index=django.contrib.postgres.indexes.GinIndex(fields=['regions'], name='job_regions_idx', opclasses=['jsonb_path_ops']),
        ),
        migrations.AddConstraint(
            model_name='certificationjob',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('completed_at__isnull', False), ('status__in', ('COMPLETED', 'FAILED', 'CANCELLED'))), models.Q(models.Q(('status__in', ('COMPLETED', 'FAILED', 'CANCELLED')), _negated=True), ('completed_at__isnull', True)), _connector='OR'), name='job_terminal_iff_completed_at'),
        ),
        migrations.AddConstraint(
            model_name='certificationjob',
            constraint=models.CheckConstraint(condition=models.Q(('total_runs__gte', django.db.models.expressions.CombinedExpression(models.F('succeeded_runs'), '+', models.F('failed_runs')))), name='job_counts_within_total'),
        ),
        migrations.AddConstraint(
            model_name='parametersupport',
            constraint=models.UniqueConstraint(fields=('model', 'operation', 'feature'), name='one_acceptance_per_feature'),
        ),
        migrations.AddIndex(
            model_name='modelcertification',
            index=models.Index(fields=['region', 'status'], name='certificati_region__d25195_idx'),
        ),
        migrations.AddIndex(
            model_name='modelcertification',
            index=models.Index(fields=['expires_at'], name='certificati_expires_60ea41_idx'),
        ),
        migrations.AddConstraint(
            model_name='modelcertification',
            constraint=models.UniqueConstraint(fields=('model', 'region'), name='one_certification_per_model_region'),
        ),
        migrations.AddConstraint(
            model_name='modelcertification',
            constraint=models.CheckConstraint(condition=models.Q(('score__isnull', True), ('score__lte', 100), _connector='OR'), name='certification_score_100'),
        ),
        migrations.AddIndex(
            model_name='certificationrun',
            index=models.Index(fields=['job', 'status'], name='certificati_job_id_7f5bae_idx'),
        ),
        migrations.AddIndex(
            model_name='certificationrun',
            index=models.Index(fields=['model', 'region', '-completed_at'], name='certificati_model_i_e45854_idx'),
        ),
        migrations.AddIndex(
            model_name='certificationrun',
            index=models.Index(condition=models.Q(('status__in', ('PENDING', 'QUEUED', 'PROCESSING'))), fields=['status', 'heartbeat_at'], name='run_active_idx'),
        ),
        migrations.AddIndex(
            model_name='certificationrun',
            index=models.Index(condition=models.Q(('completed_at__isnull', False)), fields=['completed_at'], include=('status', 'verdict', 'attempt', 'started_at'), name='run_finished_idx'),
        ),
        migrations.AddConstraint(
            model_name='certificationrun',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('completed_at__isnull', False), ('status__in', ('COMPLETED', 'FAILED', 'CANCELLED'))), models.Q(models.Q(('status__in', ('COMPLETED', 'FAILED', 'CANCELLED')), _negated=True), ('completed_at__isnull', True)), _connector='OR'), name='run_terminal_iff_completed_at'),
        ),
        migrations.AddConstraint(
            model_name='certificationrun',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('status', 'PROCESSING'), _negated=True), models.Q(('claimed_by', ''), _negated=True), _connector='OR'), name='run_processing_is_claimed'),
        ),
        migrations.AddConstraint(
            model_name='certificationrun',
            constraint=models.CheckConstraint(condition=models.Q(('score__isnull', True), ('score__lte', 100), _connector='OR'), name='run_score_within_100'),
        ),
        migrations.AddConstraint(
            model_name='certificationrun',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('status', 'COMPLETED'), models.Q(('verdict__in', ['', certification.reasons.Status['PENDING']]), _negated=True)), models.Q(('status', 'FAILED'), ('verdict__in', ['', certification.reasons.Status['PENDING']])), models.Q(models.Q(('status__in', ['COMPLETED', 'FAILED']), _negated=True), ('verdict', '')), _connector='OR'), name='run_completed_iff_verdict'),
        ),
        migrations.AddConstraint(
            model_name='certificationrun',
            constraint=models.UniqueConstraint(condition=models.Q(('status__in', ('PENDING', 'QUEUED', 'PROCESSING'))), fields=('model', 'region'), name='one_active_run_per_model_region'),
        ),
        migrations.AddConstraint(
            model_name='route',
            constraint=models.UniqueConstraint(fields=('model', 'region', 'endpoint', 'api', 'target_id'), name='route_unique'),
        ),
        migrations.AddConstraint(
            model_name='runjudgement',
            constraint=models.UniqueConstraint(fields=('run', 'policy_version'), name='one_judgement_per_run_and_policy'),
        ),
        migrations.AddConstraint(
            model_name='runjudgement',
            constraint=models.CheckConstraint(condition=models.Q(('score__isnull', True), ('score__lte', 100), _connector='OR'), name='judgement_score_100'),
        ),
        migrations.AddConstraint(
            model_name='testresult',
            constraint=models.UniqueConstraint(fields=('run', 'case_id'), name='one_result_per_case_and_run'),
        ),
        migrations.AddConstraint(
            model_name='testresult',
            constraint=models.CheckConstraint(condition=models.Q(('passes__lte', models.F('trials_valid'))), name='result_passes_within_valid'),
        ),
        migrations.AddConstraint(
            model_name='webhooksubscription',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('disabled_reason', ''), ('is_active', True)), ('is_active', False), _connector='OR'), name='webhook_active_has_no_reason'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(fields=['-created_at'], name='certificati_created_9aa032_idx'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(condition=models.Q(('status', 'pending')), fields=['subscription', 'next_attempt_at'], name='webhook_pending_idx'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(fields=['finished_at'], name='certificati_finishe_21cbaa_idx'),
        ),
        migrations.AddConstraint(
            model_name='webhookdelivery',
            constraint=models.UniqueConstraint(fields=('subscription', 'event_id'), name='one_delivery_per_event'),
        ),
        migrations.AddConstraint(
            model_name='webhookdelivery',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', True), ('next_attempt_at__isnull', False), ('status', 'pending')), models.Q(models.Q(('status', 'pending'), _negated=True), ('finished_at__isnull', False), ('next_attempt_at__isnull', True)), _connector='OR'), name='webhook_pending_iff_next_attempt'),
        ),
        migrations.RunSQL(FORBID, FORBIDDEN_NO_MORE),
        migrations.RunSQL(ADD, REMOVE),
    ]

