"""Routes and runs name their endpoint and API, models have aliases."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('certification', '0012_reasons_of_the_other_apis'),
    ]

    operations = [
        migrations.CreateModel(
            name='ModelAlias',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('alias', models.CharField(max_length=200, unique=True, verbose_name='alias')),
                ('former_id', models.UUIDField(blank=True, editable=False, null=True, unique=True, verbose_name='former UUID')),
            ],
            options={
                'verbose_name': 'model alias',
                'verbose_name_plural': 'model aliases',
                'ordering': ['alias'],
            },
        ),
        migrations.AlterModelOptions(
            name='route',
            options={'ordering': ['model', 'region', 'endpoint', 'api', 'kind', 'target_id'], 'verbose_name': 'route', 'verbose_name_plural': 'routes'},
        ),
        migrations.RemoveConstraint(
            model_name='route',
            name='route_unique',
        ),
        migrations.AddField(
            model_name='certificationrun',
            name='api',
            field=models.CharField(blank=True, choices=[('converse', 'Converse'), ('invoke', 'InvokeModel'), ('chat_completions', 'Chat Completions'), ('responses', 'Responses'), ('messages', 'Messages')], max_length=20, verbose_name='API'),
        ),
        migrations.AddField(
            model_name='certificationrun',
            name='endpoint',
            field=models.CharField(blank=True, choices=[('bedrock-runtime', 'bedrock-runtime'), ('bedrock-mantle', 'bedrock-mantle')], max_length=20, verbose_name='endpoint'),
        ),
        migrations.AddField(
            model_name='route',
            name='api',
            field=models.CharField(choices=[('converse', 'Converse'), ('invoke', 'InvokeModel'), ('chat_completions', 'Chat Completions'), ('responses', 'Responses'), ('messages', 'Messages')], default='converse', max_length=20, verbose_name='API'),
        ),
        migrations.AddField(
            model_name='route',
            name='endpoint',
            field=models.CharField(choices=[('bedrock-runtime', 'bedrock-runtime'), ('bedrock-mantle', 'bedrock-mantle')], default='bedrock-runtime', max_length=20, verbose_name='endpoint'),
        ),
        migrations.AddField(
            model_name='route',
            name='last_refusal',
            field=models.JSONField(blank=True, editable=False, null=True, verbose_name='last refusal'),
        ),
        migrations.AddField(
            model_name='route',
            name='path_prefix',
            field=models.CharField(blank=True, max_length=40, verbose_name='path prefix'),
        ),
        migrations.AddField(
            model_name='modelalias',
            name='model',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='aliases', to='certification.aimodel', verbose_name='model'),
        ),
    ]
