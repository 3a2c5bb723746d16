"""The OpenAPI schema: every answer in its envelope, and the refusals that any address may give."""

from __future__ import annotations

from datetime import datetime
from inspect import getdoc
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypedDict,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiResponse

from certification.api.authentication import ANYBODY, SAFE
from certification.api.representations import OneOf

if TYPE_CHECKING:
    from certification.api.views import View

MEANINGS = {
    400: "The request is not valid; `data.validation` says where.",
    401: "Nobody is logged in, or the login is not valid any more.",
    403: "The role may not do this.",
    404: "There is no such thing.",
    405: "The address does not know this method.",
    409: "It cannot be done as things stand.",
    413: "The request is too large.",
    415: "The body is not JSON.",
    429: "Too many requests; `Retry-After` says when to come back.",
    503: "The database does not answer.",
}


# Names that the schema has had from the start, for types that are called otherwise here.
COMPONENT_NAMES = {
    "FailBody": "Fail",
    "ErrorBody": "Trouble",
    "RegionCertification": "Standing",
}


class FailBody(TypedDict):
    """A 4xx."""

    status: Literal["fail"]
    message: Annotated[str, "A sentence for people: what is wrong and what to do."]
    code: Annotated[int, "The HTTP status."]
    errorCode: Annotated[str, "Stable, for programs."]
    data: Annotated[
        dict[str, Any] | None,
        "`validation`: a list of path, message and code; or facts of this refusal.",
    ]


class ErrorBody(TypedDict):
    """A 5xx."""

    status: Literal["error"]
    message: str
    code: int
    requestId: str


class EnvelopeSchema(AutoSchema):
    """Wraps each success in JSend and adds each refusal that the address may give."""

    def _get_response_for_code(
        self,
        serializer: Any,
        status_code: str,
        media_types: Any = None,
        direction: Any = "response",
    ) -> Any:
        if isinstance(serializer, OpenApiResponse):
            serializer.response = self._described(serializer.response)
        else:
            serializer = self._described(serializer)
        found = super()._get_response_for_code(serializer, status_code, media_types, direction)
        if status_code < "400":
            for content_type, content in found.get("content", {}).items():
                if content_type == "application/json":
                    content["schema"] = _success(content["schema"])
                    for example in content.get("examples", {}).values():
                        example["value"] = {"status": "success", "data": example["value"]}
        return found

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        found = super()._get_response_bodies(direction)
        for status in sorted(self._refusals()):
            form = ErrorBody if status >= 500 else FailBody
            said = OpenApiResponse(form, description=MEANINGS[status])
            found.setdefault(
                str(status), self._get_response_for_code(said, str(status), ["application/json"])
            )
        return dict(sorted(found.items()))

    def get_summary(self) -> str:
        """The first sentence of what the call says of itself."""
        return str(self.get_description()).split("\n", 1)[0].rstrip(".")

    def _refusals(self) -> set[int]:
        """The statuses that this address may answer besides its own."""
        view = cast("View", self.view)
        error_statuses = {400, 429, 503, *view.error_statuses.get(self.method, ())}
        if view.role_for(self.method) != ANYBODY:
            error_statuses |= {401, 403}
        if self.method not in SAFE and self.method != "DELETE":
            error_statuses |= {413, 415}
        return error_statuses

    def _described(self, answer: Any) -> Any:
        """Types of ours as JSON schema; anything else as it is."""
        ours = is_typeddict(answer) or get_origin(answer) is list
        return self._schema_of(answer) if ours else answer

    def _schema_of(self, kind: Any) -> dict[str, Any]:
        origin, inner = get_origin(kind), get_args(kind)
        if is_typeddict(kind):
            return self._named(kind)
        if origin is Annotated:
            schema = self._schema_of(inner[0])
            for note in inner[1:]:
                if isinstance(note, OneOf):
                    schema = {"type": "string", "enum": [str(value) for value in note.values]}
                else:
                    schema = {**schema, "description": note}
            return schema
        if origin is list:
            return {"type": "array", "items": self._schema_of(inner[0])}
        if origin is dict or kind is dict:
            return {
                "type": "object",
                "additionalProperties": self._schema_of(inner[1]) if inner else {},
            }
        if origin is Literal:
            return {"type": "string", "enum": list(inner)}
        if origin in (Union, UnionType):
            return _or_null([self._schema_of(one) for one in inner if one is not NoneType])
        return dict(BASIC[kind])

    def _named(self, kind: Any) -> dict[str, Any]:
        """A reference to the component of a TypedDict, which is registered at its first use."""
        name = COMPONENT_NAMES.get(kind.__name__, kind.__name__.removesuffix("JSON"))
        component = ResolvedComponent(name=name, type=ResolvedComponent.SCHEMA, object=kind)
        if component not in self.registry:
            self.registry.register(component)  # before its fields, which may lead back to it
            hints = get_type_hints(kind, include_extras=True)
            component.schema = {
                "type": "object",
                "properties": {name: self._schema_of(hint) for name, hint in hints.items()},
                "required": sorted(kind.__required_keys__),
                **(
                    {"description": getdoc(kind)}
                    if kind.__doc__ and kind.__doc__ != dict.__doc__
                    else {}
                ),
            }
        return component.ref


BASIC: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    UUID: {"type": "string", "format": "uuid"},
    datetime: {"type": "string", "format": "date-time"},
    Any: {},
}


def _or_null(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """Any of these, or null, as OpenAPI 3.1 says it."""
    only = schemas[0]
    if len(schemas) == 1 and "enum" in only:
        return {**only, "type": ["string", "null"], "enum": [*only["enum"], None]}
    if len(schemas) == 1 and isinstance(only.get("type"), str):
        return {**only, "type": [only["type"], "null"]}
    return {"anyOf": [*schemas, {"type": "null"}]}


def _success(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"status": {"type": "string", "enum": ["success"]}, "data": schema},
        "required": ["status", "data"],
    }


class BearerScheme(OpenApiAuthenticationExtension):
    """How the schema tells of tokens and keys."""

    target_class = "certification.api.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A login's token, or an API key (myia_...).",
        }
