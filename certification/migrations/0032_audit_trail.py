import django.core.serializers.json
import django.db.models.functions.datetime
from django.db import migrations, models

# Nobody changes an entry, and deletes none of the last 30 days.
CREATE = """
CREATE FUNCTION certification_audit_is_final() RETURNS trigger AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.at < statement_timestamp() - interval '30 days' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'an entry of the audit trail cannot be changed';
END $$ LANGUAGE plpgsql;
CREATE TRIGGER certification_audit_is_final BEFORE UPDATE OR DELETE ON certification_auditentry
FOR EACH ROW EXECUTE FUNCTION certification_audit_is_final();
"""
DROP = """
DROP TRIGGER certification_audit_is_final ON certification_auditentry;
DROP FUNCTION certification_audit_is_final();
"""


class Migration(migrations.Migration):
    dependencies = [("certification", "0031_runs_count_themselves")]

    operations = [
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), db_index=True, verbose_name="when")),
                ("actor_id", models.BigIntegerField(blank=True, null=True)),
                ("actor", models.CharField(db_index=True, max_length=254, verbose_name="who")),
                ("via", models.CharField(max_length=10, verbose_name="from")),
                ("place", models.CharField(max_length=200, verbose_name="place")),
                ("address", models.CharField(blank=True, max_length=64, verbose_name="address")),
                ("request_id", models.CharField(blank=True, max_length=64, verbose_name="request")),
                ("action", models.CharField(max_length=64, verbose_name="action")),
                ("kind", models.CharField(blank=True, max_length=64, verbose_name="kind")),
                ("key", models.CharField(blank=True, max_length=64, verbose_name="key")),
                ("subject", models.CharField(blank=True, max_length=200, verbose_name="subject")),
                ("changes", models.JSONField(default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder, verbose_name="changes")),
            ],
            options={"verbose_name": "audit entry", "verbose_name_plural": "audit trail", "ordering": ["-at", "-pk"]},
        ),
        migrations.RunSQL(CREATE, DROP),
    ]
