"""The tasks of the routines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Task, shared_task

from certification.lib.database import returning_connection
from certification.models import NextAction
from certification.operations import routines, security


@shared_task(bind=True, ignore_result=False)
def run_routine(self: Task, name: str, only: str = "") -> dict[str, Any]:
    """Run a routine, or one step of it; its report is the result. Two at a time is one. What went
    wrong is a next action for somebody.
    """
    with returning_connection():
        try:
            report = routines.run(name, only)
        except routines.Busy as busy:
            return {"routine": name, "well": True, "skipped": str(busy), "steps": []}
        faults = [(step["step"], step["text"]) for step in report["steps"] if not step["well"]]
        NextAction.objects.carry_over(name, str(self.request.id or ""), faults)
        return report


@shared_task(ignore_result=False)
def audit_security(parts: Sequence[str] = ()) -> dict[str, Any]:
    """Look for what others could read, reach, guess or still use; the report is the result."""
    with returning_connection():
        return security.audit(parts)
