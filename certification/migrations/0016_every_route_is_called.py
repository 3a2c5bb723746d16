"""No cell is decided without a call any more: the reason `not_on_bedrock_runtime` goes."""

from django.db import migrations, models


# A finished run never changes (0002): here only the name of its reason does.
RENAME_REASON = """
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE certification_certificationrun DISABLE TRIGGER certification_run_is_final;
UPDATE certification_certificationrun
SET error_reason = 'api_not_supported', error_category = 'CONFIGURATION_ERROR'
WHERE error_reason = 'not_on_bedrock_runtime';
UPDATE certification_runjudgement SET reason = 'api_not_supported'
WHERE reason = 'not_on_bedrock_runtime';
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE certification_certificationrun ENABLE TRIGGER certification_run_is_final;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('certification', '0015_unique_routes'),
    ]

    operations = [
        migrations.RunSQL(RENAME_REASON, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name='certificationrun',
            name='error_reason',
            field=models.CharField(blank=True, choices=[('iam_denied', 'iam denied'), ('scp_denied', 'scp denied'), ('api_key_denied', 'api key denied'), ('marketplace_subscription', 'marketplace subscription'), ('payment_instrument', 'payment instrument'), ('use_case_form', 'use case form'), ('model_access_not_granted', 'model access not granted'), ('entitlement_mismatch', 'entitlement mismatch'), ('account_blocked', 'account blocked'), ('country_not_supported', 'country not supported'), ('data_retention_required', 'data retention required'), ('legacy_blocked', 'legacy blocked'), ('end_of_life', 'end of life'), ('not_in_region', 'not in region'), ('unknown_model', 'unknown model'), ('api_not_supported', 'api not supported'), ('wrong_route', 'wrong route'), ('region_not_enabled', 'region not enabled'), ('needs_inference_profile', 'needs inference profile'), ('needs_provisioned_throughput', 'needs provisioned throughput'), ('parameter_not_supported', 'parameter not supported'), ('modality_not_supported', 'modality not supported'), ('malformed_request', 'malformed request'), ('client_misconfigured', 'client misconfigured'), ('throttled_requests', 'throttled requests'), ('throttled_tokens', 'throttled tokens'), ('daily_tokens', 'daily tokens'), ('zero_quota', 'zero quota'), ('credentials_missing', 'credentials missing'), ('credentials_invalid', 'credentials invalid'), ('credentials_expired', 'credentials expired'), ('clock_skew', 'clock skew'), ('read_timeout', 'read timeout'), ('connect_timeout', 'connect timeout'), ('model_timeout', 'model timeout'), ('deadline', 'deadline'), ('dns', 'dns'), ('connection_refused', 'connection refused'), ('tls', 'tls'), ('proxy', 'proxy'), ('internal_error', 'internal error'), ('service_unavailable', 'service unavailable'), ('model_not_ready', 'model not ready'), ('model_error', 'model error'), ('stream_error', 'stream error'), ('stream_truncated', 'stream truncated'), ('stream_corrupt', 'stream corrupt'), ('bad_response', 'bad response'), ('guardrail', 'guardrail'), ('content_filter', 'content filter'), ('context_too_long', 'context too long'), ('gate_failed', 'gate failed'), ('quality_below_line', 'quality below line'), ('unknown', 'unknown')], max_length=32, verbose_name='error reason'),
        ),
        migrations.AlterField(
            model_name='queuepause',
            name='error_reason',
            field=models.CharField(choices=[('iam_denied', 'iam denied'), ('scp_denied', 'scp denied'), ('api_key_denied', 'api key denied'), ('marketplace_subscription', 'marketplace subscription'), ('payment_instrument', 'payment instrument'), ('use_case_form', 'use case form'), ('model_access_not_granted', 'model access not granted'), ('entitlement_mismatch', 'entitlement mismatch'), ('account_blocked', 'account blocked'), ('country_not_supported', 'country not supported'), ('data_retention_required', 'data retention required'), ('legacy_blocked', 'legacy blocked'), ('end_of_life', 'end of life'), ('not_in_region', 'not in region'), ('unknown_model', 'unknown model'), ('api_not_supported', 'api not supported'), ('wrong_route', 'wrong route'), ('region_not_enabled', 'region not enabled'), ('needs_inference_profile', 'needs inference profile'), ('needs_provisioned_throughput', 'needs provisioned throughput'), ('parameter_not_supported', 'parameter not supported'), ('modality_not_supported', 'modality not supported'), ('malformed_request', 'malformed request'), ('client_misconfigured', 'client misconfigured'), ('throttled_requests', 'throttled requests'), ('throttled_tokens', 'throttled tokens'), ('daily_tokens', 'daily tokens'), ('zero_quota', 'zero quota'), ('credentials_missing', 'credentials missing'), ('credentials_invalid', 'credentials invalid'), ('credentials_expired', 'credentials expired'), ('clock_skew', 'clock skew'), ('read_timeout', 'read timeout'), ('connect_timeout', 'connect timeout'), ('model_timeout', 'model timeout'), ('deadline', 'deadline'), ('dns', 'dns'), ('connection_refused', 'connection refused'), ('tls', 'tls'), ('proxy', 'proxy'), ('internal_error', 'internal error'), ('service_unavailable', 'service unavailable'), ('model_not_ready', 'model not ready'), ('model_error', 'model error'), ('stream_error', 'stream error'), ('stream_truncated', 'stream truncated'), ('stream_corrupt', 'stream corrupt'), ('bad_response', 'bad response'), ('guardrail', 'guardrail'), ('content_filter', 'content filter'), ('context_too_long', 'context too long'), ('gate_failed', 'gate failed'), ('quality_below_line', 'quality below line'), ('unknown', 'unknown')], max_length=32, verbose_name='error reason'),
        ),
        migrations.AlterField(
            model_name='runjudgement',
            name='reason',
            field=models.CharField(blank=True, choices=[('iam_denied', 'iam denied'), ('scp_denied', 'scp denied'), ('api_key_denied', 'api key denied'), ('marketplace_subscription', 'marketplace subscription'), ('payment_instrument', 'payment instrument'), ('use_case_form', 'use case form'), ('model_access_not_granted', 'model access not granted'), ('entitlement_mismatch', 'entitlement mismatch'), ('account_blocked', 'account blocked'), ('country_not_supported', 'country not supported'), ('data_retention_required', 'data retention required'), ('legacy_blocked', 'legacy blocked'), ('end_of_life', 'end of life'), ('not_in_region', 'not in region'), ('unknown_model', 'unknown model'), ('api_not_supported', 'api not supported'), ('wrong_route', 'wrong route'), ('region_not_enabled', 'region not enabled'), ('needs_inference_profile', 'needs inference profile'), ('needs_provisioned_throughput', 'needs provisioned throughput'), ('parameter_not_supported', 'parameter not supported'), ('modality_not_supported', 'modality not supported'), ('malformed_request', 'malformed request'), ('client_misconfigured', 'client misconfigured'), ('throttled_requests', 'throttled requests'), ('throttled_tokens', 'throttled tokens'), ('daily_tokens', 'daily tokens'), ('zero_quota', 'zero quota'), ('credentials_missing', 'credentials missing'), ('credentials_invalid', 'credentials invalid'), ('credentials_expired', 'credentials expired'), ('clock_skew', 'clock skew'), ('read_timeout', 'read timeout'), ('connect_timeout', 'connect timeout'), ('model_timeout', 'model timeout'), ('deadline', 'deadline'), ('dns', 'dns'), ('connection_refused', 'connection refused'), ('tls', 'tls'), ('proxy', 'proxy'), ('internal_error', 'internal error'), ('service_unavailable', 'service unavailable'), ('model_not_ready', 'model not ready'), ('model_error', 'model error'), ('stream_error', 'stream error'), ('stream_truncated', 'stream truncated'), ('stream_corrupt', 'stream corrupt'), ('bad_response', 'bad response'), ('guardrail', 'guardrail'), ('content_filter', 'content filter'), ('context_too_long', 'context too long'), ('gate_failed', 'gate failed'), ('quality_below_line', 'quality below line'), ('unknown', 'unknown')], max_length=32, verbose_name='reason'),
        ),
    ]
