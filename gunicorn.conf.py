"""Hooks for gunicorn, which reads this file by itself when it starts in this folder."""

from typing import Any


def post_worker_init(worker: Any) -> None:
    """Let event streams end as soon as their process stops, instead of holding it until the
    graceful timeout, and answer 503 instead of waiting for a silent database.
    """
    # Django is set up by now
    from certification.api import events  # noqa: PLC0415
    from certification.lib import process_counts  # noqa: PLC0415
    from certification.lib.postgresql import patience  # noqa: PLC0415

    process_counts.begin(is_start=worker.age == 1)  # later ones replace what was recycled
    patience.limit()
    events.set_shutdown_check(lambda: not worker.alive)
