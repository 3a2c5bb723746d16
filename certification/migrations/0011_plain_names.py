"""Plain names for two models and many labels. Tables and their rows stay as they are."""

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

OLD = {"operatorcase": "own case", "acceptance": "learnt acceptance"}
NEW = {"operatorcase": "custom case", "acceptance": "parameter support"}
MODELS = {"operatorcase": "customcase", "acceptance": "parametersupport"}


def forwards(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Let whoever may edit the old model edit the new one: Django renames content types only."""
    for old, new in MODELS.items():
        rename_permissions(apps, old, new, OLD[old], NEW[old])


def backwards(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for old, new in MODELS.items():
        rename_permissions(apps, new, old, NEW[old], OLD[old])


def rename_permissions(apps: StateApps, old: str, new: str, label: str, new_label: str) -> None:
    permissions = apps.get_model("auth", "Permission").objects.filter(
        content_type__app_label="certification", codename__endswith=f"_{old}"
    )
    for permission in permissions:
        permission.codename = permission.codename.replace(old, new)
        permission.name = permission.name.replace(label, new_label)
        permission.save(update_fields=["codename", "name"])


class Migration(migrations.Migration):
    dependencies = [
        ("certification", "0010_runs_tell_of_changes"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.AlterModelTable("OperatorCase", "certification_operatorcase"),
        migrations.RenameModel("OperatorCase", "CustomCase"),
        migrations.AlterModelTable("Acceptance", "certification_acceptance"),
        migrations.RenameModel("Acceptance", "ParameterSupport"),
        migrations.AlterModelOptions(
            name='customcase',
            options={'ordering': ['case_id'], 'verbose_name': 'custom case', 'verbose_name_plural': 'custom cases'},
        ),
        migrations.AlterModelOptions(
            name='parametersupport',
            options={'ordering': ['model', 'operation', 'feature'], 'verbose_name': 'parameter support', 'verbose_name_plural': 'parameter support'},
        ),
        migrations.AlterField(
            model_name='aimodel',
            name='max_output_tokens',
            field=models.PositiveIntegerField(blank=True, null=True, verbose_name='max output tokens'),
        ),
        migrations.AlterField(
            model_name='apikey',
            name='shown',
            field=models.CharField(editable=False, max_length=20, verbose_name='prefix'),
        ),
        migrations.AlterField(
            model_name='certificationjob',
            name='cost_usd',
            field=models.DecimalField(decimal_places=6, default=0, max_digits=12, verbose_name='cost (USD)'),
        ),
        migrations.AlterField(
            model_name='certificationjob',
            name='estimated_cost_usd',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=12, null=True, verbose_name='estimated cost (USD)'),
        ),
        migrations.AlterField(
            model_name='certificationjob',
            name='max_cost_usd',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=12, null=True, verbose_name='maximum cost (USD)'),
        ),
        migrations.AlterField(
            model_name='certificationrun',
            name='cost_usd',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=12, null=True, verbose_name='cost (USD)'),
        ),
        migrations.AlterField(
            model_name='certificationrun',
            name='error_message',
            field=models.TextField(blank=True, verbose_name='error message'),
        ),
        migrations.AlterField(
            model_name='certificationrun',
            name='heartbeat_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='last heartbeat'),
        ),
        migrations.AlterField(
            model_name='customcase',
            name='bad_sample',
            field=models.TextField(verbose_name='an answer that must fail'),
        ),
        migrations.AlterField(
            model_name='customcase',
            name='max_tokens',
            field=models.PositiveIntegerField(default=500, validators=[django.core.validators.MinValueValidator(16), django.core.validators.MaxValueValidator(8000)], verbose_name='max answer tokens'),
        ),
        migrations.AlterField(
            model_name='modelcertification',
            name='attempts',
            field=models.PositiveIntegerField(default=0, verbose_name='runs'),
        ),
        migrations.AlterField(
            model_name='modelcertification',
            name='confirm_after',
            field=models.DateTimeField(blank=True, null=True, verbose_name='second run decides after'),
        ),
        migrations.AlterField(
            model_name='modelcertification',
            name='held_back',
            field=models.TextField(blank=True, verbose_name='reason for holding back a later verdict'),
        ),
        migrations.AlterField(
            model_name='parametersupport',
            name='model',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='parameter_support', to='certification.aimodel', verbose_name='model'),
        ),
        migrations.AlterField(
            model_name='parametersupport',
            name='region',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='certification.region', verbose_name='observed in'),
        ),
        migrations.AlterField(
            model_name='parametersupport',
            name='seen_at',
            field=models.DateTimeField(verbose_name='observed'),
        ),
        migrations.AlterField(
            model_name='region',
            name='opt_in',
            field=models.BooleanField(default=False, help_text='Accounts must enable this region first.', verbose_name='opt-in'),
        ),
        migrations.AlterField(
            model_name='runjudgement',
            name='message',
            field=models.TextField(blank=True, verbose_name='explanation'),
        ),
        migrations.AlterField(
            model_name='testresult',
            name='sentence',
            field=models.TextField(blank=True, verbose_name='observation'),
        ),
        migrations.AlterField(
            model_name='user',
            name='is_staff',
            field=models.BooleanField(default=False, verbose_name='staff status'),
        ),
        migrations.AlterField(
            model_name='webhooksubscription',
            name='disabled_reason',
            field=models.TextField(blank=True, verbose_name='reason for disabling'),
        ),
        migrations.RunPython(forwards, backwards),
    ]
