"""Where and as whom Bedrock is called: what every process may ask without loading the client.

The client takes a third of a second to import, with boto3 and aiohttp; only workers call.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

AWS = "aws"
EMULATOR = "emulator"
BEARER_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"


@dataclass(frozen=True)
class Connection:
    """How to reach Bedrock. An empty `endpoint_url` means AWS's own hosts.

    `read_timeout_s` is the longest silence; less where a deadline leaves less. Proxies come from
    the usual variables, but are never used for an emulator or for this machine itself.
    `credentials_file` is read instead of the user's own, to try its keys before they are used.
    """

    backend: str = AWS
    endpoint_url: str = ""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    home_region: str = "us-east-1"
    credentials_file: str = ""


@dataclass(frozen=True)
class Identity:
    """Which credentials are in use, with no more than the first four characters of a key."""

    configured: bool
    method: str = ""
    key_preview: str = ""


def find_credentials() -> Identity:
    """Return what the AWS SDK's own chain finds, without calling AWS.

    Raises BedrockError when the chain itself fails.
    """
    import botocore.session  # noqa: PLC0415, slow to import

    from certification.bedrock import errors  # noqa: PLC0415, it knows the errors of every SDK

    session = botocore.session.get_session()
    with errors.translated("GetCredentials"):
        if os.environ.get(BEARER_VARIABLE):
            return Identity(True, "bearer token")
        credentials = session.get_credentials()
    if credentials is None:
        return Identity(False)
    return Identity(True, credentials.method, (credentials.access_key or "")[:4])
