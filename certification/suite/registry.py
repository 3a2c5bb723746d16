"""Which cases there are and which of them a model gets."""

from __future__ import annotations

from certification.suite.case import Case
from certification.suite.cases.gates import GATES

BY_ID: dict[str, Case] = {case.id: case for case in GATES}
