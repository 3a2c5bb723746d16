"""Whether Bedrock can be reached with what we have: one real call, remembered for a minute."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from certification.bedrock import client
from certification.bedrock.errors import BedrockError
from certification.engine import backend, evidence
from certification.lib.single_flight import cached
from certification.models import Backend
from certification.reasons import Reason

KEPT_S, FAILURE_KEPT_S = 60, 15  # who mends something wants to see it soon
CALL_S = 4.0
NAME = "aws-status"


@dataclass(frozen=True)
class Reach:
    """`configured`: there are credentials (the emulator takes any). `valid`: ListFoundationModels
    answered with `models`.

    `key_preview` is at most four characters of the key. `error` is what was said, without account
    ids.
    """

    backend: str
    region: str
    configured: bool
    valid: bool = False
    models: int = 0
    key_preview: str = ""
    reason: Reason | None = None
    error: str = ""


def reach() -> Reach:
    """Never raises: what keeps Bedrock from answering is part of the answer."""
    return cached(NAME, lambda seen: KEPT_S if seen.valid else FAILURE_KEPT_S, look)


def look() -> Reach:
    """As `reach`, but asked now."""
    region = client.Connection().home_region
    used, preview, configured = str(settings.BEDROCK_BACKEND), "", True
    try:
        used = backend.name()
        if used == Backend.AWS:
            identity = client.find_credentials()
            configured, preview = identity.configured, identity.key_preview[:4]
            if not configured:
                return Reach(used, region, False, reason=Reason.CREDENTIALS_MISSING)
        bedrock = backend.bedrock()
        region = bedrock.connection.home_region
        models = bedrock.foundation_models(region, remaining_s=CALL_S)
    except BedrockError as error:
        used = Backend.AWS if used == "auto" else used
        return Reach(
            used,
            region,
            configured,
            False,
            0,
            preview,
            error.reason,
            evidence.cut(error.message)[:500],
        )
    return Reach(used, region, configured, True, len(models), preview)
