"""Login tokens: JWTs whose claims the console reads, checked against the user's row at every
request.
"""

from __future__ import annotations

import hmac
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import jwt
from django.conf import settings
from django.utils.crypto import salted_hmac

from certification.models import RevokedToken, User

ALGORITHM = "HS256"
REQUIRED = ["userId", "session", "jti", "iat", "exp"]


class TokenError(Exception):
    """The token is not ours, is damaged or has expired."""


@dataclass(frozen=True)
class Token:
    """A valid token, and its user."""

    id: uuid.UUID
    user: User
    expires_at: datetime


@cache
def signing_key() -> str:
    return salted_hmac("certification.api.tokens", "1", algorithm="sha256").hexdigest()


def issue(user: User) -> str:
    """Issue a token: the console reads `userId`, `email`, `role` and `exp`, we read the rest."""
    now = datetime.now(UTC)
    claims = {
        "userId": str(user.pk),
        "email": user.email,
        "role": user.role,
        "jti": str(uuid.uuid4()),
        "session": session_of(user),
        "iat": now,
        "exp": now + timedelta(hours=settings.API_TOKEN_HOURS),
    }
    return jwt.encode(claims, signing_key(), ALGORITHM)


def read(text: str) -> Token:
    """Check a token. Raises TokenError when it is no longer valid, or its user is deleted,
    disabled or has a new password.
    """
    try:
        claims = jwt.decode(text, signing_key(), [ALGORITHM], options={"require": REQUIRED})
        token_id, user_id = uuid.UUID(claims["jti"]), int(claims["userId"])
    except (jwt.InvalidTokenError, ValueError, TypeError) as error:
        raise TokenError from error
    user = RevokedToken.holder(token_id, user_id)
    session = claims["session"]
    if user is None or not isinstance(session, str) or not session.isascii():
        raise TokenError  # compare_digest takes ASCII only
    if not hmac.compare_digest(session, session_of(user)):
        raise TokenError
    return Token(token_id, user, datetime.fromtimestamp(claims["exp"], UTC))


def session_of(user: User) -> str:
    """Return what changes with the password, so that a new one ends every login."""
    return user.get_session_auth_hash()[:32]
