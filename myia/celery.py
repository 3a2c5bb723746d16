"""The Celery application: `celery -A myia worker|beat|flower`."""

import os
from datetime import datetime, timedelta
from typing import Any

import celery
from celery.contrib.django.task import DjangoTask
from celery.signals import before_task_publish

from certification.lib import clock

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myia.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # `monitoring.signals` checks the settings


class Task(DjangoTask):
    """A task whose messages expire by the database's clock."""

    Request = "certification.engine.consumer:Request"


app = celery.Celery("myia", task_cls=Task)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["certification.engine"], related_name="schedules")
app.autodiscover_tasks(["certification.monitoring", "certification.operations"])
app.autodiscover_tasks(["certification.monitoring"], related_name="signals")


@before_task_publish.connect
def expire_by_the_clock(headers: dict[str, Any], **_kwargs: object) -> None:
    """Write the time at which a message expires by the database's clock, as `consumer.Request`
    reads it: on machines whose clocks differ every message of beat would be out of date.
    """
    if expires := headers.get("expires"):
        moment = datetime.fromisoformat(expires) + timedelta(seconds=clock.offset_s())
        headers["expires"] = moment.isoformat()
