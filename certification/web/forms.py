"""Forms for people."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm
from django.utils.translation import gettext_lazy as _

from certification.models import Preference
from certification.models.preferences import zones

MAX_EMAIL_LENGTH = 254  # as an address of a user may be


class EmailLoginForm(AuthenticationForm):
    """The login form. Credentials are named by the user model's own field, `email`: the lock-out
    counts by that name.
    """

    def clean(self) -> dict[str, Any]:
        email, password = self.cleaned_data.get("username", ""), self.cleaned_data.get("password")
        email = email.strip().lower()[:MAX_EMAIL_LENGTH]  # a character may become two
        if email and password:
            self.user_cache = authenticate(self.request, email=email, password=password)
            if self.user_cache is None:
                raise self.get_invalid_login_error()
            self.confirm_login_allowed(self.user_cache)
        return self.cleaned_data


class PreferenceForm(forms.ModelForm):
    """What a user can change of their own account, the password apart."""

    name = forms.CharField(label=_("Name"), max_length=150, required=False)

    class Meta:
        model = Preference
        fields = ["language", "zone", "theme", "density", "start_page", "letter_keys"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        language = cast("forms.ChoiceField", self.fields["language"])
        language.choices = [("", _("as the browser says")), *settings.LANGUAGES]
        self.fields["zone"].widget.attrs["list"] = "zones"
        for field in self.fields.values():
            field.widget.attrs["data-submit"] = ""

    def save(self, commit: bool = True) -> Preference:
        """Save the preferences and the user's name."""
        user = self.instance.user
        user.name = self.cleaned_data["name"]
        user.save(update_fields=["name"])
        return super().save(commit)

    @property
    def zones(self) -> list[str]:
        return sorted(zones())
