"""The Celery application: `celery -A myia worker|beat|flower`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myia.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # `monitoring.signals` checks the settings

app = Celery("myia")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["certification.engine"], related_name="schedules")
app.autodiscover_tasks(["certification.monitoring"], related_name="signals")
