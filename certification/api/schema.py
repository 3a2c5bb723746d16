"""The OpenAPI schema: every answer in its envelope, and the refusals that any address may give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

from certification.api.authentication import ANYBODY, SAFE

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


class Problem(serializers.Serializer[Any]):
    """One thing that is wrong with a request."""

    path = serializers.CharField(help_text="Where: body.regions, query.page")
    message = serializers.CharField()
    code = serializers.CharField()


class Fail(serializers.Serializer[Any]):
    """A 4xx."""

    status = serializers.ChoiceField(["fail"])
    message = serializers.CharField(help_text="A sentence for people: what is wrong and what to do.")
    code = serializers.IntegerField(help_text="The HTTP status.")
    errorCode = serializers.CharField(help_text="Stable, for programs.")
    data = serializers.DictField(allow_null=True, help_text="`validation`, or facts of this refusal, or null.")  # type: ignore[assignment]


class Trouble(serializers.Serializer[Any]):
    """A 5xx."""

    status = serializers.ChoiceField(["error"])
    message = serializers.CharField()
    code = serializers.IntegerField()
    requestId = serializers.CharField()


class EnvelopeSchema(AutoSchema):
    """Wraps each success in JSend and adds each refusal that the address may give."""

    def _get_response_for_code(
        self, serializer: Any, status_code: str, media_types: Any = None, direction: Any = "response"
    ) -> Any:
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
            form = Trouble if status >= 500 else Fail
            said = OpenApiResponse(form, description=MEANINGS[status])
            found.setdefault(str(status), self._get_response_for_code(said, str(status), ["application/json"]))
        return dict(sorted(found.items()))

    def _refusals(self) -> set[int]:
        """The statuses that this address may answer besides its own."""
        view = cast("View", self.view)
        refusals = {400, 429, 503, *view.refusals.get(self.method, ())}
        if view.role_for(self.method) != ANYBODY:
            refusals |= {401, 403}
        if self.method not in SAFE and self.method != "DELETE":
            refusals |= {413, 415}
        return refusals


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
        return {"type": "http", "scheme": "bearer", "description": "A login's token, or an API key (myia_...)."}
