"""Login tokens: JWTs whose claims the console reads, checked against the user's row at every
request.
"""

from __future__ import annotations

import hmac
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jwt
from django.conf import settings
from django.utils.crypto import salted_hmac

from certification.models import RevokedToken, User

ALGORITHM = "HS256"
REQUIRED = ["userId", "session", "jti", "iat", "exp"]


class TokenError(Exception):
    """A token that is not ours, is damaged or has expired."""


@dataclass(frozen=True)
class Token:
    """A token that was valid a moment ago, and who holds it."""

    id: uuid.UUID
    user: User
    expires_at: datetime


@cache
def _key() -> str:
    return salted_hmac("certification.api.tokens", "1", algorithm="sha256").hexdigest()


def issue(user: User) -> str:
    """A new token: `userId`, `email`, `role` and `exp` are read by the console, the rest by us."""
    now = datetime.now(UTC)
    claims = {
        "userId": str(user.pk),
        "email": user.email,
        "role": user.role,
        "jti": str(uuid.uuid4()),
        "session": _session(user),
        "iat": now,
        "exp": now + timedelta(hours=settings.API_TOKEN_HOURS),
    }
    return jwt.encode(claims, _key(), ALGORITHM)


def read(text: str) -> Token:
    """Who holds the token now. TokenError when it is not valid any more, or its user is gone,
    disabled or has a new password.
    """
    try:
        claims = jwt.decode(text, _key(), [ALGORITHM], options={"require": REQUIRED})
        token_id, user_id = uuid.UUID(claims["jti"]), int(claims["userId"])
    except (jwt.InvalidTokenError, ValueError, TypeError) as error:
        raise TokenError from error
    user = RevokedToken.holder(token_id, user_id)
    if user is None or not hmac.compare_digest(_text(claims["session"]), _session(user)):
        raise TokenError
    return Token(token_id, user, datetime.fromtimestamp(claims["exp"], UTC))


def _session(user: User) -> str:
    """Changes with the password, so that a new one ends every login."""
    return user.get_session_auth_hash()[:32]


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value.isascii() else ""
