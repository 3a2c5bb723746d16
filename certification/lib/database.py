"""The process's share of the database's connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def returning_connection() -> Iterator[None]:
    """Give the database connection back to the pool after the block.

    For threads that live long and touch the database rarely: a run, an open event stream.
    """
    try:
        yield
    finally:
        if not connection.in_atomic_block:
            connection.close()
