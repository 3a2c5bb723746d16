"""The whole matrix as a drawing that fits a screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from certification.models import AIModel
from certification.reasons import Status
from certification.web.matrix import Matrix, Row

MAP_ROW, MAP_COLUMN, MAP_LEFT, MAP_TOP = 6, 36, 130, 90
# The height of a mark says the status too.
MAP_HEIGHTS: dict[str, float] = {
    Status.CERTIFIED: 5, Status.QUALITY_WARNING: 3, Status.PENDING: 2, Status.FAILED: 1,
    Status.PERMISSION_REQUIRED: 4, Status.CONFIGURATION_REQUIRED: 4, Status.NOT_TESTED: 0.4,
}  # fmt: skip


class MapRow(NamedTuple):
    y: int
    model: AIModel
    vendor: str  # "" but in its vendor's first row
    marks: SafeString
    query: str  # of the address that shows this model alone, in the table


@dataclass(frozen=True)
class MatrixMap:
    """The drawing: its size, and what stands where in it."""

    matrix: Matrix

    @property
    def width(self) -> int:
        return MAP_LEFT + MAP_COLUMN * len(self.matrix.regions)

    @property
    def height(self) -> int:
        return MAP_TOP + MAP_ROW * len(self.matrix.rows)

    @property
    def columns(self) -> list[tuple[int, str]]:
        return [
            (MAP_LEFT + MAP_COLUMN * at + MAP_COLUMN // 2, region.code)
            for at, region in enumerate(self.matrix.regions)
        ]

    @property
    def rows(self) -> Iterator[MapRow]:
        vendor = ""
        for at, row in enumerate(self.matrix.rows):
            y = MAP_TOP + MAP_ROW * at
            name = row.model.vendor if row.model.vendor != vendor else ""
            vendor = row.model.vendor
            yield MapRow(y, row.model, name, self.marks(row, y), self.query_of(row.model))

    def query_of(self, model: AIModel) -> str:
        query = self.matrix.query.copy()
        query.pop("size", None)
        query["q"] = model.api_model_id
        return query.urlencode()

    def marks(self, row: Row, y: int) -> SafeString:
        """Return a mark for each cell that has anything in it: one path for all of a class."""
        paths: dict[str, str] = {}
        for at, cell in enumerate(row.cells):
            if not cell.status or cell.dimmed:
                continue
            x, height = MAP_LEFT + MAP_COLUMN * at + 2, MAP_HEIGHTS[cell.status]
            mark = f"M{x} {y + MAP_ROW - 1 - height:g}h32v{height:g}h-32z"
            css = f"s-{cell.status} expired" if cell.expired else f"s-{cell.status}"
            paths[css] = paths.get(css, "") + mark
        return format_html_join("", '<path class="{}" d="{}"/>', paths.items())
