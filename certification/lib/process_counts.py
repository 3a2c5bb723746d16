"""What long-lived processes count of themselves: their error lines, and that they replace a process
which ended without being told to.
"""

from __future__ import annotations

import logging

from django.conf import settings

from certification.lib.counters import Series, counters

ERRORS, RESTARTS = "log_errors_total", "process_restarts_total"


def of_process(name: str, process: str) -> Series:
    return Series(name, (("process", process),))


class CountedErrors(logging.Handler):
    """Counts what a process logs as an error."""

    def __init__(self, process: str) -> None:
        super().__init__(logging.ERROR)
        self.series = of_process(ERRORS, process)

    def emit(self, record: logging.LogRecord) -> None:
        counters.increase({self.series: 1.0})


def begin(*, is_start: bool = True) -> None:
    """Count the start of this process where a supervisor says that it replaces another; without one
    nobody knows. Called by each process, so that what never happened is a 0 and not unknown.
    """
    amounts = {of_process(ERRORS, settings.PROCESS_NAME): 0.0}
    if settings.SUPERVISED_PROCESS and is_start:
        is_replacement = float(settings.SUPERVISED_REPLACES)
        amounts[of_process(RESTARTS, settings.SUPERVISED_PROCESS)] = is_replacement
    counters.increase(amounts)
