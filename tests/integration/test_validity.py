"""Expired, current, previous and shown status: one answer before and after expiry is noted, for
rows and for queries.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from certification.models import AIModel, ModelCertification, Provider, Region, validity
from certification.reasons import Status

NOW = timezone.now()
BEFORE, LATER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
CERTIFIED, FAILED, NOT_TESTED = Status.CERTIFIED, Status.FAILED, Status.NOT_TESTED

# status, previous, expires_at, expired_at: expired, current, previous and shown status
CASES = {
    "never tested": ((NOT_TESTED, "", None, None), (False, NOT_TESTED, "", NOT_TESTED)),
    "valid": ((CERTIFIED, FAILED, LATER, None), (False, CERTIFIED, FAILED, CERTIFIED)),
    "without a date": ((FAILED, "", None, None), (False, FAILED, "", FAILED)),
    "pending": ((Status.PENDING, "", None, None), (False, Status.PENDING, "", Status.PENDING)),
    "expired": ((CERTIFIED, FAILED, BEFORE, None), (True, NOT_TESTED, CERTIFIED, CERTIFIED)),
    "expired this moment": ((CERTIFIED, "", NOW, None), (True, NOT_TESTED, CERTIFIED, CERTIFIED)),
    "expired and noted": (
        (NOT_TESTED, CERTIFIED, BEFORE, BEFORE),
        (True, NOT_TESTED, CERTIFIED, CERTIFIED),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.django_db
def test_rows_and_queries_agree(name: str) -> None:
    (status, previous, expires_at, expired_at), expected = CASES[name]
    model = AIModel.objects.create(
        provider=Provider.objects.create(slug="p", name="P"), name="M", vendor="V", api_model_id="m"
    )
    row = ModelCertification.objects.create(
        model=model,
        region=Region.objects.create(code="r", name="R"),
        status=status,
        previous_status=previous,
        expires_at=expires_at,
        expired_at=expired_at,
    )
    assert (
        validity.is_expired(row, NOW),
        validity.current_status(row, NOW),
        validity.previous_status(row, NOW),
        validity.shown_status(row, NOW),
    ) == expected
    rows = ModelCertification.objects
    assert rows.filter(validity.expired(NOW)).exists() == expected[0]
    assert rows.valid(NOW).exists() == (expected[1] != NOT_TESTED)
    current = rows.annotate(current=validity.current_status_expression(NOW))
    assert current.get().current == expected[1]
    for other in Status:
        assert rows.with_current_status([other], NOW).exists() == (other == expected[1])
