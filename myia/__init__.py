import gc

# Loading two thousand modules creates much and releases nothing: with Python's threshold of 700
# objects the collector takes a seventh of every start.
gc.set_threshold(10_000)

from myia.celery import app as celery_app  # noqa: E402

__all__ = ["celery_app"]
