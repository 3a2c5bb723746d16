"""The kinds of credentials that calls are made with, because each is renewed in its own way."""

from __future__ import annotations

import re
from enum import StrEnum


class Credential(StrEnum):
    """How the caller proves who it is."""

    API_KEY = "api key"  # a Bedrock API key, sent as a bearer token
    SSO = "sso"  # IAM Identity Center
    LOGIN = "login"  # `aws login`: the console's session
    WEB_IDENTITY = "web identity"  # a token of a pod or a CI job, exchanged for a role
    INSTANCE = "instance"  # the role of a machine or a container, from its metadata service
    ROLE = "role"  # a role assumed by STS
    STATIC = "static"  # a user's access key


# The first that a text names decides. SSO comes first: its own tokens are bearer tokens as well.
_IN_TEXT = (
    (
        Credential.SSO,
        r"\bsso\b|\bsso(?:token|error|session)|sso-?oidc|unauthorizedsso|identity ?center"
        r"|session token not found|invalidgrant|refresh token",
    ),
    (Credential.LOGIN, r"\baws login\b|\blogin(?:refresh|token|error)|login session"),
    (
        Credential.API_KEY,
        r"\bbearer\b|\bapi[ _-]?key|aws_bearer_token|\babsk|noauthtoken|authorization token",
    ),
    (
        Credential.WEB_IDENTITY,
        r"web ?identity|\boidc\b|\birsa\b|service ?account token|invalididentitytoken"
        r"|token must not be expired|idpcommunication",
    ),
    (
        Credential.INSTANCE,
        r"\bimds\b|instance (?:profile|metadata|role)|instance-?profile|metadata service"
        r"|169·254|container-?(?: role| credentials| ?provider)|\bec2\b|task role|iam-role",
    ),
    (Credential.ROLE, r"assumed-role|assume-?role|\bsts\b|role session"),
    (
        Credential.STATIC,
        r"access key|invalidclienttokenid|invalidaccesskeyid|signaturedoesnotmatch"
        r"|signature we calculated|\bakia|secret (?:access )?key|incompletesignature",
    ),
)
_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _IN_TEXT)

# botocore's names of where credentials come from (`Credentials.method`).
_METHODS = {
    "sso": Credential.SSO,
    "login": Credential.LOGIN,
    "assume-role": Credential.ROLE,
    "assume-role-with-web-identity": Credential.WEB_IDENTITY,
    "iam-role": Credential.INSTANCE,
    "container-role": Credential.INSTANCE,
}


def credential_in(text: str) -> Credential | None:
    """Return the kind of credentials that a text in lower case speaks of, None if it does not."""
    return next((kind for kind, pattern in _PATTERNS if pattern.search(text)), None)


def credential_of(method: str, *, is_temporary: bool) -> Credential | None:
    """Return the kind of credentials that botocore found by `method`.

    Keys from the environment or a file are a user's own unless they came with a session's token:
    who issued that is not known.
    """
    if method in _METHODS:
        return _METHODS[method]
    return None if is_temporary else Credential.STATIC
