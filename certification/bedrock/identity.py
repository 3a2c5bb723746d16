"""Whose credentials these are, as AWS itself says, and when a key was last used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from certification.bedrock import errors
from certification.bedrock.signing import Credentials

CONNECT_S, ANSWER_S = 3, 8
ACCOUNT = re.compile(r"(?<=:)\d{12}(?=:)")
ENVIRONMENT, SHARED_FILE = "env", "shared-credentials-file"  # botocore's names


@dataclass(frozen=True)
class Caller:
    """Who calls: AWS's name of the identity without its account, the first four characters of the
    key, and botocore's name of where it was read. `file` is where a shared file of credentials is.
    """

    arn: str
    key_preview: str
    method: str
    file: str


def caller_of(credentials: Credentials, region: str) -> Caller:
    """Ask STS who calls with these credentials. Raises BedrockError."""
    with errors.translated("GetCallerIdentity", region=region):
        key = credentials.load()
        answer = client(credentials, "sts", region).get_caller_identity()
        method = getattr(credentials.session().get_credentials(), "method", "")
    arn = ACCOUNT.sub("", str(answer.get("Arn", ""))[:300])
    return Caller(arn, (key.access_key or "")[:4], str(method), str(file_of(credentials)))


def file_of(credentials: Credentials) -> Path:
    """Return the shared file of credentials that these are read from, whether it exists or not."""
    name = credentials.session().get_config_variable("credentials_file")
    return Path(str(name)).expanduser()


def last_use_of_key(credentials: Credentials, region: str) -> datetime | None:
    """Return when the key was last used before; None where AWS does not say, or not to us."""
    try:
        key = credentials.load().access_key
        answer: Any = client(credentials, "iam", region).get_access_key_last_used(AccessKeyId=key)
        used = answer["AccessKeyLastUsed"].get("LastUsedDate")
    except (BotoCoreError, ClientError, KeyError, AttributeError):
        return None
    return used if isinstance(used, datetime) else None


def client(credentials: Credentials, service: str, region: str) -> Any:
    session = boto3.Session(botocore_session=credentials.session())
    config = Config(
        connect_timeout=CONNECT_S, read_timeout=ANSWER_S, retries={"total_max_attempts": 1}
    )
    return session.client(service, region_name=region, config=config)
