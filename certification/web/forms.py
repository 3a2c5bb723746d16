"""Forms for people."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm

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
