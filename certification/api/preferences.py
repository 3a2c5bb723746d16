"""What each user prefers, in the form in which the chat product reads and stores it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypedDict

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api import filters, views
from certification.api.representations import OneOf
from certification.api.views import View
from certification.lib.redaction import SECRET_KEYS
from certification.models import Backend, Preference, Role, Theme, User
from certification.monitoring.bedrock_status import bedrock_status

MAX_MODELS = 1000
EMULATED_KEY = "EMUL"


class Settings(serializers.Serializer[Any]):
    """Fields that are left out stay as they are."""

    theme = serializers.ChoiceField(Theme.values, required=False)
    awsRegion = serializers.CharField(max_length=32, required=False)
    awsEnabledModels = serializers.ListField(
        child=serializers.CharField(max_length=200),
        max_length=MAX_MODELS,
        required=False,
        help_text="API model ids. Without any, every active model is offered.",
    )
    awsAccessKey = serializers.CharField(
        max_length=200,
        required=False,
        allow_blank=True,
        allow_null=True,
        help_text="Empty, or what GET returned: keys are refused.",
    )
    awsSecretKey = serializers.CharField(
        max_length=200, required=False, allow_blank=True, allow_null=True, help_text="Empty."
    )


class SettingsJSON(TypedDict):
    id: str
    theme: Annotated[str, OneOf(Theme.LIGHT, Theme.DARK)]
    awsAccessKey: Annotated[
        str, "At most four characters of the server's own key; '' without credentials."
    ]
    awsRegion: str
    awsEnabledModels: list[str]


class SettingsView(View):
    roles: ClassVar[dict[str, str]] = {"PUT": Role.VIEWER}

    @extend_schema(operation_id="getSettings", responses={200: SettingsJSON}, tags=["settings"])
    def get(self, request: Request) -> Response:
        """Return one's own settings."""
        return Response(settings_of(views.current_user(request)))

    @extend_schema(
        operation_id="storeSettings",
        request=Settings,
        responses={200: SettingsJSON},
        tags=["settings"],
    )
    def put(self, request: Request) -> Response:
        """Store one's own theme, region and models.

        AWS credentials are the server's business: a key is refused and not stored.
        """
        user = views.current_user(request)
        refuse_secrets(views.json_body(request))
        fields = views.body(request, Settings)
        values: dict[str, Any] = {}
        if "theme" in fields:
            values["theme"] = fields["theme"]
        if "awsRegion" in fields:
            values["region"] = filters.find_region(fields["awsRegion"], "body.awsRegion")
        if "awsEnabledModels" in fields:
            values["enabled_models"] = list(dict.fromkeys(fields["awsEnabledModels"]))
        if values:
            Preference.objects.update_or_create(user=user, defaults=values)
        return Response(settings_of(user))


def refuse_secrets(body: Mapping[str, Any]) -> None:
    """Raise 400 for a body that brings a key, a token or a password, whatever its field is called.

    The chat product sends back what GET returned, and an empty secret.
    """
    shown = key_preview()
    for name, value in body.items():
        if value and SECRET_KEYS.search(name) and not (name == "awsAccessKey" and value == shown):
            message = _(
                "Secrets are not stored here: the server calls AWS with its own credentials. "
                "Leave the key empty; whoever runs the server sets its credentials."
            )
            raise views.invalid(f"body.{name[:60]}", message, "secret_refused")


def settings_of(user: User) -> SettingsJSON:
    """Represent the settings of a user, with what the server does where they chose nothing."""
    preference = Preference.objects.filter(user=user).first() or Preference(user=user)
    return {
        "id": str(user.pk),
        "theme": Theme.DARK if preference.theme == Theme.DARK else Theme.LIGHT,
        "awsAccessKey": key_preview(),
        "awsRegion": preference.region_id or bedrock_status.get().region,
        "awsEnabledModels": preference.enabled_models,
    }


def key_preview() -> str:
    """Return the beginning of the server's own key; the emulator takes any and has a word."""
    status = bedrock_status.get()
    if status.backend == Backend.EMULATOR:
        return EMULATED_KEY
    return status.key_preview[:4] if status.configured else ""
