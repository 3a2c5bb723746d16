"""Forms for people."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, cast

from django import forms
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm
from django.utils.translation import gettext_lazy as _

from certification.lib import clock
from certification.models import ApiKey, Preference, Role, User
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


MAX_KEYS = 20  # that work, of one user
KEY_DAYS = (("30", _("30 days")), ("90", _("90 days")), ("365", _("a year")), ("", _("no expiry")))


class KeyForm(forms.ModelForm):
    """A new API key of a user: at most with their own role."""

    days = forms.ChoiceField(label=_("Valid for"), choices=KEY_DAYS, initial="90", required=False)

    class Meta:
        model = ApiKey
        fields = ["name", "role"]

    def __init__(self, user: User, data: Any = None) -> None:
        super().__init__(data, prefix="key", instance=ApiKey(user=user))
        own = Role.values.index(user.role)
        cast("forms.ChoiceField", self.fields["role"]).choices = Role.choices[: own + 1]

    def clean(self) -> dict[str, Any]:
        working = [key for key in self.instance.user.api_keys.all() if key.is_working]
        if len(working) >= MAX_KEYS:
            message = _("You have %(n)d active keys. Revoke one before you issue another.")
            raise forms.ValidationError(message % {"n": len(working)}, code="too_many")
        return super().clean() or self.cleaned_data

    def issue(self) -> str:
        """Save the key and return it: the only time that anybody sees it."""
        if days := self.cleaned_data["days"]:
            self.instance.expires_at = clock.now() + timedelta(days=int(days))
        return self.instance.issue()


class PreferenceForm(forms.ModelForm):
    """What a user can change of their own account, the password apart."""

    name = forms.CharField(label=_("Name"), max_length=150, required=False)

    field_order = ("name",)

    class Meta:
        model = Preference
        fields = [
            "language", "zone", "theme", "density", "motion", "start_page", "letter_keys",
            "job_notices",
        ]  # fmt: skip
        help_texts: ClassVar[dict[str, Any]] = {
            "zone": _("Times are shown in this zone, with its name."),
            "letter_keys": _(
                "Such as g m for the matrix; ? shows them all. Keys never act while you type."
            ),
            "job_notices": _("While its page is open in a tab; the browser asks you once."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        language = cast("forms.ChoiceField", self.fields["language"])
        language.choices = [("", _("as the browser is set")), *settings.LANGUAGES]
        self.fields["zone"].widget.attrs["list"] = "zones"

    @classmethod
    def of(cls, user: User, data: Any = None) -> PreferenceForm:
        """Return the form of a user's preferences, those that they never saved included."""
        preference = Preference.objects.filter(user=user).first() or Preference(user=user)
        return cls(data, instance=preference, initial={"name": user.name})

    def save(self, commit: bool = True) -> Preference:
        """Save the preferences and the user's name."""
        user = self.instance.user
        user.name = self.cleaned_data["name"]
        user.save(update_fields=["name"])
        return super().save(commit)

    @property
    def zones(self) -> list[str]:
        return sorted(zones())
