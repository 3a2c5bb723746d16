"""The whole matrix as a drawing that fits a screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from certification.models import AIModel
from certification.reasons import Status
from certification.web.matrix import Matrix, Row

MAP_ROW, MAP_COLUMN, MAP_LEFT, MAP_TOP = 6, 36, 130, 90
# The height of a mark says the status too.
MAP_HEIGHTS = {
    Status.CERTIFIED: 5, Status.QUALITY_WARNING: 3, Status.PENDING: 2, Status.FAILED: 1,
    Status.PERMISSION_REQUIRED: 4, Status.CONFIGURATION_REQUIRED: 4, Status.NOT_TESTED: 0.4,
}  # fmt: skip


class Mark(NamedTuple):
    """A mark of the map, in its units from the upper left."""

    x: int
    y: float
    height: float
    css: str
    label: str


class MapRow(NamedTuple):
    y: int
    model: AIModel
    vendor: str  # "" but in its vendor's first row
    marks: list[Mark]
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

    def marks(self, row: Row, y: int) -> list[Mark]:
        marks = []
        for at, cell in enumerate(row.cells):
            if not cell.status or cell.dimmed:
                continue
            height = MAP_HEIGHTS[Status(cell.status)]
            css = f"s-{cell.status}" + (" expired" if cell.expired else "")
            x = MAP_LEFT + MAP_COLUMN * at + 2
            marks.append(Mark(x, y + (MAP_ROW - 1 - height), height, css, cell.label))
        return marks
