import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('certification', '0035_capacity_days'),
    ]

    operations = [
        migrations.CreateModel(
            name='Contact',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('level', models.PositiveSmallIntegerField(validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(4)], verbose_name='level')),
                ('name', models.CharField(max_length=100, verbose_name='name')),
                ('reach', models.CharField(help_text='A telephone number, an address, a channel.', max_length=200, verbose_name='reached by')),
                ('hours', models.CharField(blank=True, max_length=100, verbose_name='when')),
                ('order', models.PositiveSmallIntegerField(default=0, verbose_name='order')),
            ],
            options={
                'verbose_name': 'contact',
                'verbose_name_plural': 'contacts',
                'ordering': ['level', 'order', 'name'],
            },
        ),
        migrations.CreateModel(
            name='ChecklistRecord',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('checklist', models.CharField(max_length=20)),
                ('period', models.DateField(verbose_name='period')),
                ('note', models.CharField(blank=True, max_length=1000, verbose_name='note')),
                ('signed_by', models.CharField(blank=True, max_length=254, verbose_name='signed by')),
                ('signed_at', models.DateTimeField(blank=True, null=True, verbose_name='signed')),
            ],
            options={
                'ordering': ['-period'],
                'constraints': [models.UniqueConstraint(fields=('checklist', 'period'), name='one_record_per_period')],
            },
        ),
        migrations.CreateModel(
            name='DocumentReview',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('document', models.CharField(max_length=40)),
                ('version', models.CharField(max_length=20)),
                ('by', models.CharField(max_length=254)),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('note', models.CharField(blank=True, max_length=1000)),
            ],
            options={
                'ordering': ['-at', '-pk'],
                'indexes': [models.Index(fields=['document', '-at'], name='document_review_idx')],
            },
        ),
        migrations.CreateModel(
            name='Drill',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scenario', models.CharField(max_length=40)),
                ('person', models.CharField(max_length=254)),
                ('started_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('fixed_at', models.DateTimeField(blank=True, null=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('wrong_answers', models.PositiveSmallIntegerField(default=0)),
                ('passed', models.BooleanField(default=False)),
            ],
            options={
                'ordering': ['-started_at', '-pk'],
                'constraints': [models.UniqueConstraint(models.Value(1), condition=models.Q(('ended_at', None)), name='one_drill_at_a_time')],
            },
        ),
        migrations.CreateModel(
            name='TrainingTick',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('person', models.CharField(max_length=254, verbose_name='person')),
                ('step', models.CharField(max_length=40)),
                ('by', models.CharField(blank=True, max_length=254)),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('note', models.CharField(blank=True, max_length=1000)),
            ],
            options={
                'ordering': ['at', 'pk'],
                'constraints': [models.UniqueConstraint(fields=('person', 'step'), name='one_tick_per_person_and_step')],
            },
        ),
        migrations.CreateModel(
            name='ChecklistTick',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('item', models.CharField(max_length=40)),
                ('by', models.CharField(max_length=254)),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('note', models.CharField(blank=True, max_length=1000)),
                ('record', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='ticks', to='certification.checklistrecord')),
            ],
            options={
                'ordering': ['at', 'pk'],
                'constraints': [models.UniqueConstraint(fields=('record', 'item'), name='one_tick_per_item')],
            },
        ),
    ]
