"""The tasks of the routines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import shared_task

from certification.lib.database import returning_connection
from certification.operations import routines, security


@shared_task(ignore_result=False)
def run_routine(name: str, only: str = "") -> dict[str, Any]:
    """Run a routine, or one step of it; its report is the result. Two at a time is one."""
    with returning_connection():
        try:
            return routines.run(name, only)
        except routines.Busy as busy:
            return {"routine": name, "well": True, "skipped": str(busy), "steps": []}


@shared_task(ignore_result=False)
def audit_security(parts: Sequence[str] = ()) -> dict[str, Any]:
    """Look for what others could read, reach, guess or still use; the report is the result."""
    with returning_connection():
        return security.audit(parts)
