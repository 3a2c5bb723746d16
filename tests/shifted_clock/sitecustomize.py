"""Shift the clock of a Python process by CLOCK_SHIFT_S seconds: a machine whose clock is wrong."""

import os
import time
from datetime import timedelta

from django.utils import timezone

SHIFT_S = float(os.environ["CLOCK_SHIFT_S"])
_time, _now = time.time, timezone.now

time.time = lambda: _time() + SHIFT_S
timezone.now = lambda: _now() + timedelta(seconds=SHIFT_S)
