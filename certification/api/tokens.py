"""Login tokens: JWTs whose claims the console reads, checked against the user's row at every
request.
"""

from __future__ import annotations

import hmac
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache

import jwt
from django.conf import settings
from django.utils.crypto import salted_hmac
from jwt.types import Options

from certification.lib import clock
from certification.models import RevokedToken, User

ALGORITHM = "HS256"
REQUIRED = ["userId", "session", "jti", "family", "auth_time", "iat", "exp"]


class TokenError(Exception):
    """The token is not ours, is damaged or has expired."""


@dataclass(frozen=True)
class Token:
    """A valid token, and its user. All tokens that were made from one login are a family, which
    ends `API_LOGIN_DAYS` after the login at `auth_time`, however often it is refreshed.
    """

    id: uuid.UUID
    user: User
    expires_at: datetime
    family: uuid.UUID
    auth_time: datetime

    def revoke(self) -> bool:
        """Refuse this token from now on. False when it was refused before."""
        return RevokedToken.revoke(self.id, self.user, self.expires_at)

    def end_family(self) -> None:
        """Refuse every token of this login from now on, also those that are not yet issued."""
        RevokedToken.revoke(self.family, self.user, end_of_login(self.auth_time))


@cache
def signing_key() -> str:
    return salted_hmac("certification.api.tokens", "1", algorithm="sha256").hexdigest()


def end_of_login(auth_time: datetime) -> datetime:
    return auth_time + timedelta(days=settings.API_LOGIN_DAYS)


def issue(user: User, refreshed: Token | None = None) -> str:
    """Issue a token, of a new login or of the family of the token that it replaces.

    The console reads `userId`, `email`, `role` and `exp`, we read the rest.
    """
    now = clock.now()
    auth_time = refreshed.auth_time if refreshed else now
    expires_at = min(now + timedelta(hours=settings.API_TOKEN_HOURS), end_of_login(auth_time))
    claims = {
        "userId": str(user.pk),
        "email": user.email,
        "role": user.role,
        "jti": str(uuid.uuid4()),
        "family": str(refreshed.family if refreshed else uuid.uuid4()),
        "auth_time": int(auth_time.timestamp()),
        "session": session_of(user),
        "iat": now,
        "exp": expires_at,
    }
    return jwt.encode(claims, signing_key(), ALGORITHM)


@dataclass(frozen=True)
class Claims:
    """What a token of ours says that has not expired, whether it was revoked or not."""

    id: uuid.UUID
    family: uuid.UUID
    user_id: int
    session: str
    auth_time: datetime
    expires_at: datetime

    @classmethod
    def of(cls, text: str) -> Claims:
        """Decode a token. Raises TokenError when it is not ours, is damaged or has expired."""
        result, now = verified(text, signing_key()), clock.now()
        if result.expires_at <= now or end_of_login(result.auth_time) <= now:
            raise TokenError
        return result


@lru_cache(maxsize=1024)
def verified(text: str, key: str) -> Claims:
    """Check a token's signature, not its times: those are of the database's clock, which PyJWT does
    not know. Raises TokenError when it is not ours or is damaged.
    """
    options: Options = {"require": REQUIRED, "verify_iat": False, "verify_exp": False}
    try:
        claims = jwt.decode(text, key, [ALGORITHM], options=options)
        result = Claims(
            uuid.UUID(claims["jti"]),
            uuid.UUID(claims["family"]),
            int(claims["userId"]),
            str(claims["session"]),
            datetime.fromtimestamp(claims["auth_time"], UTC),
            datetime.fromtimestamp(claims["exp"], UTC),
        )
    except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise TokenError from error
    if not result.session.isascii():
        raise TokenError  # compare_digest takes ASCII only
    return result


def read(text: str) -> Token:
    """Check a token. Raises TokenError when it is no longer valid, or its user is deleted,
    disabled or has a new password.
    """
    claims = Claims.of(text)
    user = RevokedToken.holder(claims.id, claims.family, claims.user_id)
    if user is None or not hmac.compare_digest(claims.session, session_of(user)):
        raise TokenError
    return Token(claims.id, user, claims.expires_at, claims.family, claims.auth_time)


def end_reused_family(text: str) -> None:
    """End the login of a token that was refreshed before and is refreshed again: one of the two
    callers stole it, and nobody can say which.

    Only a second refresh counts: other calls with the old token may have been under way, and
    browsers open an event stream again with the address they had.
    """
    try:
        claims = Claims.of(text)
    except TokenError:
        return
    if revoked := RevokedToken.objects.filter(pk=claims.id).select_related("user").first():
        RevokedToken.revoke(claims.family, revoked.user, end_of_login(claims.auth_time))


def session_of(user: User) -> str:
    """Return what changes with the password, so that a new one ends every login."""
    return user.get_session_auth_hash()[:32]
