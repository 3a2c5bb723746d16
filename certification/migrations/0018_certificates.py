"""Certificates, their keys and their PDFs, which the database refuses to change or delete."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


FORBID = """
CREATE FUNCTION certification_certificate_is_final() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION 'What was issued cannot be changed or deleted (%). A certificate can be withdrawn.', TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation';
END $$ LANGUAGE plpgsql;

CREATE TRIGGER certification_certificate_is_final
BEFORE DELETE OR UPDATE OF number, code, digest, previous_id, model_id, region_id, run_id, key_id,
    issued_at, expires_at, envelope ON certification_certificate
FOR EACH ROW EXECUTE FUNCTION certification_certificate_is_final();

CREATE TRIGGER certification_withdrawal_is_final
BEFORE UPDATE OF withdrawn_at, withdrawal_reason ON certification_certificate
FOR EACH ROW WHEN (OLD.withdrawn_at IS NOT NULL)
EXECUTE FUNCTION certification_certificate_is_final();

CREATE TRIGGER certification_certificate_key_is_final
BEFORE DELETE OR UPDATE ON certification_certificatekey
FOR EACH ROW EXECUTE FUNCTION certification_certificate_is_final();

CREATE TRIGGER certification_certificate_document_is_final
BEFORE DELETE OR UPDATE ON certification_certificatedocument
FOR EACH ROW EXECUTE FUNCTION certification_certificate_is_final();
"""

ALLOW = """
DROP TRIGGER certification_certificate_document_is_final ON certification_certificatedocument;
DROP TRIGGER certification_certificate_key_is_final ON certification_certificatekey;
DROP TRIGGER certification_withdrawal_is_final ON certification_certificate;
DROP TRIGGER certification_certificate_is_final ON certification_certificate;
DROP FUNCTION certification_certificate_is_final();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('certification', '0017_gateway_and_internal_errors'),
    ]

    operations = [
        migrations.CreateModel(
            name='CertificateKey',
            fields=[
                ('id', models.CharField(help_text="Of the public key's DER form.", max_length=64, primary_key=True, serialize=False, verbose_name='SHA-256')),
                ('public_key', models.TextField(verbose_name='public key (PEM)')),
                ('first_used_at', models.DateTimeField(auto_now_add=True, verbose_name='first used')),
            ],
            options={
                'verbose_name': 'certificate key',
                'verbose_name_plural': 'certificate keys',
                'ordering': ['first_used_at'],
            },
        ),
        migrations.CreateModel(
            name='Certificate',
            fields=[
                ('number', models.PositiveBigIntegerField(primary_key=True, serialize=False, verbose_name='number')),
                ('code', models.CharField(max_length=14, unique=True, verbose_name='code')),
                ('digest', models.CharField(max_length=64, unique=True, verbose_name='hash')),
                ('issued_at', models.DateTimeField(verbose_name='issued')),
                ('expires_at', models.DateTimeField(verbose_name='in force until')),
                ('envelope', models.BinaryField(verbose_name='signed statement')),
                ('withdrawn_at', models.DateTimeField(blank=True, null=True, verbose_name='withdrawn')),
                ('withdrawal_reason', models.TextField(blank=True, verbose_name='reason for withdrawal')),
                ('lookups', models.PositiveIntegerField(default=0, verbose_name='look-ups')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='certificates', to='certification.aimodel', verbose_name='model')),
                ('previous', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='next', to='certification.certificate', to_field='digest', verbose_name='the one before')),
                ('region', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='certificates', to='certification.region', verbose_name='region')),
                ('run', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='certificate', to='certification.certificationrun', verbose_name='run')),
                ('withdrawn_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='withdrawn by')),
                ('key', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='certification.certificatekey', verbose_name='key')),
            ],
            options={
                'verbose_name': 'certificate',
                'verbose_name_plural': 'certificates',
                'ordering': ['-number'],
            },
        ),
        migrations.CreateModel(
            name='CertificateDocument',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('language', models.CharField(max_length=10, verbose_name='language')),
                ('pdf', models.BinaryField(verbose_name='PDF')),
                ('digest', models.CharField(max_length=64, unique=True, verbose_name='hash')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('certificate', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='documents', to='certification.certificate', verbose_name='certificate')),
            ],
            options={
                'verbose_name': 'certificate document',
                'verbose_name_plural': 'certificate documents',
                'ordering': ['certificate', 'language'],
                'constraints': [models.UniqueConstraint(fields=('certificate', 'language'), name='one_document_per_language')],
            },
        ),
        migrations.AddIndex(
            model_name='certificate',
            index=models.Index(fields=['model', 'region', '-number'], name='certificati_model_i_5e1ede_idx'),
        ),
        migrations.AddConstraint(
            model_name='certificate',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('number', 1), ('previous__isnull', True)), models.Q(('number__gt', 1), ('previous__isnull', False)), _connector='OR'), name='certificate_chain_begins_once'),
        ),
        migrations.AddConstraint(
            model_name='certificate',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('withdrawal_reason', ''), ('withdrawn_at__isnull', True)), models.Q(('withdrawn_at__isnull', False), models.Q(('withdrawal_reason', ''), _negated=True)), _connector='OR'), name='certificate_withdrawn_iff_reason'),
        ),
        migrations.RunSQL(FORBID, ALLOW),
    ]
