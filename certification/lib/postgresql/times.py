"""Read times from PostgreSQL with datetime's own parser."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from django.db.backends.postgresql.psycopg_any import BaseTzLoader
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap


class UtcLoader(BaseTzLoader):
    """Django's loader of a `timestamptz` in UTC. Its own way, in Python, takes ten times as long,
    which was a third of a page with thousands of rows.
    """

    timezone = UTC

    def load(self, data: Buffer) -> datetime:
        """Return the time. DataError for one that Python has not."""
        text = str(data, "ascii")
        if text.endswith("+00"):  # as the server writes it to connections in UTC
            try:
                return datetime.fromisoformat(text)
            except ValueError:
                pass  # beyond the year 9999: it says so
        result: datetime = super().load(data)
        return result


@lru_cache
def adapters(template: AdaptersMap) -> AdaptersMap:
    """Return Django's adapters with this loader of times."""
    result = AdaptersMap(template)
    result.register_loader("timestamptz", UtcLoader)
    return result
