"""Statements written by hand, where a run's every millisecond counts: rows as model instances
without building a query.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db import connection, models

M = TypeVar("M", bound=models.Model)


def execute(sql: str, parameters: Sequence[Any]) -> tuple[Any, ...] | None:
    """The first row that a statement returns, or None."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


@dataclass(frozen=True)
class Columns(Generic[M]):
    """The columns of a model under an alias of the statement, all but those of the fields named in
    `without`.
    """

    model: type[M]
    alias: str
    without: frozenset[str] = frozenset()

    @cached_property
    def fields(self) -> list[models.Field[Any, Any]]:
        return [
            field for field in self.model._meta.concrete_fields if field.name not in self.without
        ]

    @cached_property
    def _names(self) -> list[str]:
        return [field.attname for field in self.fields]

    @cached_property
    def _json(self) -> list[int]:
        return [i for i, field in enumerate(self.fields) if isinstance(field, models.JSONField)]

    @property
    def sql(self) -> str:
        """The columns for a SELECT or RETURNING."""
        return ", ".join(f'{self.alias}."{field.column}"' for field in self.fields)

    def instance(self, values: Sequence[Any]) -> M:
        """A row of these columns. The fields left out are read when somebody asks for them."""
        given = list(values)
        for i in self._json:
            given[i] = None if given[i] is None else json.loads(given[i])
        return self.model.from_db(connection.alias, self._names, given)
