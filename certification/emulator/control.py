"""The control plane: what a region lists.

Read from the catalogue; the scenario may withdraw access or mark a model as legacy.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from certification.bedrock.catalogue import (
    INFERENCE_PROFILE,
    ON_DEMAND,
    PROVISIONED,
    Catalogue,
    CatalogueModel,
)
from certification.emulator import refusals, wire
from certification.emulator.model_directory import ARN
from certification.emulator.refusals import ACCOUNT
from certification.emulator.scenario import Faults

Query = Mapping[str, str]
PAGE = 50
LAUNCHED = "2025-01-01T00:00:00Z"
_GEOGRAPHIES = {
    "us": "US", "eu": "EU", "apac": "APAC", "jp": "JP", "au": "AU", "ca": "CA", "in": "IN",
    "global": "GLOBAL",
}  # fmt: skip


class Listings:
    """The responses of the control plane, as JSON bytes."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._in_region = lru_cache(maxsize=64)(self.models_of)

    def models_of(self, region: str) -> tuple[CatalogueModel, ...]:
        models = (
            m
            for m in self._catalogue.models.values()
            if m.targets.get(region) and m.lifecycle != "EOL"
        )
        return tuple(sorted(models, key=lambda m: m.api_model_id))

    def foundation_models(self, region: str, query: Query, legacy: frozenset[str]) -> bytes:
        """ListFoundationModels with its four filters.

        `legacy` are the ids that the scenario makes LEGACY here.
        """
        items = [_summary(model, region, legacy) for model in self._in_region(region)]
        filters = {
            "byOutputModality": "outputModalities",
            "byInferenceType": "inferenceTypesSupported",
            "byCustomizationType": "customizationsSupported",
        }
        for name, member in filters.items():
            if query.get(name):
                items = [item for item in items if query[name] in item[member]]
        if query.get("byProvider"):
            items = [
                item
                for item in items
                if item["providerName"].lower() == query["byProvider"].lower()
            ]
        return wire.dumps({"modelSummaries": items})

    def foundation_model(self, region: str, called: str, legacy: frozenset[str]) -> bytes:
        """GetFoundationModel, by id or ARN. Refuses ids that are not known in the region."""
        match = ARN.fullmatch(called)
        model = self._catalogue.models.get(match[4] if match else called)
        if model is None or not model.targets.get(region):
            raise refusals.unknown_model()
        return wire.dumps({"modelDetails": _summary(model, region, legacy)})

    def inference_profiles(self, region: str, query: Query) -> bytes:
        """ListInferenceProfiles, page by page. Refuses tokens and sizes as the service does."""
        size = page_size(query.get("maxResults", ""))
        start = page_start(query.get("nextToken", ""))
        kind = query.get("type") or query.get("typeEquals") or "SYSTEM_DEFINED"
        if kind not in ("SYSTEM_DEFINED", "APPLICATION"):
            rule = "Member must satisfy enum value set: [SYSTEM_DEFINED, APPLICATION]"
            raise refusals.constraint(kind, "typeEquals", rule)
        profiles = self.profiles_of(region) if kind == "SYSTEM_DEFINED" else ()
        page = profiles[start : start + size]
        body: dict[str, Any] = {"inferenceProfileSummaries": page}
        if start + size < len(profiles):
            token = f"after:{start + size}".encode()
            body["nextToken"] = base64.urlsafe_b64encode(token).decode()
        return wire.dumps(body)

    def profiles_of(self, region: str) -> list[dict[str, Any]]:
        """Return every system-defined profile of a region, by id."""
        profiles = [
            profile_json(model, route, region)
            for model in self._in_region(region)
            for route in model.targets[region]
            if "." in route
        ]
        return sorted(profiles, key=lambda profile: profile["inferenceProfileId"])

    def inference_profile(self, region: str, called: str) -> bytes:
        """GetInferenceProfile, by id or ARN. Refuses unknown ids."""
        match = ARN.fullmatch(called)
        profile_id = match[4] if match else called
        for profile in self.profiles_of(region):
            if profile["inferenceProfileId"] == profile_id:
                return wire.dumps(profile)
        raise refusals.Refusal(
            "ResourceNotFoundException", "The provided inference profile identifier is not found."
        )

    def availability(self, region: str, called: str, faults: Faults) -> bytes:
        """GetFoundationModelAvailability: four verdicts, and modelId without the `:0`."""
        model = self._catalogue.models.get(called)
        if model is None:
            raise refusals.unknown_model()
        here = bool(model.targets.get(region)) and model.lifecycle != "EOL"
        unpaid = faults.access in (
            "marketplace",
            "payment",
            "use_case_form",
            "not_granted",
            "agreement",
        )
        denied = faults.access in ("iam", "iam_deny", "scp", "api_key")
        return wire.dumps(
            {
                "modelId": called.removesuffix(":0"),
                "agreementAvailability": {
                    "status": "NOT_AVAILABLE" if unpaid or not here else "AVAILABLE"
                },
                "authorizationStatus": "NOT_AUTHORIZED" if denied else "AUTHORIZED",
                "entitlementAvailability": "NOT_AVAILABLE" if unpaid or not here else "AVAILABLE",
                "regionAvailability": "AVAILABLE" if here else "NOT_AVAILABLE",
            }
        )


def _summary(model: CatalogueModel, region: str, legacy: frozenset[str]) -> dict[str, Any]:
    routes = model.targets[region]
    types = [t for t in (ON_DEMAND, PROVISIONED) if t in routes]
    if any("." in route for route in routes):
        types.append(INFERENCE_PROFILE)
    is_legacy = model.lifecycle == "LEGACY" or model.api_model_id in legacy
    return {
        "modelArn": f"arn:aws:bedrock:{region}::foundation-model/{model.api_model_id}",
        "modelId": model.api_model_id,
        "modelName": model.name,
        "providerName": model.vendor,
        "inputModalities": list(model.input_modalities),
        "outputModalities": list(model.output_modalities),
        "responseStreamingSupported": model.streaming,
        "customizationsSupported": [],
        "inferenceTypesSupported": types,
        "modelLifecycle": {
            "status": "LEGACY" if is_legacy else "ACTIVE",
            "startOfLifeTime": LAUNCHED,
        },
    }


def profile_json(model: CatalogueModel, profile_id: str, region: str) -> dict[str, Any]:
    prefix = profile_id.split(".", 1)[0]
    geography = _GEOGRAPHIES.get(prefix, prefix.upper())
    to = (
        [region, ""]
        if prefix == "global"
        else list(model.destinations_of(profile_id, region) or (region,))
    )
    places = "all supported commercial AWS regions" if prefix == "global" else ", ".join(to)
    return {
        "inferenceProfileId": profile_id,
        "inferenceProfileName": f"{geography} {model.vendor} {model.name}",
        "inferenceProfileArn": f"arn:aws:bedrock:{region}:{ACCOUNT}:inference-profile/{profile_id}",
        "description": f"Routes requests to {model.vendor} {model.name} in {places}.",
        "createdAt": LAUNCHED,
        "updatedAt": LAUNCHED,
        "models": [
            {"modelArn": f"arn:aws:bedrock:{r}::foundation-model/{model.api_model_id}"} for r in to
        ],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
    }


def page_size(text: str) -> int:
    if not text:
        return PAGE
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        too_large = text.isdigit() and int(text) > 1000
        bound = "less than or equal to 1000" if too_large else "greater than or equal to 1"
        raise refusals.constraint(text, "maxResults", f"Member must have value {bound}")
    return int(text)


def page_start(token: str) -> int:
    if not token:
        return 0
    try:
        text = base64.urlsafe_b64decode(unquote(token)).decode("ascii")
        if not text.startswith("after:"):
            raise ValueError(text)
        return max(0, int(text.removeprefix("after:")))
    except ValueError:
        raise refusals.invalid("The provided pagination token is invalid.") from None


CALLER_IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
    f"<GetCallerIdentityResult><Arn>{refusals.CALLER}</Arn>"
    f"<UserId>AROAEMULATOR0000000000:session</UserId><Account>{ACCOUNT}</Account>"
    "</GetCallerIdentityResult>"
    "<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
    "</GetCallerIdentityResponse>"
)

# STS has its own names for what other services refuse.
_STS_CODES = {
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ExpiredTokenException": "ExpiredToken",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "IncompleteSignatureException": "IncompleteSignature",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
}


def sts_error(refusal: refusals.Refusal, request_id: str) -> bytes:
    """Return a refusal as STS writes it: XML."""
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
        f"<Type>Sender</Type><Code>{_STS_CODES.get(refusal.code, refusal.code)}</Code>"
        f"<Message>{escape(refusal.message)}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()


# bedrock-mantle


def mantle_model(model: CatalogueModel, faults: Faults) -> dict[str, Any]:
    """Return an item of GET /v1/models: a model above the account's retention mode is listed too.

    Being listed says nothing about the API or the path that serves it.
    """
    retained = re.search(r"claude-(fable|mythos)", model.api_model_id) is not None
    allowed = ["aws_review", "provider_data_share"] if retained else ["none", "default"]
    item: dict[str, Any] = {
        "id": model.mantle.model_id if model.mantle else model.api_model_id,
        "object": "model",
        "created": MANTLE_CREATED,
        "owned_by": "system",
        "status": "available",
        "data_retention": {
            "mode": "default",
            "source": "model_default",
            "allowed_modes": [*allowed, *([] if retained else ["provider_data_share"])],
        },
    }
    if faults.access == "data_retention":
        item["status"] = "unavailable"
        item["status_reason"] = refusals.access("data_retention", "", "").message
    return item


MANTLE_CREATED = 1764460800
