"""The OpenAPI schema: each response in its envelope, and the errors of each address."""

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
    401: "Not logged in, or the login is no longer valid.",
    403: "The role does not allow this.",
    404: "Not found.",
    405: "The address does not support this method.",
    408: "The request did not arrive in time.",
    409: "Not possible in the current state.",
    413: "The request is too large.",
    414: "The address is too long.",
    415: "The body is not JSON.",
    429: "Too many requests; `Retry-After` says when to try again.",
    431: "The headers are too large.",
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
        "`validation`: a list of path, message and code; or facts of this error.",
    ]


class ErrorBody(TypedDict):
    """A 5xx."""

    status: Literal["error"]
    message: str
    code: int
    requestId: str


class EnvelopeSchema(AutoSchema):
    """Wraps each success in JSend and adds each error that the address may return."""

    def _get_response_for_code(
        self,
        serializer: Any,
        status_code: str,
        media_types: Any = None,
        direction: Any = "response",
    ) -> Any:
        if isinstance(serializer, OpenApiResponse):
            serializer.response = self.resolve(serializer.response)
        else:
            serializer = self.resolve(serializer)
        response = super()._get_response_for_code(serializer, status_code, media_types, direction)
        content = response.get("content", {}).get("application/json")
        if status_code < "400" and content:
            success = {"type": "string", "enum": ["success"]}
            content["schema"] = {
                "type": "object",
                "properties": {"status": success, "data": content["schema"]},
                "required": ["status", "data"],
            }
            for example in content.get("examples", {}).values():
                example["value"] = {"status": "success", "data": example["value"]}
        return response

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        view = cast("View", self.view)
        # 408, 414, 431: of the web server itself
        statuses = {400, 408, 413, 414, 429, 431, 503, *view.error_statuses.get(self.method, ())}
        if view.role_for(self.method) != ANYBODY:
            statuses |= {401, 403}
        if self.method not in SAFE and self.method != "DELETE":
            statuses.add(415)
        responses = super()._get_response_bodies(direction)
        for status in statuses:
            body = OpenApiResponse(
                ErrorBody if status >= 500 else FailBody, description=MEANINGS[status]
            )
            responses.setdefault(
                str(status), self._get_response_for_code(body, str(status), ["application/json"])
            )
        return dict(sorted(responses.items()))

    def get_summary(self) -> str:
        """Return the first sentence of the call's description."""
        return str(self.get_description()).split("\n", 1)[0].rstrip(".")

    def resolve(self, response: Any) -> Any:
        """Return our types as JSON schema; anything else as it is."""
        ours = is_typeddict(response) or get_origin(response) in (list, dict)
        return self.schema_of(response) if ours else response

    def schema_of(self, kind: Any) -> dict[str, Any]:
        """Return the JSON schema of a type as annotations name it."""
        origin, inner = get_origin(kind), get_args(kind)
        if is_typeddict(kind):
            return self.reference(kind)
        if origin is Annotated:
            schema = self.schema_of(inner[0])
            for note in inner[1:]:
                if isinstance(note, OneOf):
                    schema = {"type": "string", "enum": [str(value) for value in note.values]}
                else:
                    schema = {**schema, "description": note}
            return schema
        if origin is list:
            return {"type": "array", "items": self.schema_of(inner[0])}
        if origin is dict or kind is dict:
            values = self.schema_of(inner[1]) if inner else {}
            return {"type": "object", "additionalProperties": values}
        if origin is Literal:
            return {"type": "string", "enum": list(inner)}
        if origin in (Union, UnionType):
            return nullable([self.schema_of(one) for one in inner if one is not NoneType])
        return dict(BASIC[kind])

    def reference(self, kind: Any) -> dict[str, Any]:
        """Return a reference to the component of a TypedDict, which is registered at its first
        use.
        """
        name = COMPONENT_NAMES.get(kind.__name__, kind.__name__.removesuffix("JSON"))
        component = ResolvedComponent(name=name, type=ResolvedComponent.SCHEMA, object=kind)
        if component not in self.registry:
            self.registry.register(component)  # before its fields, which may lead back to it
            hints = get_type_hints(kind, include_extras=True)
            component.schema = {
                "type": "object",
                "properties": {name: self.schema_of(hint) for name, hint in hints.items()},
                "required": sorted(kind.__required_keys__),
            }
            if kind.__doc__ and kind.__doc__ != dict.__doc__:
                component.schema["description"] = getdoc(kind)
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


def nullable(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of any of these, or null, as OpenAPI 3.1 writes it."""
    first = schemas[0]
    if len(schemas) == 1 and "enum" in first:
        return {**first, "type": ["string", "null"], "enum": [*first["enum"], None]}
    if len(schemas) == 1 and isinstance(first.get("type"), str):
        return {**first, "type": [first["type"], "null"]}
    return {"anyOf": [*schemas, {"type": "null"}]}


class BearerScheme(OpenApiAuthenticationExtension):
    """The schema's description of tokens and keys."""

    target_class = "certification.api.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A login's token, or an API key (myia_...).",
        }
