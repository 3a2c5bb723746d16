"""What KEDA takes, as far as our manifests use it: kubernetes-validate knows no objects of others.

From the fields that its definitions (v1alpha1, 2.18) name and the parameters that its scaler of
Redis reads. Nothing else is allowed: a cluster drops an unknown field without a word.
"""

from __future__ import annotations

from typing import Any

import jsonschema

TEXT, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
NUMBER_AS_TEXT = {"type": "string", "pattern": "^[0-9]+$"}


def record(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "additionalProperties": False,
    }


def many(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": items}


REDIS_TRIGGER = record(
    "type metadata",
    type={"const": "redis"},
    name=TEXT,
    metadata=record(
        "listName listLength",
        listName=TEXT,
        listLength=NUMBER_AS_TEXT,
        activationListLength=NUMBER_AS_TEXT,
        databaseIndex=NUMBER_AS_TEXT,
        enableTLS={"enum": ["true", "false"]},
    ),
    authenticationRef=record("name", name=TEXT, kind={"enum": ["TriggerAuthentication"]}),
)
SPECS = {
    "ScaledObject": record(
        "scaleTargetRef triggers",
        scaleTargetRef=record("name", name=TEXT, kind=TEXT, apiVersion=TEXT),
        pollingInterval={"type": "integer", "minimum": 1},
        cooldownPeriod=COUNT,
        initialCooldownPeriod=COUNT,
        minReplicaCount=COUNT,
        maxReplicaCount={"type": "integer", "minimum": 1},
        fallback=record("failureThreshold replicas", failureThreshold=COUNT, replicas=COUNT),
        triggers=many(REDIS_TRIGGER),
    ),
    "TriggerAuthentication": record(
        "secretTargetRef",
        secretTargetRef=many(
            record(
                "parameter name key",
                parameter={"enum": ["address", "username", "password", "tls", "ca"]},
                name=TEXT,
                key=TEXT,
            )
        ),
    ),
}


def validate(document: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError for an object that KEDA would not take as it is written."""
    metadata = record("name", name=TEXT, namespace=TEXT, labels={"type": "object"})
    schema = record(
        "apiVersion kind metadata spec",
        apiVersion={"const": "keda.sh/v1alpha1"},
        kind={"enum": list(SPECS)},
        metadata=metadata,
        spec=SPECS[document["kind"]],
    )
    jsonschema.validate(document, schema)
