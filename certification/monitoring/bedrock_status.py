"""Check whether Bedrock answers as configured: one real call, cached for a minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from django.conf import settings

from certification.bedrock import connection
from certification.bedrock.errors import BedrockError
from certification.engine import backend, evidence
from certification.lib.shared_cache import ComputedValue
from certification.models import Backend
from certification.reasons import Reason

TTL_S, FAILURE_TTL_S = 60, 15  # whoever fixes something wants to see it soon
CALL_TIMEOUT_S = 4.0


@dataclass(frozen=True)
class BedrockStatus:
    """`configured`: there are credentials (the emulator takes any). `valid`: ListFoundationModels
    returned `models` models.

    `key_preview` is at most four characters of the key. `error` is AWS's message without account
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


def check_bedrock() -> BedrockStatus:
    """Call Bedrock now. Never raises: what keeps Bedrock from answering is part of the status."""
    region = connection.Connection().home_region
    used, preview, configured = str(settings.BEDROCK_BACKEND), "", True
    try:
        used = backend.name()
        if used == Backend.AWS:
            identity = connection.find_credentials()
            configured, preview = identity.configured, identity.key_preview[:4]
            if not configured:
                return BedrockStatus(used, region, False, reason=Reason.CREDENTIALS_MISSING)
        bedrock = backend.bedrock()
        region = bedrock.connection.home_region
        models = bedrock.foundation_models(region, remaining_s=CALL_TIMEOUT_S)
    except BedrockError as error:
        return BedrockStatus(
            backend=Backend.AWS if used == "auto" else used,
            region=region,
            configured=configured,
            key_preview=preview,
            reason=error.reason,
            error=evidence.cut(error.message)[:500],
        )
    return BedrockStatus(used, region, configured, True, len(models), preview)


@dataclass(frozen=True)
class ListedModel:
    """A model of AWS's own list."""

    model_id: str
    name: str
    vendor: str
    input_modalities: Sequence[str]
    output_modalities: Sequence[str]
    streaming: bool


@cache
def listed_models(region: str) -> ComputedValue[list[ListedModel]]:
    """Return the shared list of the models of a region, whose `get` raises BedrockError."""

    def call() -> list[ListedModel]:
        listing = backend.bedrock().foundation_models(region, remaining_s=CALL_TIMEOUT_S)
        return [
            ListedModel(
                model.model_id,
                model.name,
                model.vendor,
                model.input_modalities,
                model.output_modalities,
                model.streaming,
            )
            for model in listing
        ]

    return ComputedValue(f"listed-models:{region}", list[ListedModel], lambda _: TTL_S, call)


bedrock_status = ComputedValue(
    "aws-status",
    BedrockStatus,
    lambda status: TTL_S if status.valid else FAILURE_TTL_S,
    check_bedrock,
)
