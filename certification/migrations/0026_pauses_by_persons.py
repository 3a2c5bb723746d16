from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('certification', '0025_saved_views'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='queuepause',
            name='one_open_pause_per_backend',
        ),
        migrations.AddField(
            model_name='queuepause',
            name='cause',
            field=models.CharField(choices=[('credentials', 'credentials that do not work'), ('person', 'a person'), ('read_only', 'read-only mode')], db_default='credentials', default='credentials', max_length=12, verbose_name='cause'),
        ),
        migrations.AddField(
            model_name='queuepause',
            name='opened_by',
            field=models.CharField(blank=True, db_default='', max_length=254, verbose_name='opened by'),
        ),
        migrations.AddField(
            model_name='queuepause',
            name='until',
            field=models.DateTimeField(blank=True, null=True, verbose_name='until'),
        ),
        migrations.AlterField(
            model_name='queuepause',
            name='error_category',
            field=models.CharField(blank=True, choices=[('UNAVAILABLE', 'UNAVAILABLE'), ('PERMISSION_ERROR', 'PERMISSION_ERROR'), ('MODEL_ACCESS', 'MODEL_ACCESS'), ('AUTHENTICATION_ERROR', 'AUTHENTICATION_ERROR'), ('CONFIGURATION_ERROR', 'CONFIGURATION_ERROR'), ('PROVISIONING_REQUIRED', 'PROVISIONING_REQUIRED'), ('RATE_LIMIT', 'RATE_LIMIT'), ('QUOTA_EXCEEDED', 'QUOTA_EXCEEDED'), ('TIMEOUT', 'TIMEOUT'), ('NETWORK_ERROR', 'NETWORK_ERROR'), ('SERVICE_ERROR', 'SERVICE_ERROR'), ('GATEWAY_ERROR', 'GATEWAY_ERROR'), ('CONTENT_BLOCKED', 'CONTENT_BLOCKED'), ('QUALITY_ISSUE', 'QUALITY_ISSUE'), ('INTERNAL_ERROR', 'INTERNAL_ERROR'), ('UNKNOWN_ERROR', 'UNKNOWN_ERROR')], max_length=24, verbose_name='error category'),
        ),
        migrations.AlterField(
            model_name='queuepause',
            name='error_reason',
            field=models.CharField(blank=True, choices=[('iam_denied', 'iam denied'), ('scp_denied', 'scp denied'), ('api_key_denied', 'api key denied'), ('marketplace_subscription', 'marketplace subscription'), ('payment_instrument', 'payment instrument'), ('use_case_form', 'use case form'), ('model_access_not_granted', 'model access not granted'), ('entitlement_mismatch', 'entitlement mismatch'), ('account_blocked', 'account blocked'), ('country_not_supported', 'country not supported'), ('data_retention_required', 'data retention required'), ('legacy_blocked', 'legacy blocked'), ('end_of_life', 'end of life'), ('not_in_region', 'not in region'), ('unknown_model', 'unknown model'), ('api_not_supported', 'api not supported'), ('wrong_route', 'wrong route'), ('region_not_enabled', 'region not enabled'), ('needs_inference_profile', 'needs inference profile'), ('needs_provisioned_throughput', 'needs provisioned throughput'), ('parameter_not_supported', 'parameter not supported'), ('modality_not_supported', 'modality not supported'), ('malformed_request', 'malformed request'), ('client_misconfigured', 'client misconfigured'), ('throttled_requests', 'throttled requests'), ('throttled_tokens', 'throttled tokens'), ('daily_tokens', 'daily tokens'), ('zero_quota', 'zero quota'), ('credentials_missing', 'credentials missing'), ('credentials_invalid', 'credentials invalid'), ('credentials_expired', 'credentials expired'), ('clock_skew', 'clock skew'), ('read_timeout', 'read timeout'), ('connect_timeout', 'connect timeout'), ('model_timeout', 'model timeout'), ('deadline', 'deadline'), ('dns', 'dns'), ('connection_refused', 'connection refused'), ('tls', 'tls'), ('proxy', 'proxy'), ('gateway_refused', 'gateway refused'), ('gateway_throttled', 'gateway throttled'), ('internal_error', 'internal error'), ('service_unavailable', 'service unavailable'), ('model_not_ready', 'model not ready'), ('model_error', 'model error'), ('stream_error', 'stream error'), ('stream_truncated', 'stream truncated'), ('stream_corrupt', 'stream corrupt'), ('bad_response', 'bad response'), ('guardrail', 'guardrail'), ('content_filter', 'content filter'), ('context_too_long', 'context too long'), ('gate_failed', 'gate failed'), ('quality_below_line', 'quality below line'), ('unexpected_exception', 'unexpected exception'), ('unknown', 'unknown')], max_length=32, verbose_name='error reason'),
        ),
        migrations.AddConstraint(
            model_name='queuepause',
            constraint=models.UniqueConstraint(condition=models.Q(('resumed_at__isnull', True)), fields=('backend', 'cause'), name='one_open_pause_per_cause'),
        ),
    ]
